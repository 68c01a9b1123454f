"""Statistics of a volume over its block ranges: what is left out, what the journals hold, and which rule counts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.scripts.conftest import Project, Refused
from unet.storage.files import read_json
from unet.volumes.intensity import Normalisation


def prepared(folder: Path, raw: np.ndarray, **settings: Any) -> Project:
    """A project with one volume, which is not learnt from."""
    folder.mkdir()
    tifffile.imwrite(folder / "raw.tif", raw, photometric="minisblack")
    volumes = {"train": {"raw": str(folder / "raw.tif"), "voxel_size_nm": [50, 4, 4]}}
    unlearnt = {"model": {"checkpoint": "m"}, "train": {"volumes": []}}
    return Project(folder, {"volumes": volumes, **unlearnt, **settings})


@pytest.fixture
def bare() -> np.ndarray:
    """Tissue without a frame."""
    return np.random.default_rng(0).integers(1, 255, (2, 70, 60), dtype=np.uint8)


def test_a_framed_volume_has_the_statistics_and_the_sight_of_the_bare_one(tmp_path: Path, bare: np.ndarray) -> None:
    framed = np.pad(bare, ((0, 1), (37, 40), (50, 20)))  # and a blank section
    project = prepared(tmp_path / "framed", framed)
    (found,) = project.intensity_statistics("train")
    (expected,) = prepared(tmp_path / "bare", bare).intensity_statistics("train")
    alike = ("mean", "std", "centre", "scale", "p01", "p99", "count")
    assert {key: found[key] for key in alike} == {key: expected[key] for key in alike}
    assert (found["left_out"], found["fill_values"]) == (framed.size - bare.size, [0])
    assert "constant regions of value 0" in (project.folder / "results/logs/intensity_statistics.log").read_text()

    normalisation, volume = Normalisation.of([found]), project.volume("train")
    grey = volume.raw_without_blanks(normalisation)
    shape = volume.layout.shape
    for box in volume.layout.grid.boxes():
        tissue = volume.tissue_mask(box, normalisation)
        assert tissue is not None
        np.testing.assert_array_equal(tissue, framed[box.slices] > 0)
        seen = np.where(framed > 0, framed, round(expected["mean"])).astype(np.uint8)
        np.testing.assert_array_equal(grey.read(box), seen[box.slices])
        around = box.grown((0, 9, 9))
        inner = around.clipped(shape).relative_to(around.start).slices
        np.testing.assert_array_equal(grey.read_mirrored(around)[inner], seen[around.clipped(shape).slices])


def test_thresholds_are_not_scored_on_blank_sections(tmp_path: Path, bare: np.ndarray) -> None:
    """Nothing can be found there, so such a section would lower the score of every threshold."""
    project = prepared(tmp_path / "blank", np.pad(bare, ((0, 1), (0, 0), (0, 0))))
    cells = np.indices((3, *bare.shape[1:]))[2] // 20 + 1
    tifffile.imwrite(project.folder / "labels.tif", cells.astype(np.uint16), photometric="minisblack")
    project.settings["volumes"]["train"]["labels"] = str(project.folder / "labels.tif")
    project.intensity_statistics("train")
    volume, grey = project.volume("train"), project.receipt("intensity_statistics", "train")
    image = volume.create("probability", "uint8", channels=["interior"])
    for box in volume.layout.grid.boxes():
        image.write_block(box, np.full((1, *box.shape), 255, np.uint8))
    inputs = {"survey": project.receipt("survey", "train"), "check_model": project.receipt("check_model", "train")}
    inputs |= {"intensity_statistics": grey, "predicted": [], "labelled": [], "checked": project.checked("train")}
    what = {"folder": project.stores("train"), "foreground": None, "code": "one"}
    assert (
        project.job("threshold_sweep", project.receipt("threshold_sweep", "train"), **inputs, **what)["sections"] == 2
    )


def test_counts_are_beside_the_receipts_and_not_in_the_journals(tmp_path: Path, bare: np.ndarray) -> None:
    project = prepared(tmp_path / "one", bare.astype(np.uint16) * 200)
    project.intensity_statistics("train")
    receipts = project.folder / "results/receipts"
    assert max(len(line) for path in receipts.rglob("*.jsonl") for line in path.read_text().splitlines()) < 300
    first, *_ = sorted((receipts / "histogram/train").glob("*.npz"))
    first.unlink()
    survey, fit = project.receipt("survey", "train"), project.receipt("check_model", "train")
    files = {"survey": survey, "check_model": fit, "block_ranges": list((receipts / "ingest/train").glob("*.json"))}
    files["counted"] = sorted((receipts / "histogram/train").glob("*.json"))
    with pytest.raises(
        Refused, match=r"0-of-2\.npz is missing, or differs from what was written; remove .*0-of-2\.json"
    ):
        project.job("intensity_statistics", project.receipt("intensity_statistics", "train"), **files, normalisation={})


def test_the_rule_of_a_given_model_counts(tmp_path: Path, bare: np.ndarray) -> None:
    project = prepared(tmp_path / "one", np.pad(bare, ((0, 0), (90, 90), (90, 90))))
    project.rule_of_model = {"ignore_value": "none", "percentiles": [5, 95]}
    (found,) = project.intensity_statistics("train")
    assert (found["left_out"], found["centre"]) == (0, pytest.approx((found["scale"] * 2) / 2))
    written = read_json(project.receipt("intensity_statistics", "train"))["normalisation"]
    assert (written["ignore_value"], written["percentiles"]) == ("none", [5, 95])


def test_noise_around_the_tissue_is_told(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    raw = random.integers(60, 200, (2, 40, 40), np.uint8)
    raw[:, :20] = random.integers(0, 3, (2, 20, 40))
    prepared(tmp_path / "one", raw).intensity_statistics("train")
    log = (tmp_path / "one/results/logs/intensity_statistics.log").read_text()
    assert "WARNING volumes.train.raw, channel 0: 50 % of the voxels have intensities from 0 to 2, far from all" in log
    assert "set a `mask`" in log


def test_a_volume_of_one_value_is_told(tmp_path: Path) -> None:
    project = prepared(tmp_path / "one", np.full((2, 40, 40), 7, np.uint8))
    (found,) = project.intensity_statistics("train")
    assert (found["std"], found["left_out"]) == (0, 0)
    log = (project.folder / "results/logs/intensity_statistics.log").read_text()
    assert "WARNING volumes.train.raw, channel 0: all 3200 voxels have the value 7" in log


def test_files_that_were_open_elsewhere_while_the_run_was_planned(tmp_path: Path, bare: np.ndarray) -> None:
    """Then the plan has no block ranges. An HDF5 file was closed between the plan and `survey`."""
    project = prepared(tmp_path / "a", bare)
    project.each_range = lambda *_, **__: []  # type: ignore[method-assign]
    with pytest.raises(Refused, match=r"volumes\.train: its files could not be read when .*run the same command again"):
        project.intensity_statistics("train")
