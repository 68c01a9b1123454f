"""Batch normalisation over samples in threads: PyTorch's layer on the whole batch, and no thread is left waiting."""

import copy
import threading
import time
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from unet.config.model import ModelConfig
from unet.network.centre_crop import channels_last
from unet.network.model import build_model
from unet.training.parallel_samples import ParallelSamples

SAMPLES = 3


@pytest.fixture(autouse=True)
def _threads_restored() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def tiles(dimensions: int, channels: int = 1, side: int = 20) -> Tensor:
    """Samples of different mean and contrast."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(SAMPLES, channels, *(side,) * dimensions, generator=generator, dtype=torch.float64)
    i = torch.arange(1.0, SAMPLES + 1).reshape(-1, 1, *(1,) * dimensions)
    return (i * x + 10 * i).contiguous(memory_format=channels_last(dimensions))


def square(network: nn.Module, x: Tensor) -> Tensor:
    return (network(x) ** 2).sum() / SAMPLES


def assert_equals_whole_batch(model: nn.Module, x: Tensor, threads: int) -> None:
    """Compare loss, gradients, running statistics and what the layer makes of them afterwards."""
    whole = copy.deepcopy(model)
    samples = ParallelSamples(model, SAMPLES, threads)
    for _ in range(2):
        expected = square(whole, x)
        gradients = torch.autograd.grad(expected, list(whole.parameters()))
        found = samples.backward(lambda network, i: square(network, x[i : i + 1]), range(SAMPLES))
        torch.testing.assert_close(found, expected.detach(), rtol=1e-11, atol=0)
        for weight, gradient in zip(model.parameters(), gradients, strict=True):
            torch.testing.assert_close(weight.grad, gradient, rtol=1e-9, atol=1e-9)
    for (name, a), b in zip(model.named_buffers(), whole.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0, msg=name)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("block", ["plain", "residual"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_network_has_loss_gradients_and_running_statistics_of_the_whole_batch(dimensions, block, threads) -> None:
    torch.manual_seed(0)
    config = ModelConfig(dimensions=dimensions, depth=2, base_channels=2, dropout=0, normalisation="batch", block=block)
    model = build_model(config).double().to(memory_format=channels_last(dimensions))
    assert_equals_whole_batch(model, tiles(dimensions), threads)


def test_the_gradient_also_reaches_layers_below() -> None:
    """Take two normalisations in a row: the second one's gradient passes through the statistics of the first."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight))
    assert_equals_whole_batch(model.double(), tiles(2), threads=2)


def test_float32_keeps_a_small_variance_beside_a_large_mean() -> None:
    """A difference of sums of squares would lose it."""
    layer = nn.BatchNorm2d(2, momentum=1.0)
    x = (1000 + tiles(2, channels=2) / 100).float()
    samples = ParallelSamples(nn.Sequential(layer), SAMPLES, 2)
    samples.backward(lambda network, i: network(x[i : i + 1]).sum(), range(SAMPLES))
    assert layer.running_var is not None
    torch.testing.assert_close(layer.running_var, x.double().var(dim=(0, 2, 3)).float(), rtol=1e-3, atol=0)


def test_in_bfloat16_values_and_gradients_are_those_of_float32_within_its_precision() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm3d(4)).float()
    x = tiles(3, channels=4, side=6).float()

    def gradients(dtype: torch.dtype) -> list[Tensor]:
        inputs = [x[i : i + 1].to(dtype).contiguous(memory_format=channels_last(3)).requires_grad_() for i in range(3)]
        ParallelSamples(model, SAMPLES, 2).backward(lambda net, i: (net(inputs[i]).float() ** 3).sum(), range(SAMPLES))
        return [weight.grad for weight in model.parameters() if weight.grad is not None]

    for a, b in zip(gradients(torch.bfloat16), gradients(torch.float32), strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0.03, atol=0.03 * b.abs().max().item())


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("in_backward", [False, True])
def test_an_error_in_one_sample_ends_the_step_and_the_next_one_works(threads: int, in_backward: bool) -> None:
    """The error of the sample is raised, not that of those who waited for it."""
    model = nn.Sequential(nn.BatchNorm2d(1), nn.ReLU(), nn.BatchNorm2d(1))
    x, samples = tiles(2).float(), ParallelSamples(model, SAMPLES, threads)

    def fails(network: nn.Module, i: int) -> Tensor:
        if i == 1 and not in_backward:
            raise ValueError("of sample 1")
        y = network(x[i : i + 1])
        if i == 1:
            y.register_hook(raises)
        return y.sum()

    def raises(_: Tensor) -> None:
        raise ValueError("of sample 1")

    before = threading.active_count()
    for _ in range(2):
        with pytest.raises(ValueError, match="of sample 1"):
            samples.backward(fails, range(SAMPLES))
        assert samples.backward(lambda net, i: square(net, x[i : i + 1]), range(SAMPLES)).isfinite()
    assert threading.active_count() <= before + SAMPLES


def test_no_more_threads_compute_at_once_than_there_are() -> None:
    """Although each sample has one, as all have to be on their way."""
    model, x = nn.Sequential(nn.BatchNorm2d(1)), tiles(2).float()
    computing, most = 0, 0
    lock = threading.Lock()

    def loss(network: nn.Module, i: int) -> Tensor:
        nonlocal computing, most
        with lock:
            computing += 1
            most = max(most, computing)
        time.sleep(0.01)
        with lock:
            computing -= 1
        return network(x[i : i + 1]).sum()

    ParallelSamples(model, SAMPLES, 2).backward(loss, range(SAMPLES))
    assert most == 2
