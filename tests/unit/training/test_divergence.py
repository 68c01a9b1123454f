"""High losses of hard patches mean nothing, however rare or frequent; losses that jump and stay end a training."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet.training.divergence import (
    BASELINE_STEPS,
    MAX_STORED_LOSSES,
    RECENT_STEPS,
    baseline_losses,
    has_diverged,
    is_stable,
    loss_ratio,
)

FACTOR = 20.0


def first_lost(losses: np.ndarray, factor: float = FACTOR) -> int | None:
    """The step after which the training is stopped, counted from 1."""
    values = losses.tolist()
    ends = range(1, len(values) + 1)
    return next((end for end in ends if has_diverged(values[max(0, end - MAX_STORED_LOSSES) : end], factor)), None)


def spread(seed: int, steps: int) -> np.ndarray:
    """Return the losses of patches that differ by a factor of 2 or 3."""
    return np.exp(np.random.default_rng(seed).normal(0, 0.5, steps))


@pytest.mark.parametrize("share", [0.005, 0.025, 0.1, 0.3, 0.45, 0.5, 0.6])
@pytest.mark.parametrize("high", [30.0, 1e6])
def test_rare_foreground_is_no_divergence(share, high):
    """Patches with foreground have a loss that is as much higher, from the first step to the last."""
    foreground = np.random.default_rng(int(1000 * share)).random(4000) < share
    assert first_lost(spread(0, 4000) * np.where(foreground, high, 1)) is None


def test_losses_without_a_mean_are_no_divergence():
    assert first_lost(np.abs(np.random.default_rng(0).standard_cauchy(4000))) is None


def test_one_huge_loss_neither_stops_nor_blinds():
    for last in range(RECENT_STEPS + 1):  # wherever it lies in the window
        assert not has_diverged([1.0] * (MAX_STORED_LOSSES - last - 1) + [1e30] + [1.0] * last, 2)
    assert has_diverged([1.0] * 100 + [1e30] + [1.0] * 99 + [21.0] * RECENT_STEPS, FACTOR)


@pytest.mark.parametrize("seed", range(5))
def test_a_jump_that_stays_is_found_within_forty_steps(seed):
    losses = spread(seed, 600) * np.linspace(0.5, 0.1, 600)
    losses[400:] = 30 * spread(seed + 100, 200)
    assert 400 + RECENT_STEPS // 2 <= first_lost(losses) <= 400 + RECENT_STEPS


def test_a_network_that_has_collapsed_after_learning_well_is_found():
    """It knows nothing any more: log 2 for two classes, after 0.01, with one explosion between."""
    losses = spread(1, 600) * np.geomspace(0.7, 0.01, 600)
    losses[500], losses[501:] = 40, math.log(2)
    assert 500 + RECENT_STEPS // 2 <= first_lost(losses) <= 500 + RECENT_STEPS


def test_an_explosion_is_found_before_it_is_infinite():
    losses = np.concatenate([0.2 * spread(0, 400), 0.2 * 2.0 ** np.arange(200)])
    assert 400 + RECENT_STEPS // 2 < first_lost(losses) <= 400 + RECENT_STEPS


def test_a_learning_rate_far_too_high_is_found():
    """Take AdamW at 10 with clipped gradients: the loss is ten times what it was, with explosions among that."""
    random = np.random.default_rng(0)
    wild = spread(1, 200) * np.where(random.random(200) < 0.2, 300, 10)
    assert 400 + RECENT_STEPS // 2 <= first_lost(np.concatenate([spread(0, 400), wild])) <= 400 + RECENT_STEPS


def test_what_is_older_does_not_count():
    assert loss_ratio([99.0] * 50 + [1.0] * BASELINE_STEPS + [3.0] * RECENT_STEPS) == 3.0


def test_while_there_are_few_losses_nothing_is_lost():
    assert baseline_losses([1.0] * (2 * RECENT_STEPS - 1)) == []
    assert not has_diverged([1.0] * 39 + [1e9] * RECENT_STEPS, FACTOR)
    assert has_diverged([1.0] * 40 + [1e9] * RECENT_STEPS, FACTOR)


def test_a_state_is_kept_only_while_no_loss_is_near_the_limit():
    stable = [1.0] * BASELINE_STEPS
    assert is_stable([*stable, *[4.0] * RECENT_STEPS], FACTOR)
    assert not is_stable([*stable, 5.0, *[1.0] * (RECENT_STEPS - 1)], FACTOR)  # above the root of 20
    assert is_stable([*stable, 5.0, *[1.0] * RECENT_STEPS], FACTOR)  # and as many steps later again


@pytest.mark.parametrize("share", [0.01, 0.05, 0.3])
def test_a_state_can_be_kept_often_enough_however_rare_the_foreground(share):
    """The worst share is the one that `BASELINE_SHARE` leaves out: there it takes some hundred steps."""
    foreground = np.random.default_rng(0).random(4000) < share
    losses = (spread(0, 4000) * np.where(foreground, 1e6, 1)).tolist()
    good = [end for end in range(MAX_STORED_LOSSES, 4000) if is_stable(losses[end - MAX_STORED_LOSSES : end], FACTOR)]
    assert len(good) > 100
    assert max(np.diff([MAX_STORED_LOSSES, *good, 4000])) < 1000


def test_without_a_factor_nothing_is_lost_and_everything_good():
    losses = [1.0] * BASELINE_STEPS + [1e30] * RECENT_STEPS
    assert has_diverged(losses, FACTOR)
    assert not is_stable(losses, FACTOR)
    assert not has_diverged(losses, None)
    assert is_stable(losses, None)


@given(st.lists(st.floats(0.01, 10), max_size=300), st.integers(-6, 6), st.floats(1.1, 30))
def test_the_scale_of_the_losses_does_not_matter(losses, power, factor):
    scaled = [2.0**power * loss for loss in losses]
    assert has_diverged(scaled, factor) == has_diverged(losses[-MAX_STORED_LOSSES:], factor)
    assert is_stable(scaled, factor) == is_stable(losses[-MAX_STORED_LOSSES:], factor)
