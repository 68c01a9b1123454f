"""Read the cubes of KNOSSOS: raw files of 128 voxels per edge, x the fastest, in a folder per x, y and z.

```
dataset/                        or the folder mag1 itself
  knossos.conf                  experiment name, boundary, scale in nm
  mag1/
    x0000/y0002/z0001/name_mag1_x0000_y0002_z0001.raw      voxels x 0:128, y 256:384, z 128:256
```
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path

import numpy as np

from unet.config.source import SourceConfig
from unet.geometry.box import Box, Index
from unet.volumes.readers.axes import axis_order
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.formats import Format
from unet.volumes.readers.source import ArraySource, MissingChunks, Nm
from unet.volumes.voxel_size import stated_voxel_size

EDGE = 128
"""Edge of a cube in voxels."""
CONF = "knossos.conf"
CUBE = re.compile(r"(.*)_x(\d{4,})_y(\d{4,})_z(\d{4,})\.raw")
FOLDER = re.compile(r"([xyz])(\d{4,})")
SETTING = re.compile(r'^\s*(experiment name|boundary|scale|magnification)\s+(?:([xyz])\s+)?"?([^";]+)"?;?\s*$')
DTYPES = {EDGE**3: "u1", 2 * EDGE**3: "<u2"}
"""Type of the voxels by the bytes of a cube. KNOSSOS has 8 bits; 16 bits are written by some converters."""


class KnossosSource(ArraySource):
    """The cubes of one magnification of a KNOSSOS dataset. A cube that is not there is counted, and reads as 0."""

    format_name = "KNOSSOS"

    def __init__(self, given: SourceConfig, folder: Path, inner: str | None) -> None:
        with read_errors(folder, "KNOSSOS"):
            self._cubes, conf = _cubes_folder(folder, inner), _conf(folder)
            indices = _cube_indices(self._cubes)
            first = next(indices, None)
            if first is None:
                raise SourceError(
                    f"{given.path}: holds no cube *_x0000_y0000_z0000.raw of KNOSSOS in {self._cubes}; KNOSSOS's "
                    "compressed cubes (png, jpg, seg.sz.zip) are not read: export raw cubes"
                )
            self._prefix, dtype = first[0], _dtype(first[2])
            stored = _extent(conf, self._cubes, first[1], indices)
        order = axis_order(stored, ("x", "y", "z"), given.path, "the order of KNOSSOS", given.axes)
        scale = [float(conf.get(("scale", axis), "nan")) for axis in "xyz"]
        super().__init__(
            given.path,
            [folder, *(path for path in _conf_files(folder) if path.is_file())],
            order,
            dtype,
            voxel_size_nm=stated_voxel_size(_by_mag(order.by_axis(scale), self._cubes), given.path),
            voxel_size_from=f"scale of {CONF}",
            where=folder,
        )
        self._disk_dtype = dtype

    def files_of(self, box: Box) -> list[Path]:
        """Return knossos.conf and the cubes that a box touches."""
        cubes = (self._path(index) for index in self._touched(self.order.selection(box)))
        return [*super().files_of(box), *(path for path in cubes if path.is_file())]

    def missing_chunks(self, box: Box) -> list[MissingChunks]:
        """Count the cubes that a box touches and that are not there."""
        touched = list(self._touched(self.order.selection(box)))
        missing = sum(1 for index in touched if not self._path(index).is_file())
        return [MissingChunks(self.address, missing, len(touched), 0, "cubes")]

    def check(self, box: Box) -> None:
        """Check the bytes of the cubes that a box touches."""
        for index in self._touched(self.order.selection(box)):
            with suppress(FileNotFoundError):
                self._checked(self._path(index))

    def _checked(self, path: Path) -> Path:
        size, expected = path.stat().st_size, self._disk_dtype.itemsize * EDGE**3
        if size != expected:
            raise SourceError(
                f"{path}: {size} bytes, but a cube of {EDGE} x {EDGE} x {EDGE} {self._disk_dtype.name} has {expected}; "
                "copy or export it again"
            )
        return path

    def _path(self, index: Index) -> Path:
        x, y, z = (f"{axis}{i:04d}" for axis, i in zip("xyz", index, strict=True))
        return self._cubes / x / y / z / f"{self._prefix}_{x}_{y}_{z}.raw"

    def _touched(self, selection: tuple[slice, ...]) -> Iterator[Index]:
        x, y, z = (range(s.start // EDGE, -(-s.stop // EDGE)) for s in selection)
        return product(x, y, z)

    def _read_stored(self, selection: tuple[slice, ...]) -> np.ndarray:
        out = np.zeros(tuple(s.stop - s.start for s in selection), self._disk_dtype, order="F")
        for index in self._touched(selection):
            low = [max(s.start, i * EDGE) for s, i in zip(selection, index, strict=True)]
            high = [min(s.stop, (i + 1) * EDGE) for s, i in zip(selection, index, strict=True)]
            inside = tuple(slice(a - i * EDGE, b - i * EDGE) for a, b, i in zip(low, high, index, strict=True))
            into = tuple(slice(a - s.start, b - s.start) for a, b, s in zip(low, high, selection, strict=True))
            with suppress(FileNotFoundError):
                path = self._checked(self._path(index))
                out[into] = np.memmap(path, self._disk_dtype, "r", 0, (EDGE,) * 3, "F")[inside]
        return out


def is_knossos(folder: Path) -> bool:
    """Return whether a folder has knossos.conf, or folders of cubes in itself or in mag1."""
    if not folder.is_dir():
        return False
    return (folder / CONF).is_file() or any(next(_cube_indices(one), None) for one in (folder, folder / "mag1"))


def _cubes_folder(folder: Path, inner: str | None) -> Path:
    """Return the folder of a magnification: the one that is named, the folder itself, or its finest."""
    if inner is not None:
        named = folder / inner.strip("/")
        if not named.is_dir() or not named.resolve().is_relative_to(folder.resolve()):
            raise SourceError(f"{folder}: there is no folder {inner} in it; write {folder.name}:/mag1")
        return named
    mags = sorted((int(path.name[3:]), path) for path in folder.glob("mag*") if path.name[3:].isdecimal())
    return mags[0][1] if mags else folder


def _cube_indices(cubes: Path) -> Iterator[tuple[str, Index, Path]]:
    """Yield the name before the numbers, the numbers (x, y, z), and the path of each cube."""
    for x in _numbered(cubes, "x"):
        for y in _numbered(x, "y"):
            for z in _numbered(y, "z"):
                for path in sorted(z.glob("*.raw")):
                    if (match := CUBE.fullmatch(path.name)) is not None:
                        yield match[1], (int(match[2]), int(match[3]), int(match[4])), path


def _numbered(folder: Path, axis: str) -> list[Path]:
    with suppress(OSError):
        matches = ((path, FOLDER.fullmatch(path.name)) for path in sorted(folder.iterdir()))
        return [path for path, match in matches if match is not None and match[1] == axis]
    return []


def _extent(
    conf: dict[tuple[str, str], str], cubes: Path, first: Index, rest: Iterator[tuple[str, Index, Path]]
) -> Index:
    """Return the lengths (x, y, z) in voxels: boundary of knossos.conf, else up to the last cube."""
    boundary = [conf.get(("boundary", axis)) for axis in "xyz"]
    if all(boundary):
        mag = _magnification(cubes)
        lengths = tuple(-(-int(float(text)) // mag) for text in boundary if text)
        if min(lengths) < 1:
            raise SourceError(f"{cubes}: {CONF} says boundary {lengths}, which has to be positive; correct it")
        return lengths
    last = list(first)
    for _, index, _ in rest:
        last = [max(one, other) for one, other in zip(last, index, strict=True)]
    return tuple((i + 1) * EDGE for i in last)


def _magnification(cubes: Path) -> int:
    match = re.search(r"mag(\d+)$", cubes.name)
    return max(1, int(match[1])) if match else 1


def _by_mag(scale: Nm | None, cubes: Path) -> Nm | None:
    return None if scale is None else tuple(edge * _magnification(cubes) for edge in scale)


def _dtype(path: Path) -> np.dtype:
    size = path.stat().st_size
    if size not in DTYPES:
        raise SourceError(
            f"{path}: {size} bytes, but a cube of {EDGE} x {EDGE} x {EDGE} voxels has {EDGE**3} (uint8) or "
            f"{2 * EDGE**3} (uint16); copy or export it again"
        )
    return np.dtype(DTYPES[size])


def _conf_files(folder: Path) -> list[Path]:
    return [folder / CONF, folder / "mag1" / CONF, folder.parent / CONF]


def _conf(folder: Path) -> dict[tuple[str, str], str]:
    """Return the settings of knossos.conf by name and axis."""
    path = next((path for path in _conf_files(folder) if path.is_file()), None)
    lines = path.read_text(errors="replace").splitlines() if path else []
    matches = (SETTING.match(line) for line in lines)
    return {(match[1], match[2] or ""): match[3] for match in matches if match is not None}


FORMAT = Format(
    name="KNOSSOS",
    suffixes=(),
    open=lambda given, path, inner: KnossosSource(given, Path(path), inner),
    recognises=is_knossos,
    has_inner=True,
    axes="the format: x is the fastest",
    dtypes="uint8, uint16",
    voxel_size=f"scale of {CONF}",
    writers="cubes as the format's page says",
)
