"""From stored affinities to the interior of cells, and to the offsets that the region graph counts.

The affinity ``a_d(p)`` is the probability that the voxels p and p + d belong to one object (`unet.geometry.offsets`). A
voxel inside a cell belongs to the object of both its neighbours along an axis; a voxel of a membrane does not. With the
nearest offset d of each axis, the interior of a voxel is

``interior(p) = mean over the axes of min(a_d(p), a_d(p - d))``.

A pair with one end beyond the volume counts as affinity 1: nothing is excluded at the faces of the volume.

```
voxels        0   1   2 | 3   4      | = membrane between two cells
a (x+1)       1   1   0   1   .      the pair 4, 5 lies beyond the volume: 1
interior      1   1   0   0   1      min(a of the voxel, a of the voxel before)
```
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.config.segment import SegmentConfig
from unet.geometry.box import Box, Index
from unet.geometry.offsets import Offset, offset_name

CERTAIN = 255
"""The affinity 1 as stored in uint8."""


class MethodMismatchError(ValueError):
    """`segment.agglomerate.method` needs affinities and the network gives classes, or the other way round."""


class MissingAffinity(ValueError):
    """A segmentation needs the nearest affinity along an axis, and the network does not give it."""


def affinity_levels(stored: NDArray[Any]) -> NDArray[np.uint8]:
    """Return affinities x 255 as uint8, from uint8 (p x 255) or float32 of any shape.

    >>> affinity_levels(np.array([0.2, 1], np.float32)).tolist()
    [51, 255]
    """
    return stored if stored.dtype == np.uint8 else np.rint(stored * CERTAIN).astype(np.uint8)


def nearest_channels(offsets: Sequence[Offset], axes: Sequence[int]) -> dict[int, int]:
    """Return the channel of the nearest offset along each axis.

    Raises
    ------
    MissingAffinity
        If there is none along an axis.

    >>> nearest_channels([(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 9)], axes=(1, 2))
    {1: 1, 2: 2}
    """
    channels = {}
    for axis in axes:
        nearest = (int(axis == 0), int(axis == 1), int(axis == 2))
        if nearest not in offsets:
            raise MissingAffinity(
                f"the network gives the affinities {[offset_name(offset) for offset in offsets]}, but the segmentation "
                f"needs {offset_name(nearest)}: add {list(nearest)} to model.offsets, or set segment.connectivity"
            )
        channels[axis] = list(offsets).index(nearest)
    return channels


def interior_read_box(box: Box, axes: Sequence[int]) -> Box:
    """Return the box of affinities that the interior of a box depends on: one voxel more before each axis.

    >>> print(interior_read_box(Box((2, 0, 4), (3, 4, 8)), axes=(1, 2)))
    2:3,0:4,3:8
    """
    return Box(tuple(max(0, lo - (axis in axes)) for axis, lo in enumerate(box.start)), box.stop)


def interior(
    stored: NDArray[Any], box: Box, volume_shape: Index, offsets: Sequence[Offset], axes: Sequence[int]
) -> NDArray[np.uint8]:
    """Return the interior of every voxel of a box, rounded to 1/255.

    Parameters
    ----------
    stored : (c, z, y, x) uint8 (p x 255) or float32, affinities of `interior_read_box` of the box
    box : the voxels whose interior is wanted
    volume_shape : (z, y, x) voxels of the whole volume
    offsets : offset of each channel
    axes : axes along which voxels are neighbours: y and x, or all three

    Returns
    -------
    (z, y, x) uint8, interior x 255

    >>> affinities = np.array([[[[255, 255, 0, 255, 9]]]], np.uint8)
    >>> interior(affinities, Box((0, 0, 0), (1, 1, 5)), (1, 1, 5), [(0, 0, 1)], axes=(2,)).tolist()
    [[[255, 255, 0, 0, 255]]]
    """
    read = interior_read_box(box, axes)
    if stored.shape[1:] != read.shape:
        raise ValueError(f"affinities of shape {stored.shape[1:]} for {read}, to be read for {box}")
    inside = box.relative_to(read.start).slices
    total = np.zeros(box.shape, np.uint16)
    for axis, channel in nearest_channels(offsets, axes).items():
        levels = np.moveaxis(affinity_levels(stored[channel]), axis, 0)
        pairs = np.full((len(levels) + 1, *levels.shape[1:]), CERTAIN, np.uint8)  # pair i ends at plane i
        pairs[1:] = levels
        if box.stop[axis] == volume_shape[axis]:
            pairs[-1] = CERTAIN
        total += np.moveaxis(np.minimum(pairs[:-1], pairs[1:]), 0, axis)[inside]
    return ((total + len(axes) // 2) // len(axes)).astype(np.uint8)


def graph_channels(
    offsets: Sequence[Offset], max_offset: int | None, max_section_gap: int | None, section: bool
) -> list[int]:
    """Return the channels whose pairs of voxels the region graph counts.

    Parameters
    ----------
    offsets : offset of each channel
    max_offset : largest component of an offset in voxels; None = any
    max_section_gap : sections that a pair may skip where fragments lie in one section; None = no pair of two sections
    section : whether every fragment lies in one section

    >>> graph_channels([(1, 0, 0), (0, 0, 1), (3, 0, 0), (0, 0, 9)], None, max_section_gap=1, section=True)
    [0, 1, 3]
    """
    most_sections = (0 if max_section_gap is None else max_section_gap + 1) if section else None
    return [
        channel
        for channel, offset in enumerate(offsets)
        if (max_offset is None or max(map(abs, offset)) <= max_offset)
        and (most_sections is None or offset[0] <= most_sections)
    ]


def require_method_for(segment: SegmentConfig, offsets: Sequence[Offset] | None) -> None:
    """Refuse a method of the agglomeration that does not fit the output of the network.

    Parameters
    ----------
    segment : settings of the segmentation
    offsets : offset of each channel of the network's output; None = classes

    Raises
    ------
    MethodMismatchError
        If the method needs classes and the output is affinities, or the other way round.
    """
    instead = segment.fitting_methods(offsets is not None)
    if instead is not None:
        raise MethodMismatchError(
            f"segment.agglomerate.method is {segment.agglomerate.method}, but the network gives "
            f"{'classes' if offsets is None else 'affinities'}: take one of {instead}"
        )
