"""Targets of affinities: whether two voxels at an offset belong to one object, from instance ids.

For a pair of voxels p and q = p + d with the ids a and b:

```
a or b not annotated       255   the pair does not count
a = b > 0                    1   one object
a != b                       0   two objects, or an object and the background
a = b = 0                    0   two voxels of the background are no object
```

The last line follows the field: Lee et al. (2017), Funke et al. (2018) and Sheridan et al. (2022) learn affinity 0
between two voxels of the background. The decoding then leaves membranes to no object, and joins none through them.
Where 0 means that nobody annotated a voxel, `volumes.<name>.ignore_id: 0` says so, and the pair does not count.

Labels are often drawn without a gap between two bodies. The nearest affinity would then have to fall from 1 to 0 and
rise to 1 again within one pair of voxels. The border between two bodies is `erode_labels` voxels wide on each side. For
offsets between neighbours (`is_nearest`), neither voxel of a pair may lie in it. Contact of a body with the background
takes nothing away, because the background is a gap already. Longer offsets see the ids as they are, so that thin
processes keep their affinities.

A pair is stored at its first voxel, so a box of ids needs a margin (`AffinityTargets.margin`) behind and before it:

```
|<- margin ->|<------ pairs start here ------>|<- margin ->|
                                        p --- d ---> q
```

Beyond a volume's faces training sees mirror images. A body and its image have one id, but they are two bodies. Only
pairs within one image count (`mirror_images`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unet.config.label_kinds import UNLABELLED, not_annotated_id
from unet.geometry.box import Box, Index
from unet.geometry.offsets import Offset, is_isotropic, is_nearest
from unet.training.weight_map import separation_border


@dataclass(frozen=True)
class AffinityTargets:
    """The pairs of voxels whose affinities a network learns.

    Parameters
    ----------
    offsets : tuple of Offset
        Offset `(z, y, x)` in voxels of each channel.
    erode_labels : int
        Voxels on each side of a contact of two bodies in which a nearest affinity is 0.
    axes : tuple of int
        Axes along which bodies touch: all three (0, 1, 2), or y and x (1, 2).
    """

    offsets: tuple[Offset, ...]
    erode_labels: int = 1
    axes: tuple[int, ...] = (1, 2)

    @classmethod
    def of(
        cls, offsets: Sequence[Offset], erode_labels: int, dimensions: int, voxel_size_nm: Sequence[float]
    ) -> "AffinityTargets":
        """Return the pairs for a network: labels are eroded in 3-D for isotropic voxels, else in the section.

        >>> [AffinityTargets.of([(1, 0, 0)], 1, 3, (z, 8, 8)).axes for z in (8, 40)]
        [(0, 1, 2), (1, 2)]
        """
        in_3d = dimensions == 3 and is_isotropic(voxel_size_nm)
        return cls(tuple(offsets), erode_labels, (0, 1, 2) if in_3d else (1, 2))

    @property
    def margin(self) -> Index:
        """Voxels `(z, y, x)` of ids that are needed on each side of the first voxels of the pairs.

        >>> AffinityTargets(((0, 0, 1), (0, 3, 0)), erode_labels=2).margin
        (0, 3, 3)
        """
        z, y, x = (max(self._margin_along(offset, axis) for offset in self.offsets) for axis in range(3))
        return z, y, x

    def _margin_along(self, offset: Offset, axis: int) -> int:
        eroded = is_nearest(offset) and axis in self.axes
        return abs(offset[axis]) + (self.erode_labels if eroded else 0)

    def pairs(self, ids: NDArray[np.unsignedinteger], images: NDArray[np.integer] | None = None) -> NDArray[np.uint8]:
        """Return the target of each pair: 1 one object, 0 not, 255 does not count.

        Parameters
        ----------
        ids : unsigned array (z, y, x)
            Ids with `margin` voxels on each side; 0 is background, the largest number is not annotated.
        images : int array (z, y, x), optional
            The mirror image that each voxel belongs to (`mirror_images`). Pairs across two images do not count.

        Returns
        -------
        uint8 array (offsets, z, y, x), without the margin.
        """
        known = ids != not_annotated_id(ids.dtype)
        bodies = ids if known.all() else np.where(known, ids, ids.dtype.type(0))
        within = ~separation_border(bodies, self.erode_labels, [axis - 3 for axis in self.axes])
        start = self._shifted(ids.shape, (0, 0, 0))
        first, is_body = ids[start], bodies[start] > 0
        found = np.empty((len(self.offsets), *first.shape), np.uint8)
        for offset, target in zip(self.offsets, found, strict=True):
            end = self._shifted(ids.shape, offset)
            one = target.view(bool)
            np.equal(first, ids[end], out=one)
            one &= is_body
            if is_nearest(offset):
                one &= within[start]
                one &= within[end]
            if bodies is not ids:
                target[~(known[start] & known[end])] = UNLABELLED
            if images is not None:
                target[images[start] != images[end]] = UNLABELLED
        return found

    def pair_weights(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the weight of each pair, the mean of its voxels' weights: `(offsets, z, y, x)` without the margin.

        Parameters
        ----------
        weights : float32 array (z, y, x)
            Weights of equation 2 with `margin` voxels on each side.
        """
        start = weights[self._shifted(weights.shape, (0, 0, 0))]
        ends = (weights[self._shifted(weights.shape, offset)] for offset in self.offsets)
        return np.stack([(start + end) / 2 for end in ends])

    def _shifted(self, shape: Sequence[int], offset: Offset) -> tuple[slice, ...]:
        """Return the slices of the first voxels of all pairs, moved by an offset."""
        return tuple(slice(m + d, n - m + d) for m, n, d in zip(self.margin, shape, offset, strict=True))


def mirror_images(box: Box, shape: Index) -> NDArray[np.int32] | None:
    """Return a number per voxel of a box, which distinguishes the volume (0) from its mirror images beyond the faces.

    The face's own voxels belong to the volume. Returns None for a box inside the volume.

    Parameters
    ----------
    box : Box
        May exceed the volume.
    shape : tuple of int
        Size `(z, y, x)` of the volume in voxels.

    >>> mirror_images(Box((0, 0, -1), (1, 1, 5)), (1, 1, 4)).tolist()
    [[[1, 0, 0, 0, 0, 2]]]
    """
    if box.clipped(shape) == box:
        return None
    images = np.zeros((1, 1, 1), np.int32)
    for axis, (lo, hi, n) in enumerate(zip(box.start, box.stop, shape, strict=True)):
        i, period = np.arange(lo, hi), max(n - 1, 1)
        before, behind = (-i + period - 1) // period, (i - n) // period + 1
        number = np.where(i < 0, 2 * before - 1, np.where(i < n, 0, 2 * behind))
        along = [1, 1, 1]
        along[axis] = len(i)
        images = images * (int(number.max()) + 1) + number.reshape(along).astype(np.int32)
    return images
