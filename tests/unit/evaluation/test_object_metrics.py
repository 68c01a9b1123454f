"""Scores and errors of objects: pixels worked by hand, CREMI's border by its definition, sums over blocks."""

from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt
from skimage.metrics import variation_of_information as skimage_voi

from unet.evaluation.contingency import contingency
from unet.evaluation.error_analysis import MERGE, SPLIT, error_map, worst_objects
from unet.evaluation.object_metrics import ObjectScores, border_mask
from unet.geometry.box import Box
from unet.geometry.grid import Grid

ids = arrays(np.int64, (2, 6, 7), elements=st.integers(0, 3))


def border_by_definition(section: np.ndarray, distance: float) -> np.ndarray:
    """Return the border as CREMI's script finds it: a distance transform of pixels like their four neighbours."""
    padded = np.pad(section, 1, mode="edge")
    beside = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    alike = np.logical_and.reduce([section == other for other in beside])
    return np.zeros(section.shape, bool) if alike.all() else distance_transform_edt(alike) <= distance


@given(ids, st.sampled_from([0, 1, 1.5, 6.25]))
def test_the_border_is_that_of_cremi_section_by_section(labels: np.ndarray, distance: float) -> None:
    expected = np.stack([border_by_definition(section, distance) for section in labels])
    np.testing.assert_array_equal(border_mask(labels, distance), expected)


@given(ids, st.sampled_from([1, 1.5, 2.5]))
def test_the_border_of_a_block_is_known_from_a_little_around_it(labels: np.ndarray, distance: float) -> None:
    whole, halo = border_mask(labels, distance), ceil(distance) + 1
    box = Box((0, 2, 2), (2, 4, 5))
    window = box.grown((0, halo, halo)).clipped(labels.shape)
    inner = box.relative_to(window.start).slices
    np.testing.assert_array_equal(border_mask(labels[window.slices], distance)[inner], whole[box.slices])


@given(ids.filter(np.any), ids, st.tuples(st.integers(1, 2), st.integers(1, 6), st.integers(1, 7)))
def test_scores_of_blocks_are_those_of_the_volume(truth: np.ndarray, found: np.ndarray, block: tuple[int, ...]) -> None:
    near, known = border_mask(truth, 1), np.ones(truth.shape, bool)
    whole, parts = ObjectScores.empty(), ObjectScores.empty()
    whole.add(truth, found, near, known)
    for box in Grid(truth.shape, block).boxes():
        parts.add(*(values[box.slices] for values in (truth, found, near, known)))
    assert parts.scores() == whole.scores()


@given(ids.filter(np.any), ids)
def test_voi_off_the_borders_is_scikit_images_without_them(truth: np.ndarray, found: np.ndarray) -> None:
    near = border_mask(truth, 0)
    scores = ObjectScores.empty()
    scores.add(truth, found, near, np.ones(truth.shape, bool))
    if (truth[~near] > 0).any():
        expected = skimage_voi(np.where(near, 0, truth), found, ignore_labels=(0,))
        assert [scores.scores()[f"cremi_voi_{part}"] for part in ("split", "merge")] == pytest.approx(expected.tolist())
    else:
        assert scores.scores()["cremi_score"] is None


def test_cremi_forgives_a_border_that_is_off_by_a_pixel() -> None:
    truth, found = np.ones((1, 4, 20), int), np.ones((1, 4, 20), int)
    truth[..., 10:], found[..., 11:] = 2, 2
    scores = ObjectScores.empty()
    scores.add(truth, found, border_mask(truth, 2), np.ones(truth.shape, bool))
    result = scores.scores()
    assert result["cremi_score"] == pytest.approx(0)
    assert result["adapted_rand_error"] > 0
    assert (result["objects"], result["true_objects"], result["average_precision_50"]) == (2, 2, 1)


def test_a_false_object_counts_only_where_somebody_has_looked() -> None:
    truth, found = np.array([[[1, 1, 0, 0]]]), np.array([[[5, 5, 0, 6]]])
    for known, precision in ((np.array([[[1, 1, 1, 1]]], bool), 0.5), (np.array([[[1, 1, 1, 0]]], bool), 1)):
        scores = ObjectScores.empty()
        scores.add(truth, found, np.zeros(truth.shape, bool), known)
        assert scores.scores()["average_precision_50"] == precision


def test_the_worst_objects_and_where_they_are() -> None:
    truth, found = np.ones((3, 4, 6), np.uint64), np.full((3, 4, 6), 5, np.uint64)
    found[1, :2, 4:] = 6  # 4 voxels split off in section 1
    truth[2, 3, :3] = 2  # 3 voxels merged in section 2
    [split, merge] = worst_objects(contingency(truth, found), count=2)
    assert (split.kind, split.object_id, split.best_partner, split.wrong_voxels, split.partners) == (
        "split",
        1,
        5,
        4,
        2,
    )
    assert (merge.kind, merge.object_id, merge.best_partner, merge.wrong_voxels, merge.partners) == (
        "merge",
        5,
        1,
        3,
        2,
    )
    for box in Grid(truth.shape, (2, 3, 4)).boxes():
        for one in (split, merge):
            one.locate(truth[box.slices], found[box.slices], box)
    assert split.centre == (1, 0, 4)
    assert merge.centre == (2, 3, 1)


@given(ids, ids)
def test_the_wrong_voxels_of_the_map_are_those_counted(truth: np.ndarray, found: np.ndarray) -> None:
    table = contingency(truth, found)
    wrong = error_map(truth, found, table)
    worst = worst_objects(table, count=99)
    for kind, bit in (("split", SPLIT), ("merge", MERGE)):
        assert sum(one.wrong_voxels for one in worst if one.kind == kind) == np.count_nonzero(wrong & bit)
    assert not wrong[(truth == 0) | (found == 0)].any()


def test_nothing_is_wrong_with_the_truth() -> None:
    truth = np.arange(12).reshape(1, 3, 4) // 2
    assert not error_map(truth, truth + 7, contingency(truth, truth + 7)).any()
    assert worst_objects(contingency(truth, truth), count=10) == []
