"""The rules of the house: who may import whom, one name for one thing, and pages, formats and versions in step."""

import ast
import difflib
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml

from unet.config.pages import pages

ROOT = Path(__file__).parents[1]
CORE = sorted((ROOT / "unet").rglob("*.py"))
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
RULES = sorted((ROOT / "workflow" / "rules").glob("*.smk"))
PURE = [
    *(
        "agglomeration",
        "annotation",
        "block_file",
        "climbing",
        "code_digest",
        "components",
        "config",
        "config_applying",
        "config_errors",
        "config_file",
        "config_learning",
        "constant_regions",
        "dask_security",
        "distance",
        "evaluation",
        "files",
        "foreseen",
    ),
    *(
        "fragments",
        "geometry",
        "grey_values",
        "histogram",
        "isbi",
        "limits",
        "locks",
        "merge_layers",
        "merge_table",
        "merging",
        "multicut",
        "ngff",
        "normal_form",
        "object_scores",
    ),
    *(
        "overlap",
        "places",
        "precision",
        "preconditions",
        "privacy",
        "pyramid",
        "read_errors",
        "receipts",
        "region_graph",
        "run_jobs",
        "run_length",
        "runs",
        "sample",
    ),
    *("segmentation", "skeletons", "tiling", "verification", "warping", "watershed", "weight_map"),
]
MAKES_NO_RESULT = {"plan", "verify"}
"""Rules without a declared output: they run whenever they are asked for, so no hash of code can make them rerun."""
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """A tool of the virtual environment, in the root."""
    program = str(Path(sys.executable).parent / command[0])
    return subprocess.run([program, *command[1:]], cwd=ROOT, capture_output=True, text=True)


# Imports


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


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
def test_the_core_knows_neither_the_workflow_nor_its_scripts(path: Path) -> None:
    assert not packages(path) & {"snakemake", "scripts", "tests", *(script.stem for script in SCRIPTS)}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_imports_no_other_script_nor_zarr_nor_snakemake(path: Path) -> None:
    assert not packages(path) & {"zarr", "snakemake", "scripts", *(script.stem for script in SCRIPTS)}


def test_only_the_store_knows_zarr() -> None:
    assert [path.stem for path in CORE if packages(path) & {"zarr", "numcodecs"}] == ["store"]


LOADED = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(*({"torch", "zarr", "dask", "snakemake"} & set(sys.modules)))
"""


def test_pure_modules_need_neither_torch_nor_zarr() -> None:
    assert set(PURE) <= {path.stem for path in CORE}
    probes = {
        name: subprocess.Popen([sys.executable, "-c", LOADED, f"unet.{name}"], stdout=subprocess.PIPE, text=True)
        for name in PURE
    }
    found = {name: probe.communicate()[0].strip() for name, probe in probes.items()}
    assert found == dict.fromkeys(PURE, "")


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


def test_conda_environment_and_package_ask_for_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = {item for item in listed if isinstance(item, str)} - {"pip"}
    wanted = {re.sub(r"^[\w-]+", lambda m: CONDA_NAMES.get(m[0], m[0]), item) for item in project["dependencies"]}
    assert conda == wanted | {f"python{project['requires-python']}"}


@pytest.mark.parametrize(("path", "content"), pages().items(), ids=[path.name for path in pages()])
def test_generated_pages_are_in_step(path: Path, content: str) -> None:
    found = path.read_text().splitlines()
    diff = "\n".join(difflib.unified_diff(found, content.splitlines(), path.name, "unet/config", lineterm=""))
    assert not diff, f"run `make config`:\n{diff}"


@pytest.mark.parametrize(
    "command",
    ["ruff check", "ruff format --check", "mypy", "snakefmt --check workflow", "snakemake --lint"],
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
