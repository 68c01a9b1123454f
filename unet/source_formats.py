"""What an image file offers to the workflow (`Source`), and the readers of the volume formats HDF5, MRC and Zarr.

A source knows its shape, dtype and voxel size from headers alone, and reads no more voxels than a box needs:

```
open_source("a.h5:/volumes/raw")   header: shape (z, y, x), dtype, voxel size
        |
      check()                      headers of every section; still no voxels
        |
      read(box)                    the voxels of one box, in the machine's byte order, all finite
```
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import mrcfile
import numpy as np
from h5py.h5z import filter_avail
from mrcfile.utils import data_dtype_from_header
from numpy.typing import DTypeLike

from unet import store
from unet.geometry import Box, Index
from unet.places import place_of
from unet.read_errors import SourceError, read_errors

RAW_DTYPES = ("uint8", "int8", "uint16", "int16", "float32")
DTYPES = (*RAW_DTYPES, "uint32", "int32", "uint64", "int64")
IMOD_STAMP = 1146047817  # "IMOD" in the header: bit 1 of the flags after it then says whether bytes are signed

Nm = tuple[float, ...]


class Source(ABC):
    """A volume in somebody else's files, read box by box.

    Attributes
    ----------
    address : str
        Path, with the dataset inside as in ``file.h5:/volumes/raw``.
    shape : tuple of int
        ``(z, y, x)`` in voxels; an image of one section is ``(1, y, x)``.
    dtype : numpy.dtype
        One of `DTYPES`, in the machine's byte order; a bool is read as uint8.
    voxel_nm, offset_nm : tuple of float, or None
        ``(z, y, x)`` in nm, where the file says so.
    files : list of Path
        What has to be watched for changes.
    """

    def __init__(
        self,
        address: str,
        files: Sequence[Path],
        shape: Sequence[int],
        dtype: DTypeLike,
        voxel_nm: Nm | None = None,
        offset_nm: Nm | None = None,
        channels: int = 1,
    ) -> None:
        self.address = address
        self.files = list(files)
        self.shape: Index = tuple(int(n) for n in shape)
        self.dtype = supported_dtype(dtype, address)
        self.voxel_nm = voxel_nm
        self.offset_nm = offset_nm
        self.channels = channels
        if 0 in self.shape:
            raise SourceError(f"{address}: holds no voxels, its shape is {self.shape}")

    def read(self, box: Box) -> np.ndarray:
        """The voxels of a box.

        Parameters
        ----------
        box : Box
            ``(z, y, x)`` in voxels, inside the volume.

        Returns
        -------
        numpy.ndarray
            A new array of ``box.shape`` and `dtype`, in the machine's byte order; several channels come first.

        Raises
        ------
        SourceError
            If the box leaves the volume, a file cannot be read, or a grey value is NaN or infinite.
        """
        if not all(0 <= a <= b <= n for a, b, n in zip(box.start, box.stop, self.shape, strict=True)):
            raise SourceError(f"{self.address}: box {box} is not inside the volume of shape {self.shape}")
        stored = self._read(box)
        copy = True if isinstance(stored, np.memmap) else None  # None: where byte order or layout need it
        values = np.array(stored, dtype=self.dtype, order="C", copy=copy)
        if self.dtype.kind == "f":
            self._refuse_not_finite(values, box)
        return values

    def files_of(self, box: Box) -> list[Path]:
        """The files that the voxels of a box come from."""
        return [path for path in self.files if path.is_file()]

    def state(self, box: Box) -> list[list[Any]]:
        """Name, size and time (ns) of the files that a box comes from: voxels read under another state are stale."""
        states = [(path.name, path.stat()) for path in self.files_of(box)]
        return [[name, state.st_size, state.st_mtime_ns] for name, state in states]

    def check(self) -> None:  # noqa: B027 - formats with one header have nothing left to check
        """Read the header of every section, no voxels.

        Raises
        ------
        SourceError
            If a section is cut short, or differs from the first in size or dtype.
        """

    def section_name(self, z: int) -> str:
        """Where section ``z`` lies, for messages."""
        return f"{self.address}, section {z} (the first is 0)"

    @abstractmethod
    def _read(self, box: Box) -> np.ndarray:
        """The voxels of a box inside the volume, in whatever byte order they are stored."""

    def _refuse_not_finite(self, values: np.ndarray, box: Box) -> None:
        bad = ~np.isfinite(values)
        if bad.any():
            at = np.unravel_index(int(bad.argmax()), values.shape)
            z, y, x = (int(i) + lo for i, lo in zip(at[-3:], box.start, strict=True))
            raise SourceError(
                f"{self.section_name(z)}: grey value {values[at]} at (z, y, x) = ({z}, {y}, {x}), "
                f"{int(bad.sum())} not finite in box {box}; replace them before ingest, or leave the section out "
                "with `sections`"
            )


def supported_dtype(dtype: DTypeLike, where: str) -> np.dtype:
    """The dtype in the machine's byte order, uint8 for bool; refuses what is not in `DTYPES`."""
    found = np.dtype(dtype)
    if found == np.bool_:
        return np.dtype("uint8")
    if found.name not in DTYPES:
        raise SourceError(f"{where}: dtype {found.name} is not supported; convert to one of {', '.join(DTYPES)}")
    return found.newbyteorder("=")


def volume_shape(shape: Sequence[int], where: str) -> tuple[int, Index]:
    """Channels, and ``(z, y, x)``, of an array ``(c, z, y, x)`` or of fewer axes; leading single ones do not count.

    >>> volume_shape((6, 5), "a.h5"), volume_shape((1, 2, 4, 6, 5), "a.h5")
    ((1, (1, 6, 5)), (2, (4, 6, 5)))
    """
    if len(shape) < 2 or any(n != 1 for n in shape[:-4]):
        raise SourceError(f"{where}: shape {tuple(shape)} is not (c, z, y, x), (z, y, x) or (y, x); extract one")
    c, z, y, x = (int(n) for n in (1, 1, *shape)[-4:])
    return c, (z, y, x)


def _three(values: Any) -> Nm | None:
    """Three numbers of an attribute as a tuple; None where there are not three."""
    found = tuple(float(v) for v in np.ravel(values)) if values is not None else ()
    return found if len(found) == 3 else None


class Hdf5Source(Source):
    """A dataset of an HDF5 file, laid out as CREMI does: attributes `resolution` and `offset` in nm, (z, y, x)."""

    def __init__(self, address: str, path: Path, inner: str | None) -> None:
        self._path = path
        with read_errors(path, "HDF5"), h5py.File(path, "r") as file:
            self._inner = _dataset_name(file, inner, address)
            dataset = file[self._inner]
            _require_filters(dataset, address)
            voxel_nm, offset_nm = _three(dataset.attrs.get("resolution")), _three(dataset.attrs.get("offset"))
            if voxel_nm is not None and min(voxel_nm) <= 0:
                raise SourceError(f"{address}: attribute resolution is {voxel_nm} nm; it has to be positive")
            channels, shape = volume_shape(dataset.shape, address)
            super().__init__(address, [path], shape, dataset.dtype, voxel_nm, offset_nm, channels)

    def _read(self, box: Box) -> np.ndarray:
        with read_errors(self._path, "HDF5"), h5py.File(self._path, "r") as file:
            dataset = file[self._inner]
            leading = (0,) * (dataset.ndim - 4) + (slice(None),) * (dataset.ndim > 3)
            values = dataset[(*leading, *box.slices[-dataset.ndim :])]
            return values.reshape(self.channels, *box.shape) if self.channels > 1 else values.reshape(box.shape)


def _require_filters(dataset: h5py.Dataset, address: str) -> None:
    """Raise where the voxels are compressed by a filter that is not installed; headers name it."""
    created = dataset.id.get_create_plist()
    filters = {number: name.decode() for number, _, _, name in map(created.get_filter, range(created.get_nfilters()))}
    if not all(map(filter_avail, filters)):
        with suppress(ImportError):
            import_module("hdf5plugin")  # makes its filters known to HDF5
    missing = [f"{number} ({name or 'without a name'})" for number, name in filters.items() if not filter_avail(number)]
    if missing:
        raise SourceError(
            f"{address}: compressed by HDF5 filter {', '.join(missing)}, which is not installed; pip install "
            "hdf5plugin, or write the file again with gzip (h5repack -f GZIP=1)"
        )


def _dataset_name(file: h5py.File, inner: str | None, address: str) -> str:
    if inner and isinstance(file.get(inner), h5py.Dataset):
        return inner
    found: list[str] = []
    file.visititems(lambda n, o: found.append(f"/{n} {o.shape}") if isinstance(o, h5py.Dataset) else None)
    missing = f"no dataset {inner}" if inner else "which dataset?"
    listed = ", ".join(found) or "none"
    raise SourceError(f"{address}: {missing}; write file.h5:/path, the file holds: {listed}")


class MrcSource(Source):
    """An MRC file: voxel size from the cell in Angstrom (0 = unknown), voxels mapped from the disk."""

    def __init__(self, address: str, path: Path) -> None:
        with read_errors(path, "MRC"), mrcfile.open(path, mode="r", header_only=True) as file:
            header = file.header
            stored = (int(header.nz), int(header.ny), int(header.nx))
            dtype = _imod_dtype(data_dtype_from_header(header), path)
            self._begin = header.nbytes + int(header.nsymbt)
            # axis 1 = x, 2 = y, 3 = z for sections, rows and columns; 0 in old files means the usual order
            axes = [int(header.maps) or 3, int(header.mapr) or 2, int(header.mapc) or 1]
            sampling = [(header.cella[a], header[m]) for a, m in (("z", "mz"), ("y", "my"), ("x", "mx"))]
        voxel_nm = tuple(float(cell) / int(m) / 10 if m > 0 else 0.0 for cell, m in sampling)
        if sorted(axes) != [1, 2, 3]:
            raise SourceError(
                f"{path}: axes (maps, mapr, mapc) are {tuple(axes)}; they have to be 1, 2 and 3 in any order"
            )
        self._path, self._stored, self._disk_dtype = path, stored, dtype
        self._order = [axes.index(axis) for axis in (3, 2, 1)]
        expected, size = self._begin + int(np.prod(stored)) * dtype.itemsize, path.stat().st_size
        if size < expected:
            raise SourceError(
                f"{path}: cut short, {size} bytes where the header of {stored} {dtype.name} foresees {expected}; "
                "copy or export it again"
            )
        shape = tuple(stored[i] for i in self._order)
        super().__init__(address, [path], shape, dtype, voxel_nm if min(voxel_nm) > 0 else None)

    def _read(self, box: Box) -> np.ndarray:
        voxels = np.memmap(self._path, self._disk_dtype, "r", self._begin, self._stored)
        return voxels.transpose(self._order)[box.slices]


def _imod_dtype(dtype: np.dtype, path: Path) -> np.dtype:
    """IMOD wrote unsigned bytes into mode 0, which the standard calls signed, unless its flag says otherwise."""
    with path.open("rb") as file:
        file.seek(152)
        stamp, flags = np.frombuffer(file.read(8), np.dtype("i4").newbyteorder(dtype.byteorder))
        if dtype == np.int8 and stamp.byteswap() == IMOD_STAMP:
            stamp, flags = stamp.byteswap(), flags.byteswap()
    return np.dtype("u1") if dtype == np.int8 and stamp == IMOD_STAMP and not flags & 1 else dtype


class ZarrSource(Source):
    """A Zarr array, or the finest level of an OME-Zarr image with at most one time point, in a folder or elsewhere."""

    def __init__(self, address: str, where: Path | str, inner: str | None) -> None:
        self._state = zarr_state(where, inner)
        self._array = _open_zarr(address, where, inner)
        stored = self._array.shape
        names = self._array.axes or ["?"] * (len(stored) - 3) + list("zyx")[-len(stored) :]
        lengths = dict(zip(names, stored, strict=True))
        others = [n for name, n in zip(names, stored, strict=True) if name not in "czyx"]
        if not {"y", "x"} <= lengths.keys() or any(n != 1 for n in others):
            raise SourceError(
                f"{address}: axes {names} of lengths {stored}; an image has y and x, perhaps z and c, and one time "
                "point: extract it"
            )
        self._names = names
        shape = tuple(lengths.get(axis, 1) for axis in "zyx")
        scale, translation = (self._by_axis(nm) for nm in (self._array.scale_nm, self._array.translation_nm))
        files = zarr_metadata_files(where, inner) if isinstance(where, Path) else []
        super().__init__(address, files, shape, self._array.dtype, scale, translation, lengths.get("c", 1))

    def state(self, box: Box) -> list[list[Any]]:
        """That of the metadata, before they were read."""
        return self._state

    def _by_axis(self, values: Nm | None) -> Nm | None:
        """(z, y, x) of one value an axis; None where there is none of z."""
        if values is None or "z" not in self._names:
            return None
        return tuple(float(values[self._names.index(axis)]) for axis in "zyx")

    def _read(self, box: Box) -> np.ndarray:
        wanted = dict(zip("czyx", (slice(None), *box.slices), strict=True))
        with read_errors(self.address, "Zarr"):
            values = self._array.read(tuple(wanted.get(name, slice(0, 1)) for name in self._names))
        # axes in another order, (x, y, z) for one: single ones to the front, c, z, y, x to the back
        order = sorted(range(values.ndim), key=lambda i: "czyx".find(self._names[i]))
        return values.transpose(order).reshape((self.channels, *box.shape) if self.channels > 1 else box.shape)


def _open_zarr(address: str, where: Path | str, inner: str | None) -> store.ForeignArray:
    with read_errors(where, "Zarr"):
        try:
            return store.open_foreign(str(where), inner)
        except store.StoreError as error:
            listed = ", ".join(store.list_foreign(str(where))) or "none"
            raise SourceError(f"{address}: {error}; write store.zarr:/path, the store holds: {listed}") from error


METADATA = ("zarr.json", ".zgroup", ".zarray", ".zattrs")


def zarr_metadata_files(path: Path, inner: str | None = None) -> list[Path]:
    """The metadata files of a Zarr store and of a path inside it, v2 or v3."""
    return [path / key for key in _metadata_keys(inner) if (path / key).is_file()]


def zarr_state(where: Path | str, inner: str | None = None) -> list[list[Any]]:
    """What tells two versions of a Zarr store apart: the state of its metadata; nothing where there is no store."""
    place = place_of(where)
    return [state for key in _metadata_keys(inner) if (state := place.state(key)) is not None]


def _metadata_keys(inner: str | None) -> list[str]:
    folders = dict.fromkeys(["", f"{inner.strip('/')}/"] if inner else [""])
    return [f"{folder}{name}" for folder in folders for name in METADATA]
