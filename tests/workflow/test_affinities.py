"""A network of affinities in a real run, from image files to stored probabilities."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import tifffile

from tests.workflow.conftest import Project
from unet.training.synthetic import synthesise

if TYPE_CHECKING:
    from pathlib import Path

CONFIG: dict[str, Any] = {
    "volumes": {"train": {"raw": "input/raw.tif", "labels": "input/labels.tif", "voxel_size_nm": [8, 8, 8]}},
    "storage": {"chunk": [2, 16, 16], "block": [6, 32, 32]},
    "model": {"output": "affinities", "dimensions": 3, "depth": 2, "base_channels": 4, "dropout": 0},
    "train": {"steps": 4, "tile": [20, 28, 28], "augment": {"elastic_probability": 0}},
    "predict": {"tile": [20, 28, 28]},
    "segment": {"method": "watershed", "agglomerate": {"method": "average_linkage"}},
    "evaluate": {"volumes": ["train"]},
}


def test_a_run_stores_a_channel_per_default_offset(tmp_path: Path) -> None:
    project = Project(tmp_path)
    (tmp_path / "input").mkdir()
    for name, values in zip(("raw", "labels"), synthesise(sections=6, size=64, seed=5), strict=True):
        tifffile.imwrite(tmp_path / f"input/{name}.tif", values[:, :40, :36], photometric="minisblack")
    project.configure(CONFIG)
    ran = project.run("--until", "predict")
    assert {"targets", "check_labels", "weight_map", "train", "predict"} <= ran.rules
    store = json.loads((project.store("probability") / "zarr.json").read_text())["attributes"]["ome"]
    labels = [channel["label"] for channel in store["omero"]["channels"]]
    assert labels == ["z+1", "y+1", "x+1", "z+3", "y+3", "x+3", "z+9", "y+9", "x+9"]
    assert project.array("probability").shape == (9, 6, 40, 36)
