"""Boxes, blocks and block ranges: every voxel has one block, every block one block range."""

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet.geometry.block_ranges import (
    MAX_AUTO_RANGES,
    block_range_count,
    block_range_names,
    boxes_of_range,
    ranges_around,
    voxels_per_job,
)
from unet.geometry.box import Box
from unet.geometry.grid import Grid

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 12), st.integers(1, 12))
BLOCKS = st.tuples(st.integers(1, 3), st.integers(2, 6), st.integers(2, 6))
CORNERS = st.lists(st.integers(-50, 50), min_size=1, max_size=4)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    """Boxes of three axes, empty ones and ones outside any volume among them."""
    start = tuple(draw(st.integers(-9, 20)) for _ in range(3))
    return Box(start, tuple(lo + draw(st.integers(0, 15)) for lo in start))


@settings(deadline=None)
@given(corners=CORNERS, lengths=st.data())
def test_parse_is_the_inverse_of_str(corners: list[int], lengths: st.DataObject) -> None:
    box = Box(tuple(corners), tuple(lo + lengths.draw(st.integers(0, 9)) for lo in corners))
    assert Box.parse(str(box)) == box


@settings(deadline=None)
@given(one=boxes(), other=boxes())
def test_intersection_holds_the_common_voxels(one: Box, other: Box) -> None:
    both = one.intersected(other)
    expected = prod(
        len(set(range(a, b)) & set(range(c, d)))
        for a, b, c, d in zip(one.start, one.stop, other.start, other.stop, strict=True)
    )
    assert both.size == other.intersected(one).size == expected
    assert one.contains(other) == (expected == other.size and both.shape == other.shape)


@settings(deadline=None)
@given(box=boxes(), offset=st.tuples(st.integers(-9, 9), st.integers(-9, 9), st.integers(-9, 9)))
def test_shifting_there_and_back_changes_nothing(box: Box, offset: tuple[int, int, int]) -> None:
    assert box.shifted(offset).relative_to(offset) == box
    assert box.shifted(offset).shape == box.shape


def test_growing_and_clipping_a_box_at_the_face() -> None:
    box = Box((0, 2, 5), (1, 4, 9))
    assert box.grown((0, 3, 3)) == Box((0, -1, 2), (1, 7, 12))
    assert box.grown((0, 3, 3)).clipped((1, 6, 10)) == Box((0, 0, 2), (1, 6, 10))
    assert box.clipped((1, 2, 9)).size == 0


@settings(deadline=None)
@given(shape=SHAPES, block=BLOCKS)
def test_blocks_cover_every_voxel_once_in_scan_order(shape: tuple[int, ...], block: tuple[int, ...]) -> None:
    grid, seen = Grid(shape, block), np.zeros(shape, int)
    for box in grid.boxes():
        seen[box.slices] += 1
    assert (seen == 1).all()
    assert len(grid) == len(grid.boxes())
    assert grid.boxes() == sorted(grid.boxes())


@settings(deadline=None)
@given(shape=SHAPES, block=BLOCKS, job_voxels=st.integers(1, 4000))
def test_block_ranges_share_the_blocks_out_exactly(
    shape: tuple[int, ...], block: tuple[int, ...], job_voxels: int
) -> None:
    grid = Grid(shape, block)
    names = block_range_names(grid, job_voxels)
    shares = [boxes_of_range(grid, name) for name in names]
    assert [box for share in shares for box in share] == grid.boxes()
    assert all(len(share) <= max(1, job_voxels // prod(block)) for share in shares)
    assert min(map(len, shares)) >= 1
    assert [name.split("-of-") for name in names] == [[str(k), str(len(names))] for k in range(len(names))]


@pytest.mark.parametrize("name", ["4-of-4", "a-of-4", "0-of-0", "", "1of4", "-1-of-4", "0-of-4-of-4"])
def test_a_name_that_is_no_block_range_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="0-of-4"):
        boxes_of_range(Grid((1, 8, 8), (1, 4, 4)), name)


@settings(deadline=None)
@given(shape=SHAPES, block=BLOCKS, each=st.integers(1, 200), margin=st.tuples(*[st.integers(0, 7)] * 3))
def test_block_ranges_around_hold_every_block_within_the_margin(
    shape: tuple[int, ...], block: tuple[int, ...], each: int, margin: tuple[int, ...]
) -> None:
    grid = Grid(shape, block)
    owner = {box: name for name in block_range_names(grid, each) for box in boxes_of_range(grid, name)}
    for name in set(owner.values()):
        windows = [box.grown(margin).clipped(shape) for box in boxes_of_range(grid, name)]
        assert {owner[box] for window in windows for box in grid.touched(window)} <= set(
            ranges_around(grid, name, margin)
        )


@settings(deadline=None)
@given(shape=SHAPES, block=BLOCKS, each=st.integers(1, 200), margin=st.tuples(*[st.integers(0, 7)] * 3))
def test_a_rule_that_takes_whole_layers_has_block_ranges_of_its_own(
    shape: tuple[int, ...], block: tuple[int, ...], each: int, margin: tuple[int, ...]
) -> None:
    grid = Grid(shape, block)
    layer = grid.counts[1] * grid.counts[2]
    names = block_range_names(grid, each, layer)
    ranges = [boxes_of_range(grid, name, layer) for name in names]
    assert [box for boxes in ranges for box in boxes] == grid.boxes()
    assert all(boxes for boxes in ranges), "a job has something to do"
    starts = [{box.start[0] for box in boxes} for boxes in ranges]
    assert sum(map(len, starts)) == grid.counts[0], "no layer is divided"
    owner = {box: name for name, boxes in zip(names, ranges, strict=True) for box in boxes}
    for name in block_range_names(grid, each):
        windows = [box.grown(margin).clipped(shape) for box in boxes_of_range(grid, name)]
        read = {owner[box] for window in windows for box in grid.touched(window)}
        assert read <= set(ranges_around(grid, name, margin, len(names), layer))


def test_few_block_ranges_are_around_one_of_many() -> None:
    """8 x 8 blocks per section, 4 per block range: 9 or so, not all; without a margin the block range itself."""
    grid = Grid((16 * 10_000, 8, 8), (16, 1, 1))
    assert len(ranges_around(grid, "70000-of-160000", (1, 1, 1))) <= 3 * 3 * 2
    assert ranges_around(grid, "70000-of-160000", (0, 0, 0)) == ["70000-of-160000"]


def test_a_petavoxel_has_no_more_block_ranges_than_snakemake_plans() -> None:
    shape = (33_333, 125_000, 125_000)
    grid = Grid(shape, (64, 1024, 1024))
    assert MAX_AUTO_RANGES / 2 < block_range_count(grid, voxels_per_job(shape, "auto")) <= 1.1 * MAX_AUTO_RANGES


def test_blocks_at_the_far_faces_are_smaller() -> None:
    """35 = 2 * 16 + 3 sections, 1100 = 1024 + 76 px: two of 3 x 1 x 2 blocks are whole; a halo ends at the faces."""
    grid = Grid((35, 1024, 1100), (16, 1024, 1024))
    assert grid.voxels_of_largest(1) == 2**24
    assert grid.voxels_of_largest(3) == 2 * 2**24 + 3 * 2**20
    assert grid.voxels_of_largest(1, halo=(16, 0, 100)) == 35 * 1024 * 1100
