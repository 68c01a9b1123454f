"""Mirrored, transposed and shifted labels are found, right ones never doubted: on generated cells and real volumes."""

from functools import cache
from itertools import product
from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from tests.stand_in import SHARED
from unet.geometry.box import Box, Index
from unet.training.label_orientation import (
    FLIPS,
    MIN_SCORE,
    ORIENTATIONS,
    SECTION_SHIFTS,
    UNRELATED_SCORE,
    WINDOW_PX,
    WINDOWS,
    Flip,
    Orientation,
    PlacementScore,
    best_shift,
    box_in_file,
    correlate_borders,
    is_possible,
    orientation_problem,
    orientation_windows,
    oriented,
    score,
    shift_problem,
    spectrum,
    unrelated_problem,
)
from unet.training.synthetic import synthesise

Volume = tuple[NDArray, NDArray]


def axes_of(flip: Flip) -> list[int]:
    return ["zyx".index(axis) for axis in flip]


def placement_scores(raw: NDArray, labels: NDArray) -> list[PlacementScore]:
    """The scores of all other places, over up to eight sections."""
    sections = sorted({round(z) for z in np.linspace(0, len(raw) - 1, WINDOWS)})
    intensities = {z: spectrum(raw[z]) for z in sections}
    given = {z: correlate_borders(intensities[z], labels[z]) for z in sections}
    found = []
    for turn in ORIENTATIONS:
        if is_possible(turn, Box.of_shape(labels.shape)) and ("z" not in turn.flip or len(raw) > 1):
            turned = oriented(labels, turn)
            found.append(
                PlacementScore(
                    turn, score(correlate_borders(intensities[z], turned[z]) for z in sections), score(given.values())
                )
            )
    for by in SECTION_SHIFTS:
        usable = [z for z in sections if 0 <= z + by < len(raw)]
        moved = score(correlate_borders(intensities[z], labels[z + by]) for z in usable)
        found.append(PlacementScore((-by, 0, 0), moved, score(given[z] for z in usable)))
    shifted = best_shift([(intensities[z], labels[z]) for z in sections], score(given.values()))
    return found + [shifted] * (shifted is not None)


def better(raw: NDArray, labels: NDArray) -> list[Orientation | Index]:
    """The places where the labels fit better than as they are, the best first."""
    return [one.placement for one in sorted(placement_scores(raw, labels), key=lambda one: -one.score) if one.is_better]


@cache
def generated(seed: int) -> Volume:
    raw, cells = (values[:, :160, :150] for values in synthesise(sections=4, size=160, seed=seed))
    return raw, cells.astype(np.uint32)


@pytest.mark.parametrize(("seed", "flip"), [(1 + number % 3, flip) for number, flip in enumerate(FLIPS)])
def test_mirrored_labels_are_found_and_what_to_flip(seed: int, flip: Flip) -> None:
    raw, labels = generated(seed)
    assert better(raw, labels) == []
    assert better(255 - raw, np.flip(labels, axes_of(flip)))[0] == Orientation(flip=flip)


@pytest.mark.parametrize("turn", [turn for turn in ORIENTATIONS if turn.order == (0, 2, 1)])
def test_transposed_and_rotated_labels_are_found(turn: Orientation) -> None:
    raw, labels = (values[:2, :150] for values in generated(2))
    turned = np.flip(labels, axes_of(turn.flip)).transpose(turn.order)
    np.testing.assert_array_equal(oriented(turned, turn), labels)
    assert better(raw, turned)[0] == turn


@pytest.mark.parametrize("turn", ORIENTATIONS)
def test_a_window_of_a_turned_file_holds_what_the_right_file_has_there(turn: Orientation) -> None:
    file = Box((2, 1, 3), (7, 6, 8))
    right = np.arange(125).reshape(5, 5, 5)
    stored = np.flip(right, axes_of(turn.flip)).transpose(np.argsort(turn.order))
    np.testing.assert_array_equal(oriented(stored, turn), right)
    window = Box((3, 2, 5), (4, 5, 7))
    there = stored[box_in_file(window, file, turn).relative_to(file.start).slices]
    np.testing.assert_array_equal(oriented(there, turn), right[window.relative_to(file.start).slices])


@pytest.mark.parametrize("shift", [(0, 20), (-10, 13)])
def test_labels_that_lie_beside_their_cells_are_found(shift: tuple[int, int]) -> None:
    raw, labels = generated(1)
    assert better(raw, np.roll(labels, shift, (1, 2)))[0] == (0, -shift[0], -shift[1])


def test_labels_of_other_sections_are_found_where_sections_differ() -> None:
    pairs = [generated(seed) for seed in (1, 2, 3, 4)]  # four sections of which none is like another
    raw, labels = (np.stack([pair[i][0] for pair in pairs]) for i in (0, 1))
    assert better(raw, labels) == []
    assert better(raw[:-1], labels[1:])[0] == (1, 0, 0)
    assert better(np.stack([raw[0]] * 4), np.stack([labels[0]] * 4)) == []


def test_labels_of_another_volume_are_doubted() -> None:
    (raw, labels), (_, others) = generated(1), generated(2)
    given = placement_scores(raw, others)[0].given
    assert better(raw, others) == []
    assert given < UNRELATED_SCORE
    said = unrelated_problem("one", given, others.size)
    assert said is not None
    assert not said.is_error
    assert "no better than chance" in said.text
    assert unrelated_problem("one", placement_scores(raw, labels)[0].given, labels.size) is None


def test_symmetric_scenes_and_noise_are_not_judged() -> None:
    cells = np.zeros((1, 160, 160), np.uint32)
    for y, x in product(range(0, 160, 40), repeat=2):
        cells[:, y + 3 : y + 37, x + 3 : x + 37] = 1 + y + x // 40
    noise = np.random.default_rng(1).integers(0, 60, cells.shape).astype(np.uint8)
    assert better(np.where(cells > 0, 170, 60).astype(np.uint8) + noise, cells) == []
    assert better(noise[:, :, :150], generated(1)[1][:1]) == []
    assert better(np.full_like(noise, 7), cells) == []


def test_what_nobody_annotated_says_nothing() -> None:
    raw, labels = generated(1)
    labels = np.where(np.arange(150) < 30, labels, np.uint32(2**32 - 1))
    assert better(raw, labels) == []
    assert better(raw[:, :, :30], np.flip(labels[:, :, :30], 1))[0] == Orientation(flip=("y",))
    assert score([correlate_borders(spectrum(raw[0]), np.full(raw[0].shape, 2**32 - 1, np.uint32))]) == 0


def test_windows_lie_where_most_is_annotated_inside_their_file() -> None:
    shape, file = (9, 2000, 1500), Box((2, 20, 900), (7, 1990, 1400))
    blocks = [Box((0, 0, 0), (9, 1000, 1000)), Box((0, 1000, 1000), (9, 2000, 1500))]
    annotated = {z: [(10, blocks[0]), (99 + z, blocks[1])] for z in range(2, 7)}
    found = orientation_windows(annotated, [file], shape)
    assert [window.start[0] for window, _ in found] == [2, 3, 4, 5, 6]
    assert all(file.contains(window) and inside == file for window, inside in found)
    assert found[0][0] == Box((2, 1244, 988), (3, 1244 + WINDOW_PX, 1400))
    assert orientation_windows({}, [file], shape) == []


def test_a_mirrored_window_lies_at_the_other_end_of_the_file() -> None:
    window, file = Box((3, 20, 900), (4, 120, 950)), Box((2, 20, 900), (7, 1990, 1400))
    assert box_in_file(window, file, Orientation(flip=("y",))) == Box((3, 1890, 900), (4, 1990, 950))


@pytest.mark.parametrize(
    ("number", "given", "axes", "turn", "words"),
    [
        (1, [], None, Orientation(flip=("z", "y")), "mirrored along z and y, the labels fit"),
        (1, [], None, Orientation(flip=("z", "y")), "write `labels: {path: a.tif, flip: [z, y]}`"),
        (1, ["y"], None, Orientation(flip=("z", "y")), "write `labels: {path: a.tif, flip: [z]}`"),
        (1, ["z", "y"], None, Orientation(flip=("z", "y")), "remove `flip` of the labels"),
        (2, [], None, Orientation(flip=("z", "y")), "set `flip: [z, y]` at the label files that are turned"),
        (1, [], None, Orientation((0, 2, 1)), "write `labels: {path: a.tif, axes: zxy}`"),
        (1, [], None, Orientation((0, 2, 1), ("y",)), "with y and x exchanged, mirrored along y, the labels"),
        (1, [], None, Orientation((0, 2, 1), ("y",)), "axes: zxy, flip: [y]}`"),
        (1, ["y"], "xyz", Orientation((0, 2, 1)), "axes: yxz, flip: [x]}`"),
        (1, [], None, Orientation((1, 2, 0)), "with the axes y, x, z, the labels"),
        (1, [], None, Orientation((1, 2, 0)), "axes: xzy}`"),
    ],
)
def test_the_message_says_what_to_write(
    number: int, given: list[str], axes: str | None, turn: Orientation, words: str
) -> None:
    problem = orientation_problem("one", number, "a.tif", given, axes, PlacementScore(turn, 24.2, 0.4))
    assert problem.is_error
    assert words in problem.text
    assert "24 standard deviations" in problem.text


def test_the_message_of_a_shift_says_by_how_much() -> None:
    problem = shift_problem("one", "a.tif", PlacementScore((0, -20, 3), 24.2, 0.4))
    assert problem.is_error
    assert "moved by -20 along y and +3 along x (voxels), the labels fit" in problem.text


def isbi2012(folder: Path) -> Volume:
    raw, labels = (tifffile.imread(folder / f"isbi2012/train-{name}.tif") for name in ("volume", "labels"))
    return raw, labels.astype(np.uint32)


def fib25(folder: Path) -> Volume:
    with h5py.File(folder / "fib25/validation.h5") as file:
        ids = file["volumes/labels/neuron_ids"][()].astype(np.uint64)
        return file["volumes/raw"][()], np.where(ids == 0, np.uint64(2**64 - 1), ids)


def vnc(folder: Path) -> Volume:
    raw, classes = (
        np.stack([imagecodecs.imread(path) for path in sorted((folder / "vnc/stack1" / name).iterdir())[:4]])
        for name in ("raw", "labels")
    )
    return raw, np.where(classes == 159, 255, classes > 159).astype(np.uint8)


def nuclei(folder: Path) -> Volume:
    raw, ids = (tifffile.imread(folder / "nuclei" / name)[None] for name in ("img2d.tif", "mask2d.tif"))
    return raw, ids.astype(np.uint32)


@pytest.mark.parametrize("volume", [isbi2012, fib25, vnc, nuclei], ids=lambda volume: volume.__name__)
def test_on_annotated_volumes_a_mirror_is_found_and_nothing_else(volume: object, em_data: Path) -> None:
    raw, labels = (values[:, :500, :480] for values in volume(em_data))  # type: ignore[operator]
    scores = placement_scores(raw, labels)
    margin = 3 if em_data == SHARED else 2.5  # the generated stand-in has fewer voxels, so its scores are lower
    assert min(one.given for one in scores if one.given) > margin * MIN_SCORE
    turned = [one for one in scores if isinstance(one.placement, Orientation) and "z" not in one.placement.flip]
    assert max(one.score for one in turned) < MIN_SCORE / 2
    assert [one.placement for one in scores if one.is_better] == []
    assert better(raw[:2], labels[:2, ::-1])[0] == Orientation(flip=("y",))
    found = better(raw[:2], np.roll(labels[:2], 12, 2))[0]
    assert (
        np.abs(np.subtract(found, (0, 0, -12))).max() <= 1
    )  # borders are drawn up to a pixel beside the darkest place
