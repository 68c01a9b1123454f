"""FCN-8s (Long, Shelhamer and Darrell 2015), the baseline for the expanding path of the U-Net."""

from math import prod

import torch
from torch import Tensor, nn

from unet.config.model import ModelConfig
from unet.network.blocks import LAYERS, Encoder, initialise_he, level_channels, pool_factors
from unet.network.centre_crop import centre_crop


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


def learned_interpolation(config: ModelConfig, classes: int, factor: tuple[int, ...]) -> nn.Module:
    """Build a transposed convolution that starts as linear interpolation of each class (Long et al., section 3.3).

    ```
    kernel k = 2 f - f mod 2; untrimmed, n inputs give (n - 1) f + k outputs
    ```

    An output is complete where every input under its kernel exists: all outputs but the first and the last
    `f - f mod 2`. An unpadded network drops the incomplete outputs; a padded network drops half of them and has `n f`.
    """
    borders, kernel = tuple(f - f % 2 for f in factor), linear_kernel(factor)
    up = LAYERS[config.dimensions].transposed(
        classes,
        classes,
        kernel_size=tuple(kernel.shape),
        stride=factor,
        padding=borders if config.convolution == "valid" else tuple(r // 2 for r in borders),
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
