"""Single high losses mean nothing; losses that jump and stay end a training."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet.divergence import MEMORY, is_good, is_lost, jump


def test_the_ratio_is_that_of_the_last_20_to_the_200_before():
    assert jump([1.0] * 200 + [3.0] * 20) == 3.0
    assert jump([99.0] * 50 + [1.0] * 200 + [3.0] * 20) == 3.0  # what is older does not count
    assert jump([1.0] * 210 + [3.0] * 10) == 2.0


def test_one_high_loss_is_no_jump():
    losses = [1.0] * 219 + [100.0]
    assert not is_lost(losses, 10)
    assert is_lost([1.0] * 200 + [100.0] * 3 + [1.0] * 17, 10)


def test_while_there_are_few_losses_nothing_is_lost():
    assert jump([1.0] * 39 + [1e9] * 20) == 1.0
    assert jump([1.0] * 40 + [1e9] * 20) == pytest.approx(1e9)


def test_a_state_is_good_only_well_below_the_limit():
    losses = [1.0] * 200 + [4.0] * 20
    assert not is_lost(losses, 9)
    assert not is_good(losses, 9)
    assert is_good(losses, 17)
    assert is_good([1.0] * 200 + [math.inf] * 20, None)
    assert not is_lost([1.0] * 200 + [math.inf] * 20, None)
    assert is_lost([1.0] * 200 + [math.nan] * 20, 10)


@given(st.lists(st.floats(0.01, 10), max_size=300), st.floats(0.01, 100))
def test_the_scale_of_the_losses_does_not_matter(losses, scale):
    np.testing.assert_allclose(jump([scale * loss for loss in losses]), jump(losses), rtol=1e-9)
    assert jump(losses) == jump(losses[-MEMORY:])
