"""A run is recorded so that it can be repeated: the repetition is bit-identical, and what is not is found."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import zarr
from rocrate.rocrate import ROCrate

from unet.geometry.box import Box
from unet.jobs.journal import Journal
from unet.run.reproduce import compare

if TYPE_CHECKING:
    from pathlib import Path

    from tests.workflow.conftest import Project


def record_of(project: Project) -> dict[str, Any]:
    return json.loads((project.results / "provenance.json").read_text())


def reproduce(project: Project) -> subprocess.CompletedProcess[str]:
    """Run what `make reproduce RUN=results` runs."""
    environment = os.environ | {"PYTHONPATH": str(project.root), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "unet.run.reproduce", "results"]
    return subprocess.run(command, cwd=project.folder, env=environment, capture_output=True, text=True, timeout=900)


def test_a_second_run_is_bit_identical_from_ingest_to_segmentation(copy_of_finished: Project) -> None:
    """18 blocks of raw, targets, weights, probability, fragments and segmentation, and the model."""
    record = record_of(copy_of_finished)
    [(task, choice)] = record["chosen"]["train"].items()
    choice["why"] = "as recorded"
    (copy_of_finished.results / "provenance.json").write_text(json.dumps(record))
    again = reproduce(copy_of_finished)
    assert again.returncode == 0, again.stdout + again.stderr
    kept = copy_of_finished.folder / f"results-reproduced/volumes/train/probability-tiles/{task}.json"
    assert json.loads(kept.read_text()) == choice, "tiles are those of the record, whatever memory is free now"
    assert f"bit-identical: {6 * 18} blocks, written by 7 steps" in again.stdout
    assert "not the same here" not in again.stdout
    assert compare(copy_of_finished.results, copy_of_finished.folder / "results-reproduced").difference is None


def test_the_first_voxel_that_differs_is_found(copy_of_finished: Project, tmp_path: Path) -> None:
    was, now = copy_of_finished.results, tmp_path / "now"
    shutil.copytree(was, now)
    box, voxel = Box((2, 64, 0), (4, 128, 64)), (0, 3, 70, 9)
    array = zarr.open_array(now / "volumes/train/probability.zarr/0", mode="r+")
    value = int(array[voxel])
    array[voxel] = value ^ 1
    journal = Journal.of_receipt(now / "receipts/predict/train/0-of-2.json")
    journal.add(replace(journal.latest()[box], digest="another"))
    found = compare(was, now).difference
    assert found == f"probability.zarr of volume train, block {box}, voxel {voxel}: was {value}, is {value ^ 1}"
    shutil.rmtree(now / "volumes")
    assert compare(was, now).difference == f"probability.zarr of volume train, block {box}", "receipts alone"


def test_files_that_differ_in_compression_alone_do_not_count(copy_of_finished: Project, tmp_path: Path) -> None:
    was, now = copy_of_finished.results, tmp_path / "now"
    shutil.copytree(was, now)
    journal = Journal.of_receipt(now / "receipts/predict/train/0-of-2.json")
    journal.add(replace(journal.latest()[Box((2, 64, 0), (4, 128, 64))], digest="another"))
    assert compare(was, now).difference is None


def test_another_input_is_told_before_anything_runs(copy_of_finished: Project) -> None:
    with (copy_of_finished.folder / "input/raw.tif").open("ab") as file:
        file.write(b"\0")
    (copy_of_finished.folder / "input/mask.tif").unlink()
    again = reproduce(copy_of_finished)
    assert again.returncode == 1
    assert "the input is not that of the run" in again.stderr
    assert "volumes.train.raw: input/raw.tif is {" in again.stderr
    assert "volumes.train.mask: input/mask.tif is not there" in again.stderr
    assert not (copy_of_finished.folder / "results-reproduced").exists()


def test_the_record_says_what_is_needed_and_nothing_private(finished: Project) -> None:
    record, text = record_of(finished), (finished.results / "provenance.json").read_text()
    assert record["seeds"] == {"sample.seed": 1, "train.seed": 0, "verify.seed": 0}
    assert record["machine"]["devices"] == ["cpu"]
    assert record["software"]["packages"]["torch"]
    assert {"commit", "dirty", "changes"} == set(record["software"]["git"] or {"commit", "dirty", "changes"})
    assert {key: found["files"] for key, found in record["inputs"].items()} == {
        f"volumes.train.{key}": 1 for key in ("raw", "labels", "mask")
    }
    logged = {path.relative_to(finished.results / "logs").parts[0] for path in finished.results.glob("logs/**/*.log")}
    assert {job["script"] for job in record["jobs"]} == {f"scripts/{rule}.py" for rule in logged}
    assert record["made"]["train/model"] == finished.receipt("train", "model")["digest"]
    for private in (str(finished.folder), str(finished.root), sys.prefix, f'"{platform.node()}"', "SLURM_"):
        assert private not in text


def test_a_job_runs_again_from_its_recorded_arguments(finished: Project, copy_of_finished: Project) -> None:
    job = next(job for job in record_of(finished)["jobs"] if job["script"] == "scripts/choose_threshold.py")
    (copy_of_finished.results / "receipts/choose_threshold/all.json").unlink()
    command = [sys.executable, str(finished.root / job["script"]), json.dumps(job["arguments"])]
    environment = os.environ | {"PYTHONPATH": str(finished.root)}
    subprocess.run(command, cwd=copy_of_finished.folder, env=environment, check=True, timeout=900)
    assert copy_of_finished.receipt("choose_threshold", "all") == finished.receipt("choose_threshold", "all")


def test_the_results_are_a_workflow_run_crate(finished: Project) -> None:
    crate = ROCrate(finished.results)
    assert {profile["@id"] for profile in crate.root_dataset["conformsTo"]} >= {
        "https://w3id.org/ro/wfrun/process/0.5",
        "https://w3id.org/ro/wfrun/workflow/0.5",
    }
    assert crate.mainEntity.id == "workflow/Snakefile"
    [action] = (entity for entity in crate.get_entities() if entity.type == "CreateAction")
    assert action["instrument"] is crate.mainEntity
    made = {entity.id for entity in action["result"]}
    assert {"provenance.json", "report.html", "volumes/train/segmentation.zarr/"} <= made
    for entity in crate.data_entities:
        assert (finished.results / entity.id).exists(), entity.id
    assert {entity.id for entity in action["object"]} >= {"run_config.yaml", "#volumes.train.raw"}
