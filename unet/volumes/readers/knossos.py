"""Read the cubes of KNOSSOS: files of 128 voxels per edge, in a folder per x, y and z.

```
dataset/                        or the folder mag1 itself
  knossos.conf                  experiment name, boundary, scale in nm
  mag1/
    x0000/y0002/z0001/name_mag1_x0000_y0002_z0001.raw      voxels x 0:128, y 256:384, z 128:256
                      name_mag1_x0000_y0002_z0001.seg.sz.zip    ids of the same voxels
```

Grey values are read unless the address says which cubes, as in `dataset:/mag1/*.seg.sz.zip`.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path

import numpy as np

from unet.config.source import SourceConfig
from unet.geometry.box import Index
from unet.volumes.readers.axes import axis_order
from unet.volumes.readers.cube_files import CubeFiles
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.formats import Format
from unet.volumes.readers.knossos_cubes import DTYPES, EDGE, GREY, IDS, decoded_cube, refuse_truncated_cube
from unet.volumes.readers.source import Nm
from unet.volumes.voxel_size import stated_voxel_size

CONF = "knossos.conf"
CUBE = re.compile(r"(.*)_x(\d{4,})_y(\d{4,})_z(\d{4,})(\.(?:raw|jpg|png|seg\.sz|seg\.sz\.zip))")
FOLDER = re.compile(r"([xyz])(\d{4,})")
SETTING = re.compile(r'^\s*(experiment name|boundary|scale|magnification)\s+(?:([xyz])\s+)?"?([^";]+)"?;\s*$')
Settings = dict[tuple[str, str], str]


class KnossosSource(CubeFiles):
    """The cubes of one magnification of a KNOSSOS dataset. A cube that is not there is counted, and reads as 0."""

    format_name = "KNOSSOS"
    edge, counted = EDGE, "cubes"
    parallel_reads = True

    def __init__(self, given: SourceConfig, folder: Path, inner: str | None) -> None:
        with read_errors(folder, "KNOSSOS"):
            self._cubes, self._ending = _chosen_cubes(folder, inner)
            conf, indices = _conf(folder), _cube_indices(self._cubes, self._ending)
            first = next(indices, None)
            if first is None:
                raise SourceError(
                    f"{given.path}: holds no cube *_x0000_y0000_z0000{self._ending} of KNOSSOS in {self._cubes}; "
                    f"cubes end in {', '.join(DTYPES)}: export it again"
                )
            self._prefix = first[0]
            stored = _extent(conf, self._cubes, first[1], indices)
        order = axis_order(stored, ("x", "y", "z"), given.path, "the order of KNOSSOS", given.axes)
        scale = [float(conf.get(("scale", axis), "nan")) for axis in "xyz"]
        super().__init__(
            given.path,
            [folder, *(path for path in _conf_files(folder) if path.is_file())],
            order,
            DTYPES[self._ending],
            voxel_size_nm=stated_voxel_size(_by_mag(order.by_axis(scale), self._cubes), given.path),
            voxel_size_from=f"scale of {CONF}",
            where=folder,
            remarks=_ids_beside(self._cubes, self._ending, folder),
        )
        self.lossy = "JPEG" if self._ending == ".jpg" else None
        if self._ending != ".raw":
            self.decode_in((EDGE, EDGE, EDGE))

    def cube_path(self, index: Index) -> Path:
        """Return the file of a cube."""
        x, y, z = (f"{axis}{i:04d}" for axis, i in zip("xyz", index, strict=True))
        return self._cubes / x / y / z / f"{self._prefix}_{x}_{y}_{z}{self._ending}"

    def indices(self) -> Iterator[Index]:
        """Yield the index of each cube."""
        return (index for _, index in _cube_indices(self._cubes, self._ending))

    def refuse_truncated(self, path: Path) -> None:
        """Raise an error if a cube has not 128 x 128 x 128 voxels, as far as its header says."""
        refuse_truncated_cube(path, self._ending)

    def _read_stored(self, selection: tuple[slice, ...]) -> np.ndarray:
        out = np.zeros(tuple(s.stop - s.start for s in selection), self.dtype, order="F")
        for index in product(*(range(s.start // EDGE, -(-s.stop // EDGE)) for s in selection)):
            low = [max(s.start, i * EDGE) for s, i in zip(selection, index, strict=True)]
            high = [min(s.stop, (i + 1) * EDGE) for s, i in zip(selection, index, strict=True)]
            inside = tuple(slice(a - i * EDGE, b - i * EDGE) for a, b, i in zip(low, high, index, strict=True))
            into = tuple(slice(a - s.start, b - s.start) for a, b, s in zip(low, high, selection, strict=True))
            path = self.cube_path(index)
            if path.is_file():
                out[into] = decoded_cube(path, self._ending)[inside]
        return out


def is_knossos(folder: Path) -> bool:
    """Return whether a folder has knossos.conf, or folders of cubes in itself or in mag1."""
    if not folder.is_dir():
        return False
    return (folder / CONF).is_file() or any(next(_cube_indices(one), None) for one in (folder, folder / "mag1"))


def _chosen_cubes(folder: Path, inner: str | None) -> tuple[Path, str]:
    """Return the folder of a magnification, and the ending of the cubes: those that are named, else of grey values.

    Raises
    ------
    SourceError
        If there is no such folder, or if it holds grey values of several endings and none is named.
    """
    parts = [part for part in (inner or "").split("/") if part]
    ending = parts.pop().removeprefix("*") if parts and parts[-1].startswith("*.") else None
    if ending is not None and ending not in DTYPES:
        raise SourceError(f"{folder}: cubes of KNOSSOS end in {', '.join(DTYPES)}, not in {ending}; correct the path")
    cubes = _cubes_folder(folder, "/".join(parts))
    if ending is not None:
        return cubes, ending
    found = [one for one in DTYPES if next(_cube_indices(cubes, one), None) is not None]
    grey = [one for one in found if one in GREY] or found or [".raw"]
    if len(grey) > 1:
        choices = ", ".join(f"{folder.name}:/{cubes.name}/*{one}" for one in grey)
        raise SourceError(f"{folder}: holds cubes of several kinds; choose one, as in {choices}")
    return cubes, grey[0]


def _ids_beside(cubes: Path, ending: str, folder: Path) -> list[str]:
    """Return a remark where ids lie beside the grey values that are read."""
    ids = next((one for one in IDS if next(_cube_indices(cubes, one), None) is not None), None)
    if ids is None or ending not in GREY:
        return []
    return [f"{folder}: the ids beside its grey values are {folder.name}:/{cubes.name}/*{ids}, as the path of labels"]


def _cubes_folder(folder: Path, inner: str) -> Path:
    """Return the folder of a magnification: the one that is named, the folder itself, or its finest."""
    if inner:
        named = folder / inner
        if not named.is_dir() or not named.resolve().is_relative_to(folder.resolve()):
            raise SourceError(f"{folder}: there is no folder {inner} in it; write {folder.name}:/mag1")
        return named
    mags = sorted((int(path.name[3:]), path) for path in folder.glob("mag*") if path.name[3:].isdecimal())
    return mags[0][1] if mags else folder


def _cube_indices(cubes: Path, ending: str | None = None) -> Iterator[tuple[str, Index]]:
    """Yield the name before the numbers, and the numbers (x, y, z), of each cube with an ending; None for any."""
    for x in _numbered(cubes, "x"):
        for y in _numbered(x, "y"):
            for z in _numbered(y, "z"):
                for path in sorted(z.iterdir()):
                    match = CUBE.fullmatch(path.name)
                    if match is not None and ending in (None, match[5]):
                        yield match[1], (int(match[2]), int(match[3]), int(match[4]))


def _numbered(folder: Path, axis: str) -> list[Path]:
    with suppress(OSError):
        matches = ((path, FOLDER.fullmatch(path.name)) for path in sorted(folder.iterdir()))
        return [path for path, match in matches if match is not None and match[1] == axis]
    return []


def _extent(conf: Settings, cubes: Path, first: Index, rest: Iterator[tuple[str, Index]]) -> Index:
    """Return the lengths (x, y, z) in voxels: boundary of knossos.conf, else up to the last cube."""
    if conf:
        mag = _magnification(cubes)
        return tuple(-(-_boundary(conf[("boundary", axis)], cubes) // mag) for axis in "xyz")
    last = list(first)
    for _, index in rest:
        last = [max(one, other) for one, other in zip(last, index, strict=True)]
    return tuple((i + 1) * EDGE for i in last)


def _magnification(cubes: Path) -> int:
    match = re.search(r"mag(\d+)$", cubes.name)
    return max(1, int(match[1])) if match else 1


def _by_mag(scale: Nm | None, cubes: Path) -> Nm | None:
    return None if scale is None else tuple(edge * _magnification(cubes) for edge in scale)


def _conf_files(folder: Path) -> list[Path]:
    return [folder / CONF, folder / "mag1" / CONF, folder.parent / CONF]


def _boundary(text: str, cubes: Path) -> int:
    length = float(text)
    if not 1 <= length < 1 << 40:
        raise SourceError(f"{cubes}: {CONF} says a boundary of {text} voxels; correct it")
    return int(length)


def _conf(folder: Path) -> Settings:
    """Return the settings of knossos.conf by name and axis; nothing if there is no such file."""
    path = next((path for path in _conf_files(folder) if path.is_file()), None)
    if path is None:
        return {}
    matches = (SETTING.match(line) for line in path.read_text(errors="replace").splitlines())
    found = {(match[1], match[2] or ""): match[3] for match in matches if match is not None}
    for name in ("boundary", "scale"):
        lacking = [axis for axis in "xyz" if (name, axis) not in found]
        if lacking and (name == "boundary" or len(lacking) < 3):
            raise SourceError(
                f"{path}: has no line `{name} {lacking[0]} NUMBER;`, so it may be cut short; complete it, or remove "
                "the file: the volume then reaches to its last cube"
            )
    return found


FORMAT = Format(
    name="KNOSSOS",
    suffixes=(),
    open=lambda given, path, inner: KnossosSource(given, Path(path), inner),
    recognises=is_knossos,
    has_inner=True,
    axes="the format: x is the fastest",
    dtypes="uint8; ids uint64",
    voxel_size=f"scale of {CONF}",
    writers="cubes as the format's page says",
)
