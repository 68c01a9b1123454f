"""The file of a block: a shard of Zarr v3, encoded and decoded whole by the thread that asks.

```
+---------+---------+-----+---------------------------------------------+----------+
| chunk 0 | chunk 1 | ... | offset and bytes of every chunk, 2 x uint64 | checksum |
+---------+---------+-----+---------------------------------------------+----------+
```

https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html, with the index at the end, as
little-endian numbers and their CRC-32C. zarr-python reads and writes the same, but takes every chunk through one event
loop to another thread and back: for labels that costs more than their compression (docs/results.md).
"""

import os
from dataclasses import dataclass
from functools import cached_property
from os import SEEK_END
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from uuid import uuid4

import numpy as np
from google_crc32c import value as crc32c

from unet.geometry import Box, Grid, Index

ABSENT = 2**64 - 1
"""Offset and size of a chunk that the file does not hold."""
INDEX_TYPE = np.dtype("<u8")
CHECKSUM_BYTES = 4


class Codec(Protocol):
    """What compresses a chunk; `numcodecs` has them."""

    def encode(self, values: Any) -> Any:
        """Bytes of a contiguous array, or of bytes."""

    def decode(self, content: Any, out: Any = None) -> Any:
        """Inverse of `encode`, into a contiguous array where there is one; an error where the content is damaged."""


@dataclass(frozen=True)
class BlockFormat:
    """How the blocks of an array are written.

    Attributes
    ----------
    block : voxels of a whole block along every axis of the array; those at the volume's far faces hold fewer
    chunk : the same of a chunk; blocks are whole multiples of it
    dtype : of the voxels
    codec : compresses a chunk
    """

    block: Index
    chunk: Index
    dtype: np.dtype
    codec: Codec

    @cached_property
    def chunks(self) -> Grid:
        """The chunks of a whole block."""
        return Grid(self.block, self.chunk)

    def encode(self, values: np.ndarray) -> bytes:
        """The file of a block: every chunk in which it has voxels, those beyond the volume's face 0."""
        parts: list[bytes] = []
        index, end = np.full((*self.chunks.counts, 2), ABSENT, INDEX_TYPE), 0
        chunk = np.zeros(self.chunk, self.dtype)
        for at in Grid(values.shape, self.chunk).indices():
            part = values[self.chunks.box(at).slices]
            if part.size < chunk.size:
                chunk.fill(0)
            chunk[Box.of_shape(part.shape).slices] = part
            parts.append(self.codec.encode(chunk))
            index[at] = end, len(parts[-1])
            end += len(parts[-1])
        table = index.tobytes()
        return b"".join([*parts, table, crc32c(table).to_bytes(CHECKSUM_BYTES, "little")])

    def decode(self, file: BinaryIO, window: Box, into: np.ndarray) -> None:
        """Read a window, counted in voxels of the block, into an array; only the chunks that it touches are read.

        Raises
        ------
        ValueError, RuntimeError
            If a checksum is wrong, a chunk is not there, or the file is cut short.
        """
        index, chunk = self._index(file), np.empty(self.chunk, self.dtype)
        for at in self.chunks.touched_indices(window):
            offset, length = index[at].tolist()
            if offset == ABSENT:
                raise ValueError(f"chunk {at} is not there")
            file.seek(offset)
            self.codec.decode(file.read(length), chunk)
            box = self.chunks.box(at)
            part = box.intersected(window)
            into[part.relative_to(window.start).slices] = chunk[part.relative_to(box.start).slices]

    def _index(self, file: BinaryIO) -> np.ndarray:
        """(chunks..., 2) offset and bytes of every chunk."""
        start = file.seek(0, SEEK_END) - len(self.chunks) * 2 * INDEX_TYPE.itemsize - CHECKSUM_BYTES
        if start < 0:
            raise ValueError("the file is cut short")
        file.seek(start)
        content = file.read()
        table, checksum = content[:-CHECKSUM_BYTES], content[-CHECKSUM_BYTES:]
        if crc32c(table) != int.from_bytes(checksum, "little"):
            raise ValueError("the checksum of the index of chunks is wrong")
        return np.frombuffer(table, INDEX_TYPE).reshape(*self.chunks.counts, 2)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file by rename, so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f"{path.name}.*.partial"):  # of a killed write of this file
        leftover.unlink(missing_ok=True)
    partial = path.with_name(f"{path.name}.{uuid4().hex}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
