"""Zarr arrays of other programs: Zarr v2 and v3, in a folder, a zip archive or at an address."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec

from unet.geometry.box import Index
from unet.storage.address import is_address
from unet.storage.backends import Backend, backend_of
from unet.storage.blosc_frames import register_checked_blosc
from unet.storage.chunk_files import ChunkFiles
from unet.storage.local_folder import LocalFolder
from unet.storage.shard_index import ShardIndex, missing_in_shards
from unet.storage.zip_archive import ZipArchive

register_checked_blosc()

ForeignBackend = Backend | ZipArchive
"""Storage for the files of a store of another program."""


def foreign_backend(where: Path | str) -> ForeignBackend:
    """Return the backend of a folder, a zip archive or an address."""
    return ZipArchive(Path(where)) if not is_address(str(where)) and Path(where).is_file() else backend_of(where)


@dataclass(frozen=True)
class ForeignArray:
    """A Zarr array of another program, with what its metadata say about its axes and its place.

    Attributes
    ----------
    axes : list of str, or None
        Name of each axis.
    axes_from : str
        Where the names are from.
    scale_nm, translation_nm : tuple of float, or None
        Voxel size and position of the first voxel in nm, one number per axis.
    remarks : tuple of str
        What the user has to know about how the metadata were understood.
    contradiction : str or None
        Two names of the axes that differ, so that somebody has to say which are right.
    """

    array: zarr.Array
    backend: ForeignBackend
    axes: list[str] | None = None
    axes_from: str = ""
    scale_nm: tuple[float, ...] | None = None
    translation_nm: tuple[float, ...] | None = None
    remarks: tuple[str, ...] = ()
    contradiction: str | None = None

    @property
    def shape(self) -> Index:
        """Shape of the array, in the order of its own axes."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype:
        """Type of the voxels."""
        return np.dtype(self.array.dtype)

    @property
    def path(self) -> str:
        """Path of the array in the store; empty for the store's root."""
        return str(self.array.path)

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the array."""
        return dict(self.array.attrs)

    @property
    def fill_value(self) -> float:
        """Value of the voxels of a chunk that is not stored."""
        return np.asarray(self.array.fill_value or 0).item()

    @property
    def is_sharded(self) -> bool:
        """Return whether the array is sharded."""
        return self.array.shards is not None

    @cached_property
    def chunk_files(self) -> ChunkFiles:
        """Files, or objects, of the array's chunks; of a sharded array its shards."""
        encode = self.array.metadata.encode_chunk_key
        return ChunkFiles(self.backend, self.array.path, self.shape, self.array.shards or self.array.chunks, encode)

    @cached_property
    def shard_index(self) -> ShardIndex | None:
        """Return how the index of a shard is stored; None if there are no shards, or if the index is compressed."""
        codec = next(
            (one for one in getattr(self.array.metadata, "codecs", ()) if isinstance(one, ShardingCodec)), None
        )
        if codec is None or self.array.shards is None:
            return None
        order, *checksums = codec.index_codecs
        if not isinstance(order, BytesCodec) or not all(isinstance(one, Crc32cCodec) for one in checksums[:1]):
            return None
        byteorder = ">" if order.endian is not None and order.endian.value == "big" else "<"
        at_end = codec.index_location.value == "end"
        return ShardIndex(self.array.shards, self.array.chunks, at_end, bool(checksums), byteorder)

    def missing_in_shards(self, slices: tuple[slice, ...], stored: Sequence[tuple[str, int]]) -> tuple[int, int, int]:
        """Count the chunks of a selection that stored shards lack, see `unet.storage.shard_index.missing_in_shards`."""
        if self.shard_index is None:
            return 0, 0, 0
        with self.backend.translate_errors():
            return missing_in_shards(self.shard_index, self.chunk_files, self.backend, slices, stored)

    def read(self, slices: tuple[slice, ...]) -> np.ndarray:
        """Read the voxels of a selection.

        Raises
        ------
        ValueError
            If the file of a shard is empty, which zarr reads as the fill value.
        """
        if self.is_sharded and isinstance(self.backend, LocalFolder):
            bounded = tuple(slice(*s.indices(n)[:2]) for s, n in zip(slices, self.shape, strict=True))
            for key, _ in self.chunk_files.selections(bounded):
                if self.backend.size(key) == 0:
                    raise ValueError(f"{key}: the file of a shard is empty, it is cut short")
        with self.backend.translate_errors():
            return np.asarray(self.array[slices])

    def damaged_file(self, slices: tuple[slice, ...]) -> str | None:
        """Return the first file of a selection whose voxels cannot be read, with its bytes; None if all can."""
        for key, part in self.chunk_files.selections(slices):
            try:
                self.read(part)
            except Exception:
                return f"{self.backend}/{key} ({self.backend.size(key)} bytes)"
        return None
