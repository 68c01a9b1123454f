"""The normal form of Python code: what it computes, without what it says.

Left out are comments, layout, docstrings, imports and annotations. So are texts for people: log calls, `print`, the
message of a `raise`, `description=` and `title=`. Of a configuration section only its properties and methods are kept:
the values of its fields reach a job as parameters, and are compared there.

The form is the same for every version of Python that the package runs on, which `ast.dump` is not.
"""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

LOGGERS = {"log", "logger", "logging", "warnings"}
TEXT_KEYWORDS = {"description", "title"}
SECTION_BASES = {"BaseModel", "Section"}
VALIDATORS = {"field_validator", "model_validator"}
NOT_COMPUTED = {"ctx", "kind", "type_comment", "annotation", "returns", "simple"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Form:
    """The normal form of some statements.

    Attributes
    ----------
    text : str
        Equal for two pieces of code that compute the same in the same way.
    names : tuple of str
        Dotted names that the text uses, such as ``store.open_foreign``, sorted.
    annotated : tuple of str
        Dotted names in the annotations that were left out, sorted.
    """

    text: str
    names: tuple[str, ...]
    annotated: tuple[str, ...]


def normal_form(statements: Iterable[ast.stmt]) -> Form:
    """Return the normal form of some statements of one module."""
    writer = _Writer()
    text = writer.body(statements, of_class=False)
    return Form(text, tuple(sorted(writer.names)), tuple(sorted(writer.annotated)))


def is_section(statement: ast.stmt) -> bool:
    """Return whether a statement is the class of a configuration section."""
    return isinstance(statement, ast.ClassDef) and any(_last(base) in SECTION_BASES for base in statement.bases)


def is_for_types(statement: ast.stmt) -> bool:
    """Return whether a statement is `if TYPE_CHECKING:`, which no run executes."""
    return isinstance(statement, ast.If) and _last(statement.test) == "TYPE_CHECKING"


def computes_nothing(statement: ast.stmt) -> bool:
    """Return whether a statement computes nothing: an import, a docstring, a line of a log."""
    if isinstance(statement, ast.Import | ast.ImportFrom) or is_for_types(statement):
        return True
    if not isinstance(statement, ast.Expr):
        return False
    value = statement.value
    if not isinstance(value, ast.Call):
        return isinstance(value, ast.Constant)
    name = _dotted(value.func) or ""
    return name == "print" or ("." in name and name.partition(".")[0] in LOGGERS)


class _Writer:
    """Write nodes as text, and note the names in them."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.annotated: set[str] = set()

    def body(self, statements: Iterable[ast.stmt], of_class: bool) -> str:
        """Write the statements that compute something."""
        return f"[{','.join(self.statement(one, of_class) for one in statements if not computes_nothing(one))}]"

    def statement(self, node: ast.stmt, of_class: bool) -> str:
        """Write one statement; in a class an annotation makes a field, elsewhere nothing."""
        if isinstance(node, ast.ClassDef) and is_section(node):
            return self.section(node)
        if isinstance(node, ast.AnnAssign):
            self.note(node.annotation)
            kind = "Field" if of_class else "Assign"
            return f"{kind}(targets=[{self.any(node.target)}]{self.field('value', node.value)})"
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            return f"Raise(exc={self.call(node.exc, raised=True)}{self.field('cause', node.cause)})"
        return self.node(node)

    def section(self, node: ast.ClassDef) -> str:
        """Write the properties and methods of a configuration section."""
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign):
                self.note(statement.annotation)
        methods = (one for one in node.body if isinstance(one, Function) and not _validates(one))
        return f"Section(name={node.name!r},body={self.body(methods, of_class=True)})"

    def any(self, value: object) -> str:
        """Write a node, a list of nodes, or a plain value."""
        if isinstance(value, ast.Constant):
            return f"Constant({value.value!r})"
        if isinstance(value, ast.Call):
            return self.call(value)
        if isinstance(value, ast.JoinedStr):
            return self.formatted(value)
        if isinstance(value, ast.stmt):
            return self.statement(value, of_class=False)
        if isinstance(value, ast.AST):
            return self.node(value)
        if isinstance(value, list):
            return f"[{','.join(map(self.any, value))}]"
        return repr(value)

    def node(self, node: ast.AST) -> str:
        """Write a node by its kind and its fields."""
        if isinstance(node, ast.Name | ast.Attribute) and (name := _dotted(node)) is not None:
            self.names.add(name)
            return name
        if isinstance(node, ast.arg | Function):
            self.note(node.annotation if isinstance(node, ast.arg) else node.returns)
        return f"{type(node).__name__}({''.join(self.fields(node))})"

    def fields(self, node: ast.AST) -> Iterator[str]:
        for name, value in ast.iter_fields(node):
            if name in NOT_COMPUTED:
                continue
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                yield f",{name}={self.body(value, of_class=isinstance(node, ast.ClassDef))}"
            else:
                yield self.field(name, value)

    def field(self, name: str, value: object) -> str:
        """Write a field; empty fields are left out, since versions of Python differ in them."""
        return "" if value is None or value == [] else f",{name}={self.any(value)}"

    def call(self, node: ast.Call, raised: bool = False) -> str:
        """Write a call without texts for people."""
        args = [value for value in node.args if not (raised and _is_text(value))]
        keywords = [
            keyword
            for keyword in node.keywords
            if not ((raised or keyword.arg in TEXT_KEYWORDS) and _is_text(keyword.value))
        ]
        return f"Call({self.any(node.func)}{self.field('args', args)}{self.field('keywords', keywords)})"

    def formatted(self, node: ast.JoinedStr) -> str:
        """Write a formatted string, its constant pieces joined."""
        parts: list[str] = []
        constant = ""
        for value in node.values:
            if isinstance(value, ast.Constant):
                constant += str(value.value)
            else:
                parts += [repr(constant), self.node(value)]
                constant = ""
        return f"JoinedStr({','.join([*parts, repr(constant)])})"

    def note(self, annotation: ast.expr | None) -> None:
        """Note the names in an annotation."""
        for node in ast.walk(annotation) if annotation is not None else ():
            if isinstance(node, ast.Name | ast.Attribute) and (name := _dotted(node)) is not None:
                self.annotated.add(name)


def _is_text(node: ast.expr) -> bool:
    """Return whether an expression is a text, however it is put together."""
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) or _is_text(node.right)
    if isinstance(node, ast.IfExp):
        return _is_text(node.body) and _is_text(node.orelse)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and _is_text(node.func.value)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _validates(function: Function) -> bool:
    called = (node.func if isinstance(node, ast.Call) else node for node in function.decorator_list)
    return any(_last(node) in VALIDATORS for node in called)


def _dotted(node: ast.expr) -> str | None:
    """Return `a.b.c` for a name and its attributes; None for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (name := _dotted(node.value)) is not None:
        return f"{name}.{node.attr}"
    return None


def _last(node: ast.expr) -> str:
    """Return the last part of a dotted name; an empty text for anything else."""
    return (_dotted(node) or "").rpartition(".")[2]
