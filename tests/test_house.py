"""The rules of the house: who may import whom, one name for one thing, and pages, formats and versions in step."""

import ast
import difflib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml

from tests.sentences import definitions
from unet.config.pages import pages
from unet.extras import EXTRAS

ROOT = Path(__file__).parents[1]
CORE = sorted((ROOT / "unet").rglob("*.py"))
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
RULES = sorted((ROOT / "workflow" / "rules").glob("*.smk"))
PACKAGES = (
    "geometry",
    "storage",
    "config",
    "jobs",
    "volumes",
    "network",
    "segmentation",
    "evaluation",
    "measurement",
    "training",
    "run",
)
"""Of the core, in the order in which they may import each other; import-linter keeps the order (pyproject.toml)."""
WITHOUT = {
    "torch": ("geometry", "storage", "config", "jobs", "volumes", "segmentation", "evaluation", "measurement"),
    "zarr": ("geometry", "config", "jobs", "segmentation"),
    "snakemake": PACKAGES,
}
"""Packages that load a library neither themselves nor through what they import; inside a function they may."""
MAKES_NO_RESULT = {"plan", "verify", "view"}
"""Rules without a declared output: they run whenever they are asked for, so no hash of code can make them rerun."""
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
IMPORTED_AS = {"bioimageio.spec": "bioimageio", "bioimageio.core": "bioimageio", "pynrrd": "nrrd"}
"""Top-level names of optional packages, where they are not the package's own."""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """A tool of the virtual environment, in the root."""
    program = str(Path(sys.executable).parent / command[0])
    return subprocess.run([program, *command[1:]], cwd=ROOT, capture_output=True, text=True)


# Imports


def dotted(path: Path) -> str:
    """The full name of a module of the core."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {dotted(path): path for path in CORE}


@cache
def imported(path: Path) -> set[str]:
    """Full names of all modules that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def packages(path: Path) -> set[str]:
    """The top-level packages of `imported`."""
    return {name.partition(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", CORE, ids=dotted)
def test_the_core_knows_neither_the_workflow_nor_its_scripts(path: Path) -> None:
    assert not packages(path) & {"snakemake", "scripts", "tests", *(script.stem for script in SCRIPTS)}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_imports_no_other_script_nor_zarr_nor_snakemake(path: Path) -> None:
    assert not packages(path) & {"zarr", "snakemake", "scripts", *(script.stem for script in SCRIPTS)}


def test_only_the_stores_know_zarr() -> None:
    """Stores of this workflow, stores of other programs, and the check of chunks that other programs have written."""
    knowing = ["blosc_frames", "foreign_images", "foreign_zarr", "zarr_store"]
    assert [path.stem for path in CORE if packages(path) & {"zarr", "numcodecs"}] == knowing


def executed_imports(body: list[ast.stmt]) -> Iterator[str]:
    """Full names of what statements import when they are executed: nothing inside functions, nothing for types."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else str(node.module) for name in names)
        elif isinstance(node, ast.If | ast.Try | ast.With) and "TYPE_CHECKING" not in ast.unparse(node):
            yield from executed_imports(node.body)


@cache
def imports_when_loaded(name: str) -> set[str]:
    """`executed_imports` of a module of the core."""
    return set(executed_imports(ast.parse(MODULES[name].read_text()).body))


def loaded_with(name: str) -> set[str]:
    """All modules that a module of the core loads, itself included; of other packages the top-level names."""
    found, waiting = {name}, [name]
    for module in waiting:
        for other in imports_when_loaded(module) - found:
            found.add(other)
            waiting += [other] if other in MODULES else []
    return {module if module in MODULES else module.partition(".")[0] for module in found}


@pytest.mark.parametrize("library", WITHOUT)
def test_packages_do_without_a_library(library: str) -> None:
    looked_at = [name for name in MODULES if name.count(".") > 1 and name.split(".")[1] in WITHOUT[library]]
    assert len(looked_at) > 30
    assert [name for name in looked_at if library in loaded_with(name)] == []


def test_what_a_module_loads_is_seen() -> None:
    assert {"torch", "zarr"} <= loaded_with("unet.network.worker")


def test_no_module_loads_an_optional_package() -> None:
    """A plain install has none of the extras; functions that need one import it, and say so where it is missing."""
    optional = {IMPORTED_AS.get(name, name).replace("-", "_") for name in EXTRAS}
    loaded = {name: loaded_with(name) for name in MODULES}
    scripts = {path.stem: set(executed_imports(ast.parse(path.read_text()).body)) for path in SCRIPTS}
    assert len(loaded) > 100
    assert len(scripts) > 20
    found = {name: {one.partition(".")[0] for one in others} & optional for name, others in (loaded | scripts).items()}
    assert {name: others for name, others in found.items() if others} == {}


def test_no_two_modules_import_each_other() -> None:
    """No circle, through however many modules, imports inside functions and for types included."""
    below = {name: {other for other in imported(path) if other in MODULES} for name, path in MODULES.items()}
    assert len(below) > 100
    assert sum(map(len, below.values())) > 300
    order = TopologicalSorter(below)
    order.prepare()  # raises CycleError, which names the circle


def test_every_module_lies_in_a_package_of_the_order() -> None:
    assert {name.split(".")[1] for name in MODULES if "." in name} == {"extras", *PACKAGES}
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    assert tuple(reversed(layers)) == tuple(f"unet.{name}" for name in ("extras", *PACKAGES))


def test_every_package_asks_one_question() -> None:
    docstrings = [ast.get_docstring(ast.parse(path.read_text())) for path in CORE if path.name == "__init__.py"]
    assert len(docstrings) > len(PACKAGES)
    assert [text for text in docstrings[1:] if not (text or "").endswith("?")] == []


# One name: rule = script = log = benchmark


def rules() -> dict[str, str]:
    """The text of every rule by its name."""
    found: dict[str, str] = {}
    for path in RULES:
        parts = re.split(r"^(?:rule|checkpoint) (\w+):$", path.read_text(), flags=re.MULTILINE)
        found.update(zip(parts[1::2], parts[2::2], strict=True))
    return found


def directive(text: str, name: str) -> str:
    """The content of one directive of a rule; empty where it has none."""
    match = re.search(rf"^    {name}:(.*\n(?:        .*\n|\n)*)", text, flags=re.MULTILINE)
    return match[1] if match else ""


def test_every_rule_has_a_script_of_its_name_and_every_script_a_rule() -> None:
    assert set(rules()) == {path.stem for path in SCRIPTS}


@pytest.mark.parametrize(("name", "text"), rules().items(), ids=rules())
def test_rule_script_log_and_benchmark_share_one_name(name: str, text: str) -> None:
    assert f'"../../scripts/{name}.py"' in directive(text, "script")
    assert f"{{RESULTS}}/logs/{name}/" in directive(text, "log")
    assert (f"{{RESULTS}}/benchmarks/{name}/" in directive(text, "benchmark")) != (name in MAKES_NO_RESULT)
    assert re.search(r"^    threads: (\d+|(PREDICT|TRAIN)_THREADS)$", text, flags=re.MULTILINE)
    for resource in ("mem_mb=", "runtime="):
        assert resource in directive(text, "resources")
    assert directive(text, "message").strip()
    assert (f'code=code("{name}")' in directive(text, "params")) != (name in MAKES_NO_RESULT)
    assert bool(directive(text, "output")) != (name in MAKES_NO_RESULT)


def test_a_receipt_bears_the_name_of_its_rule() -> None:
    for name, text in rules().items():
        assert set(re.findall(r'receipt\("(\w+)"', directive(text, "output"))) <= {name}


# In step


def test_no_input_is_ancient() -> None:
    """Snakemake leaves out a job whose only changed input is ancient, even where it has other reasons to run."""
    rules = sorted((ROOT / "workflow" / "rules").glob("*.smk"))
    assert len(rules) > 5
    assert [path.name for path in rules if "ancient(" in path.read_text()] == []


DETERMINERS = ("A", "All", "An", "As", "Each", "Every", "No", "Nothing", "One", "Some", "The", "Two")
QUESTIONS = ("How", "Of", "That", "Those", "What", "Where", "Whether", "Which")
"""First words of docstrings that leave open what is named or done."""


def test_docstrings_begin_with_what_they_name_or_do() -> None:
    """Functions begin with a verb, properties may name their value; the docstring of a package is a question."""
    folders = ("unet", "scripts", "benchmarks", "docs", "snakemake_logger_plugin_unet_em", "tests")
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")) if path.stem != "__init__"]
    found = [
        (path, node, text)
        for path in paths
        for node in definitions(path)
        if (text := ast.get_docstring(node, clean=False)) is not None
    ]
    assert len(found) > 2500
    functions = [one for one in found if isinstance(one[1], ast.FunctionDef) and "tests" not in one[0].parts]
    assert len(functions) > 2000
    wrong = [(path, text) for path, _, text in found if text.split()[0] in QUESTIONS]
    wrong += [
        (path, text)
        for path, node, text in functions
        if text.split()[0].strip(",:") in DETERMINERS
        and not any("property" in ast.unparse(decorator) for decorator in node.decorator_list)
    ]
    assert [f"{path.name}: {text.strip().splitlines()[0]}" for path, text in wrong] == []


def test_conda_environment_and_package_ask_for_the_same() -> None:
    """conda brings the packages of a plain install; pip brings this one, with all extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    *conda, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    wanted = {re.sub(r"^[\w-]+", lambda m: CONDA_NAMES.get(m[0], m[0]), item) for item in project["dependencies"]}
    assert set(conda) == wanted | {f"python{project['requires-python']}", "pip"}
    assert pip == {"pip": ["--editable .[all]"]}


def test_every_optional_package_is_named_with_its_extra() -> None:
    """Compare `unet.extras` with pyproject.toml; `all` and the tests have everything, and no plain install needs an
    extra.

    What builds the documentation is no package that a run could miss.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = dict(project["optional-dependencies"])
    test, everything = extras.pop("test"), extras.pop("all")
    assert "unet-em[all]" in test
    assert everything == [f"unet-em[{','.join(extras)}]"]
    plain = {distribution(item) for item in project["dependencies"]}
    brought = {distribution(item): name for name, items in extras.items() if name != "docs" for item in items}
    assert {package: name for package, name in brought.items() if package not in plain} == EXTRAS


def test_every_direct_dependency_has_a_line_that_says_why() -> None:
    """Compare `docs/decisions/dependencies.md` with pyproject.toml; each extra has a line that says what it brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (ROOT / "docs" / "decisions" / "dependencies.md").read_text()
    table = page.partition("## Direct dependencies")[2].partition("\n## ")[0]
    rows = [line.split(" | ")[0].removeprefix("| ").partition(" (") for line in table.splitlines() if line[:2] == "| "]
    told = {
        (name, extra) for names, _, of in rows for name in names.split(", ") for extra in re.findall(r"`(.+?)`", of)
    }
    plain = {name for names, between, _ in rows if not between for name in names.split(", ")} - {"package"}
    wanted = {distribution(item) for item in project["dependencies"]}
    extras = {extra: items for extra, items in project["optional-dependencies"].items() if extra not in ("all", "test")}
    assert plain == wanted
    assert told == {(name, one) for one in extras for name in map(distribution, extras[one]) if name not in wanted}
    brought = page.partition("## Direct dependencies")[0]
    assert [extra for extra in extras if f"`{extra}`" not in brought] == []


def distribution(requirement: str) -> str:
    """The name of a package in a requirement."""
    return re.split(r"[<>=\[ ]", requirement)[0]


@pytest.mark.parametrize(("path", "content"), pages().items(), ids=[path.name for path in pages()])
def test_generated_pages_are_in_step(path: Path, content: str) -> None:
    found = path.read_text().splitlines()
    diff = "\n".join(difflib.unified_diff(found, content.splitlines(), path.name, "unet/config", lineterm=""))
    assert not diff, f"run `make config`:\n{diff}"


@pytest.mark.parametrize(
    "command",
    ["ruff check", "ruff format --check", "mypy", "lint-imports", "snakefmt --check workflow", "snakemake --lint"],
)
def test_tools_have_nothing_to_say(command: str) -> None:
    result = run(*command.split())
    assert result.returncode == 0, result.stdout + result.stderr


# What has no place in the repository


def tracked() -> list[Path]:
    """Text files under version control, new ones included."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.splitlines()]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()]


def test_no_path_of_this_machine() -> None:
    here = {str(ROOT), str(Path.home()), str(ROOT.parent)} - {"/", "/root", "/home"}
    words = re.compile("|".join(rf"(?<![\w./]){re.escape(path)}\b" for path in sorted(here)))
    assert [str(path) for path in tracked() if words.search(path.read_text(errors="ignore"))] == []


def test_nothing_is_left_to_be_done() -> None:
    marks = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "X" * 3)))
    assert [str(path) for path in tracked() if marks.search(path.read_text(errors="ignore"))] == []
