"""The commands of the README and of the how-to pages: each is understood in a fresh shell, on data as they name it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
import tifffile
import yaml

from unet.config.root import load_config
from unet.training.synthetic import synthesise

ROOT = Path(__file__).parents[2]
HOW_TO = ROOT / "docs" / "how-to"
COMMAND = re.compile(r"^(git|cd|make|snakemake|python|\.) [^#\n]*", re.MULTILINE)


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of every block of code."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """Return the commands of a page, in order, without their comments."""
    return [match[0].strip() for name, text in blocks(page) if not name for match in COMMAND.finditer(text)]


def configuration(page: Path) -> str:
    """Return the first YAML block of a page."""
    return next(text for language, text in blocks(page) if language == "yaml")


README = ROOT / "README.md"
CONFIGURATION = configuration(HOW_TO / "own-data.md")
INSPECT, *OWN_DATA, CLEAN = commands(HOW_TO / "own-data.md")
OWN_DATA += [*commands(HOW_TO / "export.md"), *commands(HOW_TO / "reproduce.md")]
ON_SLURM = [
    command.replace("my-profile", "workflow/profiles/slurm")
    for command in commands(HOW_TO / "slurm.md")
    if command.startswith("snakemake --workflow-profile") and "unlock" not in command
][:1]


def looked_at(commands: list[str]) -> list[str]:
    """The commands of `make` and `snakemake` with `-n`; targets of Snakemake that share all options in one command."""
    targets: dict[str, list[str]] = {}
    for command in commands:
        if command.startswith("snakemake"):
            target, options = re.fullmatch(r"snakemake ([a-z_]* ?)(-.*)", command).groups()
            targets.setdefault(options.removeprefix("-n "), []).append(target.strip())
    together = [f"snakemake -n {' '.join(own)} {options}" for options, own in targets.items()]
    return [command.replace("make ", "make -n ") for command in commands if command.startswith("make")] + together


def write_data(folder: Path) -> None:
    """Write the files that `mine.yaml` names."""
    raw, labels = synthesise(sections=4, size=128, seed=3)
    (folder / "sections").mkdir()
    for z, section in enumerate(raw):
        tifffile.imwrite(folder / "sections" / f"{z:03}.tif", section, photometric="minisblack")
    tifffile.imwrite(folder / "labels.tif", labels, photometric="minisblack")
    with h5py.File(folder / "volume.h5", "w") as file:
        file["raw"] = raw
    (folder / "mine.yaml").write_text(CONFIGURATION)


def fresh_shell(folder: Path, commands: str, python: Path) -> subprocess.CompletedProcess[str]:
    """Run commands as somebody would who has just logged in."""
    path = ":".join(filter(None, [str(python) if python else "", "/usr/local/bin", "/usr/bin", "/bin"]))
    environment = {"PATH": path, "HOME": str(folder), "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(folder)  # in place of the installation, which is that of these tests
    command = ["bash", "-euc", commands]
    return subprocess.run(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's files with data of one's own beside them."""
    folder = tmp_path_factory.mktemp("readme") / "unet-em"
    left_out = shutil.ignore_patterns("__pycache__", ".*", "results*", "tests", "docs", "local")
    shutil.copytree(ROOT, folder, ignore=left_out)
    write_data(folder)
    with (folder / "mine.yaml").open("a") as file:
        file.write("plan: {gpu_flops: 1.0e+13}  # nothing is measured\n")
    return folder


def test_the_readme_begins_with_a_clone_and_the_demo() -> None:
    first = commands(README)
    assert first[0].startswith("git clone https://")
    assert first[0].endswith("&& cd unet-em")
    assert first[1:3] == ["make demo", ". .venv/bin/activate"]


def test_the_readme_sells_in_one_screen() -> None:
    text = README.read_text()
    assert len(text.splitlines()) < 80
    picture = ROOT / re.findall(r"!\[.*?\]\((.*?)\)", text)[0]
    assert picture.stat().st_size < 150_000
    assert len(configuration(README).splitlines()) == 5


def test_the_readme_names_the_same_data() -> None:
    short = load_config(yaml.safe_load(configuration(README)))
    mine = load_config(yaml.safe_load(CONFIGURATION))
    assert {name: volume.raw for name, volume in short.volumes.items()} == {
        name: volume.raw for name, volume in mine.volumes.items()
    }


def test_commands_of_the_pages_are_found() -> None:
    named = {command.split()[1] for command in [INSPECT, *OWN_DATA, CLEAN]}
    assert INSPECT == "python -m unet.run.inspect sections/ labels.tif volume.h5:/raw > mine.yaml"
    assert named >= {"plan", "verify", "augmentation_preview", "export", "reproduce", "clean-results"}
    assert len(ON_SLURM) == 1


@pytest.mark.parametrize("command", looked_at([*commands(README), *OWN_DATA, CLEAN, *ON_SLURM]))
def test_a_command_is_understood(project: Path, command: str) -> None:
    """Nothing is computed: `make` and `snakemake` only list what they would do."""
    ran = fresh_shell(project, command, Path(sys.prefix) / "bin")
    assert ran.returncode == 0, ran.stdout
    assert "Nothing to be done" not in ran.stdout


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_all_commands_run_one_after_the_other(tmp_path: Path) -> None:
    """From the clone on; only the installation is that of these tests, and the training short."""
    environment = tmp_path / "environment"
    environment.mkdir()
    for entry in os.listdir(sys.prefix):
        (environment / entry).symlink_to(Path(sys.prefix) / entry)
    write_data(tmp_path)
    files = "sections labels.tif volume.h5 mine.yaml"
    clone, *first = commands(README)
    clone = re.sub(r"https://\S+", f"{ROOT} unet-em", clone)  # the folder of a checkout may have any name
    installed = f"cp -a {environment} .venv; rm -f .venv/.installed; touch .venv/.installed; export PYTHONPATH=$PWD"
    run = [clone, installed, *first[:2]]
    run += [f"for file in {files}; do mv ../$file .; done", "sed -i 's/steps: 1200/steps: 20/' mine.yaml"]
    ran = fresh_shell(tmp_path, "\n".join([*run, *OWN_DATA, CLEAN]), Path())
    assert ran.returncode == 0, ran.stdout[-5000:]
    assert "bit-identical" in ran.stdout
    assert (tmp_path / "unet-em/results/report.html").exists(), "of the demo"
    assert not (tmp_path / "unet-em/results-mine").exists(), "removed at the end"
