"""Which fragments of neighbouring blocks are one object: one union over small tables, whatever made the fragments.

The answer is that of the whole volume, numbered by the objects' first voxels in scan order: it depends neither on the
blocks, nor on the order in which they are worked, nor on who works them.

1. Each block is labelled on its own (`components`, `watershed`). Kept is a small table of its fragments, `BlockTable`:
   first voxel (counted in the whole volume), size, class value, and the labels on the block's faces.
2. `face_pairs`: lay the upper face of a block on the lower face of its neighbour. Two fragments of the same class that
   lie on each other are parts of one object.
3. `join_blocks`: number all fragments through, and join the pairs in one union. Unions may be joined further
   (`agglomeration`). `number_objects`: number the objects 1, 2, ... by their first voxel.
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
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from unet.geometry import Box, Grid, Index

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
    faces : axis -> (lower, upper) plane of local labels, uint32; only the axes along which voxels can join
    """

    box: Box
    first: NDArray[np.int64]
    size: NDArray[np.int64]
    value: NDArray[np.uint8]
    rim: NDArray[np.bool_]
    faces: dict[int, tuple[NDArray[np.uint32], NDArray[np.uint32]]]

    def __len__(self) -> int:
        return len(self.first)


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
    values : (objects,) uint8, class value of each object
    """

    lut: NDArray[Any]
    offsets: NDArray[np.int64]
    first_id: int
    first: NDArray[np.int64]
    sizes: NDArray[np.int64]
    values: NDArray[np.uint8]

    @property
    def objects(self) -> int:
        """Number of objects kept."""
        return len(self.sizes)

    def lut_of_block(self, block: int) -> NDArray[Any]:
        """Final id by local label of one block, ``(n + 1,)``; entry 0 is 0."""
        own = self.lut[self.offsets[block] : self.offsets[block + 1]]
        return np.concatenate([np.zeros(1, own.dtype), own])


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
    start = _starts(high.reshape(-1), low.reshape(-1))  # most voxels repeat the pair before
    packed = high.reshape(-1)[start].astype(np.uint64) << np.uint64(32) | low.reshape(-1)[start]
    packed = np.unique(packed)
    a, b = (packed >> np.uint64(32)).astype(np.int64), (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)
    touch = (a > 0) & (b > 0)
    a, b = a[touch], b[touch]
    same = value_high[a - 1] == value_low[b - 1]
    return np.stack([a[same], b[same]], axis=1)


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


def join_blocks(grid: Grid, tables: Iterable[BlockTable]) -> Fragments:
    """Join the fragments of all blocks of a grid, whose tables come in scan order and are each read once (pass 3).

    An upper face waits until the block behind it has come, so that the faces of one layer of blocks are held.

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
    for index, table in zip(grid.indices(), tables, strict=True):
        if table.box != grid.box(index):
            raise ValueError(f"table of block {table.box} where that of {grid.box(index)} is due; label it again")
        start = offsets[-1]  # number of the block's first fragment, counted through all blocks
        for axis, (low, high) in table.faces.items():
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


def number_objects(
    fragments: Fragments, object_of_part: NDArray[np.int32], first_id: int = 1, minimum_size: int = 0
) -> MergeTable:
    """Number objects by their first voxel in scan order; background and what is too small becomes 0 (pass 3).

    Parameters
    ----------
    fragments : of the volume
    object_of_part : (parts,) the object that each union of fragments belongs to, 0 to objects - 1
    first_id : id of the first object, at least 1
    minimum_size : objects of fewer voxels become 0

    Raises
    ------
    ValueError
        If ids do not fit 64 bits.
    """
    objects = fragments.joined(object_of_part)
    kept = np.flatnonzero((objects.size >= minimum_size) & (objects.value > 0))
    kept = kept[np.argsort(objects.first[kept])]
    ids = np.zeros(len(objects.size), _id_dtype(first_id, len(kept)))
    ids[kept] = np.arange(len(kept), dtype=ids.dtype) + ids.dtype.type(first_id)
    lut = ids[object_of_part][fragments.part]
    return MergeTable(lut, fragments.offsets, first_id, objects.first[kept], objects.size[kept], objects.value[kept])


def merge_blocks(grid: Grid, tables: Iterable[BlockTable], first_id: int = 1, minimum_size: int = 0) -> MergeTable:
    """The final ids of all fragments where fragments are parts of one object if and only if they touch."""
    fragments = join_blocks(grid, tables)
    return number_objects(fragments, np.arange(fragments.parts, dtype=np.int32), first_id, minimum_size)


def relabel(labels: NDArray[np.uint32], lut: NDArray[Any]) -> NDArray[Any]:
    """Final ids of a block (pass 4): ``lut[labels]``, of the dtype of ``lut``.

    Raises
    ------
    ValueError
        If a label has no entry, so that labels and table are of different runs.
    """
    last = labels.max(initial=0)
    if last >= len(lut):
        raise ValueError(
            f"local label {last} but {len(lut) - 1} fragments in the merge table: "
            "they are of different runs; label and merge again"
        )
    ids = labels if lut.dtype == labels.dtype else np.empty(labels.shape, lut.dtype)
    for section, out in zip(labels, ids, strict=True):  # numpy makes 64-bit indices of what it looks up
        lut.take(section, out=out, mode="clip")
    return ids


def save_block_table(path: Path | str, table: BlockTable) -> None:
    """Write a block's table, without labels, as one compressed ``npz`` that is there whole or not at all.

    Faces are written as the runs of equal labels in C order, which takes a tenth of the time: ``low_0`` is (runs, 2)
    uint32, label and voxels of each.
    """
    arrays: dict[str, NDArray[Any]] = {name: getattr(table, name) for name in COLUMNS}
    arrays["box"] = np.array([table.box.start, table.box.stop])
    for axis, (low, high) in table.faces.items():
        arrays |= {f"low_{axis}": _runs(low), f"high_{axis}": _runs(high)}
    save_arrays(path, arrays)


def load_block_table(path: Path | str) -> BlockTable:
    """Read what `save_block_table` wrote."""
    arrays = load_arrays(path, "box", *COLUMNS)
    start, stop = (tuple(int(n) for n in corner) for corner in arrays["box"])
    box, faces = Box(start, stop), {}
    for axis in (axis for axis in range(3) if f"low_{axis}" in arrays):
        shape = (*box.shape[:axis], *box.shape[axis + 1 :])
        low, high = (np.repeat(*arrays[f"{side}_{axis}"].T).reshape(shape) for side in ("low", "high"))
        faces[axis] = low, high
    columns: dict[str, Any] = {name: arrays[name] for name in COLUMNS}
    return BlockTable(box=box, faces=faces, **columns)


def _runs(face: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Label and length of every run of equal labels in C order, (runs, 2).

    >>> _runs(np.array([[7, 7], [7, 2]], np.uint32)).tolist()
    [[7, 3], [2, 1]]
    """
    flat = face.reshape(-1)
    start = _starts(flat)
    return np.stack([flat[start], np.diff(start, append=flat.size).astype(np.uint32)], axis=1)


def _starts(*lines: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Where lines of one length begin, and where one of them changes."""
    change = np.zeros(lines[0].size, bool)
    change[:1] = True
    for line in lines:
        change[1:] |= line[1:] != line[:-1]
    return np.flatnonzero(change)


def save_merge_table(path: Path | str, table: MergeTable) -> None:
    """Write the merge table as one compressed ``npz`` that is there whole or not at all."""
    save_arrays(path, {name: np.asarray(value) for name, value in vars(table).items()})


def load_merge_table(path: Path | str) -> MergeTable:
    """Read what `save_merge_table` wrote."""
    arrays = load_arrays(path, "lut", "offsets", "first_id", "first", "sizes", "values")
    fields: dict[str, Any] = {**arrays, "first_id": int(arrays["first_id"])}
    return MergeTable(**fields)


def _behind(index: Index, axis: int) -> Index:
    return (*index[:axis], index[axis] + 1, *index[axis + 1 :])


def union(fragments: int, pairs: NDArray[np.signedinteger]) -> NDArray[np.int32]:
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


def save_arrays(path: Path | str, arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays as one compressed ``npz`` that is there whole or not at all."""
    temporary = Path(path).with_name(f".{Path(path).name}.{uuid.uuid4().hex}.tmp")
    try:
        # numpy's own `savez_compressed` takes three times as long, to save little on faces full of long runs.
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_arrays(path: Path | str, *names: str) -> dict[str, NDArray[Any]]:
    """Read what `save_arrays` wrote; an error where one of the names is missing."""
    with np.load(path) as file:
        arrays = dict(file)
    if missing := set(names) - set(arrays):
        raise ValueError(f"{path} holds no {', '.join(sorted(missing))}: not a table of components; remove it")
    return arrays
