"""Another configuration on finished results: what it asks for and is not there is made, and told before."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from unet.run.removal import remove_results

if TYPE_CHECKING:
    from tests.workflow.conftest import Project

PART = {
    "raw": "input/raw.tif",
    "labels": "input/labels.tif",
    "voxel_size_nm": [50, 4, 4],
    "sections": [0, 2],
}
PREDICTED = {"volumes": {"part": PART}, "predict": {"volumes": ["train", "part"]}}
SCORED = {**PREDICTED, "evaluate": {"volumes": ["train", "part"]}}
NEW = {
    "survey",
    "check_model",
    "ingest",
    "histogram",
    "intensity_statistics",
    "predict",
    "segment",
    "merge",
    "relabel",
    "report",
}
OTHER = {
    "volumes": {"train": {**PART, "mask": None, "sections": [2, 4]}, "all": PART},
    "train": {"volumes": ["train"]},
    "predict": {"volumes": ["all"], "job_voxels": "auto"},
    "evaluate": {"volumes": [], "threshold_volumes": []},
    "segment": {"threshold": 0.5},
}
"""As somebody has it who has tried the demo, and now writes a configuration for data of his own."""
SCORING = {"targets", "check_labels", "threshold_sweep", "evaluate"}
TRAINING = {"targets", "check_labels", "weight_map", "train"}


def jobs_to_come(project: Project) -> set[str]:
    """The rules that a dry run lists."""
    output = project.run("-n").output
    table = re.search(r"^Job stats:\n(.*?)^total", output, re.MULTILINE | re.DOTALL)
    assert table, output
    return {line.split()[0] for line in table[1].splitlines()[2:]} - {"all"}


@pytest.mark.parametrize(
    ("changes", "jobs"),
    [
        (PREDICTED, NEW),
        (SCORED, NEW | SCORING),
        (OTHER, NEW | TRAINING),
        ({"segment": {"method": "watershed"}}, {"segment", "region_graph", "merge", "relabel", "evaluate", "report"}),
    ],
    ids=["another volume", "another score", "another configuration", "another method"],
)
def test_a_dry_run_lists_what_another_configuration_asks_for(
    copy_of_finished: Project, changes: dict[str, Any], jobs: set[str]
) -> None:
    copy_of_finished.configure(changes)
    assert jobs_to_come(copy_of_finished) == jobs


def test_without_a_record_of_the_results_all_jobs_look_again(copy_of_finished: Project) -> None:
    """Snakemake cannot tell then that the segmentation was made by another method."""
    shutil.rmtree(copy_of_finished.folder / ".snakemake/metadata")
    assert "Nothing to be done" in copy_of_finished.run("-n").output
    copy_of_finished.configure({"segment": {"method": "watershed"}})
    assert jobs_to_come(copy_of_finished) >= {"survey", "predict", "segment", "region_graph", "merge", "relabel"}


def test_one_more_volume_is_made_and_reported(finished: Project, copy_of_finished: Project) -> None:
    project = copy_of_finished
    project.configure(SCORED)
    ran = project.run()
    assert ran.rules == NEW | SCORING
    assert {job for job in ran.jobs if "train" in job} == set(), "what is finished stays as it is"
    scores = json.loads((project.results / "scores.json").read_text())
    assert list(scores) == ["train", "part"]
    assert scores["part"]["stored_objects"] == project.receipt("merge", "part", "segmentation")["objects"]
    assert scores["train"] == json.loads((finished.results / "scores.json").read_text())["train"]
    page = (project.results / "report.html").read_text()
    assert f"{scores['part']['segmentation_v_rand']:.4f}" in page
    for line in (
        "segmentation  results/volumes/part/segmentation.zarr",
        f"part: {scores['part']['stored_objects']} ob",
    ):
        assert line in ran.output
    assert "segmentation  results/volumes/train/segmentation.zarr" not in ran.output
    assert "Nothing to be done" in project.run().output


def test_the_record_is_of_what_is_configured(copy_of_finished: Project) -> None:
    """The folder also holds another volume, and another sharding, that were made before."""
    project = copy_of_finished
    receipts = project.results / "receipts"
    shutil.copytree(receipts / "predict/train", receipts / "predict/earlier")
    shutil.copy(receipts / "predict/train/0-of-2.json", receipts / "predict/train/0-of-3.json")
    shutil.copytree(project.results / "logs/predict/train", project.results / "logs/predict/earlier")
    shutil.copytree(project.results / "volumes/train", project.results / "volumes/earlier")
    project.configure({"segment": {"min_size": 4}})
    project.run()
    record = json.loads((project.results / "provenance.json").read_text())
    assert [name for name in record["made"] if "predict" in name] == ["predict/train/0-of-2", "predict/train/1-of-2"]
    assert {"ingest/train/0-of-2", "train/model", "choose_threshold/all"} <= set(record["made"])
    assert "earlier" not in json.dumps(record) + (project.results / "ro-crate-metadata.json").read_text()


def test_a_partial_target_and_other_times_leave_the_record_of_the_report(
    finished: Project, copy_of_finished: Project
) -> None:
    """Another threshold, but only the fragments are asked for: the report and its record stay those of the old one."""
    project = copy_of_finished
    project.configure({"segment": {"threshold": 0.3}})
    target = "results/receipts/segment/train/segmentation/0-of-2.json"
    ran = project.run(target)
    assert ran.rules == {"segment"}
    assert f"receipt       {target}" in ran.output
    assert "(segment.threshold was auto, is 0.3), and --touch would" in project.run("--touch", fails=True).output
    project.configure({"segment": {"threshold": "auto"}})
    assert "Nothing was made: --touch only changes times" in project.run("--touch").output
    for name in ("run_config.yaml", "provenance.json", "ro-crate-metadata.json", "report.html"):
        assert (project.results / name).read_text() == (finished.results / name).read_text()


def test_a_segmentation_without_objects_is_told(copy_of_finished: Project) -> None:
    project = copy_of_finished
    project.configure({"segment": {"min_size": 10**6}})
    ran = project.run()
    assert ran.rules == {"merge", "relabel", "evaluate", "report"}
    assert "train: 0 objects; V_rand of the objects 0." in ran.output
    warning = "volume 'train': its segmentation holds no object"
    assert f"WARNING: {warning}" in ran.output
    assert 'role="alert"' in (project.results / "report.html").read_text()


def test_all_that_runs_wrote_can_be_removed(copy_of_finished: Project) -> None:
    assert remove_results(copy_of_finished.results) == ([], [])
    assert not copy_of_finished.results.exists()
