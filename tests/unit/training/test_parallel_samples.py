"""One thread per sample: the gradient of the whole batch, the same bits for any number of threads."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from unet.config.model import ModelConfig
from unet.network.model import build_model
from unet.training.parallel_samples import ParallelSamples, SeededDropout

SAMPLES = 3


@pytest.fixture(autouse=True)
def _threads_restored() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def network(**changes) -> nn.Module:
    torch.manual_seed(0)
    config = ModelConfig(**{"depth": 2, "base_channels": 4, "dropout": 0.5, **changes})
    return build_model(config).to(memory_format=torch.channels_last)


def tiles() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(SAMPLES, 1, 28, 28, generator=generator).contiguous(memory_format=torch.channels_last)


def step(model: nn.Module, threads: int = 1, seeds=(1, 2, 3)) -> tuple[float, list[torch.Tensor]]:
    """Loss and gradients of the mean square of the logits over a batch."""
    x = tiles()
    samples = ParallelSamples(model, SAMPLES, threads)
    loss = samples.backward(lambda copy, i: (copy(x[i : i + 1]) ** 2).sum() / SAMPLES, seeds)
    return loss.item(), [weight.grad for weight in model.parameters()]


def test_without_dropout_it_is_the_gradient_of_the_batch() -> None:
    model = network(dropout=0)
    loss, gradients = step(model, threads=2)
    whole = (model(tiles()) ** 2).sum() / SAMPLES
    assert loss == pytest.approx(whole.item(), rel=1e-5)
    for a, b in zip(gradients, torch.autograd.grad(whole, list(model.parameters())), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalisation", ["none", "batch"])
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_do_not_change_a_bit(threads: int, normalisation: str) -> None:
    """Compare loss, gradients and running statistics, with dropout."""
    alone, together = network(normalisation=normalisation), network(normalisation=normalisation)
    (loss, gradients), (other_loss, other_gradients) = step(alone), step(together, threads)
    assert loss == other_loss
    for a, b in zip(gradients, other_gradients, strict=True):
        assert torch.equal(a, b)
    for a, b in zip(alone.buffers(), together.buffers(), strict=True):
        assert torch.equal(a, b)


def test_the_seed_of_a_sample_fixes_its_dropout() -> None:
    losses = {seeds: step(network(), seeds=seeds)[0] for seeds in [(1, 2, 3), (1, 2, 4), (9, 2, 3)]}
    assert len(set(losses.values())) == 3
    assert step(network(), threads=2, seeds=(1, 2, 3))[0] == losses[1, 2, 3]


def test_dropout_keeps_the_mean_and_its_share() -> None:
    dropout = SeededDropout(0.25, torch.Generator().manual_seed(0))
    y = dropout(torch.ones(40_000))
    assert y.unique().tolist() == pytest.approx([0, 4 / 3])
    assert y.mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(dropout.eval()(y), y)


def test_more_threads_than_samples_are_shared_out() -> None:
    for threads, each in ((1, 1), (3, 1), (5, 1), (6, 2)):
        assert ParallelSamples(network(), SAMPLES, threads).threads_per_sample == each


def test_an_error_of_a_sample_is_the_error_of_the_step() -> None:
    def fails(_network: nn.Module, index: int) -> torch.Tensor:
        raise ValueError(f"sample {index}")

    with pytest.raises(ValueError, match="sample 0"):
        ParallelSamples(network(), SAMPLES, 2).backward(fails, range(SAMPLES))


def test_a_weight_without_a_part_in_the_loss_has_a_gradient_of_zero() -> None:
    model = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])
    ParallelSamples(model, 2, 1).backward(lambda copy, _: copy[0](torch.ones(1, 1)).sum(), [0, 0])
    assert [weight.grad.item() for weight in model.parameters()] == [2, 2, 0, 0]
