"""Average precision: objects worked by hand, and plain matching over all pairs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unet.evaluation.average_precision import THRESHOLDS, average_precision
from unet.evaluation.contingency import Contingency, contingency


def score(truth: np.ndarray, predicted: np.ndarray, threshold: float) -> float:
    return average_precision(contingency(truth, predicted), contingency(np.ones_like(truth), predicted), threshold)


def matched_plainly(truth: np.ndarray, predicted: np.ndarray, threshold: float) -> float:
    true_ids, predicted_ids = (set(np.unique(ids).tolist()) - {0} for ids in (truth, predicted))
    matches = 0
    for i in true_ids:
        for j in predicted_ids:
            one, other = truth == i, predicted == j
            matches += (one & other).sum() > threshold * (one | other).sum()
    return matches / (len(true_ids) + len(predicted_ids) - matches)


ids = arrays(np.int64, (4, 5), elements=st.integers(0, 4))


@given(ids, ids.filter(np.any), st.sampled_from(THRESHOLDS))
def test_matches_are_those_of_all_pairs(truth: np.ndarray, predicted: np.ndarray, threshold: float) -> None:
    assert score(truth, predicted, threshold) == pytest.approx(matched_plainly(truth, predicted, threshold))


def test_four_pixels() -> None:
    truth = np.array([1, 1, 1, 2])
    assert score(truth, truth + 5, 0.95) == 1
    assert score(truth, np.array([7, 7, 8, 8]), 0.5) == pytest.approx(1 / 3)  # 2/3 of object 1; half of 2 is too little
    assert score(truth, np.array([0, 0, 0, 0]), 0.5) == 0
    assert score(np.array([0, 0, 1, 1]), np.array([7, 8, 9, 9]), 0.5) == pytest.approx(1 / 3)  # two that are not there


def test_thresholds_are_the_usual_ten() -> None:
    assert THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ValueError, match=r"several matches below 0\.5"):
        average_precision(Contingency.empty(), Contingency.empty(), 0.4)
    with pytest.raises(ValueError, match="neither a true nor a predicted"):
        average_precision(Contingency.empty(), Contingency.empty(), 0.5)
