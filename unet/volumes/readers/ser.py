"""Read images and series of TIA SER, the files of FEI's and Thermo Fisher's TIA. Voxels are mapped from the disk.

```
header | element 0: calibration of x and y, type, columns, rows, voxels | element 1 ... | offsets of the elements
```

The first row that is stored is the bottom of the picture. It is read as the last, as ncempy reads it.
"""

import struct
from os import SEEK_CUR
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.volumes.readers.axes import axis_order
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.flat_array import FlatArray
from unet.volumes.readers.formats import Format
from unet.volumes.readers.signatures import signature_of
from unet.volumes.readers.source import ArraySource, pixel_remark

DTYPES = {1: "u1", 2: "<u2", 3: "<u4", 4: "i1", 5: "<i2", 6: "<i4", 7: "<f4", 8: "<f8"}
"""Type of the voxels by `DataType` of an element."""
IMAGES = 0x4122
"""`DataTypeID` of a series of images."""
ELEMENT = struct.Struct("<ddiddihii")
"""Header of an image: offset, edge of a pixel (m) and reference of x and of y; type, columns, rows."""
VERSIONS = {0x210: "i", 0x220: "q"}
"""Type of offsets by the version of the file."""


class Header(NamedTuple):
    """Header of a file: the series as planned, as stored, and where its images begin."""

    planned: int
    positions: tuple[int, ...]
    offsets: tuple[int, ...]


class Element(NamedTuple):
    """An image of a series: its voxels `(y, x)`, bottom row first, and the edges of a pixel `(y, x)` in nm."""

    array: FlatArray
    edges_nm: tuple[float, float]


class SerSource(ArraySource):
    """An image of a SER file, or a series of images as sections."""

    format_name = "TIA SER"
    parallel_reads = True

    def __init__(self, given: SourceConfig, path: Path) -> None:
        with read_errors(path, self.format_name):
            header = _header(path)
            self._path, self._offsets = path, header.offsets
            first = _element(path, self._offsets[0])
        shape = (len(self._offsets), *first.array.shape)
        order = axis_order(shape, ("z", "y", "x"), given.path, "the order of TIA", given.axes)
        super().__init__(
            given.path, [path], order, first.array.dtype, remarks=_remarks(header, first, given.path), where=path
        )
        self.pixel_nm = first.edges_nm

    def check(self, box: Box) -> None:
        """Check that the images of a box are like the first, and lie in the file."""
        with read_errors(self._path, self.format_name):
            first = _element(self._path, self._offsets[0]).array
            for z in range(*self._images(self.order.selection(box))):
                array = _element(self._path, self._offsets[z]).array
                if (array.shape, array.dtype) != (first.shape, first.dtype):
                    raise SourceError(
                        f"{self._path}, image {z} (the first is 0): {array.shape} pixels of {array.dtype.name} (y, x), "
                        f"but image 0 has {first.shape} of {first.dtype.name}; every section of a volume has the same "
                        "size and dtype: export the images one by one as TIFF"
                    )

    def _read_stored(self, selection: tuple[slice, ...]) -> np.ndarray:
        first, stop = self._images(selection)
        return np.stack([self._image(z, selection[1], selection[2]) for z in range(first, stop)])

    def _image(self, z: int, y: slice, x: slice) -> np.ndarray:
        """Return a part of an image, top row first."""
        array = _element(self._path, self._offsets[z]).array
        rows = array.shape[0]
        return array.read((slice(rows - y.stop, rows - y.start), x))[::-1]

    @staticmethod
    def _images(selection: tuple[slice, ...]) -> tuple[int, int]:
        return selection[0].start, selection[0].stop


def _header(path: Path) -> Header:
    """Return the header of a file. Nothing is read for a length that exceeds the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        _, _, version, kind, _, planned, stored = _unpacked(file, "<HHHiiii")
        if version not in VERSIONS:
            raise SourceError(f"{path}: TIA SER of version {version:#x} is not known; export the images as TIFF")
        if kind != IMAGES:
            raise SourceError(f"{path}: holds spectra, not images; export one energy as an image")
        (offsets_at,), (axes,) = _unpacked(file, f"<{VERSIONS[version]}"), _unpacked(file, "<i")
        if min(stored, offsets_at, axes) < 0 or ELEMENT.size * stored > size or axes > size:
            raise EOFError(f"cut short, {size} bytes cannot hold {stored} images in a series of {axes} axes")
        positions = tuple(_skipped_axis(file) for _ in range(axes))
        file.seek(offsets_at)
        offsets = _unpacked(file, f"<{stored}{VERSIONS[version]}")
    if not offsets:
        raise SourceError(f"{path}: holds no image; export it again")
    if sum(count > 1 for count in positions) > 1:
        raise SourceError(
            f"{path}: holds images at {' x '.join(map(str, positions))} positions, which are no sections; export those "
            "of one volume as TIFF"
        )
    return Header(planned, positions, offsets)


def _skipped_axis(file: BinaryIO) -> int:
    """Return the length of the next axis of a series, without its calibration, description and unit."""
    count = _unpacked(file, "<iddi")[0]
    for _ in range(2):
        (length,) = _unpacked(file, "<i")
        if length < 0:
            raise EOFError(f"damaged, a text of {length} letters")
        file.seek(length, SEEK_CUR)
    return int(count)


def _unpacked(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    size = struct.calcsize(layout)
    content = file.read(size)
    if len(content) < size:
        raise EOFError(f"cut short, {size - len(content)} bytes of the header are missing")
    return struct.unpack(layout, content)


def _element(path: Path, offset: int) -> Element:
    """Return an image by its offset in the file."""
    if offset < 0:
        raise SourceError(f"{path}: the file says that an image begins at byte {offset}; copy or export it again")
    with path.open("rb") as file:
        file.seek(offset)
        content = file.read(ELEMENT.size)
    if len(content) < ELEMENT.size:
        raise EOFError(f"cut short, the header of an image at byte {offset} is missing")
    _, x_m, _, _, y_m, _, number, columns, rows = ELEMENT.unpack(content)
    if number not in DTYPES:
        found = "complex" if number in (9, 10) else f"of DataType {number}"
        raise SourceError(f"{path}: its voxels are {found}, which is not supported; export grey values as TIFF")
    array = FlatArray(path, offset + ELEMENT.size, (rows, columns), np.dtype(DTYPES[number]), order="C")
    array.check()
    return Element(array, (y_m * 1e9, x_m * 1e9))


def _remarks(header: Header, first: Element, address: str) -> list[str]:
    """Return what the user has to know: how large a pixel is, and what a series is."""
    found = [pixel_remark(address, first.edges_nm, "the file")]
    stored, planned = len(header.offsets), header.planned
    if stored > 1:
        found.append(f"{address}: its {stored} images are read as sections; TIA does not say whether they are")
    if stored < planned:
        found.append(f"{address}: holds {stored} of {planned} images, since the series was ended early")
    return found


FORMAT = Format(
    name="TIA SER",
    suffixes=(".ser",),
    open=lambda given, path, inner: SerSource(given, Path(path)),
    recognises=lambda path: (found := signature_of(path)) is not None and found.name == "TIA SER",
    axes="the format: images are sections",
    dtypes="integers of 8 to 32 bits, float32",
    voxel_size="none, since the thickness of sections is not stored",
    writers="bytes that ncempy reads",
)
