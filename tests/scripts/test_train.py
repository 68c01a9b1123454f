"""The script of rule `train`: a finished training is found again, and a stopped one says so when it is tried again."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from tests.scripts.conftest import Project, Refused
from unet.storage.files import read_json
from unet.training.synthetic import synthesise


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """All that a training reads."""
    project = Project(tmp_path_factory.mktemp("prepared"))
    files = {name: project.folder / f"{name}.tif" for name in ("raw", "labels")}
    for path, values in zip(files.values(), synthesise(sections=4, size=64, seed=5), strict=True):
        tifffile.imwrite(path, values[:2, :48, :48].astype(np.uint16), photometric="minisblack")
    paths = {name: str(path) for name, path in files.items()}
    project.settings["volumes"] = {"train": {**paths, "voxel_size_nm": [50, 4, 4]}}
    project.intensity_statistics("train")
    weights, volume = project.config.weights.model_dump(), project.config.volumes["train"].model_dump()
    grey = project.receipt("intensity_statistics", "train")
    inputs = {"intensity_statistics": grey, "labelled": [grey], "check_model": project.receipt("check_model", "train")}
    targets = project.each_range("targets", "train", **inputs, volume=volume, weights=weights)
    project.each_range("weight_map", "train", own_targets=targets, training_targets=targets, weights=weights)
    return project


@pytest.fixture
def ready(prepared: Project, tmp_path: Path) -> Project:
    """A copy of its own."""
    shutil.copytree(prepared.folder, tmp_path / "ready")
    return Project(tmp_path / "ready", prepared.settings)


def train(project: Project, **changes: Any) -> Any:
    """Run the script with changed settings of the training, as Snakemake does: it removes the outputs first."""
    model, config = project.folder / "results" / "model", project.config
    outputs = {"model": model / "model.pt", "curve": model / "training.jsonl"}
    receipt = project.receipt("train", "model")
    for path in (*outputs.values(), receipt):
        path.unlink(missing_ok=True)
    block_ranges = project.block_ranges("train")
    inputs = {
        "surveys": [project.receipt("survey", "train")],
        "intensity_statistics": [project.receipt("intensity_statistics", "train")],
        "targets": [project.receipt("targets", "train", block_range) for block_range in block_ranges],
        "weighted": [project.receipt("weight_map", "train", block_range) for block_range in block_ranges],
        "checked": project.checked("train"),
        "folders": [project.stores("train")],
    }
    settings = {"train": {**config.train.model_dump(), **changes}, "model_config": config.model.model_dump()}
    return project.job("train", receipt, **inputs, **outputs, **settings, classes=config.class_names, code="one")


def log(project: Project) -> str:
    return (project.folder / "results" / "logs" / "train.log").read_text()


def kept(project: Project, receipt: Any) -> Path:
    """The folder of a finished training."""
    return project.folder / "results" / "model" / receipt["fingerprint"]


def test_a_finished_training_is_found_again_after_another_one(ready: Project) -> None:
    first = train(ready)
    model = (kept(ready, first) / "model.pt").read_bytes()
    other = train(ready, learning_rate=0.1)
    assert other["fingerprint"] != first["fingerprint"]
    assert f"{kept(ready, first)} holds another one, with train.learning_rate: 0.01 (" in log(ready)

    assert train(ready) == first
    assert f"this training is finished: its model of step 8 is taken from {kept(ready, first)}" in log(ready)
    assert (ready.folder / "results/model/model.pt").read_bytes() == model
    assert (kept(ready, other) / "state.pt").exists()


def test_a_kept_model_that_is_damaged_is_made_again_from_the_state(ready: Project) -> None:
    first = train(ready)
    (kept(ready, first) / "model.pt").write_bytes(b"")
    again = train(ready)
    assert (again["digest"], again["run"]["resumed_from"]) == (first["digest"], 8)


def test_settings_without_effect_on_the_model_find_it(ready: Project) -> None:
    assert train(ready) == train(ready, spike_factor=None, log_steps=1, checkpoint_minutes=1.0)


def test_a_training_that_diverged_says_so_when_it_is_tried_again(ready: Project) -> None:
    """The weights of the state are broken, so the first loss of the rest is no number."""
    first = train(ready)
    state = torch.load(kept(ready, first) / "state.pt", weights_only=True)
    (kept(ready, first) / "receipt.json").unlink()
    broken = {key: value * float("nan") for key, value in state["model"].items()}
    torch.save({**state, "model": broken, "done": {**state["done"], "step": 4}}, kept(ready, first) / "state.pt")
    with pytest.raises(
        Refused, match=r"training diverged: loss nan .* at step 5\. .*The state of step 4 is kept"
    ) as once:
        train(ready)
    assert "earlier attempt" not in log(ready)
    with pytest.raises(Refused):
        train(ready)
    assert f"an earlier attempt at this training ended, and this one may end the same: {once.value.args[0]}" in log(
        ready
    )
    (kept(ready, first) / "state.pt").unlink()
    assert train(ready)["digest"] == first["digest"]
    assert not (kept(ready, first) / "stopped.json").exists()
    assert read_json(kept(ready, first) / "settings.json")["train"]["steps"] == 8


def test_weights_of_a_model_file_are_continued_whatever_its_path(ready: Project, tmp_path: Path) -> None:
    first = train(ready)
    start = Path(shutil.copy(kept(ready, first) / "model.pt", tmp_path / "start.pt"))
    before = torch.load(start, weights_only=True)["weights"]
    slow = {"steps": 1, "learning_rate": 1e-6, "clip_norm": 1.0}
    second = train(ready, **slow, start_from=str(start))
    after = torch.load(kept(ready, second) / "model.pt", weights_only=True)["weights"]
    learnt = [key for key in before if key.endswith(("weight", "bias"))]
    apart = max(float((after[key] - before[key]).abs().max()) for key in learnt)
    assert 0 < apart < 1e-5
    for key, value in before.items():  # batch normalisation goes on from the file's statistics, too
        assert not key.endswith("num_batches_tracked") or after[key] == value + 1
    assert second["fingerprint"] not in (first["fingerprint"], train(ready, **slow)["fingerprint"])
    moved = start.rename(tmp_path / "moved.pt")
    assert train(ready, **slow, start_from=str(moved)) == second


def test_another_network_is_not_continued_and_all_differences_are_named(ready: Project, tmp_path: Path) -> None:
    start = Path(shutil.copy(kept(ready, train(ready)) / "model.pt", tmp_path / "start.pt"))
    ready.settings["model"] = {**ready.settings.get("model", {}), "block": "residual", "skip": "add"}
    with pytest.raises(Refused, match=r"skip 'concatenate' \(this run: 'add'\), model.block 'plain'"):
        train(ready, start_from=str(start))
