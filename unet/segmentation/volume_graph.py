"""The region graph of the blocks of a stored volume: what is read around a block, and the table of its edges."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from unet.config.segment import SegmentConfig
from unet.geometry.box import Box, Index
from unet.geometry.offsets import Offset, affinity_offsets
from unet.segmentation.affinities import affinity_levels, graph_channels
from unet.segmentation.affinity_graph import block_affinity_edges, graph_read_box, save_affinity_edges
from unet.segmentation.foreground import boundary_levels, channel_of
from unet.segmentation.region_graph import block_edges, contact_steps, save_edges
from unet.volumes.block_step import the_block


class VolumeGraph(NamedTuple):
    """Search for the edges of a block: the boxes to read, what writes them and counts them, and the settings.

    `save(path, box, ids, probability)` is given the fragments of `read_box`, and the channels of `probability_box`.
    """

    read_box: Callable[[Box], Box]
    probability_box: Callable[[Box], Box]
    save: Callable[[Path, Box, NDArray[Any], NDArray[Any]], int]
    settings: dict[str, Any]


def volume_graph(
    segment: SegmentConfig, channels: Sequence[str], shape: Index, max_offset_px: int | None = None
) -> VolumeGraph:
    """Return the region graph of a volume whose probability store has these channels and this shape `(z, y, x)`.

    `max_offset_px` is the largest component of the offsets that count, for affinities; None = any.
    """
    offsets = affinity_offsets(channels)
    if offsets is None:
        return _of_classes(segment, channels, shape)
    return _of_affinities(segment, offsets, shape, max_offset_px)


def _of_classes(segment: SegmentConfig, names: Sequence[str], shape: Index) -> VolumeGraph:
    channel, steps = channel_of(segment.main_class, names), contact_steps(segment)
    ahead = [max(step[axis] for step in steps) for axis in range(3)]

    def read_box(box: Box) -> Box:
        behind = tuple(hi + n for hi, n in zip(box.stop, ahead, strict=True))
        return Box(box.start, behind).clipped(shape)

    def save(path: Path, box: Box, ids: NDArray[Any], probability: NDArray[Any]) -> int:
        edges = block_edges(ids, boundary_levels(probability[channel]), box.shape, steps)
        save_edges(path, edges)
        return len(edges)

    return VolumeGraph(read_box, read_box, save, {"channel": channel, "steps": steps})


def largest_contact_distance(segment: SegmentConfig, offsets: list[Offset] | None) -> int:
    """Return the largest distance of two voxels in contact along z, in sections; `offsets` are None for classes."""
    if offsets is None:
        return max(step[0] for step in contact_steps(segment))
    counted = _counted_channels(segment, offsets, segment.max_offset_px)
    return max((offsets[channel][0] for channel in counted), default=0)


def _counted_channels(segment: SegmentConfig, offsets: list[Offset], max_offset_px: int | None) -> list[int]:
    return graph_channels(offsets, max_offset_px, segment.max_section_gap, segment.connectivity == "section")


def _of_affinities(
    segment: SegmentConfig, all_offsets: list[Offset], shape: Index, max_offset_px: int | None
) -> VolumeGraph:
    channels = _counted_channels(segment, all_offsets, max_offset_px)
    offsets = [all_offsets[channel] for channel in channels]

    def read_box(box: Box) -> Box:
        return graph_read_box(box, offsets, shape)

    def save(path: Path, box: Box, ids: NDArray[Any], probability: NDArray[Any]) -> int:
        edges = block_affinity_edges(ids, affinity_levels(probability[channels]), box, read_box(box), offsets)
        save_affinity_edges(path, edges)
        return len(edges)

    return VolumeGraph(read_box, the_block, save, {"channels": channels, "offsets": offsets})
