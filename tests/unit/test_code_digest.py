"""The hash of a rule's code: every statement counts, no comment does, and no imported module is forgotten."""

import subprocess
import sys
from pathlib import Path

import pytest

from unet.provenance import PACKAGE, code_digest, modules_of

SCRIPTS = sorted((PACKAGE.parent / "scripts").glob("*.py"))
SOURCE = '''
"""About."""
import unet.geometry

LIMIT = 3
"""Of what."""

def f(x):
    """Doc."""
    return x + LIMIT
'''


def digest(folder: Path, source: str) -> str:
    """Of a script with this content; each in a folder of its own, because files are read once a process."""
    folder.mkdir()
    (folder / "script.py").write_text(source)
    return code_digest(folder / "script.py")


@pytest.mark.parametrize(
    ("before", "after"),
    [("LIMIT = 3", "LIMIT = 4"), ("x + LIMIT", "x - LIMIT"), ("import unet.geometry", "import unet.pyramid")],
)
def test_a_statement_changes_the_digest(tmp_path: Path, before: str, after: str) -> None:
    assert digest(tmp_path / "a", SOURCE) != digest(tmp_path / "b", SOURCE.replace(before, after))


@pytest.mark.parametrize(
    ("before", "after"),
    [("About.", "Another."), ("Doc.", "Longer doc."), ("Of what.", "Of that."), ("LIMIT = 3", "LIMIT  =  3  # px")],
)
def test_comments_layout_and_docstrings_do_not(tmp_path: Path, before: str, after: str) -> None:
    assert digest(tmp_path / "a", SOURCE) == digest(tmp_path / "b", SOURCE.replace(before, after))


def test_a_function_that_is_only_its_docstring_is_hashed(tmp_path: Path) -> None:
    assert digest(tmp_path / "a", 'def f():\n    """Doc."""\n') == digest(tmp_path / "b", "def f():\n    pass\n")


def test_modules_that_modules_import_count_too(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("from unet.volume import Volume\n")
    names = {path.stem for path in modules_of(tmp_path / "s.py")}
    assert {"s", "volume", "store", "receipts", "geometry", "pyramid"} <= names
    assert not {"model", "training", "config"} & names


IMPORT_ALL = """
import importlib.util, sys
known = set(sys.modules)
for path in sys.argv[1:]:
    for name in [name for name in sys.modules if name.split(".")[0] == "unet"]:
        del sys.modules[name]
    spec = importlib.util.spec_from_file_location("script", path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    print(path, *(name for name in sys.modules if name.startswith("unet.")))
"""


def test_modules_of_covers_what_every_script_really_imports() -> None:
    # `unet` itself holds the version alone: a release does not compute everything again.
    result = subprocess.run([sys.executable, "-c", IMPORT_ALL, *map(str, SCRIPTS)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == len(SCRIPTS) > 10
    for line in lines:
        path, *imported = line.split()
        assert {name.removeprefix("unet.") for name in imported} <= {one.stem for one in modules_of(Path(path))}, path
