"""Jobs that run again, and jobs that do not: after nothing, after a changed parameter, code or model, after a kill."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import torch

from unet.storage.digests import fingerprint

if TYPE_CHECKING:
    from pathlib import Path

    from tests.workflow.conftest import Project

SEGMENTING = {"segment", "merge", "relabel", "evaluate", "report"}
BLOCKS = 18
WITHOUT_TISSUE = 2


@pytest.fixture(scope="module")
def slow_prediction() -> dict[str, Any]:
    """Settings with which a block takes some tenths of a second: small tiles, each seen from four sides. No sweep."""
    return {"predict": {"tile": 24, "test_time_augmentation": "flips"}, "segment": {"threshold": 0.5}}


def traces(project: Project, rule: str, store: str) -> dict[str, Any]:
    """Return what a rule left, with times: its receipts and the files of its store."""
    folder = project.results / "receipts" / rule
    files = [*folder.rglob("*.json*"), *project.block_files(store)]
    return {str(path.relative_to(project.folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def latest_fingerprints(project: Project, rule: str) -> dict[str, str]:
    """The job fingerprint under which each block was last recorded; the fingerprint of its inputs follows it."""
    length = len(fingerprint())
    return {record["box"]: record["fingerprint"][:length] for record in project.records(rule)}


def model_weights(project: Project) -> dict[str, torch.Tensor]:
    return torch.load(project.results / "model/model.pt", weights_only=True)["weights"]


def losses(folder: Path) -> dict[int, float]:
    """By step, of the learning curve in a folder; a line that is being written does not count yet."""
    path = folder / "training.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return {line["step"]: line["loss"] for line in map(json.loads, (text for text in lines if text.endswith("\n")))}


def training_under_way(project: Project) -> Path:
    """The folder of the training that has not ended; one that is not there before it begins."""
    model = project.results / "model"
    unfinished = [path.parent for path in model.glob("*/state.pt") if not (path.parent / "receipt.json").exists()]
    return next(iter(unfinished), model / "none")


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
    """Train another model in the same folder, then the first one again: each time the blocks are made anew."""
    project = copy_of_finished
    project.configure({"train": {"steps": 30}})
    ran = project.run("--until", "predict")
    assert ran.rules == {"train", "predict"}
    assert project.blocks_made(ran, "predict") == BLOCKS
    made_with = project.receipt("predict", "train", "0-of-2")["fingerprint"]
    assert latest_fingerprints(project, "predict") == dict.fromkeys(latest_fingerprints(finished, "predict"), made_with)
    assert made_with != finished.receipt("predict", "train", "0-of-2")["fingerprint"]
    assert (project.array("probability") != finished.array("probability")).mean() > 0.2

    project.configure({"train": {"steps": finished.config["train"]["steps"]}})
    ran = project.run("--until", "predict")
    assert project.blocks_made(ran, "predict") == BLOCKS - WITHOUT_TISSUE, (
        "only empty blocks are the same of all models"
    )
    assert project.content("probability") == finished.content("probability")


def test_a_killed_training_of_other_settings_takes_no_model_away(finished: Project, copy_of_finished: Project) -> None:
    """Set back, a partial target finds the model again, trains nothing, and predicts no block anew."""
    project = copy_of_finished
    model = project.results / "model/model.pt"
    project.configure({"train": {"steps": 100_000}})
    project.kill_when(lambda: not model.exists(), "--until", "predict")
    project.run("--unlock")
    project.configure({"train": {"steps": finished.config["train"]["steps"]}})
    ran = project.run("--until", "predict")
    assert ran.rules == {"train", "predict"}
    assert "this training is finished" in ran.output
    assert project.blocks_made(ran, "predict") == 0
    assert model.read_bytes() == (finished.results / "model/model.pt").read_bytes()
    assert "Nothing to be done" in project.run("--until", "predict").output


def test_other_targets_train_anew_though_all_weights_are_the_same(new_project: Project) -> None:
    """Without class balance and borders every weight is 1, so only the targets tell of a wider separation border."""
    project, model = new_project, "results/receipts/train/model.json"
    y, x = np.mgrid[:150, :140] // 20
    touching = np.broadcast_to((1 + 10 * y + x).astype(np.uint16), (4, 150, 140))
    tifffile.imwrite(project.folder / "input/labels.tif", touching, photometric="minisblack")
    plain = {"class_balance": False, "w0": 0.0, "separation_border": 1}
    project.configure({"train": {"steps": 10}, "weights": plain, "predict": {"job_voxels": touching.size}})
    project.run(model)
    weights, targets = project.array("weights"), project.array("targets")

    project.configure({"weights": {"separation_border": 3}})
    assert project.run(model).rules == {"targets", "check_labels", "weight_map", "train"}
    assert (project.array("targets") != targets).any()
    np.testing.assert_array_equal(project.array("weights"), weights)
    assert project.receipt("train", "model")["run"]["resumed_from"] == 0


def test_another_division_finds_every_block_finished(finished: Project, copy_of_finished: Project) -> None:
    project = copy_of_finished
    project.configure({"predict": {"job_voxels": 6 * 2 * 64 * 64}})
    ran = project.run("--until", "predict")
    jobs = {job for job in ran.jobs if job.startswith("predict/")}
    assert jobs == {f"predict/train/{k}-of-3" for k in range(3)}
    for rule in ("ingest", "targets", "weight_map", "predict"):
        assert project.blocks_made(ran, rule) == 0, rule
    assert project.receipt("train", "model")["digest"] == finished.receipt("train", "model")["digest"]
    assert project.content("probability") == finished.content("probability")


def jobs_to_come(project: Project, rule: str) -> int:
    """Return how many jobs of a rule a dry run counts."""
    found = re.search(rf"^{rule} +(\d+)$", project.run("-n").output, re.MULTILINE)
    return int(found[1]) if found else 0


def rules_to_come(project: Project, *targets: str) -> dict[str, int]:
    """Return how many jobs of each rule a dry run counts."""
    output = project.run("-n", *targets).output
    table = output.partition("Job stats:")[2].partition("total")[0]
    return {name: int(jobs) for name, jobs in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}


def test_what_is_scored_makes_nothing_be_learnt_or_ingested_again(copy_of_finished: Project) -> None:
    """Make all of `held`; of `train`, which is no longer scored, and then again, make nothing but its scores."""
    project, scores = copy_of_finished, "results/volumes/{}/evaluation.json"
    held = {**project.config["volumes"]["train"], "sections": [2, 4]}
    del held["mask"]
    both = {"volumes": ["train", "held"]}
    project.configure({"volumes": {"held": held}, "predict": both, "evaluate": {"volumes": ["held"]}})
    project.run("results/receipts/survey/held.json")
    first = dict.fromkeys(
        ("check_model", "intensity_statistics", "check_labels", "threshold_sweep", "merge", "evaluate"), 1
    )
    blockwise = dict.fromkeys(("ingest", "histogram", "targets", "predict", "segment", "relabel"), 1)
    assert rules_to_come(project, scores.format("held")) == {**first, **blockwise}
    project.configure({"evaluate": both})
    assert rules_to_come(project, scores.format("held"), scores.format("train")) == {**first, **blockwise}
    project.configure({"predict": {"volumes": ["train"]}, "evaluate": {"volumes": []}})
    assert set(rules_to_come(project)) <= {"report", "all"}


def test_a_report_whose_tiles_were_deleted_is_written_again(copy_of_finished: Project) -> None:
    shutil.rmtree(copy_of_finished.results / "report")
    assert rules_to_come(copy_of_finished) == {"report": 1, "all": 1}


def test_headers_that_were_read_count_at_once_also_of_a_volume_that_comes_into_sight_late(new_project: Project) -> None:
    """Only the training needs `choice`, and the training comes into sight when `train` is surveyed."""
    new_project.configure(
        {"volumes": {"choice": new_project.config["volumes"]["train"]}, "train": {"validation": ["choice"]}}
    )
    new_project.run(*(f"results/receipts/survey/{name}.json" for name in ("train", "choice")))
    assert (jobs_to_come(new_project, "survey"), jobs_to_come(new_project, "ingest")) == (0, 4)


def test_files_that_have_changed_are_surveyed_again_before_their_block_ranges_are_known(new_project: Project) -> None:
    """6 sections instead of 4 are 27 blocks instead of 18, in 3 jobs instead of 2."""
    target = "results/receipts/intensity_statistics/train.json"
    new_project.run("results/receipts/survey/train.json")
    for path in (new_project.folder / "input").glob("*.tif"):
        values = tifffile.imread(path)
        tifffile.imwrite(path, np.concatenate([values, values[:2]]), metadata={"axes": "ZYX"})
    ran = new_project.run(target)
    assert ran.rules == {"survey", "check_model", "ingest", "histogram", "intensity_statistics"}
    assert {job for job in ran.jobs if job.startswith("ingest")} == {f"ingest/train/{k}-of-3" for k in range(3)}
    assert "Nothing to be done" in new_project.run(target).output


def test_edited_module_runs_the_rules_again_that_use_it(finished: Project, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for part in ("unet", "snakemake_logger_plugin_unet_em", "scripts", "workflow", "config"):
        shutil.copytree(finished.root / part, repository / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(finished.root / "environment.yml", repository)
    project = finished.copy(tmp_path / "copy", root=repository)
    assert project.run().rules <= {"report"}, "another place is no other code; the report's template is an input"

    module = repository / "unet/segmentation/components.py"
    _, _, statements = module.read_text().split('"""', 2)
    module.write_text(f'"""A docstring of another wording."""{statements}\n\n# a comment at the end\n')
    assert not project.run().jobs, "neither comments nor docstrings are code"

    before = traces(project, "predict", "probability")
    with module.open("a") as text:
        text.write("np.geterr()\n")
    ran = project.run()
    assert ran.rules == SEGMENTING
    assert project.blocks_made(ran, "segment") == BLOCKS
    assert traces(project, "predict", "probability") == before
    assert project.content("segmentation") == finished.content("segmentation")


def test_killed_prediction_redoes_what_is_missing(
    finished: Project, tmp_path: Path, slow_prediction: dict[str, Any]
) -> None:
    whole, killed = finished.copy(tmp_path / "whole"), finished.copy(tmp_path / "killed")
    for project in (whole, killed):
        project.configure(slow_prediction)
    assert whole.blocks_made(whole.run("--until", "relabel"), "predict") == BLOCKS

    old = len(killed.records("predict"))
    killed.kill_when(lambda: len(killed.records("predict")) >= old + 3)
    recorded = len(killed.records("predict")) - old
    assert 3 <= recorded < BLOCKS

    refused = killed.run("--until", "relabel", fails=True)
    assert "--unlock" in refused.output
    killed.run("--unlock")
    assert killed.blocks_made(killed.run("--until", "relabel"), "predict") == BLOCKS - recorded
    for store in ("probability", "segmentation"):
        assert killed.content(store) == whole.content(store)


def test_killed_training_spares_the_finished_one_and_goes_on_from_its_state(finished: Project, tmp_path: Path) -> None:
    """A setting is changed, the run killed, the setting changed back, and then that other model wanted after all."""
    whole, killed = finished.copy(tmp_path / "whole"), finished.copy(tmp_path / "killed")
    first = (killed.folder / "config.yaml").read_text()
    for project in (whole, killed):
        project.configure({"train": {"steps": 120, "seed": 1, "log_steps": 5, "checkpoint_minutes": 5e-3}})
    other = (killed.folder / "config.yaml").read_text()
    whole.run("--until", "train")

    def half_way() -> bool:
        found = losses(training_under_way(killed))
        return 30 in found and 120 not in found

    killed.kill_when(half_way)
    killed.unlock()
    assert not (killed.results / "model/model.pt").exists(), "Snakemake removes what a job that it starts will make"

    (killed.folder / "config.yaml").write_text(first)
    listed = killed.run("-n")
    assert re.search(r"^train +1$", listed.output, re.MULTILINE), listed.output
    ran = killed.run()
    assert "this training is finished" in (killed.results / "logs/train/model.log").read_text()
    assert killed.receipt("train", "model") == finished.receipt("train", "model")
    for name in ("model.pt", "training.jsonl"):
        assert (killed.results / "model" / name).read_bytes() == (finished.results / "model" / name).read_bytes()
    assert killed.blocks_made(ran, "predict") == 0

    (killed.folder / "config.yaml").write_text(other)
    killed.run("--until", "train")
    assert 0 < killed.receipt("train", "model")["run"]["resumed_from"] < 120
    assert losses(killed.results / "model") == losses(whole.results / "model")
    expected = model_weights(whole)
    for name, found in model_weights(killed).items():
        np.testing.assert_array_equal(found.numpy(), expected[name].numpy(), err_msg=name)


def test_until_a_rule_makes_all_that_it_needs_in_a_new_folder(finished: Project, new_project: Project) -> None:
    shutil.copy2(finished.results / "model/model.pt", new_project.folder / "input/model.pt")
    new_project.configure({"model": {"checkpoint": "input/model.pt"}, "segment": {"threshold": 0.5}})
    ran = new_project.run("--until", "relabel")
    assert {"survey", "ingest", "predict", "segment", "merge", "relabel"} <= ran.rules
    assert "report" not in ran.rules
    assert "Nothing to be done" in new_project.run("--until", "relabel").output
