"""Positions where a finished volume would show its blocks, and how much it shows them.

A result that does not depend on the cut is the same in the middle of a block and at its border. So crops are predicted
again where borders are, and the jumps across block faces are compared with those inside blocks:

```
                      block border
      |               |               |           crops   corner of four blocks, first block of a block range,
      |   inside      | x             |                     corner of the volume, anywhere, in turn
      |---------------+---------------|
      |               |  ^            |           seams     jump from the voxel before a border to the one behind it,
      |               |  jump         |                     over the mean of the two jumps beside it
```
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice, product
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unet.geometry.block_ranges import boxes_of_range
from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid

PLANES = 64
"""Stretches of block borders that are looked at along each axis."""
LARGEST_STRETCH = 512
"""Voxels along each side of such a stretch."""


class Readable(Protocol):
    """A store; `unet.storage.zarr_store.Image` has it."""

    @property
    def grid(self) -> Grid:
        """The blocks of the volume."""

    def read(self, box: Box) -> NDArray[Any]:
        """Return the voxels `(c, z, y, x)` of a box."""


def crops_to_check(grid: Grid, block_ranges: list[str], side: int, number: int, seed: int) -> list[tuple[str, Box]]:
    """Return the positions where a cut would show first, in turn: the kind of position, and a crop of one section.

    Parameters
    ----------
    grid
        The blocks of the volume.
    block_ranges
        Names of the jobs that wrote it.
    side
        Side of a crop in px; smaller at the volume's faces.
    number, seed
        Number of crops, and seed of the random positions.
    """
    rng = np.random.default_rng(seed)
    kinds: dict[str, Callable[[], Index]] = {
        "block border": lambda: _block_corner(rng, grid),
        "block range border": lambda: _range_corner(rng, grid, block_ranges),
        "face of the volume": lambda: _volume_corner(rng, grid),
        "anywhere": lambda: tuple(int(rng.integers(n)) for n in grid.shape),
    }
    return [(kind, _around(kinds[kind](), side, grid.shape)) for kind in islice(cycle(kinds), number)]


def _block_corner(rng: np.random.Generator, grid: Grid) -> Index:
    """Return a corner between blocks; along an axis with one block, any position."""
    return tuple(
        int(rng.integers(1, count)) * block if count > 1 else int(rng.integers(n))
        for n, count, block in zip(grid.shape, grid.counts, grid.block, strict=True)
    )


def _range_corner(rng: np.random.Generator, grid: Grid, block_ranges: list[str]) -> Index:
    """Return the first voxel of a block range: the block before it was written by another job."""
    firsts = [boxes[0].start for name in block_ranges[1:] if (boxes := boxes_of_range(grid, name))]
    return firsts[int(rng.integers(len(firsts)))] if firsts else _block_corner(rng, grid)


def _volume_corner(rng: np.random.Generator, grid: Grid) -> Index:
    return tuple(int(rng.integers(2)) * (n - 1) for n in grid.shape)


def _around(centre: Index, side: int, shape: Index) -> Box:
    z, y, x = centre
    half = side // 2
    return Box((z, y - half, x - half), (z + 1, y - half + side, x - half + side)).clipped(shape)


@dataclass(frozen=True)
class SeamJumps:
    """Mean jump across block borders, mean of the jumps beside them, and number of voxels compared."""

    across: float
    beside: float
    voxels: int

    @property
    def score(self) -> float:
        """`across / beside`: 1 where borders are like any other voxels, and where no voxel differs."""
        if self.beside == 0:
            return 1.0 if self.across == 0 else float("inf")
        return float(self.across / self.beside)


def seams(image: Readable, seed: int = 0) -> SeamJumps:
    """Measure the jumps of the stored values across random stretches of block borders, and beside them.

    Of the four voxels a, b | c, d around a border these are |c - b|, and the mean of |b - a| and |d - c|. Sections are
    looked at one by one, so borders along z do not count: two sections of a 2-D network differ as they are.

    Parameters
    ----------
    image
        Probabilities; read stretch by stretch.
    seed
        Seed of the choice, where there are more than `PLANES` stretches along an axis.
    """
    rng, across, beside, voxels = np.random.default_rng(seed), 0.0, 0.0, 0
    for axis in (1, 2):
        borders = _stretches(image.grid, axis)
        chosen = rng.permutation(len(borders))[:PLANES]
        for box in (borders[i] for i in sorted(chosen)):
            values = np.moveaxis(image.read(box).astype(np.float64), axis - 3, 0)
            before, jump, behind = np.abs(np.diff(values, axis=0))
            across, beside = across + jump.sum(), beside + (before.sum() + behind.sum()) / 2
            voxels += jump.size
    count = max(voxels, 1)
    return SeamJumps(across / count, beside / count, voxels)


def _stretches(grid: Grid, axis: int) -> list[Box]:
    """Return boxes of four voxels across each block border along an axis, at most one section and one block wide."""
    other = 3 - axis
    faces = range(grid.block[axis], grid.shape[axis], grid.block[axis])
    borders = [b for b in faces if 2 <= b <= grid.shape[axis] - 2]
    width = min(grid.block[other], LARGEST_STRETCH)
    firsts = range(0, grid.shape[other], width)
    every = max(1, grid.shape[0] * len(borders) * len(firsts) // (100 * PLANES))  # of a large volume a sample
    places = islice(product(range(grid.shape[0]), borders, firsts), 0, None, every)
    boxes = []
    for z, border, first in places:
        start, stop = [z, 0, 0], [z + 1, 0, 0]
        start[axis], stop[axis] = border - 2, border + 2
        start[other], stop[other] = first, min(first + width, grid.shape[other])
        boxes.append(Box(tuple(start), tuple(stop)))
    return boxes
