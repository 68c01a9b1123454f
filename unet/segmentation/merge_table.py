"""The merge table: the final id of every fragment of a volume, and what is known of every object.

It is a folder of ``.npy`` files, so that whoever relabels a block maps its own rows alone, and whoever merges appends
layer by layer: ``lut`` of the fragments, ``offsets`` of the blocks in it, ``first``, ``sizes`` and ``values`` of the
objects in the order of their ids.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.segmentation.fragments import Fragments
from unet.storage.files import write_folder_with

FILES = ("lut", "first", "sizes", "values", "offsets", "first_id")
"""What is in the folder, each as ``.npy``."""


@dataclass(frozen=True)
class ObjectTable:
    """Final ids of some fragments, and the objects that have their first voxel in them.

    Attributes
    ----------
    lut : (fragments,) uint32, or uint64 where an id needs it; 0 = dropped
    first : (objects,) int64, first voxel of each object in scan order, increasing
    sizes : (objects,) int64, voxels of each object
    values : (objects,) uint8, class value of each object
    """

    lut: NDArray[Any]
    first: NDArray[np.int64]
    sizes: NDArray[np.int64]
    values: NDArray[np.uint8]

    @property
    def objects(self) -> int:
        """Number of objects kept."""
        return len(self.sizes)


@dataclass(frozen=True)
class MergeTable(ObjectTable):
    """Those of a whole volume.

    Attributes
    ----------
    offsets : (blocks + 1,) int64, a block's fragments are ``lut[offsets[i]:offsets[i + 1]]``
    first_id : id of the first object; the others follow without a gap
    """

    offsets: NDArray[np.int64]
    first_id: int

    def lut_of_block(self, block: int) -> NDArray[Any]:
        """Final id by local label of one block, ``(n + 1,)``; entry 0 is 0."""
        own = self.lut[self.offsets[block] : self.offsets[block + 1]]
        return np.concatenate([np.zeros(1, own.dtype), own])


def id_dtype(first_id: int, objects: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The smallest type of the ids of so many objects.

    Raises
    ------
    ValueError
        If ids do not fit 64 bits.
    """
    last = first_id + objects - 1
    if first_id < 1 or last >= 2**64:
        raise ValueError(f"ids {first_id} to {last} are not within 1 to 2^64 - 1")
    return np.dtype(np.uint32 if last < 2**32 else np.uint64)


def number_objects(
    fragments: Fragments, object_of_part: NDArray[np.int32], first_id: int = 1, min_size: int = 0
) -> MergeTable:
    """Number objects by their first voxel in scan order; background and what is too small becomes 0 (pass 3).

    Parameters
    ----------
    fragments : of the volume
    object_of_part : (parts,) the object that each union of fragments belongs to, 0 to objects - 1
    first_id : id of the first object, at least 1
    min_size : objects of fewer voxels become 0

    Raises
    ------
    ValueError
        If ids do not fit 64 bits.
    """
    objects = fragments.joined(object_of_part)
    kept = np.flatnonzero(objects.kept(min_size))
    kept = kept[np.argsort(objects.first[kept])]
    ids = np.zeros(len(objects.size), id_dtype(first_id, len(kept)))
    ids[kept] = np.arange(len(kept), dtype=ids.dtype) + ids.dtype.type(first_id)
    lut = ids[object_of_part][fragments.part]
    of_objects = objects.first[kept], objects.size[kept], objects.value[kept]
    return MergeTable(lut, *of_objects, fragments.offsets, first_id)


def relabel(labels: NDArray[np.uint32], lut: NDArray[Any]) -> NDArray[Any]:
    """Final ids of a block (pass 4): ``lut[labels]``, of the dtype of ``lut``.

    32-bit ids take the place of the labels, which are no longer needed: a block's ids are its largest array.

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


def save_merge_table(
    folder: Path, offsets: NDArray[np.int64], first_id: int, objects: int, pieces: Iterable[ObjectTable]
) -> str:
    """Write a merge table, piece after piece, and return the digest of its ids; it is on disk whole or not at all.

    Parameters
    ----------
    folder : that is made, or replaced
    offsets : see `MergeTable`
    first_id : of the first object
    objects : of all pieces together
    pieces : what was numbered, in scan order
    """
    digest = blake2b(digest_size=16)

    def write(new: Path) -> None:
        np.save(new / "offsets.npy", offsets)
        np.save(new / "first_id.npy", np.array(first_id, np.uint64))
        with (
            _Growing(new / "lut.npy", int(offsets[-1]), id_dtype(first_id, objects)) as lut,
            _Growing(new / "first.npy", objects, np.dtype(np.int64)) as first,
            _Growing(new / "sizes.npy", objects, np.dtype(np.int64)) as sizes,
            _Growing(new / "values.npy", objects, np.dtype(np.uint8)) as values,
        ):
            for piece in pieces:
                lut.append(piece.lut)
                first.append(piece.first)
                sizes.append(piece.sizes)
                values.append(piece.values)
                digest.update(piece.lut.tobytes())

    write_folder_with(folder, write)
    return digest.hexdigest()


def load_merge_table(folder: Path) -> MergeTable:
    """Map what `save_merge_table` wrote: rows are read where they are looked at."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not there: no merge table; remove the receipts of `merge`, and run again")
    columns: dict[str, Any] = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in FILES}
    return MergeTable(**{**columns, "first_id": int(columns["first_id"])})


class _Growing:
    """A one-dimensional ``.npy`` of known length, written in pieces."""

    def __init__(self, path: Path, length: int, dtype: np.dtype[Any]) -> None:
        self.path, self.dtype, self._missing = path, dtype, length
        self._file = path.open("wb")
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows."""
        if rows.dtype != self.dtype or len(rows) > self._missing:
            raise ValueError(f"{self.path}: {len(rows)} {rows.dtype} where {self._missing} {self.dtype} are due")
        self._file.write(rows.tobytes())
        self._missing -= len(rows)

    def __enter__(self) -> "_Growing":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._file.close()
        if kind is None and self._missing:
            raise ValueError(f"{self.path}: {self._missing} rows are missing")
