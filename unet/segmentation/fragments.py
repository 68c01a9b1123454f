"""Join the fragments (supervoxels) of neighbouring blocks that touch, over small tables, whatever made the fragments.

The result is that of the whole volume, numbered by the objects' first voxels in scan order. It depends neither on the
blocks, nor on the order in which they are worked, nor on the process that works them.

1. Each block is labelled on its own (`components`, `watershed`). A small table of its fragments is kept, `BlockTable`:
   first voxel (counted in the whole volume), size, class value, and the labels on the block's faces.
2. `face_pairs`: lay the upper face of a block on the lower face of its neighbour. Two fragments of the same class that
   lie on each other are a pair: they belong to one object.
3. `join_blocks`: number all fragments consecutively, and find the connected components of the pairs. Number the
   components by their first voxel. Components may be joined further (`agglomeration`): of equal edges the one of the
   lowest numbers is first, so the numbers must not depend on the blocks. `merge_table.number_objects`: number the
   objects 1, 2, ... by their first voxel. `merge_part` does passes 2 and 3 part by part, where the tables of a volume
   do not fit into the memory of a job.
4. `merge_table.relabel`: look up the final id of every voxel in the block's rows of the merge table.

```
 block 0     block 1        pass 1: fragments 1, 2 | 1, 2, numbered consecutively 0, 1, 2, 3
+---------+ +---------+     pass 2: 1 of block 0 touches 2 of block 1 -> pair (0, 3)
| .  .  2 | | .  1  1 |     pass 3: objects {0, 3}, {1}, {2}; by first voxel {1}, {2}, {0, 3} -> ids 1, 2, 3
| .  .  . | | .  .  . |             lut: 3 1 2 3
| 1  1  1 | | 2  .  . |     pass 4: block 0: 1 -> 3, 2 -> 1;  block 1: 1 -> 2, 2 -> 3
+---------+ +---------+
```

Passes 1 and 4 hold one block in memory. Passes 2 and 3 hold some tens of bytes per fragment, and the run-length encoded
faces of one layer of blocks.
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

COLUMNS = ("first_voxel", "size", "class_value", "touches_border")
"""Columns of a table, one value per fragment."""


@dataclass(frozen=True)
class BlockTable:
    """The fragments of one block, as far as merging needs to know them; fragment ``i`` has the local id ``i + 1``.

    Attributes
    ----------
    box : the block's voxels in the volume
    first_voxel : (n,) int64, index in the whole volume (C order) of the fragment's first voxel in scan order
    size : (n,) int64, voxels
    class_value : (n,) uint8
    touches_border : (n,) bool, True at a face of the volume, along an axis along which voxels can join
    faces : axis -> (lower, upper) plane of local labels as `runs`; only the axes along which voxels can join
    """

    box: Box
    first_voxel: NDArray[np.int64]
    size: NDArray[np.int64]
    class_value: NDArray[np.uint8]
    touches_border: NDArray[np.bool_]
    faces: dict[int, tuple[NDArray[np.uint32], NDArray[np.uint32]]]

    def __len__(self) -> int:
        return len(self.first_voxel)


def face_pairs(
    high: NDArray[np.uint32], low: NDArray[np.uint32], class_high: NDArray[Any], class_low: NDArray[Any]
) -> NDArray[np.int64]:
    """Return the pairs of fragments of two neighbouring blocks that touch and are of one class (pass 2).

    Parameters
    ----------
    high : `runs` of labels on the upper face of the block before
    low : `runs` of labels on the lower face of the block behind
    class_high, class_low : (n,) class value of each block's fragments

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
    same = class_high[before - 1] == class_low[behind - 1]
    return np.stack([before[same], behind[same]], axis=1)


def is_object(size: NDArray[np.int64], class_value: NDArray[np.uint8], min_size: int) -> NDArray[np.bool_]:
    """Return True for what becomes an object and gets an id: not background, and `min_size` voxels or more."""
    return (size >= min_size) & (class_value > 0)


@dataclass(frozen=True)
class Fragments:
    """All fragments of a volume, numbered consecutively through its blocks in scan order, and their components.

    Attributes
    ----------
    offsets : (blocks + 1,) int64, the first fragment of each block
    first_voxel : (fragments,) int64, first voxel in scan order, in the whole volume
    size : (fragments,) int64, voxels
    class_value : (fragments,) uint8; 0 = background
    touches_border : (fragments,) bool, True at a face of the volume
    component_of : (fragments,) int32, the connected component of each fragment, 0 to component_count - 1, in the order
        of the components' first voxels where `join_blocks` made them
    """

    offsets: NDArray[np.int64]
    first_voxel: NDArray[np.int64]
    size: NDArray[np.int64]
    class_value: NDArray[np.uint8]
    touches_border: NDArray[np.bool_]
    component_of: NDArray[np.int32]

    @property
    def component_count(self) -> int:
        """Number of connected components."""
        return int(self.component_of.max(initial=-1)) + 1

    def is_object(self, min_size: int) -> NDArray[np.bool_]:
        """Return (fragments,) True for what becomes an object: not background, and `min_size` voxels or more."""
        return is_object(self.size, self.class_value, min_size)

    def select(self, which: NDArray[Any]) -> "Fragments":
        """Return the fragments at these indices (or where a mask is True), in one block, each a component."""
        count = len(self.size[which])
        columns = {name: getattr(self, name)[which] for name in COLUMNS}
        return Fragments(np.array([0, count]), **columns, component_of=np.arange(count, dtype=np.int32))

    @classmethod
    def concatenate(cls, several: Sequence["Fragments"], component_of: NDArray[np.int32] | None = None) -> "Fragments":
        """Return several sets of fragments as the blocks of one set; without `component_of` each is a component."""
        columns = {name: np.concatenate([getattr(one, name) for one in several]) for name in COLUMNS}
        offsets = np.cumsum([0, *(len(one.size) for one in several)])
        component_of = np.arange(offsets[-1], dtype=np.int32) if component_of is None else component_of
        return cls(offsets, **columns, component_of=component_of)

    def merge_components(self) -> "Fragments":
        """Return one fragment per component, in one block."""
        return self.merge_objects(np.arange(self.component_count, dtype=np.int32))

    def merge_objects(self, object_of_component: NDArray[np.int32]) -> "Fragments":
        """Return one fragment per object, in one block; `object_of_component` maps components to objects 0, 1, ..."""
        of = object_of_component[self.component_of]
        count = int(object_of_component.max(initial=-1)) + 1
        first_voxel, size = np.full(count, np.iinfo(np.int64).max), np.zeros(count, np.int64)
        class_value, touches_border = np.zeros(count, np.uint8), np.zeros(count, bool)
        np.minimum.at(first_voxel, of, self.first_voxel)
        np.add.at(size, of, self.size)
        np.maximum.at(class_value, of, self.class_value)
        np.logical_or.at(touches_border, of, self.touches_border)
        component_of = np.arange(count, dtype=np.int32)
        return Fragments(np.array([0, count]), first_voxel, size, class_value, touches_border, component_of)


def join_blocks(grid: Grid, tables: Iterable[BlockTable], layers: range | None = None) -> Fragments:
    """Join the fragments of all blocks of a grid (pass 3).

    An upper face is held until the block behind it has come. The faces of one layer of blocks are held at a time.

    Parameters
    ----------
    grid : the blocks of the volume
    tables : tables of its blocks in scan order, each read once
    layers : join only the blocks of these layers, among themselves; None = all layers

    Raises
    ------
    ValueError
        If a table is missing or out of order, or there are 2^31 fragments or more (the limit of
        `scipy.sparse.csgraph`).
    """
    waiting: dict[tuple[int, Index], tuple[NDArray[np.uint32], NDArray[np.uint8], int]] = {}
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in COLUMNS}
    pairs: list[NDArray[np.int64]] = [np.empty((0, 2), np.int64)]
    offsets = [0]
    layers = range(grid.counts[0]) if layers is None else layers
    indices = (index for layer in layers for index in grid.layer(layer))
    for index, table in zip(indices, tables, strict=True):
        if table.box != grid.box(index):
            raise ValueError(
                f"found the table of block {table.box}, but expected block {grid.box(index)}; label it again"
            )
        start = offsets[-1]  # number of the block's first fragment, counted through all blocks
        for axis, (low, high) in table.faces.items():
            if index[axis] > (layers.start if axis == 0 else 0):
                face, classes, before = waiting.pop((axis, index))
                found = face_pairs(face, low, classes, table.class_value)
                pairs.append(found + np.array([before - 1, start - 1]))
            if index[axis] + 1 < (layers.stop if axis == 0 else grid.counts[axis]):
                waiting[axis, _behind(index, axis)] = high, table.class_value, start
        for name, column in columns.items():
            column.append(getattr(table, name))
        offsets.append(start + len(table))
    whole = {name: np.concatenate(column) for name, column in columns.items()}
    component_of = connected_component_labels(offsets[-1], np.concatenate(pairs))
    component_of = in_order_of_first_voxels(component_of, whole["first_voxel"])
    return Fragments(np.array(offsets), **whole, component_of=component_of)


def save_block_table(path: Path | str, table: BlockTable) -> None:
    """Write a block's table, without labels, as one compressed ``npz`` that is there whole or not at all."""
    arrays: dict[str, NDArray[Any]] = {name: getattr(table, name) for name in COLUMNS}
    arrays["box"] = np.array([table.box.start, table.box.stop])
    for axis, (low, high) in table.faces.items():
        arrays |= {f"low_{axis}": low, f"high_{axis}": high}
    save_arrays(path, arrays)


def load_block_table(path: Path | str) -> BlockTable:
    """Read the table that `save_block_table` wrote."""
    arrays = load_arrays(path, "box", *COLUMNS)
    axes = [axis for axis in range(3) if f"low_{axis}" in arrays]
    faces = {axis: (arrays[f"low_{axis}"], arrays[f"high_{axis}"]) for axis in axes}
    start, stop = (tuple(int(n) for n in corner) for corner in arrays["box"])
    columns: dict[str, Any] = {name: arrays[name] for name in COLUMNS}
    return BlockTable(box=Box(start, stop), faces=faces, **columns)


def _behind(index: Index, axis: int) -> Index:
    """Return the index of the next block along an axis."""
    return (*index[:axis], index[axis] + 1, *index[axis + 1 :])


def connected_component_labels(nodes: int, pairs: NDArray[np.signedinteger]) -> NDArray[np.int32]:
    """Return the connected component, 0 to n - 1, of every node of the graph whose edges are the pairs."""
    if nodes >= 2**31:
        raise ValueError(f"{nodes} fragments, but one graph takes at most {2**31 - 1}; use larger blocks")
    graph = coo_matrix((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), (nodes, nodes))
    return connected_components(graph, directed=False)[1]


def in_order_of_first_voxels(component_of: NDArray[np.int32], first_voxel: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the components of fragments, renumbered by the first voxel of each: no number depends on the blocks.

    Parameters
    ----------
    component_of : (fragments,) int32, component of each fragment, 0 to n - 1
    first_voxel : (fragments,) int64, first voxel of each fragment, in the whole volume

    >>> in_order_of_first_voxels(np.array([0, 1, 0, 2], np.int32), np.array([5, 3, 9, 0])).tolist()
    [2, 1, 2, 0]
    """
    first = np.full(int(component_of.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, component_of, first_voxel)
    number = np.empty(len(first), np.int32)
    number[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return number[component_of]
