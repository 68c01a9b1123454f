"""Training: it learns, the same seed gives the same bits, and being killed changes nothing."""

import json
import os
import signal
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.unit.training.array_volume import ArrayVolume
from unet.config.model import ModelConfig
from unet.config.train import AugmentConfig, TrainConfig
from unet.geometry.tiling import TileGeometry
from unet.network.auxiliary_head import WithAuxiliaryHead
from unet.network.model import build_model
from unet.training import trainer
from unet.training.affinities import AffinityTargets
from unet.training.affinity_loss import AffinityLoss
from unet.training.affinity_patches import AffinitySampler
from unet.training.divergence import TrainingError
from unet.training.labelled_volume import LabelledVolume
from unet.training.learning_curve import LearningCurve
from unet.training.loss import WeightedCrossEntropy, labelled_pixels, weighted_cross_entropy
from unet.training.optimizer import learning_rate
from unet.training.patches import PatchSampler
from unet.training.shape_descriptor_loss import WithShapeDescriptors
from unet.training.shape_descriptors import ShapeDescriptors
from unet.training.state import TrainingStateError
from unet.training.stop_requests import TrainingStoppedError
from unet.training.trainer import seed_of_step, train
from unet.training.validation import Validation, ValidationResult
from unet.volumes.intensity import Normalisation

MODEL = ModelConfig(depth=2, base_channels=4)


def striped_volume() -> LabelledVolume:
    """Bright and dark stripes of 6 px with noise; the bright ones are class 1."""
    x = np.arange(96)
    target = np.broadcast_to((x // 6 % 2).astype(np.uint8), (2, 96, 96))
    noise = np.random.default_rng(0).normal(0, 15, target.shape)
    raw = np.clip(80 + 80 * target + noise, 0, 255).astype(np.uint8)
    ones = np.ones(target.shape, np.float32)
    return LabelledVolume(*map(ArrayVolume, (raw, target, ones)), Normalisation((raw.mean(),), (raw.std(),)))


def sampler(config: TrainConfig, augment: AugmentConfig | None = None, model: ModelConfig = MODEL) -> PatchSampler:
    output = 44 if model.convolution == "same" else 28
    return PatchSampler(
        [striped_volume()], (1, 44, 44), (1, output, output), augment, batch=config.batch, seed=config.seed
    )


def trained(folder, config: TrainConfig, patches=None, model=MODEL, fingerprint="a", **keys):
    torch.manual_seed(config.seed)
    network = build_model(model)
    described = getattr(getattr(patches, "patches", patches), "descriptors", None)
    result = train(
        network if described is None else WithAuxiliaryHead(network, described.channels),
        patches or sampler(config, config.augment),
        config,
        state_path=folder / "state.pt",
        curve=LearningCurve(folder / "training.jsonl"),
        fingerprint=fingerprint,
        **keys,
    )
    return network, result


def weights(model: torch.nn.Module) -> list[np.ndarray]:
    return [value.detach().numpy() for value in model.state_dict().values()]


def assert_same_bits(a: torch.nn.Module, b: torch.nn.Module) -> None:
    for one, other in zip(weights(a), weights(b), strict=True):
        np.testing.assert_array_equal(one, other)


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]


class KilledAt:
    """Patches that run out with an error, as a process that is killed after `step` steps."""

    def __init__(self, patches: PatchSampler, step: int) -> None:
        self.patches, self.last = patches, step

    def batches(self, start, stop, **share):
        for step, batch in zip(range(start, stop), self.patches.batches(start, stop, **share), strict=False):
            if step == self.last:
                raise KeyboardInterrupt
            yield batch


def heavier(patches: PatchSampler, factor: float, since: int, until: int = 1000) -> None:
    """Multiply the weights of the patches of some steps."""
    good = patches.batch

    def batch(step: int, *share):
        raw, target, weight = good(step, *share)
        return raw, target, weight * np.float32(factor if since <= step < until else 1)

    patches.batch = batch


STILL = AugmentConfig(flips=False, rotation="none", elastic_px=0)
SHORT = TrainConfig(
    steps=8, warmup_steps=2, batch=2, learning_rate=0.01, momentum=0.9, log_steps=4, checkpoint_minutes=1e-9
)


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


def affinity_sampler(config: TrainConfig, descriptors: ShapeDescriptors | None = None) -> AffinitySampler:
    """Patches of the stripes, of which each bright one is a body; two offsets: a network has two channels here."""
    classes = striped_volume()
    x = np.broadcast_to(np.arange(96) // 6, (2, 96, 96))
    ids = np.where(classes.targets.values == 1, x + 1, 0).astype(np.uint32)
    volume = LabelledVolume(classes.raw, ArrayVolume(ids), classes.weights, classes.normalisation)
    sizes, pairs = ((1, 44, 44), (1, 28, 28)), AffinityTargets(((0, 0, 1), (0, 0, 3)))
    keys = {"augment": config.augment, "batch": config.batch, "seed": config.seed, "descriptors": descriptors}
    return AffinitySampler([volume], *sizes, affinities=pairs, **keys)


LEARNT = {
    "classes": (lambda config: sampler(config, config.augment), WeightedCrossEntropy),
    "affinities": (affinity_sampler, AffinityLoss),
    "descriptors": (
        lambda config: affinity_sampler(config, ShapeDescriptors((1, 2, 2), axes=(1, 2))),
        lambda: WithShapeDescriptors(AffinityLoss(), 6, weight=1.0),
    ),
}


@pytest.mark.parametrize(
    ("optimizer", "normalisation", "output"),
    [
        *(("sgd", "none", "classes"), ("sgd", "batch", "classes")),
        *(("adamw", "none", "descriptors"), ("adamw", "batch", "affinities")),
    ],
)
def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path, optimizer, normalisation, output):
    average = 0.9 if output == "descriptors" else None  # of the auxiliary head too
    config = SHORT.model_copy(update={"optimizer": optimizer, "weight_average": average})
    model = MODEL.model_copy(update={"normalisation": normalisation})
    patches, objective = LEARNT[output]
    whole, expected = trained(tmp_path / "whole", config, patches(config), model, objective=objective())
    for killed_at in (3, 6):
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "killed", config, KilledAt(patches(config), killed_at), model, objective=objective())
    resumed, result = trained(tmp_path / "killed", config, patches(config), model, objective=objective())
    assert_same_bits(whole, resumed)
    assert (result.resumed_from, result.steps, result.loss) == (6, 8, expected.loss)
    assert [(line["step"], line["loss"]) for line in lines(tmp_path / "killed")] == [
        (line["step"], line["loss"]) for line in lines(tmp_path / "whole")
    ]


def test_a_finished_training_is_not_repeated(tmp_path):
    model, _ = trained(tmp_path, SHORT)
    again, result = trained(tmp_path, SHORT)
    assert_same_bits(model, again)
    assert result.resumed_from == 8
    assert [line["step"] for line in lines(tmp_path)] == [4, 8]


def test_a_state_of_another_training_is_refused_and_left_as_it_is(tmp_path):
    trained(tmp_path, SHORT, fingerprint="a")
    before = (tmp_path / "state.pt").read_bytes()
    with pytest.raises(TrainingStateError, match=r"its fingerprint is a, this one's b. Move it away"):
        trained(tmp_path, SHORT, fingerprint="b")
    assert (tmp_path / "state.pt").read_bytes() == before


def test_a_state_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "state.pt").write_bytes(b"cut short")
    with pytest.raises(TrainingStateError, match=r"state.pt cannot be read: .*Remove it to train from the start"):
        trained(tmp_path, SHORT)


def test_going_on_with_other_threads_is_told(tmp_path, caplog):
    threads = torch.get_num_threads()
    trained(tmp_path, SHORT)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    torch.save({**state, "threads": threads + 1}, tmp_path / "state.pt")
    trained(tmp_path, SHORT)
    [warning] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert f"was written with {threads + 1} threads, and the training goes on with {threads}" in warning.message


def test_the_same_threads_give_the_same_bits_on_any_cores(tmp_path):
    """What a sum of several threads is depends on how many share it, not on where they run."""
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    config = SHORT.model_copy(update={"batch": 1})
    try:
        torch.set_num_threads(2)
        everywhere, _ = trained(tmp_path / "a", config, threads=2)
        os.sched_setaffinity(0, {min(cores)})
        on_one, _ = trained(tmp_path / "b", config, threads=2)
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)
    assert_same_bits(everywhere, on_one)


def test_up_to_one_thread_per_sample_gives_the_same_bits_also_after_a_kill(tmp_path):
    config, model = SHORT.model_copy(update={"batch": 3}), MODEL.model_copy(update={"normalisation": "batch"})
    alone, _ = trained(tmp_path / "alone", config, model=model, threads=1)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", config, KilledAt(sampler(config, config.augment), 5), model=model, threads=2)
    resumed, result = trained(tmp_path / "killed", config, model=model, threads=3)
    assert result.resumed_from == 5
    assert_same_bits(alone, resumed)


def test_lines_after_the_resumed_step_and_broken_ones_are_dropped(tmp_path):
    config = SHORT.model_copy(update={"checkpoint_minutes": 60.0})
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, config, KilledAt(sampler(config), 6))
    with (tmp_path / "training.jsonl").open("a") as log:
        log.write('{"step": 7, "lo')
    trained(tmp_path, config)
    assert [line["step"] for line in lines(tmp_path)] == [4, 8]


def test_a_signal_stops_after_one_more_step_with_the_state_written(tmp_path):
    config = SHORT.model_copy(update={"checkpoint_minutes": 60.0, "log_steps": 3})
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingStoppedError, match="after step 4 of 8"):
        trained(tmp_path, config, on_line=lambda line: os.kill(os.getpid(), signal.SIGTERM))
    assert signal.getsignal(signal.SIGTERM) is before
    resumed, result = trained(tmp_path, config)
    assert result.resumed_from == 4
    assert_same_bits(resumed, trained(tmp_path / "whole", config)[0])


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


class Scores:
    """Looks that find given scores, one after the other."""

    def __init__(self, *scores: float) -> None:
        self.scores = list(scores)

    def validate(self, model: torch.nn.Module) -> ValidationResult:
        return ValidationResult(loss=1.0, score=self.scores.pop(0), threshold=0.5)


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


def test_the_best_weights_outlive_a_kill(tmp_path):
    config = SHORT.model_copy(update={"validation_steps": 2})
    whole, expected = trained(tmp_path / "whole", config, validation=Scores(0.3, 0.7, 0.6, 0.5))
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", config, KilledAt(sampler(config, config.augment), 5), validation=Scores(0.3, 0.7))
    resumed, result = trained(tmp_path / "killed", config, validation=Scores(0.6, 0.5))
    assert_same_bits(whole, resumed)
    assert result[1:2] + result[3:5] == expected[1:2] + expected[3:5]


def test_without_a_better_score_patience_ends_the_training_for_good(tmp_path):
    config = SHORT.model_copy(update={"validation_steps": 1, "patience": 2})
    _, result = trained(tmp_path, config, validation=Scores(0.3, 0.7, 0.6, 0.5, 0.9))
    assert (result.steps, result.kept_step) == (4, 2)
    _, again = trained(tmp_path, config, validation=Scores())
    assert (again.steps, again.kept_step, again.resumed_from) == (4, 2, 4)


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


def test_a_signal_in_the_last_step_loses_nothing(tmp_path):
    """The training is finished then, and need not be run again."""
    config = SHORT.model_copy(update={"log_steps": SHORT.steps - 1, "checkpoint_minutes": 60.0})
    _, result = trained(tmp_path, config, on_line=lambda line: os.kill(os.getpid(), signal.SIGTERM))
    assert result.steps == config.steps
    assert torch.load(tmp_path / "state.pt", weights_only=True)["done"]["step"] == config.steps


class SameBatch:
    """The first batch in every step."""

    def __init__(self, patches: PatchSampler) -> None:
        self.batch = patches.batch(0)

    def batches(self, start, stop, **share):
        yield from [self.batch] * (stop - start)


@pytest.mark.parametrize("batch", [1, 2])
def test_every_step_has_a_dropout_mask_of_its_own(tmp_path, batch):
    """With one batch again and again and weights that stay, only the masks can move the loss."""
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
    """Its rim has seen the padding: the gradient is that of the loss on the window of the targets.

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
