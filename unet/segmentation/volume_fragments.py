"""Fragments of the blocks of a stored volume: what is read around a block, and the watershed of what was read."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from unet.config.segment import SegmentConfig
from unet.geometry.box import Box
from unet.segmentation.components import BlockComponents
from unet.segmentation.foreground import compact_confidence, foreground, foreground_probability, foreground_read_box
from unet.segmentation.height_map import WatershedParameters
from unet.segmentation.watershed import labelled_and_read_boxes, watershed_block
from unet.volumes.volume import Volume


@dataclass(frozen=True)
class VolumeFragments:
    """The basins of one volume at one threshold of the foreground, or of the interior that affinities give.

    Parameters
    ----------
    source : Volume
        Volume with the store `probability`.
    name : str, optional
        Class whose probability counts; None = the last class, or affinities.
    threshold : float
        Probability above which a voxel is foreground, 0 to 1.
    parameters : WatershedParameters
        Height map of the watershed.
    """

    source: Volume
    name: str | None
    threshold: float
    parameters: WatershedParameters

    @classmethod
    def of(cls, source: Volume, segment: SegmentConfig, threshold: float) -> "VolumeFragments":
        """Return the fragments by the configuration, at a threshold that may have been chosen."""
        return cls(source, segment.main_class, threshold, WatershedParameters.of(segment, source.layout.voxel_size_nm))

    @cached_property
    def channels(self) -> Sequence[str]:
        """Names of the channels of `probability`."""
        return self.source.image("probability").spec.channels

    def foreground_box(self, box: Box) -> Box:
        """Return the box of foreground, and of the mask, on which the fragments of a block depend."""
        return labelled_and_read_boxes(box, self.source.layout.shape, self.parameters)[1]

    def read_box(self, box: Box) -> Box:
        """Return the box of `probability` on which the fragments of a block depend."""
        return foreground_read_box(self.foreground_box(box), self.channels, self.parameters.axes)

    def label(self, box: Box, stored: NDArray[Any]) -> BlockComponents:
        """Return the fragments of a block, from the voxels `(channel, z, y, x)` of its `read_box`."""
        read, shape, axes = self.foreground_box(box), self.source.layout.shape, self.parameters.axes
        found = foreground_probability(stored, self.channels, read, shape, self.name, axes)
        cells, confident = foreground(found, self.threshold), compact_confidence(found, self.threshold)
        return watershed_block(cells, box, shape, self.parameters, self.source.tissue_mask(read), confident)
