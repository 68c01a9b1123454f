"""Equation 1, by hand on four pixels."""

from math import exp, log

import pytest
import torch

from unet.training.loss import WeightedCrossEntropy, weighted_cross_entropy


def test_four_pixels_by_hand():
    logits = torch.tensor([[[[0.0, 2.0], [0.0, 5.0]], [[0.0, 0.0], [log(3), 0.0]]]])  # p_1 = 1/2, ., 3/4, .
    target = torch.tensor([[[0, 1], [1, 255]]])
    weight = torch.tensor([[[1.0, 11.0], [2.0, 7.0]]])  # the last is unlabelled, whatever its weight
    expected = (log(2) + 11 * log(1 + exp(2)) + 2 * log(4 / 3)) / 3
    assert weighted_cross_entropy(logits, target, weight).item() == pytest.approx(expected, rel=1e-6)


def test_weight_zero_and_class_255_are_not_counted():
    logits, target = torch.randn(1, 3, 2, 4), torch.randint(3, (1, 2, 4))
    weight = torch.ones(1, 2, 4)
    alone = weighted_cross_entropy(logits[..., :2], target[..., :2], weight[..., :2])
    weight[..., 2], target[..., 3] = 0, 255
    torch.testing.assert_close(weighted_cross_entropy(logits, target, weight), alone)


def test_nothing_labelled_gives_zero_and_zero_gradients():
    logits = torch.randn(2, 2, 3, 3, requires_grad=True)
    loss = weighted_cross_entropy(logits, torch.full((2, 3, 3), 255), torch.zeros(2, 3, 3))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_parts_of_a_batch_add_up_to_the_loss_of_the_whole():
    """Each part is divided by the labelled pixels of the whole, of which the second tile has fewer."""
    logits, target, weight = torch.randn(2, 2, 3, 3), torch.randint(2, (2, 3, 3)), torch.rand(2, 3, 3) + 0.5
    target[1, 1:] = 255
    objective, parts = WeightedCrossEntropy(), (slice(0, 1), slice(1, 2))
    counts = sum(objective.counts(target[part], weight[part]) for part in parts)
    assert counts.tolist() == [9 + 3]
    total = sum(objective.loss(logits[part], target[part], weight[part], counts) for part in parts)
    torch.testing.assert_close(total, weighted_cross_entropy(logits, target, weight))


def test_huge_logits_do_not_overflow():
    logits = torch.tensor([[[[1e4]], [[-1e4]]]], requires_grad=True)
    loss = weighted_cross_entropy(logits, torch.tensor([[[1]]]), torch.ones(1, 1, 1))
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    assert logits.grad.flatten().tolist() == [1.0, -1.0]


def test_uint8_targets_and_volumes_are_taken_as_they_are():
    logits = torch.randn(1, 2, 3, 4, 5)
    target = torch.randint(2, (1, 3, 4, 5))
    weight = torch.rand(1, 3, 4, 5) + 0.1
    as_bytes = weighted_cross_entropy(logits, target.to(torch.uint8), weight)
    assert as_bytes == weighted_cross_entropy(logits, target, weight)
    assert as_bytes > 0


def test_gradient_is_softmax_minus_target_times_weight():
    logits = torch.randn(1, 2, 1, 2, dtype=torch.float32, requires_grad=True)
    weighted_cross_entropy(logits, torch.tensor([[[0, 1]]]), torch.tensor([[[3.0, 5.0]]])).backward()
    p = logits.detach().softmax(1)
    expected = (p - torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])) * torch.tensor([3.0, 5.0]) / 2
    torch.testing.assert_close(logits.grad, expected)
