"""The end of a run tells what it made, where, and of failed jobs each reason once."""

from pathlib import Path

from unet.run.report.headline import headline
from unet.run.summary import (
    failure_lines,
    failures,
    is_reported,
    lines_of_run,
    new,
    notes_of_failures,
    products,
    written,
)
from unet.storage.files import write_json


def make(results: Path, *paths: str) -> None:
    for path in paths:
        write_json(results / path, {})


def test_only_what_is_new_is_told(tmp_path: Path) -> None:
    make(tmp_path, "run_config.yaml", "receipts/train/model.json", "receipts/relabel/a/segmentation/0-of-1.json")
    before = written(tmp_path)
    make(tmp_path, "receipts/verify/all.json", "report.html")
    made = new(before, written(tmp_path))
    assert products(tmp_path, made) == [("checks", f"{tmp_path}/receipts/verify/all.json")], "it adds to the page"


def test_a_whole_run_tells_of_its_report_and_of_each_segmentation_once(tmp_path: Path) -> None:
    make(tmp_path, "run_config.yaml", "volumes/a/evaluation.json", "receipts/predict/a/0-of-2.json")
    make(tmp_path, *(f"receipts/relabel/{volume}/segmentation/{k}-of-2.json" for volume in "ab" for k in (0, 1)))
    write_json(tmp_path / "receipts/survey/b.json", {"address": "s3://bucket/run"})
    assert products(tmp_path, written(tmp_path)) == [
        ("report", f"{tmp_path}/report.html"),
        ("segmentation", f"{tmp_path}/volumes/a/segmentation.zarr"),
        ("segmentation", "s3://bucket/run/b/segmentation.zarr"),
    ]


def test_scores_are_told_of_a_run_that_has_made_the_report_alone(tmp_path: Path) -> None:
    make(tmp_path, "volumes/a/evaluation.json")
    write_json(tmp_path / "scores.json", {"a": {"stored_objects": 7, "segmentation_v_rand": 0.9}})
    made = written(tmp_path)
    assert not is_reported(tmp_path, made)
    assert lines_of_run(tmp_path, made) == [f"scores        {tmp_path}/volumes/a/evaluation.json"]
    make(tmp_path, "run_config.yaml")
    made = written(tmp_path)
    assert is_reported(tmp_path, made)
    assert lines_of_run(tmp_path, made)[0] == f"report        {tmp_path}/report.html"
    assert any("a: 7 objects" in line for line in lines_of_run(tmp_path, made))


def test_jobs_that_failed_of_one_reason_are_told_together(tmp_path: Path) -> None:
    make(tmp_path, "logs/survey/old.error")
    before = notes_of_failures(tmp_path)
    for k in range(5):
        write_json(tmp_path / f"logs/ingest/a/{k}-of-5.error", {"message": "no space left"})
    write_json(tmp_path / "logs/check_model/b.error", {"message": "other voxels"})
    lines = failure_lines(failures(new(before, notes_of_failures(tmp_path))))
    logs = [f"    log: {tmp_path}/logs/ingest/a/{k}-of-5.log" for k in range(3)]
    assert lines == [
        *("6 jobs failed:", "other voxels", f"    log: {tmp_path}/logs/check_model/b.log"),
        *("no space left", *logs, "    and 2 more"),
    ]


def test_the_headline_is_about_the_stored_objects_and_warns_where_there_are_none() -> None:
    scores = {"stored_objects": 0, "segmentation_v_rand": 0.004, "v_rand": 1.0, "threshold": 0.5}
    first, warning = headline({"train": scores})
    assert first == "train: 0 objects; V_rand of the objects 0.0040; V_rand of thresholding at 0.50 1.0000"
    assert warning.startswith("WARNING: volume 'train': its segmentation holds no object")
