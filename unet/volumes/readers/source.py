"""Define `Source`, the interface of all readers, and read MRC.

A source takes its shape, dtype and voxel size from headers, and reads only the voxels that a box needs:

```
open_source("a.h5:/volumes/raw")   header: shape (z, y, x), dtype, voxel size
        |
      check()                      headers of every section; still no voxels
        |
      read(box)                    the voxels of one box, in the machine's byte order, all finite
```
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from mrcfile.utils import data_dtype_from_header
from numpy.typing import DTypeLike

from unet.geometry.box import Box, Index
from unet.storage.backends import file_state, links_of
from unet.volumes.readers.errors import SourceError, read_errors

RAW_DTYPES = ("uint8", "int8", "uint16", "int16", "float32")
DTYPES = (*RAW_DTYPES, "uint32", "int32", "uint64", "int64")
IMOD_STAMP = 1146047817
"""The letters IMOD in the header. Bit 1 of the flags after them tells whether bytes are signed."""

Nm = tuple[float, ...]


@dataclass(frozen=True)
class MissingChunks:
    """Chunks of a source that are not stored, and are read as the fill value.

    Attributes
    ----------
    address : str
        Address of the source.
    missing, count : int
        Number of chunks that are not stored, and number of all chunks.
    fill_value : int or float
        Value as which missing chunks are read.
    kind : str
        Counted unit: chunks, or shards of a sharded array.
    """

    address: str
    missing: int
    count: int
    fill_value: float
    kind: str = "chunks"

    def __str__(self) -> str:
        counts = f"{self.missing:,} of {self.count:,} {self.kind}"
        return f"{self.address}: {counts} are not stored; they read as {self.fill_value:g}"


class Source(ABC):
    """A volume in files of the user, which is read box by box.

    Attributes
    ----------
    address : str
        Path, with the dataset inside as in ``file.h5:/volumes/raw``.
    shape : tuple of int
        ``(z, y, x)`` in voxels; an image of one section is ``(1, y, x)``.
    dtype : numpy.dtype
        One of `DTYPES`, in the machine's byte order; a bool is read as uint8.
    voxel_size_nm, offset_nm : tuple of float, or None
        ``(z, y, x)`` in nm, if the file gives them.
    files : list of Path
        Files whose changes matter.
    """

    def __init__(
        self,
        address: str,
        files: Sequence[Path],
        shape: Sequence[int],
        dtype: DTypeLike,
        voxel_size_nm: Nm | None = None,
        offset_nm: Nm | None = None,
        channels: int = 1,
    ) -> None:
        self.address = address
        self.files = list(files)
        self.shape: Index = tuple(int(n) for n in shape)
        self.dtype = supported_dtype(dtype, address)
        self.voxel_size_nm = voxel_size_nm
        self.offset_nm = offset_nm
        self.channels = channels
        if 0 in self.shape:
            raise SourceError(f"{address}: holds no voxels, its shape is {self.shape}")

    def read(self, box: Box) -> np.ndarray:
        """Return the voxels of a box.

        Parameters
        ----------
        box : Box
            ``(z, y, x)`` in voxels, inside the volume.

        Returns
        -------
        numpy.ndarray
            A new array of ``box.shape`` and `dtype` in the machine's byte order; several channels come first.

        Raises
        ------
        SourceError
            If the box exceeds the volume, if a file cannot be read, or if an intensity is NaN or infinite.
        """
        if not all(0 <= a <= b <= n for a, b, n in zip(box.start, box.stop, self.shape, strict=True)):
            raise SourceError(f"{self.address}: box {box} is not inside the volume of shape {self.shape}")
        stored = self._read(box)
        copy = True if isinstance(stored, np.memmap) else None  # None: copy only if byte order or layout require it
        values = np.array(stored, dtype=self.dtype, order="C", copy=copy)
        if self.dtype.kind == "f":
            self._refuse_not_finite(values, box)
        return values

    def files_of(self, box: Box) -> list[Path]:
        """Return the files that the voxels of a box come from."""
        return [path for path in self.files if path.is_file()]

    def state(self, box: Box) -> list[list[Any]]:
        """Return the state of the files that a box comes from, as JSON. Voxels read under another state are stale.

        The state is name, bytes and time (ns) of each file. If the address is a link, its target belongs to the state.
        """
        return [*links_of(self.files[0]), *([path.name, *file_state(path)] for path in self.files_of(box))]

    def listed(self, box: Box) -> Iterable[list[Any]]:
        """Return the content of `state` in any order. For a volume one listing is faster than a query per file."""
        return self.state(box)

    def missing_chunks(self, box: Box) -> list[MissingChunks]:
        """Count the chunks of a box that are not stored. The list is empty for formats without chunks.

        Raises
        ------
        CannotList
            If a server does not list its content.
        """
        return []

    def check(self) -> None:  # noqa: B027 - formats with one header have nothing left to check
        """Check the header of every section without reading voxels.

        Raises
        ------
        SourceError
            If a section is truncated, or differs from the first in size or dtype.
        """

    def section_name(self, z: int) -> str:
        """Return the place of section ``z``, for messages."""
        return f"{self.address}, section {z} (the first is 0)"

    @abstractmethod
    def _read(self, box: Box) -> np.ndarray:
        """Return the voxels of a box inside the volume, in the byte order in which they are stored."""

    def _refuse_not_finite(self, values: np.ndarray, box: Box) -> None:
        bad = ~np.isfinite(values)
        if bad.any():
            at = np.unravel_index(int(bad.argmax()), values.shape)
            z, y, x = (int(i) + lo for i, lo in zip(at[-3:], box.start, strict=True))
            raise SourceError(
                f"{self.section_name(z)}: intensity {values[at]} at (z, y, x) = ({z}, {y}, {x}), "
                f"{int(bad.sum())} not finite in box {box}; replace them before ingest, or leave the section out "
                "with `sections`"
            )


def supported_dtype(dtype: DTypeLike, where: str) -> np.dtype:
    """Return a dtype in the machine's byte order, uint8 for bool. Refuse a dtype that is not in `DTYPES`."""
    found = np.dtype(dtype)
    if found == np.bool_:
        return np.dtype("uint8")
    if found.name not in DTYPES:
        raise SourceError(f"{where}: dtype {found.name} is not supported; convert to one of {', '.join(DTYPES)}")
    return found.newbyteorder("=")


def volume_shape(shape: Sequence[int], where: str) -> tuple[int, Index]:
    """Return channels and ``(z, y, x)`` of an array ``(c, z, y, x)`` or of fewer axes, after leading axes of length 1.

    >>> volume_shape((6, 5), "a.h5"), volume_shape((1, 2, 4, 6, 5), "a.h5")
    ((1, (1, 6, 5)), (2, (4, 6, 5)))
    """
    if len(shape) < 2 or any(n != 1 for n in shape[:-4]):
        raise SourceError(f"{where}: shape {tuple(shape)} is not (c, z, y, x), (z, y, x) or (y, x); extract one")
    c, z, y, x = (int(n) for n in (1, 1, *shape)[-4:])
    return c, (z, y, x)


class MrcSource(Source):
    """An MRC file. The voxel size follows from the cell in Angstrom (0 = unknown); voxels are mapped from the disk."""

    def __init__(self, address: str, path: Path) -> None:
        with read_errors(path, "MRC"), mrcfile.open(path, mode="r", header_only=True) as file:
            header = file.header
            stored = (int(header.nz), int(header.ny), int(header.nx))
            dtype = _imod_dtype(data_dtype_from_header(header), path)
            self._begin = header.nbytes + int(header.nsymbt)
            # axis 1 = x, 2 = y, 3 = z for sections, rows and columns; 0 in old files means the usual order
            axes = [int(header.maps) or 3, int(header.mapr) or 2, int(header.mapc) or 1]
            sampling = [(header.cella[a], header[m]) for a, m in (("z", "mz"), ("y", "my"), ("x", "mx"))]
        voxel_size_nm = tuple(float(cell) / int(m) / 10 if m > 0 else 0.0 for cell, m in sampling)
        if sorted(axes) != [1, 2, 3]:
            raise SourceError(
                f"{path}: axes (maps, mapr, mapc) are {tuple(axes)}; they have to be 1, 2 and 3 in any order"
            )
        self._path, self._stored, self._disk_dtype = path, stored, dtype
        self._order = [axes.index(axis) for axis in (3, 2, 1)]
        expected, size = self._begin + int(np.prod(stored)) * dtype.itemsize, path.stat().st_size
        if size < expected:
            raise SourceError(
                f"{path}: cut short, {size} bytes, but the header of {stored} {dtype.name} needs {expected}; "
                "copy or export it again"
            )
        shape = tuple(stored[i] for i in self._order)
        super().__init__(address, [path], shape, dtype, voxel_size_nm if min(voxel_size_nm) > 0 else None)

    def _read(self, box: Box) -> np.ndarray:
        voxels = np.memmap(self._path, self._disk_dtype, "r", self._begin, self._stored)
        return voxels.transpose(self._order)[box.slices]


def _imod_dtype(dtype: np.dtype, path: Path) -> np.dtype:
    """Return the dtype of the voxels. IMOD wrote unsigned bytes into mode 0, which the standard calls signed."""
    with path.open("rb") as file:
        file.seek(152)
        stamp, flags = np.frombuffer(file.read(8), np.dtype("i4").newbyteorder(dtype.byteorder))
        if dtype == np.int8 and stamp.byteswap() == IMOD_STAMP:
            stamp, flags = stamp.byteswap(), flags.byteswap()
    return np.dtype("u1") if dtype == np.int8 and stamp == IMOD_STAMP and not flags & 1 else dtype
