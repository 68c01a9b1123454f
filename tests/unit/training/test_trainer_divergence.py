"""A training whose loss is lost stops with a message, and its last good state is kept."""

import os
import signal

import numpy as np
import pytest
import torch

from tests.unit.training.stripes import SHORT, heavier, sampler, trained
from unet.training.divergence import TrainingError
from unet.training.stop_requests import TrainingStoppedError


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(tmp_path):
    patches = sampler(SHORT)
    heavier(patches, np.nan, since=5)
    with pytest.raises(TrainingError, match=r"nan.*step 6.*learning_rate \(now 0.01\).*state of step 5 is kept"):
        trained(tmp_path, SHORT, patches)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["done"]["step"] == 5
    assert all(torch.isfinite(value).all() for value in state["model"].values())


def test_a_message_claims_no_state_that_there_is_not(tmp_path):
    config, patches = SHORT.model_copy(update={"checkpoint_minutes": 60.0}), sampler(SHORT)
    heavier(patches, np.nan, since=5)
    with pytest.raises(TrainingError, match=r"No state has been written \(train.checkpoint_minutes is 60\)"):
        trained(tmp_path, config, patches)
    assert not (tmp_path / "state.pt").exists()
    with pytest.raises(TrainingStoppedError, match="goes on from step 5, kept in"):
        trained(tmp_path, config, on_line=lambda line: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(TrainingError, match=r"The state of step 5 is kept in .*state.pt: the same settings go on"):
        trained(tmp_path, config, patches)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["done"]["step"] == 5


CALM = SHORT.model_copy(update={"steps": 125, "batch": 1, "spike_factor": 3.0, "learning_rate": 1e-3})


def test_a_loss_that_jumps_and_stays_stops_and_keeps_the_last_good_state(tmp_path):
    """Many losses have to be high, but not one of them enters a state that is kept."""
    patches = sampler(CALM)
    heavier(patches, 100, since=80)
    expected = r"up to step 10\d, are \d+\.\d times .* allows 3\..*clip_norm.*spike_factor to null.*step 80 is kept"
    with pytest.raises(TrainingError, match=expected):
        trained(tmp_path, CALM, patches)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["done"]["step"] == 80


def test_without_a_factor_the_training_goes_on_from_the_kept_state(tmp_path):
    patches = sampler(CALM)
    heavier(patches, 100, since=80)
    with pytest.raises(TrainingError):
        trained(tmp_path, CALM, patches)
    _, result = trained(tmp_path, CALM.model_copy(update={"spike_factor": None}), patches)
    assert (result.resumed_from, result.steps) == (80, 125)


def test_a_few_hard_patches_do_not_stop(tmp_path):
    patches = sampler(CALM)
    heavier(patches, 1e4, since=80, until=95)
    assert trained(tmp_path, CALM, patches)[1].steps == 125


def test_a_signal_among_high_losses_does_not_replace_a_good_state(tmp_path):
    patches, config = sampler(CALM), CALM.model_copy(update={"log_steps": 85})
    heavier(patches, 100, since=80)
    with pytest.raises(TrainingStoppedError, match="after step 86 of 125; the next run goes on from step 80"):
        trained(tmp_path, config, patches, on_line=lambda line: os.kill(os.getpid(), signal.SIGTERM))
    assert torch.load(tmp_path / "state.pt", weights_only=True)["done"]["step"] == 80
