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
variant with `convolution: valid`: an up-sampling drops the outputs at a tile's border whose inputs are incomplete.
Input 572 gives 388 with the paper's up-convolution, 358 with interpolation, 420 with FCN-8s.
"""

import torch
from torch import Tensor, nn

from unet.config.model import ModelConfig
from unet.network.blocks import LAYERS, Encoder, convolutions, initialise_he, level_channels, pool_factors, upsampling
from unet.network.centre_crop import centre_crop
from unet.network.fcn8s import FCN8s


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


def is_2d(model: nn.Module) -> bool:
    """Return whether the network is 2-D and sees one section at a time."""
    return any(isinstance(module, nn.Conv2d) for module in model.modules())
