"""A stand-in for a stored volume that tests of the training share."""

from typing import Any

import numpy as np

from unet.geometry.box import Box
from unet.geometry.mirroring import mirrored_indices


class ArrayVolume:
    """A volume in memory, mirrored beyond its faces."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype

    def read_mirrored(self, box: Box) -> np.ndarray:
        """Return the voxels of a box."""
        indices = [mirrored_indices(lo, hi, n) for lo, hi, n in zip(box.start, box.stop, self.shape, strict=True)]
        return self.values[np.ix_(*indices)]


def values_of(volume: Any) -> np.ndarray:
    """Return the array of a volume in memory, whichever stand-in it is."""
    values: np.ndarray = volume.values
    return values
