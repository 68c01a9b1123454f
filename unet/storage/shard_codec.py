"""The file of a block: a shard of Zarr v3, encoded and decoded whole by the thread that asks.

```
+---------+----------+---------+----------+-----+---------------------------------------------+----------+
| chunk 0 | checksum | chunk 1 | checksum | ... | offset and bytes of every chunk, 2 x uint64 | checksum |
+---------+----------+---------+----------+-----+---------------------------------------------+----------+
```

https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html, with the index at the end, as
little-endian numbers; checksums are the codec crc32c, over the compressed bytes: those of labels are a twentieth of the
voxels', over which zstd's own would be taken. zarr-python reads and writes the same, but takes every chunk through one
event loop to another thread and back: for labels that costs more than their compression (docs/results.md).
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
"""Offset and size of a chunk that the file does not hold."""
INDEX_TYPE = np.dtype("<u8")
CHECKSUM_BYTES = 4


class Codec(Protocol):
    """What compresses a chunk; `numcodecs` has them."""

    def encode(self, values: Any) -> Any:
        """Bytes of a contiguous array, or of bytes."""

    def decode(self, content: Any, out: Any = None) -> Any:
        """Inverse of `encode`, into a contiguous array where there is one; an error where the content is damaged."""


class RangeReader(Protocol):
    """A file of which parts can be had; `unet.storage.backends` opens them."""

    def read_tail(self, count: int) -> bytes:
        """So many bytes at its end, or all where there are fewer."""

    def read_ranges(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """What stands at each (offset, length)."""


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
            part = values[tuple(slice(i * n, (i + 1) * n) for i, n in zip(at, self.chunk, strict=True))]
            if part.size < chunk.size:
                chunk.fill(0)
            chunk[tuple(map(slice, part.shape))] = part
            parts.append(_checked(self.codec.encode(chunk)))
            index[at] = end, len(parts[-1])
            end += len(parts[-1])
        return b"".join([*parts, _checked(index.tobytes())])

    def decode(self, file: RangeReader, window: Box, into: np.ndarray) -> None:
        """Read a window, counted in voxels of the block, into an array; only the chunks that it touches are read.

        Raises
        ------
        ValueError, RuntimeError
            If a checksum is wrong, a chunk is not there, or the file is cut short.
        """
        index, chunk = self._index(file), np.empty(self.chunk, self.dtype)
        wanted = list(self.chunks.touched_indices(window))
        spans = [(offset, length) for offset, length in (index[at].tolist() for at in wanted)]
        if (ABSENT, ABSENT) in spans:
            raise ValueError(f"chunk {wanted[spans.index((ABSENT, ABSENT))]} is not there")
        for at, content in zip(wanted, file.read_ranges(spans), strict=True):
            self.codec.decode(_content(content, f"chunk {at}"), chunk)
            of_window, of_chunk = _common(window, at, self.chunk)
            into[of_window] = chunk[of_chunk]

    def _index(self, file: RangeReader) -> np.ndarray:
        """(chunks..., 2) offset and bytes of every chunk."""
        size = len(self.chunks) * 2 * INDEX_TYPE.itemsize + CHECKSUM_BYTES
        last = file.read_tail(size)
        if len(last) < size:
            raise ValueError("the file is cut short")
        return np.frombuffer(_content(last, "the index of chunks"), INDEX_TYPE).reshape(*self.chunks.counts, 2)


def _checked(content: bytes) -> bytes:
    """Bytes with their checksum behind them."""
    return content + crc32c(content).to_bytes(CHECKSUM_BYTES, "little")


def _content(checked: bytes, what: str) -> bytes:
    """Bytes without the checksum behind them, which must be theirs."""
    content, checksum = checked[:-CHECKSUM_BYTES], checked[-CHECKSUM_BYTES:]
    if crc32c(content) != int.from_bytes(checksum, "little"):
        raise ValueError(f"the checksum of {what} is wrong")
    return content


def _common(window: Box, at: Index, chunk: Index) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where the voxels lie in a window that it has in common with a chunk, and where in the chunk.

    A block has hundreds of chunks, and threads wait for each other's Python, so this is plain arithmetic.

    >>> _common(Box((3,), (9,)), (1,), (4,))
    ((slice(1, 5, None),), (slice(0, 4, None),))
    """
    of_window, of_chunk = [], []
    for i, n, lo, hi in zip(at, chunk, window.start, window.stop, strict=True):
        first, last = max(i * n, lo), min((i + 1) * n, hi)
        of_window.append(slice(first - lo, last - lo))
        of_chunk.append(slice(first - i * n, last - i * n))
    return tuple(of_window), tuple(of_chunk)
