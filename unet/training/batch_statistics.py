"""Batch normalisation of samples that are computed by threads of their own, with the statistics of the whole batch.

```
thread 1   sample 0: convolution -> mean, var \\                    / -> normalise -> ReLU -> convolution -> ...
thread 2   sample 1: convolution -> mean, var  + -> of the batch -> + -> normalise -> ReLU -> convolution -> ...
```

Each thread computes mean and variance of its sample forward, and the sums of g and g x^ backward. The threads wait for
each other once per layer and direction. Every thread then combines the values of all samples in their order, in
float64, so all have the same bits, whichever came first. For each channel, with S samples of n voxels, scale w and
shift b,

```
mean = 1/S sum mean_i,   var = 1/S sum (var_i + (mean_i - mean)^2),   s = 1 / sqrt(var + eps)
x^ = (x - mean) s,       y = w x^ + b
dL/dx = s w (g - sum g / (S n) - x^ sum g x^ / (S n)),   dL/dw = sum g x^,   dL/db = sum g
```

In channels-last layout the channels of a row along x lie side by side. As a matrix of z y rows and x c columns, a
tensor fills vectors also where there are few channels. Column i belongs to channel i mod c.

Sources: Ioffe and Szegedy 2015 (arXiv 1502.03167), section 3; the variance of parts is that of Chan, Golub and LeVeque
1983 (doi:10.1080/00031305.1983.10483115), equation 2.1b, for parts of equal size.
"""

from threading import Barrier, Semaphore
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from unet.network.centre_crop import channels_last

CACHED_BYTES = 2**20
"""Size of a part of a tensor that stays in the cache between two operations."""


class SampleExchange:
    """Exchange of values between threads that compute one sample of a batch each.

    Parameters
    ----------
    samples : int
        Number of samples. Each has a thread, and all threads call `of_all` equally often.
    at_once : int
        Threads that compute at the same time, each within `computing`. A thread that waits lets another one compute.
    """

    def __init__(self, samples: int, at_once: int) -> None:
        self.samples = samples
        self.computing = Semaphore(at_once)
        self._barrier = Barrier(samples)
        self._values: tuple[list[Tensor | None], list[Tensor | None]] = [None] * samples, [None] * samples
        self._calls = [0] * samples

    def of_all(self, sample: int, value: Tensor) -> Tensor:
        """Return the values of all samples, in their order along a new first axis; waits for them.

        Two lists take turns. A thread is at most one call ahead of another, so it never writes what another one reads.

        Raises
        ------
        threading.BrokenBarrierError
            If another sample has failed.
        """
        values = self._values[self._calls[sample] % 2]
        values[sample] = value
        self._calls[sample] += 1
        self.computing.release()
        try:
            self._barrier.wait()
        finally:
            self.computing.acquire()
        return torch.stack([value for value in values if value is not None])

    def fail(self) -> None:
        """Let no thread wait for this step any longer."""
        self._barrier.abort()

    def begin_step(self) -> None:
        """Start again, also after a failed step."""
        self._barrier.reset()
        self._calls = [0] * self.samples


class SampleBatchNorm(nn.Module):
    """`nn.BatchNorm2d` or `nn.BatchNorm3d` of one sample of a batch whose samples have threads of their own.

    Parameters
    ----------
    layer : nn.BatchNorm2d or nn.BatchNorm3d
        Layer whose weights are shared. The first sample updates its running mean and variance.
    sample : int
        Number of the sample.
    exchange : SampleExchange
        Connects the samples.
    """

    def __init__(self, layer: nn.modules.batchnorm._BatchNorm, sample: int, exchange: SampleExchange) -> None:
        super().__init__()
        self.layer, self.sample, self.exchange = layer, sample, exchange

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `(1, c, (z,) y, x)` of any floating type."""
        y: Tensor = _Normalise.apply(x, self.layer.weight, self.layer.bias, self)
        return y

    def statistics(self, mean: Tensor, variance: Tensor, voxels: int) -> tuple[Tensor, Tensor]:
        """Return mean and variance of the batch, float64 `(c,)`, given those of this sample."""
        means, variances = self.exchange.of_all(self.sample, torch.stack([mean, variance])).unbind(1)
        mean = means.mean(0)
        variance = (variances + (means - mean) ** 2).mean(0)
        if self.sample == 0:
            self._update(mean, variance, voxels * self.exchange.samples)
        return mean, variance

    def _update(self, mean: Tensor, variance: Tensor, voxels: int) -> None:
        """Take mean and variance of a batch into the running ones, as PyTorch does."""
        momentum, unbiased = cast(float, self.layer.momentum), variance * (voxels / max(voxels - 1, 1))
        cast(Tensor, self.layer.num_batches_tracked).add_(1)
        for running, new in ((self.layer.running_mean, mean), (self.layer.running_var, unbiased)):
            cast(Tensor, running).lerp_(new.to(cast(Tensor, running).dtype), momentum)


class _Normalise(torch.autograd.Function):
    """Normalise one sample with the statistics of the batch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, layer: SampleBatchNorm) -> Tensor:
        """Return y, see the module."""
        x = x.contiguous(memory_format=channels_last(x.ndim - 2))
        rows, channels = _rows(x), x.shape[1]
        means, variances = (
            one.double().reshape(-1, channels) for one in torch.ops.aten.batch_norm_update_stats(rows, None, None, 0)
        )
        own = means.mean(0)
        own_variance = (variances + (means - own) ** 2).mean(0)
        mean, variance = layer.statistics(own, own_variance, x.numel() // channels)
        columns = [_of_columns(one, rows) for one in (weight, bias, mean, variance)]
        y, nothing = torch.empty_like(x), [torch.empty(0, dtype=columns[0].dtype) for _ in range(2)]
        torch.ops.aten.native_batch_norm.out(
            rows, *columns, False, 0, layer.layer.eps, out=_rows(y), save_mean=nothing[0], save_invstd=nothing[1]
        )
        ctx.layer = layer
        ctx.save_for_backward(x, weight, mean, variance)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Return the gradients of x, weight and bias."""
        x, weight, mean, variance = ctx.saved_tensors
        layer, channels, eps = ctx.layer, x.shape[1], ctx.layer.layer.eps
        rows, g = _rows(x), _rows(grad.contiguous(memory_format=channels_last(x.ndim - 2)))
        columns = [_of_columns(one, rows) for one in (weight, mean, variance)]
        sums = torch.ops.aten.native_batch_norm_backward(
            g, rows, *columns, None, None, False, eps, [False, True, True]
        )[1:]
        of_weight, of_bias = (one.double().reshape(-1, channels).sum(0) for one in sums)
        everywhere = layer.exchange.of_all(layer.sample, torch.stack([of_weight, of_bias])).sum(0)
        product, total = everywhere * (channels / (x.numel() * layer.exchange.samples))
        s = (variance + eps).rsqrt()
        factor, slope = s * weight, -s * s * weight * product
        of_x = torch.empty_like(x)
        _combine(g, rows, factor, slope, -factor * total - slope * mean, out=_rows(of_x))
        return of_x, of_weight.to(weight.dtype), of_bias.to(weight.dtype), None


def _combine(a: Tensor, b: Tensor, factor_a: Tensor, factor_b: Tensor, shift: Tensor, out: Tensor) -> None:
    """Write `factor_a a + factor_b b + shift` into `out`, with numbers for each channel."""
    fa, fb, shift = (_of_columns(one, a) for one in (factor_a, factor_b, shift))
    count = max(1, CACHED_BYTES // (a.shape[1] * fa.element_size()))
    for part_a, part_b, part in zip(*(one.split(count) for one in (a, b, out)), strict=True):
        line = torch.addcmul(shift, part_b.to(fb.dtype), fb)
        if a.dtype == fa.dtype:
            torch.addcmul(line, part_a, fa, out=part)
        else:
            part.copy_(line.addcmul_(part_a.to(fa.dtype), fa))


def _rows(x: Tensor) -> Tensor:
    """Return `(1, c, (z,) y, x)` in channels-last layout as a matrix of rows along x, as a view."""
    return x.movedim(1, -1).reshape(-1, x.shape[1] * x.shape[-1])


def _of_columns(of_channel: Tensor, rows: Tensor) -> Tensor:
    """Return the number of each channel for each column, in float64 if the rows have that type, else in float32."""
    dtype = torch.float64 if rows.dtype == torch.float64 else torch.float32
    return of_channel.to(dtype).repeat(rows.shape[1] // len(of_channel))
