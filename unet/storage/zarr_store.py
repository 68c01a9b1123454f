"""Volumes on disk: OME-Zarr 0.5 images with a pyramid, in sharded Zarr v3. The only module that knows Zarr.

One block is one shard file on every level of the pyramid, so whoever owns a block writes whole files (objects, where a
store lies behind an address: `unet.storage.backends`):

```
level 0: block (16, 1024, 1024)      level 1: the same block is (16, 512, 512)      level 2: (16, 256, 256)
+-------+-------+                    +---+---+                                      +-+-+
| file  | file  |  2x2 mean (grey    |   |   |                                      | | |
|  0/0  |  0/1  |  values) or mode   +---+---+                                      +-+-+
+-------+-------+  (labels)
```
"""

import hashlib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import cached_property
from math import gcd
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zarr
from numcodecs import Zstd
from zarr.abc.store import Store
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore, ObjectStore

from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid
from unet.geometry.pyramid import downsample
from unet.storage.backends import Backend, LocalFolder, backend_of
from unet.storage.chunk_files import ChunkFiles
from unet.storage.locks import lock_exclusive, lock_shared, locked
from unet.storage.ngff import ImageSpec, coordinates_nm, multiscales_of, ngff_metadata
from unet.storage.shard_codec import BlockFormat

ZSTD_LEVEL = 1
"""Higher levels make label volumes no smaller, and they take longer for images."""
SPEC_KEY = "unet-em"
ENCODING = f"zstd {ZSTD_LEVEL}, crc32c"
"""Of a chunk, told beside the specification: a store with another one, or without, is of another version."""


class StoreError(RuntimeError):
    """A store is not there, not whole, or not what it should be."""


def create_image(where: Path | str, spec: ImageSpec, beside: Path | None = None) -> "Image":
    """Create an empty image, or open the one that is there with exactly this specification.

    A store of another specification (shape, type, chunks ...) is stale and replaced, once no other process writes it.
    Jobs of one run that arrive at once agree on the specification and are serialised by a lock, so the first creates
    and the others open. The specification is written last: what a kill leaves is no image.

    Parameters
    ----------
    where
        Folder, or address.
    beside
        Path beside which the locks lie; by default the folder itself.
    """
    backend = backend_of(where)
    beside = beside or Path(where)
    writers = beside.with_name(f".{beside.name}.writers")
    with _lock(beside):
        if not _has_spec(where, spec):
            lock_exclusive(writers)
            backend.clear()
            with backend.translate_errors():
                _write_metadata(_zarr_store(backend), spec)
        lock_shared(writers)
    return open_image(where, beside)


def open_image(where: Path | str, beside: Path | None = None) -> "Image":
    """Open an image made by `create_image`, with the same arguments.

    Raises
    ------
    StoreError
        If there is none.
    """
    backend = backend_of(where)
    try:
        with backend.translate_errors():
            group = zarr.open_group(_zarr_store(backend, read_only=True), mode="r", zarr_format=3)
        values: Any = group.attrs[SPEC_KEY]
        fields: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in values.items()}
        if (encoding := fields.pop("encoding", "by another version")) != ENCODING:
            raise StoreError(f"{backend}: chunks are encoded {encoding}, not {ENCODING}; rerun the rule that makes it")
        return Image(beside or Path(where), backend, ImageSpec(**fields), group)
    except (FileNotFoundError, KeyError, ValueError, TypeError) as error:  # also what zarr meets in broken metadata
        raise StoreError(
            f"{backend}: no image store of this workflow ({error}); rerun the rule that makes it"
        ) from error


class Image:
    """An open image store: reads any box, writes whole blocks.

    Attributes
    ----------
    path : Path
        Beside which its locks lie; its files do so too unless they are objects.
    backend : Backend
        Where its files lie.
    """

    def __init__(self, path: Path, backend: Backend, spec: ImageSpec, group: zarr.Group) -> None:
        self.path, self.backend, self.spec = path, backend, spec
        arrays = [_array(group, str(level)) for level in range(len(spec.factors))]
        blocks: list[Index] = [array.shards or array.chunks for array in arrays]
        self._grids = [Grid(array.shape, block) for array, block in zip(arrays, blocks, strict=True)]
        codec, dtype = Zstd(level=ZSTD_LEVEL), self.dtype
        self._formats = [BlockFormat(b, array.chunks, dtype, codec) for array, b in zip(arrays, blocks, strict=True)]

    @property
    def name(self) -> str:
        """In the folder of the volume, e.g. `raw.zarr`."""
        return self.path.name

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
            raise StoreError(f"{self.backend}: box {box} exceeds the volume {grid.shape[-3:]}")
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
        return read_mirrored(self, box)

    def write_block(self, box: Box, values: np.ndarray) -> str:
        """Write one whole block on every level, and return its digest."""
        self._require_whole_block(box, values)
        files = []
        for level, (factor, key) in enumerate(zip(self.spec.factors, self._keys(box), strict=True)):
            if level:
                step = tuple(a // b for a, b in zip(factor, self.spec.factors[level - 1], strict=True))
                values = downsample(values, step, self.spec.kind)
            files.append(self._formats[level].encode(values))
            self.backend.write(key, files[-1])
        return _digest(files)

    def digest(self, box: Box) -> str | None:
        """Fingerprint of a block's files on all levels; None where one of them is not there."""
        files = [self.backend.read(key) for key in self._keys(box)]
        return None if None in files else _digest(content for content in files if content is not None)

    def size(self, box: Box) -> int | None:
        """Bytes of a block's files on all levels; None where one of them is not there."""
        return _sum(self.backend.size(key) for key in self._keys(box))

    def sizes(self) -> dict[Box, int | None]:
        """`size` of every block, from one listing."""
        listed = self.backend.sizes()
        return {box: _sum(listed.get(key) for key in self._keys(box)) for box in self.grid.boxes()}

    def _of_array(self, box: Box) -> Box:
        """A box in the axes of the arrays: with all channels, where there are any."""
        return Box((0, *box.start), (len(self.spec.channels), *box.stop)) if self.spec.channels else box

    def _keys(self, box: Box) -> list[str]:
        """The block's file on each level."""
        index = tuple(lo // b for lo, b in zip(box.start, self.spec.block, strict=True))
        return [self._key(index, level) for level in range(len(self._grids))]

    def _key(self, index: Index, level: int) -> str:
        return "/".join([str(level), "c", *(["0"] if self.spec.channels else []), *map(str, index)])

    def _read_file(self, index: Index, level: int, window: Box, into: np.ndarray) -> None:
        """A part of a block's file; a missing one is lost: written blocks have their files, also where all is 0."""
        box, again = self.grid.box(index[-3:]), "remove the receipts of the rule that writes this store, and run again"
        try:
            with self.backend.open(self._key(index[-3:], level)) as file:
                self._formats[level].decode(file, window, into)
        except FileNotFoundError:
            raise StoreError(f"{self.backend}: block {box} is missing on level {level}; {again}") from None
        except (RuntimeError, ValueError) as error:  # the checksums
            raise StoreError(
                f"{self.backend}: the file of block {box} on level {level} is damaged ({error}); {again}"
            ) from error

    def _require_whole_block(self, box: Box, values: np.ndarray) -> None:
        index = tuple(lo // b for lo, b in zip(box.start, self.spec.block, strict=True))
        if self.grid.box(index) != box:
            raise StoreError(f"{self.backend}: box {box} is not a whole block; the nearest is {self.grid.box(index)}")
        if values.shape[-3:] != box.shape or values.dtype != self.dtype:
            raise StoreError(
                f"{self.backend}: block {box} needs {box.shape} of {self.dtype}, got {values.shape} of {values.dtype}"
            )


class _Readable(Protocol):
    """A volume of which boxes can be read."""

    @property
    def shape(self) -> Index:
        """`(z, y, x)` in voxels."""

    def read(self, box: Box) -> np.ndarray:
        """The voxels of a box inside the volume; z, y and x are the last axes."""


def read_mirrored(volume: _Readable, box: Box) -> np.ndarray:
    """Voxels of a box that may exceed the volume, which is mirrored there without repeating the edge voxel."""
    indices, window = _indices_of_axes(box, volume.shape), mirrored_read_box(box, volume.shape)
    values = volume.read(window)
    for axis, (index, lo) in enumerate(zip(indices, window.start, strict=True)):
        if index.size != values.shape[axis - 3] or index[0] != lo or index[-1] != lo + index.size - 1:
            values = np.take(values, index - lo, axis=axis - 3)
    return values


def mirrored_read_box(box: Box, shape: Index) -> Box:
    """The voxels of a volume that a box which may exceed it shows.

    >>> print(mirrored_read_box(Box((0, -2, 3), (1, 1, 9)), (1, 9, 6)))
    0:1,0:3,2:6
    """
    indices = _indices_of_axes(box, shape)
    return Box(tuple(int(i.min()) for i in indices), tuple(int(i.max()) + 1 for i in indices))


def _indices_of_axes(box: Box, shape: Index) -> list[np.ndarray]:
    """Of each axis."""
    return [mirrored_indices(lo, hi, n) for lo, hi, n in zip(box.start, box.stop, shape, strict=True)]


def mirrored_indices(start: int, stop: int, size: int) -> np.ndarray:
    """Indices of `start .. stop - 1` reflected into `0 .. size - 1`, the edge not repeated (numpy's 'reflect').

    >>> mirrored_indices(-2, 6, 4).tolist(), mirrored_indices(-1, 2, 1).tolist()
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


def _lock(path: Path) -> AbstractContextManager[None]:
    """One job at a time looks whether a store is there, and creates it."""
    return locked(path.with_name(f".{path.name}.lock"))


def _has_spec(where: Path | str, spec: ImageSpec) -> bool:
    try:
        return open_image(where).spec == spec
    except StoreError:
        return False


def _zarr_store(backend: Backend, read_only: bool = False) -> Store:
    if isinstance(backend, LocalFolder):
        return LocalStore(backend.path, read_only=read_only)
    return ObjectStore(backend.store, read_only=read_only)


def _sum(sizes: Iterable[int | None]) -> int | None:
    """None where one is None."""
    total = 0
    for size in sizes:
        if size is None:
            return None
        total += size
    return total


def _array(group: zarr.Group, name: str) -> zarr.Array:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise StoreError(f"{group.store_path}/{name}: expected an array")
    return array


def _write_metadata(store: Store, spec: ImageSpec) -> None:
    group = zarr.create_group(store, zarr_format=3)
    leading = (len(spec.channels),) if spec.channels else ()
    for level, factor in enumerate(spec.factors):
        block = tuple(b // f for b, f in zip(spec.block, factor, strict=True))
        group.create_array(
            str(level),
            shape=leading + tuple(-(-n // f) for n, f in zip(spec.shape, factor, strict=True)),
            shards=leading + block,
            chunks=(1,) * len(leading) + tuple(gcd(c, b) for c, b in zip(spec.chunk, block, strict=True)),
            dtype=spec.dtype,
            compressors=[ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()],
            fill_value=0,
            dimension_names=spec.axes,
        )
    group.attrs.update({"ome": ngff_metadata(spec), SPEC_KEY: {**asdict(spec), "encoding": ENCODING}})


@dataclass(frozen=True)
class ForeignArray:
    """A Zarr array that somebody else wrote, with what its metadata say of axes, scale and translation in nm."""

    array: zarr.Array
    backend: Backend
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

    @property
    def path(self) -> str:
        """Return where it lies in the store, empty for the store's root."""
        return str(self.array.path)

    @property
    def fill_value(self) -> float:
        """Return what a chunk reads as that is not stored."""
        return np.asarray(self.array.fill_value or 0).item()

    @property
    def is_sharded(self) -> bool:
        """Return whether its chunks lie in shards."""
        return self.array.shards is not None

    @cached_property
    def chunk_files(self) -> ChunkFiles:
        """Return the files, or objects, that its voxels lie in: of a sharded array its shards."""
        encode = self.array.metadata.encode_chunk_key
        return ChunkFiles(self.backend, self.array.path, self.shape, self.array.shards or self.array.chunks, encode)

    def read(self, slices: tuple[slice, ...]) -> np.ndarray:
        """Voxels of a selection."""
        with self.backend.translate_errors():
            return np.asarray(self.array[slices])


def open_foreign(where: str, inner: str | None = None) -> ForeignArray:
    """Open a Zarr v2 or v3 array, or the finest level of an OME-Zarr 0.4 or 0.5 image, in a folder or at an address.

    Raises
    ------
    StoreError
        If there is no such array or image; lists the arrays that are there.
    """
    backend = backend_of(where)
    try:
        with backend.translate_errors():
            node = zarr.open(_zarr_store(backend, read_only=True), mode="r", path=(inner or "").strip("/"))
    except (FileNotFoundError, KeyError) as error:
        raise StoreError(f"{where}: no Zarr array or group {inner or '/'} ({error})") from None
    if isinstance(node, zarr.Array):
        return ForeignArray(node, backend)
    multiscales = multiscales_of(dict(node.attrs))
    if not multiscales:
        found = list_foreign(where)
        raise StoreError(f"{where}: {inner or 'its root'} is a group without OME-Zarr metadata; arrays: {found}")
    axes = [axis if isinstance(axis, str) else axis["name"] for axis in multiscales.get("axes", [])]
    finest = multiscales["datasets"][0]
    with backend.translate_errors():
        array = _array(node, finest["path"])
    scale, translation = coordinates_nm(multiscales, finest, len(array.shape))
    return ForeignArray(array, backend, axes or None, scale, translation)


def list_foreign(where: str) -> list[str]:
    """Paths of the arrays in a Zarr store, with their shapes, for error messages."""
    backend = backend_of(where)
    try:
        with backend.translate_errors():
            node = zarr.open(_zarr_store(backend, read_only=True), mode="r")
            if isinstance(node, zarr.Array):
                return [f"/ {tuple(node.shape)}"]
            members = node.members(max_depth=None)
    except (FileNotFoundError, KeyError, ValueError):
        return []
    return [f"/{name} {tuple(item.shape)}" for name, item in members if isinstance(item, zarr.Array)]
