"""The page of the augmentation, written by the script of its rule, of a volume of which one section is annotated."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.scripts.conftest import Project, Refused
from unet.training.synthetic import synthesise

REPORT = Path(__file__).parents[2] / "workflow" / "report"


def write_page(project: Project, training: list[str]) -> str:
    """Run the script with the arguments of the rule; returns the page."""
    config, page = project.config, project.folder / "results" / "augmentation.html"
    volumes = {
        "surveys": [project.receipt("survey", name) for name in training],
        "intensity_statistics": [project.receipt("intensity_statistics", name) for name in training],
        "folders": [project.stores(name) for name in training],
    }
    templates = {"template": REPORT / "augmentation.html.j2", "report_template": REPORT / "report.html.j2"}
    model, augment = config.model.model_dump(), config.train.augment.model_dump()
    what = {"model_config": model, "tile": config.train.tile, "loss_region": config.train.loss_region}
    what |= {"augment": augment, "seed": 0}
    project.job(
        "augmentation_preview",
        project.receipt("augmentation_preview", "none"),
        page=page,
        **volumes,
        **templates,
        **what,
    )
    return page.read_text()


def test_the_page_shows_the_section_that_is_annotated(project: Project) -> None:
    raw, cells = (volume[:, :48, :48] for volume in synthesise(sections=6, size=64, seed=5))
    annotated = np.where(np.arange(6)[:, None, None] == 4, cells, 999)
    files = {"raw": project.folder / "raw.tif", "labels": project.folder / "labels.tif"}
    for path, values in zip(files.values(), (raw, annotated), strict=True):
        tifffile.imwrite(path, values.astype(np.uint16), photometric="minisblack")
    paths = {name: str(path) for name, path in files.items()}
    project.settings["volumes"] = {"train": {**paths, "voxel_size_nm": [50, 4, 4], "ignore_id": 999}}
    project.intensity_statistics("train")
    weights = project.config.weights.model_dump()
    volume = project.config.volumes["train"].model_dump()
    labelled = [project.receipt("intensity_statistics", "train")]
    drawn = {"volume": volume, "weights": weights, "check_model": project.receipt("check_model", "train")}
    targets = project.each_range("targets", "train", intensity_statistics=labelled[0], labelled=labelled, **drawn)
    made = {"own_targets": targets, "training_targets": targets, "weights": weights}
    project.each_range("weight_map", "train", **made)
    page = write_page(project, ["train"])
    assert "lie around voxel 4, 32, 32" in page
    assert page.count("data:image/png") > 30


def test_without_training_volumes_there_is_no_page(project: Project) -> None:
    project.settings["volumes"] = {"train": {"raw": "raw.tif", "labels": "labels.tif"}}
    with pytest.raises(Refused, match="no training volumes"):
        write_page(project, [])
