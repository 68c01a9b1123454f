"""Read images and stacks of DM3 and DM4, the files of Gatan's DigitalMicrograph. Voxels are mapped from the disk."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from unet.config.source import SourceConfig
from unet.storage.length_units import nm_per_unit
from unet.volumes.readers.axes import axis_order
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.flat_array import FlatArray
from unet.volumes.readers.formats import Format
from unet.volumes.readers.signatures import signature_of
from unet.volumes.readers.source import ArraySource, Nm
from unet.volumes.voxel_size import stated_voxel_size

DTYPES = {1: "<i2", 2: "<f4", 6: "u1", 7: "<i4", 9: "i1", 10: "<u2", 11: "<u4", 12: "<f8", 14: "?"}
"""Type of the voxels by `DataType` of the file."""
COMPLEX = (3, 5, 13, 27, 28)
COLOURS = (8, 23)
"""Types of the small preview, and of photographs."""
TAG = re.compile(r"\.ImageList\.(\d+)\.ImageData\.(.+)")
Tags = dict[str, Any]


class DmSource(ArraySource):
    """An image or a stack of a DM3 or DM4 file. The preview is not counted as an image."""

    format_name = "DM3 or DM4"

    def __init__(self, given: SourceConfig, path: Path, inner: str | None) -> None:
        with read_errors(path, self.format_name):
            image = _chosen(_images(path), inner, given.path)
            self._array = _array(image, path)
            self._array.check()
            edges, units = _calibration(image, len(self._array.shape))
        if "eV" in units:
            raise SourceError(f"{given.path}: is a spectrum image, an axis is in eV; export one energy as an image")
        names = ("?", "?", "z", "y", "x")[-len(self._array.shape) :]
        order = axis_order(self._array.shape, names, given.path, "the order of DigitalMicrograph", given.axes)
        nm = [nm_per_unit(unit) for unit in units]
        known = [edge * unit if unit else 0.0 for edge, unit in zip(edges, nm, strict=True)]
        size: Nm | None = order.by_axis(known)
        told = ", ".join(f"{edge:g} {unit or 'of no unit'}" for edge, unit in zip(edges, units, strict=True))
        remark = f"{given.path}: pixels of {told} (the last is x) are no voxel size; set `voxel_size_nm` of this volume"
        super().__init__(
            given.path,
            [path],
            order,
            self._array.dtype,
            voxel_size_nm=stated_voxel_size(size, given.path),
            voxel_size_from="calibrations of the image",
            remarks=[] if size and all(known) else [remark],
            where=path,
        )

    def _read_stored(self, selection: tuple[slice, ...]) -> np.ndarray:
        return self._array.read(selection)


def _images(path: Path) -> list[Tags]:
    """Return the tags below ImageData of each image that is no preview."""
    from ncempy.io.dm import fileDM  # type: ignore[import-untyped]

    if path.stat().st_size < 16:
        raise EOFError("cut short, the header alone has 16 bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numbers of tags that exceed 8 bits, which ncempy counts for unnamed tags
        with fileDM(path) as file:
            tags = dict(file.allTags)
    images: dict[int, Tags] = {}
    for name, value in tags.items():
        if (match := TAG.fullmatch(name)) is not None:
            images.setdefault(int(match[1]), {})[match[2]] = value
    with_voxels = [images[number] for number in sorted(images) if "Data.arrayOffset" in images[number]]
    return [image for image in with_voxels if int(image.get("DataType", 0)) not in COLOURS] or with_voxels


def _chosen(images: list[Tags], inner: str | None, address: str) -> Tags:
    if not images:
        raise SourceError(f"{address}: holds no image; export it again")
    number = (inner or "0").strip("/")
    if (inner is None and len(images) > 1) or not number.isdecimal() or int(number) >= len(images):
        shapes = ", ".join(f":{i} of {_shape(image)}" for i, image in enumerate(images))
        raise SourceError(f"{address}: which image? it holds {shapes}; write its number behind the file, as in :0")
    return images[int(number)]


def _shape(image: Tags) -> tuple[int, ...]:
    """Return the lengths of the axes, the fastest last."""
    numbered = [image.get(f"Dimensions.{i}") for i in range(1, 6)]
    return tuple(int(n) for n in numbered if n is not None)[::-1]


def _array(image: Tags, path: Path) -> FlatArray:
    number, shape = int(image.get("DataType", 0)), _shape(image)
    if number not in DTYPES:
        found = "complex" if number in COMPLEX else "colours" if number in COLOURS else f"of DataType {number}"
        raise SourceError(f"{path}: its voxels are {found}, which is not supported; export grey values as TIFF")
    dtype = np.dtype(DTYPES[number])
    array = FlatArray(path, int(image["Data.arrayOffset"]), shape, dtype, order="C")
    stored, needed = int(image["Data.arraySize"]), array.end - array.begin
    if stored != needed or not shape:
        raise SourceError(
            f"{path}: {stored} bytes of voxels, but shape {shape} of {dtype.name} needs {needed}; export it again"
        )
    return array


def _calibration(image: Tags, axes: int) -> tuple[list[float], list[str]]:
    """Return the edge of a pixel along each axis, the fastest last, and its unit."""
    numbers = [f"Calibrations.Dimension.{i}" for i in range(axes, 0, -1)]
    edges = [float(image.get(f"{one}.Scale", 0.0)) for one in numbers]
    return edges, [str(image.get(f"{one}.Units") or "").strip("\0 ") for one in numbers]


FORMAT = Format(
    name="DM3 and DM4",
    suffixes=(".dm3", ".dm4"),
    open=lambda given, path, inner: DmSource(given, Path(path), inner),
    recognises=lambda path: (found := signature_of(path)) is not None and found.name in ("DM3", "DM4"),
    has_inner=True,
    package="ncempy",
    axes="the format: the first dimension is x",
    dtypes="bool, integers of 8 to 32 bits, float32",
    voxel_size="calibrations, with their units",
    writers="tags as ncempy reads them",
)
