"""Read the blocks of a job so that sections which are decoded as a whole are decoded once per layer of blocks.

```
sections of a layer, decoded once          blocks of the layer, read one by one
+-----------------------------+            +---------+---------+---------+
|  0     (several at once)    |    cut     |         |         |         |
|  1                          |  ------->  +---------+---------+---------+
|  ...                        |            |         |         |  done   |
+-----------------------------+            +---------+---------+---------+
```

1. The threads that need a block of a layer decode its sections, each another section.
2. A decoded section is cut into the blocks that are yet to be made. They are kept in memory if the layer is small
   (`CACHE_BYTES`), else in a scratch file without a name, which vanishes with the process.
3. A block that was read is dropped; the last one drops the layer.

Blocks come in scan order, so few layers are open at once. Memory is `CACHE_BYTES` and a few sections per thread.
"""

import errno
import os
import shutil
import tempfile
import threading
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import prod
from pathlib import Path
from typing import Protocol

import numpy as np

from unet.geometry.box import Box, Index
from unet.volumes.readers.source import Source

CACHE_BYTES = 2**28
"""Bytes of decoded layers that a job keeps in memory; larger layers go to a scratch file."""


class LayerReader:
    """Reader of the blocks of a job from one source.

    Parameters
    ----------
    source : Source
        The source. A source that can read a box alone is read block by block.
    folder : Path
        Folder of scratch files.
    kept_bytes : int
        Bytes of decoded sections that are kept in memory.
    """

    def __init__(self, source: Source, folder: Path, kept_bytes: int = CACHE_BYTES) -> None:
        self.source, self._folder, self._kept_bytes = source, folder, kept_bytes
        self._in_memory = 0
        self._layers: dict[tuple[int, int], _Layer] = {}
        self._expected: dict[Box, list[Box]] = {}
        self._opening = threading.Lock()
        self._reading: AbstractContextManager[object] = nullcontext() if source.parallel_reads else threading.Lock()

    def expect(self, boxes: Sequence[Box]) -> None:
        """Announce the blocks that will be read, about in this order. Other blocks may be read, but cost more."""
        expected = defaultdict(list)
        for box in boxes if self.source.whole_sections else ():
            expected[_layer_of(box)].append(box)
        # a layer with one block needs none of this: its sections are decoded once anyway
        self._expected = {box: found for found in expected.values() if len(found) > 1 for box in found}

    def read(self, box: Box) -> np.ndarray:
        """Return the voxels of a block, see `Source.read`. Several threads may read several blocks."""
        with self._opening:
            blocks = self._expected.pop(box, None)
            layer = self._layer(blocks) if blocks else None
        if layer is None:
            return self._read(box)
        layer.decode(self._read)
        values = layer.blocks.take(box)
        with self._opening:
            layer.unread -= 1
            if not layer.unread:
                self._in_memory -= layer.blocks.bytes_in_memory
                del self._layers[_layer_of(box)]
        return values

    def _layer(self, boxes: list[Box]) -> "_Layer":
        """Return the open layer of some blocks. The first block of a layer opens it."""
        key = _layer_of(boxes[0])
        if key not in self._layers:
            self._layers[key] = _Layer(boxes, self.source.sections_together, self._room(boxes))
        return self._layers[key]

    def _room(self, boxes: list[Box]) -> "_Blocks":
        lead = (self.source.channels,) if self.source.channels > 1 else ()
        size = sum(box.size for box in boxes) * prod(lead) * self.source.dtype.itemsize
        if self._in_memory + size > self._kept_bytes:
            return _OnDisk(boxes, lead, self.source.dtype, self._folder, size)
        self._in_memory += size
        return _InMemory(boxes, lead, self.source.dtype)

    def _read(self, box: Box) -> np.ndarray:
        with self._reading:
            return self.source.read(box)


def _layer_of(box: Box) -> tuple[int, int]:
    return box.start[0], box.stop[0]


class _Layer:
    """The blocks of a layer that are yet to be made, and the sections that are yet to be decoded for them."""

    def __init__(self, boxes: Sequence[Box], sections_together: int, blocks: "_Blocks") -> None:
        self.boxes, self.blocks, self.unread = boxes, blocks, len(boxes)
        first, stop = _layer_of(boxes[0])
        depth = min(sections_together, stop - first)
        self._waiting = deque((z, min(z + depth, stop)) for z in range(first, stop, depth))
        self._undecoded = len(self._waiting)
        self._failure: Exception | None = None
        self._changed = threading.Condition()

    def decode(self, read: "Read") -> None:
        """Decode sections until none of the layer is left, also by other threads."""
        for first, stop in self._sections():
            try:
                self._cut(read, first, stop)
            except Exception as error:
                self._finish_one(error)
                raise
            self._finish_one()

    def _sections(self) -> Iterator[tuple[int, int]]:
        """Yield sections to decode; end once all are decoded."""
        while True:
            with self._changed:
                while not self._waiting and self._undecoded and self._failure is None:
                    self._changed.wait()
                if self._failure is not None:
                    raise self._failure
                if not self._undecoded:
                    return
                sections = self._waiting.popleft()
            yield sections

    def _finish_one(self, failure: Exception | None = None) -> None:
        with self._changed:
            self._undecoded -= 1
            self._failure = self._failure or failure
            if self._failure is not None or not self._undecoded:
                self._changed.notify_all()

    def _cut(self, read: "Read", first: int, stop: int) -> None:
        """Decode sections as far as the blocks reach, and keep the part of each block."""
        low = tuple(min(box.start[axis] for box in self.boxes) for axis in (1, 2))
        high = tuple(max(box.stop[axis] for box in self.boxes) for axis in (1, 2))
        values = read(Box((first, *low), (stop, *high)))
        for box in self.boxes:
            (_, y, x), z = box.relative_to((0, *low)).slices, first - box.start[0]
            self.blocks.put(box, z, values[..., y, x])


class Read(Protocol):
    """A function that returns the voxels of a box."""

    def __call__(self, box: Box, /) -> np.ndarray:
        """Return the voxels."""


class _Blocks(Protocol):
    """Blocks that are put together section by section."""

    bytes_in_memory: int

    def put(self, box: Box, z: int, values: np.ndarray) -> None:
        """Keep sections of a block; the first is section `z` of the block."""

    def take(self, box: Box) -> np.ndarray:
        """Return a whole block, which is not kept any longer."""


class _InMemory:
    """Blocks in memory."""

    def __init__(self, boxes: Sequence[Box], lead: Index, dtype: np.dtype) -> None:
        self._blocks = {box: np.empty((*lead, *box.shape), dtype) for box in boxes}
        self.bytes_in_memory = sum(values.nbytes for values in self._blocks.values())

    def put(self, box: Box, z: int, values: np.ndarray) -> None:
        """Copy sections into the block."""
        self._blocks[box][..., z : z + values.shape[-3], :, :] = values

    def take(self, box: Box) -> np.ndarray:
        """Return a block."""
        return self._blocks.pop(box)


class _OnDisk:
    """Blocks in a scratch file, one after the other. It is read and written at offsets: a map would count as memory."""

    bytes_in_memory = 0

    def __init__(self, boxes: Sequence[Box], lead: Index, dtype: np.dtype, folder: Path, size: int) -> None:
        self._lead, self._dtype = lead, dtype
        ends = np.cumsum([0, *(prod(lead) * box.size * dtype.itemsize for box in boxes)])
        self._begin = dict(zip(boxes, ends.tolist(), strict=False))
        if shutil.disk_usage(folder).free < size:
            raise OSError(
                errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} for {size / 1e6:.1f} MB of decoded sections", str(folder)
            )
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed when it is dropped

    def put(self, box: Box, z: int, values: np.ndarray) -> None:
        """Write sections of every channel to their offsets in the file."""
        depth, *sides = values.shape[-3:]
        section = prod(sides) * self._dtype.itemsize
        for channel, part in enumerate(values.reshape(-1, depth, *sides)):
            offset = self._begin[box] + (channel * box.shape[0] + z) * section
            content = np.ascontiguousarray(part).data.cast("B")
            while content:
                written = os.pwrite(self._file.fileno(), content, offset)
                content, offset = content[written:], offset + written

    def take(self, box: Box) -> np.ndarray:
        """Read a block."""
        values = np.empty((*self._lead, *box.shape), self._dtype)
        into, offset = values.data.cast("B"), self._begin[box]
        while into:
            count = os.preadv(self._file.fileno(), [into], offset)
            if not count:
                raise OSError(errno.EIO, "the scratch file of decoded sections is cut short")
            into, offset = into[count:], offset + count
        return values
