"""Find which fragments touch, in a block range and across the upper faces of its blocks.

Inputs: `segmentation-fragments.zarr`, `probability.zarr`.

Outputs: a table of edges per block; a receipt and a journal per block range.

1. Read each block with one plane beyond its upper faces, or with the sections that a link may skip. For affinities read
   as far as the offsets reach.
2. Find all pairs of adjacent voxels in different fragments. Sections that are labelled alone are linked along z. For
   affinities find all pairs of voxels at the offsets, also of fragments that do not touch.
3. Sum up the boundary probability, or the affinities, over the pairs of each two fragments.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from unet.config.segment import SegmentConfig
from unet.geometry.box import Box, Index
from unet.geometry.offsets import Offset, affinity_offsets
from unet.jobs.blockwise import BlockOutput
from unet.jobs.script import run_script
from unet.segmentation.affinities import affinity_levels, graph_channels
from unet.segmentation.affinity_graph import block_affinity_edges, graph_read_box, save_affinity_edges
from unet.segmentation.foreground import boundary_levels, channel_of
from unet.segmentation.region_graph import block_edges, contact_steps, fragment_ids, save_edges
from unet.volumes.block_step import BlockStep, the_block
from unet.volumes.volume import Volume


def main(
    survey: Path,
    segmented: list[Path],
    receipt: Path,
    folder: Path,
    block_range: str,
    segment: SegmentConfig,
    code: str,
    threads: int = 1,
) -> None:
    """Write a table of edges per block, beside the block's table of fragments."""
    source = Volume.open(folder, survey)
    tables, grid = source.edge_tables("segmentation"), source.layout.grid
    channels = source.image("probability").spec.channels
    offsets = affinity_offsets(channels)
    shape = source.layout.shape
    graph = _of_classes(segment, channels, shape) if offsets is None else _of_affinities(segment, offsets, shape)

    def find(box: Box) -> BlockOutput:
        ids = fragment_ids(step.read("segmentation-fragments", box), graph.read_box(box), grid)
        edges = graph.save(tables.of(box), box, ids, step.read("probability", box))
        return str(tables.digest(box)), {"edges": edges}

    reads = {"segmentation-fragments": graph.read_box, "probability": graph.probability_box}
    step = BlockStep("region_graph", source, reads, [tables])
    step.run(find, block_range, receipt, threads, **graph.settings, code=code)


class _Graph(NamedTuple):
    """How the edges of a block are found: the boxes to read, what writes them and counts them, and the settings.

    `save(path, box, ids, probability)` is given the fragments of `read_box`, and the channels of `probability_box`.
    """

    read_box: Callable[[Box], Box]
    probability_box: Callable[[Box], Box]
    save: Callable[[Path, Box, NDArray[Any], NDArray[Any]], int]
    settings: dict[str, Any]


def _of_classes(segment: SegmentConfig, names: Sequence[str], shape: Index) -> _Graph:
    channel, steps = channel_of(segment.main_class, names), contact_steps(segment)
    ahead = [max(step[axis] for step in steps) for axis in range(3)]

    def read_box(box: Box) -> Box:
        behind = tuple(hi + n for hi, n in zip(box.stop, ahead, strict=True))
        return Box(box.start, behind).clipped(shape)

    def save(path: Path, box: Box, ids: NDArray[Any], probability: NDArray[Any]) -> int:
        edges = block_edges(ids, boundary_levels(probability[channel]), box.shape, steps)
        save_edges(path, edges)
        return len(edges)

    return _Graph(read_box, read_box, save, {"channel": channel, "steps": steps})


def _of_affinities(segment: SegmentConfig, all_offsets: list[Offset], shape: Index) -> _Graph:
    channels = graph_channels(
        all_offsets, segment.max_offset_px, segment.max_section_gap, segment.connectivity == "section"
    )
    offsets = [all_offsets[channel] for channel in channels]

    def read_box(box: Box) -> Box:
        return graph_read_box(box, offsets, shape)

    def save(path: Path, box: Box, ids: NDArray[Any], probability: NDArray[Any]) -> int:
        edges = block_affinity_edges(ids, affinity_levels(probability[channels]), box, read_box(box), offsets)
        save_affinity_edges(path, edges)
        return len(edges)

    return _Graph(read_box, the_block, save, {"channels": channels, "offsets": offsets})


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
