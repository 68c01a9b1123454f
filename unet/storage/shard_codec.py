"""Encode and decode the file of a block, a Zarr v3 shard, in the calling thread.

```
+---------+----------+---------+----------+-----+---------------------------------------------+----------+
| chunk 0 | checksum | chunk 1 | checksum | ... | offset and bytes of every chunk, 2 x uint64 | checksum |
+---------+----------+---------+----------+-----+---------------------------------------------+----------+
```

Format: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html, with the index at the end, in
little-endian numbers. Checksums are the codec crc32c over the compressed bytes. zstd's own checksum would cover the
uncompressed bytes, which are twenty times as many for labels.

zarr-python reads and writes the same format. It passes every chunk through one event loop to another thread and back,
which takes longer than the compression of labels (docs/results.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from google_crc32c import value as crc32c

from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid

ABSENT = 2**64 - 1
"""Offset and size in the index of a chunk that the file does not contain."""
INDEX_TYPE = np.dtype("<u8")
CHECKSUM_BYTES = 4
INTACT = crc32c(bytes(CHECKSUM_BYTES))
"""Checksum of any bytes that their own checksum follows."""


class Codec(Protocol):
    """Compressor of a chunk, e.g. of `numcodecs`."""

    def encode(self, values: Any) -> Any:
        """Return the compressed bytes of a contiguous array or of bytes."""

    def decode(self, content: Any, out: Any = None) -> Any:
        """Return the decompressed bytes, written to the contiguous array `out` if given; fail if they are damaged."""


class RangeReader(Protocol):
    """An open file of which parts can be read; `unet.storage.local_folder` and `object_storage` open them."""

    def read_tail(self, count: int) -> bytes:
        """Return the last `count` bytes, or all if there are fewer."""

    def read_ranges(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes at each (offset, length)."""


@dataclass(frozen=True)
class BlockFormat:
    """Format of the blocks of an array.

    Attributes
    ----------
    block : shape of a block, in voxels along every axis of the array; blocks at the volume's far faces have fewer
    chunk : shape of a chunk in voxels, which divides the shape of a block
    dtype : type of the voxels
    codec : compressor of a chunk
    """

    block: Index
    chunk: Index
    dtype: np.dtype
    codec: Codec

    @cached_property
    def chunks(self) -> Grid:
        """The chunks of a whole block."""
        return Grid(self.block, self.chunk)

    def encode(self, values: np.ndarray) -> list[bytes]:
        """Return the file of a block: every chunk that has voxels of it; voxels beyond the volume's face are 0.

        The file is returned in pieces, since joining them would copy it twice.
        """
        pieces: list[bytes] = []
        index, end = np.full((*self.chunks.counts, 2), ABSENT, INDEX_TYPE), 0
        chunk = np.zeros(self.chunk, self.dtype)
        for at in Grid(values.shape, self.chunk).indices():
            part = values[tuple(slice(i * n, (i + 1) * n) for i, n in zip(at, self.chunk, strict=True))]
            if part.size < chunk.size:
                chunk.fill(0)
            chunk[tuple(map(slice, part.shape))] = part
            content = self.codec.encode(chunk)
            pieces += content, _checksum(content)
            index[at] = end, len(content) + CHECKSUM_BYTES
            end += len(content) + CHECKSUM_BYTES
        content = index.tobytes()
        return [*pieces, content, _checksum(content)]

    def decode(self, file: RangeReader, box: Box, into: np.ndarray) -> None:
        """Read a box of the block into an array. Only the chunks that the box touches are read.

        Parameters
        ----------
        file
            Open file of the block.
        box
            Voxels to read, relative to the block.
        into
            Array of the shape of `box`.

        Raises
        ------
        ValueError, RuntimeError
            If a checksum is wrong, a chunk is missing, or the file is cut short.
        """
        index, chunk = self._index(file), np.empty(self.chunk, self.dtype)
        wanted = list(self.chunks.touched_indices(box))
        spans = [(offset, length) for offset, length in (index[at].tolist() for at in wanted)]
        if (ABSENT, ABSENT) in spans:
            raise ValueError(f"chunk {wanted[spans.index((ABSENT, ABSENT))]} is not there")
        for at, content in zip(wanted, file.read_ranges(spans), strict=True):
            self.codec.decode(_without_checksum(content, f"chunk {at}"), chunk)
            in_box, in_chunk = _common_voxels(box, at, self.chunk)
            into[in_box] = chunk[in_chunk]

    def _index(self, file: RangeReader) -> np.ndarray:
        """Read the index, (chunks..., 2): offset and bytes of every chunk."""
        size = len(self.chunks) * 2 * INDEX_TYPE.itemsize + CHECKSUM_BYTES
        last = file.read_tail(size)
        if len(last) < size:
            raise ValueError("the file is cut short")
        content = _without_checksum(last, "the index of chunks")
        return np.frombuffer(content, INDEX_TYPE).reshape(*self.chunks.counts, 2)


def _checksum(content: bytes) -> bytes:
    """Return the checksum that follows bytes."""
    return crc32c(content).to_bytes(CHECKSUM_BYTES, "little")


def _without_checksum(part: bytes, what: str) -> memoryview:
    """Return bytes without the checksum that follows them; raise an error if the checksum is wrong."""
    if len(part) < CHECKSUM_BYTES or crc32c(part) != INTACT:
        raise ValueError(f"the checksum of {what} is wrong")
    return memoryview(part)[:-CHECKSUM_BYTES]  # a slice of the bytes would copy them


def _common_voxels(box: Box, at: Index, chunk: Index) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the slices of the voxels that a box and a chunk have in common: in the box, and in the chunk.

    A block has hundreds of chunks, and Python code of threads does not run in parallel, so this is plain arithmetic.

    >>> _common_voxels(Box((3,), (9,)), (1,), (4,))
    ((slice(1, 5, None),), (slice(0, 4, None),))
    """
    in_box, in_chunk = [], []
    for i, n, lo, hi in zip(at, chunk, box.start, box.stop, strict=True):
        first, last = max(i * n, lo), min((i + 1) * n, hi)
        in_box.append(slice(first - lo, last - lo))
        in_chunk.append(slice(first - i * n, last - i * n))
    return tuple(in_box), tuple(in_chunk)
