"""The tutorial's script: its pictures on a small finished run, its commands on the sample, and all of it (slow)."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tifffile

from tests.workflow.conftest import Project

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tutorial() -> ModuleType:
    """The script `docs/make_tutorial.py`."""
    spec = importlib.util.spec_from_file_location("make_tutorial", ROOT / "docs" / "make_tutorial.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pictures_are_drawn_from_a_run(tutorial: ModuleType, finished: Project, tmp_path: Path) -> None:
    raw, labels = (tifffile.imread(finished.folder / "input" / f"{name}.tif", key=2) for name in ("raw", "labels"))
    probability, objects = finished.array("probability")[-1, 2], finished.array("segmentation")[2]
    drawn = tutorial.draw(raw, labels, probability, objects, tmp_path, tmp_path / "sample.webp")
    assert [path.name for path in drawn] == ["two-files.webp", "held-out-section.webp", "sample.webp"]
    assert all(0 < path.stat().st_size < 150_000 for path in drawn)


def test_an_id_has_one_colour_and_none_is_black(tutorial: ModuleType) -> None:
    ids = np.array([[0, 7], [7, 1 << 40]])
    colours = tutorial.coloured(ids)
    assert colours[0, 0].tolist() == [0, 0, 0]
    assert colours[0, 1].tolist() == colours[1, 0].tolist() != colours[1, 1].tolist()


def test_commands_are_understood(tutorial: ModuleType, tmp_path: Path) -> None:
    """The two files are made; of every other command Snakemake lists what it would do."""
    page = tutorial.PAGE.read_text()
    folder = tmp_path / "unet-em"
    tutorial.copy_repository(folder)
    configuration = tutorial.configuration(page).replace("steps: 400", "steps: 1")
    (folder / "first.yaml").write_text(configuration + "sample: {sections: 24, size: 96}\n")
    make, *others = tutorial.commands(page)
    assert make == "snakemake --cores 2 sample"
    looked_at = [command.replace("snakemake ", "snakemake -n ", 1) for command in others if "snakemake" in command]
    commands = [f"{make} --configfile first.yaml --config results=results", *looked_at]
    for command in commands:
        path = f"PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={folder}"
        ran = subprocess.run(f"{path} {command}", shell=True, cwd=folder, capture_output=True, text=True)
        assert ran.returncode == 0, command + ran.stdout + ran.stderr


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_of_it_runs(tutorial: ModuleType, tmp_path: Path) -> None:
    page, folder = tutorial.PAGE.read_text(), tmp_path / "unet-em"
    tutorial.copy_repository(folder)
    printed = tutorial.run_commands(page, folder)
    assert tutorial.with_outputs(page, printed).count("```text\n```") == 0
    drawn = tutorial.pictures(
        folder / "results-first", folder / "results" / "sample", tmp_path, tmp_path / "sample.webp"
    )
    assert all(path.exists() for path in drawn)
