"""A given model file describes its network, whatever the section `model` of the configuration says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.scripts.conftest import Project
from unet.config.label_kinds import UNLABELLED
from unet.config.model import ModelConfig
from unet.network.model import build_model
from unet.network.model_file import save_model

CLASSES = ["membrane", "interior"]
BLANK = 2
"""A single section that was not imaged: for a network in 2-D nothing is there, one in 3-D sees its neighbours."""


def given(path: Path, dimensions: int) -> str:
    """A model file of this workflow."""
    model = ModelConfig(depth=2, base_channels=4, dimensions=dimensions)  # type: ignore[arg-type]
    save_model(path, build_model(model, classes=2), model, CLASSES, normalisation={}, voxel_size_nm=(50, 4, 4))
    return str(path)


def prepared(project: Project, dimensions: int) -> dict[str, Any]:
    """An ingested volume with a blank section that is only scored, with a given model; the receipt of `check_model`."""
    raw = np.random.default_rng(0).integers(1, 255, (5, 70, 60), dtype=np.uint8)
    raw[BLANK] = 0
    files = {"raw": project.folder / "raw.tif", "labels": project.folder / "labels.tif"}
    tifffile.imwrite(files["raw"], raw, photometric="minisblack")
    cells = np.indices(raw.shape)[2] // 20 + 1
    tifffile.imwrite(files["labels"], cells.astype(np.uint16), photometric="minisblack")
    volume = {"voxel_size_nm": [50, 4, 4], **{key: str(path) for key, path in files.items()}}
    project.settings = {
        "volumes": {"train": volume},
        "model": {"checkpoint": given(project.folder / "given.pt", dimensions)},
        "train": {"volumes": []},
        "evaluate": {"volumes": ["train"]},
    }
    project.intensity_statistics("train")
    asked: dict[str, Any] = {"asked": {}, "normalisation": {}, "trained_on": None}
    asked |= {"tile": None, "loss_region": "exact"}
    model = {"checkpoint": project.config.model.checkpoint, "model_config": project.config.model.model_dump()}
    surveys = {"volumes": ["train"], "surveys": [project.receipt("survey", "train")]}
    found: dict[str, Any] = project.job(
        "check_model", project.receipt("check_model", "train"), **surveys, **model, **asked
    )
    return found


@pytest.mark.parametrize(("dimensions", "sections"), [(2, 4), (3, 5)])
def test_a_blank_section_counts_as_the_given_model_sees_it(project: Project, dimensions: int, sections: int) -> None:
    assert prepared(project, dimensions)["dimensions"] == dimensions
    assert project.config.model.dimensions == 2
    grey, fit = project.receipt("intensity_statistics", "train"), project.receipt("check_model", "train")
    inputs = {"check_model": fit, "intensity_statistics": grey, "labelled": [grey]}
    volume, weights = project.config.volumes["train"].model_dump(), project.config.weights.model_dump()
    project.each_range("targets", "train", **inputs, volume=volume, weights=weights)
    known = project.array("train", "targets") != UNLABELLED
    assert known.any((1, 2)).sum() == sections

    source = project.volume("train")
    image = source.create("probability", "uint8", channels=["interior"])
    for box in source.layout.grid.boxes():
        image.write_block(box, np.full((1, *box.shape), 255, np.uint8))
    what = {"folder": project.stores("train"), "foreground": None, "code": "one", "checked": project.checked("train")}
    survey, sweep = project.receipt("survey", "train"), project.receipt("threshold_sweep", "train")
    assert project.job("threshold_sweep", sweep, survey=survey, predicted=[], **inputs, **what)["sections"] == sections
