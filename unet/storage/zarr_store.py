"""OME-Zarr 0.5 images with a pyramid, in sharded Zarr v3. Stores of other programs are read by `foreign_zarr`.

One block is one shard file on every level of the pyramid, so the job that owns a block writes whole files. They are
objects if the store is behind an address (`unet.storage.backends`):

```
level 0: block (16, 1024, 1024)      level 1: the same block is (16, 512, 512)      level 2: (16, 256, 256)
+-------+-------+                    +---+---+                                      +-+-+
| file  | file  |  mean (image) or   |   |   |                                      | | |
|  0/0  |  0/1  |  mode (labels)     +---+---+                                      +-+-+
+-------+-------+  of 2 x 2
```
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import Zstd
from zarr.abc.store import Store
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore, ObjectStore

from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid
from unet.geometry.mirroring import read_mirrored
from unet.geometry.pyramid import downsample
from unet.storage.backends import Backend, backend_of
from unet.storage.digests import files_digest
from unet.storage.local_folder import LocalFolder
from unet.storage.locks import lock_exclusive, lock_shared, locked
from unet.storage.ngff import ImageSpec, ngff_metadata
from unet.storage.shard_codec import BlockFormat

ZSTD_LEVEL = 1
"""Compression level; higher levels do not make label volumes smaller, and take longer for images."""
SPEC_KEY = "unet-em"
"""Attribute of a store with its specification."""
ENCODING = f"zstd {ZSTD_LEVEL}, crc32c"
"""Encoding of a chunk, stored with the specification. A store with another one, or none, is of another version."""


class StoreError(RuntimeError):
    """A store is missing, incomplete or damaged, or has another specification than expected."""


def create_image(where: Path | str, spec: ImageSpec, local_path: Path | None = None) -> "Image":
    """Create an empty image, or open the existing one if it has exactly this specification.

    A store with another specification (shape, type, chunks ...) is stale, and is replaced once no other process writes
    it. The jobs of a run have the same specification. A lock serialises them: the first job creates the store, the
    others open it. The specification is written last, so a kill leaves no store that looks complete.

    Parameters
    ----------
    where
        Folder or address of the store.
    spec
        Specification of the image.
    local_path
        Path of the store in the results folder, also if its files are behind an address. The lock files are in the
        same folder. By default it is `where`.
    """
    backend = backend_of(where)
    local_path = local_path or Path(where)
    writers = local_path.with_name(f".{local_path.name}.writers")
    with _lock(local_path):
        if not _has_spec(where, spec):
            lock_exclusive(writers)
            backend.clear()
            with backend.translate_errors():
                _write_metadata(zarr_store_of(backend), spec)
        lock_shared(writers)
    return open_image(where, local_path)


def open_image(where: Path | str, local_path: Path | None = None) -> "Image":
    """Open an image that `create_image` has created, with the same arguments.

    Raises
    ------
    StoreError
        If there is no such image, or it is of another version.
    """
    backend = backend_of(where)
    try:
        with backend.translate_errors():
            group = zarr.open_group(zarr_store_of(backend, read_only=True), mode="r", zarr_format=3)
        values: Any = group.attrs[SPEC_KEY]
        fields: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in values.items()}
        if (encoding := fields.pop("encoding", "by another version")) != ENCODING:
            raise StoreError(f"{backend}: chunks are encoded {encoding}, not {ENCODING}; rerun the rule that makes it")
        return Image(local_path or Path(where), backend, ImageSpec(**fields), group)
    except (FileNotFoundError, KeyError, ValueError, TypeError) as error:  # zarr raises the last three on bad metadata
        raise StoreError(
            f"{backend}: no image store of this workflow ({error}); rerun the rule that makes it"
        ) from error


def level_arrays(image: "Image") -> list[zarr.Array]:
    """Return the arrays of an image as zarr reads them, the finest first, for libraries that take Zarr arrays.

    A block that was never written reads as 0, unlike in `Image.read`.
    """
    with image.backend.translate_errors():
        group = zarr.open_group(zarr_store_of(image.backend, read_only=True), mode="r", zarr_format=3)
        return [_array(group, str(level)) for level in range(len(image.spec.factors))]


class Image:
    """An open image store. It reads any box and writes whole blocks.

    Attributes
    ----------
    path : Path
        Path of the store in the results folder, also if its files are behind an address.
    backend : Backend
        Backend of its files.
    """

    def __init__(self, path: Path, backend: Backend, spec: ImageSpec, group: zarr.Group) -> None:
        self.path, self.backend, self.spec = path, backend, spec
        with backend.translate_errors():
            arrays = [_array(group, str(level)) for level in range(len(spec.factors))]
        blocks: list[Index] = [array.shards or array.chunks for array in arrays]
        self._grids = [Grid(array.shape, block) for array, block in zip(arrays, blocks, strict=True)]
        codec, dtype = Zstd(level=ZSTD_LEVEL), self.dtype
        self._formats = [BlockFormat(b, array.chunks, dtype, codec) for array, b in zip(arrays, blocks, strict=True)]

    @property
    def name(self) -> str:
        """Name in the folder of the volume, e.g. `raw.zarr`."""
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
        """Read the voxels of a box inside the volume: `(z, y, x)`, or `(c, z, y, x)` of an image with channels.

        Raises
        ------
        StoreError
            If the box exceeds the volume, or a block in it was never written, is lost or is damaged.
        """
        grid = self._grids[level]
        if box.clipped(grid.shape[-3:]) != box:
            raise StoreError(f"{self.backend}: box {box} exceeds the volume {grid.shape[-3:]}")
        wanted = self._array_box(box)
        values = np.empty(wanted.shape, self.dtype)
        for index in grid.touched_indices(wanted) if box.size else ():
            block = grid.box(index)
            part = block.intersected(wanted)
            into = values[part.relative_to(wanted.start).slices]
            self._read_file(index, level, part.relative_to(block.start), into)
        return values

    def read_mirrored(self, box: Box) -> np.ndarray:
        """Read the voxels of a box that may exceed the volume; see `read_mirrored`."""
        return read_mirrored(self, box)

    def write_block(self, box: Box, values: np.ndarray) -> str:
        """Write one whole block on every level of the pyramid, and return the block's digest."""
        self._require_whole_block(box, values)
        files = []
        for level, (factor, key) in enumerate(zip(self.spec.factors, self._keys(box), strict=True)):
            if level:
                step = tuple(a // b for a, b in zip(factor, self.spec.factors[level - 1], strict=True))
                values = downsample(values, step, self.spec.kind)
            files.append(self._formats[level].encode(values))
            self.backend.write(key, files[-1])
        return files_digest(files)

    def digest(self, box: Box) -> str | None:
        """Return the digest of a block's files on all levels; None if a file is missing."""
        files = [self.backend.read(key) for key in self._keys(box)]
        return None if None in files else files_digest([content] for content in files if content is not None)

    def size(self, box: Box) -> int | None:
        """Return the bytes of a block's files on all levels; None if a file is missing."""
        return _sum(self.backend.size(key) for key in self._keys(box))

    def sizes(self) -> dict[Box, int | None]:
        """Return the `size` of every block, from one listing."""
        listed = self.backend.sizes()
        return {box: _sum(listed.get(key) for key in self._keys(box)) for box in self.grid.boxes()}

    def _array_box(self, box: Box) -> Box:
        """Return a box in the axes of the arrays; all channels are added if there are any."""
        return Box((0, *box.start), (len(self.spec.channels), *box.stop)) if self.spec.channels else box

    def _keys(self, box: Box) -> list[str]:
        """Return the key of the block's file on each level."""
        index = tuple(lo // b for lo, b in zip(box.start, self.spec.block, strict=True))
        return [self._key(index, level) for level in range(len(self._grids))]

    def _key(self, index: Index, level: int) -> str:
        return "/".join([str(level), "c", *(["0"] if self.spec.channels else []), *map(str, index)])

    def _read_file(self, index: Index, level: int, part: Box, into: np.ndarray) -> None:
        """Read a part of a block's file; a missing file is an error, since a block of zeros has a file as well."""
        box, again = self.grid.box(index[-3:]), "remove the receipts of the rule that writes this store, and run again"
        try:
            with self.backend.open(self._key(index[-3:], level)) as file:
                self._formats[level].decode(file, part, into)
        except FileNotFoundError:
            raise StoreError(f"{self.backend}: block {box} is missing on level {level}; {again}") from None
        except (RuntimeError, ValueError) as error:  # a wrong checksum, or bytes that zstd cannot decompress
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


def _lock(path: Path) -> AbstractContextManager[None]:
    """Return the lock under which one job at a time checks for a store and creates it."""
    return locked(path.with_name(f".{path.name}.lock"))


def _has_spec(where: Path | str, spec: ImageSpec) -> bool:
    try:
        return open_image(where).spec == spec
    except StoreError:
        return False


def zarr_store_of(backend: Backend, read_only: bool = False) -> Store:
    """Return the files of a backend as zarr reads and writes them."""
    if isinstance(backend, LocalFolder):
        return LocalStore(backend.path, read_only=read_only)
    return ObjectStore(backend.store, read_only=read_only)


def _sum(sizes: Iterable[int | None]) -> int | None:
    """Return the sum of sizes; None if a size is None."""
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
