"""The average of the weights: its formula, what it is saved as, and that a kill changes nothing."""

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from torch import nn

from tests.unit.training.stripes import MODEL, SHORT, KilledAt, assert_same_bits, sampler, trained, weights
from unet.network.model import build_model
from unet.training.validation import ValidationResult
from unet.training.weight_average import WeightAverage

AVERAGED = SHORT.model_copy(update={"weight_average": 0.9})
BATCH_NORM = MODEL.model_copy(update={"normalisation": "batch"})


def test_the_average_is_the_weighted_mean_of_all_weights_with_shares_that_sum_to_one() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1))
    weight, variance, counted = model[0].weight, model[1].running_var, model[1].num_batches_tracked
    weight.data.fill_(5.0)
    average = WeightAverage(model, 0.5)
    shares, values = np.array([1.0]), [5.0]
    for step in range(1, 8):
        weight.data.fill_(step**2)
        variance.fill_(step)
        counted.fill_(step)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        shares, values = np.append(shares * decay, 1 - decay), [*values, step**2]
    assert shares.sum() == pytest.approx(1)
    assert average.tensors["0.weight"].item() == pytest.approx(shares @ values)
    assert average.tensors["1.running_var"].item() == pytest.approx(shares @ [1, *range(1, 8)])
    assert average.tensors["1.num_batches_tracked"].item() == 7


def test_the_model_has_the_average_within_the_context_alone() -> None:
    model = build_model(BATCH_NORM)
    average, before = WeightAverage(model, 0.9), [w.copy() for w in weights(model)]
    with torch.no_grad():
        for value in model.parameters():
            value += 1
    after = [w.copy() for w in weights(model)]
    with average.in_model():
        within = [w.copy() for w in weights(model)]
    for found, expected in ((within, before), (weights(model), after)):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_training_itself_is_not_changed_and_its_average_is_what_is_saved(tmp_path) -> None:
    plain, _ = trained(tmp_path / "a", SHORT, model=BATCH_NORM)
    averaged, _ = trained(tmp_path / "b", AVERAGED, model=BATCH_NORM)
    states = [torch.load(tmp_path / name / "state.pt", weights_only=True) for name in "ab"]
    for key, value in states[0]["model"].items():
        torch.testing.assert_close(states[1]["model"][key], value, rtol=0, atol=0)
        torch.testing.assert_close(states[1]["average"][key], averaged.state_dict()[key], rtol=0, atol=0)
    assert not np.array_equal(weights(plain)[0], weights(averaged)[0])


def total(tensors: Iterable[torch.Tensor]) -> float:
    return float(sum(value.detach().abs().sum() for value in tensors))


class WeightSum:
    """Scores a model by the sum of its weights."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def validate(self, model: nn.Module) -> ValidationResult:
        self.seen.append(total(model.parameters()))
        return ValidationResult(0.0, self.seen[-1])


def test_what_is_validated_is_the_average_and_the_best_one_is_kept(tmp_path) -> None:
    config = AVERAGED.model_copy(update={"validation_steps": 4})
    scores = WeightSum()
    model, result = trained(tmp_path, config, validation=scores)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    names = [name for name, _ in model.named_parameters()]
    assert scores.seen[-1] == total(state["average"][name] for name in names)
    assert scores.seen[-1] != total(state["model"][name] for name in names)
    assert result.validation is not None
    assert total(model.parameters()) == result.validation.score == max(scores.seen)


def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path) -> None:
    config = AVERAGED.model_copy(update={"validation_steps": 3})
    whole, _ = trained(tmp_path / "whole", config, model=BATCH_NORM, validation=WeightSum())
    for step in (2, 5):
        killed = KilledAt(sampler(config, config.augment), step)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "cut", config, killed, model=BATCH_NORM, validation=WeightSum())
    resumed, result = trained(tmp_path / "cut", config, model=BATCH_NORM, validation=WeightSum())
    assert result.resumed_from == 5
    assert_same_bits(whole, resumed)


def test_after_a_warm_up_and_a_cosine_to_zero_the_average_is_close_to_the_weights(tmp_path) -> None:
    config = SHORT.model_copy(update={"weight_average": 0.8, "steps": 40, "warmup_steps": 5})
    trained(tmp_path, config, sampler(config))
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    torch.manual_seed(config.seed)
    start = build_model(MODEL).state_dict()
    apart, moved = (
        sum(float((state["model"][key] - other[key]).abs().sum()) for key in start)
        for other in (state["average"], start)
    )
    assert 0 < apart < 0.1 * moved
