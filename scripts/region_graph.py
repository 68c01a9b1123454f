"""Find which fragments touch, in a block range and across the upper faces of its blocks.

Inputs: `segmentation-fragments.zarr`, `probability.zarr`.

Outputs: a table of edges per block; a receipt and a journal per block range.

1. Read each block with one plane beyond its upper faces, or with the sections that a link may skip.
2. Find all pairs of adjacent voxels in different fragments. Sections that are labelled alone are linked along z.
3. Sum up the boundary probability over the contact of each pair of fragments.
"""

from pathlib import Path

from unet.config.segment import SegmentConfig
from unet.geometry.box import Box, Index
from unet.jobs.blockwise import BlockOutput
from unet.jobs.script import run_script
from unet.segmentation.foreground import boundary_levels, channel_of
from unet.segmentation.region_graph import block_edges, fragment_ids, save_edges
from unet.volumes.block_step import BlockStep
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
    tables = source.edge_tables("segmentation")
    channel = channel_of(segment.main_class, source.image("probability").spec.channels)
    steps = _steps(segment)
    grid, ahead = source.layout.grid, [max(step[axis] for step in steps) for axis in range(3)]

    def read_box(box: Box) -> Box:
        behind = tuple(hi + n for hi, n in zip(box.stop, ahead, strict=True))
        return Box(box.start, behind).clipped(source.layout.shape)

    def find(box: Box) -> BlockOutput:
        ids = fragment_ids(step.read("segmentation-fragments", box), read_box(box), grid)
        edges = block_edges(ids, boundary_levels(step.read("probability", box)[channel]), box.shape, steps)
        save_edges(tables.of(box), edges)
        return str(tables.digest(box)), {"edges": len(edges)}

    step = BlockStep("region_graph", source, {"segmentation-fragments": read_box, "probability": read_box}, [tables])
    step.run(find, block_range, receipt, threads, channel=channel, steps=steps, code=code)


def _steps(segment: SegmentConfig) -> list[Index]:
    """Return the offsets between two voxels in contact. Between sections a link may skip `max_section_gap` more."""
    within: list[Index] = [(0, 0, 1), (0, 1, 0)]
    if segment.connectivity == "volume":
        return [*within, (1, 0, 0)]
    if segment.method != "watershed" or segment.max_section_gap is None:
        return within
    return within + [(ahead, 0, 0) for ahead in range(1, segment.max_section_gap + 2)]


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
