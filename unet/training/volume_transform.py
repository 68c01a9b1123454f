"""Transform a training volume in 3-D before a patch is cut from it: symmetries, then elastic deformation.

The transformed volume is read as the volume itself is. All else that is done to a patch therefore follows as always:
its place, rotation and flips within sections, defects of sections, targets and their context.

A symmetry permutes the axes of the volume and reverses some (`unet.network.symmetries`), with its mirror images beyond
the faces. It moves voxels and interpolates nothing. Its targets are exact.
"""

from dataclasses import dataclass, replace

import numpy as np

from unet.config.train import AugmentConfig
from unet.geometry.box import Box, Index
from unet.network.symmetries import SYMMETRIES, Symmetry
from unet.training.elastic_3d import DeformedImage, DeformedLabels, DisplacementField
from unet.training.labelled_volume import LabelledVolume, Readable


@dataclass(frozen=True)
class SymmetricVolume:
    """A volume whose axes are permuted and reversed."""

    volume: Readable
    symmetry: Symmetry

    @property
    def shape(self) -> Index:
        """Return the shape `(z, y, x)` in voxels."""
        return tuple(self.volume.shape[axis] for axis in self.symmetry.axes)

    @property
    def dtype(self) -> np.dtype:
        """Return the type of the voxels."""
        return self.volume.dtype

    def moved(self, voxel: Index) -> Index:
        """Return where a voxel of the volume is in the moved volume."""
        return tuple(
            self.volume.shape[axis] - 1 - voxel[axis] if flip else voxel[axis]
            for axis, flip in zip(self.symmetry.axes, self.symmetry.flips, strict=True)
        )

    def read_mirrored(self, box: Box) -> np.ndarray:
        """Return the voxels of a box of the moved volume, mirrored beyond its faces."""
        start, stop = [0, 0, 0], [0, 0, 0]
        for new, (axis, flip) in enumerate(zip(self.symmetry.axes, self.symmetry.flips, strict=True)):
            n, lo, hi = self.volume.shape[axis], box.start[new], box.stop[new]
            start[axis], stop[axis] = (n - hi, n - lo) if flip else (lo, hi)
        voxels = self.volume.read_mirrored(Box(tuple(start), tuple(stop)))
        leading = voxels.ndim - 3
        turned = voxels.transpose(*range(leading), *(leading + axis for axis in self.symmetry.axes))
        return np.flip(turned, tuple(leading + axis for axis, flip in enumerate(self.symmetry.flips) if flip))


@dataclass(frozen=True)
class VolumeTransform:
    """One random transform of a volume; the default changes nothing. `vectors` are those of `DisplacementField`."""

    symmetry: Symmetry = Symmetry()  # noqa: RUF009
    vectors: np.ndarray | None = None

    def applied(
        self, volume: LabelledVolume, centre: Index, input_size: Index, output_size: Index
    ) -> tuple[LabelledVolume, Index]:
        """Return the transformed volume, and the middle voxel of the patch in it.

        Parameters
        ----------
        volume : LabelledVolume
        centre : tuple of int
            Middle voxel `(z, y, x)` of the patch in the volume.
        input_size, output_size : tuple of int
            Sizes `(z, y, x)` of the network's input and output.
        """
        if self.symmetry != Symmetry():
            raw, targets, weights = (
                SymmetricVolume(part, self.symmetry) for part in (volume.raw, volume.targets, volume.weights)
            )
            volume, centre = replace(volume, raw=raw, targets=targets, weights=weights), raw.moved(centre)
        if self.vectors is not None:
            start = tuple(
                c - out // 2 - (n - out) // 2 for c, n, out in zip(centre, input_size, output_size, strict=True)
            )
            patch = Box(start, tuple(lo + n for lo, n in zip(start, input_size, strict=True)))
            field = DisplacementField(self.vectors, patch)
            unlabelled = int(np.iinfo(volume.targets.dtype).max)
            volume = replace(
                volume,
                raw=DeformedImage(volume.raw, field),
                targets=DeformedLabels(volume.targets, field, unlabelled),
                weights=DeformedLabels(volume.weights, field, 0),
            )
        return volume, centre


def draw_volume_transform(rng: np.random.Generator, config: AugmentConfig) -> VolumeTransform:
    """Draw a random transform of the volume; a transform that is switched off takes no random number."""
    symmetry, vectors = Symmetry(), None
    if config.symmetries != "none":
        choices = SYMMETRIES[config.symmetries]
        symmetry = choices[int(rng.integers(len(choices)))]
    if any(config.elastic_3d) and rng.random() < config.elastic_3d_probability:
        std = np.array(config.elastic_3d)[:, None, None, None]
        vectors = rng.normal(0, 1, (3, *(config.elastic_3d_grid,) * 3)) * std
    return VolumeTransform(symmetry, vectors)
