"""The region graph: which fragments touch, and what the boundary between them looks like, in sums that add over blocks.

A *contact* is a pair of voxels of two fragments, one step apart. Its boundary is the larger of the two voxels' boundary
probabilities, so that a membrane one voxel wide is seen from both sides. An edge is a pair of fragments with the number
of its contacts and the histogram of their boundary. All of it is counted, so the edges of blocks add up to those of the
volume:

1. `block_edges`: the contacts whose first voxel lies in the block; the other one may lie in a block behind it.
2. `grouped`, `sums`: edges of the same two fragments are summed; a contact within one fragment is none.
3. `across_sections`: where fragments end with their section, those of neighbouring sections lie on each other all over
   the place. One that lies on another without a membrane between them may still be a different cell: what speaks for
   one cell is that both are about as large as their overlap. With sizes a and b and n contacts, `mismatch` times
   ``sqrt(a b) - n`` contacts through a full membrane are added. A section without tissue that the network took for one
   huge cell is thus joined with nothing, and edges that skip a section are edges like all others.

```
section z     a a a a a b b b      step (0, 0, 1): a-b touch once
section z+1   c c c c d d d d      step (1, 0, 0): a-c 4 contacts, a-d 1, b-d 3
```
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid
from unet.geometry.run_length_encoding import run_starts
from unet.segmentation.fragments import Fragments
from unet.storage.files import load_arrays, save_arrays

BINS = 16
"""Of the histogram over the boundary probability; a bin is 16 of the 256 levels of uint8."""
FULL = 255
"""The boundary probability 1 as stored."""


@dataclass(frozen=True, eq=False)
class Edges:
    """``n`` edges, each once, in increasing order of (u, v).

    Attributes
    ----------
    u, v : (n,) integers, ids of two fragments, ``u < v``
    contacts : (n,) int64, number of contacts
    boundary : (n,) int64, sum of the contacts' boundary probability, in 1/255
    histogram : (n, 16) int64, contacts by their boundary probability; None where it is not wanted: it is large
    """

    u: NDArray[Any]
    v: NDArray[Any]
    contacts: NDArray[np.int64]
    boundary: NDArray[np.int64]
    histogram: NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.u)

    @classmethod
    def none(cls) -> Self:
        """The edges of a block without contacts."""
        ids, sums_ = np.empty(0, np.uint64), np.empty(0, np.int64)
        return cls(ids, ids, sums_, sums_, np.empty((0, BINS), np.int64))

    def chosen(self, keep: NDArray[np.bool_]) -> "Edges":
        """Those of the edges that are True."""
        histogram = None if self.histogram is None else self.histogram[keep]
        return Edges(self.u[keep], self.v[keep], self.contacts[keep], self.boundary[keep], histogram)


def block_edges(
    ids: NDArray[np.unsignedinteger], boundary: NDArray[np.uint8], shape: Index, steps: Sequence[Index]
) -> Edges:
    """The edges of the contacts that begin in a block (pass 1).

    Parameters
    ----------
    ids : (z, y, x) fragments of the block and of what lies up to a step behind it; 0 = none
    boundary : the same shape, probability of a membrane x 255
    shape : voxels of the block itself, the first ones of the arrays
    steps : offsets ``(z, y, x)`` between the two voxels of a contact, none negative

    Examples
    --------
    >>> ids, boundary = np.array([[[7, 7, 9]]], np.uint64), np.array([[[0, 255, 51]]], np.uint8)
    >>> found = block_edges(ids, boundary, shape=(1, 1, 3), steps=[(0, 0, 1)])
    >>> found.u.tolist(), found.v.tolist(), found.contacts.tolist(), found.boundary.tolist()
    ([7], [9], [1], [255])
    """
    known, dense = _numbered(ids)
    if len(known) >= 2**28:
        raise ValueError(f"{len(known)} fragments in and behind one block; at most {2**28 - 1}: cut smaller blocks")
    packed = [_contacts(dense, boundary, shape, step, bool(known[:1] == 0)) for step in steps]
    return _counted(np.sort(np.concatenate(packed)), known) if packed else Edges.none()


def _numbered(ids: NDArray[np.unsignedinteger]) -> tuple[NDArray[np.unsignedinteger], NDArray[np.uint32]]:
    """The ids in increasing order, and each voxel's place among them; runs of like ids are sorted, not voxels."""
    flat = ids.ravel()
    start = run_starts(flat)
    known, number = np.unique(flat[start], return_inverse=True)
    return known, np.repeat(number.astype(np.uint32), np.diff(start, append=flat.size)).reshape(ids.shape)


def _contacts(
    ids: NDArray[np.uint32], boundary: NDArray[np.uint8], shape: Index, step: Index, background: bool
) -> NDArray[np.uint64]:
    """A contact as one number: smaller id, larger id (28 bits each), boundary (8 bits); so they can be sorted."""
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


def _counted(packed: NDArray[np.uint64], known: NDArray[np.unsignedinteger]) -> Edges:
    """The edges of sorted contacts."""
    if not packed.size:
        return Edges.none()
    pair, level = packed >> np.uint64(8), (packed & np.uint64(0xFF)).astype(np.int64)
    start = run_starts(pair)
    contacts = np.diff(start, append=len(pair))
    edge = np.repeat(np.arange(len(start)), contacts)
    histogram = np.bincount(edge * BINS + level * BINS // (FULL + 1), minlength=len(start) * BINS)
    u, v = known[pair[start] >> np.uint64(28)], known[pair[start] & np.uint64(2**28 - 1)]
    return Edges(u, v, contacts, np.add.reduceat(level, start), histogram.reshape(-1, BINS))


def packed(u: NDArray[Any], v: NDArray[Any]) -> NDArray[np.uint64]:
    """Two nodes below 2^32 as one number."""
    return u.astype(np.uint64) << np.uint64(32) | v.astype(np.uint64)


def grouped(u: NDArray[Any], v: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp], NDArray[np.intp]]:
    """Edges that lead between the same two nodes brought together (pass 2).

    Parameters
    ----------
    u, v : (n,) int32 or int64 nodes below 2^32, in either order; an edge from a node to itself is dropped

    Returns
    -------
    u, v : (m,), ``u < v``, every pair once, in increasing order
    order, start : which edges are kept, group by group, and where the groups start; see `sums`

    >>> u, v, order, start = grouped(np.array([3, 1, 2]), np.array([1, 3, 2]))
    >>> u.tolist(), v.tolist(), sums(np.array([10, 5, 7]), order, start).tolist()
    ([1], [3], [15])
    """
    low, high = np.minimum(u, v), np.maximum(u, v)
    pair = packed(low, high)
    order = np.argsort(pair)
    order = order[low[order] != high[order]]
    start = run_starts(pair[order])
    return low[order][start], high[order][start], order, start


def sums(column: NDArray[Any], order: NDArray[np.intp], start: NDArray[np.intp]) -> NDArray[Any]:
    """Sum over each group of `grouped`, along the first axis."""
    return np.add.reduceat(column[order], start, axis=0) if len(start) else column[:0]


def fragment_ids(labels: NDArray[np.uint32], read: Box, grid: Grid) -> NDArray[np.uint64]:
    """Ids that tell the fragments of all blocks apart: ``(block << 32) | local label``, 0 where there is none.

    Parameters
    ----------
    labels : (z, y, x) local labels of a box that may lie in several blocks
    read : that box
    grid : the blocks of the volume

    >>> grid = Grid((1, 1, 4), (1, 1, 2))
    >>> fragment_ids(np.array([[[1, 2]]], np.uint32), Box((0, 0, 1), (1, 1, 3)), grid).tolist()
    [[[1, 4294967298]]]
    """
    number = np.zeros((1, 1, 1), np.uint64)
    for axis, (lo, hi) in enumerate(zip(read.start, read.stop, strict=True)):
        along = np.arange(lo, hi) // grid.block[axis]
        number = number * np.uint64(grid.counts[axis]) + np.expand_dims(
            along.astype(np.uint64), [a for a in range(3) if a != axis]
        )
    return np.where(labels > 0, number << np.uint64(32) | labels, np.uint64(0))


def gather_edges(fragments: Fragments, blocks: Iterable[Edges], with_histogram: bool = False) -> Edges:
    """The edges between the unions of a volume's fragments, from those of its blocks."""
    part, offsets = fragments.part, fragments.offsets

    def parts(ids: NDArray[np.uint64]) -> NDArray[np.int32]:
        block, label = ids >> np.uint64(32), (ids & np.uint64(0xFFFFFFFF)).astype(np.int64)
        return part[offsets[block.astype(np.int64)] + label - 1]

    names = ["contacts", "boundary", *(["histogram"] if with_histogram else [])]
    columns: dict[str, list[NDArray[Any]]] = {"u": [part[:0]], "v": [part[:0]]}
    columns |= {name: [getattr(Edges.none(), name)] for name in names}
    for own in blocks:
        columns["u"].append(parts(own.u))
        columns["v"].append(parts(own.v))
        for name in names:
            columns[name].append(getattr(own, name))
    u, v, order, start = grouped(np.concatenate(columns.pop("u")), np.concatenate(columns.pop("v")))
    summed = {name: sums(np.concatenate(columns.pop(name)), order, start) for name in names}  # one at a time: memory
    return Edges(u, v, summed["contacts"], summed["boundary"], summed.get("histogram"))


FRAGMENTS_AT_ONCE = 4_000_000
"""Of layers of blocks whose edges are held together: some 24 million edges, 1.4 GB while they are solved."""


@dataclass(frozen=True)
class EdgeParts:
    """The edges of a volume some layers of blocks at a time; one that lies in several parts is their sum.

    Attributes
    ----------
    last : (unions,) int64, the last part that an edge of each union may lie in
    read : the parts in their order, as often as it is called
    """

    last: NDArray[np.int64]
    read: Callable[[], Iterable[Edges]]

    @classmethod
    def whole(cls, edges: Edges, unions: int) -> Self:
        """All in one part."""
        return cls(np.zeros(unions, np.int64), lambda: [edges])


def edges_in_parts(
    fragments: Fragments,
    grid: Grid,
    edges_of: Callable[[Box], Edges],
    with_histogram: bool = False,
    fragments_at_once: int = FRAGMENTS_AT_ONCE,
) -> EdgeParts:
    """The edges between the unions of a volume's fragments, in parts of as many layers as have so many fragments.

    A contact belongs to the block of its first voxel, so a fragment has no edge in a layer behind its own; and the
    edges between two sections lie in one part.

    Parameters
    ----------
    fragments : of the volume
    grid : the blocks of the volume
    edges_of : reads what `block_edges` found in a block
    with_histogram : whether it is wanted
    fragments_at_once : of a part; a layer of more is a part of its own
    """
    start = fragments.offsets[:: prod(grid.counts[1:])]
    _, part_of_layer = np.unique(start[:-1] // fragments_at_once, return_inverse=True)
    last = np.zeros(fragments.parts, np.int64)
    np.maximum.at(last, fragments.part, np.repeat(part_of_layer, np.diff(start)))

    def read() -> Iterator[Edges]:
        for part in range(part_of_layer[-1] + 1):
            layers = np.flatnonzero(part_of_layer == part).tolist()
            boxes = (grid.box(index) for layer in layers for index in grid.layer(layer))
            yield gather_edges(fragments, map(edges_of, boxes), with_histogram)

    return EdgeParts(last, read)


def save_edges(path: Path | str, edges: Edges) -> None:
    """Write the edges of a block as one compressed ``npz`` that is there whole or not at all."""
    save_arrays(path, vars(edges))


def load_edges(path: Path | str) -> Edges:
    """Read what `save_edges` wrote."""
    return Edges(**load_arrays(path, "u", "v", "contacts", "boundary", "histogram"))


def across_sections(edges: Edges, section: NDArray[np.int64], size: NDArray[np.int64], mismatch: float) -> Edges:
    """The edges, with those between fragments of two sections counted by what the two do not share (pass 3).

    Parameters
    ----------
    edges : of fragments 0, 1, ..., each of which lies in one section
    section, size : (fragments,) the section each lies in, and its voxels
    mismatch : contacts through a full membrane to be added for each that is missing

    >>> one = Edges(np.array([0]), np.array([1]), contacts=np.array([3]), boundary=np.array([0]), histogram=None)
    >>> found = across_sections(one, section=np.array([0, 1]), size=np.array([4, 9]), mismatch=1)
    >>> found.contacts.tolist(), found.boundary.tolist()
    ([6], [765])
    """
    apart = section[edges.u] != section[edges.v]
    likely = np.sqrt(size[edges.u].astype(float) * size[edges.v])
    missing = np.where(apart, np.floor(mismatch * np.maximum(likely - edges.contacts, 0)), 0).astype(np.int64)
    histogram = None if edges.histogram is None else edges.histogram + missing[:, None] * (np.arange(BINS) == BINS - 1)
    return Edges(edges.u, edges.v, edges.contacts + missing, edges.boundary + FULL * missing, histogram)
