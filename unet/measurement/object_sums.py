"""Sums over the voxels of every object: integers that add over blocks, so any blocks give the same sums.

1. Cut a block into runs of equal ids along x. Neighbouring voxels mostly share an id, so a run is some twenty voxels.
2. Sum up each run in closed form. A run of n voxels from x has ``sum x' = n x + n (n - 1) / 2``.
3. Sum the runs of each object, relative to the block. These sums are whole numbers below 2^53, exact in float64.
4. Move the sums to the origin of the volume, and store second moments in two parts: their sums may exceed 64 bits.
5. Add the sums of blocks (`sum_of_objects`).

Voxels of id 0 belong to no object.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import combinations_with_replacement
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from unet.geometry.box import Box, Index
from unet.geometry.run_length_encoding import run_starts
from unet.measurement.gathered_sums import gathered_sum
from unet.segmentation.region_graph import FULL_BOUNDARY

Integers = NDArray[np.int64]

PAIRS_OF_AXES = tuple(combinations_with_replacement(range(3), 2))
"""Axes of the second moments: zz, zy, zx, yy, yx, xx."""
SLAB_VOXELS = 2**22
"""Voxels that are summed at once, as whole sections: they fit a cache, and the sums stay exact."""
LOW_BITS = 32
"""Bits of the lower part of a second moment."""
EXACT = 2**53
"""Least whole number above which float64 is not exact."""


@dataclass(frozen=True, eq=False)
class ObjectSums:
    """Sums over the voxels of ``n`` objects, in increasing order of their ids.

    Attributes
    ----------
    ids : (n,) uint64, never 0
    voxels : (n,) int64, number of voxels
    first : (n, 3) int64, sums of the coordinates z, y, x of the voxels, in voxels
    second : (n, 6, 2) int64, sums of the products of two coordinates (`PAIRS_OF_AXES`), as ``high * 2^32 + low``
    start, stop : (n, 3) int64, half-open bounding box
    border : (n, 3) int64, faces of voxels in the faces of the volume, by the axis that they are perpendicular to
    level : (n,) int64, sum of the probability in 1/255; 0 without probabilities
    """

    ids: NDArray[np.uint64]
    voxels: Integers
    first: Integers
    second: Integers
    start: Integers
    stop: Integers
    border: Integers
    level: Integers

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def empty(cls) -> Self:
        """Return the sums of no object."""
        none = np.zeros(0, np.int64)
        triple = none.reshape(0, 3)
        return cls(none.astype(np.uint64), none, triple, none.reshape(0, 6, 2), triple, triple, triple, none)


def object_sums(
    ids: NDArray[np.unsignedinteger], box: Box, shape: Index, levels: NDArray[np.uint8] | None = None
) -> ObjectSums:
    """Return the sums over the voxels of every object in a block.

    Parameters
    ----------
    ids : (z, y, x) ids of the objects in the block; 0 = none
    box : the block's voxels in the volume
    shape : (z, y, x) voxels of the volume
    levels : the same shape as `ids`, probability x 255

    Raises
    ------
    ValueError
        If a section of the block is so large that its sums would not be exact.

    >>> one = object_sums(np.array([[[7, 7, 0, 7]]], np.uint32), Box((2, 0, 4), (3, 1, 8)), (9, 9, 9))
    >>> one.ids.tolist(), one.voxels.tolist(), one.first.tolist(), one.stop.tolist(), one.border.tolist()
    ([7], [3], [[6, 0, 16]], [[3, 1, 8]], [[0, 3, 0]])
    """
    return sum_of_objects(_slabs(ids, box, shape, levels))


def _slabs(
    ids: NDArray[np.unsignedinteger], box: Box, shape: Index, levels: NDArray[np.uint8] | None
) -> Iterator[ObjectSums]:
    section = ids.shape[1] * ids.shape[2]
    step = max(1, SLAB_VOXELS // section)
    if step * section * max(ids.shape) ** 2 >= EXACT:
        raise ValueError(f"blocks of {ids.shape} voxels are too large for exact sums; set a smaller storage.block")
    for z in range(0, ids.shape[0], step):
        part = ids[z : z + step]
        start = (box.start[0] + z, *box.start[1:])
        own = Box(start, tuple(a + n for a, n in zip(start, part.shape, strict=True)))
        yield _slab_sums(part, own, None if levels is None else levels[z : z + step])
    yield from _border_faces(ids, box, shape)


def _slab_sums(ids: NDArray[np.unsignedinteger], box: Box, levels: NDArray[np.uint8] | None) -> ObjectSums:
    """Return the sums of some sections, without the faces in the border."""
    flat, width = ids.ravel(), ids.shape[2]
    change = np.empty(flat.size, np.bool_)
    np.not_equal(flat[1:], flat[:-1], out=change[1:])
    change[::width] = True
    begin = np.flatnonzero(change)
    inside = flat[begin] != 0
    run, length = begin[inside], np.diff(begin, append=flat.size)[inside]
    if not run.size:
        return ObjectSums.empty()
    known, index = np.unique(flat[run], return_inverse=True)
    line, x = np.divmod(run, width)
    z, y = np.divmod(line, ids.shape[1])
    n = length.astype(np.float64)

    def total(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(index, values, len(known)).astype(np.float64, copy=False)

    sum_x = n * x + n * (n - 1) / 2
    square_x = n * x * x + x * n * (n - 1) + (n - 1) * n * (2 * n - 1) / 6
    first = np.stack([total(n * z), total(n * y), total(sum_x)], axis=1)
    products = (n * z * z, n * z * y, z * sum_x, n * y * y, y * sum_x, square_x)
    second = np.stack([total(product) for product in products], axis=1)
    voxels, relative = total(n).astype(np.int64), first.astype(np.int64)
    level = np.zeros(len(known), np.int64)
    if levels is not None:
        level = total(np.add.reduceat(levels.ravel(), begin, dtype=np.int64)[inside]).astype(np.int64)
    low, high = np.full((len(known), 3), np.iinfo(np.int64).max), np.full((len(known), 3), -1, np.int64)
    for axis, (lowest, highest) in enumerate(((z, z), (y, y), (x, x + length - 1))):
        np.minimum.at(low[:, axis], index, lowest)
        np.maximum.at(high[:, axis], index, highest)
    offset = np.array(box.start, np.int64)
    moments = _moved(voxels, relative, second.astype(np.int64), box.start)
    return ObjectSums(
        known.astype(np.uint64),
        voxels,
        relative + voxels[:, None] * offset,
        moments,
        low + offset,
        high + 1 + offset,
        np.zeros_like(low),
        level,
    )


def _moved(voxels: Integers, first: Integers, second: Integers, offset: Index) -> Integers:
    """Return second moments about the origin of the volume, in two parts, from those about a block's first voxel.

    ``sum (a + o_a)(b + o_b) = sum ab + o_a sum b + o_b sum a + o_a o_b n``, in Python's integers of any size.
    """
    n, s = voxels.astype(object), first.astype(object)
    columns = [
        second[:, k].astype(object) + offset[a] * s[:, b] + offset[b] * s[:, a] + offset[a] * offset[b] * n
        for k, (a, b) in enumerate(PAIRS_OF_AXES)
    ]
    whole = np.stack(columns, axis=1)
    return np.stack([(whole >> LOW_BITS).astype(np.int64), (whole & (2**LOW_BITS - 1)).astype(np.int64)], axis=2)


def _border_faces(ids: NDArray[np.unsignedinteger], box: Box, shape: Index) -> Iterator[ObjectSums]:
    """Yield the faces of voxels that lie in the faces of the volume, as sums of no voxel."""
    for axis in range(3):
        for at_face, plane in ((box.start[axis] == 0, 0), (box.stop[axis] == shape[axis], -1)):
            if not at_face:
                continue
            flat = ids.take(plane, axis).ravel()
            start = run_starts(flat)
            known, index = np.unique(flat[start], return_inverse=True)
            faces = np.bincount(index, np.diff(start, append=flat.size), len(known)).astype(np.int64)
            border = np.zeros((len(known), 3), np.int64)
            border[:, axis] = faces
            yield _only_border(known.astype(np.uint64)[known > 0], border[known > 0])


def _only_border(ids: NDArray[np.uint64], border: Integers) -> ObjectSums:
    zero = np.zeros(len(ids), np.int64)
    none = np.zeros((len(ids), 3), np.int64)
    far = none + np.iinfo(np.int64).max
    return ObjectSums(ids, zero, none, np.zeros((len(ids), 6, 2), np.int64), far, none, border, zero)


def sum_of_objects(parts: Iterable[ObjectSums]) -> ObjectSums:
    """Return the sums of several blocks together, in memory that is bounded by the objects."""
    return gathered_sum(parts, _merged)


def _merged(parts: list[ObjectSums]) -> ObjectSums:
    """Return one row per object, with second moments whose lower part is below 2^32."""
    parts = parts or [ObjectSums.empty()]
    columns = {one.name: np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(ObjectSums)}
    order = np.argsort(columns["ids"], kind="stable")
    start = run_starts(columns["ids"][order])
    if not start.size:
        return ObjectSums.empty()
    how = {"start": np.minimum, "stop": np.maximum}
    ids = columns.pop("ids")[order][start]
    merged = {name: how.get(name, np.add).reduceat(column[order], start) for name, column in columns.items()}
    second = merged["second"]
    second[..., 0] += second[..., 1] >> LOW_BITS
    second[..., 1] &= 2**LOW_BITS - 1
    return ObjectSums(ids=ids, **merged)


def probability_levels(stored: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a stored probability (uint8 or float32) as whole numbers from 0 to 255.

    >>> probability_levels(np.array([0, 0.2, 1], np.float32)).tolist()
    [0, 51, 255]
    """
    return stored if stored.dtype == np.uint8 else np.rint(stored * FULL_BOUNDARY).astype(np.uint8)
