"""Mirror a volume at its faces, for boxes that exceed it; the voxel at the face is not repeated.

```
volume             0 1 2 3
box -2:6       2 1 0 1 2 3 2 1
```
"""

from typing import Protocol

import numpy as np

from unet.geometry.box import Box, Index


class Readable(Protocol):
    """A volume of which boxes can be read."""

    @property
    def shape(self) -> Index:
        """`(z, y, x)` in voxels."""

    def read(self, box: Box) -> np.ndarray:
        """Read the voxels of a box inside the volume; z, y and x are the last axes."""


def read_mirrored(volume: Readable, box: Box) -> np.ndarray:
    """Read the voxels of a box that may exceed the volume, which is mirrored at its faces.

    The voxel at the face is not repeated (numpy's 'reflect').
    """
    indices, read_box = _indices_of_axes(box, volume.shape), mirrored_read_box(box, volume.shape)
    values = volume.read(read_box)
    for axis, (index, lo) in enumerate(zip(indices, read_box.start, strict=True)):
        if index.size != values.shape[axis - 3] or index[0] != lo or index[-1] != lo + index.size - 1:
            values = np.take(values, index - lo, axis=axis - 3)
    return values


def mirrored_read_box(box: Box, shape: Index) -> Box:
    """Return the box inside the volume that has to be read for a mirrored box, which may exceed the volume.

    >>> print(mirrored_read_box(Box((0, -2, 3), (1, 1, 9)), (1, 9, 6)))
    0:1,0:3,2:6
    """
    indices = _indices_of_axes(box, shape)
    return Box(tuple(int(i.min()) for i in indices), tuple(int(i.max()) + 1 for i in indices))


def _indices_of_axes(box: Box, shape: Index) -> list[np.ndarray]:
    """Return the mirrored indices along each axis."""
    return [mirrored_indices(lo, hi, n) for lo, hi, n in zip(box.start, box.stop, shape, strict=True)]


def mirrored_indices(start: int, stop: int, size: int) -> np.ndarray:
    """Return the indices `start .. stop - 1` reflected into `0 .. size - 1`; the edge is not repeated.

    >>> mirrored_indices(-2, 6, 4).tolist(), mirrored_indices(-1, 2, 1).tolist()
    ([2, 1, 0, 1, 2, 3, 2, 1], [0, 0, 0])
    """
    if size == 1:
        return np.zeros(stop - start, dtype=np.intp)
    period = 2 * (size - 1)
    phase = np.arange(start, stop) % period
    return np.minimum(phase, period - phase)
