"""Rotated lattices, against positions and means worked out by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unet.geometry.box import Box, enclosing
from unet.geometry.tiling import TileGeometry, TileSizeError, tiles_for
from unet.network.rotation import ANGLES, RotatedLattice, cubic, hull, interpolated, linear, positions, rotated_lattices

GEOMETRY = TileGeometry((1, 20, 24), (1, 9, 12), (0, 5, 6), (1, 4, 4))
"""Of cells of 8 x 8: the output of 12 leaves one row of 4 out, so that a column is left to interpolate with."""
CPU = torch.device("cpu")

corners = st.tuples(st.integers(-60, 60) | st.integers(10**5, 10**5 + 60), st.integers(-60, 60))
boxes = st.builds(
    lambda low, size: Box((2, *low), (3, *(lo + n for lo, n in zip(low, size, strict=True)))),
    corners,
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
)
lattices = st.builds(RotatedLattice, st.just(GEOMETRY), st.sampled_from(ANGLES) | st.floats(-400, 400))


def ramp(box: Box, along: tuple[float, float] = (1.0, 100.0)) -> torch.Tensor:
    """`a y + b x` of the voxels of a box, `(z, y, x)`."""
    y, x = (np.arange(lo, hi) for lo, hi in zip(box.start[1:], box.stop[1:], strict=True))
    values = along[0] * y[:, None] + along[1] * x
    return torch.from_numpy(np.broadcast_to(values, box.shape).astype(np.float32))


def test_seven_angles_share_out_the_full_turn() -> None:
    degrees = [lattice.degrees for lattice in rotated_lattices(GEOMETRY)]
    assert len(degrees) == 7
    assert degrees[0] == 0
    np.testing.assert_allclose(np.diff([*degrees, 360]), 360 / 7)


def test_linear_interpolation_between_four_pixels_by_hand() -> None:
    values = torch.tensor([[0.0, 8.0], [4.0, 20.0]])
    pixel, fraction = torch.zeros(2, 1, dtype=torch.long), torch.tensor([[0.25], [0.5]])
    # 3/4 of the upper row's (0 + 8) / 2 and 1/4 of the lower row's (4 + 20) / 2
    assert interpolated(values, pixel, fraction, linear).tolist() == [0.75 * 4 + 0.25 * 12]


def test_cubic_interpolation_is_the_one_of_training_patches() -> None:
    values = torch.from_numpy(np.random.default_rng(3).normal(size=(2, 8, 9)))
    pixel, fraction = torch.tensor([[2, 5, 3], [1, 6, 4]]), torch.tensor([[0.25, 0.9, 0.0], [0.75, 0.4, 0.0]])
    grid = torch.stack([2 * (pixel + fraction)[axis] / (values.shape[1 + axis] - 1) - 1 for axis in (1, 0)], dim=-1)
    grid = grid[None, None].double()
    expected = torch.nn.functional.grid_sample(values[None], grid, mode="bicubic", align_corners=True)[0, :, 0]
    result = interpolated(values, pixel, fraction, cubic)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)
    assert torch.equal(result[:, 2], values[:, 3, 4])


@settings(max_examples=60, deadline=None)
@given(lattice=lattices, box=boxes)
def test_a_hull_holds_every_turned_pixel(lattice: RotatedLattice, box: Box) -> None:
    pixel, fraction = positions(lattice.to_lattice, box, CPU)
    around = hull(lattice.to_lattice, box)
    assert (around.start[0], around.stop[0]) == (2, 3)
    assert (pixel >= torch.tensor(around.start[1:])[:, None]).all()
    assert (pixel + (fraction > 0) < torch.tensor(around.stop[1:])[:, None]).all()
    assert all(n <= hi - lo + 2 for n, lo, hi in zip(around.shape[1:], pixel.amin(1), pixel.amax(1), strict=True))


def test_positions_have_the_same_bits_in_every_box() -> None:
    """Far from the origin, where counting from the box's corner would round otherwise."""
    matrix, box = RotatedLattice(GEOMETRY, 360 / 7).to_lattice, Box((0, 10**6, 10**6), (1, 10**6 + 200, 10**6 + 200))
    whole = [values.reshape(2, 200, 200)[:, 37:, 61:] for values in positions(matrix, box, CPU)]
    part = positions(matrix, Box((0, 10**6 + 37, 10**6 + 61), box.stop), CPU)
    assert all(torch.equal(a, b.reshape(a.shape)) for a, b in zip(whole, part, strict=True))


@settings(max_examples=60, deadline=None)
@given(lattice=lattices, box=boxes)
def test_every_voxel_reads_its_turned_position_from_one_tile(lattice: RotatedLattice, box: Box) -> None:
    """Tiles that hold ones, so that twice would be 2, and a ramp, which linear interpolation leaves as it is."""
    total = torch.zeros(2, *box.shape)
    for cell in lattice.cells(box):
        output = Box(cell.start, tuple(lo + n for lo, n in zip(cell.start, GEOMETRY.output, strict=True)))
        origin = box.start[1] + box.start[2]
        lattice.accumulate(total, torch.stack([torch.ones(output.shape), ramp(output, (1.0, 0.5)) - origin]), cell, box)
    assert (total[0] == 1).all()
    (a, b), (c, d) = lattice.to_lattice
    torch.testing.assert_close(total[1], ramp(box, (a + c / 2, b + d / 2)) - origin, rtol=0, atol=0.05)


@settings(max_examples=30, deadline=None)
@given(lattice=lattices, box=boxes)
def test_tiles_are_sampled_at_their_pixels_turned_positions(lattice: RotatedLattice, box: Box) -> None:
    """On a ramp, from which this kernel departs by less than 0.05 per pixel of slope.

    The rest of the tolerance is for float32, which has steps of 0.008 at 100,000; a wrong pixel would be 0.5 off.
    """
    (a, b), (c, d) = lattice.to_volume
    for cell in lattice.cells(box):
        source = lattice.source_box(cell)
        assert lattice.read_box(box).contains(source)
        expected = ramp(lattice.cell_geometry.input_box(cell), (a + c / 2, b + d / 2))
        torch.testing.assert_close(lattice.tile_input(ramp(source, (1.0, 0.5)), cell), expected, rtol=0, atol=0.15)


@settings(max_examples=100, deadline=None)
@given(lattice=lattices, box=boxes)
def test_cells_found_by_bisection_are_those_of_all_that_meet_the_box(lattice: RotatedLattice, box: Box) -> None:
    for seen in (box, Box((0, *box.start[1:]), (3, *box.stop[1:]))):
        around = tiles_for(hull(lattice.to_lattice, seen), lattice.cell_geometry)
        expected = [cell for cell in around if lattice.overlap(cell, seen).size]
        assert lattice.cells(seen) == expected
        assert lattice.read_box(seen) == enclosing(map(lattice.source_box, expected))


def test_cells_that_the_turned_box_does_not_touch_are_left_out() -> None:
    lattice, box = RotatedLattice(GEOMETRY, 45.0), Box((0, 0, 0), (1, 200, 200))
    pixel, _ = positions(lattice.to_lattice, box, CPU)
    needed = {tuple(cell) for cell in (pixel // 8).T.unique(dim=0).tolist()}
    found = {(cell.start[1] // 8, cell.start[2] // 8) for cell in lattice.cells(box)}
    assert needed <= found
    assert len(found) < 1.05 * len(needed)
    assert len(found) < 0.6 * len(tiles_for(hull(lattice.to_lattice, box), lattice.cell_geometry))


@pytest.mark.parametrize("degrees", ANGLES)
def test_a_smooth_section_survives_a_turn_and_its_return(degrees: float) -> None:
    def section(box: Box) -> torch.Tensor:
        y, x = (torch.arange(lo, hi)[None] for lo, hi in zip(box.start[1:], box.stop[1:], strict=True))
        return (torch.sin(y / 9).T + torch.cos(x / 7 + 1))[None]

    lattice, box = RotatedLattice(GEOMETRY, degrees), Box((0, -30, 1000), (1, 10, 1050))
    total = torch.zeros(1, *box.shape)
    for cell in lattice.cells(box):
        tile = lattice.tile_input(section(lattice.source_box(cell)), cell)[:, 5 : 5 + 9, 6 : 6 + 12]
        lattice.accumulate(total, tile[None], cell, box)
    assert (total[0] - section(box)).abs().max() < (0.02 if degrees else 1e-9)


def test_a_tile_with_no_pixel_to_interpolate_with_is_refused() -> None:
    with pytest.raises(TileSizeError, match=r"larger .* \(1, 4, 4\) .* \(1, 4, 8\); choose a larger predict.tile"):
        RotatedLattice(TileGeometry((1, 14, 18), (1, 4, 8), (0, 5, 5), (1, 4, 4)), 0.0)
