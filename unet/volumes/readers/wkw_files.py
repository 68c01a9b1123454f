"""Read WEBKNOSSOS's wkw: a folder with header.wkw and cube files, of a dataset of layers and magnifications.

```
dataset/
  datasource-properties.json    voxel size, and bounding box of each layer
  color/1/header.wkw            dataset:/color/1, or dataset:/color
  color/1/z0/y0/x0.wkw
  segmentation/2-2-1/...
```
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from unet.config.source import SourceConfig
from unet.geometry.box import Index
from unet.storage.length_units import nm_per_unit
from unet.volumes.readers.axes import axis_order
from unet.volumes.readers.cube_files import CubeFiles
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.formats import Format
from unet.volumes.readers.source import Nm
from unet.volumes.voxel_size import stated_voxel_size

HEADER, PROPERTIES = "header.wkw", "datasource-properties.json"
DTYPES = ("u1", "u2", "u4", "u8", "f4", "f8", "i1", "i2", "i4", "i8")
"""Type of the voxels by its number in the header, counted from 1: https://github.com/scalableminds/webknossos-wrap"""
RAW = 1
LARGEST = 1 << 32
"""Voxels that wkw addresses along an axis."""
CUBE = re.compile(r"z(\d+)/y(\d+)/x(\d+)\.wkw")
MAG = re.compile(r"\d+(-\d+-\d+)?")


@dataclass(frozen=True)
class Header:
    """The 16 bytes with which header.wkw and each cube file begin. Lengths are in voxels; a cube file has blocks."""

    block: int
    cube: int
    is_raw: bool
    dtype: np.dtype
    channels: int
    data_begin: int

    @classmethod
    def of(cls, path: Path) -> "Header":
        """Return the header of a file."""
        with path.open("rb") as file:
            head = file.read(16)
        if len(head) < 16:
            raise EOFError(f"cut short, {len(head)} bytes of a header of 16")
        lengths, kind, voxel, size = head[4], head[5], head[6], head[7]
        known = head[:4] == b"WKW\1" and 1 <= kind <= 3 and 1 <= voxel <= len(DTYPES)
        dtype = np.dtype(f"<{DTYPES[voxel - 1]}") if known else np.dtype("u1")
        if not known or not size or size % dtype.itemsize:
            raise SourceError(f"{path}: is no header of wkw, version 1: {head.hex()}; copy or export it again")
        block = 1 << (lengths & 15)
        cube = block << (lengths >> 4)
        return cls(block, cube, kind == RAW, dtype, size // dtype.itemsize, int.from_bytes(head[8:], "little"))

    def refuse_truncated(self, path: Path) -> None:
        """Raise an error if a cube file has another header, or ends before its last block."""
        found, size = Header.of(path), path.stat().st_size
        if (found.block, found.cube, found.dtype, found.channels) != (self.block, self.cube, self.dtype, self.channels):
            raise SourceError(f"{path}: its header {found} differs from {HEADER}, {self}; copy or export it again")
        expected = found.data_begin + self.cube**3 * self.channels * self.dtype.itemsize
        if not found.is_raw:
            expected = _end_of_blocks(path, (self.cube // self.block) ** 3)
        if size < expected:
            raise SourceError(f"{path}: cut short, {size} bytes, but its blocks need {expected}; copy it again")


def _end_of_blocks(path: Path, count: int) -> int:
    """Return the byte after the last compressed block: the last number of the table behind the header."""
    if path.stat().st_size < 16 + 8 * count:
        return 16 + 8 * count
    with path.open("rb") as file:
        file.seek(16)
        ends = np.frombuffer(file.read(8 * count), "<u8")
    if np.any(ends[1:] < ends[:-1]):
        raise SourceError(f"{path}: is damaged, its blocks do not follow each other; copy or export it again")
    return int(ends[-1])


class WkwSource(CubeFiles):
    """A magnification of a wkw layer. A cube file that is not there is counted, and reads as 0."""

    format_name = "wkw"

    def __init__(self, given: SourceConfig, folder: Path, inner: str | None) -> None:
        with read_errors(folder, "wkw"):
            self._folder = _magnification_folder(folder, inner, given.path)
            self._header = Header.of(self._folder / HEADER)
            self.edge = self._header.cube
            properties = next((p for p in (self._folder.parent.parent / PROPERTIES,) if p.is_file()), None)
            layer = Layer.of(properties, self._folder)
            self.begin, lengths = layer.box or _cubes_box(self._folder, self._header.cube)
        stored = (self._header.channels, *lengths)
        order = axis_order(stored, ("c", "x", "y", "z"), given.path, "the order of wkw", given.axes)
        size = stated_voxel_size(order.by_axis((0.0, *layer.edges_nm)) if layer.edges_nm else None, given.path)
        offset = [begin * edge for begin, edge in zip(self.begin, layer.edges_nm or (), strict=False)]
        super().__init__(
            given.path,
            [self._folder, self._folder / HEADER, *([properties] if properties else [])],
            order,
            self._header.dtype,
            voxel_size_nm=size,
            offset_nm=order.by_axis((0.0, *offset)) if size else None,
            voxel_size_from=f"scale of {PROPERTIES}",
            where=self._folder,
        )
        if not self._header.is_raw:
            edge = self._header.block
            self.decode_in(order.chunk((1, *[edge] * 3)), order.chunk((0, *(n % edge for n in self.begin))))

    def cube_path(self, index: Index) -> Path:
        """Return the file of a cube."""
        x, y, z = index
        return self._folder / f"z{z}" / f"y{y}" / f"x{x}.wkw"

    def indices(self) -> Iterator[Index]:
        """Yield the index of each cube file."""
        return _cube_indices(self._folder)

    def refuse_truncated(self, path: Path) -> None:
        """Raise an error if a cube file has another header than the layer, or ends before its last block."""
        self._header.refuse_truncated(path)

    def _read_stored(self, selection: tuple[slice, ...]) -> np.ndarray:
        import wkw

        low = [s.start + begin for s, begin in zip(selection[1:], self.begin, strict=True)]
        shape = [s.stop - s.start for s in selection[1:]]
        for index in product(
            *(range(a // self.edge, -(-(a + n) // self.edge)) for a, n in zip(low, shape, strict=True))
        ):
            if (path := self.cube_path(index)).is_file():
                self.refuse_truncated(path)
        if max(a + n for a, n in zip(low, shape, strict=True)) >= LARGEST:
            raise SourceError(f"{self._folder}: wkw addresses at most {LARGEST} voxels along an axis; crop the layer")
        with wkw.Dataset.open(str(self._folder)) as dataset:
            return dataset.read(low, shape)[selection[0]]


@dataclass(frozen=True)
class Layer:
    """A magnification in datasource-properties.json: all (x, y, z), the box in its own voxels."""

    edges_nm: Nm | None = None
    box: tuple[Index, Index] | None = None

    @classmethod
    def of(cls, path: Path | None, folder: Path) -> "Layer":
        """Return what a file says of the magnification in a folder; nothing if there is no file."""
        if path is None:
            return cls()
        with read_errors(path, "the properties of a WEBKNOSSOS dataset"):
            properties = json.loads(path.read_text())
            scale, unit = properties.get("scale"), 1.0
            if isinstance(scale, dict):
                scale, unit = scale["factor"], nm_per_unit(scale.get("unit", "nm")) or float("nan")
            mag = _mag(folder.name)
            edges = tuple(float(edge) * unit * m for edge, m in zip(scale, mag, strict=True)) if scale else None
            named = [one for one in properties.get("dataLayers", []) if one.get("name") == folder.parent.name]
            return cls(edges, _box(named[0]["boundingBox"], mag, path) if named else None)


def _box(given: dict[str, Any], mag: Index, path: Path) -> tuple[Index, Index]:
    low, size = [int(n) for n in given["topLeft"]], [int(given[name]) for name in ("width", "height", "depth")]
    if min(low) < 0 or min(size) < 1:
        raise SourceError(f"{path}: bounding box {given} is not positive; correct it")
    if max(a + n for a, n in zip(low, size, strict=True)) > LARGEST:
        raise SourceError(f"{path}: a bounding box of over {LARGEST} voxels along an axis, the most that wkw addresses")
    begin = tuple(a // m for a, m in zip(low, mag, strict=True))
    stop = tuple(-(-(a + n) // m) for a, n, m in zip(low, size, mag, strict=True))
    return begin, tuple(b - a for a, b in zip(begin, stop, strict=True))


def _mag(name: str) -> Index:
    numbers = tuple(int(n) for n in name.split("-")) if MAG.fullmatch(name) else (1,)
    return numbers if len(numbers) == 3 else numbers * 3


def _cube_indices(folder: Path) -> Iterator[Index]:
    """Yield the index (x, y, z) of each cube file."""
    for path in folder.glob("z*/y*/x*.wkw"):
        if (match := CUBE.fullmatch("/".join(path.parts[-3:]))) is not None:
            yield int(match[3]), int(match[2]), int(match[1])


def _cubes_box(folder: Path, cube: int) -> tuple[Index, Index]:
    """Return the box from 0 to the last cube file."""
    indices = list(_cube_indices(folder))
    if not indices:
        raise SourceError(f"{folder}: holds {HEADER}, but no z0/y0/x0.wkw; copy it again")
    return (0, 0, 0), tuple((max(column) + 1) * cube for column in zip(*indices, strict=True))


def _magnification_folder(folder: Path, inner: str | None, address: str) -> Path:
    """Return the folder with header.wkw: the one that is named, else the finest of the only layer."""
    base = folder / inner.strip("/") if inner else folder
    if not base.resolve().is_relative_to(folder.resolve()):
        raise SourceError(f"{address}: {inner} lies outside of {folder}; write a path inside it")
    found = sorted(path.parent for pattern in ("", "*/", "*/*/") for path in base.glob(f"{pattern}{HEADER}"))
    layers = {path.parent for path in found}
    if len(layers) == 1:
        return min(found, key=lambda path: (prod(_mag(path.name)), path.name))
    listed = ", ".join(f":/{path.relative_to(folder)}" for path in found)
    if listed:
        raise SourceError(f"{address}: which layer? it holds {listed}; write one of them behind the folder")
    other = _other_format(base)
    advice = f"{other}; write the path of that folder as `path`" if other else "write dataset:/color/1"
    raise SourceError(f"{address}: holds no {HEADER}; {advice}")


def _other_format(base: Path) -> str | None:
    """Return where a dataset holds Zarr, which newer WEBKNOSSOS writes."""
    names = ("zarr.json", ".zarray")
    paths = [p for name in names for pattern in ("", "*/", "*/*/") for p in base.glob(f"{pattern}{name}")]
    return f"{paths[0].parent} is Zarr" if paths else None


def is_wkw(folder: Path) -> bool:
    """Return whether a folder holds header.wkw, or is a dataset of WEBKNOSSOS."""
    with suppress(OSError):
        return any((folder / name).is_file() for name in (HEADER, PROPERTIES)) or any(folder.glob(f"*/{HEADER}"))
    return False


FORMAT = Format(
    name="WEBKNOSSOS wkw",
    suffixes=(),
    open=lambda given, path, inner: WkwSource(given, Path(path), inner),
    recognises=lambda path: path.is_dir() and is_wkw(path),
    has_inner=True,
    package="wkw",
    axes="the format: x is the fastest",
    dtypes="integers of 8 to 64 bits, float32; raw or LZ4",
    voxel_size=f"scale of {PROPERTIES}",
    writers="wkw",
)
