"""The script that checks labels: one line per volume, counts in the receipt, an error for impossible labels."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.scripts.conftest import Project, Refused
from unet.storage.files import read_json
from unet.training.synthetic import synthesise

RAW, CELLS = (values[:, :70, :70] for values in synthesise(sections=2, size=80, seed=2))
MASK = np.where(CELLS > 0, 255, 0).astype(np.uint8)


def stack(path: Path, values: np.ndarray) -> str:
    """A multi-page TIFF."""
    tifffile.imwrite(path, values, photometric="minisblack")
    return str(path)


def looked_at(project: Project, labels: np.ndarray, raw: np.ndarray = RAW, used: bool = True, **settings: Any) -> Any:
    """The receipt of a volume with these labels, in blocks of 1 x 32 x 32 unless `storage` says others."""
    label = {"path": stack(project.folder / "labels.tif", labels), **settings.pop("label", {})}
    files = {"raw": stack(project.folder / "raw.tif", raw), "labels": label}
    storage = {"storage": settings.pop("storage", {})}
    project.settings = {"volumes": {"train": {**files, "voxel_size_nm": [50, 4, 4], **settings}}, **storage}
    project.intensity_statistics("train")
    grey, volume = project.receipt("intensity_statistics", "train"), project.config.volumes["train"]
    assert volume.label_kind == "instances"
    common = {
        "volume": volume.model_dump(),
        "folder": project.stores("train"),
        "survey": project.receipt("survey", "train"),
    }
    weights = project.config.weights.model_dump()
    inputs = {"intensity_statistics": grey, "labelled": [grey], "check_model": project.receipt("check_model", "train")}
    targets = project.each_range("targets", "train", **inputs, volume=volume.model_dump(), weights=weights)
    made = {"intensity_statistics": grey, "targets": targets, "training_targets": targets} if used else {}
    receipt = project.receipt("check_labels", "train")
    return project.job("check_labels", receipt, used=used, label_check=volume.label_check, **common, **made)


def log_of(project: Project) -> str:
    return (project.folder / "results/logs/check_labels.log").read_text()


def test_one_line_and_the_same_numbers_whatever_the_blocks(project: Project, tmp_path: Path) -> None:
    found = looked_at(project, CELLS)
    (tmp_path / "whole").mkdir()
    whole = looked_at(Project(tmp_path / "whole"), CELLS, storage={"chunk": [2, 80, 80], "block": [2, 80, 80]})
    assert {key: one for key, one in found.items() if key != "digest"} == {
        k: v for k, v in whole.items() if k != "digest"
    }
    ids, sizes = np.unique(CELLS[CELLS > 0], return_counts=True)
    targets = project.array("train", "targets")
    assert found["class_voxels"] == {"membrane": np.sum(targets == 0), "interior": np.sum(targets == 1)}
    assert (found["instances"], found["sections"], found["warnings"]) == (len(ids), [2, 2], [])
    assert found["largest_instance"]["voxels"] == sizes.max()
    assert re.search(rf"labels of train: \d+ % membrane, \d+ % interior, {len(ids)} instances, 2 of 2", log_of(project))


def test_an_id_that_rather_means_not_annotated_is_asked_about(project: Project) -> None:
    labels = np.where(np.arange(70) < 30, CELLS, 65535).astype(np.uint16)
    [warning] = looked_at(project, labels)["warnings"]
    assert re.search(r"id 65535, the largest .* holds \d+% of .* next id is \d+\. .*`ignore_id: 65535`", warning)
    assert looked_at(project, labels, ignore_id=65535)["warnings"] == []


@pytest.mark.parametrize("part", [{}, {"offset": [1, 0, 0]}])
def test_mirrored_labels_stop_with_what_to_write(project: Project, part: dict[str, Any]) -> None:
    raw, cells = synthesise(sections=2, size=160, seed=2)
    storage = {"chunk": [1, 64, 64], "block": [1, 64, 64]}
    labels = cells[1:, ::-1] if part else cells[:, ::-1]
    with pytest.raises(Refused, match=r"mirrored along y, .*labels\.tif, flip: \[y\]}`"):
        looked_at(project, labels, raw, storage=storage, label=part)
    assert looked_at(project, labels, raw, storage=storage, label={**part, "flip": ["y"]})["warnings"] == []


NOT_RIGHT = {
    "all zero": ({"labels": np.zeros_like(CELLS)}, r"volumes\.train\.labels: all 9,800 annotated voxels are 0"),
    "a mask of cells": (
        {"labels": MASK},
        r"id 255 holds 100% .* pieces per section \(1 in all\).*label_kind: interior",
    ),
    "white membranes": (
        {"labels": 255 - MASK},
        r"the voxels that are not 0 \(34%\) divide the voxels of 0 into cells, as membranes do",
    ),
    "constant grey values": ({"labels": CELLS, "raw": np.full_like(RAW, 7)}, r"train\.raw: all grey values are equal"),
    "nothing annotated": ({"labels": np.full_like(CELLS, 9), "ignore_id": 9}, r"no voxel of 2 sections is annotated"),
}


@pytest.mark.parametrize("case", NOT_RIGHT)
def test_what_cannot_be_right_stops_with_the_key_that_lets_it_pass(project: Project, case: str) -> None:
    given, words = NOT_RIGHT[case]
    with pytest.raises(Refused, match=words) as refused:
        looked_at(project, **given)
    assert "set `volumes.train.label_check: warn`" in str(refused.value)
    assert not project.receipt("check_labels", "train").exists()


def test_a_key_makes_a_stop_a_warning_which_the_receipt_holds(project: Project) -> None:
    found = looked_at(project, MASK, label_check="warn")
    [warning] = found["warnings"]
    assert "every id is one cell" in warning
    assert f"WARNING {warning}" in log_of(project)


def test_a_class_that_nothing_shows_stops_whatever_the_key_says(project: Project) -> None:
    with pytest.raises(Refused, match=r"train\.volumes \['train'\]: no voxel to learn membrane from.*9,800 interior"):
        looked_at(project, np.ones_like(CELLS), label_check="warn")


def test_labels_that_are_not_used_are_not_judged(project: Project) -> None:
    found = looked_at(project, np.zeros_like(CELLS), used=False)
    assert (found["used"], found["warnings"]) == (False, [])
    assert "labels of train: not used" in log_of(project)
    assert read_json(project.receipt("check_labels", "train")) == found
