"""Divide the blocks of a volume between jobs: contiguous ranges of the scan order, of nearly equal size.

```
volume, blocks of (1, 4, 4)            scan order        2 block ranges
+----+----+--+
|    |    |  |  <- the last block      0  1  2           0-of-2: 0 1 2
+----+----+--+     of a row ends       3  4  5           1-of-2: 3 4 5
|    |    |  |     at the volume's
+----+----+--+     face
```
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


def block_range_names(grid: Grid, job_voxels: int) -> list[str]:
    """Return the names ``{k}-of-{n}`` of a grid's block ranges, each of about ``job_voxels`` voxels, at least a block.

    >>> block_range_names(Grid((1, 8, 8), (1, 4, 4)), job_voxels=32)
    ['0-of-2', '1-of-2']
    """
    count = block_range_count(grid, job_voxels)
    return [f"{k}-of-{count}" for k in range(count)]


def block_range_count(grid: Grid, job_voxels: int) -> int:
    """Return the number of block ranges of a grid, each of about ``job_voxels`` voxels."""
    return max(1, ceil(len(grid) / max(1, job_voxels // prod(grid.block))))


def boxes_of_range(grid: Grid, name: str) -> list[Box]:
    """Return the blocks of block range ``name``, in scan order. Every block belongs to exactly one block range.

    Raises
    ------
    ValueError
        If the name does not have the form ``{k}-of-{n}`` with ``0 <= k < n``.
    """
    k, n = _parse_name(name)
    return [grid.box(grid.index_of(number)) for number in range(k * len(grid) // n, (k + 1) * len(grid) // n)]


def ranges_around(grid: Grid, name: str, margin: Index) -> list[str]:
    """Return the names of the block ranges with blocks within ``margin`` voxels of block range ``name``.

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
    """
    k, n = _parse_name(name)
    blocks, (_, along_y, along_x) = len(grid), grid.counts
    z, y, x = (ceil(m / b) for m, b in zip(margin, grid.block, strict=True))
    first, last, found = k * blocks // n, (k + 1) * blocks // n - 1, set()
    for dz, dy in product(range(-z, z + 1), range(-y, y + 1)):
        low, high = (number + (dz * along_y + dy) * along_x for number in (first, last))
        low = max(0, low - min(x, low % along_x))  # not beyond the ends of the row
        high = min(blocks - 1, high + min(x, along_x - 1 - high % along_x))
        found |= set(range(((low + 1) * n - 1) // blocks, ((high + 1) * n - 1) // blocks + 1)) if low <= high else set()
    return [f"{number}-of-{n}" for number in sorted(found)]


def _parse_name(name: str) -> tuple[int, int]:
    part, _, total = name.partition("-of-")
    if not (part.isdigit() and total.isdigit() and int(part) < int(total)):
        raise ValueError(f"block range name {name!r} is not of the form 0-of-4, 1-of-4, ...")
    return int(part), int(total)
