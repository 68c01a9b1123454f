"""Tiles of the viewer: put together they equal the level, and they stay within their budget."""

from math import prod

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.array_layers import ArrayLayers, noise
from unet.geometry.box import Box, Index
from unet.geometry.pyramid import pyramid_factors
from unet.run.report.tiles import (
    SMALLEST_LEVEL,
    LevelTiles,
    TileLevel,
    all_tiles,
    brick_shape,
    pyramid_tiles,
    stacked,
    tile_levels,
    tiles_of_bricks,
)


def put_together(tiles: LevelTiles, layer: str) -> np.ndarray:
    """The level out of its tiles; 0 where none is stored."""
    level = np.zeros((*tiles.level.shape, 4), np.uint8)
    for (one, index), content in tiles.files.items():
        box = tiles.grid.box(index)
        if one == layer:
            picture = imagecodecs.webp_decode(content)
            level[box.slices][..., : picture.shape[-1]] = picture.reshape(*box.shape, -1)
            level[box.slices][..., picture.shape[-1] :] = 255  # a picture that is opaque has no alpha
    return level


sides = st.tuples(st.integers(1, 9), st.integers(1, 20), st.integers(1, 20))


@settings(max_examples=10, deadline=None)
@given(sides, sides, st.tuples(*[st.sampled_from([1, 2])] * 3))
def test_tiles_put_together_equal_the_level(shape: Index, brick: Index, factor: Index) -> None:
    colours = noise(shape)
    colours[: shape[0] // 2, ..., 3] = 0
    colours[colours[..., 3] == 0] = 0
    level = TileLevel(0, factor, factor, tuple(-(-n // f) for n, f in zip(shape, factor, strict=True)))
    tiles = all_tiles(ArrayLayers(truth=colours), level, brick)
    z, y, x = factor
    np.testing.assert_array_equal(put_together(tiles, "truth"), colours[::z, ::y, ::x])
    drawn = [bool(colours[::z, ::y, ::x][box.slices][..., 3].any()) for box in tiles.grid.boxes()]
    assert tiles.states("truth") == "".join("1" if one else "0" for one in drawn)


def test_sections_of_a_brick_lie_one_below_the_other() -> None:
    brick = np.arange(24).reshape(2, 3, 4)
    picture = stacked(brick)
    assert picture.shape == (6, 4)
    np.testing.assert_array_equal(picture[:3], brick[0])  # plane xy
    np.testing.assert_array_equal(picture[1::3], brick[:, 1])  # plane xz
    np.testing.assert_array_equal(picture[:, 2].reshape(2, 3), brick[:, :, 2])  # plane yz


@pytest.mark.parametrize(
    ("shape", "voxel"),
    [
        ((2000, 4000, 4000), (8, 8, 8)),
        ((10**5, 512, 512), (50, 4, 4)),
        ((1, 10**5, 10**5), (4, 4, 4)),
        ((1, 1, 1), (4, 4, 4)),
    ],
)
def test_levels_get_coarser_until_one_is_small(shape: Index, voxel: tuple[int, int, int]) -> None:
    factors = pyramid_factors(shape, (64, 256, 256), voxel)
    levels = tile_levels(shape, factors, voxel)
    assert [level.factor for level in levels[: len(factors)]] == factors
    assert all(level.stride == (1, 1, 1) for level in levels[: len(factors)])
    assert [level.pixels <= SMALLEST_LEVEL for level in levels[len(factors) - 1 :]] == [False] * (
        len(levels) - len(factors)
    ) + [True]
    for level in levels:
        read = factors[level.level]
        assert level.factor == tuple(r * s for r, s in zip(read, level.stride, strict=True))
        assert level.shape == tuple(-(-n // f) for n, f in zip(shape, level.factor, strict=True))


@pytest.mark.parametrize(("budget", "factor"), [(500, 32), (1_500, 8), (7_000, 4), (200_000, 1)])
def test_the_budget_holds_and_finer_levels_are_taken_where_it_allows(budget: int, factor: int) -> None:
    shape, brick, place = (4, 64, 64), (2, 16, 16), (3, 50, 18)
    levels = [  # noise: 4 bytes per pixel, 65 kB on the finest level
        TileLevel(0, (1, s, s), (1, s, s), (4, 64 // s, 64 // s)) for s in (1, 2, 4, 8, 32)
    ]
    stored = pyramid_tiles(ArrayLayers(truth=noise(shape)), levels, brick, budget, [place])
    assert sum(tiles.file_bytes for tiles in stored) <= budget
    whole = next(tiles for tiles in stored if tiles.is_whole)
    assert whole.level.factor[2] == factor
    index = tuple(at // b for at, b in zip(place, brick, strict=True))
    assert (("truth", index) in stored[0].files) == (budget >= 7_000)
    for detail in stored[:-1]:  # what is left shows full resolution at the place
        assert detail.level is levels[0]
        assert detail.bricks == [index]
        assert detail.states("truth") == "1"


def test_of_a_volume_beyond_any_budget_little_is_read() -> None:
    """Nine petavoxels: the smallest level, and the brick around one place."""
    seen = []

    class Noted(ArrayLayers):
        def pictures(self, layer: str, level: TileLevel, box: Box) -> np.ndarray:
            seen.append(box.size)
            return np.full((*box.shape, 4), 255, np.uint8)

    shape, brick = (10**5, 3 * 10**5, 3 * 10**5), (8, 32, 32)
    levels = tile_levels(shape, pyramid_factors(shape, (64, 256, 256), (8, 8, 8)), (8, 8, 8))
    detail, whole = pyramid_tiles(Noted(truth=np.zeros(0)), levels, brick, 10_000, [(5, 6, 7)])
    assert (whole.level, detail.level) == (levels[-1], levels[0])
    assert detail.bricks == [(0, 0, 0)]
    assert sum(seen) <= SMALLEST_LEVEL + prod(brick)


def test_a_brick_is_stored_with_all_layers_or_not_at_all() -> None:
    level = TileLevel(0, (1, 1, 1), (1, 1, 1), (1, 8, 16))
    layers = ArrayLayers(raw=noise(level.shape)[..., 0], truth=noise(level.shape))
    whole = all_tiles(layers, level, (1, 8, 8))
    some = LevelTiles(level, whole.grid)
    assert not tiles_of_bricks(layers, some, list(whole.grid.indices()), whole.file_bytes - 1)
    assert set(some.files) == {("raw", (0, 0, 0)), ("truth", (0, 0, 0))}
    assert some.bricks == [(0, 0, 0)]
    assert not some.is_whole


def test_bricks_are_deep_where_voxels_are_cubes() -> None:
    assert prod(brick_shape((8, 8, 8))) == prod(brick_shape((50, 4, 4)))
    assert brick_shape((8, 8, 8))[0] > brick_shape((50, 4, 4))[0]
