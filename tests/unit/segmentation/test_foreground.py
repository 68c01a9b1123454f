"""Meaning of a threshold on stored probabilities."""

from fractions import Fraction

import numpy as np
import pytest

from unet.evaluation.isbi import FINE_THRESHOLDS
from unet.segmentation.foreground import UnknownClass, as_probability, channel_of, foreground

EVERY = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize("percent", range(1, 100))
def test_on_uint8_the_threshold_is_exact_and_strict(percent: int) -> None:
    expected = [Fraction(int(value), 255) > Fraction(percent, 100) for value in EVERY]
    assert foreground(EVERY, percent / 100).tolist() == expected


@pytest.mark.parametrize("threshold", FINE_THRESHOLDS)
def test_the_sweep_and_the_segmentation_mean_the_same_threshold(threshold: float) -> None:
    np.testing.assert_array_equal(as_probability(EVERY) > threshold, foreground(EVERY, threshold))


def test_floats_are_probabilities_already() -> None:
    stored = np.array([0.0, 0.25, 0.5, 1.0], np.float32)
    assert as_probability(stored) is stored
    assert foreground(stored, 0.25).tolist() == [False, False, True, True]


def test_uint8_is_scaled_to_0_and_1() -> None:
    assert as_probability(EVERY[[0, 51, 255]]).tolist() == pytest.approx([0, 0.2, 1])
    assert as_probability(EVERY).dtype == np.float32


def test_a_class_that_the_network_does_not_know_is_refused() -> None:
    assert channel_of("cell", ["membrane", "cell", "synapse"]) == 1
    with pytest.raises(UnknownClass, match=r"'nucleus' is not one of the network's classes \['membrane', 'cell'\]"):
        channel_of("nucleus", ("membrane", "cell"))
