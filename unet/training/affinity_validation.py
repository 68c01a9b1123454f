"""Validate a network that predicts affinities: the balanced cross-entropy on fixed crops of the validation volumes.

Crops are chosen and predicted as in `unet.training.validation`. The score is `exp(-loss)`: the geometric mean of the
probability that the network gives to the truth, pair by pair, with both classes weighing alike in each channel. It is 1
for a perfect network, and 0.5 for one that says one half everywhere if no share meets its bound. The best score is the
lowest loss.
"""

from collections.abc import Sequence
from math import exp

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unet.geometry.box import Box
from unet.geometry.tiling import TileGeometry
from unet.network.predictor import Predictor
from unet.training.affinities import AffinityTargets, mirror_images
from unet.training.labelled_volume import LabelledVolume
from unet.training.validation import ValidationResult, choose_crops, mode_restored

CROP_SIDE = {2: 512, 3: 256}
"""Side of a crop in px by the dimensions of the network: a crop has many sections and channels in 3-D."""
MIN_PROBABILITY = 1e-7
"""Probability from which on a wrong answer counts the same."""


class AffinityValidation:
    """Fixed crops of volumes with ids; see `unet.training.validation.Validation`.

    Parameters
    ----------
    volumes : sequence of LabelledVolume
        Validation volumes, whose `targets` hold ids.
    geometry : TileGeometry
        Sizes of the training's tiles.
    crops : int
        Number of crops.
    device : torch.device
        Device of the model.
    affinities : AffinityTargets
        The pairs of voxels.
    smallest_share : float or None
        See `unet.training.affinity_loss`; the shares are those of all crops together.
    dimensions : int
        Dimensions of the network.
    threads : int
        CPU threads of the prediction.

    Raises
    ------
    ValueError
        If no voxel is labelled.
    """

    def __init__(
        self,
        volumes: Sequence[LabelledVolume],
        geometry: TileGeometry,
        crops: int,
        device: torch.device,
        affinities: AffinityTargets,
        smallest_share: float | None,
        dimensions: int,
        threads: int = 1,
    ) -> None:
        self.geometry, self.device, self.affinities, self.threads = geometry, device, affinities, threads
        self.smallest_share, side = smallest_share, CROP_SIDE[dimensions]
        self.crops = choose_crops(volumes, (geometry.output[0], side, side), crops)

    def validate(self, model: nn.Module) -> ValidationResult:
        """Return loss and score of a model, whose mode is restored."""
        sums = np.zeros((len(self.affinities.offsets), 2, 2))
        with mode_restored(model):
            for volume, box in self.crops:
                sums += self._sums_of(model, volume, box)
        loss = balanced_loss(sums, self.smallest_share)
        return ValidationResult(loss, exp(-loss))

    def _sums_of(self, model: nn.Module, volume: LabelledVolume, box: Box) -> NDArray[np.float64]:
        predictor = Predictor(
            model,
            self.geometry,
            volume.normalisation,
            device=self.device,
            threads=self.threads,
            output="affinities",
        )
        probabilities = predictor.predict_box(volume.raw, box)
        window = box.grown(self.affinities.margin)
        images = mirror_images(window, volume.targets.shape)
        return loss_sums(probabilities, self.affinities.pairs(volume.targets.read_mirrored(window), images))


def loss_sums(probabilities: NDArray[np.float32], targets: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return pairs and summed cross-entropy `(K, class, 2)` by class: 0 two objects, 1 one object.

    Parameters
    ----------
    probabilities : float32 array (K, z, y, x)
    targets : uint8 array (K, z, y, x), 255 does not count
    """
    sums = np.zeros((len(targets), 2, 2))
    for channel, (probability, target) in enumerate(zip(probabilities, targets, strict=True)):
        for truth in (0, 1):
            given = probability[target == truth] if truth else 1 - probability[target == truth]
            entropy = -np.log(np.maximum(given, MIN_PROBABILITY)).sum(dtype=np.float64)
            sums[channel, truth] = given.size, entropy
    return sums


def balanced_loss(sums: NDArray[np.float64], smallest_share: float | None) -> float:
    """Return the loss of `unet.training.affinity_loss` from the sums of all crops, without weights of pairs.

    >>> half = np.log(2)
    >>> round(float(balanced_loss(np.array([[[1, half], [3, 3 * half]]]), 0.05) / half), 9)
    1.0
    """
    pairs = sums[..., 0]
    balance = np.ones_like(pairs)
    if smallest_share is not None:
        share = np.clip(pairs[:, 1] / np.maximum(pairs.sum(axis=1), 1), smallest_share, 1 - smallest_share)
        balance = np.stack([0.5 / (1 - share), 0.5 / share], axis=1)
    return float((balance * sums[..., 1]).sum() / max(pairs.sum(), 1))
