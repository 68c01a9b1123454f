"""Find labels that are mirrored against the intensities, by the borders of cells.

Files of different programs run in opposite directions: the first row of an MRC file is the bottom of the picture, that
of a TIFF its top. Shapes agree, so that only the voxels tell.

1. `orientation_windows` chooses up to `WINDOWS` windows of one section where most is annotated.
2. In each, `fit` correlates the borders and the background of the labels with the intensities, less their local mean.
   Membranes are dark, or bright, in all windows alike; nothing is assumed about which.
3. The same labels, shifted by every other distance, say how large a correlation is by chance. With c(s) the correlation
   at shift s, and windows w, the score is ``sum_w c_w(0) / sqrt(sum_w var_w c(s))``: standard deviations from chance.
4. The score is compared with that of the labels mirrored along each combination of axes, on the same windows.

Labels as they are score 46 to 196 on ISBI 2012 (sections of 512 px), 24 to 106 on fib25 (250 px), 75 to 142 on vnc
(768 px), 34 on nuclei, 11 to 37 on generated cells of 192 px, and 6 to 14 on windows of 80 px. Mirrored in their
sections they score below 4 everywhere. So `MIN_SCORE` is twice what chance has reached.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet.config.label_kinds import not_annotated_id
from unet.geometry.box import Box, Index
from unet.training.label_check import LabelProblem

WINDOWS = 8
WINDOW_PX = 512
MIN_SCORE = 8.0
"""Standard deviations from chance that mirrored labels need to be found."""
MIN_RATIO = 2.0
"""How many times the score of the labels as they are that is. Scenes that are symmetric stay below."""
LOCAL_PX = 31
"""Width in px of the neighbourhood whose mean is subtracted from the intensities."""
NEAR_PX = 8
"""Shifts in px up to which borders are near their own place, and so no chance."""
AXES = "zyx"
FLIPS = [tuple(a for a, on in zip(AXES, chosen, strict=True) if on) for chosen in product((0, 1), repeat=3)][1:]
"""Every combination of axes but none: (x,), (y,), (y, x), (z,), ..."""

Flip = tuple[str, ...]


class Fit(NamedTuple):
    """Correlation of labels and intensities in a window, and its variance over all other shifts. Fits add up."""

    correlation: float
    variance: float


@dataclass(frozen=True)
class FlipScore:
    """Score of labels mirrored along some axes, and of the same labels as they are, on the same windows."""

    flip: Flip
    mirrored: float
    given: float

    @property
    def is_better(self) -> bool:
        """Return whether the mirrored labels fit clearly better."""
        return self.mirrored >= max(MIN_SCORE, MIN_RATIO * self.given)


def spectrum(intensities: NDArray) -> NDArray[np.complex128]:
    """Return the Fourier transform of the intensities `(y, x)` of a window, less their local mean."""
    transformed: NDArray[np.complex128] = np.fft.rfft2(_without_local_mean(intensities))
    return transformed


def fit(intensities: NDArray[np.complex128], labels: NDArray) -> Fit:
    """Correlate the borders and the background of labels with the intensities of a window.

    Parameters
    ----------
    intensities : complex
        Their `spectrum`.
    labels : unsigned (y, x)
        Ids or classes, 0 = background, `not_annotated_id` = not annotated, which counts nowhere.
    """
    known = labels != not_annotated_id(labels.dtype)
    if not known.any():
        return Fit(0.0, 0.0)
    border = _borders(labels)
    contrast = np.where(known, border - border[known].mean(), 0.0)  # sums to 0: the mean over all shifts is 0, too
    by_shift = np.fft.irfft2(intensities * np.conj(np.fft.rfft2(contrast)), s=labels.shape)
    far = np.ones(labels.shape, np.bool_)
    for rows, columns in product((slice(NEAR_PX + 1), slice(-NEAR_PX, None)), repeat=2):
        far[rows, columns] = False
    return Fit(float(by_shift[0, 0]), float(np.square(by_shift[far]).mean())) if far.any() else Fit(0.0, 0.0)


def _borders(labels: NDArray) -> NDArray[np.bool_]:
    """Return the pixels that are 0, or beside a pixel with another id."""
    border = labels == 0
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    border[1:] |= down
    border[:-1] |= down
    border[:, 1:] |= right
    border[:, :-1] |= right
    return border


def _without_local_mean(intensities: NDArray) -> NDArray[np.float64]:
    """Return intensities less the mean of their neighbourhood, in standard deviations, cut at 3."""
    values = intensities.astype(np.float64)
    mean = np.pad(values, LOCAL_PX // 2, mode="reflect" if min(values.shape) > LOCAL_PX // 2 else "edge")
    for axis in (0, 1):  # a running mean: differences of cumulative sums
        sums = np.insert(np.cumsum(mean, axis=axis), 0, 0, axis=axis)
        count = values.shape[axis]
        mean = (sums.take(range(LOCAL_PX, LOCAL_PX + count), axis) - sums.take(range(count), axis)) / LOCAL_PX
    detail = values - mean
    detail = np.clip(detail / (detail.std() or 1.0), -3, 3)
    return detail - detail.mean()


def score(fits: Iterable[Fit]) -> float:
    """Return by how many standard deviations the correlation of all windows together differs from chance.

    >>> score([Fit(-3.0, 1.0), Fit(-5.0, 3.0)])
    4.0
    """
    fits = list(fits)
    variance = sum(one.variance for one in fits)
    return abs(sum(one.correlation for one in fits)) / variance**0.5 if variance else 0.0


def orientation_windows(
    annotated: Mapping[int, Sequence[tuple[int, Box]]], files: Sequence[Box], shape: Index
) -> list[tuple[Box, Box]]:
    """Choose windows of one section where most is annotated, each with the box of the file that annotates it.

    Parameters
    ----------
    annotated : mapping
        By section, blocks of the section and their annotated voxels.
    files : sequence of Box
        Boxes that the label files hold, in voxels of the volume. They may reach beyond it.
    shape : tuple of int
        Shape of the volume.
    """
    sections = sorted(annotated)
    chosen = [sections[round(i)] for i in np.linspace(0, len(sections) - 1, min(WINDOWS, len(sections)))]
    found: dict[Box, Box] = {}
    for z in chosen:
        blocks = sorted(annotated[z], key=lambda one: (-one[0], one[1]))[: max(1, WINDOWS // len(chosen))]
        for _, block in blocks:
            window = _window_around(z, block, shape)
            held = [(window.intersected(file), file) for file in files]
            part, file = max(held, key=lambda one: one[0].size, default=(window, window))
            if part.size:
                found[part] = file
    return list(found.items())


def _window_around(z: int, block: Box, shape: Index) -> Box:
    """Return a window of one section around the middle of a block, as large as the volume allows."""
    middle = [(lo + hi) // 2 for lo, hi in zip(block.start[1:], block.stop[1:], strict=True)]
    start = [max(0, min(centre - WINDOW_PX // 2, n - WINDOW_PX)) for centre, n in zip(middle, shape[1:], strict=True)]
    return Box((z, *start), (z + 1, *(lo + WINDOW_PX for lo in start))).clipped(shape)


def mirrored(window: Box, file: Box, flip: Flip) -> Box:
    """Return the box whose labels come to lie in a window if the label file is mirrored.

    >>> print(mirrored(Box((0, 0, 2), (1, 4, 8)), Box((0, 0, 0), (5, 10, 10)), ("z", "y")))
    4:5,6:10,2:8
    """
    pairs = [
        (lo + hi - b, lo + hi - a) if axis in flip else (a, b)
        for axis, a, b, lo, hi in zip(AXES, window.start, window.stop, file.start, file.stop, strict=True)
    ]
    return Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))


def orientation_problem(volume: str, number: int, path: str, given: Sequence[str], found: FlipScore) -> LabelProblem:
    """Return the problem of mirrored labels, with what to write.

    Parameters
    ----------
    volume, path : str
        Name of the volume, and path of its label file.
    number : int
        Number of label files of the volume.
    given : sequence of str
        Axes that the configuration already flips.
    found : FlipScore
        The flip that fits.
    """
    axes = [axis for axis in AXES if (axis in found.flip) != (axis in given)]
    instead = f"write `labels: {{path: {path}, flip: [{', '.join(axes)}]}}`" if axes else "remove `flip` of the labels"
    if number > 1:
        instead = f"set `flip: [{', '.join(axes)}]` at the label files that are mirrored"
    return LabelProblem(
        f"volumes.{volume}.labels: mirrored along {' and '.join(found.flip)}, the labels fit the intensities "
        f"{found.mirrored:.0f} standard deviations better than chance, and as they are {found.given:.1f}: file "
        f"and intensities run in opposite directions; {instead}",
        True,
    )
