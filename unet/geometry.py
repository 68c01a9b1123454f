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
from typing import Any, Literal, Self

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

    def index_of(self, number: int) -> Index:
        """The index of a block by its number in scan order.

        >>> Grid(shape=(3, 10, 10), block=(2, 4, 10)).index_of(5)
        (1, 2, 0)
        """
        index: list[int] = []
        for n in reversed(self.counts):
            number, i = divmod(number, n)
            index.insert(0, i)
        return tuple(index)

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

    def layer(self, z: int) -> Iterator[Index]:
        """Those of one layer of blocks, all with this index along z.

        >>> list(Grid(shape=(3, 10, 10), block=(2, 4, 10)).layer(1))
        [(1, 0, 0), (1, 1, 0), (1, 2, 0)]
        """
        return product((z,), *(range(n) for n in self.counts[1:]))

    def boxes(self) -> list[Box]:
        """Every block's voxels in scan order."""
        return [self.box(index) for index in self.indices()]


JOB_VOXELS = 2**28
"""Of a job where nothing else is said: seconds to minutes of work, against the seconds that a job takes to start."""
AUTO_SHARDS = 1000
"""At most of a volume where nothing else is said, so that Snakemake plans a volume of any size within half a minute."""


def voxels_of_shards(shape: Index, asked: int | Literal["auto"]) -> int:
    """Voxels of a shard of a volume, as asked for.

    >>> voxels_of_shards((100, 1000, 1000), "auto") == 2**28, voxels_of_shards((10_000, 10_000, 10_000), "auto")
    (True, 1000000000)
    """
    return max(JOB_VOXELS, ceil(prod(shape) / AUTO_SHARDS)) if asked == "auto" else asked


def shard_names(grid: Grid, shard_voxels: int) -> list[str]:
    """Names ``{k}-of-{n}`` of the shards of a grid when each holds about ``shard_voxels`` voxels, at least one block.

    >>> shard_names(Grid((1, 8, 8), (1, 4, 4)), shard_voxels=32)
    ['0-of-2', '1-of-2']
    """
    count = shard_count(grid, shard_voxels)
    return [f"{k}-of-{count}" for k in range(count)]


def shard_count(grid: Grid, shard_voxels: int) -> int:
    """How many names `shard_names` gives."""
    return max(1, ceil(len(grid) / max(1, shard_voxels // prod(grid.block))))


def shard_boxes(grid: Grid, name: str) -> list[Box]:
    """The blocks of shard ``name``: an even share of the scan order, so that every block has exactly one owner.

    Raises
    ------
    ValueError
        If the name is not of the form ``{k}-of-{n}`` with ``0 <= k < n``.
    """
    k, n = _parsed(name)
    return [grid.box(grid.index_of(number)) for number in range(k * len(grid) // n, (k + 1) * len(grid) // n)]


def shards_around(grid: Grid, name: str, margin: Index) -> list[str]:
    """The shards whose blocks lie within ``margin`` voxels of those of shard ``name``, itself among them; maybe more.

    A block so many blocks further along z, y and x has a number that is larger by a constant. So what lies there of a
    run of blocks is a run as well, or what the faces leave of it:

    ```
    0  1  2  3        around 5, 6 by one block: 0 to 3 | 4 to 7 | 8 to 11; the shards are those that own these numbers
    4 [5  6] 7
    8  9 10 11
    ```

    >>> shards_around(Grid((1, 8, 8), (1, 2, 4)), "1-of-4", (0, 1, 1))
    ['0-of-4', '1-of-4', '2-of-4']
    """
    k, n = _parsed(name)
    blocks, (_, along_y, along_x) = len(grid), grid.counts
    z, y, x = (ceil(m / b) for m, b in zip(margin, grid.block, strict=True))
    first, last, found = k * blocks // n, (k + 1) * blocks // n - 1, set()
    for dz, dy in product(range(-z, z + 1), range(-y, y + 1)):
        low, high = (number + (dz * along_y + dy) * along_x for number in (first, last))
        low = max(0, low - min(x, low % along_x))  # not beyond the row's ends
        high = min(blocks - 1, high + min(x, along_x - 1 - high % along_x))
        found |= set(range(((low + 1) * n - 1) // blocks, ((high + 1) * n - 1) // blocks + 1)) if low <= high else set()
    return [f"{number}-of-{n}" for number in sorted(found)]


def _parsed(name: str) -> tuple[int, int]:
    part, _, total = name.partition("-of-")
    if not (part.isdigit() and total.isdigit() and int(part) < int(total)):
        raise ValueError(f"shard name {name!r} is not of the form 0-of-4, 1-of-4, ...")
    return int(part), int(total)
