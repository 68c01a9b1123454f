"""Count the chunks that the shards of a Zarr v3 array leave out, by the index of each shard. No chunk is read.

```
shard   | chunks ... | offset and bytes of every chunk, 2 x uint64 | checksum |        index_location: end
absent  offset = bytes = 2**64 - 1
```

Format: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import prod
from typing import Protocol, TypeVar

import numpy as np
from google_crc32c import value as crc32c

from unet.geometry.box import Index
from unet.storage.chunk_files import ChunkFiles
from unet.storage.object_storage import ObjectStorage
from unet.storage.shard_codec import ABSENT, CHECKSUM_BYTES, RangeReader

MAX_OBJECTS = 4096
"""Shards at an address of which the index is read: one request each."""
REQUESTS = 16
"""Requests at once."""
Item = TypeVar("Item")
Result = TypeVar("Result")


class Openable(Protocol):
    """Storage of files of which parts can be read."""

    def open(self, key: str) -> AbstractContextManager[RangeReader]:
        """Open a file."""
        ...


@dataclass(frozen=True)
class ShardIndex:
    """Storage of the index of a shard.

    Attributes
    ----------
    shard, chunk : tuple of int
        Shapes of a shard and of a chunk, in voxels.
    at_end : bool
        Whether the index is at the end of the file, else at its begin.
    has_checksum : bool
        Whether a crc32c follows the index.
    byteorder : str
        `<` or `>`.
    """

    shard: Index
    chunk: Index
    at_end: bool = True
    has_checksum: bool = True
    byteorder: str = "<"

    @property
    def counts(self) -> Index:
        """Return the number of chunks of a shard along each axis."""
        return tuple(s // c for s, c in zip(self.shard, self.chunk, strict=True))

    @property
    def bytes(self) -> int:
        """Return the bytes of the index."""
        return 16 * prod(self.counts) + (CHECKSUM_BYTES if self.has_checksum else 0)

    def read(self, backend: Openable, key: str, size: int) -> np.ndarray:
        """Return which chunks a shard of `size` bytes holds, as bool of the shape `counts`.

        Raises
        ------
        ValueError
            If the file is too small for its index or for its chunks, or if the checksum is wrong.
        """
        if size < self.bytes:
            raise ValueError(
                f"{key}: the shard is cut short, {size} bytes, of which its index alone needs {self.bytes}"
            )
        with backend.open(key) as file:
            content = file.read_tail(self.bytes) if self.at_end else file.read_ranges([(0, self.bytes)])[0]
        body = content[: 16 * prod(self.counts)]
        if self.has_checksum and crc32c(body) != int.from_bytes(content[len(body) :], "little"):
            raise ValueError(f"{key}: the index of the shard is damaged, its checksum is another; copy it again")
        index = np.frombuffer(body, f"{self.byteorder}u8").reshape(*self.counts, 2)
        held = (index != ABSENT).any(axis=-1)
        offset, length = (index[..., i][held] for i in (0, 1))
        if held.any() and ((offset > size) | (length > size - np.minimum(offset, size))).any():
            raise ValueError(f"{key}: the shard is cut short, {size} bytes, and its chunks reach beyond; copy it again")
        return np.asarray(held)

    def missing(self, held: np.ndarray, at: Index, selection: Sequence[slice]) -> tuple[int, int]:
        """Return how many chunks of a selection the shard with index `at` lacks, and how many it should have."""
        spans = []
        for i, s, c, wanted in zip(at, self.shard, self.chunk, selection, strict=True):
            low, high = max(wanted.start - i * s, 0), min(wanted.stop - i * s, s)
            spans.append(slice(low // c, -(-high // c)))
        part = held[tuple(spans)]
        return part.size - int(np.count_nonzero(part)), part.size


def missing_in_shards(
    layout: ShardIndex,
    files: ChunkFiles,
    backend: Openable,
    selection: Sequence[slice],
    stored: Sequence[tuple[str, int]],
) -> tuple[int, int, int]:
    """Count the chunks of a selection that stored shards lack.

    Parameters
    ----------
    layout : ShardIndex
        How the index of a shard is stored.
    files : ChunkFiles
        The files of the shards.
    backend : Openable
        Where they lie.
    selection : sequence of slice
        Voxels of the array.
    stored : sequence of (str, int)
        Key and bytes of each stored shard that the selection touches.

    Returns
    -------
    missing, count, shards : int
        Chunks that are not stored, all chunks of the shards that were looked at, and number of these shards.

    Raises
    ------
    ValueError
        If a shard is damaged or cut short.
    """
    chosen = looked_at(backend, stored)

    def count(file: tuple[str, int]) -> tuple[int, int]:
        index = files.index_of(file[0])
        return layout.missing(layout.read(backend, *file), index, selection) if index else (0, 0)

    counts = list(each(backend, count, chosen))
    return sum(missing for missing, _ in counts), sum(total for _, total in counts), len(chosen)


def looked_at(backend: object, shards: Sequence[Item]) -> Sequence[Item]:
    """Return the shards whose index is read: at an address at most `MAX_OBJECTS`, spread over all."""
    if not isinstance(backend, ObjectStorage) or len(shards) <= MAX_OBJECTS:
        return shards
    chosen = np.linspace(0, len(shards) - 1, MAX_OBJECTS).round().astype(int)
    return [shards[i] for i in chosen]


def each(backend: object, read: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield the result of each item; at an address several at once."""
    if not isinstance(backend, ObjectStorage):
        yield from map(read, items)
        return
    with ThreadPoolExecutor(REQUESTS) as pool:
        yield from pool.map(read, items)
