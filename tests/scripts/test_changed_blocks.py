"""A change of the inputs costs the blocks that read it, and the stores are those of a fresh run, bit for bit.

4 sections of 128 x 128 px in blocks of 1 x 32 x 32: 16 blocks per section, 64 in all.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import torch

from tests.scripts.conftest import Project
from unet.config.model import ModelConfig
from unet.config.predict import PredictConfig
from unet.config.segment import SegmentConfig
from unet.geometry.box import Box
from unet.jobs.blockwise import run_blocks
from unet.network.model import build_model
from unet.network.model_file import save_model
from unet.network.worker import BlockPredictor, PredictionSpec
from unet.storage.files import read_json
from unet.storage.zarr_store import Image
from unet.training.synthetic import synthesise
from unet.volumes.block_inputs import BlockInputs

RAW, CELLS = synthesise(sections=4, size=128, seed=3)
CELLS = CELLS.astype(np.uint8)
CELLS[3] = 250  # nobody annotated the last section
IDS = {"label_kind": "instances", "ignore_id": 250}
KEPT = {"normalisation": {"mean": 128.0, "std": 40.0}}
CORNER = np.s_[2, 4:10, 4:10]
"""In the first block of its section."""


@pytest.fixture
def labelled(project: Project) -> Project:
    """A volume of sections, with labels."""
    return with_sections(project, RAW, CELLS)


def with_sections(project: Project, raw: np.ndarray, labels: np.ndarray, **more: Any) -> Project:
    """Write the sections of a volume that differ from those that are there, and configure it."""
    for name, values in (("raw", raw), ("labels", labels)):
        (project.folder / name).mkdir(exist_ok=True)
        for z, section in enumerate(values):
            path, content = project.folder / name / f"s{z}.png", imagecodecs.png_encode(section)
            if not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)
    files = {"raw": f"{project.folder}/raw", "labels": f"{project.folder}/labels"}
    volume = {**files, "voxel_size_nm": [50, 4, 4], **(more or IDS)}
    project.settings = {**KEPT, **project.settings, "volumes": {"train": volume}}
    return project


def another(project: Project, folder: Path) -> Project:
    """A project of the same settings in which nothing was made."""
    folder.mkdir()
    return Project(folder, project.settings)


def learning(project: Project) -> dict[str, int]:
    """Ingest, targets and weight map, with labels of other kinds made first; the blocks that each made."""
    config = project.config
    volume, weights = config.volumes["train"], config.weights.model_dump()
    project.intensity_statistics("train")
    grey, made = project.receipt("intensity_statistics", "train"), {}
    if volume.label_kind != "instances":
        segment = {"segment": SegmentConfig().model_dump(), "background": False, "store": "labels"}
        made["segment"] = blocks_of(project.each_range("segment", "train", "labels", **segment, made=[]))
        common = {"folder": project.stores("train"), "survey": project.receipt("survey", "train")}
        ranges = project.block_ranges("train")
        merge = {
            "made": [project.receipt("segment", "train", "labels", one) for one in ranges],
            "layers_per_part": 1000,
        }
        project.job("merge", project.receipt("merge", "train", "labels"), **merge, **segment, **common, code="one")
        made["relabel"] = blocks_of(project.each_range("relabel", "train", "labels", store="labels"))
    drawn = {"volume": volume.model_dump(), "weights": weights, "check_model": project.receipt("check_model", "train")}
    targets = project.each_range("targets", "train", intensity_statistics=grey, **drawn)
    weighted = project.each_range("weight_map", "train", training_targets=targets, weights=weights)
    return {**made, "targets": blocks_of(targets), "weight_map": blocks_of(weighted)}


def blocks_of(receipts: list[Path]) -> int:
    """Blocks that the last run of some jobs made."""
    return sum(read_json(receipt)["run"]["blocks_made"] for receipt in receipts)


def content(project: Project, *stores: str) -> dict[str, bytes]:
    """Every file of some stores, by its path."""
    folder = project.stores("train")
    files = [path for store in stores for path in (folder / f"{store}.zarr").rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_section_of_other_labels_costs_the_targets_that_show_it(labelled: Project, tmp_path: Path) -> None:
    assert learning(labelled) == {"targets": 64, "weight_map": 64}
    assert learning(labelled) == {"targets": 0, "weight_map": 0}
    changed = CELLS.copy()
    changed[CORNER] = 0
    with_sections(labelled, RAW, changed)
    # A separation border reads 1 px of the next three blocks, the term of equation 2 27 px.
    assert learning(labelled) == {"targets": 4, "weight_map": 4}
    fresh = with_sections(another(labelled, tmp_path / "fresh"), RAW, changed)
    learning(fresh)
    assert content(labelled, "targets", "weights") == content(fresh, "targets", "weights")


def test_another_class_balance_costs_all_weights_but_those_where_nobody_annotated(
    labelled: Project, tmp_path: Path
) -> None:
    labelled.settings["weights"] = {"class_balance": True}
    assert learning(labelled) == {"targets": 64, "weight_map": 64}
    changed = CELLS.copy()
    changed[CORNER] = 0
    with_sections(labelled, RAW, changed)
    assert learning(labelled) == {"targets": 4, "weight_map": 48}
    fresh = with_sections(another(labelled, tmp_path / "fresh"), RAW, changed)
    learning(fresh)
    assert content(labelled, "targets", "weights") == content(fresh, "targets", "weights")


def test_of_interiors_the_last_section_costs_its_own_objects_alone(project: Project, tmp_path: Path) -> None:
    interior = (CELLS > 0).astype(np.uint8) * 255
    interior[3] = interior[2]
    settings = {"label_kind": "interior"}
    with_sections(project, RAW, interior, **settings)
    assert set(learning(project).values()) == {64}
    changed = interior.copy()
    changed[3, 100:106, 100:106] ^= 255
    with_sections(project, RAW, changed, **settings)
    made = learning(project)
    assert (made["segment"], made["targets"]) == (1, 1)
    assert 1 <= made["relabel"] <= 16
    assert made["weight_map"] <= 16
    fresh = with_sections(another(project, tmp_path / "fresh"), RAW, changed, **settings)
    learning(fresh)
    stores = ("labels", "classes", "targets", "weights")
    assert content(project, *stores) == content(fresh, *stores)


def predicted(project: Project) -> int:
    """Ingest and predict; the blocks that were predicted."""
    model = ModelConfig(depth=2, base_channels=4, dropout=0)
    torch.manual_seed(0)
    save_model(project.folder / "model.pt", build_model(model), model, ["membrane", "interior"], normalisation={})
    project.intensity_statistics("train")
    how = {"predict": PredictConfig(tile=28, dashboard=False).model_dump(), "slurm": {}, "worker_logs": "workers"}
    files = {
        "intensity_statistics": project.receipt("intensity_statistics", "train"),
        "model": project.folder / "model.pt",
    }
    return blocks_of(project.each_range("predict", "train", **files, **how))


def test_a_section_costs_the_probabilities_that_read_it_and_labels_none(labelled: Project, tmp_path: Path) -> None:
    assert predicted(labelled) == 64
    raw, labels = RAW.copy(), CELLS.copy()
    labels[CORNER] = 0
    assert predicted(with_sections(labelled, raw, labels)) == 0
    raw[CORNER] //= 2
    assert predicted(with_sections(labelled, raw, labels)) == 4
    fresh = with_sections(another(labelled, tmp_path / "fresh"), raw, labels)
    predicted(fresh)
    assert content(labelled, "probability") == content(fresh, "probability")
    labelled.settings["normalisation"] = {"mean": 120.0, "std": 40.0}
    assert predicted(labelled) == 64


# What a block reads is what it says


@contextmanager
def noted(monkeypatch: pytest.MonkeyPatch, read: set[tuple[str, Box]], told: set[tuple[str, Box]]) -> Iterator[None]:
    """Note the blocks of every store that are read, and the blocks whose digests are inputs."""
    reading, telling, digesting = Image.read, BlockInputs.digests, Image.digest

    def spied_read(image: Image, box: Box, level: int = 0) -> np.ndarray:
        read.update((image.name, block) for block in image.grid.touched(box))
        return reading(image, box, level)

    def spied_of(inputs: BlockInputs, store: str, box: Box) -> list[str | None]:
        told.update((f"{store}.zarr", block) for block in inputs._source.layout.grid.touched(box))
        return telling(inputs, store, box)

    def spied_digest(image: Image, box: Box) -> str | None:
        told.add((image.name, box))
        return digesting(image, box)

    with monkeypatch.context() as patched:
        patched.setattr(Image, "read", spied_read)
        patched.setattr(BlockInputs, "digests", spied_of)
        patched.setattr(Image, "digest", spied_digest)
        yield


def blocks_looked_at(
    monkeypatch: pytest.MonkeyPatch, boxes: list[Box], tell: Callable[[Box], Any], work: Callable[[Box], Any]
) -> int:
    """Return the number of blocks read; each has to be among the inputs of its box."""
    count = 0
    for box in boxes:
        read: set[tuple[str, Box]] = set()
        told: set[tuple[str, Box]] = set()
        with noted(monkeypatch, set(), told):
            tell(box)
        with noted(monkeypatch, read, set()):
            work(box)
        assert read <= told, (box, read - told)
        count += len(read)
    return count


@pytest.mark.parametrize("fill", [False, True], ids=["tissue everywhere", "a blank frame"])
def test_every_block_that_is_read_is_told(project: Project, monkeypatch: pytest.MonkeyPatch, fill: bool) -> None:
    looked: dict[str, int] = {}
    raw = RAW.copy()
    if fill:
        raw[:, :, :40] = 0

    def spied_run(rule: str, boxes: list[Box], work: Any, stores: Any, *, inputs_of: Any, **how: Any) -> None:
        looked[rule] = looked.get(rule, 0) + blocks_looked_at(monkeypatch, boxes[::3], inputs_of, work)
        run_blocks(rule, boxes, work, stores, inputs_of=inputs_of, **how)

    with monkeypatch.context() as patched:
        patched.setattr("unet.volumes.block_step.run_blocks", spied_run)
        values = np.where(CELLS == 0, 0, 255).astype(np.uint8)
        learning(with_sections(project, raw, values, label_kind="interior"))
    assert set(looked) == {"targets", "weight_map", "segment", "relabel"}
    assert all(count > 0 for count in looked.values())

    predicted(project)
    survey, grey, model = (
        *(project.receipt(r, "train") for r in ("survey", "intensity_statistics")),
        project.folder / "model.pt",
    )
    for average in ("none", "rotations"):
        predict = PredictConfig(tile=60, test_time_augmentation=average, dashboard=False)
        prediction = PredictionSpec(survey, grey, model, project.stores("train"), predict, "one")
        prepared = BlockPredictor(prediction, torch.device("cpu"), 1)
        boxes = project.volume("train").layout.grid.boxes()[::7]
        assert blocks_looked_at(monkeypatch, boxes, prediction.block_inputs(prepared.settings), prepared.read)
