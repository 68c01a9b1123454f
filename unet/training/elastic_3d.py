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
        """Return the positions `(3, z, y, x)` float64 in the volume of the voxels of a box."""
        splines = []
        for axis, points in enumerate(self.vectors.shape[1:]):
            n, start = self.patch.shape[axis], self.patch.start[axis]
            rows = np.clip(np.arange(box.start[axis], box.stop[axis]) - start, 0, n - 1)
            splines.append(spline_matrix(n, points)[rows])
        displacements = np.einsum("cijk,zi,yj,xk->czyx", self.vectors, *splines, optimize=True)
        axes = (np.arange(lo, hi) for lo, hi in zip(box.start, box.stop, strict=True))
        return displacements + np.stack(np.meshgrid(*axes, indexing="ij"))


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
        read = _enclosing(positions)
        voxels = self.volume.read_mirrored(read)
        source = torch.from_numpy(voxels.reshape(1, -1, *read.shape).astype(np.float32))
        size = read.shape
        grid = np.stack(  # grid_sample counts x first, from -1 to 1
            [2 * (positions[a] - read.start[a]) / (size[a] - 1) - 1 for a in (2, 1, 0)], axis=-1, dtype=np.float32
        )
        values = torch.nn.functional.grid_sample(
            source, torch.from_numpy(grid)[None], mode="bilinear", padding_mode="border", align_corners=True
        )
        return values[0].numpy().reshape(*voxels.shape[:-3], *box.shape)


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
        nearest = np.floor(self.field.positions(box) + 0.5).astype(np.intp)
        read = _enclosing(nearest)
        z, y, x = (index - lo for index, lo in zip(nearest, read.start, strict=True))
        values = self.volume.read_mirrored(read)[z, y, x]
        inside = np.all([(index >= 0) & (index < n) for index, n in zip(nearest, self.shape, strict=True)], axis=0)
        return np.where(inside, values, self.dtype.type(self.outside))


def _enclosing(positions: np.ndarray) -> Box:
    """Return the box of the voxels around positions `(3, z, y, x)`, two at least along each axis."""
    low, high = (f(positions, axis=(1, 2, 3)) for f in (np.min, np.max))
    return Box(tuple(int(n) for n in np.floor(low)), tuple(int(n) + 2 for n in np.floor(high)))
