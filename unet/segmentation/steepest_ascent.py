"""Every voxel of a height map led to the summit that it climbs to: labels of an array, from links between neighbours.

1. `_steepest`: link every voxel with the neighbour to which the way up is steepest: the difference of the heights over
   the length of the step, which is longer to a corner than to a face. Of the two neighbours along an axis only the
   higher one can be it (of equal ones the first), so a section has three lines for 8 neighbours, one beside it four.
2. A voxel without a higher neighbour is a summit. Summits of one height that touch are one **plateau**, found as a
   connected component; and a plateau that touches a voxel of its height which is no summit is one with that voxel's.
3. `_led_to_roots`: links are followed by doubling, so that it takes the logarithm of their longest way.

All goes section by section where it can: arrays of a section stay in the processor's caches.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet.segmentation.components import first_and_size, label_sections, label_volume
from unet.segmentation.fragments import union

NOWHERE = np.float32(-np.inf)
"""Height of a voxel that belongs to no fragment."""


def label_basins(height: NDArray[np.float32], edges: Mapping[int, float]) -> NDArray[np.uint32]:
    """Number the trees of links of an array.

    Parameters
    ----------
    height : (z, y, x); the outermost voxels along the axes of `edges` are looked at, but not linked with
    edges : edge of a voxel along each axis along which neighbours lie: y and x, or all

    Returns
    -------
    (z, y, x) without the outermost voxels: 1, 2, ..., and 0 where the height is ``-inf``

    >>> row = np.array([[[0, 3, 1, 2, 2, 1, 0]]], np.float32)
    >>> label_basins(np.pad(row, ((0, 0), (1, 1), (0, 0)), constant_values=NOWHERE), {1: 1, 2: 1}).tolist()
    [[[1, 1, 2, 2, 2]]]
    """
    axes = tuple(edges)
    core = tuple(slice(1, -1) if axis in axes else slice(None) for axis in range(3))
    known = np.zeros(height.shape, bool)
    known[core] = height[core] > NOWHERE
    parent = _steepest(height, edges)
    summit = np.zeros(height.shape, bool)
    for z, (goal, here) in enumerate(zip(parent, known, strict=True)):
        own = _numbers(height.shape, z)
        summit[z] = (goal == own) & here
        np.copyto(goal, own, where=~(here & known.reshape(-1)[goal]))
    plateau, count = _plateaus(height, summit, axes)
    first, _ = first_and_size(plateau, count)
    parent[summit] = first[plateau[summit] - 1]
    joined = _beside_plateaus(height, known, summit, axes)
    del plateau, summit
    _led_to_roots(parent.reshape(-1), height[0].size)
    return _numbered(parent, joined, known)[core]


def _numbers(shape: tuple[int, ...], z: int) -> NDArray[np.int32]:
    """Of the voxels of a section, in C order of the whole array."""
    size = shape[1] * shape[2]
    return np.arange(z * size, (z + 1) * size, dtype=np.int32).reshape(shape[1:])


def _steepest(height: NDArray[np.float32], edges: Mapping[int, float]) -> NDArray[np.int32]:
    """The number of the neighbour to which the way up from each voxel is steepest; its own where none is higher."""
    found, sections = np.empty(height.shape, np.int32), (_lines(height, z, edges) for z in range(len(height)))
    before, here = None, next(sections)
    for z, goal in enumerate(found):
        behind = next(sections, None)
        goal[...] = _numbers(height.shape, z)
        steps = [(line, line.length) for line in here[1:]]
        for section in (before, behind):
            if section and 0 in edges:
                steps += [(line, float(np.hypot(line.length, edges[0]))) for line in section]
        _go_steepest(goal, height[z], steps)
        if behind:
            before, here = here, behind
    return found


class _Line(NamedTuple):
    """For every voxel of a section one that lies beside it or is it: height, number, and the length of the step."""

    height: NDArray[np.float32]
    number: NDArray[np.int32]
    length: float


def _lines(height: NDArray[np.float32], z: int, edges: Mapping[int, float]) -> list[_Line]:
    """What of a section may be the steepest: itself, the neighbours along x, along y, and at the corners."""
    own = _Line(height[z], _numbers(height.shape, z), 0.0)
    along_x = _higher_along(own, 1, edges[2])
    return [own, along_x, _higher_along(own, 0, edges[1]), _higher_along(along_x, 0, edges[1])]


def _higher_along(line: _Line, axis: int, edge: float) -> _Line:
    """The higher one of what lies before and behind along an axis of a section."""
    height, number = np.full_like(line.height, NOWHERE), line.number.copy()
    before, behind = ((slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None)))
    height[behind], number[behind] = line.height[before], line.number[before]
    higher = line.height[behind] > height[before]
    np.copyto(height[before], line.height[behind], where=higher)
    np.copyto(number[before], line.number[behind], where=higher)
    return _Line(height, number, float(np.hypot(line.length, edge)))


def _go_steepest(goal: NDArray[np.int32], height: NDArray[np.float32], steps: Sequence[tuple[_Line, float]]) -> None:
    """Let every voxel of a section go where the slope is largest, given with the lengths of the steps."""
    slope = np.zeros(height.shape, np.float32)
    for line, length in steps:
        with np.errstate(invalid="ignore"):  # from nowhere to nowhere
            to_line = line.height - height
        to_line *= np.float32(1 / length)
        steeper = to_line > slope
        np.copyto(slope, to_line, where=steeper)
        np.copyto(goal, line.number, where=steeper)


def _plateaus(
    height: NDArray[np.float32], summit: NDArray[np.bool_], axes: tuple[int, ...]
) -> tuple[NDArray[np.uint32], int]:
    """Summits of one height that touch, labelled 1..n."""
    level = np.zeros(height.shape, np.uint32)
    np.add(height.view(np.uint32), np.uint32(1), out=level, where=summit)  # a height of 0 is one too
    return label_volume(level, 26) if 0 in axes else label_sections(level, 8)


def _beside_plateaus(
    height: NDArray[np.float32], known: NDArray[np.bool_], summit: NDArray[np.bool_], axes: tuple[int, ...]
) -> NDArray[np.int64]:
    """Pairs of a summit and a neighbour of its height that is none, by their numbers."""
    flat, candidates = height.reshape(-1), (known & ~summit).reshape(-1)
    summits = np.flatnonzero(summit)
    strides = [stride // height.itemsize for stride in height.strides]
    pairs = []
    for shift in product(*((-1, 0, 1) if axis in axes else (0,) for axis in range(3))):
        beside = summits + int(np.dot(shift, strides))
        level = candidates[beside] & (flat[beside] == flat[summits])
        pairs.append(np.stack([summits[level], beside[level]], axis=1))
    return np.concatenate(pairs)


def _led_to_roots(parent: NDArray[np.int32], at_once: int) -> None:
    """Replace every parent by the root above it, in place."""
    parts = [slice(lo, lo + at_once) for lo in range(0, len(parent), at_once)]
    while parts:
        left = []
        for part in parts:
            above = parent.take(parent[part], mode="clip")
            if not np.array_equal(above, parent[part]):
                parent[part] = above
                left.append(part)
        parts = left


def _numbered(parent: NDArray[np.int32], joined: NDArray[np.int64], known: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Labels 1..n of the voxels by their roots, alike for the two of a pair in `joined`; 0 where nothing is known."""
    is_root = np.stack([(above == _numbers(parent.shape, z)) & known[z] for z, above in enumerate(parent)])
    roots = np.flatnonzero(is_root)
    label = np.zeros(parent.size, np.uint32)
    label[roots] = union(len(roots), np.searchsorted(roots, parent.reshape(-1)[joined])) + 1
    return np.stack([label.take(above, mode="clip") for above in parent])
