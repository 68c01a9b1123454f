"""Find labels that are mirrored, transposed or shifted against the intensities, by the borders of cells.

Files of different programs run in opposite directions: the first row of an MRC file is the bottom of the picture, the
first row of a TIFF the top. Other files store x before y, or hold another crop. The shapes agree, so only the voxels
show the error.

1. `orientation_windows` chooses up to `WINDOWS` windows of one section where most is annotated.
2. In each window, `correlate_borders` compares the borders and the background of the labels with the intensities, less
   their local mean. Membranes are dark, or bright, in all windows alike; nothing is assumed about which.
3. The same labels, shifted by every other distance, say how large a correlation is by chance. With c(s) the correlation
   at shift s, and windows w, the score is ``sum_w c_w(0) / sqrt(sum_w var_w c(s))``: standard deviations from chance.
4. The score is compared with the score of the labels in each other orientation and in neighbouring sections, on the
   same windows. It is also compared with the best of all shifts in the section.
5. Labels that have no better position and fit no better than chance may belong to another volume (`unrelated_problem`).

Labels as they are score 46 to 196 on ISBI 2012 (sections of 512 px), 24 to 106 on fib25 (250 px), and 75 to 142 on vnc
(768 px). They score 34 on nuclei, 11 to 37 on generated cells of 192 px, and 6 to 14 on windows of 80 px. Mirrored in
their sections they score below 4 everywhere. So `MIN_SCORE` is twice what chance has reached.
"""

from collections import Counter
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
SECTION_SHIFTS = (-2, -1, 1, 2)
"""Numbers of sections by which labels may be off."""
MIN_SHIFT_PX = 3
"""Shift in px that is more than another way to draw the same border."""
UNRELATED_SCORE = 3.0
"""Standard deviations from chance below which the borders of labels do not follow the intensities."""
UNRELATED_PX = 128 * 128
"""Pixels of all windows from which that is judged."""

Flip = tuple[str, ...]


class Orientation(NamedTuple):
    """Order of the axes of a label file, and the axes along which it is mirrored after that.

    Labels as they should be are ``flip(labels.transpose(order), flip)``.
    """

    order: tuple[int, int, int] = (0, 1, 2)
    flip: Flip = ()


FLIPS = [tuple(a for a, on in zip(AXES, chosen, strict=True) if on) for chosen in product((0, 1), repeat=3)][1:]
"""Every combination of axes but none: (x,), (y,), (y, x), (z,), ..."""
ORIENTATIONS = [
    *(Orientation(flip=flip) for flip in FLIPS),
    *(Orientation((0, 2, 1), flip) for flip in [(), *FLIPS] if "z" not in flip),
    *(Orientation(order) for order in ((1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))),
]
"""Mirrored; with y and x exchanged, also turned by 90 degrees; with z exchanged."""


class ShiftCorrelation(NamedTuple):
    """Correlation of labels and intensities in a window, and its variance over all other shifts. Both add up."""

    correlation: float
    variance: float


@dataclass(frozen=True)
class PlacementScore:
    """Score of labels placed in another way, and of the same labels as they are, on the same windows.

    Parameters
    ----------
    placement : Orientation or tuple of int
        Another orientation, or a shift (z, y, x) in voxels by which the labels move.
    score, given : float
        Scores in standard deviations from chance.
    """

    placement: "Orientation | Index"
    score: float
    given: float

    @property
    def is_better(self) -> bool:
        """Return whether the labels fit clearly better when they are placed in this way."""
        return self.score >= max(MIN_SCORE, MIN_RATIO * self.given)


def spectrum(intensities: NDArray) -> NDArray[np.complex128]:
    """Return the Fourier transform of the intensities `(y, x)` of a window, less their local mean."""
    transformed: NDArray[np.complex128] = np.fft.rfft2(_without_local_mean(intensities))
    return transformed


def correlate_borders(intensities: NDArray[np.complex128], labels: NDArray) -> ShiftCorrelation:
    """Correlate the borders and the background of labels with the intensities of a window.

    Parameters
    ----------
    intensities : complex
        Their `spectrum`.
    labels : unsigned (y, x)
        Ids or classes, 0 = background, `not_annotated_id` = not annotated, which counts nowhere.
    """
    by_shift = correlation_by_shift(intensities, labels)
    far = np.ones(labels.shape, np.bool_)
    for rows, columns in product((slice(NEAR_PX + 1), slice(-NEAR_PX, None)), repeat=2):
        far[rows, columns] = False
    if not far.any():
        return ShiftCorrelation(0.0, 0.0)
    return ShiftCorrelation(float(by_shift[0, 0]), float(np.square(by_shift[far]).mean()))


def correlation_by_shift(intensities: NDArray[np.complex128], labels: NDArray) -> NDArray[np.float64]:
    """Return the correlation of intensities and labels for every cyclic shift `(y, x)` of the labels.

    Parameters are those of `correlate_borders`.
    """
    known = labels != not_annotated_id(labels.dtype)
    if not known.any():
        return np.zeros(labels.shape)
    border = _borders(labels)
    contrast = np.where(known, border - border[known].mean(), 0.0)  # sums to 0: the mean over all shifts is 0, too
    by_shift: NDArray[np.float64] = np.fft.irfft2(intensities * np.conj(np.fft.rfft2(contrast)), s=labels.shape)
    return by_shift


def best_shift(windows: Sequence[tuple[NDArray[np.complex128], NDArray]], given: float) -> PlacementScore | None:
    """Return the shift in the section at which the labels of all windows together fit best; None without windows.

    Parameters
    ----------
    windows : sequence
        Of each window the `spectrum` of its intensities, and its labels `(y, x)`. Only windows of the commonest shape
        count.
    given : float
        Score of the labels as they are.
    """
    shapes = Counter(labels.shape for _, labels in windows)
    if not shapes:
        return None
    shape = shapes.most_common(1)[0][0]
    total = sum(correlation_by_shift(own, labels) for own, labels in windows if labels.shape == shape)
    strength = np.abs(np.asarray(total))
    at = [int(i) for i in np.unravel_index(int(strength.argmax()), shape)]
    y, x = (i - n if 2 * i > n else i for i, n in zip(at, shape, strict=True))
    spread = float(np.sqrt(np.square(strength).mean()))
    found = float(strength.max()) / spread if spread and max(abs(y), abs(x)) >= MIN_SHIFT_PX else 0.0
    return PlacementScore((0, y, x), found, given)


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


def score(correlations: Iterable[ShiftCorrelation]) -> float:
    """Return by how many standard deviations the correlation of all windows together differs from chance.

    >>> score([ShiftCorrelation(-3.0, 1.0), ShiftCorrelation(-5.0, 3.0)])
    4.0
    """
    correlations = list(correlations)
    variance = sum(one.variance for one in correlations)
    return abs(sum(one.correlation for one in correlations)) / variance**0.5 if variance else 0.0


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


def is_possible(orientation: Orientation, file: Box) -> bool:
    """Return whether a label file of this orientation has the shape that it has.

    >>> is_possible(Orientation((0, 2, 1)), Box((0, 0, 0), (5, 10, 12)))
    False
    """
    return all(file.shape[axis] == n for axis, n in zip(orientation.order, file.shape, strict=True))


def box_in_file(window: Box, file: Box, orientation: Orientation) -> Box:
    """Return the box whose labels come to lie in a window if the label file has another orientation.

    >>> print(box_in_file(Box((0, 0, 2), (1, 4, 8)), Box((0, 0, 0), (5, 10, 10)), Orientation(flip=("z", "y"))))
    4:5,6:10,2:8
    """
    start, stop = list(file.start), list(file.stop)
    for axis, own in enumerate(orientation.order):
        first, last = window.start[axis] - file.start[axis], window.stop[axis] - file.start[axis]
        if AXES[axis] in orientation.flip:
            first, last = file.shape[axis] - last, file.shape[axis] - first
        start[own], stop[own] = file.start[own] + first, file.start[own] + last
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def oriented(labels: NDArray, orientation: Orientation) -> NDArray:
    """Return labels `(z, y, x)` with their axes in the order of the orientation, and mirrored after that.

    >>> oriented(np.array([[[1, 2, 3]]]), Orientation((0, 2, 1), ("y",)))[0].tolist()
    [[3], [2], [1]]
    """
    return np.flip(labels.transpose(orientation.order), tuple(AXES.index(axis) for axis in orientation.flip))


def orientation_problem(
    volume: str, number: int, path: str, given: Sequence[str], axes: str | None, found: PlacementScore
) -> LabelProblem:
    """Return the problem of labels of another orientation, with what to write.

    Parameters
    ----------
    volume, path : str
        Name of the volume, and path of its label file.
    number : int
        Number of label files of the volume.
    given : sequence of str
        Axes that the configuration already flips.
    axes : str or None
        Order of the stored axes that the configuration gives already.
    found : PlacementScore
        The orientation that fits.
    """
    assert isinstance(found.placement, Orientation)
    order, flip = found.placement
    flips = [axis for axis in AXES if (axis in flip) != (AXES[order[AXES.index(axis)]] in given)]
    keys = [f"flip: [{', '.join(flips)}]"] if flips else []
    how = [f"mirrored along {' and '.join(flip)}"] if flip else []
    if order != (0, 1, 2):
        names = {AXES[own]: AXES[axis] for axis, own in enumerate(order)}
        keys.insert(0, "axes: " + "".join(names.get(axis, axis) for axis in axes or AXES))
        how.insert(
            0, "with y and x exchanged" if order[0] == 0 else f"with the axes {', '.join(AXES[i] for i in order)}"
        )
    instead = f"write `labels: {{path: {path}, {', '.join(keys)}}}`" if keys else "remove `flip` of the labels"
    if number > 1:
        instead = f"set `{', '.join(keys)}` at the label files that are turned"
    return LabelProblem(
        f"volumes.{volume}.labels: {', '.join(how)}, the labels fit the intensities {found.score:.0f} standard "
        f"deviations better than chance, and as they are {found.given:.1f}: file and intensities have other "
        f"orientations; {instead}",
        True,
    )


def shift_problem(volume: str, path: str, found: PlacementScore) -> LabelProblem:
    """Return the problem of labels that lie beside what they mean, with what to write."""
    moved = [f"{n:+d} along {axis}" for axis, n in zip(AXES, found.placement, strict=True) if n]
    return LabelProblem(
        f"volumes.{volume}.labels: moved by {' and '.join(moved)} (voxels), the labels fit the intensities "
        f"{found.score:.0f} standard deviations better than chance, and as they are {found.given:.1f}: they lie beside "
        f"what they mean. Are they of another crop, or do their sections begin elsewhere? Correct {path}, or say by "
        "`offset` of the labels where their first voxel lies",
        True,
    )


def unrelated_problem(volume: str, score: float, pixels: int) -> LabelProblem | None:
    """Return a warning if the borders of the labels do not follow the intensities at all; None if they do.

    Parameters
    ----------
    volume : str
        Name of the volume.
    score : float
        Score of the labels as they are.
    pixels : int
        Pixels of the windows that were looked at; few of them say nothing.

    >>> unrelated_problem("a", 0.4, 99) is unrelated_problem("a", 24.0, 10**6) is None
    True
    """
    if score >= UNRELATED_SCORE or pixels < UNRELATED_PX:
        return None
    return LabelProblem(
        f"volumes.{volume}.labels: the borders of the labels follow the intensities no better than chance "
        f"({score:.1f} standard deviations; labels that belong to their volume have 6 to 200). Do the labels belong to "
        "another volume, or are they empty where the cells are?",
        False,
    )
