"""One prediction on workers that are SLURM jobs of their own (`predict.dask: slurm`)."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.conftest import OnSlurm, profile
from tests.cluster.slurm import Job, Slurm
from tests.scripts.test_predict import BLOCKS, Run, copied
from tests.workflow.conftest import Project
from unet.geometry import Box
from unet.locks import blocks_locked

pytestmark = pytest.mark.timeout(1200)
PREDICTED = "results/receipts/predict/train/0-of-1.json"
TWO_WORKERS = {"workers": 2, "partition": "main", "gpus": 1, "cores": 1, "memory_mb": 1000}
SHORT_LIVES = {"time_limit_minutes": 2, "leave_minutes": 1.7, "stagger_minutes": 0.05}


def workers(slurm: Slurm, states: str = "PENDING,RUNNING,COMPLETING") -> list[Job]:
    """The jobs that are workers."""
    return [job for job in slurm.jobs(states=states) if job.name.startswith("unet-em-")]


def soon(what: Callable[[], bool], seconds: float = 90) -> bool:
    """Whether something becomes true in time."""
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.3)
    return what()


def test_workers_that_leave_before_their_time_are_replaced_and_none_is_left(
    slurm: Slurm, finished: Project, tmp_path: Path
) -> None:
    """The job itself is one of SLURM's. A block is locked, so that the run goes on for as long as the test wants."""
    project = OnSlurm(finished.copy(tmp_path / "project").folder, slurm=slurm)
    project.forget("predict", stores=("probability",))
    project.configure({"predict": {"dask": "slurm", "shard_voxels": 4 * 150 * 140}, "slurm": TWO_WORKERS | SHORT_LIVES})
    project.use(profile())
    with blocks_locked(project.results / "receipts/predict/train/.writing.lock", [Box((0, 64, 64), (2, 128, 128))]):
        project.start(PREDICTED)
        project.wait_for(lambda: len(workers(slurm, "all")) >= 4, "no worker is replaced")
        assert len(workers(slurm)) <= 2
        project.wait_for(lambda: len(project.records("predict")) >= 17, "the other blocks are not made")
    project.finish()
    assert workers(slurm) == []
    assert {job.state for job in workers(slurm, "all")} <= {"COMPLETED", "CANCELLED"}, "none has met its time limit"
    assert project.content("probability") == finished.content("probability")
    boxes = [record["box"] for record in project.records("predict")]
    assert len(boxes) == len(set(boxes)) == 18


def test_after_a_kill_and_after_a_signal_no_worker_is_left_and_nothing_is_lost(
    slurm: Slurm, ingested: Run, whole: dict[str, bytes], tmp_path: Path
) -> None:
    run = copied(ingested, tmp_path / "run")
    for done, number in ((5, signal.SIGKILL), (15, signal.SIGTERM)):
        process = run.start(dask="slurm", slurm=TWO_WORKERS)
        run.wait_for(done, process)
        begin = time.monotonic()
        process.send_signal(number)
        process.communicate(timeout=120)
        if number == signal.SIGTERM:
            assert time.monotonic() - begin < 35
            assert not workers(slurm)
        assert soon(lambda: not workers(slurm))
    recorded = run.recorded()
    run.finish(dask="slurm", slurm=TWO_WORKERS)
    assert not workers(slurm)
    assert run.content() == whole
    assert len(run.recorded()) == len(set(run.recorded())) == BLOCKS
    assert run.recorded()[: len(recorded)] == recorded


def test_what_slurm_refuses_is_told_in_one_line(slurm: Slurm, ingested: Run, tmp_path: Path) -> None:
    run = copied(ingested, tmp_path / "run")
    process = run.start(dask="slurm", slurm={**TWO_WORKERS, "partition": "nowhere"})
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "SLURM does not take a worker's job, see section `slurm`" in said
    assert "nowhere" in said or "invalid partition" in said
    assert "Traceback" not in said
