"""A run that cannot work stops with a message for people and keeps what is finished; `verify` notices what is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import torch

from tests.scripts.conftest import main_of
from unet.jobs.script import run_script

if TYPE_CHECKING:
    from pathlib import Path

    from tests.workflow.conftest import Finished, Project

RECORDS = ("run_config.yaml", "provenance.json", "ro-crate-metadata.json")


def records_of(project: Project) -> dict[str, str]:
    """Return the records beside a report."""
    return {name: (project.results / name).read_text() for name in RECORDS}


IMPOSSIBLE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown key": (
        {"predict": {"overlapp": 8}},
        ["predict.overlapp", "unknown key", "tile, batch, test_time_augmentation"],
    ),
    "wrong type": ({"train": {"steps": "many"}}, ["train.steps", "'many'", "a whole number"]),
    "out of range": ({"segment": {"threshold": 1.5}}, ["segment.threshold", "1.5", "less than 1"]),
    "tile that does not fit": ({"train": {"tile": 49}}, ["train.tile", "49", "48", "50"]),
    "missing file": (
        {"volumes": {"train": {"labels": "input/lables.tif"}}},
        ["volumes.train.labels", "input/lables.tif", "not there"],
    ),
    "skeletons of another format": (
        {"volumes": {"train": {"skeletons": {"files": "input/labels.tif"}}}},
        ["volumes.train.skeletons.files", "input/labels.tif is not an SWC file", "id type x y z radius parent"],
    ),
    "unknown volume": ({"predict": {"volumes": ["test"]}}, ["predict.volumes", "'test'", "['train']"]),
    "evaluation without labels": (
        {
            "volumes": {"bare": {"raw": "input/raw.tif", "voxel_size_nm": [50, 4, 4]}},
            "predict": {"volumes": ["train", "bare"]},
            "evaluate": {"volumes": ["train", "bare"]},
        },
        ["evaluate.volumes", "'bare'", "volumes.bare.labels"],
    ),
}


@pytest.mark.parametrize("problem", IMPOSSIBLE)
def test_impossible_configuration_stops_before_the_first_job(new_project: Project, problem: str) -> None:
    changes, wanted = IMPOSSIBLE[problem]
    new_project.configure(changes)
    ran = new_project.run(fails=True)
    assert [part for part in wanted if part not in ran.output] == [], ran.output
    assert "Traceback" not in ran.output
    assert not new_project.results.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"depth": 3}}, r"model\.pt: model\.depth of the model file is 2, but this run has 3"),
        (
            {"volumes": {"train": {"voxel_size_nm": [50, 8, 8]}}},
            r"'train' has voxels of \[50\.0, 8\.0, 8\.0\].*\[50\.0, 4\.0, 4\.0\]",
        ),
        (
            {"volumes": {"train": {"raw": ["input/raw.tif", "input/second.tif"]}}},
            r"input channels \(volume 'train'\) of the model file is 1, but this run has 2",
        ),
        (
            {"volumes": {"train": {"label_kind": "classes", "class_values": {"cell": 1, "membrane": 0}}}},
            r"evaluate\.volumes: volume 'train' has classes \['cell', 'membrane'\], but .*model\.pt was trained on "
            r"\['membrane', 'interior'\]",
        ),
        ({"segment": {"foreground": "glia"}}, r"segment\.foreground: 'glia' is not one of \['interior'\]"),
    ],
)
def test_a_model_that_does_not_fit_stops_before_anything_is_ingested(
    finished: Project, new_project: Project, changes: dict[str, Any], message: str
) -> None:
    shutil.copy(finished.results / "model/model.pt", new_project.folder / "input/model.pt")
    shutil.copy(new_project.folder / "input/raw.tif", new_project.folder / "input/second.tif")
    new_project.configure({"model": {"checkpoint": "input/model.pt"}})
    new_project.configure(changes)
    ran = new_project.run(fails=True)
    assert re.search(message, ran.output), ran.output
    assert not (new_project.results / "volumes").exists()


def test_volumes_of_different_channels_are_refused_before_anything_is_ingested(new_project: Project) -> None:
    other = {"raw": ["input/raw.tif", "input/mask.tif"], "voxel_size_nm": [50, 4, 4]}
    new_project.configure({"volumes": {"other": other}, "predict": {"volumes": ["train", "other"]}})
    ran = new_project.run("results/receipts/ingest/other/0-of-2.json", fails=True)
    message = r"'other' has 2 input channel\(s\), but volume 'train', which the model learns from, has 1"
    assert re.search(message, ran.output), ran.output
    assert not (new_project.results / "volumes/other").exists()


def test_labels_that_cannot_be_right_stop_the_run_before_it_trains(new_project: Project) -> None:
    labels = new_project.folder / "input/labels.tif"
    mask_of_cells = np.where(tifffile.imread(labels) > 0, 255, 0).astype(np.uint8)
    tifffile.imwrite(labels, mask_of_cells, photometric="minisblack")
    new_project.configure({"predict": {"job_voxels": mask_of_cells.size}})
    ran = new_project.run("results/model/model.pt", fails=True)
    assert re.search(r"labels of train: \d+ % membrane, \d+ % interior, 1 instance, 4 of 4 sections", ran.output)
    assert re.search(r"ERROR volumes\.train\.labels: .*id 255 holds 100% .* set `label_kind: interior`", ran.output)
    assert not {"weight_map", "train"} & ran.rules, "nobody else complains of the same labels"
    assert not (new_project.results / "receipts/check_labels/train.json").exists()


def write_sections(folder: Path) -> None:
    """Two sections of 64 x 64 px as single files."""
    folder.mkdir()
    values = np.random.default_rng(0).integers(0, 256, (2, 64, 64), np.uint8)
    for z, section in enumerate(values):
        tifffile.imwrite(folder / f"section_{z:03}.tif", section, photometric="minisblack")


def test_bad_image_files_fail_by_name_and_spare_the_other_volumes(copy_of_finished: Project) -> None:
    project, folder = copy_of_finished, copy_of_finished.folder / "input"
    for name in ("torn", "shifted"):
        write_sections(folder / name)
    torn = folder / "torn/section_001.tif"
    whole = torn.read_bytes()
    torn.write_bytes(whole[: len(whole) // 2])
    tifffile.imwrite(folder / "ids.tif", np.ones((2, 60, 64), np.uint16), photometric="minisblack")
    volumes = {
        "torn": {"raw": "input/torn", "voxel_size_nm": [50, 4, 4]},
        "shifted": {"raw": "input/shifted", "labels": "input/ids.tif", "voxel_size_nm": [50, 4, 4]},
    }
    project.configure({"volumes": volumes, "predict": {"volumes": ["train", "torn", "shifted"]}})
    before = project.content("raw"), project.receipt("ingest", "train", "0-of-2")

    ran = project.run(fails=True)
    assert ran.rules == {"survey"}
    log_of_torn = (project.results / "logs/survey/torn.log").read_text()
    assert "section_001.tif" in log_of_torn.splitlines()[-1], log_of_torn
    log_of_shifted = (project.results / "logs/survey/shifted.log").read_text()
    assert [part for part in ("input/ids.tif", "(2, 60, 64)", "(2, 64, 64)") if part not in log_of_shifted] == []
    assert before == (project.content("raw"), project.receipt("ingest", "train", "0-of-2"))
    end = ran.output.rpartition("2 jobs failed:\n")[2]
    for part in ("section_001.tif", "(2, 60, 64)"):
        assert sum(part in line for line in end.splitlines()) == 1, "each failed job says once, at the end, why"
    assert {f"    log: results/logs/survey/{name}.log" for name in volumes} <= set(end.splitlines())
    assert "report        " not in ran.output, "the report is not of this run"

    torn.write_bytes(whole)
    tifffile.imwrite(folder / "ids.tif", np.ones((2, 64, 64), np.uint16), photometric="minisblack")
    ran = project.run()
    assert {job for job in ran.jobs if job.startswith("ingest")} == {"ingest/torn/0-of-1", "ingest/shifted/0-of-1"}
    assert not {job for job in ran.jobs if "train" in job}
    assert project.array("segmentation", "torn").shape == (2, 64, 64)


def test_section_torn_during_the_run_loses_no_finished_block(new_project: Project) -> None:
    """The header of the last section is whole, so only its voxels tell; the blocks before it are kept."""
    folder = new_project.folder / "input/sections"
    folder.mkdir()
    values = tifffile.imread(new_project.folder / "input/raw.tif")
    for z, section in enumerate(values):
        tifffile.imwrite(folder / f"{z}.tif", section, compression="zlib", rowsperstrip=10, photometric="minisblack")
    last = folder / "3.tif"
    whole = last.read_bytes()
    spoilt = bytearray(whole)
    spoilt[-2000:] = bytes(2000)
    last.write_bytes(spoilt)
    new_project.configure({"volumes": {"train": {"raw": "input/sections"}}})

    new_project.run("results/receipts/intensity_statistics/train.json", fails=True)
    log = (new_project.results / "logs/ingest/train/1-of-2.log").read_text()
    assert "3.tif" in log, log
    assert new_project.receipt("ingest", "train", "0-of-2")["blocks"] == 9
    first = new_project.content("raw")
    assert first

    last.write_bytes(whole)
    ran = new_project.run("results/receipts/intensity_statistics/train.json")
    np.testing.assert_array_equal(new_project.array("raw"), values)
    assert ran.rules >= {"ingest", "intensity_statistics"}


def test_plan_prints_a_table(new_project: Project) -> None:
    ran = new_project.run("plan")
    assert ran.rules == {"plan"}
    assert re.search(r"^train +4 x 150 x 140 +18 +2 ", ran.output, flags=re.MULTILINE), ran.output


@pytest.fixture(scope="module")
def verified(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Finished]:
    """A finished run that was verified, to be read only, and what the verification said."""
    project = finished.copy(tmp_path_factory.mktemp("verified") / "run")
    return project, project.run("verify")


def test_verify_accepts_a_finished_run_each_time_it_is_asked(
    finished: Project, verified: tuple[Project, Finished], tmp_path: Path
) -> None:
    project = verified[0].copy(tmp_path / "again")
    for ran in (verified[1], project.run("verify")):
        assert ran.rules == {"verify"}
        assert "checks        results/receipts/verify/all.json" in ran.output
        assert "V_rand" not in ran.output
    assert records_of(project) == records_of(finished)
    found = project.receipt("verify", "all")["checks"]["train"]
    assert (found["difference"], found["across_tiles"] <= 1) == (0, True)
    assert sum(found["crops"].values()) == 4
    assert 0.5 < found["seam_score"] < 1.5
    page = (project.results / "report.html").read_text()
    assert f"{found['seam_score']:.3f}" in page


def spoil_a_block(project: Project) -> str:
    path = project.block_files("probability")[3]
    path.write_bytes(path.read_bytes()[::-1])
    return "is not what was written"


def remove_a_block(project: Project) -> str:
    project.block_files("probability")[0].unlink()
    return "is not what was written (or is missing)"


def remove_a_journal(project: Project) -> str:
    (project.results / "receipts/predict/train/1-of-2.jsonl").unlink()
    return "is not recorded in a journal"


def exchange_the_model(project: Project) -> str:
    """Other weights under the old time, so that Snakemake does not see the change."""
    path = project.results / "model/model.pt"
    times = path.stat()
    saved = torch.load(path, weights_only=True)
    noise = torch.Generator().manual_seed(7)
    for values in saved["weights"].values():
        if values.is_floating_point():
            values += torch.randn(values.shape, generator=noise)
    torch.save(saved, path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return "differs from the model's"


@pytest.mark.parametrize("damage", [remove_a_block, remove_a_journal, exchange_the_model])
def test_verify_refuses(
    verified: tuple[Project, Finished], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any
) -> None:
    """The same job with the same arguments, in this process."""
    project = verified[0].copy(tmp_path / "damaged")
    message = damage(project)
    monkeypatch.chdir(project.folder)
    log = project.results / "logs/verify/verify.log"
    job = SimpleNamespace(
        input={}, output={}, params=json.loads(log.with_suffix(".json").read_text()), log=[str(log)], threads=1
    )
    with pytest.raises(SystemExit, match="1"):
        run_script(main_of("verify"), job)
    assert re.search(rf"ERROR .*{re.escape(message)}", log.read_text())


def test_a_run_of_verify_fails_with_what_is_damaged(copy_of_finished: Project) -> None:
    message = spoil_a_block(copy_of_finished)
    ran = copy_of_finished.run("verify", fails=True)
    assert ran.rules == {"verify"}
    assert message in ran.output
    assert "Traceback" not in ran.output
