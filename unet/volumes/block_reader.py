"""Read the blocks of a job so that each chunk of the image files is decoded once, however many blocks touch it.

```
chunks of the image files             blocks of the job
+------------------+-----------       +--------+--------+-----
|  a section, or   |          cut     |        |        |
|  64 x 64 x 64    |         ----->   +--------+--------+-----
|  voxels, or ...  |                  |        |        |
+------------------+-----------       +--------+--------+-----
```

1. Chunks side by side are decoded together, up to `UNIT_BYTES`, or one chunk if it is larger: that is a unit.
2. The threads that want a block decode the units that it touches, each another one.
3. A decoded unit is cut into the blocks that are yet to be read. They are kept in memory up to `CACHE_BYTES`, beyond
   that in a scratch file without a name, which vanishes with the process.
4. A block that was read is dropped. A block that shares no unit with another one is read by itself.

Blocks that share deep chunks are read one after the other (`in_reading_order`), so that few are open at once. Memory is
`CACHE_BYTES`, and a unit per thread.
"""

import errno
import os
import shutil
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import product
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np

from unet.geometry.box import Box, Index, enclosing
from unet.volumes.readers.source import Source

CACHE_BYTES = 2**28
"""Bytes of decoded voxels that a job keeps in memory for its next blocks; more go to a scratch file."""
UNIT_BYTES = 2**23
"""Bytes of chunks that are decoded by one call of a reader, as long as a single chunk has no more."""


def unit_shape(source: Source, block: Index) -> Index:
    """Return the shape of what is decoded at once for blocks of a shape; zeros where no two blocks share a chunk.

    A unit has as many chunks along x and y as a block needs, since a call of a reader takes time of its own.
    """
    if source.chunk is None:
        return 0, 0, 0
    chunk = source.chunk.shape
    ends = zip(block, source.shape, chunk, source.chunk.start, strict=True)
    if all(b >= n or (b % c == 0 and begin % c == 0) for b, n, c, begin in ends):
        return 0, 0, 0
    room = UNIT_BYTES // (prod(chunk) * source.dtype.itemsize * source.channels)
    along_x = max(1, min(room, -(-block[2] // chunk[2])))
    along_y = max(1, min(room // along_x, -(-block[1] // chunk[1])))
    return chunk[0], along_y * chunk[1], along_x * chunk[2]


def in_reading_order(boxes: Sequence[Box], sources: Iterable[Source]) -> list[Box]:
    """Return blocks in scan order, but those of one layer of deep chunks one after the other along z.

    >>> from unet.geometry.grid import Grid
    >>> class Deep(Source):
    ...     def _read(self, box: Box) -> np.ndarray: ...
    >>> deep = Deep("a.zarr", [], (4, 1, 2), "uint8")
    >>> deep.decode_in((2, 1, 1))
    >>> [box.start for box in in_reading_order(Grid((4, 1, 2), (1, 1, 1)).boxes(), [deep])]
    [(0, 0, 0), (1, 0, 0), (0, 0, 1), (1, 0, 1), (2, 0, 0), (3, 0, 0), (2, 0, 1), (3, 0, 1)]
    """
    deepest = max((one.chunk for one in sources if one.chunk), key=lambda chunk: chunk.shape[0], default=None)
    if deepest is None or deepest.shape[0] <= max((box.shape[0] for box in boxes), default=1):
        return list(boxes)
    begin, depth = deepest.start[0], deepest.shape[0]
    return sorted(boxes, key=lambda box: ((box.start[0] - begin) // depth, *box.start[1:], box.start[0]))


class BlockReader:
    """Reads the blocks of a job from one source.

    Parameters
    ----------
    source : Source
        The source. If it has no chunks that blocks share, each block is read by itself.
    folder : Path
        Folder of the scratch file.
    kept_bytes : int
        Bytes of decoded voxels that are kept in memory.
    """

    def __init__(self, source: Source, folder: Path, kept_bytes: int = CACHE_BYTES) -> None:
        self.source = source
        self._kept = _KeptBlocks(source, folder, kept_bytes)
        self._units: dict[Box, list[_Unit]] = {}
        self._changed = threading.Condition()
        self._reading: AbstractContextManager[object] = nullcontext() if source.parallel_reads else threading.Lock()

    def expect(self, boxes: Sequence[Box]) -> None:
        """Tell which blocks will be read, about in this order. Other blocks may be read, but cost more."""
        self._units = {}
        shape = unit_shape(self.source, tuple(max(box.shape[i] for box in boxes) for i in range(3))) if boxes else ()
        if not any(shape):
            return
        assert self.source.chunk is not None
        touching: dict[Index, list[Box]] = defaultdict(list)
        for box in boxes:
            for index in _touched(box, self.source.chunk.start, shape):
                touching[index].append(box)
        found = defaultdict(list)
        for index, sharing in touching.items():
            begin = tuple(b + i * n for b, i, n in zip(self.source.chunk.start, index, shape, strict=True))
            unit = _Unit(Box.of_shape(shape).shifted(begin).intersected(enclosing(sharing)), sharing)
            for box in sharing:
                found[box].append(unit)
        self._units = {box: units for box, units in found.items() if any(len(unit.boxes) > 1 for unit in units)}

    def read(self, box: Box) -> np.ndarray:
        """Return the voxels of a block, see `Source.read`. Several threads may read several blocks."""
        with self._changed:
            units = self._units.pop(box, None)
        if units is None:
            return self._read(box)
        while (unit := self._next(units)) is not None:
            try:
                self._decode(unit)
            except Exception as error:
                self._finish(unit, error)
                raise
            self._finish(unit)
        return self._kept.take(box)

    def _next(self, units: Sequence["_Unit"]) -> "_Unit | None":
        """Return a unit to decode; None once all are decoded, also by other threads."""
        with self._changed:
            while True:
                failure = next((unit.failure for unit in units if unit.failure is not None), None)
                if failure is not None:
                    raise failure
                waiting = next((unit for unit in units if unit.state == "waiting"), None)
                if waiting is not None:
                    waiting.state = "decoding"
                    return waiting
                if all(unit.state == "decoded" for unit in units):
                    return None
                self._changed.wait()

    def _decode(self, unit: "_Unit") -> None:
        """Decode a unit as far as the blocks reach, and keep the part of each block."""
        self._kept.make_room(unit.boxes)
        values = self._read(unit.box)
        for box in unit.boxes:
            part = box.intersected(unit.box)
            self._kept.put(box, part, values[part.relative_to(unit.box.start).trailing])

    def _finish(self, unit: "_Unit", failure: Exception | None = None) -> None:
        with self._changed:
            unit.state, unit.failure = "decoded", failure
            self._changed.notify_all()

    def _read(self, box: Box) -> np.ndarray:
        with self._reading:
            return self.source.read(box)


@dataclass(eq=False)
class _Unit:
    """Voxels that are decoded at once, and the blocks that touch them."""

    box: Box
    boxes: list[Box]
    state: Literal["waiting", "decoding", "decoded"] = "waiting"
    failure: Exception | None = None


def _touched(box: Box, begin: Index, shape: Index) -> Iterable[Index]:
    """Return the indices of the units that a block touches."""
    ends = zip(box.start, box.stop, begin, shape, strict=True)
    return product(*(range((lo - b) // n, -(-(hi - b) // n)) for lo, hi, b, n in ends))


class _KeptBlocks:
    """Blocks that are put together of parts, in memory as long as there is room, else in a scratch file."""

    def __init__(self, source: Source, folder: Path, kept_bytes: int) -> None:
        self._lead: Index = (source.channels,) if source.channels > 1 else ()
        self._dtype, self._folder, self._kept_bytes = source.dtype, folder, kept_bytes
        self.in_memory: dict[Box, np.ndarray] = {}
        self.on_disk: dict[Box, _OnDisk] = {}
        self.bytes_in_memory = 0
        self._scratch: _Scratch | None = None
        self._lock = threading.Lock()

    def make_room(self, boxes: Sequence[Box]) -> None:
        """Find a place for blocks that have none yet.

        Raises
        ------
        OSError
            If the disk has no room for those that memory does not hold.
        """
        with self._lock:
            new = [box for box in boxes if box not in self.in_memory and box not in self.on_disk]
            for box in new:
                if self.bytes_in_memory + self._bytes(box) <= self._kept_bytes:
                    self.in_memory[box] = np.empty((*self._lead, *box.shape), self._dtype)
                    self.bytes_in_memory += self._bytes(box)
            written = [box for box in new if box not in self.in_memory]
            if written:
                self._scratch = self._scratch or _Scratch(self._folder)
                self._scratch.require(sum(map(self._bytes, written)))
                self.on_disk |= {box: _OnDisk(self._scratch) for box in written}

    def put(self, box: Box, part: Box, values: np.ndarray) -> None:
        """Keep a part of a block."""
        if box in self.in_memory:
            self.in_memory[box][part.relative_to(box.start).trailing] = values
        else:
            self.on_disk[box].put(part, values)

    def take(self, box: Box) -> np.ndarray:
        """Return a whole block, which is not kept any longer."""
        with self._lock:
            if box in self.in_memory:
                self.bytes_in_memory -= self._bytes(box)
                return self.in_memory.pop(box)
            kept = self.on_disk.pop(box)
        values = np.empty((*self._lead, *box.shape), self._dtype)
        for part, found in kept.take(self._lead, self._dtype):
            values[part.relative_to(box.start).trailing] = found
        return values

    def _bytes(self, box: Box) -> int:
        return prod(self._lead) * box.size * self._dtype.itemsize


@dataclass
class _OnDisk:
    """The parts of a block in a scratch file."""

    scratch: "_Scratch"
    parts: list[tuple[Box, int]] = field(default_factory=list)

    def put(self, part: Box, values: np.ndarray) -> None:
        """Write a part."""
        self.parts.append((part, self.scratch.write(np.ascontiguousarray(values))))

    def take(self, lead: Index, dtype: np.dtype) -> Iterable[tuple[Box, np.ndarray]]:
        """Yield the parts, and give their places back."""
        for part, offset in self.parts:
            values = np.empty((*lead, *part.shape), dtype)
            self.scratch.read(values, offset)
            yield part, values


class _Scratch:
    """A file of arrays. It is read and written at places, since a map counts as memory."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._end = folder, 0
        self._free: dict[int, list[int]] = defaultdict(list)
        self._lock = threading.Lock()
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed when it is dropped

    def require(self, size: int) -> None:
        """Raise an error if the disk has no room for so many bytes."""
        if shutil.disk_usage(self._folder).free < size:
            what = f"{os.strerror(errno.ENOSPC)} for {size / 1e6:.1f} MB of decoded voxels"
            raise OSError(errno.ENOSPC, what, str(self._folder))

    def write(self, values: np.ndarray) -> int:
        """Write an array, and return its place. A place that was given back is taken again."""
        with self._lock:
            if self._free[values.nbytes]:
                begin = self._free[values.nbytes].pop()
            else:
                begin, self._end = self._end, self._end + values.nbytes
        content, offset = values.data.cast("B"), begin
        while content:
            written = os.pwrite(self._file.fileno(), content, offset)
            content, offset = content[written:], offset + written
        return begin

    def read(self, values: np.ndarray, begin: int) -> None:
        """Read an array from its place, and give the place back."""
        into, offset = values.data.cast("B"), begin
        while into:
            count = os.preadv(self._file.fileno(), [into], offset)
            if not count:
                raise OSError(errno.EIO, "the scratch file of decoded voxels is cut short")
            into, offset = into[count:], offset + count
        with self._lock:
            self._free[values.nbytes].append(begin)
