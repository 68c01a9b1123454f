"""The U-Net of Ronneberger, Fischer and Brox 2015 (arXiv 1505.04597, "the paper"), its variants, and FCN-8s.

Sizes for a 572 x 572 input, channels in brackets; `->` two unpadded 3x3 convolutions with ReLU, `v` 2x2
max-pool, `^` 2x2 up-convolution, `==>` the skip, cropped at its centre (paper, figure 1):

```
level 0   572 (1) -> 568 (64)  ==== crop 88 ====> 392 (128) -> 388 (64) -> 388 (K)   1x1 convolution
            v                                       ^
level 1   284     -> 280 (128) ==== crop 40 ====> 200 (256) -> 196 (128)
            v                                       ^
level 2   140     -> 136 (256) ==== crop 16 ====> 104 (512) -> 100 (256)
            v                                       ^
level 3    68     ->  64 (512) ==== crop 4 =====>  56 (1024) -> 52 (512)
            v                                       ^
level 4    32     ->  28 (1024) ------------------->'
```

Nothing is padded, so an output pixel depends on the input pixels in its receptive field alone. This holds for every
variant with `convolution: valid`: an up-sampling drops the outputs at a tile's rim whose inputs are incomplete. Input
572 gives 388 with the paper's up-convolution, 358 with interpolation, 420 with FCN-8s.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod, sqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from unet.config.model import ModelConfig
from unet.geometry.network_sizes import pooling_factors
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


def build_model(config: ModelConfig, channels: int = 1, classes: int = 2) -> nn.Module:
    """Build the network that a configuration describes, with initial weights.

    Parameters
    ----------
    config : ModelConfig
        Section `model` of the configuration.
    channels : int
        Grey values per voxel. A 2-D network with `context_sections` has as many channels for each section that it
        sees: all sections of the first grey value come first.
    classes : int
        Number K of classes in the output.

    Returns
    -------
    nn.Module
        Maps float32 `(n, channels, *size)` to logits `(n, classes, *smaller)`, sizes `(y, x)` or `(z, y, x)`.
    """
    return {"unet": UNet, "fcn8s": FCN8s}[config.architecture](config, input_channels(config, channels), classes)


def input_channels(config: ModelConfig, channels: int) -> int:
    """Return the channels of a network's input: grey values per voxel, times the sections of a 2-D network."""
    return channels * config.sections


class UNet(nn.Module):
    """Contracting path, expanding path, 1x1 convolution to K logits (paper, section 2).

    Parameters
    ----------
    config : ModelConfig
        `depth` levels, with `base_channels` channels in the first and twice as many in each following level; the paper
        has 5 and 64. `upsampling`, `skip`, `convolution` and `normalisation` choose the variants.
    channels, classes : int
        Number of input channels, and of classes in the output.
    """

    def __init__(self, config: ModelConfig, channels: int = 1, classes: int = 2) -> None:
        super().__init__()
        layers, pools, widths = LAYERS[config.dimensions], pool_factors(config), level_channels(config)
        joined = 2 if config.skip == "concatenate" else 1  # an added skip does not change the number of channels
        self.concatenates, self.classes = config.skip == "concatenate", classes
        self.encoder = Encoder(config, channels)
        self.ups = nn.ModuleList(
            upsampling(config, deep, fine, factor)
            for fine, deep, factor in zip(widths, widths[1:], pools, strict=False)
        )
        self.decoders = nn.ModuleList(convolutions(config, joined * c, c, level) for level, c in enumerate(widths[:-1]))
        self.classifier = layers.convolution(widths[0], classes, kernel_size=1)
        initialise_he(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the voxels in the middle of a tile."""
        return self.classifier(self.features(x))  # 388 (K)

    def features(self, x: Tensor) -> Tensor:
        """Return the features of the voxels in the middle of a tile, from which the logits are computed."""
        *skips, x = self.encoder(x)  # 568 (64), 280 (128), 136 (256), 64 (512); 28 (1024)
        for level in reversed(range(len(skips))):
            x = self._joined(skips.pop(), self.ups[level](x))  # 56 (512), 104 (256), 200 (128), 392 (64)
            x = self.decoders[level](x)  # 52 (512), 100 (256), 196 (128), 388 (64)
        return x

    def _joined(self, skip: Tensor, x: Tensor) -> Tensor:
        """Fuse the up-sampled features with the centre of the skip; a separate function frees both inputs early."""
        skip = centre_crop(skip, x.shape[2:])
        return torch.cat([skip, x], dim=1) if self.concatenates else skip + x


class FCN8s(nn.Module):
    """FCN-8s of Long, Shelhamer and Darrell 2015 (arXiv 1411.4038, section 4) on the contracting path above.

    Scores of the three deepest levels are added from coarse to fine, then brought to full resolution in one step. The
    network is the baseline for the U-Net's expanding path. Sizes for 572, depth 5, K channels throughout:

    ```
    level 4    28 -> up 2 -> 54 \\
    level 3    64 -> crop 5 ---- + -> up 2 -> 106 \\
    level 2   136 -> crop 15 -------------------- + -> up 4 -> 420
    ```

    Parameters
    ----------
    config : ModelConfig
        See `UNet`; `depth` is 3 or more, and `upsampling` and `skip` do not apply.
    channels, classes : int
        Number of input channels, and of classes in the output.
    """

    def __init__(self, config: ModelConfig, channels: int = 1, classes: int = 2) -> None:
        super().__init__()
        if config.depth < 3:
            raise ValueError(f"fcn8s fuses three levels, but model.depth is {config.depth}; set it to 3 or more")
        layers, pools, widths = LAYERS[config.dimensions], pool_factors(config), level_channels(config)
        to_input = tuple(prod(factors) for factors in zip(*pools[:-2], strict=True)) or (1,) * config.dimensions
        self.classes = classes
        self.encoder = Encoder(config, channels)
        self.scores = nn.ModuleList(layers.convolution(c, classes, kernel_size=1) for c in widths[-3:])
        initialise_he(self)
        self.ups = nn.ModuleList(
            learned_interpolation(config, classes, factor) for factor in (to_input, pools[-2], pools[-1])
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the voxels in the middle of a tile."""
        fine, middle, deep = (score(f) for score, f in zip(self.scores, self.encoder(x)[-3:], strict=True))
        x = self.ups[2](deep)  # 54
        x = self.ups[1](x + centre_crop(middle, x.shape[2:]))  # 106
        return self.ups[0](x + centre_crop(fine, x.shape[2:]))  # 420


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
        self.rim = tuple(f // 2 if config.convolution == "valid" else 0 for f in factor)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(n, deep, *size)` to `(n, fine, *(size * factor - 2 * rim))`."""
        size = [n * f for n, f in zip(x.shape[2:], self.factor, strict=True)]
        x = nn.functional.interpolate(self.reduce(x), size=size, mode=self.mode, align_corners=False)
        return centre_crop(x, [n - 2 * r for n, r in zip(size, self.rim, strict=True)])


def upsampling(config: ModelConfig, deep: int, fine: int, factor: tuple[int, ...]) -> nn.Module:
    """Build one up-sampling: the paper's up-convolution (kernel = stride = the pool's factor), or interpolation."""
    if config.upsampling == "bilinear":
        return Interpolation(config, deep, fine, factor)
    return LAYERS[config.dimensions].transposed(deep, fine, kernel_size=factor, stride=factor)


class Residual(nn.Module):
    """Two convolutions whose input is added to their result (He et al. 2016, arXiv 1512.03385, figure 2).

    Unpadded convolutions lose a rim, which is cropped from the input. Where channels differ, a 1x1 convolution brings
    the input to the channels of the result. Receptive field and output size are those of the two convolutions alone.
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
        return nn.functional.relu(result + self.projection(centre_crop(x, result.shape[2:])))


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


def learned_interpolation(config: ModelConfig, classes: int, factor: tuple[int, ...]) -> nn.Module:
    """Build a transposed convolution that starts as linear interpolation of each class (Long et al., section 3.3).

    ```
    kernel k = 2 f - f mod 2; untrimmed, n inputs give (n - 1) f + k outputs
    ```

    An output is complete where every input under its kernel exists: all outputs but the first and the last
    `f - f mod 2`. An unpadded network drops the incomplete outputs; a padded network drops half of them and has `n f`.
    """
    rims, kernel = tuple(f - f % 2 for f in factor), linear_kernel(factor)
    up = LAYERS[config.dimensions].transposed(
        classes,
        classes,
        kernel_size=tuple(kernel.shape),
        stride=factor,
        padding=rims if config.convolution == "valid" else tuple(r // 2 for r in rims),
        bias=False,
    )
    weight = torch.zeros(classes, classes, *kernel.shape)
    weight[range(classes), range(classes)] = kernel
    up.load_state_dict({"weight": weight})
    return up


def linear_kernel(factor: tuple[int, ...]) -> Tensor:
    """Return the kernel of a transposed convolution that interpolates linearly by `factor`.

    >>> linear_kernel((2,))
    tensor([0.2500, 0.7500, 0.7500, 0.2500])
    """
    kernel = torch.ones(())
    for f in factor:
        size = 2 * f - f % 2
        hat = 1 - (torch.arange(size) - (size - 1) / 2).abs() / f
        kernel = kernel[..., None] * hat
    return kernel


def initialise_he(model: nn.Module) -> None:
    """Draw all weights from N(0, sqrt(2 / N)) with N the number of incoming nodes of one output (paper, section 3).

    For a convolution, N is channels times kernel size (576 for 64 channels and 3x3). An up-convolution's stride equals
    its kernel, so each output sees one tap of the kernel, and N is the number of channels. Biases start at 0. After He
    et al. 2015.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            taps = 1 if module.transposed else prod(module.kernel_size)
            nn.init.normal_(module.weight, std=sqrt(2 / (module.in_channels * taps)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def is_2d(model: nn.Module) -> bool:
    """Return whether the network is 2-D and sees one section at a time."""
    return any(isinstance(module, nn.Conv2d) for module in model.modules())


def channels_last(dimensions: int) -> torch.memory_format:
    """Return the memory layout of tensors and weights in which convolutions of `dimensions` axes are fastest."""
    return torch.channels_last if dimensions == 2 else torch.channels_last_3d


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
        """Return the gradient within a rim of zeros."""
        padded = torch.empty(ctx.shape, dtype=grad.dtype, device=grad.device, memory_format=ctx.layout).zero_()
        _centre(padded, grad.shape[2:]).copy_(grad)
        return padded, None


def check_divisible(size: torch.Size, factor: tuple[int, ...], level: int) -> None:
    """Refuse a size that a pool would silently round down: the output would no longer be aligned with the input."""
    if any(n % f or n < f for n, f in zip(size, factor, strict=True)):
        raise ValueError(
            f"level {level} of the network has size {tuple(size)}, which its pooling by {factor} does not divide: "
            "choose another tile size (for the unpadded net of depth 5: 572 or any other 16 b + 60)"
        )
