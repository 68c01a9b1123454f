"""Prediction as a job of its own: killed, stopped, twice at once, on a full disk, on workers that die or hang.

48 blocks of 1 x 32 x 32 voxels in one block range, each some hundredths of a second of work.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from tests.scripts.conftest import SCRIPTS, Project, disk_of
from unet.config.model import ModelConfig
from unet.config.predict import PredictConfig
from unet.network.model import build_model
from unet.network.model_file import save_model
from unet.storage.files import PARTIAL

BLOCKS = 48
MODEL = ModelConfig(depth=2, base_channels=8, dropout=0)
PREDICT = {"tile": 28, "test_time_augmentation": "symmetries", "dashboard": False}


@dataclass
class Run:
    """A prepared volume, and the job that predicts it, as a process."""

    folder: Path

    @property
    def project(self) -> Project:
        volume = {"raw": str(self.folder / "raw.tif"), "voxel_size_nm": [50, 4, 4]}
        return Project(
            self.folder, {"volumes": {"train": volume}, "train": {"volumes": []}, "model": {"checkpoint": "m"}}
        )

    @property
    def receipt(self) -> Path:
        return self.project.receipt("predict", "train", "0-of-1")

    def start(self, slurm: dict[str, Any] | None = None, **predict: Any) -> subprocess.Popen[str]:
        """Start the job in a session of its own; its output can be read."""
        arguments = {
            "survey": self.project.receipt("survey", "train"),
            "intensity_statistics": self.project.receipt("intensity_statistics", "train"),
            "model": self.folder / "model.pt",
            "receipt": self.receipt,
            "folder": self.project.stores("train"),
            "block_range": "0-of-1",
            "predict": PredictConfig(**{**PREDICT, **predict}).model_dump(),
            "slurm": slurm or {},
            "worker_logs": self.folder / "workers",
            "code": "one",
        }
        return subprocess.Popen(
            [sys.executable, str(SCRIPTS / "predict.py"), json.dumps(arguments, default=str)],
            env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def finish(self, **how: Any) -> str:
        """Run the job to its end; returns what it said."""
        process = self.start(**how)
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
        return said

    def recorded(self) -> list[str]:
        """The blocks in the journal."""
        journal = self.receipt.with_suffix(".jsonl")
        lines = journal.read_text().splitlines(keepends=True) if journal.exists() else []
        whole = [json.loads(line) for line in lines if line.endswith("\n") and line.strip()]
        return [values["box"] for values in whole if "box" in values]

    def wait_for(self, blocks: int, process: subprocess.Popen[str]) -> None:
        """Wait until so many blocks are recorded."""
        deadline = time.monotonic() + 600
        while len(self.recorded()) < blocks and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        if process.poll() is not None:
            raise AssertionError(f"ended before it had done {blocks} blocks:\n{process.communicate()[0]}")

    def content(self) -> dict[str, bytes]:
        """Every file of the store, but what a killed process was writing: that is removed after an hour."""
        store = self.project.stores("train") / "probability.zarr"
        files = [path for path in sorted(store.rglob("*")) if path.is_file() and path.suffix != PARTIAL]
        return {str(path.relative_to(store)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Raw, statistics and a network that has learnt nothing."""
    run = Run(tmp_path_factory.mktemp("predict") / "run")
    run.folder.mkdir()
    raw = np.random.default_rng(0).integers(0, 255, (3, 125, 128), dtype=np.uint8)
    tifffile.imwrite(run.folder / "raw.tif", raw, photometric="minisblack")
    run.project.intensity_statistics("train")
    torch.manual_seed(0)
    save_model(run.folder / "model.pt", build_model(MODEL), MODEL, ["membrane", "interior"], normalisation={})
    return run


def copied(run: Run, folder: Path) -> Run:
    """The volume in another folder."""
    shutil.copytree(run.folder, folder, dirs_exist_ok=True)
    return Run(folder)


@pytest.fixture(scope="module")
def whole(ingested: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The store of a run that nothing happened to."""
    run = copied(ingested, tmp_path_factory.mktemp("whole"))
    run.finish()
    assert len(run.recorded()) == BLOCKS
    return run.content()


@pytest.fixture
def run(ingested: Run, tmp_path: Path) -> Run:
    """A volume to predict."""
    return copied(ingested, tmp_path / "run")


def test_killed_again_and_again_it_ends_with_the_same_bits(run: Run, whole: dict[str, bytes]) -> None:
    """The benchmark `benchmarks/kills.py` does so thirty times, through Snakemake."""
    moments = random.Random(4)
    for kill in range(4):
        process = run.start()
        run.wait_for(6 * kill + moments.randint(1, 5), process)  # far from the end: this process may get no processor
        time.sleep(moments.uniform(0, 0.1))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not run.receipt.exists()
    before = run.recorded()
    run.finish()
    assert run.content() == whole
    assert len(before) >= 19
    assert sorted(run.recorded()) == sorted(set(run.recorded())), "no block that was recorded was made again"
    assert json.loads(run.receipt.read_text())["run"]["blocks_made"] == BLOCKS - len(before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_soon_and_a_rerun_goes_on(run: Run, whole: dict[str, bytes], number: signal.Signals) -> None:
    process = run.start()
    run.wait_for(5, process)
    begin = time.monotonic()
    process.send_signal(number)
    said, _ = process.communicate(timeout=300)
    assert time.monotonic() - begin < 120
    assert process.returncode == 1
    assert f"{number.name} received" in said
    assert "Traceback" not in said
    done = run.recorded()
    assert 5 <= len(done) < BLOCKS
    run.finish()
    told = json.loads(run.receipt.read_text())["run"]
    assert told["blocks_made"] == BLOCKS - len(done)
    [ended] = told["ended_before"]
    assert ended["ended"].startswith(f"{number.name} received; {len(done)} blocks are finished")
    assert ended["blocks_made"] == len(done)
    assert run.content() == whole


def test_of_two_at_once_the_second_waits_and_finds_all_done(run: Run, whole: dict[str, bytes]) -> None:
    first = run.start()
    run.wait_for(3, first)
    os.killpg(first.pid, signal.SIGSTOP)  # an orphan that takes its time
    second = run.start()
    assert second.stdout is not None
    assert any("is being written by another process" in line for line in second.stdout)
    os.killpg(first.pid, signal.SIGCONT)
    said, _ = second.communicate(timeout=400)
    assert second.returncode == 0, said
    assert f"{BLOCKS} of {BLOCKS} blocks are finished already" in said
    assert first.wait(timeout=300) == 0
    assert len(run.recorded()) == BLOCKS
    assert run.content() == whole


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    with disk_of(tmp_path / "disk", 3) as folder:
        yield folder


def test_a_full_disk_is_told_and_after_making_space_it_ends_with_the_same_bits(
    ingested: Run, small_disk: Path, whole: dict[str, bytes]
) -> None:
    run = copied(ingested, small_disk)
    free = shutil.disk_usage(small_disk).free
    (small_disk / "filler").write_bytes(bytes(free - 100_000))
    process = run.start(dtype="float32")
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 1
    assert "No space left on device" in said
    assert "MB are free" in said
    assert "what is finished is kept" in said
    assert "Traceback" not in said
    done = run.recorded()
    assert 0 < len(done) < BLOCKS
    (small_disk / "filler").unlink()
    run.finish(dtype="float32")
    assert json.loads(run.receipt.read_text())["run"]["blocks_made"] == BLOCKS - len(done)
    stored = run.project.array("train", "probability")
    reference = copied(ingested, small_disk.parent / "reference")
    reference.finish(dtype="float32")
    np.testing.assert_array_equal(stored, reference.project.array("train", "probability"))
    assert run.content() == reference.content()


# On workers of a scheduler that somebody else has started


@dataclass
class Cluster:
    """A scheduler and workers, each a process of its own."""

    address: str
    workers: list[subprocess.Popen[bytes]]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    file = tmp_path / "scheduler.json"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment |= {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "2"}

    def start(module: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.{module}", "--scheduler-file", str(file), *arguments]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, env=environment, cwd=tmp_path, start_new_session=True, **quiet)  # type: ignore[call-overload,no-any-return]

    scheduler = start("dask_scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1")
    deadline = time.monotonic() + 300
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    options = ("--nthreads", "2", "--no-nanny", "--no-dashboard", "--preload", "unet.network.worker")
    workers = [start("dask_worker", *options) for _ in range(2)]
    yield Cluster(json.loads(file.read_text())["address"], workers)
    for process in (*workers, scheduler):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_workers_of_a_given_scheduler_give_the_same_bits(run: Run, cluster: Cluster, whole: dict[str, bytes]) -> None:
    said = run.finish(scheduler=cluster.address)
    assert "dashboard" not in said  # the scheduler has its own, or none
    assert run.content() == whole
    assert len(run.recorded()) == BLOCKS


def test_the_blocks_of_a_dead_worker_are_made_by_the_other(run: Run, cluster: Cluster, whole: dict[str, bytes]) -> None:
    process = run.start(scheduler=cluster.address)
    run.wait_for(6, process)
    os.killpg(cluster.workers[0].pid, signal.SIGKILL)
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said
    assert run.content() == whole
    assert sorted(run.recorded()) == sorted(set(run.recorded()))


def test_a_worker_that_hangs_is_not_waited_for(run: Run, cluster: Cluster, whole: dict[str, bytes]) -> None:
    process = run.start(scheduler=cluster.address, block_timeout_minutes=0.2)
    run.wait_for(6, process)
    os.killpg(cluster.workers[0].pid, signal.SIGSTOP)
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said
    assert "not finished after 12 s" in said
    assert run.content() == whole
