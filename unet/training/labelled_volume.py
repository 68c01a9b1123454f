"""A training volume: raw, targets and weights, of which any box can be read."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from unet.geometry.box import Box, Index
from unet.volumes.intensity import Normalisation


class Readable(Protocol):
    """A volume that the sampler can read, such as `unet.storage.zarr_store.Image`."""

    @property
    def shape(self) -> Index:
        """Shape `(z, y, x)` in voxels."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the voxels."""

    def read_mirrored(self, box: Box) -> np.ndarray:
        """Return the voxels of a box, mirrored beyond the volume: `(z, y, x)` or `(c, z, y, x)`."""


@dataclass(frozen=True)
class LabelledVolume:
    """A training volume.

    `raw`, `targets` and `weights` (equation 2, 0 = unlabelled) have the same shape. `targets` holds class indices
    (255 = unlabelled), or instance ids where affinities are learnt (largest number = unlabelled).
    `normalisation` uses the intensity statistics of the volume.
    """

    raw: Readable
    targets: Readable
    weights: Readable
    normalisation: Normalisation

    def __post_init__(self) -> None:
        shapes = {name: tuple(getattr(self, name).shape) for name in ("raw", "targets", "weights")}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"raw, targets and weights of a training volume differ in shape: {shapes}")
