"""Every benchmark runs at its smallest size, so that none rots; no figure of such a run means anything."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unet.config.root import load_config

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
SHARED_BY_OTHERS = {"starter", "synthetic", "inference_peers"}
"""Modules that are no program of their own; the peers of `inference.py` want an environment that is made by hand."""
FOLDER = "FOLDER"


@dataclass(frozen=True)
class Smoke:
    """A program at its smallest size, and a word of its output that shows that it has come to its end.

    A run of tiny volumes misses what the program asks of a large one: `asks` are those that end with 1 then.
    """

    program: str
    arguments: str
    shows: str
    asks: bool = False


QUICK = [
    Smoke("affinity_decoding", "--generated 20", '"chosen": [{"'),
    Smoke("agglomeration", "--nodes 5000 --parts 4", '"same_as_whole": true'),
    Smoke("empty", "--shape 4 316 316", '"masked": 0.'),
    Smoke("gpu_steps", "--smoke", '"network": "3d-8"'),
    Smoke("ingest", f"--shape 2 256 300 --inputs png --rounds 1 --folder {FOLDER}", '"deeper": {"png"'),
    Smoke("journal", "--blocks 200 --jobs 10", "all blocks"),
    Smoke("measurement", "--depth 8 --side 64 --only objects,meshes --formats ply", '"found": {"meshes": '),
    Smoke("petavoxel", "--sections 0 1024", "plan "),
    Smoke("scheduling", f"--ranges 1 --folder {FOLDER}", '"-n, finished": {"seconds": '),
    Smoke("segmentation", "--depth 8 --side 64 --only components,watershed", '"watershed": {"contestant"'),
    Smoke("suspected_merges", "--generated 20", '"rows": [{"volume": "generated"'),
    Smoke("weights", "--scale 4 --rounds 1 --fib25 none", '"target": "0", "met": true'),
]
"""Some 60 processor seconds together, most of them Snakemake's start-up."""
LONG = [
    Smoke("ablation", f"--smoke --only base add --steps 4 --folder {FOLDER}", "| add-0 |"),
    Smoke("inference", f"--base-channels 2 --shape 2 256 256 --rounds 1 --parts job --folder {FOLDER}", '"busy": '),
    Smoke("kills", f"--kills 1 --sections 4 --folder {FOLDER}", '"identical": true, "made_again": 0'),
    Smoke("nuclei", f"--w0 0 --steps 2 --folder {FOLDER}", '"segmentation": "watershed"'),
    Smoke("plan", f"--only gigavoxel --voxels 1000000 --folder {FOLDER}", '"files": true'),
    Smoke("run_length", f"--write {FOLDER}", "| truth |"),
    Smoke("soak", f"--voxels 1000000 2000000 --folder {FOLDER}", '"files": true', asks=True),
    Smoke("training", f"--smoke --steps 8 --folder {FOLDER}", '"steps_per_second": '),
    Smoke("workstation", f"--rounds 1 --sections 4 --folder {FOLDER}", '"identical": true', asks=True),
]
NEEDS = {"nuclei": "nuclei", "run_length": "fib25"}
"""Data sets, folders of `starter.DATA`."""


@pytest.fixture(scope="module")
def programs() -> Iterator[dict[str, Any]]:
    """Every file of the folder, imported as its neighbours import it."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield {path.stem: __import__(path.stem) for path in sorted(BENCHMARKS.glob("*.py"))}
    finally:
        sys.path.remove(str(BENCHMARKS))
        for path in BENCHMARKS.glob("*.py"):
            sys.modules.pop(path.stem, None)


def run(smoke: Smoke, folder: Path) -> None:
    """Run a program and look for what it has to show."""
    arguments = smoke.arguments.replace(FOLDER, str(folder / "runs")).split()
    command = [sys.executable, str(BENCHMARKS / f"{smoke.program}.py"), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode in ((0, 1) if smoke.asks else (0,)), done.stdout + done.stderr
    assert smoke.shows in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("smoke", QUICK, ids=lambda smoke: smoke.program)
def test_it_runs(smoke: Smoke, tmp_path: Path) -> None:
    run(smoke, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("smoke", LONG, ids=lambda smoke: smoke.program)
def test_whole_runs_of_the_workflow(smoke: Smoke, tmp_path: Path, programs: dict[str, Any]) -> None:
    data = programs["starter"].DATA / NEEDS.get(smoke.program, ".")
    if not data.is_dir():
        pytest.skip(f"{data} is not there")
    if smoke.program == "run_length":
        pytest.importorskip("kimimaro", reason="kimimaro is not installed (docs/explanation/segmentation.md)")
    run(smoke, tmp_path)


def test_every_program_is_run_and_has_a_line_in_the_table(programs: dict[str, Any]) -> None:
    names = programs.keys() - SHARED_BY_OTHERS
    assert len(names) > 10
    assert {smoke.program for smoke in QUICK + LONG} == names
    lines = [line for line in (BENCHMARKS / "README.md").read_text().splitlines() if line.startswith("|")]
    assert {name for name in names if not any(f"benchmarks/{name}.py" in line for line in lines)} == set()


def test_every_input_of_the_ingest_benchmark_holds_the_same_sections(programs: dict[str, Any], tmp_path: Path) -> None:
    ingest, shape = programs["ingest"], (2, 64, 70)
    ingest.write_inputs(tmp_path, shape, list(ingest.NAMES))
    for name in ingest.NAMES.values():
        count, section = ingest.decoder(tmp_path / name)
        assert count == 2
        np.testing.assert_array_equal([section(z) for z in range(2)], np.load(tmp_path / ingest.ENDS))


def test_all_start_snakemake_by_one_starter() -> None:
    starting = [path.stem for path in BENCHMARKS.glob("*.py") if re.search(r'-m", "snakemake"', path.read_text())]
    assert starting == ["starter"]


def test_every_configuration_is_one_that_a_run_takes(programs: dict[str, Any], tmp_path: Path) -> None:
    """Keys that were renamed are found here at once, also of programs that run for minutes."""
    starter, ablation, nuclei = (programs[name] for name in ("starter", "ablation", "nuclei"))
    examples = [starter.example(path) for path in sorted((ROOT / "config" / "examples").glob("*.yaml"))]
    found = [starter.miniature(), programs["kills"].CONFIG, programs["workstation"].configuration(4), *examples]
    found += [programs["plan"].configuration("sample"), programs["plan"].TINY, programs["scheduling"].CONFIG]
    found += [ablation.configuration(starter.miniature(), name, 0, 4, "auto") for name in ablation.VARIANTS]
    found += [programs["training"].shortened(starter.miniature(), 8)]
    if (starter.DATA / "nuclei").is_dir():
        halves = nuclei.configuration(tmp_path, 10, 0, 2)
        found += [halves | {"segment": segment} for segment in nuclei.SEGMENTATIONS.values()]
    assert len(found) > 20
    for values in found:
        load_config(json.loads(json.dumps(values)))


def test_one_command_measures_everything_on_a_gpu(tmp_path: Path) -> None:
    """Let the script call a Python that only notes its arguments: it ends, and each file that it names exists."""
    (tmp_path / "benchmarks").mkdir()
    shutil.copy(BENCHMARKS / "gpu.sh", tmp_path / "benchmarks")
    for name in ("noting", "nvidia-smi"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n[ "$1" != -c ] || echo 1\n')
        program.chmod(0o755)
    environment = os.environ | {"PYTHON": str(tmp_path / "noting"), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", str(tmp_path / "benchmarks" / "gpu.sh")]
    subprocess.run(command, env=environment, check=True)
    assert subprocess.run([*command, "inferance"], env=environment, check=False).returncode == 2
    calls = (tmp_path / "calls").read_text()
    assert "snakemake" in calls
    named = re.findall(r"(?:benchmarks|tests|config)/\S+\.(?:py|yaml)", calls)
    assert len(named) > 5
    assert [name for name in named if not (ROOT / name).exists()] == []
