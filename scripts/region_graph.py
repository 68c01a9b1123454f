"""Find which fragments touch, in a block range and across the upper faces of its blocks.

Inputs: `segmentation-fragments.zarr`, `probability.zarr`, the receipt of `choose_decoder` where it chose the offsets.

Outputs: a table of edges per block; a receipt and a journal per block range.

1. Read each block with one plane beyond its upper faces, or with the sections that a link may skip. For affinities read
   as far as the offsets reach.
2. Find all pairs of adjacent voxels in different fragments. Sections that are labelled alone are linked along z. For
   affinities find all pairs of voxels at the offsets, also of fragments that do not touch.
3. Sum up the boundary probability, or the affinities, over the pairs of each two fragments.
"""

from pathlib import Path

from unet.config.segment import SegmentConfig
from unet.geometry.box import Box
from unet.jobs.blockwise import BlockOutput
from unet.jobs.script import run_script
from unet.segmentation.region_graph import fragment_ids
from unet.segmentation.volume_graph import volume_graph
from unet.storage.files import read_json
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
    decoder: Path | None = None,
    threads: int = 1,
) -> None:
    """Write a table of edges per block, beside the block's table of fragments."""
    source = Volume.open(folder, survey)
    tables, grid = source.edge_tables("segmentation"), source.layout.grid
    if decoder is not None:
        segment = segment.decoded_by(read_json(decoder)["settings"])
    channels = source.image("probability").spec.channels
    graph = volume_graph(segment, channels, source.layout.shape, segment.max_offset_px)

    def find(box: Box) -> BlockOutput:
        ids = fragment_ids(step.read("segmentation-fragments", box), graph.read_box(box), grid)
        edges = graph.save(tables.of(box), box, ids, step.read("probability", box))
        return str(tables.digest(box)), {"edges": edges}

    reads = {"segmentation-fragments": graph.read_box, "probability": graph.probability_box}
    step = BlockStep("region_graph", source, reads, [tables])
    step.run(find, block_range, receipt, threads, **graph.settings, code=code)


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
