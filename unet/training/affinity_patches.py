"""Training patches whose targets are affinities.

The ids of a patch are moved as its grey values are, each to the nearest voxel, before two of them are compared. The
affinities are thus those of the augmented patch: an offset stays an offset of the network's input, whatever was turned.

The ids are read with the margin that the offsets need, so every pair that begins in the network's output counts:

```
+---------------------+ input of the network
|   +-------------+   | ids: output and margin. Where the margin leaves the input, the map of the patch goes on as its
|   |  +-------+  |   |      mirror image about the last pixel, so that a straight line stays straight.
|   |  | output|  |   |
```
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from unet.geometry.box import Box, Index
from unet.training.affinities import AffinityTargets, mirror_images
from unet.training.augmentation import Warp
from unet.training.labelled_volume import LabelledVolume
from unet.training.patches import PatchLocation, PatchSampler, voxels_of
from unet.training.shape_descriptors import ShapeDescriptors


class AffinitySampler(PatchSampler):
    """Draws patches as `PatchSampler` does, with targets `(K, *out)`: one affinity for each offset.

    Parameters
    ----------
    affinities : AffinityTargets
        The pairs of voxels.
    border_weight : bool
        Whether a pair has the mean weight of its two voxels; else every pair has weight 1.
    descriptors : ShapeDescriptors or None
        Shape descriptors that follow the affinities in the targets, which are then float32, `(K + A, *out)`.
    volumes, input_size, output_size, **keys
        See `PatchSampler`; the `targets` of the volumes hold ids.
    """

    def __init__(
        self,
        volumes: Sequence[LabelledVolume],
        input_size: Index,
        output_size: Index,
        *,
        affinities: AffinityTargets,
        border_weight: bool = False,
        descriptors: ShapeDescriptors | None = None,
        **keys: Any,
    ) -> None:
        super().__init__(volumes, input_size, output_size, **keys)
        self.affinities, self.border_weight, self.descriptors = affinities, border_weight, descriptors

    def _targets(
        self, volume: LabelledVolume, location: PatchLocation, weight: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        margin = self.affinities.margin
        warp, box = self._around(location, margin)
        target = self.affinities.pairs(*_moved_ids(volume, warp, box))
        if self.descriptors is not None:
            described = self.descriptors.targets(*_moved_ids(volume, *self._around(location, self.descriptors.margin)))
            target = np.concatenate([target.astype(np.float32), described])
        if not self.border_weight:
            return target, np.ones((1, 1, 1, 1), np.float32)
        return target, self.affinities.pair_weights(warp.labels(volume.weights.read_mirrored(box)))

    def _around(self, location: PatchLocation, margin: Index) -> tuple[Warp, Box]:
        """Return the warp of a patch's output with a margin around it, and the voxels that it needs."""
        warp = widened(location.outer, self.output_size, margin)
        first, last = location.inner_sections
        return warp, voxels_of((first - margin[0], last + margin[0]), warp)


def _moved_ids(volume: LabelledVolume, warp: Warp, box: Box) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the ids of a box under a warp, and the mirror image that each voxel belongs to."""
    images = mirror_images(box, volume.targets.shape)
    return warp.labels(volume.targets.read_mirrored(box)), None if images is None else warp.labels(images)


def widened(warp: Warp, output: Index, margin: Index) -> Warp:
    """Return the warp of a patch's output and a margin around it.

    Parameters
    ----------
    warp : Warp
        Positions of the patch's input.
    output : tuple of int
        Size `(z, y, x)` of its output.
    margin : tuple of int
        Voxels `(z, y, x)` on each side of the output. Beyond the input, positions go on as
        `q(edge + i) = 2 q(edge) - q(edge - i)`, which continues every straight line.
    """
    wanted = (output[0] + 2 * margin[0], output[1] + 2 * margin[1], output[2] + 2 * margin[2])
    beyond = [max(0, (n - m) // 2) for n, m in zip(wanted[1:], warp.positions.shape[1:], strict=True)]
    positions = np.pad(warp.positions, [(0, 0), *((b, b) for b in beyond)], "reflect", reflect_type="odd")
    shifts = warp.shifts
    if shifts is not None:
        deep = max(0, (wanted[0] - len(shifts)) // 2)
        shifts = np.pad(shifts, [(deep, deep), (0, 0)], "edge")
    return replace(warp, positions=positions, shifts=shifts).inner(wanted)
