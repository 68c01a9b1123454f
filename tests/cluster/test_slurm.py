"""A real SLURM: Snakemake's block ranges, and one prediction on workers that are SLURM jobs of their own.

All in one file, so that one process runs it: a machine has one SLURM. Two scenarios run side by side, because
they wait more than they compute:

1. `troubled`: two block ranges are predicted at once, on two GPUs. One job is cancelled, and the node drained, so that
   its second attempt has to wait. The other job meets its time limit.
2. `orphaned`: Snakemake is killed while two block ranges are predicted, and started again, so that two jobs per
   block range run at once.

Both begin with a trained model; the whole chain from image files is a slow test. Jobs are held by SIGSTOP to make sure
that they are in the middle; SLURM wakes whom it ends. The workers follow at the end.
"""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import OnSlurm, profile
from tests.cluster.slurm import Job, Slurm
from tests.scripts.test_predict import BLOCKS as PIECES
from tests.scripts.test_predict import Run, copied
from tests.workflow.conftest import CONFIG, Project
from unet.geometry.box import Box
from unet.storage.locks import blocks_locked

pytestmark = pytest.mark.timeout(1800)
SHARDS = ("0-of-2", "1-of-2")
BLOCKS = 9
"""Of a block range."""
SEGMENTED = [f"results/receipts/relabel/train/segmentation/{block_range}.json" for block_range in SHARDS]
PREDICTED = "results/receipts/predict/train/0-of-1.json"
TWO_WORKERS = {"workers": 2, "partition": "main", "gpus": 1, "cores": 1, "memory_mb": 1000}
SHORT_LIVES = {"time_limit_minutes": 2, "lifetime_margin_minutes": 1.7, "lifetime_stagger_minutes": 0.05}


def both_held(project: OnSlurm) -> list[tuple[str, int]]:
    """The jobs that predict the two block ranges, held in the middle."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(partial(project.held, "predict"), SHARDS))


def troubled(project: OnSlurm) -> tuple[Job, Job, list[Job]]:
    """The first scenario; returns the cancelled job, that past its time, and the second attempt that had to wait."""
    project.start(*SEGMENTED)
    late, cancelled = (number for number, _ in both_held(project))
    project.slurm.set_node("drain")
    project.slurm.call("scancel", cancelled)
    waiting = project.wait_for(lambda: project.jobs("predict", "PENDING").get(SHARDS[1]), "no second attempt")
    assert [job.number for job in project.jobs("predict", "RUNNING")[SHARDS[0]]] == [late], "a drained node goes on"
    project.slurm.call("scontrol", "update", f"jobid={late}", "timelimit=1")
    project.wait_for(lambda: not project.jobs("predict", "RUNNING"), "the job goes on after its time")
    project.slurm.set_node("resume")
    project.finish()
    by_number = {job.number: job for job in project.slurm.jobs(project.folder, "all")}
    return by_number[cancelled], by_number[late], waiting


def orphaned(project: OnSlurm) -> dict[str, list[Job]]:
    """The second scenario; returns the jobs that predicted each block range."""
    project.start(*SEGMENTED)
    orphans = [script for _, script in both_held(project)]
    project.kill()
    project.unlock()
    project.start(*SEGMENTED)
    for block_range in SHARDS:
        project.wait_for_line("being written by another process", "predict", block_range)
    for script in orphans:
        os.kill(script, signal.SIGCONT)
    project.finish()
    return project.jobs("predict", "all")


@pytest.fixture(scope="module")
def scenarios(
    slurm: Slurm, finished: Project, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[OnSlurm, Future[Any]]]]:
    """Both scenarios at work: their projects, and what they will return."""
    folder = tmp_path_factory.mktemp("cluster")
    projects = {name: OnSlurm(finished.copy(folder / name).folder, slurm=slurm) for name in ("troubled", "orphaned")}
    for project in projects.values():
        project.forget("predict", "segment", "merge", "relabel", stores=("probability", "segmentation"))
        project.configure({"segment": {"threshold": chosen_threshold(finished)}})
    projects["troubled"].use(profile(predict={"runtime": "20 * attempt"}))
    projects["orphaned"].use(profile(predict={"gpu": 0, "runtime": 60}))
    with ThreadPoolExecutor() as pool:
        yield {
            "troubled": (projects["troubled"], pool.submit(troubled, projects["troubled"])),
            "orphaned": (projects["orphaned"], pool.submit(orphaned, projects["orphaned"])),
        }
        for project in projects.values():
            project.kill()


def chosen_threshold(finished: Project) -> float:
    """Given to the runs on SLURM, which therefore need no sweep."""
    return finished.receipt("choose_threshold", "all")["best"]["threshold"]


@pytest.mark.parametrize("scenario", ["troubled", "orphaned"])
def test_the_segmentation_is_that_of_an_undisturbed_run_on_one_machine(
    scenarios: dict[str, Any], finished: Project, scenario: str
) -> None:
    project, done = scenarios[scenario]
    done.result()
    for store in ("probability", "segmentation"):
        assert project.content(store) == finished.content(store), store


@pytest.mark.parametrize("scenario", ["troubled", "orphaned"])
def test_no_block_is_made_twice(scenarios: dict[str, Any], scenario: str) -> None:
    project, done = scenarios[scenario]
    done.result()
    boxes = [record["box"] for record in project.records("predict")]
    assert len(boxes) == len(set(boxes)) == 2 * BLOCKS


def test_two_block_ranges_ran_at_once_on_different_gpus(scenarios: dict[str, Any]) -> None:
    project, done = scenarios["troubled"]
    cancelled, late, _ = done.result()
    [first], [second] = (
        project.receipt("predict", "train", block_range)["run"]["ended_before"] for block_range in SHARDS
    )
    assert (first["slurm_job"], second["slurm_job"]) == (late.number, cancelled.number)
    assert {first["cuda_visible_devices"], second["cuda_visible_devices"]} == {"0", "1"}


@pytest.mark.parametrize(("block_range", "state"), [("1-of-2", "CANCELLED"), ("0-of-2", "TIMEOUT")])
def test_a_job_that_slurm_ends_finishes_its_blocks_in_flight_and_the_next_goes_on(
    scenarios: dict[str, Any], block_range: str, state: str
) -> None:
    project, done = scenarios["troubled"]
    ended = next(job for job in done.result()[:2] if job.state == state)
    run = project.receipt("predict", "train", block_range)["run"]
    [before] = run["ended_before"]
    assert before["slurm_job"] == ended.number
    assert before["ended"].startswith(f"SIGTERM received; {before['blocks_made']} blocks are finished")
    assert 1 <= before["blocks_made"] < BLOCKS
    assert run["blocks_made"] == BLOCKS - before["blocks_made"]


def test_a_second_attempt_waits_for_a_drained_node_and_has_more_time(scenarios: dict[str, Any]) -> None:
    cancelled, late, waiting = scenarios["troubled"][1].result()
    assert [job.state for job in waiting] == ["PENDING"]
    assert (late.time_limit, cancelled.time_limit) == ("1:00", "20:00")
    assert [job.time_limit for job in waiting] == ["40:00"]


def test_jobs_of_a_new_snakemake_wait_for_the_orphans_and_find_all_done(scenarios: dict[str, Any]) -> None:
    project, done = scenarios["orphaned"]
    jobs = done.result()
    for block_range in SHARDS:
        assert [job.state for job in jobs[block_range]] == ["COMPLETED", "COMPLETED"]
        assert project.receipt("predict", "train", block_range)["run"]["blocks_made"] == 0
    rules = {job.comment.split("_")[1] for job in project.slurm.jobs(project.folder, "all")}
    assert rules == {"predict", "segment", "merge", "relabel"}, "what was done is not done again"


@pytest.mark.slow
def test_the_whole_chain_from_image_files_is_the_same(
    slurm: Slurm, finished: Project, input_folder: Path, tmp_path: Path
) -> None:
    project = OnSlurm(tmp_path / "whole", slurm=slurm)
    shutil.copytree(input_folder, project.folder / "input")
    project.configure(CONFIG)
    project.configure({"segment": {"threshold": chosen_threshold(finished)}})
    project.use(profile())
    project.finish(*SEGMENTED)
    trained = project.receipt("train", "model")
    assert trained["digest"] == finished.receipt("train", "model")["digest"]
    assert trained["run"]["cuda_visible_devices"] in ("0", "1")
    for store in ("raw", "probability", "segmentation"):
        assert project.content(store) == finished.content(store), store
    assert all(len(own) == 1 for own in project.jobs("ingest", "all").values())


# Workers


def workers(slurm: Slurm, states: str = "PENDING,RUNNING,COMPLETING") -> list[Job]:
    """The jobs that are workers."""
    return [job for job in slurm.jobs(states=states) if job.name.startswith("unet-em-")]


def soon(what: Callable[[], bool], seconds: float = 300) -> bool:
    """Return whether something becomes true in time."""
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
    project.configure(
        {"predict": {"workers": "slurm", "job_voxels": 4 * 150 * 140}, "slurm": TWO_WORKERS | SHORT_LIVES}
    )
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
        process = run.start(workers="slurm", slurm=TWO_WORKERS)
        run.wait_for(done, process)
        begin = time.monotonic()
        process.send_signal(number)
        process.communicate(timeout=600)
        if number == signal.SIGTERM:
            assert time.monotonic() - begin < 150
            assert not workers(slurm)
        assert soon(lambda: not workers(slurm))
    recorded = run.recorded()
    run.finish(workers="slurm", slurm=TWO_WORKERS)
    assert not workers(slurm)
    assert run.content() == whole
    assert len(run.recorded()) == len(set(run.recorded())) == PIECES
    assert run.recorded()[: len(recorded)] == recorded


def test_what_slurm_refuses_is_told_in_one_line(slurm: Slurm, ingested: Run, tmp_path: Path) -> None:
    run = copied(ingested, tmp_path / "run")
    process = run.start(workers="slurm", slurm={**TWO_WORKERS, "partition": "nowhere"})
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "SLURM does not take a worker's job, see section `slurm`" in said
    assert "nowhere" in said or "invalid partition" in said
    assert "Traceback" not in said
