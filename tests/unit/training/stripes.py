"""A tiny training on stripes of 6 px, and what tests of the trainer ask of it."""

import json

import numpy as np
import torch

from tests.unit.training.array_volume import ArrayVolume, values_of
from unet.config.model import ModelConfig
from unet.config.train import AugmentConfig, TrainConfig
from unet.network.auxiliary_head import WithAuxiliaryHead
from unet.network.model import build_model
from unet.training.affinities import AffinityTargets
from unet.training.affinity_patches import AffinitySampler
from unet.training.labelled_volume import LabelledVolume
from unet.training.learning_curve import LearningCurve
from unet.training.patches import PatchSampler
from unet.training.shape_descriptors import ShapeDescriptors
from unet.training.trainer import train
from unet.training.validation import ValidationResult
from unet.volumes.intensity import Normalisation

MODEL = ModelConfig(depth=2, base_channels=4)


def striped_volume() -> LabelledVolume:
    """Bright and dark stripes of 6 px with noise; the bright ones are class 1."""
    x = np.arange(96)
    target = np.broadcast_to((x // 6 % 2).astype(np.uint8), (2, 96, 96))
    noise = np.random.default_rng(0).normal(0, 15, target.shape)
    raw = np.clip(80 + 80 * target + noise, 0, 255).astype(np.uint8)
    ones = np.ones(target.shape, np.float32)
    return LabelledVolume(
        ArrayVolume(raw), ArrayVolume(target), ArrayVolume(ones), Normalisation((raw.mean(),), (raw.std(),))
    )


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


def affinity_sampler(config: TrainConfig, descriptors: ShapeDescriptors | None = None) -> AffinitySampler:
    """Patches of the stripes, of which each bright one is a body; two offsets: a network has two channels here."""
    classes = striped_volume()
    x = np.broadcast_to(np.arange(96) // 6, (2, 96, 96))
    ids = np.where(values_of(classes.targets) == 1, x + 1, 0).astype(np.uint32)
    volume = LabelledVolume(classes.raw, ArrayVolume(ids), classes.weights, classes.normalisation)
    sizes, pairs = ((1, 44, 44), (1, 28, 28)), AffinityTargets(((0, 0, 1), (0, 0, 3)))
    keys = {"augment": config.augment, "batch": config.batch, "seed": config.seed, "descriptors": descriptors}
    return AffinitySampler([volume], *sizes, affinities=pairs, **keys)


class Scores:
    """Looks that find given scores, one after the other."""

    def __init__(self, *scores: float) -> None:
        self.scores = list(scores)

    def validate(self, model: torch.nn.Module) -> ValidationResult:
        return ValidationResult(loss=1.0, score=self.scores.pop(0), threshold=0.5)
