"""Connected components of a volume of any size, from its blocks.

The answer is that of labelling the whole volume at once, and is numbered by the components' first voxels in scan
order, so it does not depend on the blocks, on the order in which they are worked, or on who works them.

1. `label_block`: label each block on its own.  A component of a block is a *fragment*.  Keep a small table of the
   fragments: first voxel (counted in the whole volume), size, class value, and the labels on the block's faces.
2. `face_pairs`: lay the upper face of a block on the lower face of its neighbour.  Two fragments of the same class
   that lie on each other are parts of one object.
3. `merge`: number all fragments through, join the pairs in one union, and number the objects 1, 2, ... by their
   first voxel.  `merge_blocks` runs passes 2 and 3 over the tables in scan order.
4. `relabel`: look the final id of every voxel up in its block's share of the merge table.

```
 block 0     block 1        pass 1: fragments 1, 2 | 1, 2 -> numbered through 0, 1, 2, 3
+---------+ +---------+     pass 2: 1 of block 0 touches 2 of block 1 -> pair (0, 3)
| .  .  2 | | .  1  1 |     pass 3: objects {0, 3}, {1}, {2}; by first voxel {1}, {2}, {0, 3} -> ids 1, 2, 3
| .  .  . | | .  .  . |             lut: 3 1 2 3
| 1  1  1 | | 2  .  . |     pass 4: block 0: 1 -> 3, 2 -> 1;  block 1: 1 -> 2, 2 -> 3
+---------+ +---------+
```

Passes 1 and 4 hold one block in memory; passes 2 and 3 hold some tens of bytes a fragment and the faces of one layer
of blocks.
"""

import os
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cc3d
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from unet.annotation import UNLABELLED
from unet.geometry import Box, Grid, Index

Connectivity = Literal["section", "volume"]
"""``section``: 4-connected within each section (z), never across; ``volume``: 6-connected in 3-D."""

AXES: dict[Connectivity, tuple[int, ...]] = {"section": (1, 2), "volume": (0, 1, 2)}


@dataclass(frozen=True)
class BlockTable:
    """What merging needs to know of a block's ``n`` fragments; fragment ``i`` has the local id ``i + 1``.

    Attributes
    ----------
    box : the block's voxels in the volume
    first : (n,) int64, index in the whole volume (C order) of the fragment's first voxel in scan order
    size : (n,) int64, voxels
    value : (n,) uint8, class value
    faces : axis -> (lower, upper) plane of local labels, uint32; only the axes along which voxels can join
    """

    box: Box
    first: NDArray[np.int64]
    size: NDArray[np.int64]
    value: NDArray[np.uint8]
    faces: dict[int, tuple[NDArray[np.uint32], NDArray[np.uint32]]]

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class BlockComponents(BlockTable):
    """A block's table and its ``labels``: (z, y, x) uint32, local ids 1..n, 0 = background."""

    labels: NDArray[np.uint32]


@dataclass(frozen=True)
class MergeTable:
    """Final ids of all fragments of a volume.

    Attributes
    ----------
    lut : (fragments,) uint32, or uint64 where an id needs it; 0 = dropped
    offsets : (blocks + 1,) int64, a block's fragments are ``lut[offsets[i]:offsets[i + 1]]``
    first_id : id of the first object; the others follow without a gap
    first : (objects,) int64, first voxel of each object in scan order, increasing
    sizes : (objects,) int64, voxels of each object
    """

    lut: NDArray[Any]
    offsets: NDArray[np.int64]
    first_id: int
    first: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @property
    def objects(self) -> int:
        """Number of objects kept."""
        return len(self.sizes)

    def lut_of_block(self, block: int) -> NDArray[Any]:
        """Final id by local label of one block, ``(n + 1,)``; entry 0 is 0."""
        own = self.lut[self.offsets[block] : self.offsets[block + 1]]
        return np.concatenate([np.zeros(1, own.dtype), own])


def label_block(values: NDArray[Any], box: Box, volume_shape: Index, connectivity: Connectivity) -> BlockComponents:
    """Label the connected components of one block (pass 1); voxels of different values never join.

    Parameters
    ----------
    values : (z, y, x) bool or uint8; False, 0 and 255 (unlabelled) are background
    box : where the block lies in the volume
    volume_shape : (z, y, x) voxels of the whole volume
    connectivity : ``section`` or ``volume``

    Raises
    ------
    ValueError
        If the array, the box and the volume do not fit each other, or the connectivity is unknown.
    TypeError
        If the values are neither bool nor uint8.

    Examples
    --------
    >>> foreground = np.array([[[True, False], [False, True]]])
    >>> found = label_block(foreground, Box((0, 0, 2), (1, 2, 4)), (1, 2, 4), "section")
    >>> found.labels.tolist(), found.first.tolist(), found.size.tolist()
    ([[[1, 0], [0, 2]]], [2, 7], [1, 1])
    """
    _check_block(values, box, volume_shape, connectivity)
    classes = _classes(values)
    labels, count = _label_sections(classes) if connectivity == "section" else _label(classes, 6)
    first, size = _first_and_size(labels, count)
    faces = {axis: (_plane(labels, axis, 0), _plane(labels, axis, -1)) for axis in AXES[connectivity]}
    return BlockComponents(box, _in_volume(first, box, volume_shape), size, classes.reshape(-1)[first], faces, labels)


def face_pairs(
    high: NDArray[np.uint32], low: NDArray[np.uint32], value_high: NDArray[Any], value_low: NDArray[Any]
) -> NDArray[np.int64]:
    """The fragments of two neighbouring blocks that touch and are of one class (pass 2).

    Parameters
    ----------
    high : labels on the upper face of the block before
    low : the same shape, labels on the lower face of the block behind
    value_high, value_low : (n,) class value of each block's fragments

    Returns
    -------
    (m, 2) int64, unique pairs of local ids (before, behind), in increasing order

    >>> high, low = np.array([1, 1, 0, 2], np.uint32), np.array([3, 3, 3, 1], np.uint32)
    >>> face_pairs(high, low, np.array([7, 7]), np.array([9, 9, 7])).tolist()
    [[1, 3]]
    """
    if high.shape != low.shape:
        raise ValueError(f"faces of neighbouring blocks differ in shape: {high.shape} and {low.shape}")
    touch = (high > 0) & (low > 0)
    packed = np.unique(high[touch].astype(np.uint64) << np.uint64(32) | low[touch])
    a, b = (packed >> np.uint64(32)).astype(np.int64), (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)
    same = value_high[a - 1] == value_low[b - 1]
    return np.stack([a[same], b[same]], axis=1)


def merge(
    blocks: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    pairs: ArrayLike,
    first_id: int = 1,
    minimum_size: int = 0,
) -> MergeTable:
    """Join fragments to objects and number these by their first voxel in scan order (pass 3).

    Parameters
    ----------
    blocks : (first, size) of each block's fragments, see `BlockTable`
    pairs : (m, 2) fragments to be joined, numbered through all blocks from 0
    first_id : id of the first object, at least 1
    minimum_size : objects of fewer voxels become 0

    Raises
    ------
    ValueError
        If ids do not fit 64 bits, or there are 2^31 fragments or more (the limit of `scipy.sparse.csgraph`).

    Examples
    --------
    >>> first, size = np.array([4, 1]), np.array([3, 1])
    >>> merge([(first, size), (np.array([2, 6]), np.array([2, 1]))], [(0, 3)]).lut.tolist()
    [3, 1, 2, 3]
    """
    offsets = np.cumsum([0] + [len(first) for first, _ in blocks], dtype=np.int64)
    none = np.empty(0, np.int64)
    component = _union(int(offsets[-1]), np.asarray(pairs, np.int64).reshape(-1, 2))
    objects = int(component.max(initial=-1)) + 1
    first = np.full(objects, np.iinfo(np.int64).max)
    np.minimum.at(first, component, np.concatenate([none, *(first for first, _ in blocks)]))
    size = np.zeros(objects, np.int64)
    np.add.at(size, component, np.concatenate([none, *(size for _, size in blocks)]))
    kept = np.flatnonzero(size >= minimum_size)
    kept = kept[np.argsort(first[kept])]
    ids = np.zeros(objects, _id_dtype(first_id, len(kept)))
    ids[kept] = np.arange(len(kept), dtype=ids.dtype) + ids.dtype.type(first_id)
    return MergeTable(ids[component], offsets, first_id, first[kept], size[kept])


def merge_blocks(grid: Grid, tables: Iterable[BlockTable], first_id: int = 1, minimum_size: int = 0) -> MergeTable:
    """Merge the tables of all blocks of a grid, given in scan order and each read once (passes 2 and 3).

    An upper face waits until the block behind it has come, so that the faces of one layer of blocks are held.

    Raises
    ------
    ValueError
        If a table is missing or is not that of the grid's next block.
    """
    waiting: dict[tuple[int, Index], tuple[NDArray[np.uint32], NDArray[np.uint8], int]] = {}
    fragments: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    pairs: list[NDArray[np.int64]] = [np.empty((0, 2), np.int64)]
    start = 0  # number of the block's first fragment, counted through all blocks
    for index, table in zip(grid.indices(), tables, strict=True):
        if table.box != grid.box(index):
            raise ValueError(f"table of block {table.box} where that of {grid.box(index)} is due; label it again")
        for axis, (low, high) in table.faces.items():
            if index[axis] > 0:
                face, value, before = waiting.pop((axis, index))
                pairs.append(face_pairs(face, low, value, table.value) + np.array([before - 1, start - 1]))
            if index[axis] + 1 < grid.counts[axis]:
                waiting[axis, _behind(index, axis)] = high, table.value, start
        fragments.append((table.first, table.size))
        start += len(table)
    return merge(fragments, np.concatenate(pairs), first_id, minimum_size)


def relabel(labels: NDArray[np.uint32], lut: NDArray[Any]) -> NDArray[Any]:
    """Final ids of a block (pass 4): ``lut[labels]``, of the dtype of ``lut``.

    Raises
    ------
    ValueError
        If a label has no entry, so that labels and table are of different runs.
    """
    try:
        return lut[labels]
    except IndexError:
        raise ValueError(
            f"local label {labels.max()} but {len(lut) - 1} fragments in the merge table: "
            "they are of different runs; label and merge again"
        ) from None


def save_block_table(path: Path | str, table: BlockTable) -> None:
    """Write a block's table, without labels, as one compressed ``npz`` that is there whole or not at all."""
    arrays: dict[str, NDArray[Any]] = {"first": table.first, "size": table.size, "value": table.value}
    arrays["box"] = np.array([table.box.start, table.box.stop])
    for axis, (low, high) in table.faces.items():
        arrays |= {f"low_{axis}": low, f"high_{axis}": high}
    _save(path, arrays)


def load_block_table(path: Path | str) -> BlockTable:
    """Read what `save_block_table` wrote."""
    arrays = _load(path, "box", "first", "size", "value")
    axes = [axis for axis in range(3) if f"low_{axis}" in arrays]
    faces = {axis: (arrays[f"low_{axis}"], arrays[f"high_{axis}"]) for axis in axes}
    start, stop = (tuple(int(n) for n in corner) for corner in arrays["box"])
    return BlockTable(Box(start, stop), arrays["first"], arrays["size"], arrays["value"], faces)


def save_merge_table(path: Path | str, table: MergeTable) -> None:
    """Write the merge table as one compressed ``npz`` that is there whole or not at all."""
    _save(path, {name: np.asarray(value) for name, value in vars(table).items()})


def load_merge_table(path: Path | str) -> MergeTable:
    """Read what `save_merge_table` wrote."""
    arrays = _load(path, "lut", "offsets", "first_id", "first", "sizes")
    first_id = int(arrays["first_id"])
    return MergeTable(arrays["lut"], arrays["offsets"], first_id, arrays["first"], arrays["sizes"])


def _check_block(values: NDArray[Any], box: Box, volume_shape: Index, connectivity: Connectivity) -> None:
    if connectivity not in AXES:
        raise ValueError(f"connectivity {connectivity!r} is not one of {', '.join(AXES)}")
    if values.shape != box.shape or len(volume_shape) != 3 or box.size == 0:
        raise ValueError(f"values of shape {values.shape} for block {box} of a volume of shape {volume_shape}")
    if not Box.of_shape(volume_shape).contains(box):
        raise ValueError(f"block {box} is not inside the volume of shape {volume_shape}")
    if values.dtype not in (np.bool_, np.uint8):
        raise TypeError(f"values of dtype {values.dtype}; components need bool or uint8 class values")


def _classes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Class values with 0 for every background."""
    classes = np.ascontiguousarray(values).view(np.uint8)
    return np.where(classes == UNLABELLED, np.uint8(0), classes) if values.dtype == np.uint8 else classes


def _label(classes: NDArray[np.uint8], connectivity: Literal[4, 6]) -> tuple[NDArray[np.uint32], int]:
    labels, count = cc3d.connected_components(classes, connectivity=connectivity, return_N=True, out_dtype=np.uint32)
    return labels.astype(np.uint32, copy=False), count


def _label_sections(classes: NDArray[np.uint8]) -> tuple[NDArray[np.uint32], int]:
    """Section by section with the ids running on: as fast as one call over sections kept apart, and half the memory."""
    labels, count = np.empty(classes.shape, np.uint32), 0
    for section, out in zip(classes, labels, strict=True):
        own, found = _label(section, 4)
        np.add(own, np.uint32(count), out=out)
        out *= section > 0
        count += found
    return labels, count


def _first_and_size(labels: NDArray[np.uint32], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First voxel in the block and size of the labels 1..count, from the runs of equal labels along scan order."""
    flat = labels.reshape(-1)
    start = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    label = flat[start]
    size, first = np.zeros(count + 1, np.int64), np.full(count + 1, flat.size)
    np.add.at(size, label, np.diff(start, append=flat.size))
    np.minimum.at(first, label, start)
    return first[1:], size[1:]


def _in_volume(index: NDArray[np.int64], box: Box, volume_shape: Index) -> NDArray[np.int64]:
    """Linear indices in the block as linear indices in the whole volume."""
    voxel = np.unravel_index(index, box.shape)
    return np.ravel_multi_index([v + lo for v, lo in zip(voxel, box.start, strict=True)], volume_shape)


def _plane(labels: NDArray[np.uint32], axis: int, position: int) -> NDArray[np.uint32]:
    """A copy, so that a kept face does not keep the block."""
    plane: NDArray[np.uint32] = np.moveaxis(labels, axis, 0)[position].copy()
    return plane


def _behind(index: Index, axis: int) -> Index:
    return (*index[:axis], index[axis] + 1, *index[axis + 1 :])


def _union(fragments: int, pairs: NDArray[np.int64]) -> NDArray[np.int32]:
    """Component number of every fragment of the graph whose edges are the pairs."""
    if fragments >= 2**31:
        raise ValueError(f"{fragments} fragments, but one union takes at most {2**31 - 1}; use larger blocks")
    graph = coo_matrix((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), (fragments, fragments))
    return connected_components(graph, directed=False)[1]


def _id_dtype(first_id: int, objects: int) -> type[np.unsignedinteger[Any]]:
    last = first_id + objects - 1
    if first_id < 1 or last >= 2**64:
        raise ValueError(f"ids {first_id} to {last} are not within 1 to 2^64 - 1")
    return np.uint32 if last < 2**32 else np.uint64


def _save(path: Path | str, arrays: dict[str, NDArray[Any]]) -> None:
    temporary = Path(path).with_name(f".{Path(path).name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _load(path: Path | str, *names: str) -> dict[str, NDArray[Any]]:
    with np.load(path) as file:
        arrays = dict(file)
    if missing := set(names) - set(arrays):
        raise ValueError(f"{path} holds no {', '.join(sorted(missing))}: not a table of components; remove it")
    return arrays
