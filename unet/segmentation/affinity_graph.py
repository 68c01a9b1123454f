"""The region graph of affinities: exact sums over the pairs of voxels of two fragments, which add over blocks.

A pair is a voxel p and the voxel p + d, for an offset d of the network. Both lie inside the volume, in two different
fragments. An edge carries the number of its pairs and the sum of their affinities, for nearest and for long-range
offsets apart. Two fragments that do not touch have an edge as well where a long pair spans what lies between them.

1. `block_affinity_edges`: count the pairs whose first voxel lies in the block. The second may lie in any block beside.
2. `AffinityEdges.as_boundary`: an edge of the region graph, ``contacts`` = pairs and ``boundary`` = sum of
   ``1 - affinity``. All that is done with edges of a boundary probability can be done with these.

```
fragments     a a a | b c c       offsets (0, 0, 1) and (0, 0, 3)
nearest       a-b: 1, b-c: 1
long          a-b: 1, a-c: 2      a and c do not touch
```
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unet.geometry.box import Box, Index
from unet.geometry.compiled import use_compiled
from unet.geometry.offsets import Offset, is_nearest
from unet.geometry.run_length_encoding import run_starts
from unet.segmentation.affinities import CERTAIN
from unet.segmentation.region_graph import Edges, compact_ids, group_edges, in_order, sum_groups
from unet.storage.files import load_arrays, save_arrays

SUMS = ("nearest_pairs", "nearest_affinity", "long_pairs", "long_affinity")
"""Columns that are summed over parallel edges."""


@dataclass(frozen=True, eq=False)
class AffinityEdges:
    """``n`` edges, each once, in increasing order of (u, v).

    Attributes
    ----------
    u, v : (n,) integers, ids of two fragments, ``u < v``
    nearest_pairs : (n,) int64, pairs of voxels that share a face
    nearest_affinity : (n,) int64, sum of their affinities, in 1/255
    long_pairs : (n,) int64, pairs of voxels farther apart
    long_affinity : (n,) int64, sum of their affinities, in 1/255
    """

    u: NDArray[Any]
    v: NDArray[Any]
    nearest_pairs: NDArray[np.int64]
    nearest_affinity: NDArray[np.int64]
    long_pairs: NDArray[np.int64]
    long_affinity: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.u)

    def as_boundary(self, pairs: Literal["all", "nearest"] = "all") -> Edges:
        """Return edges whose boundary is the sum of ``1 - affinity`` over the pairs.

        With `nearest` only the edges between fragments that touch are returned.

        >>> one = AffinityEdges(*(np.array([n]) for n in (1, 2, 2, 255, 3, 0)))
        >>> found = one.as_boundary()
        >>> found.contacts.tolist(), found.boundary.tolist(), one.as_boundary("nearest").contacts.tolist()
        ([5], [1020], [2])
        """
        long = int(pairs == "all")
        count = self.nearest_pairs + long * self.long_pairs
        affinity = self.nearest_affinity + long * self.long_affinity
        return Edges(self.u, self.v, count, CERTAIN * count - affinity, None).select(count > 0)


def graph_read_box(box: Box, offsets: Sequence[Offset], volume_shape: Index) -> Box:
    """Return the box that holds both voxels of every pair that begins in a box.

    >>> print(graph_read_box(Box((0, 4, 4), (1, 8, 8)), [(0, 0, 3), (0, 1, -2)], (9, 9, 9)))
    0:1,4:9,2:9
    """
    before, ahead = (
        tuple(max(0, *(sign * offset[axis] for offset in offsets)) for axis in range(3)) for sign in (-1, 1)
    )
    start = tuple(lo - n for lo, n in zip(box.start, before, strict=True))
    return Box(start, tuple(hi + n for hi, n in zip(box.stop, ahead, strict=True))).clipped(volume_shape)


def block_affinity_edges(
    ids: NDArray[np.unsignedinteger], affinities: NDArray[np.uint8], box: Box, read: Box, offsets: Sequence[Offset]
) -> AffinityEdges:
    """Return the edges of the pairs whose first voxel lies in a block (pass 1).

    Parameters
    ----------
    ids : (z, y, x) fragments of the box `read`, see `graph_read_box`; 0 = none
    affinities : (c, z, y, x) uint8, affinities of the block x 255, a channel per offset
    box, read : the block, and the box of `ids`, in the volume
    offsets : offset of each channel

    Examples
    --------
    >>> ids, row = np.array([[[7, 7, 9]]], np.uint64), Box((0, 0, 0), (1, 1, 3))
    >>> affinities = np.array([[[[255, 51, 0]]], [[[10, 0, 0]]]], np.uint8)
    >>> found = block_affinity_edges(ids, affinities, row, row, [(0, 0, 1), (0, 0, 2)])
    >>> [getattr(found, name).tolist() for name in SUMS]
    [[1], [51], [1], [10]]
    """
    if use_compiled(ids.size):
        from unet.segmentation.compiled_graph import sum_affinities

        inner, packed = box.relative_to(read.start).start, np.ascontiguousarray(ids, np.uint64)
        column_of = np.array([0 if is_nearest(offset) else 2 for offset in offsets], np.int64)
        steps = np.array(offsets, np.int64).reshape(-1, 3)
        one, other, sums = in_order(*sum_affinities(packed, affinities, inner, steps, column_of))
        return AffinityEdges(one.astype(ids.dtype), other.astype(ids.dtype), *sums)
    known, compact = compact_ids(ids)
    if len(known) >= 2**28:
        raise ValueError(
            f"{len(known)} fragments in and around one block, but at most {2**28 - 1} are possible; use smaller blocks"
        )
    parts = [
        (offset, *_sums_of_offset(compact, levels, box, read, offset, bool(known[:1] == 0)))
        for offset, levels in zip(offsets, affinities, strict=True)
    ]
    key = np.concatenate([np.empty(0, np.uint64), *(part[1] for part in parts)])
    u, v, order, start = group_edges(key >> np.uint64(28), key & np.uint64(2**28 - 1))
    columns = []
    for column, nearest in ((2, True), (3, True), (2, False), (3, False)):
        own = [part[column] if is_nearest(part[0]) == nearest else np.zeros_like(part[column]) for part in parts]
        columns.append(sum_groups(np.concatenate([np.empty(0, np.int64), *own]), order, start))
    return AffinityEdges(known[u.astype(np.intp)], known[v.astype(np.intp)], *columns)


def _sums_of_offset(
    ids: NDArray[np.uint32], levels: NDArray[np.uint8], box: Box, read: Box, offset: Offset, background: bool
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of fragments (smaller ``<< 28 |`` larger index), and their number and sum of affinities."""
    first = read.shifted(tuple(-d for d in offset)).intersected(box)  # both ends lie in `read`
    one = ids[first.relative_to(read.start).slices]
    other = ids[first.shifted(offset).relative_to(read.start).slices]
    counted = one != other
    if background:
        counted &= (one > 0) & (other > 0)
    a, b = one[counted].astype(np.uint64), other[counted].astype(np.uint64)
    packed = np.minimum(a, b) << np.uint64(36) | np.maximum(a, b) << np.uint64(8)
    packed |= levels[first.relative_to(box.start).slices][counted]
    packed.sort()
    key = packed >> np.uint64(8)
    start = run_starts(key) if len(key) else np.empty(0, np.intp)
    level = (packed & np.uint64(0xFF)).astype(np.int64)
    return key[start], np.diff(start, append=len(key)), np.add.reduceat(level, start) if len(start) else level


def save_affinity_edges(path: Path | str, edges: AffinityEdges) -> None:
    """Write the edges of a block as one compressed ``npz`` that is there whole or not at all."""
    save_arrays(path, vars(edges))


def load_affinity_edges(path: Path | str) -> AffinityEdges:
    """Read the edges that `save_affinity_edges` wrote."""
    return AffinityEdges(**load_arrays(path, "u", "v", *SUMS))
