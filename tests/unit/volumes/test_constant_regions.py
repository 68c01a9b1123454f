"""Constant regions against a search of every square, and from blocks with their halo."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet.geometry.grid import Grid
from unet.volumes.constant_regions import HALO, SIDE, blank_regions, constant_regions


def in_some_window(values: np.ndarray) -> np.ndarray:
    """Apply the definition to all squares, one after the other."""
    found = np.zeros(values.shape, bool)
    depth, height, width = values.shape
    for z, y, x in np.ndindex(depth, max(0, height - SIDE + 1), max(0, width - SIDE + 1)):
        window = np.s_[z, y : y + SIDE, x : x + SIDE]
        found[window] |= (values[window] == values[z, y, x]).all()
    return found


@st.composite
def volumes(draw) -> np.ndarray:
    """Rectangles of three values upon each other, with some specks."""
    shape = draw(st.tuples(st.integers(1, 2), st.integers(5, 34), st.integers(5, 34)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = np.zeros(shape, draw(st.sampled_from(["uint8", "int16", "float32"])))
    for _ in range(draw(st.integers(0, 4))):
        z, y, x = (rng.integers(n) for n in shape)
        values[z, y : y + rng.integers(1, 30), x : x + rng.integers(1, 30)] = rng.integers(0, 3)
    for _ in range(draw(st.integers(0, 6))):
        values[tuple(rng.integers(n) for n in shape)] = 9
    return values


@given(volumes())
@settings(max_examples=40, deadline=None)
def test_regions_are_the_union_of_all_windows_of_one_value(values: np.ndarray) -> None:
    np.testing.assert_array_equal(constant_regions(values), in_some_window(values))


@given(volumes(), st.tuples(st.integers(1, 2), st.integers(5, 20), st.integers(5, 20)))
@settings(max_examples=20, deadline=None)
def test_blocks_with_their_halo_find_what_the_whole_volume_has(values: np.ndarray, block: tuple[int, int, int]) -> None:
    whole = constant_regions(values)
    for box in Grid(values.shape, block).boxes():
        window = box.grown(HALO).clipped(values.shape)
        found = constant_regions(values[window.slices])[box.relative_to(window.start).slices]
        np.testing.assert_array_equal(found, whole[box.slices])


@pytest.mark.parametrize("degrees", [0, 1, 7, 30, 45])
def test_a_straight_edge_of_a_frame_is_found_to_its_last_pixel(degrees: float) -> None:
    y, x = np.mgrid[:120, :120] - 60
    angle = np.deg2rad(degrees)
    outside = (y * np.cos(angle) + x * np.sin(angle) > 5)[None]
    tissue = np.random.default_rng(0).integers(1, 255, outside.shape)
    found = constant_regions(np.where(outside, 0, tissue))
    assert not (found & ~outside).any()
    missed = (outside & ~found)[:, SIDE:-SIDE, SIDE:-SIDE]
    assert not missed.any(), "apart from the sharp corners at the faces of the volume"


def test_only_a_fill_value_makes_a_region_blank() -> None:
    values = np.random.default_rng(0).integers(1, 255, (1, 40, 40))
    values[0, :12], values[0, 20:32] = 0, 77
    assert blank_regions(values, values == 0, bridge_single_sections=False).sum() == 12 * 40


def test_a_network_in_3d_bridges_a_single_blank_section_but_not_a_frame() -> None:
    values = np.random.default_rng(0).integers(1, 255, (5, 30, 30))
    values[2], values[:, :10] = 0, 0
    found = blank_regions(values, values == 0, bridge_single_sections=True)
    assert found[:, :10].all()
    assert not found[:, 10:].any()
