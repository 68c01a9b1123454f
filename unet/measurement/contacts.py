"""Count the faces of voxels over which objects touch: integers that add over blocks.

A *face* lies between two neighbouring voxels of different ids, and belongs to the block of its first voxel. A block is
therefore read with one plane beyond its upper faces. Faces between an object and id 0 count as well: all faces of an
object together are its surface. Faces of the volume itself are no surface, since the object continues behind them.

```
ids    a a a b b 0      faces perpendicular to x: a-b 1, 0-b 1
       a a c c b 0                                 a-c 1, b-c 1, 0-b 1
                        faces perpendicular to y: a-c 1, b-c 1
```
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from unet.geometry.box import Index
from unet.geometry.run_length_encoding import run_starts
from unet.measurement.gathered_sums import gathered_sum

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Contacts:
    """``n`` pairs of ids that touch, each once, in increasing order of (u, v).

    Attributes
    ----------
    u, v : (n,) uint64, ``u < v``; u may be 0, which is no object
    faces : (n, 3) int64, faces between the two, by the axis that they are perpendicular to
    boundary : (n,) int64, sum over the faces of the boundary probability in 1/255; of two voxels the larger counts
    """

    u: NDArray[np.uint64]
    v: NDArray[np.uint64]
    faces: Integers
    boundary: Integers

    def __len__(self) -> int:
        return len(self.u)

    @classmethod
    def empty(cls) -> Self:
        """Return no contacts."""
        ids, none = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        return cls(ids, ids, none.reshape(0, 3), none)

    @property
    def of_objects(self) -> "Contacts":
        """Return the contacts of two objects, without those with id 0."""
        keep = self.u != 0
        return Contacts(self.u[keep], self.v[keep], self.faces[keep], self.boundary[keep])


def block_contacts(
    ids: NDArray[np.unsignedinteger], shape: Index, boundary: NDArray[np.uint8] | None = None
) -> Contacts:
    """Return the contacts whose first voxel lies in a block.

    Parameters
    ----------
    ids : (z, y, x) ids of the block, and of one plane behind each upper face where the volume goes on; 0 = no object
    shape : (z, y, x) voxels of the block alone
    boundary : the same shape as `ids`, probability of a boundary x 255

    >>> found = block_contacts(np.array([[[1, 1, 2]], [[1, 0, 2]]], np.uint32), (2, 1, 3))
    >>> found.u.tolist(), found.v.tolist(), found.faces.tolist()
    ([0, 0, 1], [1, 2, 2], [[1, 0, 1], [0, 0, 1], [0, 0, 1]])
    """
    return sum_of_contacts(_of_axes(np.ascontiguousarray(ids), shape, boundary))


def _of_axes(ids: NDArray[np.unsignedinteger], shape: Index, boundary: NDArray[np.uint8] | None) -> Iterator[Contacts]:
    """Yield the contacts section by section, of which each fits a cache."""
    for z in range(shape[0]):
        here = ids[z, : shape[1], : shape[2]]
        others = [ids[z, 1 : shape[1] + 1, : shape[2]], ids[z, : shape[1], 1 : shape[2] + 1]]
        levels = None if boundary is None else boundary[z]
        beside = [None, None] if levels is None else [levels[1 : shape[1] + 1, :], levels[:, 1 : shape[2] + 1]]
        if z + 1 < len(ids):
            above = None if boundary is None else boundary[z + 1]
            yield _of_planes(here, ids[z + 1, : shape[1], : shape[2]], 0, levels, above)
        for axis, (other, their_levels) in enumerate(zip(others, beside, strict=True), 1):
            yield _of_planes(here[: other.shape[0], : other.shape[1]], other, axis, levels, their_levels)


def _of_planes(
    one: NDArray[Any],
    other: NDArray[Any],
    axis: int,
    level_of_one: NDArray[np.uint8] | None,
    level_of_other: NDArray[np.uint8] | None,
) -> Contacts:
    """Return the contacts of the voxels of two planes. Runs of faces of the same two ids are summed before sorting."""
    touch = one != other
    a, b = one[touch], other[touch]
    low, high = np.minimum(a, b), np.maximum(a, b)
    start = run_starts(low, high)
    faces = np.zeros((len(start), 3), np.int64)
    faces[:, axis] = np.diff(start, append=low.size)
    boundary = np.zeros(len(start), np.int64)
    if level_of_one is not None and level_of_other is not None and start.size:
        inside = np.s_[: one.shape[0], : one.shape[1]]
        level = np.maximum(level_of_one[inside][touch], level_of_other[inside][touch])
        boundary = np.add.reduceat(level, start, dtype=np.int64)
    return Contacts(low[start].astype(np.uint64), high[start].astype(np.uint64), faces, boundary)


def sum_of_contacts(parts: Iterable[Contacts]) -> Contacts:
    """Return the contacts of several blocks together, in memory that is bounded by the pairs."""
    return gathered_sum(parts, _merged)


def _merged(parts: list[Contacts]) -> Contacts:
    parts = parts or [Contacts.empty()]
    u, v = np.concatenate([part.u for part in parts]), np.concatenate([part.v for part in parts])
    order, start = sorted_pairs(u, v)
    if not start.size:
        return Contacts.empty()
    faces, boundary = (
        np.add.reduceat(np.concatenate([getattr(part, name) for part in parts])[order], start, axis=0)
        for name in ("faces", "boundary")
    )
    return Contacts(u[order][start], v[order][start], faces, boundary)


def sorted_pairs(u: NDArray[np.uint64], v: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the order that sorts pairs by u, then v, and where the groups of equal pairs start in it.

    >>> order, start = sorted_pairs(np.array([2, 1, 2], np.uint64), np.array([5, 9, 5], np.uint64))
    >>> order.tolist(), start.tolist()
    ([1, 0, 2], [0, 1])
    """
    if u.size and max(int(u.max()), int(v.max())) < 2**32:  # one sort of numbers instead of two
        order = np.argsort(u << np.uint64(32) | v, kind="stable")
    else:
        order = np.lexsort((v, u))
    return order, run_starts(u[order], v[order])


def surface_faces(contacts: Contacts, ids: NDArray[np.uint64]) -> Integers:
    """Return the faces of some objects towards all other ids, int64 ``(objects, 3)``.

    Parameters
    ----------
    ids : (objects,) in increasing order, with all ids of the contacts but 0

    >>> touching = Contacts(*np.array([[0, 1], [1, 2]], np.uint64), np.array([[5, 5, 5], [1, 0, 0]]), np.zeros(2, int))
    >>> surface_faces(touching, np.array([1, 2], np.uint64)).tolist()
    [[6, 5, 5], [1, 0, 0]]
    """
    total = np.zeros((len(ids), 3), np.int64)
    for end in (contacts.u, contacts.v):
        keep = end != 0
        np.add.at(total, np.searchsorted(ids, end[keep]), contacts.faces[keep])
    return total
