"""The plan of a run, against that run: jobs and files exactly, memory never less."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from unet.run.plan.estimates import StoreSize, measured_jobs, store_sizes
from unet.storage.files import read_json, write_receipt

if TYPE_CHECKING:
    from tests.workflow.conftest import Project


def jobs(project: Project) -> Counter[str]:
    """Return how many jobs of each rule a run had."""
    folder = project.results / "benchmarks"
    return Counter(path.relative_to(folder).parts[0] for path in folder.rglob("*.tsv"))


FORK_MB = 40
"""A job that starts a program counts twice for a moment, its child with the same pages included."""


def most_memory(project: Project) -> dict[str, float]:
    """MB of the largest job of each rule."""
    most: dict[str, float] = {}
    for job in measured_jobs(project.results):
        most[job["rule"]] = max(most.get(job["rule"], 0), job["max_rss"])
    return most


def test_jobs_files_and_memory_are_as_estimated(finished: Project, copy_of_finished: Project) -> None:
    record = copy_of_finished.results / "provenance.json"
    copy_of_finished.configure({"segment": {"min_size": 5}})
    printed = copy_of_finished.run("plan").output
    for path in (record, record.with_name("run_config.yaml")):
        assert path.read_text() == (finished.results / path.name).read_text(), "a plan is no run"
    assert "plan          results/plan.json" in printed
    assert "results/report.html" not in printed
    plan = json.loads((copy_of_finished.results / "plan.json").read_text())
    assert {one["rule"]: one["jobs"] for one in plan["rules"]} == jobs(finished)
    sizes = store_sizes(plan, finished.results / "volumes")
    assert {one.store for one in sizes} >= {"raw", "mask", "labels", "weights", "segmentation-tables"}
    assert [one for one in sizes if one.estimated_files != one.measured_files] == []
    estimated = {one["rule"]: one["memory_mb"] for one in plan["rules"]}
    assert {rule: size for rule, size in most_memory(finished).items() if size > estimated[rule] + FORK_MB} == {}
    assert all(one["seconds"] > 0 for one in plan["rules"])
    for words in ("train: tiles of 48 x 48", "measured on this CPU", "core-hours", "segmentation-fragments"):
        assert words in printed


def test_a_dry_run_prints_the_plan_and_writes_nothing(copy_of_finished: Project) -> None:
    copy_of_finished.configure({"plan": {"gpu_flops": 1e12, "gpus": 2, "price_per_gpu_hour": 3, "currency": "EUR"}})
    printed = copy_of_finished.run("-n", "plan").output
    assert "2 GPU(s)" in printed
    assert "EUR" in printed
    assert not (copy_of_finished.results / "plan.json").exists()


def test_with_a_given_model_no_training_is_planned(copy_of_finished: Project) -> None:
    model = copy_of_finished.results / "model/model.pt"
    copy_of_finished.configure({"model": {"checkpoint": str(model)}, "results": "of-a-given-model"})
    copy_of_finished.run("plan")
    plan = json.loads((copy_of_finished.folder / "of-a-given-model/plan.json").read_text())
    assert {one["rule"] for one in plan["rules"]} & {"weight_map", "train", "predict"} == {"predict"}
    assert "weights" not in {one["store"] for one in plan["stores"]}
    assert plan["training_flops"] == 0


def test_too_many_block_ranges_are_refused_with_what_to_set(copy_of_finished: Project) -> None:
    survey = copy_of_finished.results / "receipts/survey/train.json"
    values = read_json(survey)
    values["layout"]["shape"] = [40, 2048, 2048]
    write_receipt(survey, values)
    printed = copy_of_finished.run("-n", "--config", "predict={job_voxels: 8192}", fails=True).output
    assert "predict.job_voxels: volume 'train' would have 20480 block ranges" in printed
    assert "at least 16778, or to auto" in printed


def test_a_store_that_is_not_there_has_no_files(finished: Project) -> None:
    plan = {"stores": [{"volume": "train", "store": "absent", "bytes": 1.0, "files": 2}]}
    assert store_sizes(plan, finished.results / "volumes") == [StoreSize("train", "absent", 1.0, 0, 2, 0)]
