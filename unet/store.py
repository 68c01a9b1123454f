"""Volumes on disk: OME-Zarr 0.5 images with a pyramid, in sharded Zarr v3. The only module that knows Zarr.

One block is one shard file on every level of the pyramid, so whoever owns a block writes whole files:

```
level 0: block (16, 1024, 1024)      level 1: the same block is (16, 512, 512)      level 2: (16, 256, 256)
+-------+-------+                    +---+---+                                      +-+-+
| file  | file  |  2x2 mean (grey    |   |   |                                      | | |
|  0/0  |  0/1  |  values) or mode   +---+---+                                      +-+-+
+-------+-------+  (labels)
```
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import gcd
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numcodecs import Zstd
from zarr.codecs import ZstdCodec

from unet.block_file import BlockFormat, write_whole
from unet.geometry import Box, Grid, Index
from unet.locks import share, take_over
from unet.pyramid import downsample, pyramid_factors

COMPRESSION: dict[str, Any] = {"level": 1, "checksum": True}
"""Of zstd. Higher levels make label volumes no smaller, and they take longer for images."""
NGFF_VERSION = "0.5"
SPEC_KEY = "unet-em"
NM_PER_UNIT = {
    "angstrom": 0.1,
    "nanometer": 1.0,
    "nm": 1.0,
    "micrometer": 1e3,
    "um": 1e3,
    "millimeter": 1e6,
    "mm": 1e6,
    "meter": 1e9,
}


class StoreError(RuntimeError):
    """A store is not there, not whole, or not what it should be."""


@dataclass(frozen=True)
class ImageSpec:
    """What an image is, beside its voxels.

    `shape`, `chunk` and `block` are `(z, y, x)` in voxels; `voxel_nm` and `offset_nm` are `(z, y, x)` in nm. With
    `channels` the arrays are `(c, z, y, x)`, all channels of a block in one file.
    """

    name: str
    shape: Index
    dtype: str
    chunk: Index
    block: Index
    voxel_nm: tuple[float, ...]
    offset_nm: tuple[float, ...] = (0.0, 0.0, 0.0)
    kind: Literal["image", "label"] = "image"
    channels: tuple[str, ...] = ()
    pyramid: bool = True

    @property
    def grid(self) -> Grid:
        """The blocks of the volume."""
        return Grid(self.shape, self.block)

    @property
    def factors(self) -> list[Index]:
        """Down-sampling of every level against level 0; the first is (1, 1, 1)."""
        if not self.pyramid:
            return [(1, 1, 1)]
        return pyramid_factors(self.shape, self.block, self.voxel_nm)


def create_image(path: Path, spec: ImageSpec) -> "Image":
    """Create an empty image, or open the one that is there with exactly this specification.

    A store of another specification (shape, type, chunks ...) is stale and replaced, once no other process writes it.
    Jobs of one run that arrive at once agree on the specification and are serialised by a lock, so the first creates
    and the others open.
    """
    writers = path.with_name(f".{path.name}.writers")
    with _lock(path):
        if not _has_spec(path, spec):
            take_over(writers)
            fresh = path.with_name(f".{path.name}.new")
            shutil.rmtree(fresh, ignore_errors=True)
            _write_metadata(fresh, spec)
            shutil.rmtree(path, ignore_errors=True)
            os.replace(fresh, path)
        share(writers)
    return open_image(path)


def open_image(path: Path) -> "Image":
    """Open an image made by `create_image`.

    Raises
    ------
    StoreError
        If there is none.
    """
    try:
        group = zarr.open_group(path, mode="r+")
        values: Any = group.attrs[SPEC_KEY]
    except (FileNotFoundError, KeyError) as error:
        raise StoreError(f"{path}: no image store of this workflow ({error}); rerun the rule that makes it") from None
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return Image(path, ImageSpec(**fields), group)


class Image:
    """An open image store: reads any box, writes whole blocks."""

    def __init__(self, path: Path, spec: ImageSpec, group: zarr.Group) -> None:
        self.path, self.spec = path, spec
        arrays = [_array(group, str(level)) for level in range(len(spec.factors))]
        blocks: list[Index] = [array.shards or array.chunks for array in arrays]
        self._grids = [Grid(array.shape, block) for array, block in zip(arrays, blocks, strict=True)]
        codec, dtype = Zstd(**COMPRESSION), self.dtype
        self._formats = [BlockFormat(b, array.chunks, dtype, codec) for array, b in zip(arrays, blocks, strict=True)]

    @property
    def shape(self) -> Index:
        """`(z, y, x)` in voxels."""
        return self.spec.shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the voxels."""
        return np.dtype(self.spec.dtype)

    @property
    def grid(self) -> Grid:
        """The blocks of the volume."""
        return self.spec.grid

    def read(self, box: Box, level: int = 0) -> np.ndarray:
        """Voxels of a box inside the volume: `(z, y, x)`, or `(c, z, y, x)` where there are channels.

        Raises
        ------
        StoreError
            If the box exceeds the volume, or a block in it was never written or is lost.
        """
        grid = self._grids[level]
        if box.clipped(grid.shape[-3:]) != box:
            raise StoreError(f"{self.path}: box {box} exceeds the volume {grid.shape[-3:]}")
        wanted = self._of_array(box)
        values = np.empty(wanted.shape, self.dtype)
        for index in grid.touched_indices(wanted) if box.size else ():
            block = grid.box(index)
            part = block.intersected(wanted)
            into = values[part.relative_to(wanted.start).slices]
            self._read_file(index, level, part.relative_to(block.start), into)
        return values

    def read_mirrored(self, box: Box) -> np.ndarray:
        """Voxels of a box that may exceed the volume, which is mirrored there without repeating the edge voxel."""
        indices = [mirrored(lo, hi, n) for lo, hi, n in zip(box.start, box.stop, self.shape, strict=True)]
        window = Box(tuple(int(i.min()) for i in indices), tuple(int(i.max()) + 1 for i in indices))
        values = self.read(window)
        for axis, (index, lo) in enumerate(zip(indices, window.start, strict=True)):
            if index.size != values.shape[axis - 3] or index[0] != lo or index[-1] != lo + index.size - 1:
                values = np.take(values, index - lo, axis=axis - 3)
        return values

    def write_block(self, box: Box, values: np.ndarray) -> str:
        """Write one whole block on every level, and return its digest."""
        self._require_whole_block(box, values)
        files = []
        for level, (factor, file) in enumerate(zip(self.spec.factors, self._keys(box), strict=True)):
            if level:
                step = tuple(a // b for a, b in zip(factor, self.spec.factors[level - 1], strict=True))
                values = downsample(values, step, self.spec.kind)
            files.append(self._formats[level].encode(values))
            write_whole(file, files[-1])
        return _digest(files)

    def digest(self, box: Box) -> str | None:
        """Fingerprint of a block's files on all levels; None where one of them is not there."""
        try:
            return _digest(file.read_bytes() for file in self._keys(box))
        except FileNotFoundError:
            return None

    def size(self, box: Box) -> int | None:
        """Bytes of a block's files on all levels; None where one of them is not there."""
        try:
            return sum(key.stat().st_size for key in self._keys(box))
        except FileNotFoundError:
            return None

    def _of_array(self, box: Box) -> Box:
        """A box in the axes of the arrays: with all channels, where there are any."""
        return Box((0, *box.start), (len(self.spec.channels), *box.stop)) if self.spec.channels else box

    def _keys(self, box: Box) -> list[Path]:
        """The block's file on each level."""
        index = tuple(lo // b for lo, b in zip(box.start, self.spec.block, strict=True))
        return [self._key(index, level) for level in range(len(self._grids))]

    def _key(self, index: Index, level: int) -> Path:
        parts = ["c", *(["0"] if self.spec.channels else []), *map(str, index)]
        return self.path.joinpath(str(level), *parts)

    def _read_file(self, index: Index, level: int, window: Box, into: np.ndarray) -> None:
        """A part of a block's file; a missing one is lost: written blocks have their files, also where all is 0."""
        box, again = self.grid.box(index[-3:]), "remove the receipts of the rule that writes this store, and run again"
        try:
            with self._key(index[-3:], level).open("rb") as file:
                self._formats[level].decode(file, window, into)
        except FileNotFoundError:
            raise StoreError(f"{self.path}: block {box} is missing on level {level}; {again}") from None
        except (RuntimeError, ValueError) as error:  # the checksums
            raise StoreError(
                f"{self.path}: the file of block {box} on level {level} is damaged ({error}); {again}"
            ) from error

    def _require_whole_block(self, box: Box, values: np.ndarray) -> None:
        index = tuple(lo // b for lo, b in zip(box.start, self.spec.block, strict=True))
        if self.grid.box(index) != box:
            raise StoreError(f"{self.path}: box {box} is not a whole block; the nearest is {self.grid.box(index)}")
        if values.shape[-3:] != box.shape or values.dtype != self.dtype:
            raise StoreError(
                f"{self.path}: block {box} needs {box.shape} of {self.dtype}, got {values.shape} of {values.dtype}"
            )


def mirrored(start: int, stop: int, size: int) -> np.ndarray:
    """Indices of `start .. stop - 1` reflected into `0 .. size - 1`, the edge not repeated (numpy's 'reflect').

    >>> mirrored(-2, 6, 4).tolist(), mirrored(-1, 2, 1).tolist()
    ([2, 1, 0, 1, 2, 3, 2, 1], [0, 0, 0])
    """
    if size == 1:
        return np.zeros(stop - start, dtype=np.intp)
    period = 2 * (size - 1)
    phase = np.arange(start, stop) % period
    return np.minimum(phase, period - phase)


def _digest(files: Iterable[bytes]) -> str:
    summary = hashlib.blake2b(digest_size=16)
    for content in files:
        summary.update(len(content).to_bytes(8, "little"))
        summary.update(content)
    return summary.hexdigest()


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _has_spec(path: Path, spec: ImageSpec) -> bool:
    try:
        return open_image(path).spec == spec
    except (StoreError, TypeError):
        return False


def _array(group: zarr.Group, name: str) -> zarr.Array:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise StoreError(f"{group.store_path}/{name}: expected an array")
    return array


def _write_metadata(path: Path, spec: ImageSpec) -> None:
    group = zarr.create_group(path, zarr_format=3)
    leading = (len(spec.channels),) if spec.channels else ()
    axes = ["c", "z", "y", "x"] if spec.channels else ["z", "y", "x"]
    for level, factor in enumerate(spec.factors):
        block = tuple(b // f for b, f in zip(spec.block, factor, strict=True))
        group.create_array(
            str(level),
            shape=leading + tuple(-(-n // f) for n, f in zip(spec.shape, factor, strict=True)),
            shards=leading + block,
            chunks=(1,) * len(leading) + tuple(gcd(c, b) for c, b in zip(spec.chunk, block, strict=True)),
            dtype=spec.dtype,
            compressors=ZstdCodec(**COMPRESSION),
            fill_value=0,
            dimension_names=axes,
        )
    group.attrs.update({"ome": _ngff(spec, axes), SPEC_KEY: asdict(spec)})


def _ngff(spec: ImageSpec, axes: list[str]) -> dict[str, Any]:
    """OME-NGFF 0.5 metadata: https://ngff.openmicroscopy.org/0.5/ (multiscales, omero, image-label)."""
    leading = [1.0] * (len(axes) - 3)
    datasets = []
    for level, factor in enumerate(spec.factors):
        scale = [v * f for v, f in zip(spec.voxel_nm, factor, strict=True)]
        # A coarse voxel's centre lies between those that it averages, half a step from the first one's.
        centre = [o + v * (f - 1) / 2 for o, v, f in zip(spec.offset_nm, spec.voxel_nm, factor, strict=True)]
        transforms = [
            {"type": "scale", "scale": leading + scale},
            {"type": "translation", "translation": [0.0] * len(leading) + centre},
        ]
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    metadata: dict[str, Any] = {
        "version": NGFF_VERSION,
        "multiscales": [
            {
                "name": spec.name,
                "type": "mode" if spec.kind == "label" else "mean",
                "axes": [_axis(name) for name in axes],
                "datasets": datasets,
            }
        ],
    }
    if spec.kind == "label":
        metadata["image-label"] = {"source": {"image": "../raw.zarr"}}
    if spec.channels:
        metadata["omero"] = {"channels": [_channel(name, spec.dtype) for name in spec.channels]}
    return metadata


def _axis(name: str) -> dict[str, str]:
    return {"name": "c", "type": "channel"} if name == "c" else {"name": name, "type": "space", "unit": "nanometer"}


def _channel(name: str, dtype: str) -> dict[str, Any]:
    top = 1 if np.dtype(dtype).kind == "f" else int(np.iinfo(dtype).max)
    window = {"min": 0, "max": top, "start": 0, "end": top}
    return {"label": name, "color": "FFFFFF", "active": True, "window": window}


@dataclass(frozen=True)
class ForeignArray:
    """A Zarr array that somebody else wrote, with what its metadata say of axes, scale and translation in nm."""

    array: zarr.Array
    axes: list[str] | None = None
    scale_nm: tuple[float, ...] | None = None
    translation_nm: tuple[float, ...] | None = None

    @property
    def shape(self) -> Index:
        """As stored."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype:
        """As stored."""
        return np.dtype(self.array.dtype)

    def read(self, slices: tuple[slice, ...]) -> np.ndarray:
        """Voxels of a selection."""
        return np.asarray(self.array[slices])


def open_foreign(path: str, inner: str | None = None) -> ForeignArray:
    """Open a Zarr v2 or v3 array, or the finest level of an OME-Zarr 0.4 or 0.5 image.

    Raises
    ------
    StoreError
        If there is no such array or image; lists the arrays that are there.
    """
    try:
        node = zarr.open(path, mode="r", path=inner or "")
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise StoreError(f"{path}: no Zarr array or group {inner or '/'} ({error})") from None
    if isinstance(node, zarr.Array):
        return ForeignArray(node)
    multiscales = _multiscales(dict(node.attrs))
    if not multiscales:
        found = list_foreign(path)
        raise StoreError(f"{path}: {inner or 'its root'} is a group without OME-Zarr metadata; arrays: {found}")
    axes = [axis if isinstance(axis, str) else axis["name"] for axis in multiscales.get("axes", [])]
    finest = multiscales["datasets"][0]
    array = _array(node, finest["path"])
    scale, translation = _coordinates(multiscales, finest, len(array.shape))
    return ForeignArray(array, axes or None, scale, translation)


def list_foreign(path: str) -> list[str]:
    """Paths of the arrays in a Zarr store, with their shapes, for error messages."""
    try:
        node = zarr.open(path, mode="r")
    except (FileNotFoundError, KeyError, ValueError):
        return []
    if isinstance(node, zarr.Array):
        return [f"/ {tuple(node.shape)}"]
    members = node.members(max_depth=None)
    return [f"/{name} {tuple(item.shape)}" for name, item in members if isinstance(item, zarr.Array)]


def _multiscales(attributes: dict[str, Any]) -> dict[str, Any]:
    found = attributes.get("ome", attributes).get("multiscales", [])
    return found[0] if found else {}


def _coordinates(
    multiscales: dict[str, Any], dataset: dict[str, Any], ndim: int
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Scale and translation of a dataset in nm, those of the whole multiscale image applied after its own."""
    scale, translation, known = np.ones(ndim), np.zeros(ndim), False
    for transform in (
        *dataset.get("coordinateTransformations", []),
        *multiscales.get("coordinateTransformations", []),
    ):
        if transform["type"] == "scale":
            factor = np.asarray(transform["scale"], dtype=float)
            scale, translation, known = scale * factor, translation * factor, True
        elif transform["type"] == "translation":
            translation = translation + np.asarray(transform["translation"], dtype=float)
    units = [axis.get("unit") if isinstance(axis, dict) else None for axis in multiscales.get("axes", [])]
    spatial = [a for a in multiscales.get("axes", []) if isinstance(a, dict) and a.get("type") == "space"]
    if not known or not spatial or any(a.get("unit") not in NM_PER_UNIT for a in spatial):
        return None, None
    to_nm = np.asarray([NM_PER_UNIT.get(unit or "", 1.0) for unit in units])
    return _floats(scale * to_nm), _floats(translation * to_nm)


def _floats(values: Sequence[float] | np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
