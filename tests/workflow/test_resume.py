"""What runs again and what does not: after nothing, a parameter, the code or the model changed, and after a kill."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Project

SEGMENTING = {"segment", "merge", "relabel", "evaluate", "report"}
BLOCKS = 18


@pytest.fixture(scope="module")
def slow_prediction() -> dict[str, Any]:
    """Settings with which a block takes about half a second: small tiles, each seen from eight sides."""
    return {"predict": {"tile": 24, "average": "symmetries"}}


def traces(project: Project, rule: str, store: str) -> dict[str, Any]:
    """What a rule left, with times: its receipts and the files of its store."""
    folder = project.results / "receipts" / rule
    files = [*folder.rglob("*.json*"), *project.block_files(store)]
    return {str(path.relative_to(project.folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def latest_fingerprints(project: Project, rule: str) -> dict[str, str]:
    """The fingerprint that each block was last recorded under."""
    return {record["box"]: record["fingerprint"] for record in project.records(rule)}


def model_weights(project: Project) -> dict[str, torch.Tensor]:
    return torch.load(project.results / "model/model.pt", weights_only=True)["weights"]


def losses(project: Project) -> dict[int, float]:
    """By step; a line that is being written does not count yet."""
    lines = (project.results / "model/training.jsonl").read_text().splitlines(keepends=True)
    return {line["step"]: line["loss"] for line in map(json.loads, (text for text in lines if text.endswith("\n")))}


def test_second_run_does_nothing(copy_of_finished: Project) -> None:
    ran = copy_of_finished.run()
    assert "Nothing to be done" in ran.output
    assert not ran.jobs


def test_changed_threshold_segments_again_but_does_not_predict(copy_of_finished: Project) -> None:
    before = traces(copy_of_finished, "predict", "probability")
    segmented = copy_of_finished.content("segmentation")
    copy_of_finished.configure({"segment": {"threshold": 0.3}})
    assert copy_of_finished.run().rules == SEGMENTING
    assert traces(copy_of_finished, "predict", "probability") == before
    assert copy_of_finished.content("segmentation") != segmented


def test_no_block_of_another_model_survives(finished: Project, copy_of_finished: Project) -> None:
    """Train another model in the same folder, then the first one again: each time every block is made anew."""
    copy_of_finished.configure({"train": {"steps": 30}})
    assert copy_of_finished.run("--until", "predict").rules == {"train", "predict"}
    other = latest_fingerprints(copy_of_finished, "predict")
    assert len(other) == copy_of_finished.blocks_made("predict") == BLOCKS
    assert set(other.values()) == {copy_of_finished.receipt("predict", "train", "0-of-2")["fingerprint"]}
    assert set(other.values()).isdisjoint(latest_fingerprints(finished, "predict").values())
    assert (copy_of_finished.array("probability") != finished.array("probability")).mean() > 0.2

    copy_of_finished.configure({"train": {"steps": 100}})
    assert copy_of_finished.run("--until", "predict").rules == {"train", "predict"}
    assert latest_fingerprints(copy_of_finished, "predict") == latest_fingerprints(finished, "predict")
    assert copy_of_finished.content("probability") == finished.content("probability")


def test_edited_module_runs_the_rules_again_that_use_it(finished: Project, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for part in ("unet", "scripts", "workflow", "config"):
        shutil.copytree(finished.root / part, repository / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in finished.root.glob("environment.y*ml"):
        shutil.copy2(file, repository)
    project = finished.copy(tmp_path / "copy", root=repository)
    assert not project.run().jobs, "the copied repository must count as the same"

    module = repository / "unet/components.py"
    documented, comment = '"""A docstring of another wording."""\n', "\n\n# a comment at the end\n"
    _, _, code = module.read_text().split('"""', 2)
    module.write_text(documented + code + comment)
    assert not project.run().jobs, "neither comments nor docstrings are code"

    before = traces(project, "predict", "probability")
    with module.open("a") as text:
        text.write("ANOTHER_STATEMENT = 1\n")
    assert project.run().rules == SEGMENTING
    assert project.blocks_made("segment", "train/segmentation") == BLOCKS
    assert traces(project, "predict", "probability") == before
    assert project.content("segmentation") == finished.content("segmentation")


def test_killed_prediction_redoes_what_is_missing(
    finished: Project, tmp_path: Path, slow_prediction: dict[str, Any]
) -> None:
    whole, killed = finished.copy(tmp_path / "whole"), finished.copy(tmp_path / "killed")
    for project in (whole, killed):
        project.configure(slow_prediction)
    whole.run("--until", "relabel")
    assert whole.blocks_made("predict") == BLOCKS

    old = len(killed.records("predict"))
    killed.kill_when(lambda: len(killed.records("predict")) >= old + 3)
    recorded = len(killed.records("predict")) - old
    assert 3 <= recorded < BLOCKS

    refused = killed.run("--until", "relabel", fails=True)
    assert "--unlock" in refused.output
    killed.run("--unlock")
    killed.run("--until", "relabel")
    assert killed.blocks_made("predict") == BLOCKS - recorded
    for store in ("probability", "segmentation"):
        assert killed.content(store) == whole.content(store)


def test_killed_training_goes_on_from_its_last_state(finished: Project, tmp_path: Path) -> None:
    whole, killed = finished.copy(tmp_path / "whole"), finished.copy(tmp_path / "killed")
    for project in (whole, killed):
        project.configure({"train": {"steps": 300, "seed": 1, "log_steps": 10, "checkpoint_minutes": 1e-4}})
    whole.run("--until", "train")

    state = killed.results / "model/state.pt"
    first = state.stat().st_mtime_ns
    killed.kill_when(lambda: state.stat().st_mtime_ns != first and 50 in losses(killed) and 300 not in losses(killed))
    killed.run("--unlock")
    killed.run("--until", "train")
    assert 0 < killed.receipt("train", "model")["run"]["resumed_from"] < 300
    assert losses(killed) == losses(whole)
    expected = model_weights(whole)
    for name, found in model_weights(killed).items():
        np.testing.assert_array_equal(found.numpy(), expected[name].numpy(), err_msg=name)
