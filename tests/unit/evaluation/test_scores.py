"""Scores of a volume: cases of four pixels worked by hand, and sums over blocks that equal the whole."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet.evaluation.isbi import CHALLENGE_THRESHOLDS, FINE_THRESHOLDS
from unet.evaluation.object_metrics import border_mask
from unet.evaluation.scores import (
    EvaluationError,
    VolumeScores,
    best_threshold_by_v_rand,
    mean_scores,
    predicted_classes,
    section_cells,
)
from unet.geometry.grid import Grid


def scores_of(volume: dict[str, np.ndarray], block: tuple[int, ...], per_section: bool = True) -> dict[str, Any]:
    """Scores of a volume added up over blocks, in reverse order to see that order does not matter."""
    comparison = VolumeScores(3, per_section)
    for box in reversed(Grid(volume["target"].shape, block).boxes()):
        part = {name: values[box.slices] for name, values in volume.items()}
        near = border_mask(volume["labels"], 1)[box.slices]
        arrays = part["target"], part["predicted"], part["labels"], part["segmentation"], near
        comparison.add(*arrays, first_section=box.start[0], foreground_class=1)
    return comparison.scores()


def four_pixels(**arrays: list[int]) -> dict[str, np.ndarray]:
    """A volume of one section of 1 x 4 pixels."""
    dtypes = {"target": np.uint8, "predicted": np.uint8, "labels": np.uint32, "segmentation": np.uint32}
    return {name: np.array([[values]], dtypes[name]) for name, values in arrays.items()}


def test_pixel_scores_of_four_pixels() -> None:
    volume = four_pixels(target=[0, 1, 1, 255], predicted=[0, 1, 0, 1], labels=[0, 5, 5, 0], segmentation=[0, 3, 0, 3])
    found = scores_of(volume, (1, 1, 4))
    assert found["pixel_error"] == pytest.approx(1 / 3)  # the unlabelled pixel does not count
    assert found["class_iou"] == [0.5, 0.5, None]  # class 2 is nowhere
    assert found["mean_iou"] == 0.5
    assert found["foreground_iou"] == 0.5


def test_a_perfect_result_has_perfect_scores_whatever_the_ids() -> None:
    volume = four_pixels(target=[1, 1, 0, 1], predicted=[1, 1, 0, 1], labels=[9, 9, 0, 2], segmentation=[1, 1, 0, 7])
    found = scores_of(volume, (1, 1, 4))
    assert (found["pixel_error"], found["foreground_iou"], found["mean_iou"]) == (0, 1, 1)
    assert found["adapted_rand_error"] == pytest.approx(0)
    assert (found["voi_split"], found["voi_merge"]) == pytest.approx((0, 0))
    assert (found["split_errors"], found["merge_errors"]) == (0, 0)


def test_nothing_labelled_gives_no_number_rather_than_a_wrong_one() -> None:
    volume = four_pixels(target=[255] * 4, predicted=[0, 1, 1, 0], labels=[0] * 4, segmentation=[0, 1, 1, 0])
    found = scores_of(volume, (1, 1, 4))
    assert {key: found[key] for key in ("pixel_error", "mean_iou", "adapted_rand_error", "voi_split")} == dict.fromkeys(
        ("pixel_error", "mean_iou", "adapted_rand_error", "voi_split")
    )


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 999),
    block=st.tuples(st.integers(1, 3), st.integers(1, 8), st.integers(1, 8)),
    per_section=st.booleans(),
)
def test_scores_do_not_depend_on_the_blocks(seed: int, block: tuple[int, ...], per_section: bool) -> None:
    rng, shape = np.random.default_rng(seed), (3, 8, 7)
    volume = {
        "target": rng.choice(np.array([0, 1, 2, 255], np.uint8), shape),
        "predicted": rng.integers(0, 3, shape, dtype=np.uint8),
        "labels": rng.integers(0, 4, shape, dtype=np.uint64),
        "segmentation": rng.integers(0, 5, shape, dtype=np.uint32),
    }
    whole, parts = scores_of(volume, shape, per_section), scores_of(volume, block, per_section)
    assert parts.pop("class_iou") == whole.pop("class_iou")
    assert parts == pytest.approx(whole)


def test_an_id_is_another_object_in_each_section_only_where_sections_are_segmented_alone() -> None:
    one = np.full((2, 1, 2), 7, np.uint32)
    volume = {"target": np.ones((2, 1, 2), np.uint8), "predicted": np.ones((2, 1, 2), np.uint8), "labels": one}
    by_section = {**volume, "segmentation": np.array([[[1, 1]], [[2, 2]]], np.uint32)}
    assert scores_of(by_section, (1, 1, 2), per_section=True)["adapted_rand_error"] == pytest.approx(0)
    assert scores_of(by_section, (1, 1, 2), per_section=False)["adapted_rand_error"] > 0.1


@pytest.mark.parametrize("per_section", [True, False])
@pytest.mark.parametrize("first", [2**44, 2**57, 2**64 - 4])
def test_ids_of_64_bits_are_scored_as_small_ones_are(first: int, per_section: bool) -> None:
    """Take ids of a chunked graph: above 2^56, where the section's number has no room beside the id."""
    rng, shape = np.random.default_rng(3), (3, 6, 5)
    volume = {
        "target": rng.choice(np.array([0, 1, 255], np.uint8), shape),
        "predicted": rng.integers(0, 2, shape, dtype=np.uint8),
        "labels": rng.integers(0, 4, shape, dtype=np.uint32),
        "segmentation": rng.integers(0, 5, shape, dtype=np.uint32),
    }
    large = np.where(volume["labels"] > 0, volume["labels"] + np.uint64(first), np.uint64(0))
    small = scores_of(volume, (2, 3, 5), per_section)
    assert scores_of({**volume, "labels": large}, (2, 3, 5), per_section) == small


@pytest.mark.parametrize("per_section", [True, False])
@pytest.mark.parametrize(
    "labels", [np.array([[[0, 7]], [[7, 9]]], np.uint16), np.array([[[0, 7]], [[2**63, 7]]], np.uint64)]
)
def test_a_scored_object_is_found_again_among_the_labels(labels: np.ndarray, per_section: bool) -> None:
    comparison = VolumeScores(2, per_section)
    scored = comparison.true_objects(labels, first_section=5)
    assert [comparison.label_of(int(one)) for one in scored.flat] == labels.flatten().tolist()
    assert (scored[0, 0, 1] == scored[1, 0, 1]) == (not per_section and labels[0, 0, 1] == labels[1, 0, 1])


def test_true_cells_are_the_connected_pieces_of_an_id() -> None:
    labels = np.array([[[7, 7, 0, 7], [3, 0, 3, 7]]], np.uint64) + np.uint64(2**40) * (1 > 0)
    labels[labels == 2**40] = 0
    found = section_cells(labels)
    assert [len(np.unique(found[labels == value])) for value in (0, 2**40 + 7, 2**40 + 3)] == [1, 2, 2]
    assert not found[labels == 0].any()
    assert not section_cells(np.where(labels == 2**40 + 7, 0, labels))[labels == 2**40 + 7].any()


def row(threshold: float, v_rand: float) -> dict[str, float]:
    """Scores at one threshold."""
    return {"threshold": threshold, "v_rand": v_rand, "v_info": 1 - v_rand}


def test_volumes_count_by_their_sections_and_those_without_do_not() -> None:
    volumes = [[row(0.5, 0.9)], [row(0.5, 0.6)], []]
    (mean,) = mean_scores(volumes, weights=[2, 1, 0])
    assert mean == pytest.approx(row(0.5, 0.8))


@pytest.mark.parametrize(("rows", "weights"), [([], None), ([[]], [0])])
def test_without_labels_there_is_no_threshold(rows: list, weights: list[int] | None) -> None:
    with pytest.raises(EvaluationError, match="no section with labels"):
        mean_scores(rows, weights)


def test_the_best_threshold_is_the_lowest_of_equals_and_of_those_asked_for() -> None:
    rows = [row(0.3, 0.8), row(0.5, 0.9), row(0.55, 0.95), row(0.7, 0.9)]
    assert best_threshold_by_v_rand(rows)["threshold"] == 0.55
    assert best_threshold_by_v_rand(rows, CHALLENGE_THRESHOLDS)["threshold"] == 0.5
    assert set(CHALLENGE_THRESHOLDS) <= set(
        FINE_THRESHOLDS
    )  # by equality of floats: `best_threshold_by_v_rand` looks them up so


def test_predicted_classes_from_one_channel_and_from_many() -> None:
    assert predicted_classes(np.array([[[[0.5, 0.51]]]], np.float32)).tolist() == [[[0, 1]]]
    many = np.array([[[[200, 10]]], [[[30, 10]]], [[[25, 235]]]], np.uint8)
    assert predicted_classes(many).tolist() == [[[0, 2]]]
