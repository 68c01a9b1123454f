"""The loss of affinities with local shape descriptors as an auxiliary output.

With the logits z of the A descriptors of a voxel, their targets t (`unet.training.shape_descriptors`) and the weight w,

```
E = E_affinities + w / (A m) sum_voxels sum_descriptors (sigmoid(z) - t)^2,     m = voxels that count
```

Sheridan et al. 2022 sum both losses with w = 1. A voxel counts where it is annotated; of the background the targets
are 0.
"""

import torch
from torch import Tensor

from unet.config.label_kinds import UNLABELLED
from unet.training.loss import Objective


class WithShapeDescriptors:
    """The loss of a training that learns shape descriptors beside affinities; see `unet.training.loss.Objective`.

    Parameters
    ----------
    affinities : Objective
        The loss of affinities.
    descriptors : int
        Number A of descriptors, which are the last channels of logits and targets.
    weight : float
        Weight w.
    """

    def __init__(self, affinities: Objective, descriptors: int, weight: float) -> None:
        self.affinities, self.descriptors, self.weight = affinities, descriptors, weight

    @property
    def state(self) -> Tensor | None:
        """Return the state of the loss of affinities; the descriptors need none."""
        return self.affinities.state

    @state.setter
    def state(self, state: Tensor | None) -> None:
        self.affinities.state = state

    def counts(self, target: Tensor, weight: Tensor) -> Tensor:
        """Return the counts of the affinities, then the number m of voxels that count, int64."""
        pairs, described = self._parts(target)
        voxels = (described[:, 0] != UNLABELLED).sum().reshape(1)
        return torch.cat([self.affinities.counts(pairs, weight), voxels])

    def begin_step(self, counts: Tensor) -> None:
        """Take in the counts of a step's whole batch."""
        self.affinities.begin_step(counts[:-1])

    def loss(self, logits: Tensor, target: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
        """Return the part of E that a part of the batch contributes, a scalar, float32.

        Parameters
        ----------
        logits : Tensor
            `(n, K + A, *size)` of any floating type; the loss is computed in float32.
        target : Tensor
            `(n, K + A, *size)`, float32: affinities 0 and 1, descriptors from 0 to 1; 255 does not count.
        weight : Tensor
            Weight of each pair, float32, of the shape of the affinities or one that broadcasts to it.
        counts : Tensor
            Counts of the whole batch, of all ranks.
        """
        (pairs, described), (of_pairs, of_described) = self._parts(target), self._parts(logits)
        known = described != UNLABELLED
        error = torch.where(known, torch.sigmoid(of_described.float()) - described, 0.0)
        squared = (error**2).sum() / (self.descriptors * counts[-1].clamp(min=1))
        return self.affinities.loss(of_pairs, pairs, weight, counts[:-1]) + self.weight * squared

    def _parts(self, channels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the channels of affinities, and those of descriptors."""
        affinities = channels.shape[1] - self.descriptors
        return channels[:, :affinities], channels[:, affinities:]
