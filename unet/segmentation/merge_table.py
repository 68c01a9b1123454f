"""The merge table: the final id of every fragment of a volume, and the properties of every object.

The table is a folder of ``.npy`` files. A job that relabels a block maps the block's own rows alone, and a job that
merges appends layer by layer. ``lut`` has a row per fragment, ``offsets`` finds the blocks in it; ``first_voxel``,
``sizes`` and ``class_values`` have a row per object, in the order of the ids. ``table.json`` has the first id, and the
checksums of the pages of all files. A changed bit is noticed when its page is used.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.segmentation.fragments import Fragments
from unet.storage.files import DamagedFileError, read_json, write_folder_with, write_receipt
from unet.storage.page_checksums import page_checksums, require_pages

ARRAYS = ("lut", "first_voxel", "sizes", "class_values", "offsets")
"""Names of the arrays in the folder, each with the suffix ``.npy``."""
DESCRIPTION = "table.json"
"""Name of the file with the first id and the checksums."""
FILES = (*(f"{name}.npy" for name in ARRAYS), DESCRIPTION)
"""Names of all files in the folder."""


@dataclass(frozen=True)
class ObjectTable:
    """Final ids of some fragments, and the objects that have their first voxel in them.

    Attributes
    ----------
    lut : (fragments,) uint32, or uint64 where an id needs it; 0 = dropped
    first_voxel : (objects,) int64, first voxel of each object in scan order, increasing
    sizes : (objects,) int64, voxels of each object
    class_values : (objects,) uint8, class value of each object
    """

    lut: NDArray[Any]
    first_voxel: NDArray[np.int64]
    sizes: NDArray[np.int64]
    class_values: NDArray[np.uint8]

    @property
    def objects(self) -> int:
        """Number of objects kept."""
        return len(self.sizes)


@dataclass(frozen=True)
class MergeTable(ObjectTable):
    """The object table of a whole volume.

    Attributes
    ----------
    offsets : (blocks + 1,) int64, a block's fragments are ``lut[offsets[i]:offsets[i + 1]]``
    first_id : id of the first object; the others follow without a gap
    check_rows : function that raises an error if the rows of ``lut`` from a first to before a last one are damaged
    """

    offsets: NDArray[np.int64]
    first_id: int
    check_rows: Callable[[int, int], None] = field(default=lambda first, last: None, repr=False, compare=False)

    def lut_of_block(self, block: int) -> NDArray[Any]:
        """Return the final id by local label of one block, ``(n + 1,)``; entry 0 is 0."""
        first, last = int(self.offsets[block]), int(self.offsets[block + 1])
        self.check_rows(first, last)
        own = self.lut[first:last]
        return np.concatenate([np.zeros(1, own.dtype), own])


def id_dtype(first_id: int, objects: int) -> np.dtype[np.unsignedinteger[Any]]:
    """Return the smallest dtype that holds the ids of so many objects: uint32 or uint64.

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
    fragments: Fragments, object_of_component: NDArray[np.int32], first_id: int = 1, min_size: int = 0
) -> MergeTable:
    """Number objects by their first voxel in scan order; background and too small objects become 0 (pass 3).

    Parameters
    ----------
    fragments : all fragments of the volume
    object_of_component : (components,) the object of each connected component of fragments, 0 to objects - 1
    first_id : id of the first object, at least 1
    min_size : objects of fewer voxels become 0

    Raises
    ------
    ValueError
        If ids do not fit 64 bits.
    """
    objects = fragments.merge_objects(object_of_component)
    kept = np.flatnonzero(objects.is_object(min_size))
    kept = kept[np.argsort(objects.first_voxel[kept])]
    ids = np.zeros(len(objects.size), id_dtype(first_id, len(kept)))
    ids[kept] = np.arange(len(kept), dtype=ids.dtype) + ids.dtype.type(first_id)
    lut = ids[object_of_component][fragments.component_of]
    of_objects = objects.first_voxel[kept], objects.size[kept], objects.class_value[kept]
    return MergeTable(lut, *of_objects, fragments.offsets, first_id)


def relabel(labels: NDArray[np.uint32], lut: NDArray[Any]) -> NDArray[Any]:
    """Return the final ids of a block, ``lut[labels]``, in the dtype of ``lut`` (pass 4).

    32-bit ids overwrite the labels, which are no longer needed: the ids are the largest array of a block.

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
    for section, out in zip(labels, ids, strict=True):  # by section: numpy makes 64-bit indices of the labels
        lut.take(section, out=out, mode="clip")
    return ids


def save_merge_table(
    folder: Path, offsets: NDArray[np.int64], first_id: int, objects: int, pieces: Iterable[ObjectTable]
) -> str:
    """Write a merge table piece by piece, and return the digest of its ids; it is on disk whole or not at all.

    Parameters
    ----------
    folder : folder that is made, or replaced
    offsets : see `MergeTable`
    first_id : id of the first object
    objects : number of objects of all pieces together
    pieces : object tables in scan order
    """
    digest = blake2b(digest_size=16)

    def write(new: Path) -> None:
        np.save(new / "offsets.npy", offsets)
        with (
            _NpyWriter(new / "lut.npy", int(offsets[-1]), id_dtype(first_id, objects)) as lut,
            _NpyWriter(new / "first_voxel.npy", objects, np.dtype(np.int64)) as first_voxel,
            _NpyWriter(new / "sizes.npy", objects, np.dtype(np.int64)) as sizes,
            _NpyWriter(new / "class_values.npy", objects, np.dtype(np.uint8)) as class_values,
        ):
            for piece in pieces:
                lut.append(piece.lut)
                first_voxel.append(piece.first_voxel)
                sizes.append(piece.sizes)
                class_values.append(piece.class_values)
                digest.update(piece.lut.tobytes())
        checksums = {name: page_checksums(new / f"{name}.npy") for name in ARRAYS}
        write_receipt(new / DESCRIPTION, {"first_id": first_id, "checksums": checksums})

    write_folder_with(folder, write)
    return digest.hexdigest()


def load_merge_table(folder: Path, checked: Iterable[str] = ARRAYS) -> MergeTable:
    """Map the table that `save_merge_table` wrote: rows are read when they are used.

    Parameters
    ----------
    folder : folder of the table
    checked : arrays that are checked as a whole. Of ``lut`` a block's own rows are checked when they are used; the
        other arrays have to be named if they are used.

    Raises
    ------
    ValueError
        If there is no table.
    DamagedFileError
        If a file is not what was written.
    """
    if not (folder / DESCRIPTION).is_file():
        raise ValueError(f"{folder} is not there: no merge table; remove the receipts of `merge`, and run again")
    try:
        values = read_json(folder / DESCRIPTION)
        checksums: dict[str, list[int]] = values["checksums"]
    except (DamagedFileError, KeyError) as error:
        raise DamagedFileError(f"{folder / DESCRIPTION}: is damaged; remove {folder} and run again") from error
    for name in ARRAYS:
        whole = name in checked or name == "offsets"
        require_pages(folder / f"{name}.npy", checksums[name], stop=None if whole else 1)
    columns: dict[str, Any] = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
    return MergeTable(
        **columns, first_id=values["first_id"], check_rows=partial(_check_rows, columns["lut"], checksums["lut"])
    )


def _check_rows(lut: np.memmap[Any, Any], checksums: list[int], first: int, last: int) -> None:
    start, stop = (lut.offset + row * lut.itemsize for row in (first, last))
    require_pages(Path(str(lut.filename)), checksums, start, stop)


class _NpyWriter:
    """A one-dimensional ``.npy`` of known length, written piece by piece."""

    def __init__(self, path: Path, length: int, dtype: np.dtype[Any]) -> None:
        self.path, self.dtype, self._missing = path, dtype, length
        self._file = path.open("wb")
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def append(self, rows: NDArray[Any]) -> None:
        """Write rows at the end."""
        if rows.dtype != self.dtype or len(rows) > self._missing:
            raise ValueError(
                f"{self.path}: {len(rows)} rows of {rows.dtype}, but {self._missing} of {self.dtype} are left to write"
            )
        self._file.write(rows.tobytes())
        self._missing -= len(rows)

    def __enter__(self) -> "_NpyWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._file.close()
        if kind is None and self._missing:
            raise ValueError(f"{self.path}: {self._missing} rows are missing")
