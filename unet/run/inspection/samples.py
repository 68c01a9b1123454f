"""Read small samples of a source of any size: windows of a few sections. Memory does not grow with the volume."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unet.geometry.box import Box
from unet.volumes.readers.source import Source

SAMPLED_SECTIONS = 8
"""Sections of a sample, spread evenly from the first to the last."""
WINDOW_PX = 1024
"""Side in px of the window that is read of a section, from its middle."""
LONGEST_SHIFT_PX = 64
"""Largest shift in px whose correlation is compared with that of neighbouring sections."""
MIN_CORRELATION = 0.05
"""Correlation of neighbouring sections below which nothing follows from it."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Windows of some sections of a source.

    Attributes
    ----------
    values : numpy.ndarray
        ``(section, y, x)``, the first channel.
    sections : tuple of int
        Number of each section in the source.
    boxes : tuple of Box
        Box of each window.
    """

    values: NDArray
    sections: tuple[int, ...]
    boxes: tuple[Box, ...]


def spread(count: int, at_most: int) -> tuple[int, ...]:
    """Return numbers below `count`, spread evenly; the first, the middle and the last one are among them.

    >>> spread(24, 3), spread(2, 8)
    ((0, 12, 23), (0, 1))
    """
    if count <= at_most:
        return tuple(range(count))
    even = np.linspace(0, count - 1, at_most).round().astype(int).tolist()
    even[at_most // 2] = count // 2
    return tuple(sorted(set(even)))


def middle_window(source: Source, z: int, side: int = WINDOW_PX) -> Box:
    """Return a box of one section, from the middle of the section and at most `side` px wide."""
    corner = [max(0, (n - side) // 2) for n in source.shape[1:]]
    return Box((z, *corner), (z + 1, *(lo + side for lo in corner))).clipped(source.shape)


def read_sample(source: Source, at_most: int = SAMPLED_SECTIONS, side: int = WINDOW_PX) -> Sample:
    """Read windows of some sections of a source.

    Raises
    ------
    SourceError
        If a section cannot be read.
    """
    sections = spread(source.shape[0], at_most)
    boxes = tuple(middle_window(source, z, side) for z in sections)
    windows = [source.read(box).reshape(source.channels, *box.shape) for box in boxes]
    values = np.stack([_one_value(window)[0] for window in windows])
    return Sample(values, sections, boxes)


def _one_value(window: NDArray) -> NDArray:
    """Return one value per voxel: the first channel, or the colour as one number where channels are red, green, blue.

    Intensities of several stains are not joined, since a sample then shows the first.
    """
    if window.shape[0] not in (3, 4) or window.dtype != np.uint8:
        return window[0]
    red, green, blue = (window[c].astype(np.uint32) for c in range(3))
    colour = red << 16 | green << 8 | blue
    return colour if _is_flat(colour) else window[0]


def _is_flat(colour: NDArray) -> bool:
    return bool(np.mean(colour[..., 1:] == colour[..., :-1]) > 0.8)


def section_distance_px(source: Source, side: int = 512) -> float | None:
    """Return the distance of neighbouring sections in px of a section, from the correlation of intensities.

    Assume that the tissue looks the same in all directions. Then sections that are d px apart correlate as a section
    does with itself, shifted by d px.

    Returns
    -------
    float or None
        At most `LONGEST_SHIFT_PX`; None with one section, or where neighbouring sections do not correlate.
    """
    depth = source.shape[0]
    if depth < 2:
        return None
    distances = [one for z in spread(depth - 1, 3) if (one := _distance_of_pair(source, z, side)) is not None]
    return float(np.median(distances)) if distances else None


def likeness(source: Source, side: int = 512) -> tuple[float, float, float] | None:
    """Return the correlation of neighbouring voxels along z, y and x, in two sections in the middle.

    Returns
    -------
    tuple of float, or None
        None if an axis has one voxel only.
    """
    if min(source.shape) < 2:
        return None
    z = (source.shape[0] - 2) // 2
    one, other = (_first_channel(source, section, side) for section in (z, z + 1))
    return _correlation(one, other), _correlation(one[1:], one[:-1]), _correlation(one[:, 1:], one[:, :-1])


def _distance_of_pair(source: Source, z: int, side: int) -> float | None:
    first, second = (_first_channel(source, section, side) for section in (z, z + 1))
    between = _correlation(first, second)
    if not between >= MIN_CORRELATION:
        return None
    before = 1.0
    for shift in range(1, min(LONGEST_SHIFT_PX, first.shape[1] // 2)):
        within = _correlation(first[:, shift:], first[:, :-shift])
        if within <= between:
            return shift - 1 + (before - between) / max(before - within, 1e-9)
        before = within
    return float(LONGEST_SHIFT_PX)


def _first_channel(source: Source, z: int, side: int) -> NDArray:
    """Return the middle of a section `(y, x)`, of several channels the first."""
    box = middle_window(source, z, side)
    return source.read(box).reshape(source.channels, *box.shape[1:])[0]


def _correlation(one: NDArray, other: NDArray) -> float:
    a, b = (np.asarray(part, np.float64) - np.mean(part, dtype=np.float64) for part in (one, other))
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm else 0.0
