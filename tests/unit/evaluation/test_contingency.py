"""Overlap tables: counts worked by hand, additivity over blocks, agreement with scikit-image."""

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import adapted_rand_error as skimage_are
from skimage.metrics import variation_of_information as skimage_voi

from unet.evaluation.contingency import (
    Contingency,
    adapted_rand_error,
    contingency,
    foreground_counts,
    foreground_iou,
    merge_errors,
    rand_f_score,
    split_errors,
    variation_of_information,
)


def as_dict(table):
    return {(int(i), int(j)): int(n) for i, j, n in zip(table.truth, table.segmentation, table.count, strict=True)}


def counted_plainly(truth, segmentation):
    counts = {}
    for pair in zip(truth.ravel().tolist(), segmentation.ravel().tolist(), strict=True):
        if pair[0] != 0:
            counts[pair] = counts.get(pair, 0) + 1
    return counts


def ids_of_shape(shape):
    return arrays(np.int64, shape, elements=st.integers(0, 4))


pairs_of_volumes = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: st.tuples(ids_of_shape(shape), ids_of_shape(shape))
)
labelled_pairs = pairs_of_volumes.filter(lambda pair: pair[0].any())


@given(pairs_of_volumes)
def test_table_counts_every_pair_once(pair):
    table = contingency(*pair)
    assert as_dict(table) == counted_plainly(*pair)
    assert len(table.count) == len(as_dict(table))


@given(pairs_of_volumes, st.integers(0, 6), st.integers(0, 6))
def test_tables_of_blocks_add_up_to_the_table_of_the_volume(pair, y, x):
    blocks = [np.s_[:, a, b] for a in (slice(y), slice(y, None)) for b in (slice(x), slice(x, None))]
    parts = [contingency(*(ids[block] for ids in pair)) for block in blocks]
    whole = contingency(*pair)
    total = sum(parts, Contingency.empty())
    np.testing.assert_array_equal(total.truth, whole.truth)
    np.testing.assert_array_equal(total.segmentation, whole.segmentation)
    np.testing.assert_array_equal(total.count, whole.count)


def test_ids_beyond_32_bits_and_up_to_64_stay_apart():
    truth = np.array([2**32 + 1, 1, 2**64 - 1, 2**64 - 2], np.uint64)
    table = contingency(truth, np.array([1, 2**40, 3, 3]))
    assert as_dict(table) == {(1, 2**40): 1, (2**32 + 1, 1): 1, (2**64 - 1, 3): 1, (2**64 - 2, 3): 1}


def test_counts_whose_squares_exceed_64_bits_score_correctly():
    half = 2**40
    table = Contingency(np.array([1, 2], np.uint64), np.array([1, 1], np.uint64), np.array([half, half]))
    assert rand_f_score(table) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("truth", "segmentation", "message"),
    [
        (np.zeros(2, int), np.zeros(3, int), r"\(2,\) and segmentation \(3,\)"),
        (np.zeros(2), np.zeros(2, int), "integers, not float64"),
        (np.ones(2, int), np.array([1, -5]), "not be negative, found -5"),
    ],
)
def test_arrays_that_are_no_segmentations_are_refused(truth, segmentation, message):
    with pytest.raises(ValueError, match=message):
        contingency(truth, segmentation)


def test_sizes_of_segments_are_restricted_to_the_labelled_truth():
    table = contingency(np.array([1, 1, 2, 0, 0]), np.array([0, 7, 7, 7, 9]))
    assert table.truth_sizes.tolist() == [2, 1]
    assert table.segment_sizes.tolist() == [1, 2]
    assert table.without_background.voxels == 2


# -- scores, four voxels worked by hand -------------------------------------------------------------------------------

FOUR = {
    # truth, segmentation: adapted Rand error, split, merge
    "equal up to names": ([1, 1, 2, 2], [8, 8, 5, 5], 0, 0, 0),
    "merged": ([1, 1, 2, 2], [7, 7, 7, 7], 1 - 16 / 24, 0, 1),
    "split": ([1, 1, 1, 1], [1, 1, 2, 2], 1 - 16 / 24, 1, 0),
    "crossed": ([1, 1, 2, 2], [1, 2, 1, 2], 1 - 8 / 16, 1, 1),
    # two voxels on a line: two segments of one voxel for ARE, one segment of two voxels for VOI
    "line": ([1, 1, 1, 1], [3, 3, 0, 0], 1 - 2 * (4 + 2) / (16 + 4 + 2), 1, 0),
    "unlabelled truth is ignored": ([1, 1, 0, 0], [4, 4, 4, 5], 0, 0, 0),
}


@pytest.mark.parametrize("case", FOUR)
def test_scores_of_four_voxels(case):
    truth, segmentation, error, split, merge = FOUR[case]
    table = contingency(np.array(truth), np.array(segmentation))
    assert adapted_rand_error(table) == pytest.approx(error)
    assert variation_of_information(table) == pytest.approx((split, merge))


@pytest.mark.parametrize("score", [rand_f_score, adapted_rand_error, variation_of_information])
def test_scoring_without_labelled_truth_is_refused(score):
    with pytest.raises(ValueError, match="nothing to score"):
        score(contingency(np.zeros(3, int), np.ones(3, int)))


@given(labelled_pairs)
def test_variation_of_information_equals_scikit_image(pair):
    expected = skimage_voi(*pair, ignore_labels=(0,))
    np.testing.assert_allclose(variation_of_information(contingency(*pair)), expected, atol=1e-12)


@given(labelled_pairs)
def test_adapted_rand_error_equals_the_plain_sum_over_pairs_of_voxels(pair):
    truth, segmentation = (ids[pair[0] != 0] for ids in pair)
    alone = np.where(segmentation == 0, -np.arange(1, segmentation.size + 1), segmentation)
    same_truth = truth[:, None] == truth
    same_segment = alone[:, None] == alone
    expected = 1 - 2 * (same_truth & same_segment).sum() / (same_truth.sum() + same_segment.sum())
    assert adapted_rand_error(contingency(*pair)) == pytest.approx(expected)


@given(labelled_pairs)
def test_adapted_rand_error_relates_to_scikit_image_by_the_pairs_of_a_voxel_with_itself(pair):
    truth, segmentation = pair[0], pair[1] + 1  # scikit-image knows no voxels of their own
    n = np.count_nonzero(truth)
    table = contingency(truth, segmentation)
    f = rand_f_score(table)
    squares = float((table.truth_sizes**2).sum() + (table.segment_sizes**2).sum())
    if squares > 2 * n:  # otherwise scikit-image divides by 0: every segment is one voxel
        with np.errstate(all="ignore"):
            expected = 1 - skimage_are(truth, segmentation)[0]
        assert (f * squares - 2 * n) / (squares - 2 * n) == pytest.approx(expected)


def test_scores_of_neurons_agree_with_scikit_image(em_data):
    with h5py.File(em_data / "fib25" / "validation.h5") as file:
        truth = file["volumes/labels/neuron_ids"][:12]
        segmentation = file["volumes/peers/oversegmentation"][:12]
    truth, segmentation = (np.unique(ids, return_inverse=True)[1].reshape(ids.shape) for ids in (truth, segmentation))
    table = contingency(truth, segmentation + 1)
    assert adapted_rand_error(table) == pytest.approx(skimage_are(truth, segmentation + 1)[0], abs=1e-4)
    expected = skimage_voi(truth, segmentation + 1, ignore_labels=(0,))
    assert variation_of_information(table) == pytest.approx(expected.tolist())


# -- merges and splits -------------------------------------------------------------------------------------------------


def errors_plainly(counts, role):
    """Merges (role 0) or splits (role 1) of a dictionary of counts, pair by pair."""
    holders = {}
    for pair, n in counts.items():
        whole = sum(m for other, m in counts.items() if other[role] == pair[role])
        if pair[1 - role] != 0 and pair[role] != 0 and 2 * n > whole:
            holders.setdefault(pair[1 - role], set()).add(pair[role])
    return sum(len(held) - 1 for held in holders.values())


@given(pairs_of_volumes)
def test_merges_and_splits_are_counted_as_defined(pair):
    counts, table = counted_plainly(*pair), contingency(*pair)
    assert merge_errors(table) == errors_plainly(counts, 0)
    assert split_errors(table) == errors_plainly(counts, 1)


def test_a_lost_segment_is_neither_merge_nor_split():
    assert merge_errors(contingency(np.array([1, 1, 2, 2]), np.zeros(4, int))) == 0
    assert split_errors(contingency(np.array([1, 1, 1, 1]), np.array([5, 0, 0, 0]))) == 0


# -- foreground -------------------------------------------------------------------------------------------------------


@given(pairs_of_volumes, st.integers(0, 6))
def test_foreground_counts_add_over_blocks(pair, x):
    left, right = (foreground_counts(*(ids[..., part] for ids in pair)) for part in (slice(x), slice(x, None)))
    assert (left + right).tolist() == foreground_counts(*pair).tolist()


def test_foreground_iou_worked_by_hand():
    assert foreground_iou(foreground_counts(np.array([1, 2, 0, 0]), np.array([True, False, True, False]))) == 1 / 3


def test_two_empty_foregrounds_are_equal():
    assert foreground_iou([0, 0]) == 1


def test_foregrounds_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(2,\) and prediction \(3,\)"):
        foreground_counts(np.zeros(2), np.zeros(3))
