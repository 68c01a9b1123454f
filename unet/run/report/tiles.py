"""Tiles of the report's viewer: which levels of a volume are stored, how bricks are cut, and their WebP pictures.

A tile is a brick of one layer on one level. Its sections lie one below the other in one picture, so that a browser can
draw all three planes from it:

```
brick (2, 3, 4)          picture (6, 4)          plane xy: the rows of one section
section 0  + section 1   section 0, rows 0 1 2   plane xz: one row of each section
                         section 1, rows 0 1 2   plane yz: one column of each section
```
"""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid
from unet.geometry.offsets import is_isotropic
from unet.run.report.webp import webp_bytes

ISOTROPIC_BRICK, ANISOTROPIC_BRICK = (32, 128, 128), (8, 256, 256)
"""Pixels of a brick (z, y, x): 2 MiB once a browser has decoded it."""
SMALLEST_LEVEL = 2**18
"""Pixels of a level below which no coarser one is made."""
SCREEN_PX = 1024
"""Longest side in pixels of a section that a browser draws without a coarser level."""
MIN_BYTES, MAX_BYTES = 0.02, 1.0
"""Bytes per pixel of all layers together that no volume stays below, and that hardly any exceeds. A level too large for
the first is not tried, one that fits the second is tried without an estimate."""
SAMPLES = 3
"""Bricks that are encoded to estimate the size of a level."""
STORED, EMPTY = "1", "0"
"""States of a tile: there is a file, or nothing is to be drawn."""


@dataclass(frozen=True)
class TileLevel:
    """A level of the tiles of a volume.

    Attributes
    ----------
    level : level of the stores' pyramid that is read
    stride : (z, y, x); every so many voxels of that level are taken
    factor : (z, y, x); voxels of the volume per pixel
    shape : (z, y, x) in pixels
    """

    level: int
    stride: Index
    factor: Index
    shape: Index

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return math.prod(self.shape)

    def voxels(self, box: Box) -> Box:
        """Return the voxels of the stores' level that a box of pixels is taken from; it may exceed the volume."""
        corners = (tuple(a * s for a, s in zip(corner, self.stride, strict=True)) for corner in (box.start, box.stop))
        return Box(*corners)


class Layers(Protocol):
    """The layers of a volume, as pictures."""

    @property
    def names(self) -> Sequence[str]:
        """Return the names of the layers, the lowest first."""

    def pictures(self, layer: str, level: TileLevel, box: Box) -> NDArray[np.uint8]:
        """Return a box of pixels as grey values ``(z, y, x)`` or as RGBA ``(z, y, x, 4)``."""


@dataclass
class LevelTiles:
    """The tiles of one level, or of some of its bricks.

    Attributes
    ----------
    level : where they lie
    grid : the bricks of the level, in pixels
    bricks : indices of those that have tiles, in the order in which they were made
    files : (layer, index of the brick) -> WebP
    """

    level: TileLevel
    grid: Grid
    bricks: list[Index] = field(default_factory=list)
    files: dict[tuple[str, Index], bytes] = field(default_factory=dict)

    @property
    def file_bytes(self) -> int:
        """Size of all files."""
        return sum(map(len, self.files.values()))

    @property
    def is_whole(self) -> bool:
        """True where every brick of the level is there."""
        return len(self.bricks) == len(self.grid)

    def states(self, layer: str) -> str:
        """Return one character for each of `bricks`: `STORED` or `EMPTY`."""
        return "".join(STORED if (layer, index) in self.files else EMPTY for index in self.bricks)


def brick_shape(voxel_size_nm: Sequence[float]) -> Index:
    """Return the pixels of a brick (z, y, x) for voxels of a size (nm)."""
    return ISOTROPIC_BRICK if is_isotropic(voxel_size_nm) else ANISOTROPIC_BRICK


def tile_levels(shape: Index, factors: Sequence[Index], voxel_size_nm: Sequence[float]) -> list[TileLevel]:
    """Return the levels that tiles may have, the finest first: those of the stores, and coarser ones by a stride.

    Parameters
    ----------
    shape : (z, y, x) of the volume in voxels
    factors : factors of the stores' levels, see `unet.geometry.pyramid.pyramid_factors`
    voxel_size_nm : (z, y, x) in nm

    >>> [level.factor for level in tile_levels((64, 1024, 1024), [(1, 1, 1), (1, 2, 2)], (40, 10, 10))]
    [(1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8), (4, 16, 16)]
    """
    levels = [_level(shape, number, factor, factor) for number, factor in enumerate(factors)]
    while levels[-1].pixels > SMALLEST_LEVEL:
        last = levels[-1].factor
        sizes = [v * f for v, f in zip(voxel_size_nm, last, strict=True)]
        step = (2 if size <= min(sizes) * 1.4143 else 1 for size in sizes)
        factor = tuple(f * s for f, s in zip(last, step, strict=True))
        levels.append(_level(shape, len(factors) - 1, factors[-1], factor))
    return levels


def _level(shape: Index, number: int, read: Index, factor: Index) -> TileLevel:
    """Return the level with so many voxels per pixel, read from a level of the stores."""
    stride = tuple(f // r for f, r in zip(factor, read, strict=True))
    stored = (-(-n // r) for n, r in zip(shape, read, strict=True))
    return TileLevel(number, stride, factor, tuple(-(-n // s) for n, s in zip(stored, stride, strict=True)))


def stacked(brick: NDArray[Any]) -> NDArray[Any]:
    """Return the sections of a brick, ``(z, y, x, ...)``, one below the other, ``(z * y, x, ...)``.

    >>> stacked(np.array([[[1, 2]], [[3, 4]]])).tolist()
    [[1, 2], [3, 4]]
    """
    return brick.reshape(-1, *brick.shape[2:])


def tiles_of_bricks(layers: Layers, tiles: LevelTiles, indices: Sequence[Index], budget: int) -> bool:
    """Add bricks to the tiles of a level until `budget` bytes are spent; return whether all of them fit.

    A brick is added with all of its layers or not at all. Of colours, a brick without any is not stored.
    """
    for index in indices:
        encoded = dict(_encoded(layers, tiles, index))
        budget -= sum(map(len, encoded.values()))
        if budget < 0:
            return False
        tiles.files |= encoded
        tiles.bricks.append(index)
    return True


def _encoded(layers: Layers, tiles: LevelTiles, index: Index) -> Iterator[tuple[tuple[str, Index], bytes]]:
    """Yield the files of one brick."""
    for layer in layers.names:
        drawn = layers.pictures(layer, tiles.level, tiles.grid.box(index))
        if drawn.ndim == 3 or drawn[..., 3].any():
            yield (layer, index), webp_bytes(stacked(drawn))


def whole_level(layers: Layers, levels: Sequence[TileLevel], brick: Index, budget: int) -> tuple[int, LevelTiles]:
    """Return number and tiles of the finest level that fits the budget as a whole; of the coarsest if none does.

    A level is estimated from a few bricks before it is made, so that the budget bounds the time, too.

    Parameters
    ----------
    layers : what is drawn
    levels : the finest first, see `tile_levels`
    brick : pixels of a brick (z, y, x)
    budget : bytes
    """
    for number, level in enumerate(levels[:-1]):
        tiles = LevelTiles(level, Grid(level.shape, brick))
        if level.pixels * MIN_BYTES > budget:
            continue
        if level.pixels * MAX_BYTES > budget and _estimate(layers, tiles) > budget:
            continue
        if tiles_of_bricks(layers, tiles, list(tiles.grid.indices()), budget):
            return number, tiles
    return len(levels) - 1, all_tiles(layers, levels[-1], brick)


def _estimate(layers: Layers, tiles: LevelTiles) -> float:
    """Return the bytes that a level would take, from a few bricks of it."""
    numbers = sorted({round(i * (len(tiles.grid) - 1) / (SAMPLES - 1)) for i in range(SAMPLES)})
    some = [tiles.grid.index_of(number) for number in numbers]
    tried = LevelTiles(tiles.level, tiles.grid)
    tiles_of_bricks(layers, tried, some, sys.maxsize)
    return tried.file_bytes * tiles.level.pixels / sum(tiles.grid.box(index).size for index in some)


def all_tiles(layers: Layers, level: TileLevel, brick: Index) -> LevelTiles:
    """Return all tiles of a level."""
    tiles = LevelTiles(level, Grid(level.shape, brick))
    tiles_of_bricks(layers, tiles, list(tiles.grid.indices()), sys.maxsize)
    return tiles


def tiles_around(
    layers: Layers, level: TileLevel, brick: Index, places: Sequence[Index], budget: int
) -> LevelTiles | None:
    """Return the tiles of a level at some voxels ``(z, y, x)``, the first positions first; None if not one fits."""
    tiles = LevelTiles(level, Grid(level.shape, brick))
    sides = [f * b for f, b in zip(level.factor, brick, strict=True)]
    around = dict.fromkeys(tuple(at // n for at, n in zip(place, sides, strict=True)) for place in places)
    tiles_of_bricks(layers, tiles, list(around), budget)
    return tiles if tiles.files else None


def pyramid_tiles(
    layers: Layers, levels: Sequence[TileLevel], brick: Index, budget: int, places: Sequence[Index] = ()
) -> list[LevelTiles]:
    """Return the tiles of a volume, the finest level first.

    1. The finest level that fits nine tenths of the budget is stored as a whole.
    2. So are coarser ones, each by four times, until a section fits a screen: a sixteenth of the bytes or less.
    3. What is left of the budget shows the finest level of all at `places`.

    Parameters
    ----------
    layers : what is drawn
    levels : the finest first, see `tile_levels`
    brick : pixels of a brick (z, y, x)
    budget : bytes
    places : voxels (z, y, x), the most interesting first
    """
    number, finest = whole_level(layers, levels, brick, budget * 9 // 10)
    stored = [finest]
    for level in levels[number + 2 :: 2]:
        if max(stored[-1].level.shape[1:]) <= SCREEN_PX:
            break
        stored.append(all_tiles(layers, level, brick))
    if number > 0:
        left = budget - sum(tiles.file_bytes for tiles in stored)
        detail = tiles_around(layers, levels[0], brick, places, left)
        stored[:0] = [detail] if detail else []
    return stored
