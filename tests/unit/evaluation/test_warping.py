"""Warping error: pixels worked by hand, simple points by their definition, and properties of the warp."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import label

from unet.evaluation.warping import AROUND, SIMPLE, topological_errors, warp_truth, warping_error

sections = arrays(bool, st.tuples(st.integers(1, 8), st.integers(1, 8)))
pairs = st.tuples(st.integers(1, 8), st.integers(1, 8)).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)


def topology(section: np.ndarray) -> tuple[int, int]:
    """Numbers of 4-connected cells and of 8-connected pieces of membrane, that around the section included."""
    padded = np.pad(section, 1)
    return label(padded)[1], label(~padded, np.ones((3, 3)))[1]


def test_simple_points_are_those_whose_flip_changes_no_number_of_pieces() -> None:
    for neighbourhood in range(256):
        window = np.zeros((5, 5), bool)
        for bit, (y, x) in enumerate(AROUND):
            window[1 + y, 1 + x] = neighbourhood >> bit & 1
        flipped = window.copy()
        flipped[2, 2] = True
        # whatever lies beyond the window can only join pieces, so a simple point must keep them within it
        if SIMPLE[neighbourhood]:
            assert topology(window) == topology(flipped)


@given(pairs)
def test_warping_keeps_the_topology_and_never_moves_away(pair: tuple[np.ndarray, np.ndarray]) -> None:
    truth, segmentation = pair
    moved = warp_truth(truth, segmentation)
    assert topology(moved) == topology(truth)
    assert not ((moved != truth) & (moved != segmentation)).any()
    assert 0 <= warping_error(truth, segmentation) <= np.mean(truth != segmentation)


@given(sections)
def test_nothing_to_move(section: np.ndarray) -> None:
    np.testing.assert_array_equal(warp_truth(section, section), section)
    assert warping_error(section, section) == 0
    assert topological_errors(section, section) == (0, 0)


@given(pairs)
def test_what_still_differs_cannot_be_moved(pair: tuple[np.ndarray, np.ndarray]) -> None:
    moved = warp_truth(*pair)
    np.testing.assert_array_equal(warp_truth(moved, pair[1]), moved)


def test_a_displaced_membrane_costs_nothing_and_a_hole_in_it_does() -> None:
    truth = np.ones((7, 12), bool)
    truth[:, 5] = False
    displaced = np.ones((7, 12), bool)
    displaced[:, 6] = False
    assert warping_error(truth, displaced) == 0
    assert topological_errors(truth, displaced) == (0, 0)
    broken = displaced.copy()
    broken[3, 6] = True
    assert warping_error(truth, broken) == pytest.approx(1 / 84)
    assert topological_errors(truth, broken) == (0, 1)


def test_a_line_that_parts_a_cell_counts_its_pixels_and_is_one_split() -> None:
    truth, segmentation = np.ones((9, 9), bool), np.ones((9, 9), bool)
    segmentation[:, 4] = False
    # all but one pixel of the line can be drawn in from the border before the cell would be split
    assert warping_error(truth, segmentation) == pytest.approx(1 / 81)
    assert topological_errors(truth, segmentation) == (1, 0)


def test_a_lost_cell_and_a_new_one_are_pixels_but_neither_splits_nor_mergers() -> None:
    truth, segmentation = np.zeros((5, 9), bool), np.zeros((5, 9), bool)
    truth[1:4, 1:4], segmentation[1:4, 5:8] = True, True
    assert warping_error(truth, segmentation) == pytest.approx((1 + 9) / 45)
    assert topological_errors(truth, segmentation) == (0, 0)


def test_all_topologies_of_a_small_window_are_kept() -> None:
    for bits in product((False, True), repeat=6):
        truth = np.array(bits).reshape(2, 3)
        assert topology(warp_truth(truth, ~truth)) == topology(truth)


def test_sections_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\) and segmentation \(2, 3\)"):
        warping_error(np.ones((2, 2)), np.ones((2, 3)))
