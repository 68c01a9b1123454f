"""Inputs that were changed in any way are noticed at the next run, and what is made again is what depends on them."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import torch
import zarr

if TYPE_CHECKING:
    from pathlib import Path

    from tests.workflow.conftest import Project

JOBS = [
    f"results/receipts/{rule}/train/{block_range}.json"
    for rule in ("targets", "predict")
    for block_range in ("0-of-2", "1-of-2")
]
LONG_AGO = 1.6e9
BLOCKS, IN_SECTIONS_2_AND_3 = 18, 9


def keep_older(path: Path, older: Path) -> None:
    """Put an older file in the place of another, as `cp -p` does."""
    os.utime(older, (LONG_AGO, LONG_AGO))
    shutil.copy2(older, path)
    older.unlink()


def with_other_inputs(project: Project) -> Project:
    """Raw in a flat Zarr of chunks as large as blocks, labels as a folder of sections, and a given model."""
    given = project.folder / "input"
    raw, labels = (tifffile.imread(given / f"{name}.tif") for name in ("raw", "labels"))
    zarr.create_array(given / "raw.zarr", data=raw, chunks=(2, 64, 64), zarr_format=2)
    (given / "labels").mkdir()
    for z, section in enumerate(labels):
        tifffile.imwrite(given / "labels" / f"s{z}.tif", section)
    shutil.copy(project.results / "model/model.pt", given / "model.pt")
    shutil.rmtree(project.results)
    shutil.rmtree(project.folder / ".snakemake")
    volume = {"raw": "input/raw.zarr", "labels": "input/labels", "mask": "input/mask.tif"}
    model: dict[str, Any] = {"checkpoint": "input/model.pt"}
    project.configure({"volumes": {"train": volume}, "model": model, "segment": {"threshold": 0.5}})
    return project


def change(given: Path) -> None:
    """Edit a chunk in place, and put an older section and an older model in the place of those that were used."""
    zarr.open_array(given / "raw.zarr", mode="r+")[0:2, 70:80, 70:80] = 0
    section = tifffile.imread(given / "labels" / "s3.tif")
    section[section == section.max()] = 0
    tifffile.imwrite(given / "older.tif", section)
    keep_older(given / "labels" / "s3.tif", given / "older.tif")
    model = torch.load(given / "model.pt", weights_only=True)
    first = next(weights for weights in model["weights"].values() if weights.is_floating_point())
    first += 0.1
    torch.save(model, given / "older.pt")
    keep_older(given / "model.pt", given / "older.pt")


def test_an_older_section_an_edited_chunk_and_an_older_model_are_noticed(copy_of_finished: Project) -> None:
    project = with_other_inputs(copy_of_finished)
    project.run(*JOBS)
    first = {name: project.array(name) for name in ("raw", "labels", "targets", "probability")}
    change(project.folder / "input")
    files = {path for path in project.folder.rglob("*") if ".snakemake" not in path.parts}
    planned = project.run("-n", *JOBS).output
    assert {path for path in project.folder.rglob("*") if ".snakemake" not in path.parts} == files
    for rule in ("survey", "check_model", "ingest", "predict"):
        assert f"\n{rule} " in planned
    for changed in ("raw: input/raw.zarr", "labels: input/labels", "model.checkpoint: input/model.pt"):
        assert changed in planned

    shutil.rmtree(project.folder / ".snakemake" / "metadata")  # Snakemake's own records are not needed
    ran = project.run("--until", "intensity_statistics", *JOBS)
    assert project.blocks_made(ran, "ingest") == 1 + IN_SECTIONS_2_AND_3
    ran = project.run(*JOBS)  # a run that ended in between has lost nothing
    assert project.blocks_made(ran, "predict") == BLOCKS
    edited = np.argwhere(project.array("raw") != first["raw"])
    assert (edited.min(axis=0) >= (0, 70, 70)).all()
    assert (edited.max(axis=0) < (2, 80, 80)).all()
    assert (project.array("labels") != first["labels"]).any()
    assert "Nothing to be done" in project.run(*JOBS).output

    fresh = type(project)(project.folder.parent / "fresh")
    shutil.copytree(project.folder / "input", fresh.folder / "input")
    fresh.configure(project.config)
    fresh.run(*JOBS)
    for name in first:
        assert project.content(name) == fresh.content(name), name


def test_older_files_that_are_given_for_the_scores_score_anew_and_do_nothing_else(copy_of_finished: Project) -> None:
    project, target = copy_of_finished, "results/volumes/train/evaluation.json"
    given, labels = project.folder / "input", project.array("labels").astype(np.uint16)
    tifffile.imwrite(given / "peer.tif", labels, photometric="minisblack")
    (given / "true.swc").write_text("1 2 40 40 0 1 -1\n2 2 40 40 150 1 1\n")
    peer = {"compare": {"peer": "input/peer.tif"}, "skeletons": {"files": "input/true.swc"}}
    project.configure({"volumes": {"train": peer}})
    project.run(target)
    assert not project.run(target).jobs
    before = project.receipt("../volumes/train/evaluation")
    tifffile.imwrite(given / "older.tif", np.where(labels > labels.max() // 2, 1, labels), photometric="minisblack")
    keep_older(given / "peer.tif", given / "older.tif")
    (given / "older.swc").write_text("1 2 40 40 0 1 -1\n2 2 400 40 150 1 1\n")
    keep_older(given / "true.swc", given / "older.swc")
    ran = project.run(target)
    assert ran.rules == {"evaluate"}
    assert "compare.peer: input/peer.tif; skeletons.files: input/true.swc" in ran.output
    now = project.receipt("../volumes/train/evaluation")
    assert now["compare"]["peer"]["scores"] != before["compare"]["peer"]["scores"]
    assert now["scores"]["erl_perfect_nm"] != before["scores"]["erl_perfect_nm"]


@pytest.mark.parametrize("answer", ["fill", "error"])
def test_missing_chunks_are_told_or_stop_the_run(new_project: Project, answer: str) -> None:
    project, target = new_project, "results/receipts/survey/train.json"
    raw = tifffile.imread(project.folder / "input/raw.tif")
    zarr.create_array(project.folder / "input/raw.zarr", data=raw, chunks=(2, 64, 64), zarr_format=2)
    (project.folder / "input/raw.zarr/1.1.1").unlink()
    project.configure({"volumes": {"train": {"raw": "input/raw.zarr", "missing_chunks": answer}}})
    ran = project.run(target, fails=answer == "error")
    assert "input/raw.zarr: 1 of 18 chunks are not stored; they read as 0" in ran.output
    if answer == "fill":
        assert project.receipt("survey", "train")["missing_chunks"][0]["missing"] == 1
    else:
        assert "missing_chunks: fill" in ran.output
        assert not (project.folder / target).exists()
