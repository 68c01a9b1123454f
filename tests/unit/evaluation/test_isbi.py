"""The ISBI 2012 scores: hand-worked pixels, the plain definition, and properties the challenge's script has."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter, label

from unet.evaluation.isbi import (
    CHALLENGE_THRESHOLDS,
    FINE_THRESHOLDS,
    ground_truth_cells,
    pixel_error,
    section_errors,
    sweep_thresholds,
    threshold_and_thin,
    v_rand_v_info,
)


def annotated_interior(em_data: Path, sections=slice(None)):
    return tifffile.imread(em_data / "isbi2012" / "train-labels.tif")[sections] == 255


def scores_by_definition(truth, segmentation):
    """V_rand and V_info from the full table, each pixel on a line with a column of its own."""
    labelled = truth != 0
    i, j = truth[labelled].astype(int), segmentation[labelled].astype(int)
    j = np.where(j == 0, j.max() + 1 + np.arange(j.size), j)
    p = np.zeros((i.max() + 1, j.max() + 1))
    np.add.at(p, (i, j), 1 / i.size)
    a, b = p.sum(1), p.sum(0)

    def entropy(q):
        return -(q[q > 0] * np.log(q[q > 0])).sum()

    v_rand = 2 * (p**2).sum() / ((a**2).sum() + (b**2).sum())
    total = entropy(a) + entropy(b)
    return v_rand, 2 * (total - entropy(p)) / total if total > 0 else 1.0


def ids_of_shape(shape):
    return arrays(np.int64, shape, elements=st.integers(0, 3))


pairs = st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: st.tuples(ids_of_shape(shape), ids_of_shape(shape))
)


def test_thresholds_are_the_challenges_and_a_finer_row():
    assert CHALLENGE_THRESHOLDS == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    assert set(CHALLENGE_THRESHOLDS) < set(FINE_THRESHOLDS)
    assert FINE_THRESHOLDS[4:] == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.98)


def test_ground_truth_cells_are_four_connected_and_not_thinned():
    interior = np.array([[1, 1, 0], [0, 0, 1], [1, 0, 1]], bool)
    assert ground_truth_cells(interior).tolist() == [[1, 1, 0], [0, 0, 2], [3, 0, 2]]


# -- proposal ---------------------------------------------------------------------------------------------------------


def test_thresholding_thins_a_membrane_to_one_pixel():
    probability = np.array([[0.9, 0.9, 0.2, 0.2, 0.2, 0.9, 0.9]] * 3)
    assert threshold_and_thin(probability, 0.5).tolist() == [[1, 1, 1, 0, 2, 2, 2]] * 3


def test_thresholding_binarises_above_the_threshold_not_at_it():
    assert threshold_and_thin(np.array([[0.5, 0.4]]), 0.5).tolist() == [[0, 0]]
    assert threshold_and_thin(np.array([[0.5, 0.4]]), 0.4).tolist() == [[1, 1]]


def test_thresholding_without_membrane_is_one_cell_and_without_interior_none():
    assert threshold_and_thin(np.ones((3, 4)), 0.5).tolist() == [[1] * 4] * 3
    assert threshold_and_thin(np.zeros((3, 4)), 0.5).tolist() == [[0] * 4] * 3


@given(arrays(np.float64, st.sampled_from([(9, 10), (10, 9)]), elements=st.sampled_from([0.2, 0.8])))
def test_thresholding_keeps_every_cell_apart_and_no_background_but_lines(probability):
    interior = probability > 0.5
    segments = threshold_and_thin(probability, 0.5)
    cells, count = label(interior)
    assert len(np.unique(segments[interior])) == count == segments.max()
    assert len(np.unique(np.stack([cells, segments])[:, interior], axis=1).T) == count
    around = np.pad(segments, 1)
    neighbours = np.stack([around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]])
    touching = (neighbours != 0) & (neighbours != segments) & (segments != 0)
    assert not touching.any()
    if count:  # flooded to the end: no pixel of the lines could join a cell without touching another
        lowest = np.where(neighbours > 0, neighbours, neighbours.max(0)).min(0)
        could_join = (neighbours.max(0) > 0) & (lowest == neighbours.max(0))
        assert not could_join[segments == 0].any()


# -- scores -----------------------------------------------------------------------------------------------------------

FOUR = {
    # truth, segmentation: V_rand, V_info
    "equal": ([1, 1, 2, 2], [2, 2, 1, 1], 1, 1),
    "merged": ([1, 1, 2, 2], [1, 1, 1, 1], 16 / 24, 0),
    "one segment each": ([1, 1, 1, 1], [5, 5, 5, 5], 1, 1),
    # two pixels on a line: segments of one pixel; H(a) = 1, H(b) = 2 (1/4 log2 4) + 1/2 log2 2, I = 1
    "a cell lost to lines": ([1, 1, 2, 2], [1, 1, 0, 0], 2 * (4 + 2) / (8 + 4 + 2), 2 * 1 / (1 + 1.5)),
    "membrane of the truth is ignored": ([1, 1, 2, 0], [1, 1, 2, 2], 1, 1),
}


@pytest.mark.parametrize("case", FOUR)
def test_scores_of_four_pixels(case):
    truth, segmentation, v_rand, v_info = FOUR[case]
    assert v_rand_v_info(np.array(truth), np.array(segmentation)) == pytest.approx((v_rand, v_info))


@given(pairs.filter(lambda pair: pair[0].any()))
def test_scores_equal_their_definition(pair):
    assert v_rand_v_info(*pair) == pytest.approx(scores_by_definition(*pair), abs=1e-12)


def test_scoring_without_labelled_truth_is_refused():
    with pytest.raises(ValueError, match="nothing to score"):
        v_rand_v_info(np.zeros((2, 2), int), np.ones((2, 2), int))


def test_the_ground_truth_itself_scores_one(em_data):
    interior = annotated_interior(em_data, 0)
    scores = v_rand_v_info(ground_truth_cells(interior), threshold_and_thin(interior.astype(float), 0.5))
    assert scores == pytest.approx((1, 1))


def test_a_gap_in_a_membrane_costs_more_than_a_thick_membrane():
    interior = np.ones((40, 40), bool)
    interior[:, 20] = False
    truth = ground_truth_cells(interior)
    thick = interior.copy()
    thick[:, 17:24] = False
    leaky = interior.copy()
    leaky[20, 20] = True
    thick_score, leaky_score = (v_rand_v_info(truth, threshold_and_thin(p.astype(float), 0.5)) for p in (thick, leaky))
    assert thick_score == pytest.approx((1, 1))
    assert leaky_score[0] < 0.7
    assert leaky_score[1] < 0.1


def test_pixel_error_worked_by_hand():
    probability = np.array([[0.9, 0.4], [0.6, 0.1]])
    interior = np.array([[True, True], [False, False]])
    assert pixel_error(probability, interior) == 0.5
    assert pixel_error(probability, interior, threshold=0.95) == 0.5
    assert pixel_error(probability, interior, threshold=0.3) == 0.25


def test_errors_of_a_section_count_splits_and_mergers_by_hand():
    """The membrane of the second pixel splits a cell, and that of the fourth is missing: neither can be moved there.

    Pairs of true and found ids among the four labelled pixels: 1 + 1 + 1 + 1, rows 9 + 1, columns 1 + 1 + 4.
    """
    interior, found = np.array([[[1, 1, 1, 0, 1]], [[1, 0, 1, 1, 1]]], bool)
    cells, probability = ground_truth_cells(interior), np.where(found, 0.9, 0.1)
    assert section_errors(probability, cells, interior, 0.5) == {
        "rand_error": pytest.approx(1 - 2 * 4 / (10 + 6)),
        "warping_error": 2 / 5,
        "warping_splits_and_mergers": (1 + 1) / 5,
    }
    assert set(section_errors(interior.astype(float), cells, interior, 0.5).values()) == {0}
    assert section_errors(probability, np.zeros_like(cells), interior, 0.5) is None


# -- sweep ------------------------------------------------------------------------------------------------------------


def test_sweep_is_the_mean_over_sections_at_each_threshold(em_data):
    interior = annotated_interior(em_data, np.s_[:2, :128, :128])
    probability = np.stack([gaussian_filter(section.astype(float), 3) for section in interior])
    cells = np.stack([ground_truth_cells(section) for section in interior])
    rows = sweep_thresholds(probability, cells, (0.5, 0.8))
    assert [row["threshold"] for row in rows] == [0.5, 0.8]
    for row in rows:
        each = [v_rand_v_info(cells[z], threshold_and_thin(probability[z], row["threshold"])) for z in range(2)]
        assert (row["v_rand"], row["v_info"]) == pytest.approx(np.mean(each, axis=0))
    assert rows[0]["v_rand"] < rows[1]["v_rand"] < 1


def test_sweep_leaves_out_sections_without_labels():
    cells = np.zeros((2, 4, 4), int)
    cells[0, :, :2] = 300
    cells[0, :, 3] = 2**40
    probability = (cells > 0).astype(float)
    assert sweep_thresholds(probability, cells, [0.5]) == [
        {"threshold": 0.5, "v_rand": 1.0, "v_info": pytest.approx(1)}
    ]


def test_sweep_without_any_label_or_of_other_shapes_is_refused():
    with pytest.raises(ValueError, match="nothing to score"):
        sweep_thresholds(np.zeros((1, 2, 2)), np.zeros((1, 2, 2), int), CHALLENGE_THRESHOLDS)
    with pytest.raises(ValueError, match=r"\(1, 2, 2\) and cells \(2, 2, 2\)"):
        sweep_thresholds(np.zeros((1, 2, 2)), np.ones((2, 2, 2), int), CHALLENGE_THRESHOLDS)
