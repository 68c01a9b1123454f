"""Real runs of the workflow on a small volume; tests that change something copy the finished one (`tests/conftest.py`).

The volume is cut so that blocks at its far faces are smaller, one block holds no tissue, and cells cross block borders:

```
4 x 150 x 140 voxels in blocks of 2 x 64 x 64: 2 * 3 * 3 = 18 blocks, 9 in each of the 2 jobs of a rule
```
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
import zarr

from tests.workflow.snakemake_process import SnakemakeProcess
from unet.storage.files import PARTIAL
from unet.training.synthetic import synthesise

ROOT = Path(__file__).parents[2]
Running = SnakemakeProcess | subprocess.Popen[str]
PATIENCE = 600
"""Seconds after which a run is given up."""

CONFIG: dict[str, Any] = {
    "volumes": {
        "train": {
            "raw": "input/raw.tif",
            "labels": "input/labels.tif",
            "mask": "input/mask.tif",
            "voxel_size_nm": [50, 4, 4],
        }
    },
    "storage": {"chunk": [1, 32, 32], "block": [2, 64, 64]},
    "model": {"depth": 2, "base_channels": 4, "normalisation": "batch", "dropout": 0},
    "train": {
        "steps": 100,
        "tile": 48,
        "batch": 4,
        "optimizer": "adamw",
        "learning_rate": 0.01,
        "augment": {"rotation": "right", "elastic_probability": 0},
    },
    "predict": {"tile": 48, "job_voxels": 9 * 2 * 64 * 64},
    "segment": {"threshold": "auto"},
    "evaluate": {"volumes": ["train"], "threshold_volumes": ["train"]},
    "verify": {"crops": 4, "crop_px": 32},
}


@dataclass(frozen=True)
class Finished:
    """Result of a run of Snakemake; `jobs` are those that ran, such as `predict/train/0-of-2`."""

    status: int
    output: str
    jobs: set[str]

    @property
    def rules(self) -> set[str]:
        """The rules of these jobs."""
        return {job.split("/")[0] for job in self.jobs}


@dataclass(frozen=True)
class Project:
    """A folder with input, configuration and results.

    `root` is the repository whose workflow it runs, `environment` what the user has set.
    """

    folder: Path
    root: Path = ROOT
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def results(self) -> Path:
        """Return the folder of results."""
        return self.folder / "results"

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as it is given."""
        path = self.folder / "config.yaml"
        return yaml.safe_load(path.read_text()) if path.exists() else {}

    def configure(self, changes: dict[str, Any]) -> None:
        """Merge `changes` into the configuration."""
        text = yaml.safe_dump(merged(self.config, changes), sort_keys=False)
        (self.folder / "config.yaml").write_text(text)

    def start(self, *arguments: str, output: Path | None = None) -> Running:
        """Start Snakemake in a session of its own, so that it can be killed with all of its jobs."""
        snakefile = str(self.root / "workflow" / "Snakefile")
        fixed = ["--snakefile", snakefile, "--directory", str(self.folder), "--cores", "2"]
        words = [*arguments, *fixed, "--configfile", "config.yaml"]
        ours = {"PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        environment = os.environ | ours | self.environment
        if "PYTHONPATH" not in self.environment:
            return SnakemakeProcess(words, self.folder, self.root, environment, output)
        assert output is None
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *words],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, fails: bool = False) -> Finished:
        """Run Snakemake to its end; which jobs ran is told by their log files, which each job writes anew."""
        before = self._logs()
        process = self.start(*arguments)
        try:
            output, _ = process.communicate(timeout=PATIENCE)
        finally:
            kill_session(process)
        ran = {job for job, written in self._logs().items() if before.get(job) != written}
        assert (process.returncode != 0) == fails, output
        return Finished(process.returncode, output, ran)

    def kill_when(self, ready: Callable[[], bool], *arguments: str) -> None:
        """Run Snakemake, and kill it with all of its jobs by SIGKILL once `ready`."""
        process = self.start(*arguments)
        deadline = time.monotonic() + PATIENCE
        while not ready() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        was_running = process.poll() is None
        kill_session(process)
        output, _ = process.communicate()
        assert was_running, f"the run ended before it could be killed:\n{output}"
        assert process.returncode == -signal.SIGKILL
        assert not self._survivors()

    def unlock(self) -> None:
        """Do what `--unlock` does, without a start of Snakemake; that it is asked for is shown in `test_resume`."""
        for lock in (self.folder / ".snakemake/locks").iterdir():
            lock.unlink()

    def receipt(self, *path: str) -> Any:
        """The receipt of a job, e.g. `receipt("predict", "train", "0-of-2")`."""
        return json.loads((self.results / "receipts" / Path(*path)).with_suffix(".json").read_text())

    def records(self, rule: str, volume: str = "train") -> list[dict[str, Any]]:
        """All blocks in the journals of a rule on a volume, the last written last within each journal."""
        folder = self.results / "receipts" / rule / volume
        lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines(keepends=True)]
        whole = [json.loads(line) for line in lines if line.endswith("\n") and line.strip()]
        return [values for values in whole if "box" in values]

    def blocks_made(self, ran: Finished, rule: str) -> int:
        """Blocks that the jobs of a rule made in a run, as opposed to found finished."""
        jobs = [job for job in ran.jobs if job.startswith(f"{rule}/")]
        return sum(self.receipt(job)["run"]["blocks_made"] for job in jobs)

    def store(self, name: str, volume: str = "train") -> Path:
        """The folder of a store."""
        return self.results / "volumes" / volume / f"{name}.zarr"

    def array(self, name: str, volume: str = "train") -> np.ndarray:
        """The voxels of a store at full resolution."""
        return np.asarray(zarr.open_array(self.store(name, volume) / "0", mode="r")[:])

    def block_files(self, name: str, volume: str = "train") -> list[Path]:
        """The files that hold a store's voxels, on all levels of its pyramid."""
        return sorted(path for path in self.store(name, volume).glob("*/c/**/*") if path.is_file())

    def content(self, name: str, volume: str = "train") -> dict[str, str]:
        """Hash of every file of a store, metadata included, by its path in the store.

        What a killed process was writing does not count: it is removed after an hour.
        """
        store = self.store(name, volume)
        files = (path for path in sorted(store.rglob("*")) if path.is_file() and path.suffix != PARTIAL)
        return {str(path.relative_to(store)): hashlib.blake2b(path.read_bytes()).hexdigest() for path in files}

    def copy(self, folder: Path, root: Path = ROOT) -> "Project":
        """The project as it is, with Snakemake's own notes, in another folder."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder, root, self.environment)

    def _logs(self) -> dict[str, int]:
        folder = self.results / "logs"
        return {str(p.relative_to(folder).with_suffix("")): p.stat().st_mtime_ns for p in folder.rglob("*.log")}

    def _survivors(self) -> list[str]:
        """Processes that still work in this folder, a moment after a kill."""
        time.sleep(0.2)
        found = []
        for link in Path("/proc").glob("[0-9]*/cwd"):
            try:
                at_work = link.resolve() == self.folder.resolve()
                state = (link.parent / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue  # ended meanwhile
            if at_work and state != "Z":
                found.append(link.parent.name)
        return found


def merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`values` with `changes`, section by section."""
    result = deepcopy(values)
    for key, value in changes.items():
        inner = result.get(key)
        result[key] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return result


def kill_session(process: Running) -> None:
    """End a process and all that it started, if any of it is left."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def write_input(folder: Path) -> None:
    """The volume `train`: raw, labels and a mask without tissue in its first 70 x 80 px."""
    raw, labels = synthesise(sections=4, size=150, seed=3)
    mask = np.ones((4, 150, 140), np.uint8)
    mask[:, :70, :80] = 0
    folder.mkdir()
    for name, values in (("raw", raw[:, :, :140]), ("labels", labels[:, :, :140]), ("mask", mask)):
        tifffile.imwrite(folder / f"{name}.tif", values, photometric="minisblack")


@pytest.fixture
def new_project(input_folder: Path, tmp_path: Path) -> Project:
    """A project of which nothing has been run."""
    project = Project(tmp_path / "new")
    shutil.copytree(input_folder, project.folder / "input")
    project.configure(CONFIG)
    return project


@pytest.fixture(scope="module")
def shared_project(input_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of which nothing has been run, for commands that change nothing."""
    project = Project(tmp_path_factory.mktemp("shared") / "project")
    shutil.copytree(input_folder, project.folder / "input")
    project.configure(CONFIG)
    return project


@pytest.fixture
def copy_of_finished(finished: Project, tmp_path: Path) -> Project:
    """The finished run, to be changed."""
    return finished.copy(tmp_path / "copy")
