"""Divide the blocks of a volume between jobs: contiguous ranges of the scan order, of nearly equal size.

```
volume, blocks of (1, 4, 4)            scan order        2 block ranges
+----+----+--+
|    |    |  |  <- the last block      0  1  2           0-of-2: 0 1 2
+----+----+--+     of a row ends       3  4  5           1-of-2: 3 4 5
|    |    |  |     at the volume's
+----+----+--+     face
```

A rule may take several blocks together, such as whole layers of blocks (`together` below). Its ranges then begin and
end between layers, and there may be fewer of them than of other rules.
"""

from itertools import product
from math import ceil, prod
from typing import Literal

from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid

JOB_VOXELS = 2**28
"""Least voxels per job by default: seconds to minutes of work, while a job takes seconds to start."""
MAX_AUTO_RANGES = 1000
"""Most block ranges per volume by default, so that Snakemake plans a volume of any size within half a minute."""


def voxels_per_job(shape: Index, asked: int | Literal["auto"]) -> int:
    """Return the voxels per block range of a volume: as configured, or a default for `auto`.

    >>> voxels_per_job((100, 1000, 1000), "auto") == 2**28, voxels_per_job((10_000, 10_000, 10_000), "auto")
    (True, 1000000000)
    """
    return max(JOB_VOXELS, ceil(prod(shape) / MAX_AUTO_RANGES)) if asked == "auto" else asked


def block_range_names(grid: Grid, job_voxels: int, together: int = 1) -> list[str]:
    """Return the names ``{k}-of-{n}`` of a grid's block ranges, each of about ``job_voxels`` voxels, at least a block.

    Parameters
    ----------
    together : int
        Blocks that a job takes together, such as those of a layer; the last ones of the grid may be fewer.

    >>> block_range_names(Grid((1, 8, 8), (1, 4, 4)), job_voxels=32)
    ['0-of-2', '1-of-2']
    """
    count = block_range_count(grid, job_voxels, together)
    return [f"{k}-of-{count}" for k in range(count)]


def block_range_count(grid: Grid, job_voxels: int, together: int = 1) -> int:
    """Return the number of block ranges of a grid, each of about ``job_voxels`` voxels.

    >>> grid = Grid((3, 8, 8), (1, 4, 4))
    >>> [block_range_count(grid, job_voxels=32, together=together) for together in (1, 4, 8)]
    [6, 3, 2]
    """
    return max(1, ceil(ceil(len(grid) / together) / max(1, job_voxels // (prod(grid.block) * together))))


def boxes_of_range(grid: Grid, name: str, together: int = 1) -> list[Box]:
    """Return the blocks of block range ``name``, in scan order. Every block belongs to exactly one block range.

    Raises
    ------
    ValueError
        If the name does not have the form ``{k}-of-{n}`` with ``0 <= k < n``.
    """
    k, n = _parse_name(name)
    units = ceil(len(grid) / together)
    first, stop = (min(i * units // n * together, len(grid)) for i in (k, k + 1))
    return [grid.box(grid.index_of(number)) for number in range(first, stop)]


def ranges_around(grid: Grid, name: str, margin: Index, count: int | None = None, together: int = 1) -> list[str]:
    """Return the names of the block ranges with blocks within ``margin`` voxels of block range ``name``.

    Parameters
    ----------
    count, together : int
        Number of the block ranges that are returned some of, and blocks that each takes together. By default they are
        divided as `name` is.

    The range itself is among them; there may be a few more than necessary. Moving a block by (dz, dy, dx) blocks
    changes its number in scan order by a constant. A range of numbers therefore moves to a range of numbers, clipped at
    the volume's faces:

    ```
    0  1  2  3        one block around 5, 6: 0 to 3 | 4 to 7 | 8 to 11; returned are the ranges that own these blocks
    4 [5  6] 7
    8  9 10 11
    ```

    >>> ranges_around(Grid((1, 8, 8), (1, 2, 4)), "1-of-4", (0, 1, 1))
    ['0-of-4', '1-of-4', '2-of-4']
    >>> ranges_around(Grid((2, 8, 8), (1, 2, 4)), "5-of-8", (0, 0, 0), count=2, together=8)
    ['1-of-2']
    """
    k, n = _parse_name(name)
    count = n if count is None else count
    units = ceil(len(grid) / together)
    blocks, (_, along_y, along_x) = len(grid), grid.counts
    z, y, x = (ceil(m / b) for m, b in zip(margin, grid.block, strict=True))
    first, last, found = k * blocks // n, (k + 1) * blocks // n - 1, set()
    for dz, dy in product(range(-z, z + 1), range(-y, y + 1)):
        low, high = (number + (dz * along_y + dy) * along_x for number in (first, last))
        low = max(0, low - min(x, low % along_x))  # not beyond the ends of the row
        high = min(blocks - 1, high + min(x, along_x - 1 - high % along_x))
        if low <= high:
            owners = [((block // together + 1) * count - 1) // units for block in (low, high)]
            found |= set(range(owners[0], owners[1] + 1))
    return [f"{number}-of-{count}" for number in sorted(found)]


def ranges_of_layers(grid: Grid, layers: range, count: int) -> range:
    """Return the numbers of the block ranges, out of `count`, that hold blocks of some layers.

    >>> grid = Grid((3, 8, 8), (1, 4, 4))
    >>> ranges_of_layers(grid, range(1, 2), count=2), ranges_of_layers(grid, range(0, 1), count=12)
    (range(0, 2), range(0, 4))
    """
    per_layer, blocks = prod(grid.counts[1:]), len(grid)
    first, last = (
        ((block + 1) * count - 1) // blocks for block in (layers.start * per_layer, layers.stop * per_layer - 1)
    )
    return range(first, last + 1)


def _parse_name(name: str) -> tuple[int, int]:
    part, _, total = name.partition("-of-")
    if not (part.isdigit() and total.isdigit() and int(part) < int(total)):
        raise ValueError(f"block range name {name!r} is not of the form 0-of-4, 1-of-4, ...")
    return int(part), int(total)
