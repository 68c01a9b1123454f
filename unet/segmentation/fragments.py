"""Which fragments of neighbouring blocks are one object: one union over small tables, whatever made the fragments.

The answer is that of the whole volume, numbered by the objects' first voxels in scan order: it depends neither on the
blocks, nor on the order in which they are worked, nor on who works them.

1. Each block is labelled on its own (`components`, `watershed`). Kept is a small table of its fragments, `BlockTable`:
   first voxel (counted in the whole volume), size, class value, and the labels on the block's faces.
2. `face_pairs`: lay the upper face of a block on the lower face of its neighbour. Two fragments of the same class that
   lie on each other are parts of one object.
3. `join_blocks`: number all fragments through, and join the pairs in one union. Unions may be joined further
   (`agglomeration`). `merge_table.number_objects`: number the objects 1, 2, ... by their first voxel. Where touching
   fragments are one object and nothing else is asked, `merge_layers` does all this a layer of blocks at a time.
4. `merge_table.relabel`: look the final id of every voxel up in its block's share of the merge table.

```
 block 0     block 1        pass 1: fragments 1, 2 | 1, 2 -> numbered through 0, 1, 2, 3
+---------+ +---------+     pass 2: 1 of block 0 touches 2 of block 1 -> pair (0, 3)
| .  .  2 | | .  1  1 |     pass 3: objects {0, 3}, {1}, {2}; by first voxel {1}, {2}, {0, 3} -> ids 1, 2, 3
| .  .  . | | .  .  . |             lut: 3 1 2 3
| 1  1  1 | | 2  .  . |     pass 4: block 0: 1 -> 3, 2 -> 1;  block 1: 1 -> 2, 2 -> 3
+---------+ +---------+
```

Passes 1 and 4 hold one block in memory; passes 2 and 3 hold some tens of bytes a fragment and the faces of one layer
of blocks, as runs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid
from unet.storage.files import load_arrays, save_arrays

COLUMNS = ("first", "size", "value", "rim")
"""What a table holds of each fragment."""


@dataclass(frozen=True)
class BlockTable:
    """What merging needs to know of a block's ``n`` fragments; fragment ``i`` has the local id ``i + 1``.

    Attributes
    ----------
    box : the block's voxels in the volume
    first : (n,) int64, index in the whole volume (C order) of the fragment's first voxel in scan order
    size : (n,) int64, voxels
    value : (n,) uint8, class value
    rim : (n,) bool, whether the fragment lies at a face of the volume, along an axis along which voxels can join
    faces : axis -> (lower, upper) plane of local labels run-length encoded; only the axes along which voxels can join
    """

    box: Box
    first: NDArray[np.int64]
    size: NDArray[np.int64]
    value: NDArray[np.uint8]
    rim: NDArray[np.bool_]
    faces: dict[int, tuple[NDArray[np.uint32], NDArray[np.uint32]]]

    def __len__(self) -> int:
        return len(self.first)


def face_pairs(
    high: NDArray[np.uint32], low: NDArray[np.uint32], value_high: NDArray[Any], value_low: NDArray[Any]
) -> NDArray[np.int64]:
    """The fragments of two neighbouring blocks that touch and are of one class (pass 2).

    Parameters
    ----------
    high : run-length encoded labels on the upper face of the block before
    low : the same on the lower face of the block behind
    value_high, value_low : (n,) class value of each block's fragments

    Returns
    -------
    (m, 2) int64, unique pairs of local ids (before, behind), in increasing order

    >>> high, low = np.array([1, 1, 0, 2], np.uint32), np.array([3, 3, 3, 1], np.uint32)
    >>> from unet.geometry.run_length_encoding import run_length_encode
    >>> face_pairs(run_length_encode(high), run_length_encode(low), np.array([7, 7]), np.array([9, 9, 7])).tolist()
    [[1, 3]]
    """
    end_high, end_low = (np.cumsum(face[:, 1], dtype=np.int64) for face in (high, low))
    if end_high[-1] != end_low[-1]:
        raise ValueError(f"faces of neighbouring blocks differ: {end_high[-1]} and {end_low[-1]} voxels")
    end = np.union1d(end_high, end_low)
    a, b = high[np.searchsorted(end_high, end), 0], low[np.searchsorted(end_low, end), 0]
    touch = (a > 0) & (b > 0)
    packed = np.unique(a[touch].astype(np.uint64) << np.uint64(32) | b[touch])
    before, behind = (packed >> np.uint64(32)).astype(np.int64), (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)
    same = value_high[before - 1] == value_low[behind - 1]
    return np.stack([before[same], behind[same]], axis=1)


@dataclass(frozen=True)
class Fragments:
    """All fragments of a volume, numbered through its blocks in scan order, and which of them are one.

    Attributes
    ----------
    offsets : (blocks + 1,) int64, the first fragment of each block
    first : (fragments,) int64, first voxel in scan order, in the whole volume
    size : (fragments,) int64, voxels
    value : (fragments,) uint8, class value; 0 = background
    rim : (fragments,) bool, whether it lies at a face of the volume
    part : (fragments,) int32, the union that each belongs to, 0 to parts - 1
    """

    offsets: NDArray[np.int64]
    first: NDArray[np.int64]
    size: NDArray[np.int64]
    value: NDArray[np.uint8]
    rim: NDArray[np.bool_]
    part: NDArray[np.int32]

    @property
    def parts(self) -> int:
        """Number of unions."""
        return int(self.part.max(initial=-1)) + 1

    def kept(self, min_size: int) -> NDArray[np.bool_]:
        """(fragments,) which are objects: no background, and no smaller than asked for."""
        return (self.size >= min_size) & (self.value > 0)

    def chosen(self, which: NDArray[Any]) -> "Fragments":
        """Some of them, by number or by truth, in one block and none joined."""
        count = len(self.size[which])
        columns = {name: getattr(self, name)[which] for name in COLUMNS}
        return Fragments(np.array([0, count]), **columns, part=np.arange(count, dtype=np.int32))

    @classmethod
    def concatenated(cls, several: Sequence["Fragments"], part: NDArray[np.int32] | None = None) -> "Fragments":
        """Several as the blocks of one, which `part` joins."""
        columns = {name: np.concatenate([getattr(one, name) for one in several]) for name in COLUMNS}
        offsets = np.cumsum([0, *(len(one.size) for one in several)])
        return cls(offsets, **columns, part=np.arange(offsets[-1], dtype=np.int32) if part is None else part)

    def united(self) -> "Fragments":
        """Every union as one fragment, in one block."""
        return self.joined(np.arange(self.parts, dtype=np.int32))

    def joined(self, object_of_part: NDArray[np.int32]) -> "Fragments":
        """One fragment an object, of objects 0, 1, ... that parts have been joined to."""
        of = object_of_part[self.part]
        count = int(object_of_part.max(initial=-1)) + 1
        first, size = np.full(count, np.iinfo(np.int64).max), np.zeros(count, np.int64)
        value, rim = np.zeros(count, np.uint8), np.zeros(count, bool)
        np.minimum.at(first, of, self.first)
        np.add.at(size, of, self.size)
        np.maximum.at(value, of, self.value)
        np.logical_or.at(rim, of, self.rim)
        return Fragments(np.array([0, count]), first, size, value, rim, np.arange(count, dtype=np.int32))


def join_blocks(grid: Grid, tables: Iterable[BlockTable], layer: int | None = None) -> Fragments:
    """Join the fragments of all blocks of a grid, whose tables come in scan order and are each read once (pass 3).

    An upper face waits until the block behind it has come, so that the faces of one layer of blocks are held.

    Parameters
    ----------
    grid : the blocks of the volume
    tables : of its blocks
    layer : join only the blocks with this index along z, among themselves

    Raises
    ------
    ValueError
        If a table is missing or is not that of the grid's next block, or there are 2^31 fragments or more (the limit
        of `scipy.sparse.csgraph`).
    """
    waiting: dict[tuple[int, Index], tuple[NDArray[np.uint32], NDArray[np.uint8], int]] = {}
    columns: dict[str, list[NDArray[Any]]] = {"first": [], "size": [], "value": [], "rim": []}
    pairs: list[NDArray[np.int64]] = [np.empty((0, 2), np.int64)]
    offsets = [0]
    indices = grid.indices() if layer is None else grid.layer(layer)
    for index, table in zip(indices, tables, strict=True):
        if table.box != grid.box(index):
            raise ValueError(f"table of block {table.box} where that of {grid.box(index)} is due; label it again")
        start = offsets[-1]  # number of the block's first fragment, counted through all blocks
        for axis, (low, high) in table.faces.items():
            if axis == 0 and layer is not None:
                continue
            if index[axis] > 0:
                face, value, before = waiting.pop((axis, index))
                pairs.append(face_pairs(face, low, value, table.value) + np.array([before - 1, start - 1]))
            if index[axis] + 1 < grid.counts[axis]:
                waiting[axis, _behind(index, axis)] = high, table.value, start
        for name, column in columns.items():
            column.append(getattr(table, name))
        offsets.append(start + len(table))
    whole = {name: np.concatenate(column) for name, column in columns.items()}
    return Fragments(np.array(offsets), **whole, part=union(offsets[-1], np.concatenate(pairs)))


def save_block_table(path: Path | str, table: BlockTable) -> None:
    """Write a block's table, without labels, as one compressed ``npz`` that is there whole or not at all."""
    arrays: dict[str, NDArray[Any]] = {name: getattr(table, name) for name in COLUMNS}
    arrays["box"] = np.array([table.box.start, table.box.stop])
    for axis, (low, high) in table.faces.items():
        arrays |= {f"low_{axis}": low, f"high_{axis}": high}
    save_arrays(path, arrays)


def load_block_table(path: Path | str) -> BlockTable:
    """Read what `save_block_table` wrote."""
    arrays = load_arrays(path, "box", *COLUMNS)
    axes = [axis for axis in range(3) if f"low_{axis}" in arrays]
    faces = {axis: (arrays[f"low_{axis}"], arrays[f"high_{axis}"]) for axis in axes}
    start, stop = (tuple(int(n) for n in corner) for corner in arrays["box"])
    columns: dict[str, Any] = {name: arrays[name] for name in COLUMNS}
    return BlockTable(box=Box(start, stop), faces=faces, **columns)


def _behind(index: Index, axis: int) -> Index:
    return (*index[:axis], index[axis] + 1, *index[axis + 1 :])


def union(fragments: int, pairs: NDArray[np.signedinteger]) -> NDArray[np.int32]:
    """Component number of every fragment of the graph whose edges are the pairs."""
    if fragments >= 2**31:
        raise ValueError(f"{fragments} fragments, but one union takes at most {2**31 - 1}; use larger blocks")
    graph = coo_matrix((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), (fragments, fragments))
    return connected_components(graph, directed=False)[1]
