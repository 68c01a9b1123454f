"""Mutation operators: list every small change of a module that a test ought to notice.

1. `mutants_of` walks the syntax tree of a module and collects the replacements of each operator.
2. A mutant replaces the text of one node, so that all other lines keep their place. Docstrings, annotations, messages
   of errors and calls of the log are left alone: no test of behaviour reads them.
"""

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
OPPOSITE = {"min": "max", "minimum": "maximum", "any": "all", "argmin": "argmax", "floor": "ceil"}
OPPOSITE |= {other: one for one, other in OPPOSITE.items()}
NARROWER = {"int64": "int32", "uint64": "uint32", "float64": "float32", "int32": "int16", "uint32": "uint16"}
TYPES = {*NARROWER, *NARROWER.values(), "bool", "int", "str", "float", "uint8", "int8"}


@dataclass(frozen=True)
class Mutant:
    """One change of one module.

    Attributes
    ----------
    operator : kind of the change
    lines : first and last line of the changed statement, or of its head if it has a body
    start, stop : characters of the source that are replaced
    new : the text that replaces them
    place : function or class that contains the change, ``<module>`` outside of all
    old : the text that is replaced, on one line
    """

    operator: str
    lines: tuple[int, int]
    start: int
    stop: int
    new: str
    place: str
    old: str

    def apply(self, source: str) -> str:
        """Return the source of the changed module."""
        return source[: self.start] + self.new + source[self.stop :]

    @property
    def name(self) -> str:
        """Name that does not depend on line numbers: function, old and new text."""
        return f"{self.place}: {self.old} -> {' '.join(self.new.split())}"


def mutants_of(source: str) -> list[Mutant]:
    """Return all mutants of a module in the order of their places.

    >>> [mutant.name for mutant in mutants_of("def larger(a, b):\\n    return a if a > b else b\\n")]
    ['larger: a > b -> (a >= b)']
    """
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line.encode()))
    text = source.encode()
    found = []
    for node, place, lines in _walk(ast.parse(source), "<module>", (0, 0)):
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        old = text[begin:end].decode()
        at = len(text[:begin].decode()), len(text[:end].decode())
        for operator, new in _changes(node) if not old.startswith("elif ") else ():
            found.append(Mutant(operator, lines, *at, new, place, " ".join(old.split())))
    return sorted(found, key=lambda mutant: (mutant.start, mutant.stop, mutant.operator, mutant.new))


def _walk(node: ast.AST, place: str, lines: tuple[int, int]) -> Iterator[tuple[Any, str, tuple[int, int]]]:
    """Yield the nodes whose change a test can notice, each with its function and the lines of its statement."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases", "type_comment"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.JoinedStr | ast.Raise | ast.Assert):
                continue
            if _is_said(child):
                continue
            inner = place
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inner = child.name if place == "<module>" else f"{place}.{child.name}"
            own = _head(child) if isinstance(child, ast.stmt) else lines
            if hasattr(child, "lineno"):
                yield child, inner, own
            yield from _walk(child, inner, own)


def _head(statement: ast.stmt) -> tuple[int, int]:
    """Return first and last line of a statement, without the statements in its body."""
    body = getattr(statement, "body", None)
    last = body[0].lineno - 1 if body else statement.end_lineno or statement.lineno
    return statement.lineno, max(statement.lineno, last)


def _is_said(node: ast.AST) -> bool:
    """Return whether a statement is a docstring, or a call of the log."""
    if not isinstance(node, ast.Expr):
        return False
    call = node.value
    return isinstance(call, ast.Constant) or (isinstance(call, ast.Call) and ast.unparse(call.func).startswith("log."))


def _changes(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield operator and new text of each change of a node."""
    if isinstance(node, ast.Compare):
        for index, op in enumerate(node.ops):
            yield "comparison", _with(node, partial(_set_operator, index=index, op=COMPARISONS[type(op)]()))
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        yield "off by one", f"({node.value + 1})"
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC and not isinstance(node.left, ast.JoinedStr):
        yield "arithmetic", _with(node, lambda new: setattr(new, "op", ARITHMETIC[type(new.op)]()))
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv):
        yield "arithmetic", f"(-(-({ast.unparse(node.left)}) // ({ast.unparse(node.right)})))"
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "and/or", _with(node, lambda new: setattr(new, "op", other))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert):
        yield "negation", f"({ast.unparse(node.operand)})"
    elif _can_be_removed(node):
        yield "removed statement", "pass"
    elif isinstance(node, ast.Call):
        yield from _changed_call(node)
    elif isinstance(node, ast.Attribute) and node.attr in NARROWER:
        yield "narrower type", f"{ast.unparse(node.value)}.{NARROWER[node.attr]}"


def _can_be_removed(node: ast.AST) -> bool:
    """Return whether a statement acts without a name: a call, an addition, a condition with what depends on it."""
    calls = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    return calls or isinstance(node, ast.AugAssign) or (isinstance(node, ast.If) and not node.orelse)


def _changed_call(node: ast.Call) -> Iterator[tuple[str, str]]:
    """Yield the changes of a call: opposite function, no sorting, swapped arguments, another axis."""
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    if name in OPPOSITE:
        opposite = OPPOSITE[name]

        def rename(new: Any) -> None:
            setattr(new.func, "id" if isinstance(new.func, ast.Name) else "attr", opposite)

        yield "min/max", _with(node, rename)
    if name in ("sorted", "reversed") and isinstance(node.func, ast.Name):
        yield "dropped order", f"list({ast.unparse(node.args[0])})"
    commutes = name in OPPOSITE or name in ("isinstance", "suppress", "getattr", "hasattr", "union1d")
    if len(node.args) >= 2 and not commutes and all(map(_can_swap, node.args[:2])):
        yield "swapped arguments", _with(node, lambda new: new.args.__setitem__(slice(2), [new.args[1], new.args[0]]))
    for index, keyword in enumerate(node.keywords):
        if keyword.arg == "axis" and isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, int):
            other = ast.Constant(0 if keyword.value.value else -1)
            yield "axis", _with(node, partial(_set_keyword, index=index, value=other))


def _set_operator(new: Any, index: int, op: ast.cmpop) -> None:
    """Put another operator into a comparison."""
    new.ops[index] = op


def _set_keyword(new: Any, index: int, value: ast.expr) -> None:
    """Give a keyword of a call another value."""
    new.keywords[index].value = value


def _can_swap(argument: ast.expr) -> bool:
    """Return whether an argument may change places: a type in place of a number would fail at once."""
    return not isinstance(argument, ast.Starred | ast.Lambda | ast.JoinedStr) and not (
        isinstance(argument, ast.Name | ast.Attribute) and ast.unparse(argument).rsplit(".")[-1].rstrip("_") in TYPES
    )


def _with(node: Any, change: Callable[[Any], object]) -> str:
    """Return the text of a changed copy of an expression."""
    new = copy.deepcopy(node)
    change(new)
    return f"({ast.unparse(new)})"
