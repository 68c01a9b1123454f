"""The loss of affinities, by hand on four voxels: value, gradients, balance and what does not count."""

from math import log

import pytest
import torch
from torch import Tensor

from unet.training.affinity_loss import AffinityLoss

TARGET = torch.tensor([[[[1, 1, 1, 0]]]], dtype=torch.uint8)
ONES = torch.ones(1, 1, 1, 1)


def loss_of(objective: AffinityLoss, logits: Tensor, target: Tensor = TARGET, weight: Tensor = ONES) -> Tensor:
    counts = objective.counts(target, weight)
    objective.begin_step(counts)
    return objective.loss(logits, target, weight, counts)


def test_balanced_loss_and_gradient_of_four_voxels() -> None:
    """Take a = 1/2 everywhere, share 3/4: weights 2/3 and 2, of mean 1; the gradient is b (a - t) / 4."""
    logits = torch.zeros(TARGET.shape, requires_grad=True)
    loss = loss_of(AffinityLoss(0.05), logits)
    loss.backward()
    assert loss.item() == pytest.approx(log(2))
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == pytest.approx([-1 / 12, -1 / 12, -1 / 12, 1 / 4])


def test_unbalanced_loss_and_gradient_of_four_voxels() -> None:
    logits = torch.zeros(TARGET.shape, requires_grad=True)
    loss_of(AffinityLoss(None), logits).backward()
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == pytest.approx([-1 / 8, -1 / 8, -1 / 8, 1 / 8])


def test_a_rare_class_weighs_as_if_it_had_the_smallest_share() -> None:
    logits = torch.zeros(TARGET.shape, requires_grad=True)
    loss_of(AffinityLoss(0.4), logits).backward()  # 3/4 becomes 0.6: 1 / 1.2 and 1 / 0.8
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == pytest.approx([-0.5 / 4.8] * 3 + [0.5 / 3.2])


def test_pairs_that_do_not_count_change_nothing_and_weights_multiply() -> None:
    target = torch.tensor([[[[1, 255, 1, 0]]]], dtype=torch.uint8)
    logits = torch.tensor([[[[0.0, 80.0, 0.0, 0.0]]]], requires_grad=True)
    weight = torch.tensor([[[[1.0, 9.0, 3.0, 1.0]]]])
    loss_of(AffinityLoss(None), logits, target, weight).backward()
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == pytest.approx([-1 / 6, 0, -3 / 6, 1 / 6])


def test_where_nothing_counts_the_loss_and_its_gradient_are_0() -> None:
    logits = torch.ones(TARGET.shape, requires_grad=True)
    loss = loss_of(AffinityLoss(), logits, torch.full_like(TARGET, 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_channels_are_balanced_each_by_itself() -> None:
    target = torch.tensor([[1, 1, 1, 0], [0, 0, 0, 1]], dtype=torch.uint8)[None, :, None, :]
    logits = torch.zeros(target.shape, requires_grad=True)
    loss_of(AffinityLoss(), logits, target).backward()
    assert logits.grad is not None
    one, other = logits.grad[0, :, 0]
    torch.testing.assert_close(one, -other)


def test_the_share_runs_over_the_steps() -> None:
    objective = AffinityLoss()
    for counts in ([3, 4], [0, 4]):
        objective.begin_step(torch.tensor(counts))
    assert objective.state is not None
    assert objective.state.tolist() == [[0.99 * 3, 0.99 * 4 + 4]]


def test_the_parts_of_a_batch_add_up_to_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, 5, 5, generator=generator)
    target = torch.randint(0, 3, logits.shape, generator=generator).to(torch.uint8)
    target[target == 2] = 255
    weight = torch.rand(logits.shape, generator=generator)
    objective = AffinityLoss()
    counts = objective.counts(target[:1], weight[:1]) + objective.counts(target[1:], weight[1:])
    assert counts.tolist() == objective.counts(target, weight).tolist()
    objective.begin_step(counts)
    parts = [objective.loss(logits[i : i + 1], target[i : i + 1], weight[i : i + 1], counts) for i in range(4)]
    torch.testing.assert_close(sum(parts), objective.loss(logits, target, weight, counts))
