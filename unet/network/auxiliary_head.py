"""A network with a second, auxiliary output that is trained beside its own and never stored.

```
                        +-- classifier (1x1) --> K logits          what `model.pt` holds
input --> U-Net trunk --+
                        +-- auxiliary (1x1) ---> A logits          left out
```

Both heads read the features of the last level. A loss of the auxiliary output thus changes what the trunk learns, and
the network is used without it afterwards.
"""

import torch
from torch import Tensor, nn

from unet.network.model import LAYERS, UNet, initialise_he, is_2d


class WithAuxiliaryHead(nn.Module):
    """A U-Net with further output channels for the training.

    Parameters
    ----------
    network : UNet
        The network that is stored; its weights are not changed here.
    channels : int
        Number A of auxiliary channels. The weights of their 1x1 convolution are drawn at random.
    """

    def __init__(self, network: UNet, channels: int) -> None:
        super().__init__()
        convolution = LAYERS[2 if is_2d(network) else 3].convolution
        self.auxiliary = convolution(network.classifier.in_channels, channels, kernel_size=1)
        initialise_he(self.auxiliary)
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the network, then those of the auxiliary head: `(n, K + A, *smaller)`."""
        features = self.network.features(x)
        return torch.cat([self.network.classifier(features), self.auxiliary(features)], dim=1)


def stored_network(network: nn.Module) -> nn.Module:
    """Return the network without an auxiliary head, as it is stored and predicts; it shares the weights."""
    return network.network if isinstance(network, WithAuxiliaryHead) else network
