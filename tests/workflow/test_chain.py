"""The whole chain: what it leaves behind, and that the answer does not depend on how the volume was cut."""

from __future__ import annotations

import json
import re
import shutil
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml
import zarr
from scipy import ndimage

from unet.config.predict import PredictConfig
from unet.config.root import Config
from unet.geometry.box import Box
from unet.geometry.mirroring import mirrored_indices
from unet.network.load_predictor import load_predictor
from unet.volumes.intensity import Normalisation
from unet.volumes.volume import Volume

if TYPE_CHECKING:
    from tests.workflow.conftest import Project

AXES = {"probability": ["c", "z", "y", "x"]}
DTYPES = {
    "raw": "uint8",
    "mask": "uint8",
    "labels": "uint32",
    "targets": "uint8",
    "weights": "float32",
    "probability": "uint8",
    "segmentation-fragments": "uint32",
    "segmentation": "uint32",
}


class InMemory:
    """A volume that answers for voxels beyond its faces, all of it in memory."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def read_mirrored(self, window: Box) -> np.ndarray:
        sides = zip(window.start, window.stop, self.values.shape, strict=True)
        return self.values[np.ix_(*(mirrored_indices(lo, hi, n) for lo, hi, n in sides))]


def in_one_box(project: Project) -> np.ndarray:
    """The probability of the whole volume as one box, from the model file and the image files' voxels."""
    volume = Volume.open(project.results / "volumes/train", project.results / "receipts/survey/train.json")
    normalisation = Normalisation.of(project.receipt("intensity_statistics", "train")["statistics"])
    predict = PredictConfig(**yaml.safe_load((project.results / "run_config.yaml").read_text())["predict"])
    predictor, _ = load_predictor(
        project.results / "model/model.pt", predict, normalisation, volume, torch.device("cpu"), threads=1
    )
    box = Box((0, 0, 0), volume.layout.shape)
    return predictor.predict_box(InMemory(project.array("raw")), box) * (project.array("mask") != 0)


def components_of_sections(foreground: np.ndarray) -> np.ndarray:
    """4-connected components of every section, numbered through the volume by their first voxel in scan order."""
    result, last = np.zeros(foreground.shape, np.int64), 0
    for z, section in enumerate(foreground):
        found, number = ndimage.label(section)
        ids, first = np.unique(found, return_index=True)
        rank = np.zeros(number + 1, np.int64)
        rank[ids[np.argsort(first)][ids[np.argsort(first)] > 0]] = last + 1 + np.arange(number)
        result[z] = rank[found]
        last += number
    return result


def scores_of(project: Project) -> dict[str, Any]:
    return json.loads((project.results / "volumes/train/evaluation.json").read_text())["scores"]


def numbers_in(values: Any) -> list[float]:
    if isinstance(values, dict):
        return [number for value in values.values() for number in numbers_in(value)]
    return [values]


@pytest.mark.parametrize("store", DTYPES)
def test_store_is_readable_with_the_documented_axes_and_dtype(finished: Project, store: str) -> None:
    array = zarr.open_array(finished.store(store) / "0", mode="r")
    axes = AXES.get(store, ["z", "y", "x"])
    assert array.dtype == np.dtype(DTYPES[store])
    assert list(array.metadata.dimension_names) == axes
    assert array.shape == (1,) * (len(axes) - 3) + (4, 150, 140)


def test_configuration_beside_the_results_is_the_merged_one(finished: Project) -> None:
    given = yaml.safe_load((finished.folder / "config.yaml").read_text())
    written = yaml.safe_load((finished.results / "run_config.yaml").read_text())
    merged = Config.model_validate(given).model_dump(mode="json")
    del merged["slurm"]["account"]  # who pays stands in no record
    assert written == merged


def test_evaluation_holds_finite_scores(finished: Project) -> None:
    scores = scores_of(finished)
    assert {"v_rand", "v_info", "pixel_error", "adapted_rand_error", "voi_split", "voi_merge"} <= set(scores)
    assert all(isfinite(number) for number in numbers_in(scores))


def test_report_is_one_page_by_itself_that_shows_the_scores(finished: Project) -> None:
    page = (finished.results / "report.html").read_text()
    assert f"{scores_of(finished)['v_rand']:.4f}" in page
    assert "data:image/webp;base64," in page
    assert list((finished.results / "report/train/errors").rglob("*.webp"))  # of sections that are segmented alone, too
    assert not re.findall(r"<(?:script|img|link|iframe)[^>]+(?:src|href)\s*=\s*[\"'](?!data:|#)[^\"']*", page)
    assert not re.search(r"url\(\s*[\"']?(?!data:|#)", page)


def test_probability_is_that_of_the_whole_volume_in_one_box(finished: Project) -> None:
    stored = finished.array("probability")
    assert len(np.unique(stored)) > 50
    np.testing.assert_array_equal(stored, in_one_box(finished))


def test_segmentation_is_that_of_the_whole_volume(finished: Project) -> None:
    threshold = finished.receipt("choose_threshold", "all")["best"]["threshold"]
    above = finished.array("probability")[0] > np.floor(255 * threshold)
    merge = finished.receipt("merge", "train", "segmentation")
    assert 0 < merge["objects"] < merge["fragments"], "no object crosses a block border: the test would show nothing"
    np.testing.assert_array_equal(finished.array("segmentation"), components_of_sections(above))


def test_answer_depends_on_neither_blocks_nor_block_ranges_nor_workers(finished: Project, new_project: Project) -> None:
    """Nor, but for rounding, on the tile."""
    shutil.copy(finished.results / "model/model.pt", new_project.folder / "input/model.pt")
    new_project.configure(
        {
            "model": {"checkpoint": "input/model.pt"},
            "storage": {"chunk": [2, 32, 64], "block": [4, 128, 64]},
            "predict": {"job_voxels": 4 * 4 * 128 * 64, "max_blocks_in_flight": 1},
            "segment": {"threshold": finished.receipt("choose_threshold", "all")["best"]["threshold"]},
            "evaluate": {"volumes": [], "threshold_volumes": []},
        }
    )
    ran = new_project.run()
    assert {job for job in ran.jobs if job.startswith("predict")} == {"predict/train/0-of-2", "predict/train/1-of-2"}
    assert "train" not in ran.rules
    for store in ("probability", "segmentation"):
        np.testing.assert_array_equal(new_project.array(store), finished.array(store))

    new_project.configure({"predict": {"tile": 88}})
    ran = new_project.run("--until", "predict")
    assert ran.rules == {"predict"}
    assert new_project.blocks_made(ran, "predict") == 6
    levels = np.abs(new_project.array("probability").astype(int) - finished.array("probability"))
    assert levels.max() <= 1
