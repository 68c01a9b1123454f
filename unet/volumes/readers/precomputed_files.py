"""Name the files of a scale of a precomputed volume: one per chunk, or shards with many chunks.

A chunk's number is the compressed Morton code of its index, and its shard follows from bits of that number:
https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/sharded.md
"""

import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet.geometry.box import Index
from unet.storage.backends import Backend
from unet.storage.chunk_files import ChunkFiles, Selection
from unet.storage.local_folder import FileState, LocalFolder
from unet.storage.shard_index import each, looked_at
from unet.volumes.readers.errors import SourceError

GZIP = ".gz"
MINISHARD_BYTES = 1 << 30
"""Most bytes of the index of a minishard: 24 per chunk."""
OTHER_COMPRESSIONS = (".br", ".zstd", ".xz")
NAME = re.compile(r"(\d+)-\d+_(\d+)-\d+_(\d+)-\d+(\.\w+)?")


class ScaleFiles(ChunkFiles):
    """The files of the chunks of a scale without shards. All channels of a chunk are in one file."""

    def __init__(self, backend: Backend, scale: dict[str, Any], dimensions: Index, suffix: str = "") -> None:
        self._scale, self._suffix = scale, suffix
        self._begin = tuple(int(n) for n in scale.get("voxel_offset", (0, 0, 0)))
        chunk = tuple(int(n) for n in scale["chunk_sizes"][0])
        super().__init__(backend, str(scale["key"]), dimensions, (*chunk, dimensions[3]), self._name)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what another process makes the same files from."""
        return ScaleFiles, (self.backend, self._scale, self.shape, self._suffix)

    def _name(self, index: Index) -> str:
        axes = zip(index[:3], self._scale["chunk_sizes"][0], self._scale["size"], self._begin, strict=True)
        return "_".join(f"{o + i * c}-{o + min((i + 1) * c, n)}" for i, c, n, o in axes) + self._suffix

    def index_of(self, key: str) -> Index | None:
        """Return the index of a file from its key; None if the file is no chunk."""
        found = NAME.fullmatch(key.rpartition("/")[2])
        if found is None:
            return None
        axes = zip(found.groups()[:3], self._begin, self.chunk, strict=False)
        index = (*((int(start) - begin) // n for start, begin, n in axes), 0)
        return index if self._key(index) == key else None


class ShardFiles:
    """The files of the shards of a scale."""

    def __init__(self, backend: Backend, scale: dict[str, Any], dimensions: Index) -> None:
        self.backend, self._scale, self._dimensions = backend, scale, dimensions
        self._sharding, self._key = scale["sharding"], str(scale["key"])
        for name in ("preshift_bits", "minishard_bits", "shard_bits"):
            if not 0 <= int(self._sharding[name]) <= 64:
                raise SourceError(f"{backend}: {name} {self._sharding[name]} of its shards is not from 0 to 64")

    def count(self, selection: Selection) -> int:
        """Return how many shards a selection touches, existing or not."""
        return len(self._keys(selection))

    def states(self, selection: Selection) -> dict[str, FileState]:
        """Return the state of each existing shard that a selection touches, by its key."""
        found = ((key, self.backend.state(key)) for key in sorted(self._keys(selection)))
        return {key: state for key, state in found if state is not None}

    def listed(self, selection: Selection) -> Iterator[tuple[str, FileState]]:
        """Yield key and state of each existing shard that a selection touches, from a listing."""
        wanted = self._keys(selection)
        yield from ((key, state) for key, state in self.backend.listing(self._key) if key in wanted)

    def missing(self, selection: Selection, stored: Sequence[tuple[str, int]]) -> tuple[int, int, int]:
        """Count the chunks that shards lack (`ChunkedSource.missing_in_shards`), by the indices of the shards alone."""
        numbers, minishards, shards = self._places(selection)
        chosen = looked_at(self.backend, stored)

        def count(file: tuple[str, int]) -> tuple[int, int]:
            own = shards == int(file[0].rpartition("/")[2].removesuffix(".shard"), 16)
            wanted, places = numbers[own], minishards[own]
            held = [self._held(*file, int(place)) for place in np.unique(places)]
            return int((~np.isin(wanted, np.concatenate(held))).sum()), len(wanted)

        with self.backend.translate_errors():
            counts = list(each(self.backend, count, chosen))
        return sum(missing for missing, _ in counts), sum(total for _, total in counts), len(chosen)

    def _held(self, key: str, size: int, minishard: int) -> np.ndarray:
        """Return the numbers of the chunks that a minishard of a shard of `size` bytes holds."""
        index = 16 << int(self._sharding["minishard_bits"])
        where = f"{self.backend}/{key}"
        if size < index:
            raise SourceError(f"{where}: cut short, {size} bytes, of which its index alone has {index}; copy it again")
        with self.backend.open(key) as file:
            begin, end = np.frombuffer(file.read_ranges([(16 * minishard, 16)])[0], "<u8").tolist()
            if not begin <= end <= size - index:
                raise SourceError(f"{where}: cut short, {size} bytes, and its chunks reach beyond; copy it again")
            content = file.read_ranges([(index + begin, end - begin)])[0] if end > begin else b""
        if content and self._sharding.get("minishard_index_encoding") == "gzip":
            content = decompressed(content, MINISHARD_BYTES, where)
        if len(content) % 24:
            raise SourceError(f"{where}: the index of a minishard has {len(content)} bytes, no numbers; copy it again")
        return np.cumsum(np.frombuffer(content, "<u8").reshape(3, -1)[0], dtype=np.uint64)

    def _keys(self, selection: Selection) -> set[str]:
        *_, shards = self._places(selection)
        digits = -(-int(self._sharding["shard_bits"]) // 4)
        return {f"{self._key}/{int(shard):0{digits}x}.shard" for shard in np.unique(shards)}

    def _places(self, selection: Selection) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return number, minishard and shard of each chunk of a selection."""
        chunk = self._scale["chunk_sizes"][0]
        ranges = [
            np.arange(s.start // c, -(-s.stop // c), dtype=np.uint64) for s, c in zip(selection, chunk, strict=False)
        ]
        grid = [-(-int(n) // int(c)) for n, c in zip(self._scale["size"], chunk, strict=True)]
        numbers = morton_codes(ranges, grid)
        hashed = numbers >> np.uint64(self._sharding["preshift_bits"])
        if self._sharding["hash"] == "murmurhash3_x86_128":
            hashed = murmur_hash(hashed)
        elif self._sharding["hash"] != "identity":
            raise SourceError(f"{self.backend}: the hash {self._sharding['hash']} of its shards is not known")
        mini, bits = (int(self._sharding[f"{kind}_bits"]) for kind in ("minishard", "shard"))
        shards = (hashed >> np.uint64(mini)) & np.uint64(2**bits - 1)
        return numbers, hashed & np.uint64(2**mini - 1), shards


def morton_codes(ranges: Sequence[np.ndarray], grid: Sequence[int]) -> np.ndarray:
    """Return the compressed Morton codes of all combinations of indices x, y and z in a grid.

    The bits of x, y and z alternate, the lowest first. An axis leaves out the bits that its grid does not need.

    >>> morton_codes([np.array([0, 1], np.uint64), np.array([1], np.uint64), np.array([0], np.uint64)], (2, 2, 1))
    array([2, 3], dtype=uint64)
    """
    bits = [(n - 1).bit_length() for n in grid]
    parts = [np.zeros(one.shape, np.uint64) for one in ranges]
    place = 0
    for bit in range(max(bits)):
        for axis in range(3):
            if bit < bits[axis]:
                parts[axis] |= ((ranges[axis] >> np.uint64(bit)) & np.uint64(1)) << np.uint64(place)
                place += 1
    x, y, z = parts
    return (x[:, None, None] | y[None, :, None] | z[None, None, :]).ravel()


def murmur_hash(numbers: np.ndarray) -> np.ndarray:
    """Return the low 64 bits of MurmurHash3_x86_128 of numbers of 8 bytes, with seed 0.

    >>> hex(int(murmur_hash(np.array([0], np.uint64))[0]))
    '0x4772b084e028ae41'
    """
    mask = np.uint64(0xFFFFFFFF)

    def turned(value: np.ndarray, count: int) -> np.ndarray:
        return ((value << np.uint64(count)) | (value >> np.uint64(32 - count))) & mask

    def mixed(value: np.ndarray) -> np.ndarray:
        value = ((value ^ (value >> np.uint64(16))) * np.uint64(0x85EBCA6B)) & mask
        value = ((value ^ (value >> np.uint64(13))) * np.uint64(0xC2B2AE35)) & mask
        return value ^ (value >> np.uint64(16))

    low, high = numbers & mask, numbers >> np.uint64(32)
    first = (turned((low * np.uint64(0x239B961B)) & mask, 15) * np.uint64(0xAB0E9789)) & mask
    second = (turned((high * np.uint64(0xAB0E9789)) & mask, 16) * np.uint64(0x38B34AE5)) & mask
    eight = np.uint64(8)
    one, two, three, four = first ^ eight, second ^ eight, np.full_like(low, eight), np.full_like(low, eight)
    one = (one + two + three + four) & mask
    two, three, four = (two + one) & mask, (three + one) & mask, (four + one) & mask
    one, two, three, four = mixed(one), mixed(two), mixed(three), mixed(four)
    one = (one + two + three + four) & mask
    two = (two + one) & mask
    return one | (two << np.uint64(32))


def suffix_of(where: Path | str, scale: dict[str, Any], address: str) -> str:
    """Return the ending that CloudVolume appends to the files of chunks in a folder, such as `.gz`; else empty."""
    if not isinstance(where, Path):
        return ""
    first = next(
        (found for key, _ in LocalFolder(where).listing(str(scale["key"])) if (found := NAME.search(key))), None
    )
    suffix = (first[4] or "") if first else ""
    if suffix not in ("", GZIP):
        raise SourceError(
            f"{address}: the files of its chunks end in {suffix}, a compression that is not read; write it again with "
            "compress='gzip' or compress=False"
        )
    return suffix


def decompressed(content: bytes, limit: int, where: str) -> bytes:
    """Return the content of a gzip file of at most `limit` bytes."""
    stream = zlib.decompressobj(wbits=31)
    try:
        plain = stream.decompress(content, limit)
    except zlib.error as error:
        raise SourceError(f"{where}: is no gzip file, it is damaged ({error}); copy it again") from None
    if not stream.eof:
        raise SourceError(f"{where}: is cut short ({len(content)} bytes), or holds more than a chunk; copy it again")
    return plain
