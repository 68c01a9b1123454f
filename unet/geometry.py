"""Boxes of voxels, the grid of blocks that covers a volume, and the shards that share its blocks out.

```
volume, blocks of (1, 4, 4)            scan order        2 shards
+----+----+--+
|    |    |  |  <- the last block      0  1  2           0-of-2: 0 1 2
+----+----+--+     of a row is         3  4  5           1-of-2: 3 4 5
|    |    |  |     cut by the face
+----+----+--+
```
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import ceil, prod
from typing import Any, Self

Index = tuple[int, ...]


@dataclass(frozen=True, order=True)
class Box:
    """Half-open box of voxels, ``start <= voxel < stop``, usually with axes ``(z, y, x)``.

    >>> box = Box((0, 2, 2), (1, 6, 5))
    >>> box.shape, box.size
    ((1, 4, 3), 12)
    >>> box.grown((0, 1, 1)).clipped((1, 6, 9))
    Box(start=(0, 1, 1), stop=(1, 6, 6))
    """

    start: Index
    stop: Index

    @classmethod
    def of_shape(cls, shape: Index) -> Self:
        """The box from the origin to ``shape``."""
        return cls((0,) * len(shape), tuple(int(n) for n in shape))

    @property
    def shape(self) -> Index:
        """Voxels along each axis; never negative."""
        return tuple(max(0, hi - lo) for lo, hi in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Number of voxels."""
        return prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """To index an array of the whole volume."""
        return tuple(slice(lo, hi) for lo, hi in zip(self.start, self.stop, strict=True))

    @property
    def trailing(self) -> tuple[Any, ...]:
        """To index the last axes of an array of the whole volume, whatever axes stand before them."""
        return (..., *self.slices)

    def grown(self, margin: Index) -> "Box":
        """Larger by ``margin`` on both sides of each axis; may exceed the volume."""
        return Box(
            tuple(lo - m for lo, m in zip(self.start, margin, strict=True)),
            tuple(hi + m for hi, m in zip(self.stop, margin, strict=True)),
        )

    def intersected(self, other: "Box") -> "Box":
        """The common voxels; empty (size 0) where there are none."""
        start = tuple(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = tuple(min(a, b) for a, b in zip(self.stop, other.stop, strict=True))
        return Box(start, tuple(max(lo, hi) for lo, hi in zip(start, stop, strict=True)))

    def clipped(self, shape: Index) -> "Box":
        """The part inside a volume of ``shape``."""
        return self.intersected(Box.of_shape(shape))

    def shifted(self, offset: Index) -> "Box":
        """Moved by ``offset`` voxels."""
        return Box(
            tuple(lo + d for lo, d in zip(self.start, offset, strict=True)),
            tuple(hi + d for hi, d in zip(self.stop, offset, strict=True)),
        )

    def relative_to(self, origin: Index) -> "Box":
        """The same voxels, counted from ``origin``."""
        return self.shifted(tuple(-d for d in origin))

    def contains(self, other: "Box") -> bool:
        """Whether every voxel of ``other`` is in this box."""
        return self.intersected(other).shape == other.shape

    def __str__(self) -> str:
        return ",".join(f"{lo}:{hi}" for lo, hi in zip(self.start, self.stop, strict=True))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Inverse of ``str(box)``.

        >>> Box.parse("0:1,2:6")
        Box(start=(0, 2), stop=(1, 6))
        """
        pairs = [part.split(":") for part in text.split(",")]
        return cls(tuple(int(lo) for lo, _ in pairs), tuple(int(hi) for _, hi in pairs))


@dataclass(frozen=True)
class Grid:
    """The blocks that cover a volume, in scan order (the last axis runs fastest).

    >>> grid = Grid(shape=(3, 10, 10), block=(2, 4, 10))
    >>> grid.counts, len(grid)
    ((2, 3, 1), 6)
    >>> print(grid.box((1, 2, 0)))
    2:3,8:10,0:10
    """

    shape: Index
    block: Index

    @property
    def counts(self) -> Index:
        """Blocks along each axis."""
        return tuple(ceil(n / b) for n, b in zip(self.shape, self.block, strict=True))

    def __len__(self) -> int:
        return prod(self.counts)

    def box(self, index: Index) -> Box:
        """The voxels of one block, cut at the volume's faces."""
        start = tuple(i * b for i, b in zip(index, self.block, strict=True))
        return Box(start, tuple(a + b for a, b in zip(start, self.block, strict=True))).clipped(self.shape)

    def touched(self, box: Box) -> "list[Box]":
        """The blocks that share voxels with a box, in scan order.

        >>> [str(block) for block in Grid((1, 10, 10), (1, 4, 10)).touched(Box((0, 3, 0), (1, 5, 1)))]
        ['0:1,0:4,0:10', '0:1,4:8,0:10']
        """
        return [self.box(index) for index in self.touched_indices(box)]

    def touched_indices(self, box: Box) -> Iterator[Index]:
        """Their indices."""
        spans = (range(lo // b, -(-hi // b)) for lo, hi, b in zip(box.start, box.stop, self.block, strict=True))
        return product(*spans)

    def indices(self) -> Iterator[Index]:
        """Every block's index in scan order."""
        return product(*(range(n) for n in self.counts))

    def boxes(self) -> list[Box]:
        """Every block's voxels in scan order."""
        return [self.box(index) for index in self.indices()]


def shard_names(grid: Grid, shard_voxels: int) -> list[str]:
    """Names ``{k}-of-{n}`` of the shards of a grid when each holds about ``shard_voxels`` voxels, at least one block.

    >>> shard_names(Grid((1, 8, 8), (1, 4, 4)), shard_voxels=32)
    ['0-of-2', '1-of-2']
    """
    blocks_each = max(1, shard_voxels // prod(grid.block))
    count = max(1, ceil(len(grid) / blocks_each))
    return [f"{k}-of-{count}" for k in range(count)]


def shard_boxes(grid: Grid, name: str) -> list[Box]:
    """The blocks of shard ``name``: an even share of the scan order, so that every block has exactly one owner.

    Raises
    ------
    ValueError
        If the name is not of the form ``{k}-of-{n}`` with ``0 <= k < n``.
    """
    part, _, total = name.partition("-of-")
    if not (part.isdigit() and total.isdigit() and int(part) < int(total)):
        raise ValueError(f"shard name {name!r} is not of the form 0-of-4, 1-of-4, ...")
    k, n = int(part), int(total)
    boxes = grid.boxes()
    return boxes[k * len(boxes) // n : (k + 1) * len(boxes) // n]
