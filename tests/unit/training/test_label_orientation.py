"""Mirrored labels are found, labels as they are never doubted: on generated cells, and on real volumes."""

from functools import cache
from itertools import product
from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from unet.geometry.box import Box
from unet.training.label_orientation import (
    FLIPS,
    MIN_SCORE,
    WINDOW_PX,
    WINDOWS,
    Flip,
    FlipScore,
    fit,
    mirrored,
    orientation_problem,
    orientation_windows,
    score,
    spectrum,
)
from unet.training.synthetic import synthesise

Volume = tuple[NDArray, NDArray]


def axes_of(flip: Flip) -> list[int]:
    return ["zyx".index(axis) for axis in flip]


def flip_scores(raw: NDArray, labels: NDArray) -> list[FlipScore]:
    """The scores of all flips, over up to eight sections."""
    sections = sorted({round(z) for z in np.linspace(0, len(raw) - 1, WINDOWS)})
    intensities = {z: spectrum(raw[z]) for z in sections}
    whole = [fit(intensities[z], labels[z]) for z in sections]
    found = []
    for flip in FLIPS:
        turned = np.flip(labels, axes_of(flip))
        if "z" not in flip or len(raw) > 1:
            found.append(FlipScore(flip, score(fit(intensities[z], turned[z]) for z in sections), score(whole)))
    return found


def better(raw: NDArray, labels: NDArray) -> list[Flip]:
    """The flips that fit better than the labels as they are, the best first."""
    return [one.flip for one in sorted(flip_scores(raw, labels), key=lambda one: -one.mirrored) if one.is_better]


@cache
def generated(seed: int) -> Volume:
    raw, cells = (values[:, :160, :150] for values in synthesise(sections=4, size=160, seed=seed))
    return raw, cells.astype(np.uint32)


@pytest.mark.parametrize(("seed", "flip"), [(1 + number % 3, flip) for number, flip in enumerate(FLIPS)])
def test_mirrored_labels_are_found_and_what_to_flip(seed: int, flip: Flip) -> None:
    raw, labels = generated(seed)
    assert better(raw, labels) == []
    assert better(255 - raw, np.flip(labels, axes_of(flip)))[0] == flip


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
    assert better(raw[:, :, :30], np.flip(labels[:, :, :30], 1))[0] == ("y",)
    assert score([fit(spectrum(raw[0]), np.full(raw[0].shape, 2**32 - 1, np.uint32))]) == 0


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
    assert mirrored(window, file, ("y",)) == Box((3, 1890, 900), (4, 1990, 950))
    assert mirrored(mirrored(window, file, ("z", "x")), file, ("z", "x")) == window


@pytest.mark.parametrize(
    ("number", "given", "words"),
    [
        (1, [], "write `labels: {path: a.tif, flip: [z, y]}`"),
        (1, ["y"], "write `labels: {path: a.tif, flip: [z]}`"),
        (1, ["z", "y"], "remove `flip` of the labels"),
        (2, [], "set `flip: [z, y]` at the label files that are mirrored"),
    ],
)
def test_the_message_says_what_to_write(number: int, given: list[str], words: str) -> None:
    problem = orientation_problem("one", number, "a.tif", given, FlipScore(("z", "y"), 24.2, 0.4))
    assert problem.is_error
    assert words in problem.text
    assert "24 standard deviations" in problem.text


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
    scores = flip_scores(raw, labels)
    assert min(one.given for one in scores) > 3 * MIN_SCORE
    assert max(one.mirrored for one in scores if "z" not in one.flip) < MIN_SCORE / 2
    assert [one.flip for one in scores if one.is_better] == []
    assert better(raw, labels[:, ::-1])[0] == ("y",)
