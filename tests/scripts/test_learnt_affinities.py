"""From labels to stored affinities, script by script: ids as targets, one named channel per offset, any blocks."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from tests.scripts.calls import not_covered
from tests.scripts.conftest import SCRIPTS, Project
from tests.scripts.test_chain import NotedProject, stack
from unet.config.slurm import SlurmConfig
from unet.network.model_file import load_model
from unet.network.model_header import read_header
from unet.storage.files import read_json
from unet.training.synthetic import synthesise

UNKNOWN = 2**32 - 1
CHANNELS = ("z+1", "y+1", "x+1", "x+3")
SETTINGS: dict[str, Any] = {
    "storage": {"chunk": [2, 16, 16], "block": [4, 32, 32]},
    "model": {"output": "affinities", "dimensions": 3, "offsets": [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 3]]},
    "train": {
        **{"tile": [20, 28, 28], "steps": 3, "validation": ["train"], "validation_steps": 3, "validation_crops": 1},
        "affinities": {"shape_descriptors": {"sigma_nm": 16}},
    },
    "predict": {"tile": [20, 28, 28]},
    "segment": {"method": "watershed", "agglomerate": {"method": "average_linkage"}},
}


def learnt(folder: Path) -> NotedProject:
    """A volume of touching cells, a part not annotated and a part without tissue, and the network it taught."""
    raw, ids = (volume[:, :40, :36] for volume in synthesise(sections=6, size=64, seed=5))
    ids = ids.astype(np.uint16)
    ids[:, :6] = 999
    mask = np.ones(raw.shape, np.uint8)
    mask[:, :, :5] = 0
    files = {name: stack(folder / f"{name}.tif", v) for name, v in (("raw", raw), ("labels", ids), ("mask", mask))}
    volume = {**files, "voxel_size_nm": [8, 8, 8], "ignore_id": 999}
    project = NotedProject(folder, {**SETTINGS, "volumes": {"train": volume}})
    prepare(project)
    return project


def prepare(project: Project) -> None:
    """All jobs up to the model."""
    config, name = project.config, "train"
    project.intensity_statistics(name)
    grey, survey = project.receipt("intensity_statistics", name), project.receipt("survey", name)
    volume, weights, output = config.volumes[name].model_dump(), config.weights.model_dump(), "affinities"
    given = {"intensity_statistics": grey, "check_model": project.receipt("check_model", name), "labelled": [grey]}
    targets = project.each_range("targets", name, **given, volume=volume, weights=weights, output=output)
    folder = {"survey": survey, "folder": project.stores(name)}
    project.job(
        *("check_labels", project.receipt("check_labels", name)),
        **{**folder, "volume": volume, "label_check": "error", "used": True, "output": output},
        **{"intensity_statistics": grey, "targets": targets, "training_targets": targets},
    )
    how = {"weights": weights, "affinities": config.train.affinities.model_dump()}
    weighted = project.each_range("weight_map", name, own_targets=targets, training_targets=targets, **how)
    model = project.folder / "results" / "model"
    inputs = {"surveys": [survey], "intensity_statistics": [grey], "targets": targets, "weighted": weighted}
    inputs |= {"checked": project.checked(name)}
    files = {"model": model / "model.pt", "curve": model / "training.jsonl", "folders": [project.stores(name)]}
    settings = {"model_config": config.model.model_dump(), "train": config.train.model_dump()}
    project.job("train", project.receipt("train", "model"), **inputs, **files, **settings, classes=[], code="one")


def inputs_of_predict(project: Project) -> dict[str, Any]:
    """All inputs and parameters of a prediction but the block range."""
    return {
        "intensity_statistics": project.receipt("intensity_statistics", "train"),
        "model": project.folder / "results/model/model.pt",
        "predict": project.config.predict.model_dump(),
        "slurm": SlurmConfig().model_dump(),
        "worker_logs": project.folder / "workers",
    }


def predict(project: Project, threads: int = 1) -> None:
    """Write the store of probabilities."""
    project.each_range("predict", "train", **inputs_of_predict(project), threads=threads)


DIES = """
import os, runpy, signal, sys
from itertools import count
real, numbers = os.replace, count(1)
def replace(*paths):
    if next(numbers) == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*paths)
os.replace = replace
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a script, and ends by SIGKILL before its tenth file gets its name."""


def predict_and_die(project: Project) -> None:
    """Predict the first block range in a process that is killed in the middle."""
    name, block_range = "train", project.block_ranges("train")[0]
    own = {"survey": project.receipt("survey", name), "folder": project.stores(name), "block_range": block_range}
    own |= {"receipt": project.receipt("predict", name, block_range), "code": "one", **inputs_of_predict(project)}
    start = f"import sys; sys.argv = sys.argv[1:]{DIES}"
    command = [sys.executable, "-c", start, str(SCRIPTS / "predict.py"), json.dumps(own, default=str)]
    ended = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr


@pytest.fixture(scope="module")
def affinities(tmp_path_factory: pytest.TempPathFactory) -> NotedProject:
    """All of it, up to the probabilities."""
    project = learnt(tmp_path_factory.mktemp("affinities"))
    predict(project)
    return project


def test_targets_are_ids_of_what_is_annotated_within_the_tissue(affinities: NotedProject) -> None:
    targets, labels = affinities.array("train", "targets"), affinities.array("train", "labels")
    outside = np.zeros(targets.shape, bool)
    outside[:, :6], outside[:, :, :5] = True, True
    assert (targets[outside] == UNKNOWN).all()
    np.testing.assert_array_equal(targets[~outside], labels[~outside])
    np.testing.assert_array_equal(affinities.array("train", "weights"), ~outside)
    counted = read_json(affinities.receipt("check_labels", "train"))["class_voxels"]
    assert counted == {"membrane": (targets == 0).sum(), "interior": ((targets > 0) & ~outside).sum()}


def test_the_model_file_names_the_offsets_and_says_what_it_predicts(affinities: NotedProject) -> None:
    header = read_header(affinities.folder / "results/model/model.pt")
    assert (header["classes"], header["model"]["output"]) == (list(CHANNELS), "affinities")
    network, _ = load_model(affinities.folder / "results/model/model.pt")
    assert network(torch.zeros(1, 1, *SETTINGS["train"]["tile"])).shape[1] == len(CHANNELS)  # no descriptors
    receipt = read_json(affinities.receipt("train", "model"))
    assert receipt["validation_score"] == pytest.approx(np.exp(-receipt["validation_loss"]))


def test_a_store_of_probabilities_has_a_named_channel_per_offset(affinities: NotedProject) -> None:
    image = affinities.volume("train").image("probability")
    assert (image.spec.channels, image.spec.dtype) == (CHANNELS, "uint8")
    metadata = read_json(affinities.stores("train") / "probability.zarr/zarr.json")["attributes"]["ome"]
    assert [channel["label"] for channel in metadata["omero"]["channels"]] == list(CHANNELS)
    probability = affinities.array("train", "probability")
    assert not probability[..., :5].any()
    assert probability[..., 5:].std() > 1


def test_whatever_a_job_calls_is_covered_by_the_digest_of_its_rule(affinities: NotedProject) -> None:
    assert affinities.calls
    calls = {rule: noted for rule, noted in affinities.calls.items() if rule != "check_labels"}  # makes log lines
    found = {rule: not_covered(noted, SCRIPTS / f"{rule}.py") for rule, noted in calls.items()}
    assert found == {rule: set() for rule in calls}


def test_objects_are_scored_and_no_threshold_of_a_class(affinities: NotedProject) -> None:
    """The true objects as segmentation."""
    source, labels = affinities.volume("train"), affinities.array("train", "labels")
    segmentation = source.create("segmentation", "uint32", kind="label")
    for box in source.layout.grid.boxes():
        segmentation.write_block(box, np.where(labels == UNKNOWN, 0, labels)[box.slices])
    evaluation = affinities.stores("train") / "evaluation.json"
    table, volume = affinities.stores("train") / "overlap.npz", affinities.config.volumes["train"].model_dump()
    how = {"volume": volume, "foreground": None, "sections_alone": False, "fixed_threshold": 0.5}
    files = {"folder": affinities.stores("train"), "survey": affinities.receipt("survey", "train")}
    found = affinities.job("evaluate", evaluation, evaluation=evaluation, table=table, **files, **how)
    scores = found["scores"]
    assert (scores["adapted_rand_error"], scores["voi_split"], scores["voi_merge"]) == pytest.approx((0, 0, 0))
    assert scores["class_iou"] == {"background": 1, "interior": 1}
    assert (scores["segmentation_v_rand"], scores["segmentation_v_info"]) == pytest.approx((1, 1), abs=1e-6)
    assert not {"v_rand", "threshold"} & scores.keys()
    assert found["sweep"] == []


def test_other_blocks_a_kill_and_threads_give_the_same_probabilities(affinities: NotedProject, tmp_path: Path) -> None:
    storage = {"chunk": [2, 8, 8], "block": [2, 16, 24]}
    other = Project(tmp_path / "other", {**affinities.settings, "storage": storage})
    shutil.copytree(affinities.folder / "results/model", other.folder / "results/model")
    other.intensity_statistics("train")
    predict_and_die(other)
    predict(other, threads=3)
    first = other.block_ranges("train")[0]
    made = read_json(other.receipt("predict", "train", first))["run"]["blocks_made"]
    assert 0 < made < len(other.volume("train").blocks(first))
    assert other.volume("train").layout.block != affinities.volume("train").layout.block
    np.testing.assert_array_equal(other.array("train", "probability"), affinities.array("train", "probability"))


def test_objects_of_annotated_interiors_are_the_ids(tmp_path: Path) -> None:
    """The ids are those of store `labels`, but only `classes` knows what nobody annotated."""
    project = Project(tmp_path, {"volumes": {"train": {"raw": "", "labels": "", "label_kind": "interior"}}})
    interior = np.zeros((1, 16, 16), np.uint8)
    interior[:, 2:6, 2:6], interior[:, 9:, 9:], interior[:, 0] = 255, 255, 7
    raw = np.random.default_rng(0).integers(0, 255, interior.shape).astype(np.uint8)
    tifffile.imwrite(tmp_path / "raw.tif", raw, photometric="minisblack")
    tifffile.imwrite(tmp_path / "labels.tif", interior, photometric="minisblack")
    given = {"raw": str(tmp_path / "raw.tif"), "labels": str(tmp_path / "labels.tif"), "ignore_id": 7}
    project.settings["volumes"]["train"] |= {**given, "voxel_size_nm": [50, 4, 4]}
    project.intensity_statistics("train")
    source = project.volume("train")
    ids = np.where(interior == 255, np.where(np.arange(16) < 8, 3, 8), 0).astype(np.uint32)
    [box] = source.layout.grid.boxes()
    source.create("labels", "uint32", kind="label").write_block(box, ids)
    grey = project.receipt("intensity_statistics", "train")
    common = {"check_model": project.receipt("check_model", "train"), "labelled": [grey], "output": "affinities"}
    volume, weights = project.config.volumes["train"].model_dump(), project.config.weights.model_dump()
    project.each_range("targets", "train", intensity_statistics=grey, **common, volume=volume, weights=weights)
    np.testing.assert_array_equal(project.array("train", "targets"), np.where(interior == 7, UNKNOWN, ids))
