"""Deform a patch elastically in 3-D, by random vectors on a coarse grid.

```
q = p + d(p)      q is the position in the volume of a voxel p of the patch; d is the displacement of p
```

The vectors lie on a grid of g^3 points that spans the patch. Between them, d is interpolated by natural cubic splines,
as the deformation within sections is (`unet.training.augmentation`). Beyond the patch, d stays as at its faces.
Grey values are interpolated linearly. Labels are those of the nearest voxel. Labels from beyond the volume's faces are
left out: a mirror image would look like one more object that touches.
"""

from dataclasses import dataclass

import numpy as np
import torch

from unet.geometry.box import Box, Index
from unet.training.augmentation import spline_matrix
from unet.training.labelled_volume import Readable


@dataclass(frozen=True)
class DisplacementField:
    """Displacements in voxels around a patch.

    Parameters
    ----------
    vectors : numpy.ndarray
        `(3, g, g, g)` float64 in voxels, components z, y and x.
    patch : Box
        The patch that the grid spans, in voxels of the volume.
    """

    vectors: np.ndarray
    patch: Box

    def positions(self, box: Box) -> np.ndarray:
        """Return the positions of the voxels of a box, counted from its first voxel: `(3, z, y, x)` float32.

        Counted from there, float32 is precise however large the volume is.
        """
        splines = []
        for axis, points in enumerate(self.vectors.shape[1:]):
            n, start = self.patch.shape[axis], self.patch.start[axis]
            rows = np.clip(np.arange(box.start[axis], box.stop[axis]) - start, 0, n - 1)
            splines.append(spline_matrix(n, points)[rows].astype(np.float32))
        along_z, along_y, along_x = splines
        columns = along_y @ (self.vectors.astype(np.float32) @ along_x.T)  # 3, g, y, x
        positions = (along_z @ columns.reshape(*columns.shape[:2], -1)).reshape(3, *box.shape)
        for axis, n in enumerate(box.shape):
            positions[axis] += np.arange(n, dtype=np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        return positions


@dataclass(frozen=True)
class DeformedImage:
    """Grey values of a volume under a displacement field."""

    volume: Readable
    field: DisplacementField

    @property
    def shape(self) -> Index:
        """Return the shape `(z, y, x)` in voxels."""
        return self.volume.shape

    @property
    def dtype(self) -> np.dtype:
        """Return float32: values are interpolated."""
        return np.dtype(np.float32)

    def read_mirrored(self, box: Box) -> np.ndarray:
        """Return the grey values of a box, interpolated linearly, mirrored beyond the volume."""
        positions = self.field.positions(box)
        low, read = _enclosing(positions, box)
        voxels = self.volume.read_mirrored(read)
        positions -= np.array(low, np.float32).reshape(3, 1, 1, 1)
        channels = torch.from_numpy(voxels.reshape(-1, *read.shape).astype(np.float32))
        values = interpolated(channels, torch.from_numpy(positions))
        return values.numpy().reshape(*voxels.shape[:-3], *box.shape)


@dataclass(frozen=True)
class DeformedLabels:
    """Labels or weights of a volume under a displacement field.

    `outside` is the value beyond the volume's faces, which means that nothing is known there.
    """

    volume: Readable
    field: DisplacementField
    outside: int

    @property
    def shape(self) -> Index:
        """Return the shape `(z, y, x)` in voxels."""
        return self.volume.shape

    @property
    def dtype(self) -> np.dtype:
        """Return the type of the voxels."""
        return self.volume.dtype

    def read_mirrored(self, box: Box) -> np.ndarray:
        """Return the value of the nearest voxel for each voxel of a box."""
        nearest = np.floor(self.field.positions(box) + np.float32(0.5)).astype(np.int32)
        low, read = _enclosing(nearest, box)
        depth, height, width = read.shape
        z, y, x = (index - lo for index, lo in zip(nearest, low, strict=True))
        values = self.volume.read_mirrored(read).reshape(depth * height * width).take((z * height + y) * width + x)
        if read.clipped(self.shape) == read:
            return values
        inside = np.ones(box.shape, bool)
        for index, start, n in zip(nearest, box.start, self.shape, strict=True):
            inside &= (index >= -start) & (index < n - start)
        return np.where(inside, values, self.dtype.type(self.outside))


def interpolated(channels: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Return values between the voxels of a volume by trilinear interpolation.

    PyTorch interpolates in two dimensions with vectors, in three without. Here the sections of the volume are stacked
    into one image, which is interpolated at a position's section and at the one behind:

    ```
    row = z Y + y,    value(z + f, y, x) = (1 - f) image(z Y + y, x) + f image((z + 1) Y + y, x)
    ```

    Parameters
    ----------
    channels : Tensor
        Voxels `(c, Z, Y, X)` float32, two at least along each axis.
    positions : Tensor
        Positions z, y and x in voxels: `(3, z, y, x)` float32, from 0 and below Z - 1, Y - 1 and X - 1. For patches of
        up to 200 voxels a side, rows are exact to 1/300 voxel.

    Returns
    -------
    Tensor
        `(c, z, y, x)` float32.
    """
    depth, height, width = channels.shape[1:]
    z, y, x = positions
    section = z.floor()
    image, rows, shape = channels.reshape(1, -1, depth * height, width), depth * height - 1, z.shape
    grid = torch.empty(*shape, 2)  # grid_sample counts x first, from -1 to 1
    grid[..., 0] = x * (2 / (width - 1)) - 1
    grid[..., 1] = (section * height + y) * (2 / rows) - 1
    grid = grid.reshape(1, -1, shape[2], 2)
    sample = torch.nn.functional.grid_sample
    here = sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)
    grid[..., 1] += 2 * height / rows
    behind = sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return torch.lerp(here, behind, (z - section).reshape(1, 1, -1, shape[2])).reshape(-1, *shape)


def _enclosing(positions: np.ndarray, box: Box) -> tuple[Index, Box]:
    """Return the box of the voxels around positions, which count from the first voxel of `box`, and where it begins.

    It has two voxels at least along each axis. Its beginning is counted from the first voxel of `box`, too.
    """
    z, y, x = (int(np.floor(along.min())) for along in positions)
    high = (int(np.floor(along.max())) + 2 for along in positions)
    start = tuple(lo + first for lo, first in zip((z, y, x), box.start, strict=True))
    stop = tuple(hi + first for hi, first in zip(high, box.start, strict=True))
    return (z, y, x), Box(start, stop)
