"""Crop the centre of a tensor, with a gradient in the memory layout in which convolutions are fastest."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def centre_crop(x: Tensor, size: torch.Size | list[int]) -> Tensor:
    """Return the centre of `(n, c, *larger)` as a view. The difference is even on every axis: both sides lose alike."""
    traced = torch.jit.is_tracing() or torch.compiler.is_compiling()
    if x.requires_grad and torch.is_grad_enabled() and not traced:
        cropped: Tensor = CentreCrop.apply(x, tuple(size))
        return cropped
    return _centre(x, size)


def _centre(x: Tensor, size: Sequence[int]) -> Tensor:
    for axis, n in enumerate(size, start=2):
        x = x.narrow(axis, (x.shape[axis] - n) // 2, n)
    return x


class CentreCrop(torch.autograd.Function):
    """`centre_crop` whose gradient has the memory layout of its input.

    PyTorch fills up the gradient of a crop with zeros in channels-first layout. The layers before it would then work
    on two layouts, which takes some five times as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: tuple[int, ...]) -> Tensor:
        """Return the centre as a view."""
        layout = channels_last(x.ndim - 2)
        ctx.shape, ctx.layout = x.shape, layout if x.is_contiguous(memory_format=layout) else torch.contiguous_format
        return _centre(x, size)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Return the gradient padded with zeros."""
        padded = torch.empty(ctx.shape, dtype=grad.dtype, device=grad.device, memory_format=ctx.layout).zero_()
        _centre(padded, grad.shape[2:]).copy_(grad)
        return padded, None


def channels_last(dimensions: int) -> torch.memory_format:
    """Return the memory layout of tensors and weights in which convolutions of `dimensions` axes are fastest."""
    return torch.channels_last if dimensions == 2 else torch.channels_last_3d
