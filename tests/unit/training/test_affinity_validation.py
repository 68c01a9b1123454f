"""The validation of affinities: its loss is that of the training, whatever the crops."""

import numpy as np
import pytest
import torch

from tests.unit.training.array_volume import values_of
from tests.unit.training.test_affinity_patches import NONE, PAIRS, ids_of_blocks, sampler
from unet.config.model import ModelConfig
from unet.geometry.tiling import tile_geometry
from unet.network.model import build_model
from unet.training.affinity_loss import AffinityLoss
from unet.training.affinity_validation import AffinityValidation, balanced_loss, loss_sums


@pytest.mark.parametrize("smallest", [None, 0.05, 0.4])
def test_the_loss_is_that_of_the_training_over_all_crops(smallest: float | None) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (3, 2, 6, 7)).astype(np.float32)
    target = rng.choice(np.array([0, 1, 255], np.uint8), logits.shape, p=[0.2, 0.5, 0.3])
    objective, given = AffinityLoss(smallest), torch.from_numpy(target)[None]
    counts = objective.counts(given, torch.ones(1))
    objective.begin_step(counts)
    expected = objective.loss(torch.from_numpy(logits)[None], given, torch.ones(1), counts).item()
    probabilities = torch.sigmoid(torch.from_numpy(logits)).numpy()
    parts = sum(loss_sums(probabilities[..., half], target[..., half]) for half in (slice(3), slice(3, None)))
    assert balanced_loss(np.asarray(parts), smallest) == pytest.approx(expected, rel=1e-5)


def test_a_network_that_knows_nothing_scores_one_half() -> None:
    ids = ids_of_blocks()
    config = ModelConfig(depth=2, base_channels=2, dimensions=3, output="affinities", dropout=0)
    network = build_model(config, classes=len(PAIRS.offsets))
    with torch.no_grad():
        for weights in network.parameters():
            weights.zero_()
    geometry = tile_geometry(config, (20, 20, 20))
    validation = AffinityValidation(sampler(ids, NONE).volumes, geometry, 2, torch.device("cpu"), PAIRS, 1e-6, 3)
    scores = validation.validate(network)
    assert (scores.loss, scores.score, scores.threshold) == (pytest.approx(np.log(2)), pytest.approx(0.5), None)
    assert network.training


def test_a_volume_without_labels_is_refused() -> None:
    ids = ids_of_blocks()
    [volume] = sampler(ids, NONE).volumes
    values_of(volume.weights)[:] = 0
    geometry = tile_geometry(ModelConfig(depth=2, dimensions=3), (20, 20, 20))
    with pytest.raises(ValueError, match=r"no voxel of 1 volume\(s\) is labelled"):
        AffinityValidation([volume], geometry, 2, torch.device("cpu"), PAIRS, 0.05, 3)
