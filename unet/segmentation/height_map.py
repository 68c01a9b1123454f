"""The height map of the watershed: pass 1 of `unet.segmentation.watershed`, and the parameters of all passes."""

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from unet.config.segment import SegmentConfig
from unet.geometry.box import Index
from unet.geometry.distance_transform import capped_distance
from unet.segmentation.components import Connectivity
from unet.segmentation.foreground import LevelConfidence
from unet.segmentation.steepest_ascent import NO_FRAGMENT

TRUNCATE = 3.0
"""Radius of the Gaussian's support in standard deviations."""
FOREGROUND_SCALE = np.float32(2**-10)
"""Factor on the foreground's heights before links are made. A background voxel beside the foreground then sees nearly
equal heights there, so that the distance alone decides. A power of 2 rounds nothing."""
BACKGROUND_CONFIDENCE_PX = np.float32(0.9)
"""px that a confidence of 1 adds to the height of a background voxel. Towards the foreground the distance falls by at
least 0.92 px from a voxel to one of its neighbours. A smaller addition makes no background voxel a local maximum."""
UNITS_PER_PX = 16
"""Units per px in which distances are measured where voxels are not cubes."""


Confidence = NDArray[np.float32] | LevelConfidence
"""Confidence of every voxel, see `unet.segmentation.foreground.confidence`; or of the levels of a uint8 probability."""


@dataclass(frozen=True)
class WatershedParameters:
    """Parameters of the height map and of the neighbourhood.

    Attributes
    ----------
    max_distance : distance to the background (px) beyond which all foreground counts as equally far
    smoothing : standard deviation (px) of the Gaussian that smooths the foreground's heights
    expand_distance : distance (px) to which fragments extend into the background
    connectivity : ``section``: each section by itself; ``volume``: in 3-D
    voxel_size_nm : edges of a voxel ``(z, y, x)``; only their ratios count
    confidence_weight : height (px) that full confidence adds to the foreground
    """

    max_distance: float
    smoothing: float
    expand_distance: float
    connectivity: Connectivity
    voxel_size_nm: tuple[float, ...] = (1.0, 1.0, 1.0)
    confidence_weight: float = 0.0

    @classmethod
    def of(cls, segment: SegmentConfig, voxel_size_nm: tuple[float, ...]) -> "WatershedParameters":
        """Return the parameters that the configuration sets."""
        lengths = segment.watershed
        return cls(
            lengths.max_distance_px,
            lengths.smoothing_px,
            lengths.expand_px,
            segment.connectivity,
            voxel_size_nm,
            lengths.confidence_weight_px,
        )

    @property
    def axes(self) -> tuple[int, ...]:
        """Axes along which fragments extend."""
        return (1, 2) if self.connectivity == "section" else (0, 1, 2)

    @property
    def edge_units(self) -> dict[int, int]:
        """Edge of a voxel along each of these axes, in units of ``1 / units_per_px`` px; 1 where all are equal."""
        units = {
            axis: max(1, round(UNITS_PER_PX * self.voxel_size_nm[axis] / min(self.voxel_size_nm[1:])))
            for axis in self.axes
        }
        return dict.fromkeys(units, 1) if len(set(units.values())) == 1 else units

    @property
    def units_per_px(self) -> int:
        """Units of length per px: 1 for cubes, else `UNITS_PER_PX`."""
        return 1 if set(self.edge_units.values()) == {1} else UNITS_PER_PX

    @property
    def edge_px(self) -> dict[int, float]:
        """Edge of a voxel along each of these axes (px)."""
        return {axis: units / self.units_per_px for axis, units in self.edge_units.items()}

    @property
    def ascent_halo(self) -> Index:
        """Voxels around a block, along ``(z, y, x)``, within which links are followed.

        An ascent that leaves this halo ends at its edge. Neighbouring voxels may leave it side by side: each would be a
        fragment of its own, to be joined over blocks. A plateau is about `max_distance` px away, and its maximum
        somewhat farther. On fib25 this halo leaves 1.4 times the fragments that a halo twice as wide leaves.
        """
        return self._voxels(self.max_distance + 4 * self.smoothing)

    @property
    def link_halo(self) -> Index:
        """Voxels around a voxel, along ``(z, y, x)``, on which its link depends.

        >>> WatershedParameters(max_distance=10, smoothing=2, expand_distance=3, connectivity="section").link_halo
        (0, 17, 17)
        """
        px = max(self.max_distance + ceil(TRUNCATE * self.smoothing), self.expand_distance)
        return tuple(n + 1 if axis in self.axes else 0 for axis, n in enumerate(self._voxels(px)))

    @property
    def halo(self) -> Index:
        """Voxels around a block that are read to label it; see `labelled_and_read_boxes`."""
        return tuple(a + m + (a > 0) for a, m in zip(self.ascent_halo, self.link_halo, strict=True))

    def _voxels(self, px: float) -> Index:
        units = self.units_per_px
        return tuple(ceil(px * units / self.edge_units[axis]) if axis in self.axes else 0 for axis in range(3))


def height_map(
    foreground: NDArray[np.bool_], parameters: WatershedParameters, confidence: Confidence | None = None
) -> NDArray[np.float32]:
    """Return the height of every voxel (pass 1).

    Parameters
    ----------
    foreground : (z, y, x) bool; voxels beyond the array count as neither foreground nor background
    parameters : how heights are made
    confidence : the same shape, 0 to 1 in the background and 1 to 2 in the foreground, see
        `unet.segmentation.foreground.confidence`; None = distances alone

    Returns
    -------
    (z, y, x) float32, px: positive in the foreground, down to ``-expand_distance`` in the background, ``-inf`` beyond

    >>> row = np.array([[[1, 1, 1, 0, 0, 0]]], bool)
    >>> parameters = WatershedParameters(max_distance=2, smoothing=0, expand_distance=2, connectivity="section")
    >>> height_map(row, parameters).tolist()
    [[[2.0, 2.0, 1.0, -1.0, -2.0, -inf]]]
    """
    edge_units, units_per_px = parameters.edge_units, parameters.units_per_px
    inside = capped_distance(~foreground, parameters.max_distance, edge_units, units_per_px)
    confidence = confidence.of_voxels() if isinstance(confidence, LevelConfidence) else confidence
    if parameters.confidence_weight and confidence is not None:
        inside += np.float32(parameters.confidence_weight) * np.maximum(confidence - 1, 0)
    for axis, units in edge_units.items() if parameters.smoothing else ():
        sigma = parameters.smoothing * units_per_px / units
        radius = ceil(TRUNCATE * sigma)
        inside = gaussian_filter1d(inside, sigma, axis=axis, mode="nearest", radius=radius)
    outside = capped_distance(foreground, parameters.expand_distance + 1, edge_units, units_per_px)
    below = -outside if confidence is None else BACKGROUND_CONFIDENCE_PX * np.minimum(confidence, 1) - outside
    return np.where(foreground, inside, np.where(outside > parameters.expand_distance, NO_FRAGMENT, below))
