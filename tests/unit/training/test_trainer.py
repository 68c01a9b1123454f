"""Training: it learns, the same seed gives the same bits, and the best weights are kept."""

from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.unit.training.stripes import (
    MODEL,
    SHORT,
    STILL,
    KilledAt,
    Scores,
    affinity_sampler,
    assert_same_bits,
    lines,
    sampler,
    striped_volume,
    trained,
    weights,
)
from unet.config.model import ModelConfig
from unet.config.train import TrainConfig
from unet.geometry.tiling import TileGeometry
from unet.network.model import build_model
from unet.training import trainer
from unet.training.affinity_loss import AffinityLoss
from unet.training.loss import labelled_pixels, weighted_cross_entropy
from unet.training.optimizer import learning_rate
from unet.training.patches import PatchSampler
from unet.training.shape_descriptor_loss import WithShapeDescriptors
from unet.training.shape_descriptors import ShapeDescriptors
from unet.training.trainer import seed_of_step
from unet.training.validation import Validation, ValidationResult


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 0.05), ("adamw", 0.01)])
def test_a_tiny_network_learns_stripes(tmp_path, optimizer, rate):
    config = TrainConfig(
        steps=80,
        batch=2,
        optimizer=optimizer,
        learning_rate=rate,
        momentum=0.9,
        warmup_steps=5,
        checkpoint_minutes=60,
    )
    model, result = trained(tmp_path, config, sampler(config))
    raw, target, _ = sampler(config).batch(10_000)
    with torch.no_grad():
        found = model.eval()(torch.from_numpy(raw)).argmax(1).numpy()
    assert (found == target).mean() > 0.95
    assert result.loss < 0.5 * lines(tmp_path)[0]["loss"]


def test_a_tiny_network_learns_which_neighbours_are_of_one_stripe(tmp_path):
    config = TrainConfig(steps=40, batch=2, optimizer="adamw", learning_rate=0.02, warmup_steps=5, augment=STILL)
    model, result = trained(tmp_path, config, affinity_sampler(config), objective=AffinityLoss())
    raw, target, _ = affinity_sampler(config).batch(10_000)
    with torch.no_grad():
        found = model.eval()(torch.from_numpy(raw)).numpy() > 0
    assert (found == target)[target != 255].mean() > 0.9
    assert result.loss < 0.6 * lines(tmp_path)[0]["loss"]


def test_shape_descriptors_are_learnt_beside_affinities_and_validated_without(tmp_path):
    config = TrainConfig(steps=40, batch=2, optimizer="adamw", learning_rate=0.02, warmup_steps=5, augment=STILL)
    config = config.model_copy(update={"validation_steps": 40, "log_steps": 5})
    descriptors, seen = ShapeDescriptors((1, 2, 2), axes=(1, 2)), []

    class Noted:
        def validate(self, model):
            seen.append(model)
            return ValidationResult(1.0, 1.0)

    objective = WithShapeDescriptors(AffinityLoss(), 6, weight=10.0)
    model, _ = trained(tmp_path, config, affinity_sampler(config, descriptors), objective=objective, validation=Noted())
    assert seen == [model]
    told = [line["loss"] for line in lines(tmp_path)]
    assert told[-1] < 0.5 * told[0]
    with torch.no_grad():
        assert model(torch.zeros(1, 1, 44, 44)).shape[1] == 2


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tmp_path):
    first, _ = trained(tmp_path / "a", SHORT)
    again, _ = trained(tmp_path / "b", SHORT)
    other, _ = trained(tmp_path / "c", SHORT.model_copy(update={"seed": 1}))
    assert_same_bits(first, again)
    assert not np.array_equal(weights(first)[0], weights(other)[0])


def test_the_log_says_how_it_went(tmp_path, monkeypatch):
    """The clock goes on by a second at each look, and every step looks more than once."""
    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=map(float, count()).__next__))
    config, seen = SHORT.model_copy(update={"validation_steps": 4}), []
    _, result = trained(tmp_path, config, validation=Scores(0.1, 0.2), on_line=seen.append)
    assert seen == lines(tmp_path)
    assert list(seen[0]) == [
        "step",
        "loss",
        "learning_rate",
        "seconds",
        "steps_per_second",
        "data_wait_share",
        "validation_loss",
        "validation_score",
        "validation_threshold",
    ]
    assert 0 <= seen[0]["data_wait_share"] <= 1
    assert all(0 < line["steps_per_second"] < 1 for line in seen)
    assert result.validation == ValidationResult(1.0, 0.2, 0.5)


def test_looking_at_validation_volumes_does_not_change_the_training(tmp_path):
    config = SHORT.model_copy(update={"validation_steps": 3})
    geometry = TileGeometry((1, 44, 44), (1, 28, 28), (0, 8, 8), (1, 2, 2))
    validation = Validation([striped_volume()], geometry, 2, torch.device("cpu"))
    watched, _ = trained(tmp_path / "a", config, validation=Rising(validation))
    alone, _ = trained(tmp_path / "b", config)
    assert_same_bits(watched, alone)
    assert [line["step"] for line in lines(tmp_path / "a")] == [3, 4, 6, 8]
    assert ["validation_loss" in line for line in lines(tmp_path / "a")] == [True, False, True, True]


class Rising:
    """Looks that always find something better, so that the last weights are kept."""

    def __init__(self, validation: Validation) -> None:
        self.validation, self.score = validation, 0.0

    def validate(self, model: torch.nn.Module) -> ValidationResult:
        self.score += 1
        return ValidationResult(self.validation.validate(model).loss, self.score)


def test_the_weights_with_the_best_score_are_kept(tmp_path):
    config = SHORT.model_copy(update={"validation_steps": 2})
    best, result = trained(tmp_path / "a", config, validation=Scores(0.3, 0.7, 0.6, 0.7))
    assert (result.steps, result.kept_step, result.validation.score) == (8, 4, 0.7)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "b", config, KilledAt(sampler(config, config.augment), 4))
    state = torch.load(tmp_path / "b" / "state.pt", weights_only=True)
    for key, value in best.state_dict().items():
        assert torch.equal(value, state["model"][key])


def test_without_a_better_score_patience_ends_the_training_for_good(tmp_path):
    config = SHORT.model_copy(update={"validation_steps": 1, "patience": 2})
    _, result = trained(tmp_path, config, validation=Scores(0.3, 0.7, 0.6, 0.5, 0.9))
    assert (result.steps, result.kept_step) == (4, 2)
    _, again = trained(tmp_path, config, validation=Scores())
    assert (again.steps, again.kept_step, again.resumed_from) == (4, 2, 4)


class SameBatch:
    """The first batch in every step."""

    def __init__(self, patches: PatchSampler) -> None:
        self.batch = patches.batch(0)

    def batches(self, start, stop, **share):
        yield from [self.batch] * (stop - start)


@pytest.mark.parametrize("batch", [1, 2])
def test_every_step_has_a_dropout_mask_of_its_own(tmp_path, batch):
    """Repeat one batch with weights that stay: only the masks can change the loss."""
    config = SHORT.model_copy(update={"learning_rate": 1e-30, "log_steps": 1, "batch": batch, "steps": 4})
    for dropout, expected in ((0.0, 1), (0.5, config.steps)):
        folder, model = tmp_path / str(dropout), MODEL.model_copy(update={"dropout": dropout})
        trained(folder, config, SameBatch(sampler(config)), model=model)
        assert len({line["loss"] for line in lines(folder)}) == expected


ONE_STEP = SHORT.model_copy(
    update={"steps": 1, "warmup_steps": 0, "schedule": "constant", "momentum": 0.0, "learning_rate": 1.0}
)


def step_of(folder, model: ModelConfig, **changes) -> tuple[torch.nn.Module, list[torch.Tensor]]:
    """The network before a step of `ONE_STEP`, and how far each weight moved: minus its gradient, after clipping."""
    config = ONE_STEP.model_copy(update=changes)
    torch.manual_seed(config.seed)
    before, (after, _) = build_model(model), trained(folder, config, sampler(config), model=model)
    return before, [b.detach() - a.detach() for a, b in zip(after.parameters(), before.parameters(), strict=True)]


def test_a_clipped_gradient_moves_the_weights_by_no_more(tmp_path):
    for norm, expected in ((1e-3, 1e-3), (None, None)):
        _, moved = step_of(tmp_path / str(norm), MODEL, clip_norm=norm)
        length = torch.cat([part.flatten() for part in moved]).norm().item()
        assert length == pytest.approx(expected, rel=0.01) if expected else length > 0.1


@pytest.mark.parametrize("batch", [1, 2])
def test_a_padded_network_learns_from_the_middle_of_its_output(tmp_path, batch):
    """Its border has seen the padding: the gradient is that of the loss on the window of the targets.

    A batch of one is computed at once, a larger one sample by sample.
    """
    model = MODEL.model_copy(update={"convolution": "same", "dropout": 0.0})
    network, moved = step_of(tmp_path, model, clip_norm=None, batch=batch)
    patches = sampler(ONE_STEP.model_copy(update={"batch": batch}))
    raw, target, weight = map(torch.from_numpy, patches.batch(0))
    logits = network.train()(raw)
    assert (logits.shape[2:], target.shape[1:]) == ((44, 44), (28, 28))
    weighted_cross_entropy(logits[:, :, 8:36, 8:36], target, weight, labelled_pixels(target, weight)).backward()
    for gradient, step in zip((part.grad for part in network.parameters()), moved, strict=True):
        torch.testing.assert_close(step, gradient, rtol=1e-3, atol=1e-5)


def test_bfloat16_learns_like_float32(tmp_path):
    config = SHORT.model_copy(update={"steps": 6, "log_steps": 6})
    _, full = trained(tmp_path / "full", config)
    half, result = trained(tmp_path / "half", config.model_copy(update={"precision": "bfloat16"}))
    assert result.loss == pytest.approx(full.loss, rel=0.02)
    assert result.loss != full.loss
    assert {value.dtype for value in half.parameters()} == {torch.float32}


def test_the_warm_up_rises_and_the_cosine_falls_to_nothing():
    config = TrainConfig(steps=100, warmup_steps=10, learning_rate=2.0)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[:2] == pytest.approx([0.2, 0.4])
    assert max(rates) == rates[9] == rates[10] == 2
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.001
    constant = config.model_copy(update={"schedule": "constant"})
    assert learning_rate(99, constant) == 2


def test_steps_and_seeds_have_streams_of_their_own():
    assert (
        len({seed_of_step(seed, step, rank) for seed in range(-2, 8) for step in range(50) for rank in range(2)})
        == 1000
    )
