"""Sentences of pages, docstrings and messages, and the number of their words."""

import ast
import re
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

MAX_WORDS = 25
"""Words of a sentence; CONTRIBUTING.md says so."""
FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
EXAMPLE = re.compile(r"^>>>.*?(?:\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)
"""A doctest with its result, up to an empty line."""
LITERAL = re.compile(r"(?<=\n\n) {4,}.*?(?=\n\S|\Z)", re.DOTALL)
"""Lines that are indented behind an empty line: drawings, formulas, commands."""
PASSAGE = re.compile(
    r"^\s*$|^\s*(?:[-*+]|\d+\.) |^#+ |^-{3,}$"  # an empty line, an item, a heading, the underline of a section
    r"|^\s*[\w, *]+ : .*$|^\s*\w+$"  # a parameter with its type, an exception
    r"|\s*\|\s*",  # a cell of a table
    re.MULTILINE,
)
END = re.compile(r"(?<=[.!?:;])[*_\"')]*\s+")
WORD = re.compile(r"[A-Za-z][\w'’.-]*")


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of prose without code, addresses and doctests. A colon and a semicolon end one as well."""
    for left_out in (FRONT_MATTER, FENCED, EXAMPLE, LITERAL):
        text = left_out.sub("\n\n", text)
    text = re.sub(r"``.*?``|`[^`]*`", "X", text, flags=re.DOTALL)
    text = re.sub(r"\]\([^)]*\)|<[^>\n]*>", " ", text)
    for passage in PASSAGE.split(text):
        yield from (one for one in END.split(" ".join(passage.split())) if one)


def words(sentence: str) -> int:
    """Return the number of words; a number and a sign are none."""
    return len(WORD.findall(sentence))


def definitions(path: Path) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef]:
    """Yield a module with its classes and functions, those inside of others as well."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    for node in waiting:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield node
        waiting += getattr(node, "body", []) if not isinstance(node, ast.Lambda | ast.IfExp) else []


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of every docstring of a module, of constants and fields as well."""
    for node in definitions(path):
        for statement in node.body:
            value = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.lineno, cleandoc(value.value)


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of every message of a module: what it raises and logs. A value stands as X."""
    for node in ast.walk(ast.parse(path.read_text())):
        call = node.exc if isinstance(node, ast.Raise) else node
        if isinstance(call, ast.Call) and (isinstance(node, ast.Raise) or _logs(call)):
            yield from ((argument.lineno, text) for argument in call.args if (text := _literal(argument)))


def _logs(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr in ("info", "warning", "error", "exit")


def _literal(node: ast.expr) -> str:
    """Return the text of a literal string, of a formatted one, or of a sum of both; empty if there is none."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
    if isinstance(node, ast.BinOp):
        return _literal(node.left) + _literal(node.right)
    return ""
