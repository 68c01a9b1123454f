"""Label the basins of a height map: all voxels whose steepest ascent ends at the same local maximum.

1. `_steepest_links`: link every voxel to the neighbour with the steepest slope: the height difference over the length
   of the step. A diagonal step is longer than a straight one. Of the two neighbours along an axis only the higher one
   can be the steepest; of equal ones the first. A section therefore has three candidates instead of 8 neighbours, and
   a section beside it has four.
2. A voxel without a higher neighbour is a **local maximum**. Local maxima of one height that touch form one
   **plateau**, found as a connected component. If a plateau touches a voxel of its height that is no maximum, then
   the plateau and that voxel belong to one basin.
3. `_follow_links`: replace every link by the end of its path. Each round doubles the length of the path that a link
   covers, so the number of rounds is the logarithm of the longest path.

Sections are worked one by one where possible, so that the arrays stay in the processor's caches.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet.segmentation.components import first_voxel_and_size, label_sections, label_volume
from unet.segmentation.fragments import connected_component_labels

NO_FRAGMENT = np.float32(-np.inf)
"""Height of a voxel that belongs to no fragment."""


def label_basins(height: NDArray[np.float32], edge_px: Mapping[int, float]) -> NDArray[np.uint32]:
    """Label the basins of a height map.

    Parameters
    ----------
    height : (z, y, x) float32; the outermost voxels along the axes of `edge_px` can be linked to, but are not labelled
    edge_px : axis -> edge of a voxel in px, for the axes along which voxels are neighbours: y and x, or all three

    Returns
    -------
    (z, y, x) uint32 without the outermost voxels: basins 1, 2, ..., and 0 where the height is ``-inf``

    >>> row = np.array([[[0, 3, 1, 2, 2, 1, 0]]], np.float32)
    >>> label_basins(np.pad(row, ((0, 0), (1, 1), (0, 0)), constant_values=NO_FRAGMENT), {1: 1, 2: 1}).tolist()
    [[[1, 1, 2, 2, 2]]]
    """
    axes = tuple(edge_px)
    core = tuple(slice(1, -1) if axis in axes else slice(None) for axis in range(3))
    known = np.zeros(height.shape, bool)
    known[core] = height[core] > NO_FRAGMENT
    parent = _steepest_links(height, edge_px)
    is_maximum = np.zeros(height.shape, bool)
    for z, (goal, here) in enumerate(zip(parent, known, strict=True)):
        own = _voxel_numbers(height.shape, z)
        is_maximum[z] = (goal == own) & here
        np.copyto(goal, own, where=~(here & known.reshape(-1)[goal]))
    plateau, count = _plateaus(height, is_maximum, axes)
    first, _ = first_voxel_and_size(plateau, count)
    parent[is_maximum] = first[plateau[is_maximum] - 1]
    level_pairs = _level_neighbours(height, known, is_maximum, axes)
    del plateau, is_maximum
    _follow_links(parent.reshape(-1), height[0].size)
    return _number_basins(parent, level_pairs, known)[core]


def step_lengths(edge_px: Mapping[int, float]) -> list[float]:
    """Return the lengths (px) of the steps along x, y and both; with axis 0 also along z, and z with each of these."""
    along_x = float(np.hypot(0.0, edge_px[2]))
    section = [along_x, float(np.hypot(0.0, edge_px[1])), float(np.hypot(along_x, edge_px[1]))]
    return [*section, *(float(np.hypot(length, edge_px[0])) for length in [0.0, *section] if 0 in edge_px)]


def _voxel_numbers(shape: tuple[int, ...], z: int) -> NDArray[np.int32]:
    """Return the numbers of the voxels of section z, in C order of the whole array."""
    size = shape[1] * shape[2]
    return np.arange(z * size, (z + 1) * size, dtype=np.int32).reshape(shape[1:])


def _steepest_links(height: NDArray[np.float32], edge_px: Mapping[int, float]) -> NDArray[np.int32]:
    """Return the number of each voxel's steepest neighbour; the voxel's own number where no neighbour is higher."""
    found = np.empty(height.shape, np.int32)
    sections = (_candidates(height, z, edge_px) for z in range(len(height)))
    before, here = None, next(sections)
    for z, goal in enumerate(found):
        behind = next(sections, None)
        goal[...] = _voxel_numbers(height.shape, z)
        steps = [(candidate, candidate.length) for candidate in here[1:]]
        for section in (before, behind):
            if section and 0 in edge_px:
                steps += [(candidate, float(np.hypot(candidate.length, edge_px[0]))) for candidate in section]
        _keep_steepest(goal, height[z], steps)
        if behind:
            before, here = here, behind
    return found


class _Candidate(NamedTuple):
    """One voxel to link to, for every voxel of a section: its height, its number, and the length of the step (px)."""

    height: NDArray[np.float32]
    number: NDArray[np.int32]
    length: float


def _candidates(height: NDArray[np.float32], z: int, edge_px: Mapping[int, float]) -> list[_Candidate]:
    """Return the candidates within section z: the voxel itself, the neighbours along x, along y, and at the corners."""
    own = _Candidate(height[z], _voxel_numbers(height.shape, z), 0.0)
    along_x = _higher_along(own, 1, edge_px[2])
    return [own, along_x, _higher_along(own, 0, edge_px[1]), _higher_along(along_x, 0, edge_px[1])]


def _higher_along(candidate: _Candidate, axis: int, edge_px: float) -> _Candidate:
    """Return the higher one of the candidate's neighbours before and behind along an axis of the section."""
    height, number = np.full_like(candidate.height, NO_FRAGMENT), candidate.number.copy()
    before, behind = ((slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None)))
    height[behind], number[behind] = candidate.height[before], candidate.number[before]
    higher = candidate.height[behind] > height[before]
    np.copyto(height[before], candidate.height[behind], where=higher)
    np.copyto(number[before], candidate.number[behind], where=higher)
    return _Candidate(height, number, float(np.hypot(candidate.length, edge_px)))


def _keep_steepest(
    goal: NDArray[np.int32], height: NDArray[np.float32], steps: Sequence[tuple[_Candidate, float]]
) -> None:
    """Set `goal` to the candidate with the steepest slope, for every voxel of a section, in place.

    Each candidate comes with the length of the step that leads to it (px).
    """
    slope = np.zeros(height.shape, np.float32)
    for candidate, length in steps:
        with np.errstate(invalid="ignore"):  # -inf minus -inf is NaN, which is never steeper
            rise = candidate.height - height
        rise *= np.float32(1 / length)
        steeper = rise > slope
        np.copyto(slope, rise, where=steeper)
        np.copyto(goal, candidate.number, where=steeper)


def _plateaus(
    height: NDArray[np.float32], is_maximum: NDArray[np.bool_], axes: tuple[int, ...]
) -> tuple[NDArray[np.uint32], int]:
    """Label the local maxima that touch and have one height: labels 1..n, and n."""
    level = np.zeros(height.shape, np.uint32)
    # the bits of a float tell heights apart; + 1 because a height of 0 is a level too
    np.add(height.view(np.uint32), np.uint32(1), out=level, where=is_maximum)
    return label_volume(level, 26) if 0 in axes else label_sections(level, 8)


def _level_neighbours(
    height: NDArray[np.float32], known: NDArray[np.bool_], is_maximum: NDArray[np.bool_], axes: tuple[int, ...]
) -> NDArray[np.int64]:
    """Return the pairs of a local maximum and a neighbour of the same height that is no maximum, by voxel number."""
    flat, candidates = height.reshape(-1), (known & ~is_maximum).reshape(-1)
    maxima = np.flatnonzero(is_maximum)
    strides = [stride // height.itemsize for stride in height.strides]
    pairs = []
    for shift in product(*((-1, 0, 1) if axis in axes else (0,) for axis in range(3))):
        neighbour = maxima + int(np.dot(shift, strides))
        level = candidates[neighbour] & (flat[neighbour] == flat[maxima])
        pairs.append(np.stack([maxima[level], neighbour[level]], axis=1))
    return np.concatenate(pairs)


def _follow_links(parent: NDArray[np.int32], chunk: int) -> None:
    """Replace every link by the end of its path, in place; `chunk` voxels at a time, so that they stay in the cache."""
    unfinished = [slice(lo, lo + chunk) for lo in range(0, len(parent), chunk)]
    while unfinished:
        again = []
        for part in unfinished:
            above = parent.take(parent[part], mode="clip")
            if not np.array_equal(above, parent[part]):
                parent[part] = above
                again.append(part)
        unfinished = again


def _number_basins(
    parent: NDArray[np.int32], level_pairs: NDArray[np.int64], known: NDArray[np.bool_]
) -> NDArray[np.uint32]:
    """Label the voxels 1..n by the end of their path, 0 where `known` is False; a level pair is in one basin."""
    is_root = np.stack([(above == _voxel_numbers(parent.shape, z)) & known[z] for z, above in enumerate(parent)])
    roots = np.flatnonzero(is_root)
    label = np.zeros(parent.size, np.uint32)
    pairs = np.searchsorted(roots, parent.reshape(-1)[level_pairs])
    label[roots] = connected_component_labels(len(roots), pairs) + 1
    return np.stack([label.take(above, mode="clip") for above in parent])
