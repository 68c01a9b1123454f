"""Snakemake's shards on SLURM: cancelled, past their time, on a drained node, and orphaned by Snakemake's death.

Two scenarios run side by side, for they wait more than they compute:

1. `troubled`: two shards are predicted at once, on two GPUs. One job is cancelled, and the node drained, so that its
   second attempt has to wait. The other job meets its time limit.
2. `orphaned`: Snakemake is killed while two shards are predicted, and started again, so that two jobs a shard run at
   once.

Both begin with a trained model; the whole chain from image files is a slow test. Jobs are held by SIGSTOP to make sure
that they are in the middle; SLURM wakes whom it ends.
"""

import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import OnSlurm, profile
from tests.cluster.slurm import Job, Slurm
from tests.workflow.conftest import CONFIG, Project

pytestmark = pytest.mark.timeout(1800)
SHARDS = ("0-of-2", "1-of-2")
BLOCKS = 9
"""Of a shard."""
SEGMENTED = [f"results/receipts/relabel/train/segmentation/{shard}.json" for shard in SHARDS]


def both_held(project: OnSlurm) -> list[tuple[str, int]]:
    """The jobs that predict the two shards, held in the middle."""
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
    """The second scenario; returns the jobs that predicted each shard."""
    project.start(*SEGMENTED)
    orphans = [script for _, script in both_held(project)]
    project.kill()
    project.finish("--unlock")
    project.start(*SEGMENTED)
    for shard in SHARDS:
        project.wait_for_line("being written by another process", "predict", shard)
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
    projects["troubled"].use(profile(predict={"runtime": "10 * attempt"}))
    projects["orphaned"].use(profile(predict={"gpu": 0}))
    with ThreadPoolExecutor() as pool:
        yield {
            "troubled": (projects["troubled"], pool.submit(troubled, projects["troubled"])),
            "orphaned": (projects["orphaned"], pool.submit(orphaned, projects["orphaned"])),
        }
        for project in projects.values():
            project.kill()


def chosen_threshold(finished: Project) -> float:
    """Given to the runs on SLURM, which therefore need no sweep."""
    return finished.receipt("threshold", "all")["best"]["threshold"]


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


def test_two_shards_ran_at_once_on_different_gpus(scenarios: dict[str, Any]) -> None:
    project, done = scenarios["troubled"]
    cancelled, late, _ = done.result()
    [first], [second] = (project.receipt("predict", "train", shard)["run"]["ended_before"] for shard in SHARDS)
    assert (first["slurm_job"], second["slurm_job"]) == (late.number, cancelled.number)
    assert {first["cuda_visible_devices"], second["cuda_visible_devices"]} == {"0", "1"}


@pytest.mark.parametrize(("shard", "state"), [("1-of-2", "CANCELLED"), ("0-of-2", "TIMEOUT")])
def test_a_job_that_slurm_ends_finishes_its_blocks_in_flight_and_the_next_goes_on(
    scenarios: dict[str, Any], shard: str, state: str
) -> None:
    project, done = scenarios["troubled"]
    ended = next(job for job in done.result()[:2] if job.state == state)
    run = project.receipt("predict", "train", shard)["run"]
    [before] = run["ended_before"]
    assert before["slurm_job"] == ended.number
    assert before["ended"].startswith(f"SIGTERM received; {before['blocks_made']} blocks are finished")
    assert 1 <= before["blocks_made"] < BLOCKS
    assert run["blocks_made"] == BLOCKS - before["blocks_made"]


def test_a_second_attempt_waits_for_a_drained_node_and_has_more_time(scenarios: dict[str, Any]) -> None:
    cancelled, late, waiting = scenarios["troubled"][1].result()
    assert [job.state for job in waiting] == ["PENDING"]
    assert (late.time_limit, cancelled.time_limit) == ("1:00", "10:00")
    assert [job.time_limit for job in waiting] == ["20:00"]


def test_jobs_of_a_new_snakemake_wait_for_the_orphans_and_find_all_done(scenarios: dict[str, Any]) -> None:
    project, done = scenarios["orphaned"]
    jobs = done.result()
    for shard in SHARDS:
        assert [job.state for job in jobs[shard]] == ["COMPLETED", "COMPLETED"]
        assert project.receipt("predict", "train", shard)["run"]["blocks_made"] == 0
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
