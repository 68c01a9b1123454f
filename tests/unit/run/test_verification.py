"""Places where a cut would show: crops at every kind of border, and a seam score worked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet.geometry.block_ranges import block_range_names
from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.run.verification import crops_to_check, seams

GRID = Grid((3, 100, 90), (2, 32, 40))
SHARDS = block_range_names(GRID, 5 * 2 * 32 * 40)


class Array:
    """Probabilities in memory that remember what was read."""

    def __init__(self, values: np.ndarray, grid: Grid) -> None:
        self.values, self.grid = values, grid
        self.boxes: list[Box] = []

    def read(self, box: Box) -> np.ndarray:
        assert box.clipped(self.grid.shape) == box
        self.boxes.append(box)
        return self.values[:, *box.slices]


def test_crops_lie_where_a_cut_would_show() -> None:
    crops = crops_to_check(GRID, SHARDS, side=16, number=8, seed=0)
    assert [kind for kind, _ in crops] == 2 * ["block border", "block range border", "face of the volume", "anywhere"]
    for kind, box in crops:
        assert box.size > 0
        if kind == "block border":
            assert all(
                lo < round(lo / b + 0.5) * b < hi
                for lo, hi, b in zip(box.start[1:], box.stop[1:], (32, 40), strict=True)
            )
        if kind == "face of the volume":
            assert all(lo == 0 or hi == n for lo, hi, n in zip(box.start, box.stop, GRID.shape, strict=True))


def test_a_crop_at_a_block_range_border_holds_blocks_of_two_jobs() -> None:
    grid = Grid((1, 64, 128), (1, 64, 64))
    (kind, box), *_ = crops_to_check(grid, ["0-of-2", "1-of-2"], side=16, number=2, seed=3)[1:]
    assert (kind, str(box)) == ("block range border", "0:1,0:8,56:72")


@settings(max_examples=30)
@given(shape=st.tuples(*[st.integers(1, 40)] * 3), block=st.tuples(*[st.integers(1, 20)] * 3), seed=st.integers(0, 9))
def test_crops_of_any_volume_are_inside_it(shape, block, seed) -> None:
    grid = Grid(shape, block)
    for _, box in crops_to_check(grid, block_range_names(grid, 100), side=8, number=8, seed=seed):
        assert box.size > 0
        assert box.clipped(shape) == box


def test_the_seam_score_worked_by_hand() -> None:
    """One border, at x = 4: values 1, 2 | 5, 7 across it, so a jump of 3 against the mean of 1 and 2."""
    row = np.array([0, 0, 1, 2, 5, 7, 7, 7], np.uint8)
    found = seams(Array(row[None, None, None], Grid((1, 1, 8), (1, 1, 4))))
    assert (found.across, found.beside, found.voxels, found.score) == (3, 1.5, 1, 2)


def test_noise_has_no_seam_and_a_step_between_blocks_has_one() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, *GRID.shape), dtype=np.uint8)
    assert seams(Array(noise, GRID)).score == pytest.approx(1, abs=0.02)
    stepped = noise // 8
    for number, box in enumerate(GRID.boxes()):
        stepped[:, *box.slices] += 40 * (number % 2)
    assert seams(Array(stepped, GRID)).score > 3


def test_constant_volumes_and_single_blocks_have_no_seam() -> None:
    flat = np.full((1, *GRID.shape), 7, np.uint8)
    assert seams(Array(flat, GRID)).score == 1
    assert seams(Array(flat, Grid(GRID.shape, GRID.shape))).voxels == 0


def test_of_a_large_volume_a_bounded_part_is_read() -> None:
    grid = Grid((50, 2000, 2000), (1, 64, 64))

    class Endless(Array):
        def read(self, box: Box) -> np.ndarray:
            self.boxes.append(box)
            return np.zeros((1, *box.shape), np.uint8)

    image = Endless(np.zeros(0), grid)
    seams(image)
    assert len(image.boxes) == 128
    assert max(box.size for box in image.boxes) == 4 * 64
