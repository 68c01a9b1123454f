"""The region graph: which fragments touch, and the boundary between them, in sums that add over blocks.

A *contact* is a pair of voxels of two fragments, one step apart. Its boundary is the larger of the two voxels' boundary
probabilities: a membrane one voxel wide then counts from both sides. An *edge* is a pair of fragments with the number
of their contacts and the histogram of the contacts' boundary. All of these are counts, so the edges of the blocks add
up to the edges of the volume:

1. `block_edges`: count the contacts whose first voxel lies in the block. The second voxel may lie in a block behind.
2. `group_edges`, `sum_groups`: sum the edges of the same two fragments. An edge within one fragment is dropped.
3. `add_section_penalty`: where every fragment lies in one section, fragments of neighbouring sections overlap almost
   everywhere. Two that overlap without a membrane between them may still be different cells. They are likely one cell
   if both are about as large as their overlap. With sizes a and b and n contacts, ``size_mismatch_penalty *
   (sqrt(a b) - n)`` contacts through a full membrane are added. A section without tissue that the network took for one
   huge cell is thus merged with nothing. Edges that skip a section are treated like all others.

```
section z     a a a a a b b b      step (0, 0, 1): a-b touch once
section z+1   c c c c d d d d      step (1, 0, 0): a-c 4 contacts, a-d 1, b-d 3
```
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from unet.config.segment import SegmentConfig
from unet.geometry.box import Box, Index
from unet.geometry.compiled import use_compiled
from unet.geometry.grid import Grid
from unet.geometry.offsets import Offset
from unet.geometry.run_length_encoding import run_starts
from unet.storage.files import load_arrays, save_arrays

HISTOGRAM_BINS = 16
"""Bins of the histogram over the boundary probability; a bin is 16 of the 256 levels of uint8."""
FULL_BOUNDARY = 255
"""The boundary probability 1 as stored in uint8."""


@dataclass(frozen=True, eq=False)
class Edges:
    """``n`` edges, each once, in increasing order of (u, v).

    Attributes
    ----------
    u, v : (n,) integers, ids of two fragments, ``u < v``
    contacts : (n,) int64, number of contacts
    boundary : (n,) int64, sum of the contacts' boundary probability, in 1/255
    histogram : (n, 16) int64, contacts per bin of the boundary probability; None where no score needs it: it is large
    """

    u: NDArray[Any]
    v: NDArray[Any]
    contacts: NDArray[np.int64]
    boundary: NDArray[np.int64]
    histogram: NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.u)

    @classmethod
    def empty(cls) -> Self:
        """Return the edges of a block without contacts."""
        ids, counts = np.empty(0, np.uint64), np.empty(0, np.int64)
        return cls(ids, ids, counts, counts, np.empty((0, HISTOGRAM_BINS), np.int64))

    def select(self, keep: NDArray[np.bool_]) -> "Edges":
        """Return the edges where `keep` is True."""
        histogram = None if self.histogram is None else self.histogram[keep]
        return Edges(self.u[keep], self.v[keep], self.contacts[keep], self.boundary[keep], histogram)


def contact_steps(segment: SegmentConfig) -> list[Offset]:
    """Return the offsets between two voxels in contact. Between sections a link may skip `max_section_gap` more."""
    within: list[Offset] = [(0, 0, 1), (0, 1, 0)]
    if segment.connectivity == "volume":
        return [*within, (1, 0, 0)]
    if segment.method != "watershed" or segment.max_section_gap is None:
        return within
    return within + [(ahead, 0, 0) for ahead in range(1, segment.max_section_gap + 2)]


def block_edges(
    ids: NDArray[np.unsignedinteger], boundary: NDArray[np.uint8], shape: Index, steps: Sequence[Index]
) -> Edges:
    """Return the edges of the contacts that begin in a block (pass 1).

    Parameters
    ----------
    ids : (z, y, x) fragments of the block and of the voxels up to one step behind it; 0 = none
    boundary : the same shape, probability of a membrane x 255
    shape : (z, y, x) voxels of the block itself, which are the first ones of the arrays
    steps : offsets ``(z, y, x)`` between the two voxels of a contact, none negative

    Examples
    --------
    >>> ids, boundary = np.array([[[7, 7, 9]]], np.uint64), np.array([[[0, 255, 51]]], np.uint8)
    >>> found = block_edges(ids, boundary, shape=(1, 1, 3), steps=[(0, 0, 1)])
    >>> found.u.tolist(), found.v.tolist(), found.contacts.tolist(), found.boundary.tolist()
    ([7], [9], [1], [255])
    """
    if use_compiled(ids.size):
        from unet.segmentation.compiled_graph import sum_contacts

        found = sum_contacts(_as_ids(ids), boundary, shape, np.array(steps, np.int64).reshape(-1, 3))
        u, v, sums = in_order(*found)
        if not len(u):
            return Edges.empty()
        return Edges(u.astype(ids.dtype), v.astype(ids.dtype), sums[0], sums[1], np.ascontiguousarray(sums[2:].T))
    known, compact = compact_ids(ids)
    if len(known) >= 2**28:
        raise ValueError(
            f"{len(known)} fragments in and behind one block, but at most {2**28 - 1} are possible; use smaller blocks"
        )
    packed = [_packed_contacts(compact, boundary, shape, step, bool(known[:1] == 0)) for step in steps]
    return _edges_of_contacts(np.sort(np.concatenate(packed)), known) if packed else Edges.empty()


def _as_ids(ids: NDArray[np.unsignedinteger]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(ids, np.uint64)


def in_order(
    u: NDArray[np.uint64], v: NDArray[np.uint64], sums: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]]:
    """Return edges in increasing order of (u, v), with their sums as (columns, n) instead of (n, columns)."""
    order = np.lexsort((v, u))
    return u[order], v[order], np.ascontiguousarray(sums[order].T)


def compact_ids(ids: NDArray[np.unsignedinteger]) -> tuple[NDArray[np.unsignedinteger], NDArray[np.uint32]]:
    """Return the ids in increasing order, and each voxel's index among them; sort runs of equal ids, not voxels."""
    flat = ids.ravel()
    start = run_starts(flat)
    known, index = np.unique(flat[start], return_inverse=True)
    return known, np.repeat(index.astype(np.uint32), np.diff(start, append=flat.size)).reshape(ids.shape)


def _packed_contacts(
    ids: NDArray[np.uint32], boundary: NDArray[np.uint8], shape: Index, step: Index, background: bool
) -> NDArray[np.uint64]:
    """Return the contacts of a step as numbers that sort: smaller id, larger id (28 bits each), boundary (8 bits)."""
    stop = [min(n, full - d) for n, full, d in zip(shape, ids.shape, step, strict=True)]
    here = tuple(slice(0, max(0, n)) for n in stop)
    there = tuple(slice(d, max(d, n + d)) for n, d in zip(stop, step, strict=True))
    one, other = ids[here], ids[there]
    touch = one != other
    if background:
        touch &= (one > 0) & (other > 0)
    a, b = one[touch].astype(np.uint64), other[touch].astype(np.uint64)
    level = np.maximum(boundary[here][touch], boundary[there][touch])
    return np.minimum(a, b) << np.uint64(36) | np.maximum(a, b) << np.uint64(8) | level


def _edges_of_contacts(packed: NDArray[np.uint64], known: NDArray[np.unsignedinteger]) -> Edges:
    """Return the edges of sorted contacts, as `_packed_contacts` packs them."""
    if not packed.size:
        return Edges.empty()
    pair, level = packed >> np.uint64(8), (packed & np.uint64(0xFF)).astype(np.int64)
    start = run_starts(pair)
    contacts = np.diff(start, append=len(pair))
    edge = np.repeat(np.arange(len(start)), contacts)
    histogram = np.bincount(
        edge * HISTOGRAM_BINS + level * HISTOGRAM_BINS // (FULL_BOUNDARY + 1), minlength=len(start) * HISTOGRAM_BINS
    )
    u, v = known[pair[start] >> np.uint64(28)], known[pair[start] & np.uint64(2**28 - 1)]
    return Edges(u, v, contacts, np.add.reduceat(level, start), histogram.reshape(-1, HISTOGRAM_BINS))


def pack_pairs(u: NDArray[Any], v: NDArray[Any]) -> NDArray[np.uint64]:
    """Return pairs of nodes below 2^32 as one number each: ``u << 32 | v``."""
    return u.astype(np.uint64) << np.uint64(32) | v.astype(np.uint64)


def group_edges(
    u: NDArray[Any], v: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp], NDArray[np.intp]]:
    """Group the edges between the same two nodes (pass 2).

    Parameters
    ----------
    u, v : (n,) int32 or int64 nodes below 2^32, in either order; an edge from a node to itself is dropped

    Returns
    -------
    u, v : (m,), ``u < v``, every pair once, in increasing order
    order, start : indices of the edges, group by group, and where the groups start in `order`; see `sum_groups`

    >>> u, v, order, start = group_edges(np.array([3, 1, 2]), np.array([1, 3, 2]))
    >>> u.tolist(), v.tolist(), sum_groups(np.array([10, 5, 7]), order, start).tolist()
    ([1], [3], [15])
    """
    low, high = np.minimum(u, v), np.maximum(u, v)
    pair = pack_pairs(low, high)
    order = np.argsort(pair)
    order = order[low[order] != high[order]]
    start = run_starts(pair[order])
    return low[order][start], high[order][start], order, start


def sum_groups(column: NDArray[Any], order: NDArray[np.intp], start: NDArray[np.intp]) -> NDArray[Any]:
    """Return the sum of a column over each group of `group_edges`, along the first axis."""
    return np.add.reduceat(column[order], start, axis=0) if len(start) else column[:0]


def fragment_ids(labels: NDArray[np.uint32], read: Box, grid: Grid) -> NDArray[np.uint64]:
    """Return ids that are unique among all blocks: ``(block << 32) | local label``, 0 where there is no fragment.

    Parameters
    ----------
    labels : (z, y, x) local labels of a box that may lie in several blocks
    read : the box
    grid : the blocks of the volume

    >>> grid = Grid((1, 1, 4), (1, 1, 2))
    >>> fragment_ids(np.array([[[1, 2]]], np.uint32), Box((0, 0, 1), (1, 1, 3)), grid).tolist()
    [[[1, 4294967298]]]
    """
    if use_compiled(labels.size):
        from unet.segmentation.compiled_graph import number_fragments

        ids, (_, rows, columns) = np.empty(labels.shape, np.uint64), grid.counts
        factors = (rows * columns, columns, 1)
        numbers = tuple(
            (np.arange(lo, hi) // size * factor).astype(np.uint64)
            for lo, hi, size, factor in zip(read.start, read.stop, grid.block, factors, strict=True)
        )
        number_fragments(np.ascontiguousarray(labels), numbers, ids)
        return ids
    number = np.zeros((1, 1, 1), np.uint64)
    for axis, (lo, hi) in enumerate(zip(read.start, read.stop, strict=True)):
        along = np.arange(lo, hi) // grid.block[axis]
        number = number * np.uint64(grid.counts[axis]) + np.expand_dims(
            along.astype(np.uint64), [a for a in range(3) if a != axis]
        )
    return np.where(labels > 0, number << np.uint64(32) | labels, np.uint64(0))


def save_edges(path: Path | str, edges: Edges) -> None:
    """Write the edges of a block as one compressed ``npz`` that is there whole or not at all."""
    save_arrays(path, vars(edges))


def load_edges(path: Path | str) -> Edges:
    """Read the edges that `save_edges` wrote."""
    return Edges(**load_arrays(path, "u", "v", "contacts", "boundary", "histogram"))


def add_section_penalty(
    edges: Edges, section: NDArray[np.int64], size: NDArray[np.int64], size_mismatch_penalty: float
) -> Edges:
    """Add contacts through a full membrane to the edges between sections, by the mismatch of the sizes (pass 3).

    Parameters
    ----------
    edges : edges of fragments 0, 1, ..., each of which lies in one section
    section : (fragments,) section of each fragment
    size : (fragments,) voxels of each fragment
    size_mismatch_penalty : contacts through a full membrane that are added per missing contact

    >>> one = Edges(np.array([0]), np.array([1]), contacts=np.array([3]), boundary=np.array([0]), histogram=None)
    >>> sections, sizes = np.array([0, 1]), np.array([4, 9])
    >>> found = add_section_penalty(one, sections, sizes, size_mismatch_penalty=1)
    >>> found.contacts.tolist(), found.boundary.tolist()
    ([6], [765])
    """
    apart = section[edges.u] != section[edges.v]
    likely = np.sqrt(size[edges.u].astype(float) * size[edges.v])
    penalty = np.floor(size_mismatch_penalty * np.maximum(likely - edges.contacts, 0))
    added = np.where(apart, penalty, 0).astype(np.int64)
    last_bin = np.arange(HISTOGRAM_BINS) == HISTOGRAM_BINS - 1
    histogram = None if edges.histogram is None else edges.histogram + added[:, None] * last_bin
    return Edges(edges.u, edges.v, edges.contacts + added, edges.boundary + FULL_BOUNDARY * added, histogram)
