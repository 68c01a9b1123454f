"""Labels are counted as whole-volume tools do, for any cut; what cannot be right is told, and real data pass."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from unet.config.label_kinds import UNLABELLED
from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.training.label_check import (
    LabelError,
    LabelProblem,
    constant_channel_problems,
    label_problems,
    require_every_class,
    require_objects,
)
from unet.training.label_counts import LabelCounts, LabelKind, count_labels, summary_line
from unet.training.synthetic import synthesise

NAMES = ["membrane", "interior"]
CELL = np.pad(np.ones((3, 3), int), (0, 1))
"""A cell of 3 x 3 px with a membrane behind it."""


def counts_of(ids: Any, targets: Any = None, block: Sequence[int] = (99, 999, 999), classes: int = 2) -> LabelCounts:
    """The counts of a volume that is read in blocks; targets are what is not 0 unless they are given."""
    ids = np.asarray(ids).astype(np.uint64)
    targets = (ids != 0).astype(np.uint8) if targets is None else np.asarray(targets, np.uint8)
    behind = ((0, 0), (0, 1), (0, 1))
    wide, wide_ids = np.pad(targets, behind, constant_values=UNLABELLED), np.pad(ids, behind)
    total = LabelCounts.empty(classes, len(targets))
    for box in Grid(targets.shape, tuple(block)).boxes():
        window = Box(box.start, (box.stop[0], box.stop[1] + 1, box.stop[2] + 1)).slices
        total += count_labels(wide[window], wide_ids[window], box.start, classes, len(targets))
    return total


def told(counts: LabelCounts, kind: LabelKind = "instances", names: Sequence[str] = NAMES) -> list[tuple[str, bool]]:
    """The problems about volume `v`."""
    return [tuple(problem) for problem in label_problems("v", counts, kind, names)]


def pieces_minus_holes(ids: np.ndarray) -> int:
    """Oracle: 4-connected pieces of each id less the 8-connected regions that they enclose, section by section."""
    total = 0
    for section in ids:
        for one in set(np.unique(section)) - {0}:
            here = np.pad(section == one, 1)
            total += ndimage.label(here)[1] - (ndimage.label(~here, np.ones((3, 3)))[1] - 1)
    return total


def test_four_pixels_by_hand() -> None:
    """Ids 3 3 / 3 0: three pixels less two pairs are one piece; one pixel is not annotated in the second section."""
    counts = counts_of([[[3, 3], [3, 0]], [[5, 0], [0, 5]]], [[[1, 1], [1, 0]], [[255, 0], [0, 1]]])
    assert counts.classes.tolist() == [3, 4]
    assert counts.sections.tolist() == [4, 3]
    assert (counts.annotated, counts.annotated_sections, counts.instances) == (7, 2, 2)
    assert (counts.euler, counts.largest) == (2, (3, 3, 1))
    line = summary_line(counts, "instances", NAMES, voxels=8)
    assert line == "43 % membrane, 57 % interior, 2 instances, 2 of 2 sections, 12 % of the voxels not annotated"


@given(seed=st.integers(0, 9999), block=st.tuples(st.integers(1, 3), st.integers(1, 8), st.integers(1, 8)))
def test_counts_are_those_of_the_whole_volume_for_any_cut(seed: int, block: tuple[int, int, int]) -> None:
    rng, shape = np.random.default_rng(seed), (3, 8, 7)
    ids = rng.choice(np.array([0, 0, 4, 4, 2**60], np.uint64), shape)
    targets = rng.choice(np.array([0, 1, 2, UNLABELLED], np.uint8), shape)
    counts = counts_of(ids, targets, block, classes=3)
    known = np.where(targets == UNLABELLED, 0, ids)
    found, sizes = np.unique(known[known > 0], return_counts=True)
    assert counts.classes.tolist() == [np.count_nonzero(targets == c) for c in range(3)]
    assert counts.sections.tolist() == np.count_nonzero(targets != UNLABELLED, axis=(1, 2)).tolist()
    objects = (targets != UNLABELLED) & (targets > 0)
    assert np.sum(objects, axis=(1, 2)).tolist() == ([] if counts.objects is None else counts.objects.tolist())
    for where, box in ((targets != UNLABELLED, counts.annotated_within), (objects, counts.objects_within)):
        corners = [(int(i.min()), int(i.max()) + 1) for i in np.nonzero(where)] if where.any() else None
        assert corners == (list(zip(box.start, box.stop, strict=True)) if box else None)
    assert counts.euler == pieces_minus_holes(known)
    largest = found[np.argmax(sizes)]
    assert counts.largest == (largest, sizes.max(), pieces_minus_holes(np.where(known == largest, known, 0)))
    assert counts.instances == len(found)
    assert counts.background == pieces_minus_holes(((targets != UNLABELLED) & (ids == 0)).astype(int))


NOT_RIGHT: list[tuple[Any, Any, LabelKind, str]] = [
    (np.zeros((2, 4, 4)), None, "instances", r"volumes\.v\.labels: all 32 annotated voxels are 0, no cell"),
    (np.zeros((2, 4, 4)), None, "interior", r"all 32 annotated voxels are 0, no cell"),
    (np.zeros((2, 4, 4)), None, "classes", r"no voxel is of a class behind the first \(32 membrane, 0 interior\)"),
    (np.ones((2, 4, 4)), np.full((2, 4, 4), UNLABELLED), "instances", r"no voxel of 2 sections is annotated"),
    # 16 cells of one id, 9 of 16 px each
    ([np.tile(255 * CELL, (4, 4))], None, "instances", r"id 255 holds 100% .* in 16 pieces per section .*: interior"),
    # the same upside down: membranes of 7 of 16 px, one mesh that encloses 9 of 16 cells
    (
        [np.tile(255 * (1 - CELL), (4, 4))],
        None,
        "instances",
        r"not 0 \(44%\) divide .*: -8 and 16\).*instances membranes are 0",
    ),
    ([np.tile(255 * (1 - CELL), (4, 4))], None, "interior", r": -8 and 16\).*interior membranes are 0.*invert"),
]


@pytest.mark.parametrize(("ids", "targets", "kind", "words"), NOT_RIGHT)
def test_what_cannot_be_right_stops_the_run_and_says_what_to_do(
    ids: Any, targets: Any, kind: LabelKind, words: str
) -> None:
    [(text, stops)] = told(counts_of(ids, targets), kind)
    assert stops
    assert re.search(words, text), text


def test_what_is_unusual_is_a_warning() -> None:
    assert told(counts_of([[[7, 7], [7, 0]]])) == [("volumes.v.labels: there is one instance only, id 7", False)]
    few = np.zeros((1, 100, 100), int)
    few[0, ::20, ::20] = 1  # mitochondria, each a piece of the one id, for whom 0 is everything else
    [(text, stops)] = told(counts_of(few))
    assert ("25 pieces per section" in text, stops) == (True, False)
    ids = np.arange(1, 5001).reshape(1, 50, 100)
    ids[0, 0, :3] = 0
    assert told(counts_of(ids)) == [("volumes.v.labels: class 'membrane' has 3 of 5,000 annotated voxels", False)]


def dense(sections: int = 4, size: int = 64) -> np.ndarray:
    """Cells of 3 x 3 px with membranes of one, each section with ids of its own."""
    tiles = size // 4
    ids = np.kron(np.arange(1, sections * tiles**2 + 1).reshape(sections, tiles, tiles), np.ones((1, 4, 4), int))
    return ids * np.tile(CELL, (tiles, tiles))


def test_sections_that_nobody_annotated_are_no_background() -> None:
    cells = dense()
    assert told(counts_of(cells)) == []
    cells[1] = 0
    [(text, stops)] = told(counts_of(cells))
    assert stops
    assert "1 of 4 annotated sections (25% of what counts as annotated) hold no object at all, and box 0:4" in text
    few = np.concatenate([dense(8), np.zeros((1, 64, 64), int)])
    assert [stops for _, stops in told(counts_of(few))] == [False]
    scattered = np.where(np.arange(len(cells))[:, None, None] == 0, cells, 0)
    scattered[0, :, 20:] = 0
    sparse = scattered * (np.arange(64) % 20 < 8)[:, None]  # objects with much background between them
    assert told(counts_of(sparse)) == []


def test_a_field_inside_one_object_may_have_nothing_beside_it() -> None:
    rare = np.zeros((40, 64, 64), int)
    rare[14] = 1
    [(text, stops)] = told(counts_of(rare))
    assert not stops
    assert "39 of 40 annotated sections" in text
    rare[14] = dense(1)[0]
    assert [stops for _, stops in told(counts_of(rare))] == [True]


def test_a_corner_that_is_annotated_is_told_from_the_rest() -> None:
    cells = dense()
    cells[:, 32:], cells[:, :, 40:] = 0, 0
    [(text, stops)] = told(counts_of(cells))
    assert stops
    assert "the margins of the sections (70% of" in text
    assert "box 0:4,0:31,0:39" in text
    cells = dense()
    cells[:, :8], cells[:, -8:] = 0, 0  # a border as narrow as a cell or two
    assert told(counts_of(cells)) == []


def test_ids_that_were_cut_to_fewer_bits_are_told() -> None:
    cells = dense(sections=2, size=80)
    assert told(counts_of(cells)) == []
    [(text, stops)] = told(counts_of(cells.astype(np.uint8)))
    assert not stops
    assert "255 of the 255 ids that 8 bits can hold occur, each in 1.6 pieces per section" in text
    few = dense(sections=1)
    assert told(counts_of(np.where(few < 256, few, 0))) == []


def test_exchanged_classes_are_told() -> None:
    classes = np.where(dense() > 0, 0, 1)
    [(text, stops)] = told(counts_of(classes, classes), "classes")
    assert not stops
    assert "class 'interior' (44%) divides class 'membrane' into cells" in text
    assert told(counts_of(1 - classes, 1 - classes), "classes") == []


def test_cells_are_in_no_doubt_for_their_holes_or_pieces() -> None:
    cells = np.tile(CELL, (4, 4)) * np.arange(1, 257).reshape(16, 16)
    assert told(counts_of(cells[None])) == []
    rings = np.pad(np.ones((3, 3), int), 1)
    rings[2, 2] = 0  # myelin: sixteen rings with a hole each, less than half of the section
    assert told(counts_of([np.tile(rings, (4, 4))]), "interior") == []


def test_an_annotation_of_another_kind_is_not_judged_as_cells() -> None:
    walls = np.tile(1 - CELL, (4, 4))[None]
    assert told(counts_of(walls), "classes", ["rest", "membrane"]) == []


def test_a_class_that_no_training_volume_shows_is_named_with_all_counts() -> None:
    require_every_class({"a": [3, 0, 1], "b": [0, 2, 0]}, ["membrane", "cell", "synapse"])
    with pytest.raises(
        LabelError, match=r"\['a', 'b'\]: no voxel to learn synapse from.* 3 membrane, 2 cell, 0 synapse"
    ):
        require_every_class({"a": [3, 0, 0], "b": [0, 2, 0]}, ["membrane", "cell", "synapse"])
    with pytest.raises(LabelError, match=r"no voxel to learn membrane from.*separation_border: 1"):
        require_every_class({"a": [0, 5]}, NAMES)


def test_labels_without_any_object_teach_no_affinities() -> None:
    require_objects({"a": [0, 5], "b": [7, 0]})
    with pytest.raises(LabelError, match=r"\['b'\]: no voxel belongs to an object \(7 are background\)"):
        require_objects({"b": [7, 0]})


def test_constant_grey_values_stop_the_run_unless_another_channel_shows_something() -> None:
    [all_equal] = constant_channel_problems("v", [0.0])
    assert all_equal.is_error
    assert "volumes.v.raw: all grey values are equal" in all_equal.text
    assert constant_channel_problems("v", [3.0, 0.0]) == [
        LabelProblem("volumes.v.raw: all grey values of channel 1 are equal", False)
    ]


@pytest.mark.parametrize(
    ("classes", "words"),
    [([3, 9997], "0.03 % membrane, 100 % interior"), ([50, 50], "50 % membrane"), ([0, 9], "0 % membrane, 100 %")],
)
def test_small_shares_are_not_rounded_to_nothing(classes: list[int], words: str) -> None:
    counts = LabelCounts(np.array(classes), np.array([1]), LabelCounts.empty(2, 1).ids)
    assert summary_line(counts, "instances", NAMES, sum(classes)).startswith(words)


def test_the_sample_is_in_no_doubt() -> None:
    labels = synthesise(sections=4, size=128, seed=1)[1]
    assert told(counts_of(labels)) == []


def test_a_copy_of_the_raw_data_is_no_annotation_whatever_its_type() -> None:
    raw = synthesise(sections=2, size=96, seed=1)[0]
    for grey in (raw, raw.astype(np.uint16) * 16 + np.arange(96, dtype=np.uint16) % 16):
        [(text, stops)] = told(counts_of(grey))
        assert stops
        assert re.search(r"volumes\.v\.labels: .* pieces per section of 1\.\d pixels each, as grey values do", text)


def test_small_cells_are_not_taken_for_grey_values() -> None:
    """Cells of 2 x 2 px, each an id of its own, a pixel apart."""
    ids = np.zeros((1, 60, 60), int)
    ids[0, ::3, ::3] = np.arange(1, 401).reshape(20, 20)
    wide = ids + np.roll(ids, 1, 1)
    assert told(counts_of(wide + np.roll(wide, 1, 2))) == []


def test_annotations_are_in_no_doubt_and_turned_upside_down_they_are(em_data: Path) -> None:
    isbi = tifffile.imread(em_data / "isbi2012/train-labels.tif")[:6]
    assert told(counts_of(isbi), "interior") == []
    nuclei = tifffile.imread(em_data / "nuclei/mask2d.tif")[None]
    assert counts_of(nuclei).instances == len(np.unique(nuclei)) - 1
    assert told(counts_of(nuclei)) == []
    for name in ("train", "validation"):
        with h5py.File(em_data / f"fib25/{name}.h5") as file:
            bodies = file["volumes/labels/neuron_ids"][:20]
        assert told(counts_of(bodies, np.where(bodies == 0, UNLABELLED, 1))) == []
    vnc = np.stack([imagecodecs.imread(em_data / f"vnc/stack1/labels/labels{z:08}.png") for z in range(2)])
    inside = vnc > 128
    assert told(counts_of(inside), "interior") == []
    assert told(counts_of(vnc == 191), "interior") == []
    for white in (255 - isbi, ~inside):
        for kind in ("instances", "interior"):
            [(text, stops)] = told(counts_of(white), kind)
            assert ("as membranes do" in text, stops) == (True, True)
    for mask in (isbi, vnc):  # classes and a mask of cells, as if they were ids
        [(text, stops)] = told(counts_of(mask))
        assert ("every id is one cell" in text, stops) == (True, True)
