"""High losses of hard patches mean nothing, however rare or frequent; losses that jump and stay end a training."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet.divergence import BEFORE, MEMORY, RECENT, high_losses, is_good, is_lost, usual_loss

FACTOR = 20.0
STEPS = 20_000


def first_lost(losses: np.ndarray, factor: float | None = FACTOR) -> int | None:
    """The step after which the training is stopped, counted from 1."""
    values = losses.tolist()
    return next(
        (step for step in range(1, len(values) + 1) if is_lost(values[max(0, step - MEMORY) : step], factor)), None
    )


def steady(seed: int, steps: int = 600) -> np.ndarray:
    """Losses of a training that goes well: they fall slowly, and patches differ by a factor of 2 or 3."""
    return np.exp(np.random.default_rng(seed).normal(0, 0.5, steps)) * np.linspace(0.5, 0.1, steps)


@pytest.mark.parametrize("share", [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6])
@pytest.mark.parametrize("high", [3.0, 1e3, 1e6])
def test_rare_foreground_is_no_divergence(share, high):
    """Patches with foreground have a loss that is as much higher, from the first step to the last."""
    random = np.random.default_rng(int(1000 * share))
    losses = np.exp(random.normal(0, 0.5, 4000)) * np.where(random.random(4000) < share, high, 1)
    assert first_lost(losses) is None


def test_losses_without_a_mean_are_no_divergence():
    assert first_lost(np.abs(np.random.default_rng(0).standard_cauchy(STEPS)), factor=10) is None


def test_one_huge_loss_neither_stops_nor_blinds():
    for last in range(RECENT + 1):  # wherever it lies in the window
        assert not is_lost([1.0] * (MEMORY - last - 1) + [1e30] + [1.0] * last, 2)
    assert is_lost([1.0] * 100 + [1e30] + [1.0] * 99 + [21.0] * RECENT, FACTOR)


@pytest.mark.parametrize("seed", range(5))
def test_a_jump_that_stays_is_found_within_twenty_steps(seed):
    losses = steady(seed)
    losses[400:] = 100 * np.exp(np.random.default_rng(seed).normal(0, 0.5, 200))
    assert 400 < first_lost(losses) <= 420


def test_an_explosion_is_found_before_it_is_infinite():
    losses = steady(0)
    losses[400:] = 0.2 * 2.0 ** np.arange(200)
    assert 411 <= first_lost(losses) <= 425


def test_it_takes_eleven_of_twenty():
    assert not is_lost([1.0] * 200 + [21.0] * 10 + [1.0] * 10, FACTOR)
    assert is_lost([1.0] * 200 + [21.0] * 11 + [1.0] * 9, FACTOR)
    assert not is_lost([1.0] * 200 + [19.0] * 20, FACTOR)
    assert high_losses([1.0] * 200 + [1.0, 21.0] * 10, FACTOR) == 10


def test_what_is_older_does_not_count():
    assert usual_loss([99.0] * 50 + [1.0] * BEFORE + [3.0] * RECENT) == 1.0


def test_while_there_are_few_losses_nothing_is_lost():
    assert usual_loss([1.0] * (3 * RECENT - 1)) is None
    assert not is_lost([1.0] * 39 + [1e9] * 20, FACTOR)
    assert is_lost([1.0] * 40 + [1e9] * 20, FACTOR)


def test_a_state_is_kept_only_while_no_loss_is_near_the_limit():
    calm = [1.0] * 200
    assert is_good([*calm, *[4.0] * 20], FACTOR)
    assert not is_good([*calm, 5.0, *[1.0] * 19], FACTOR)  # above the root of 20
    assert is_good([*calm, 5.0, *[1.0] * 20], FACTOR)  # and 20 steps later again


def test_what_is_no_number_is_high_and_without_a_factor_nothing_is():
    for value in (math.inf, math.nan):
        assert is_lost([1.0] * 200 + [value] * 20, FACTOR)
        assert not is_lost([1.0] * 200 + [value] * 20, None)
        assert is_good([1.0] * 200 + [value] * 20, None)


@given(st.lists(st.floats(0.01, 10), max_size=300), st.floats(0.01, 100))
def test_the_scale_of_the_losses_does_not_matter(losses, scale):
    scaled = [usual_loss([scale * loss for loss in losses]), usual_loss(losses[-MEMORY:])]
    if scaled[1] is None:
        assert scaled[0] is None
    else:
        assert scaled[0] == pytest.approx(scale * scaled[1], rel=1e-9)
