"""Removal of what runs wrote: everything else stays, and other folders are refused."""

from pathlib import Path

import pytest

from unet.run.removal import RemovalError, remove_results
from unet.storage.files import write_json


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results"
    write_json(folder / "receipts/survey/train.json", {"address": None})
    write_json(folder / "receipts/survey/far.json", {"address": "s3://bucket/run"})
    for path in ("volumes/train/raw.zarr/0/c/0", "volumes/train/.raw.zarr.lock", "volumes/train/segmentation-tables/a"):
        write_json(folder / path, {})
    for path in (
        "volumes/train/objects.csv",
        "volumes/train/inside-mitochondria.csv",
        "volumes/train/contacts.parquet",
    ):
        write_json(folder / path, {})
    for path in ("model/model.pt", "model/training.jsonl", "report.html", "logs/plan/plan.log", "sample/raw.tif"):
        write_json(folder / path, {})
    write_json(folder / "report/train/raw/1-1-1/0-0-0.webp", {})
    return folder


def test_all_is_gone_and_stores_at_an_address_are_told(results: Path) -> None:
    assert remove_results(results) == ([], ["s3://bucket/run/far"])
    assert not results.exists()


def test_what_no_run_writes_stays(results: Path) -> None:
    own = [results / "notes.txt", results / "volumes/train/corrected.zarr/0", results / "model/readme.md"]
    for path in own:
        write_json(path, {})
    assert remove_results(results)[0] == sorted(own)
    assert all(path.exists() for path in own)
    assert not (results / "volumes/train/raw.zarr").exists()


def test_a_link_is_removed_but_not_what_it_points_to(results: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "large/0", {})
    (results / "volumes/train/probability.zarr").symlink_to(tmp_path / "large")
    remove_results(results)
    assert (tmp_path / "large/0").exists()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "receipts/2026/january.json", {})
    with pytest.raises(RemovalError, match="is not a folder of results"):
        remove_results(tmp_path)
    with pytest.raises(RemovalError, match="is no folder"):
        remove_results(tmp_path / "none")
    assert (tmp_path / "receipts/2026/january.json").exists()


def test_a_run_that_is_under_way_is_not_disturbed(results: Path) -> None:
    write_json(results.parent / ".snakemake/locks/0.input.lock", {})
    with pytest.raises(RemovalError, match="a run is under way"):
        remove_results(results)
    assert (results / "model/model.pt").exists()
