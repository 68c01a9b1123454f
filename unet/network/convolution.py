"""Convolutions in 3-D in forms that a CPU computes fast: the same sums, a third of the time.

PyTorch gives a convolution to oneDNN only if its input is large: batch > 1 or n c z y > 20480. Any other convolution
unfolds its input into a matrix, on one thread, and leaves channels-last layout, so that the layers after it copy. Of
a 3-D network that is trained with one patch, these are the first layer and all deep ones. oneDNN itself computes
vectors of 16 channels, and leaves half of a vector empty where there are 8.

```
form      where                  does
fold      8 channels or fewer    two neighbours along x become channels: half the positions, twice the channels, and a
                                 kernel of 3 x 3 x 2. A third of the products is with zeros, but vectors are full.
stack     1 input channel, f32   three sections become channels of 2-D convolutions, one for each output section
halve     small input, f32       two overlapping halves along z become a batch of two, which oneDNN takes
linear    1x1x1                  a matrix product over the channels; of one channel a product with each weight
```

In bfloat16 oneDNN takes every convolution, and one channel is folded, too. A processor with AMX computes convolutions
two to five times as fast as in float32. In channels-last layout, folding and unfolding copy nothing. The form follows
from the shape and type alone, so equal shapes give equal bits.
"""

from math import gcd

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv3d, linear, pad

VECTOR = 16
"""Channels in one vector of oneDNN's convolutions (AVX-512, float32)."""
SMALL = 20480
"""Largest n c z y of a batch of one that PyTorch does not give to oneDNN (aten/src/ATen/native/Convolution.cpp)."""


class Convolution3d(nn.Conv3d):
    """`torch.nn.Conv3d` that chooses the fastest form on a CPU; elsewhere it is that layer itself."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not _is_for_cpu(input) or self.stride != (1, 1, 1):
            return super()._conv_forward(input, weight, bias)
        input, weight, bias = _in_precision(input, weight, bias)
        if self.kernel_size == (1, 1, 1):
            return linear_convolution(input, weight, bias)
        if self.kernel_size != (3, 3, 3):
            return super()._conv_forward(input, weight, bias)
        return convolution3(_padded(input, self.padding), weight, bias)


def convolution3(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the unpadded 3x3x3 convolution in the fastest form.

    Parameters
    ----------
    x : Tensor
        `(n, c, z, y, x)`, float32 or bfloat16.
    weight : Tensor
        `(k, c, 3, 3, 3)`, of the same type.
    bias : Tensor or None
        `(k,)`.

    Returns
    -------
    Tensor
        `(n, k, z - 2, y - 2, x - 2)` in channels-last layout.
    """
    n, channels, depth, height, width = x.shape
    if channels == 1 and x.dtype == torch.float32:
        return stacked_convolution(x, weight, bias)
    x = x.contiguous(memory_format=torch.channels_last_3d)
    unfolds = x.dtype == torch.float32 and n == 1 and channels * depth * height <= SMALL
    if 2 * weight.shape[0] <= VECTOR and width % 2 == 0 and (n > 1 or 2 * channels * depth * height > SMALL):
        return folded_convolution(x, weight, bias)
    if unfolds and depth > 3:
        return halved_convolution(x, weight, bias)
    return conv3d(x, weight, bias).contiguous(memory_format=torch.channels_last_3d)


def folded_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve with pairs of neighbours along x as channels; the width is even. See `convolution3`.

    ```
    positions   0 1 | 2 3 | 4 5        pair w of the output is computed of pairs w and w + 1 of the input:
    output 0    a b   c                out[2 w + p] = sum over j, q of  in[2 (w + j) + q]  kernel[2 j + q - p]
    output 1      a   b c
    ```
    """
    kernels = torch.stack([pad(weight, (parity, 1 - parity)) for parity in (0, 1)])  # p, k, c, 3, 3, 4 = (j, q)
    kernels = kernels.unflatten(-1, (2, 2)).permute(0, 1, 6, 2, 3, 4, 5).flatten(2, 3).flatten(0, 1)
    y = conv3d(_fold(x), kernels, None if bias is None else bias.repeat(2))
    y = y.movedim(1, -1)
    return y.reshape(*y.shape[:3], -1, weight.shape[0]).movedim(-1, 1)


def stacked_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve with the three sections around each output section as channels of a 2-D image. See `convolution3`."""
    n, channels, depth, height, width = x.shape
    sections = torch.stack([x[:, :, z : z + depth - 2] for z in range(3)], dim=3)  # n, c, z, 3, y, x
    images = sections.movedim(1, 2).reshape(n * (depth - 2), 3 * channels, height, width)
    images = images.contiguous(memory_format=torch.channels_last)
    y = conv2d(images, weight.flatten(1, 2), bias).contiguous(memory_format=torch.channels_last)
    return y.unflatten(0, (n, depth - 2)).movedim(1, 2)


def halved_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve two overlapping halves along z, as a batch of two. The batch of `x` is 1. See `convolution3`."""
    depth = x.shape[2] - 2
    half = (depth + 1) // 2
    halves = torch.cat([x[:, :, : half + 2], x[:, :, depth - half :]])
    y = conv3d(halves.contiguous(memory_format=torch.channels_last_3d), weight, bias)
    return torch.cat([y[:1], y[1:, :, 2 * half - depth :]], dim=2)


def linear_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve with a 1x1x1 kernel, as a matrix product over the channels."""
    if x.shape[1] == 1 and x.dtype == torch.bfloat16:
        return _linear_of_neighbours(x, weight, bias, gcd(x.shape[-1], VECTOR))
    if x.shape[1] == 1:  # BLAS is slow where there is nothing to sum
        y = x.movedim(1, -1) * weight.flatten()
        return (y if bias is None else y.add_(bias)).movedim(-1, 1)
    return linear(x.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)


def _linear_of_neighbours(x: Tensor, weight: Tensor, bias: Tensor | None, count: int) -> Tensor:
    """Convolve one channel with a 1x1x1 kernel, `count` neighbours along x at once; oneDNN is slow with one."""
    n, _, depth, height, width = x.shape
    classes = weight.shape[0]
    rows = (torch.eye(count, dtype=weight.dtype)[:, None] * weight.reshape(-1, 1)).flatten(0, 1)
    y = linear(x.reshape(n, depth, height, -1, count), rows, None if bias is None else bias.repeat(count))
    return y.reshape(n, depth, height, width, classes).movedim(-1, 1)


def _is_for_cpu(x: Tensor) -> bool:
    """Return whether a layer with this input runs on a CPU, and is not being traced for other devices."""
    traced = torch.jit.is_tracing() or torch.compiler.is_compiling()
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and not traced


def _in_precision(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return input and weights in the precision of autocast, as PyTorch's own layers compute; else as they are."""
    if not torch.is_autocast_enabled("cpu"):
        return x, weight, bias
    dtype = torch.get_autocast_dtype("cpu")
    return x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)


def _fold(x: Tensor) -> Tensor:
    """Return `(n, c, z, y, x)` in channels-last layout as `(n, 2 c, z, y, x / 2)`, without a copy."""
    x = x.movedim(1, -1)
    return x.reshape(*x.shape[:3], x.shape[3] // 2, 2 * x.shape[4]).movedim(-1, 1)


def _padded(x: Tensor, padding: str | tuple[int, ...]) -> Tensor:
    if isinstance(padding, str) or not any(padding):
        return x
    return pad(x, [n for axis in reversed(padding) for n in (axis, axis)])


class UpConvolution3d(nn.ConvTranspose3d):
    """`torch.nn.ConvTranspose3d` whose kernel is its stride, as a matrix product; elsewhere that layer itself.

    Each output voxel sees one input voxel, so the layer is a product over the channels whose results are interleaved.
    """

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return `(n, k, z fz, y fy, x fx)` of `(n, c, z, y, x)` and kernel (fz, fy, fx)."""
        if not _is_for_cpu(input) or self.kernel_size != self.stride or any(self.padding) or output_size is not None:
            return super().forward(input, output_size)
        return up_convolution(*_in_precision(input, self.weight, self.bias))


def up_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the transposed convolution whose stride is its kernel.

    Parameters
    ----------
    x : Tensor
        `(n, c, z, y, x)`.
    weight : Tensor
        `(c, k, fz, fy, fx)`.
    bias : Tensor or None
        `(k,)`.

    Returns
    -------
    Tensor
        `(n, k, z fz, y fy, x fx)` in channels-last layout.
    """
    n, _, depth, height, width = x.shape
    channels, classes, fz, fy, fx = weight.shape
    rows = weight.permute(2, 3, 4, 1, 0).reshape(-1, channels)
    y = linear(x.movedim(1, -1), rows, None if bias is None else bias.repeat(fz * fy * fx))
    y = y.reshape(n, depth, height, width, fz, fy, fx * classes).permute(0, 1, 4, 2, 5, 3, 6)
    return y.reshape(n, depth * fz, height * fy, width * fx, classes).movedim(-1, 1)
