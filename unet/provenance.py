"""Which code a rule runs: a hash over a script and every `unet` module that it imports, directly or not."""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent


def code_digest(script: Path) -> str:
    """Hash of a script and its modules; it changes when, and only when, one of their statements does.

    Snakemake sees a script's edits but not those of the package it imports; as a parameter of the rule this hash makes
    them visible. Comments, layout and docstrings do not count.
    """
    summary = hashlib.blake2b(digest_size=8)
    for path in modules_of(script):
        summary.update(path.name.encode() + _meaning(path).encode())
    return summary.hexdigest()


def modules_of(script: Path) -> list[Path]:
    """The script and the files of all `unet` modules that it imports, directly or not, sorted."""
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting.extend(_imported(path))
    return sorted(found)


@cache
def _imported(path: Path) -> tuple[Path, ...]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    modules = (PACKAGE / f"{name.removeprefix('unet.')}.py" for name in names if name.startswith("unet."))
    return tuple(sorted(module for module in modules if module.exists()))


@cache
def _meaning(path: Path) -> str:
    """The module's syntax tree without docstrings, those of attributes included."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_docstring(statement)] or [ast.Pass()]
    return ast.dump(tree)


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
