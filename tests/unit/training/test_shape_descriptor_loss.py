"""Affinities and shape descriptors together, by hand on four voxels; the auxiliary head is trained and left out."""

from math import log

import pytest
import torch

from unet.config.model import ModelConfig
from unet.network.auxiliary_head import WithAuxiliaryHead, stored_network
from unet.network.model import build_model
from unet.training.affinity_loss import AffinityLoss
from unet.training.shape_descriptor_loss import WithShapeDescriptors

TARGET = torch.tensor([[1, 1, 1, 0], [0, 0.5, 1, 255], [0.5, 0.5, 0, 255]])[None, :, None]
ONES = torch.ones(1, 1, 1, 1)


def test_the_loss_of_four_voxels_and_its_gradient() -> None:
    """Take probability 1/2 everywhere: squares 1/4, 0, 1/4 and 0, 0, 1/4 over 2 x 3 values; the fourth is unknown."""
    objective, logits = WithShapeDescriptors(AffinityLoss(), 2, weight=3.0), torch.zeros(TARGET.shape)
    logits.requires_grad_()
    counts = objective.counts(TARGET, ONES)
    assert counts.tolist() == [3, 4, 3]
    objective.begin_step(counts)
    loss = objective.loss(logits, TARGET, ONES, counts)
    loss.backward()
    assert loss.item() == pytest.approx(log(2) + 3 * (3 / 4) / 6)
    assert logits.grad is not None
    affinities, one, other = logits.grad[0, :, 0]
    assert affinities.tolist() == pytest.approx([-1 / 12, -1 / 12, -1 / 12, 1 / 4])  # as without descriptors
    slope = 3 * 2 * (1 / 2) * (1 / 4) / 6  # w 2 (sigmoid - t) sigmoid' / (A m)
    assert one.tolist() == pytest.approx([slope, 0, -slope, 0])
    assert other.tolist() == pytest.approx([0, 0, slope, 0])


def test_the_state_is_that_of_the_affinities_and_parts_of_a_batch_add_up() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(3, 3, 2, 2, generator=generator), TARGET.reshape(1, 3, 2, 2).repeat(3, 1, 1, 1)
    target[1, 1:] = 255
    objective, alone = WithShapeDescriptors(AffinityLoss(), 2, weight=0.5), AffinityLoss()
    counts = sum(objective.counts(target[i : i + 1], ONES) for i in range(3))
    assert torch.equal(counts, objective.counts(target, ONES))
    objective.begin_step(counts)
    alone.begin_step(alone.counts(target[:, :1], ONES))
    assert torch.equal(objective.state, alone.state)
    parts = [objective.loss(logits[i : i + 1], target[i : i + 1], ONES, counts) for i in range(3)]
    torch.testing.assert_close(sum(parts), objective.loss(logits, target, ONES, counts))
    objective.state = None
    assert objective.affinities.state is None


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_head_stands_beside_the_classifier_and_changes_nothing_of_the_network(dimensions: int) -> None:
    config = ModelConfig(output="affinities", dimensions=dimensions, depth=2, base_channels=4, dropout=0)
    torch.manual_seed(1)
    network = build_model(config, classes=3)
    alone = {key: value.clone() for key, value in network.state_dict().items()}
    learner = WithAuxiliaryHead(network, 6)
    x = torch.randn(1, 1, *(20,) * dimensions)
    with torch.no_grad():
        assert torch.equal(learner(x)[:, :3], network(x))
        assert learner(x).shape[1] == 9
    assert stored_network(learner) is network
    assert stored_network(network) is network
    assert alone.keys() == network.state_dict().keys()
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in alone.items())
