"""Read MRC. Voxels are mapped from the disk."""

from pathlib import Path

import mrcfile
import numpy as np
from mrcfile.utils import data_dtype_from_header

from unet.config.source import SourceConfig
from unet.volumes.readers.axes import axis_order
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.formats import Format
from unet.volumes.readers.source import ArraySource

IMOD_STAMP = 1146047817
"""The letters IMOD in the header. Bit 1 of the flags after them tells whether bytes are signed."""


class MrcSource(ArraySource):
    """An MRC file. The voxel size follows from the cell in Angstrom (0 = unknown); voxels are mapped from the disk."""

    format_name = "MRC"
    parallel_reads = True

    def __init__(self, given: SourceConfig, path: Path) -> None:
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
        expected, size = self._begin + int(np.prod(stored)) * dtype.itemsize, path.stat().st_size
        if size < expected:
            raise SourceError(
                f"{path}: cut short, {size} bytes, but the header of {stored} {dtype.name} needs {expected}; "
                "copy or export it again"
            )
        names = ["?xyz"[axis] for axis in axes]
        order = axis_order(stored, names, given.path, "maps, mapr and mapc of the header", given.axes)
        known = voxel_size_nm if min(voxel_size_nm) > 0 else None
        super().__init__(
            given.path, [path], order, dtype, voxel_size_nm=known, voxel_size_from="the cell in the header"
        )

    def _read_stored(self, selection: tuple[slice, ...]) -> np.ndarray:
        return np.memmap(self._path, self._disk_dtype, "r", self._begin, self._stored)[selection]


def _imod_dtype(dtype: np.dtype, path: Path) -> np.dtype:
    """Return the dtype of the voxels. IMOD wrote unsigned bytes into mode 0, which the standard calls signed."""
    with path.open("rb") as file:
        file.seek(152)
        stamp, flags = np.frombuffer(file.read(8), np.dtype("i4").newbyteorder(dtype.byteorder))
        if dtype == np.int8 and stamp.byteswap() == IMOD_STAMP:
            stamp, flags = stamp.byteswap(), flags.byteswap()
    return np.dtype("u1") if dtype == np.int8 and stamp == IMOD_STAMP and not flags & 1 else dtype


FORMAT = Format(
    name="MRC",
    suffixes=(".mrc", ".rec", ".map", ".st", ".ali"),
    open=lambda given, path, inner: MrcSource(given, Path(path)),
    axes="mapc, mapr, maps",
    voxel_size="cell and sampling, in Angstrom",
    writers="mrcfile",
)
