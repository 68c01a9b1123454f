"""A source of voxels in memory, for tests of what is built on sources."""

from collections.abc import Sequence

import numpy as np

from unet.geometry.box import Box
from unet.volumes.readers.source import Nm, Source


class InMemory(Source):
    """An array `(z, y, x)` or `(c, z, y, x)` as a source, perhaps with the numbers of its sections."""

    def __init__(
        self, values: np.ndarray, numbers: Sequence[int] | None = None, name: str = "a.h5", offset_nm: Nm | None = None
    ) -> None:
        self.values, self.numbers = values, numbers
        channels = len(values) if values.ndim == 4 else 1
        super().__init__(name, [], values.shape[-3:], values.dtype, (50, 4, 4), offset_nm, channels=channels)

    def _read(self, box: Box) -> np.ndarray:
        return self.values[(..., *box.slices)]


def whole_and_by_voxel(source: Source) -> np.ndarray:
    """Read a source at once and voxel by voxel, and compare."""
    whole = source.read(Box.of_shape(source.shape))
    held = source.covers(Box.of_shape(source.shape))
    for at in np.ndindex(*source.shape):
        voxel = Box(at, tuple(n + 1 for n in at))
        assert source.read(voxel).item() == whole[at]
        here = source.covers(voxel)
        assert (True if here is None else here.item()) == (True if held is None else held[at])
    return whole
