"""The blocks of 2-D and 3-D networks: contracting path, up-sampling, convolutions of a level, initial weights.

Kernels, pools and channels of each level follow from the configuration. Sizes in comments are those of the paper for a
572 x 572 input (`unet.network.model`).
"""

from collections.abc import Callable
from itertools import pairwise
from math import prod, sqrt
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unet.config.model import ModelConfig
from unet.geometry.network_sizes import pooling_factors
from unet.network.centre_crop import centre_crop
from unet.network.convolution import Convolution3d, UpConvolution3d


class Layers(NamedTuple):
    """Layer types of 2-D or 3-D networks; nothing else differs between the two."""

    convolution: Callable[..., nn.Module]
    transposed: Callable[..., nn.Module]
    pool: Callable[..., nn.Module]
    batch_norm: Callable[..., nn.Module]
    interpolation: str


LAYERS = {
    2: Layers(nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.BatchNorm2d, "bilinear"),
    3: Layers(Convolution3d, UpConvolution3d, nn.MaxPool3d, nn.BatchNorm3d, "trilinear"),
}


class Encoder(nn.Module):
    """The contracting path: two convolutions per level, max-pooling in between, dropout after the last two levels.

    The paper puts dropout "at the end of the contracting path": in the authors' release, its two deepest levels.
    """

    def __init__(self, config: ModelConfig, channels: int) -> None:
        super().__init__()
        widths = level_channels(config)
        self.factors = pool_factors(config)
        self.levels = nn.ModuleList(
            convolutions(config, a, b, level) for level, (a, b) in enumerate(pairwise((channels, *widths)))
        )
        self.pools = nn.ModuleList(LAYERS[config.dimensions].pool(factor) for factor in self.factors)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of each level, from the finest to the deepest."""
        features: list[Tensor] = []
        for level, convolutions in enumerate(self.levels):
            if level > 0:
                check_divisible(x.shape[2:], self.factors[level - 1], level - 1)
                x = self.pools[level - 1](x)  # 284, 140, 68, 32
            x = convolutions(x)  # 568, 280, 136, 64, 28
            if level >= len(self.levels) - 2:
                x = self.dropout(x)
            features.append(x)
        return features


class Interpolation(nn.Module):
    """1x1 convolution, then (bi- or tri-)linear interpolation with `align_corners=False`.

    The convolution halves the channels as the up-convolution does. Both steps are linear and act on different axes, so
    their order does not change the result. With the convolution first, it runs on a quarter of the pixels (an eighth of
    the voxels), and half the channels are interpolated. The outermost `factor // 2` outputs lie beyond the centre of
    the last input. They would need its neighbour, which an unpadded network does not have, and are dropped.
    """

    def __init__(self, config: ModelConfig, deep: int, fine: int, factor: tuple[int, ...]) -> None:
        super().__init__()
        layers = LAYERS[config.dimensions]
        self.reduce = layers.convolution(deep, fine, kernel_size=1)
        self.factor, self.mode = factor, layers.interpolation
        self.border = tuple(f // 2 if config.convolution == "valid" else 0 for f in factor)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(n, deep, *size)` to `(n, fine, *(size * factor - 2 * border))`."""
        size = [n * f for n, f in zip(x.shape[2:], self.factor, strict=True)]
        x = nn.functional.interpolate(self.reduce(x), size=size, mode=self.mode, align_corners=False)
        return centre_crop(x, [n - 2 * r for n, r in zip(size, self.border, strict=True)])


def upsampling(config: ModelConfig, deep: int, fine: int, factor: tuple[int, ...]) -> nn.Module:
    """Build one up-sampling: the paper's up-convolution (kernel = stride = the pool's factor), or interpolation."""
    if config.upsampling == "bilinear":
        return Interpolation(config, deep, fine, factor)
    return LAYERS[config.dimensions].transposed(deep, fine, kernel_size=factor, stride=factor)


class Residual(nn.Module):
    """Two convolutions whose input is added to their result (He et al. 2016, arXiv 1512.03385, figure 2).

    Unpadded convolutions lose a border, which is cropped from the input. Where channels differ, a 1x1 convolution gives
    the input the channels of the result. Receptive field and output size are those of the two convolutions alone.
    """

    def __init__(self, config: ModelConfig, channels_in: int, channels_out: int, level: int) -> None:
        super().__init__()
        self.convolutions = two_convolutions(config, channels_in, channels_out, level)[:-1]  # ReLU follows the sum
        self.projection = (
            nn.Identity()
            if channels_in == channels_out
            else LAYERS[config.dimensions].convolution(channels_in, channels_out, kernel_size=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(n, channels_in, *size)` to `(n, channels_out, *smaller)`."""
        result = self.convolutions(x)
        result += self.projection(centre_crop(x, result.shape[2:]))
        return nn.functional.relu_(result)


def convolutions(config: ModelConfig, channels_in: int, channels_out: int, level: int) -> nn.Module:
    """Build the convolutions of a level: two, with their input added to their result if so configured."""
    build = Residual if config.block == "residual" else two_convolutions
    return build(config, channels_in, channels_out, level)


def two_convolutions(config: ModelConfig, channels_in: int, channels_out: int, level: int) -> nn.Sequential:
    """Build two 3x3 (3x3x3) convolutions, each followed by batch normalisation if configured, and by ReLU."""
    layers, batch_norm, kernel = LAYERS[config.dimensions], config.normalisation == "batch", kernel_sizes(config)[level]
    padding = tuple(n // 2 if config.convolution == "same" else 0 for n in kernel)
    steps: list[nn.Module] = []
    for a, b in ((channels_in, channels_out), (channels_out, channels_out)):
        steps.append(layers.convolution(a, b, kernel_size=kernel, padding=padding, bias=not batch_norm))
        if batch_norm:  # its shift replaces the convolution's bias
            steps.append(layers.batch_norm(b))
        steps.append(nn.ReLU(inplace=True))
    return nn.Sequential(*steps)


def initialise_he(model: nn.Module) -> None:
    """Draw all weights from N(0, sqrt(2 / N)) with N the number of incoming nodes of one output (paper, section 3).

    For a convolution, N is channels times kernel size (576 for 64 channels and 3x3). An up-convolution's stride equals
    its kernel, so each output sees one tap of the kernel, and N is the number of channels. Biases start at 0. After He
    et al. 2015.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            if module.weight.is_meta:
                continue  # PyTorch loads its compiler to draw weights without values
            taps = 1 if module.transposed else prod(module.kernel_size)
            nn.init.normal_(module.weight, std=sqrt(2 / (module.in_channels * taps)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def level_channels(config: ModelConfig) -> list[int]:
    """Return the channels of each level: 64, 128, 256, 512, 1024 in the paper."""
    return [config.base_channels * 2**level for level in range(config.depth)]


def pool_factors(config: ModelConfig) -> list[tuple[int, ...]]:
    """Return the factors of each pool along the network's axes, `(y, x)` or `(z, y, x)`."""
    return [tuple(factor[-config.dimensions :]) for factor in pooling_factors(config)]


def kernel_sizes(config: ModelConfig) -> list[tuple[int, ...]]:
    """Return the size of each level's convolutions along the network's axes, `(y, x)` or `(z, y, x)`."""
    kernels = config.kernels or [(3, 3, 3)] * config.depth
    return [tuple(kernel[-config.dimensions :]) for kernel in kernels]


def check_divisible(size: torch.Size, factor: tuple[int, ...], level: int) -> None:
    """Refuse a size that a pool would silently round down: the output would no longer be aligned with the input."""
    if any(n % f or n < f for n, f in zip(size, factor, strict=True)):
        raise ValueError(
            f"level {level} of the network has size {tuple(size)}, which its pooling by {factor} does not divide: "
            "choose another tile size (for the unpadded net of depth 5: 572 or any other 16 b + 60)"
        )
