"""Read the .npy files of NumPy. They name neither axes nor a voxel size; voxels are mapped from the disk."""

from pathlib import Path

import numpy as np
from numpy.lib import format as npy_format

from unet.config.source import SourceConfig
from unet.volumes.readers.axes import axis_order
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.flat_array import FlatArray
from unet.volumes.readers.formats import Format
from unet.volumes.readers.signatures import signature_of
from unet.volumes.readers.source import ArraySource

READ_HEADER = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}


class NpySource(ArraySource):
    """An array of numbers in a .npy file, in the order of C or of Fortran."""

    format_name = "NumPy"
    parallel_reads = True

    def __init__(self, given: SourceConfig, path: Path) -> None:
        with read_errors(path, self.format_name), path.open("rb") as file:
            version = npy_format.read_magic(file)
            if version not in READ_HEADER:
                raise SourceError(f"{path}: a .npy file of version {version}; save it again with numpy.save")
            shape, is_fortran, dtype = READ_HEADER[version](file)
            if dtype.kind not in "biuf":
                raise SourceError(f"{path}: its elements are {dtype}, no numbers; save intensities or ids alone")
            self._array = FlatArray(path, file.tell(), shape, dtype, "F" if is_fortran else "C")
            self._array.check()
        order = axis_order(shape, None, given.path, configured=given.axes)
        super().__init__(
            given.path,
            [path],
            order,
            np.float32 if dtype.str[1:] == "f2" else dtype,
            where=path,
            remarks=filter(None, [self._array.surplus()]),
        )

    def _read_stored(self, selection: tuple[slice, ...]) -> np.ndarray:
        return self._array.read(selection)


FORMAT = Format(
    name="NumPy",
    suffixes=(".npy",),
    open=lambda given, path, inner: NpySource(given, Path(path)),
    recognises=lambda path: (found := signature_of(path)) is not None and found.name == "NumPy",
    writers="numpy",
)
