"""Find which fragments touch, for each entry of `segment.candidates.fragments` and `candidates.max_offset_px`.

Inputs: `candidate-fragments.zarr`, `probability.zarr`.

Outputs: a table of edges per block, entry and offset; a receipt and a journal per block range.

1. Read each block of fragments, with a halo of the longest offset.
2. Sum up the boundary probability, or the affinities, over the pairs of voxels of each two fragments, as `region_graph`
   does: once for each set of fragments and each largest offset.
"""

from itertools import product
from pathlib import Path

from unet.config.segment import SegmentConfig
from unet.geometry.box import Box, enclosing
from unet.geometry.offsets import affinity_offsets
from unet.jobs.blockwise import BlockOutput, digest_of_block
from unet.jobs.script import run_script
from unet.segmentation.region_graph import fragment_ids
from unet.segmentation.volume_graph import volume_graph
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
    """Write tables of edges per block, beside the block's tables of fragments."""
    source = Volume.open(folder, survey)
    channels, grid = source.image("probability").spec.channels, source.layout.grid
    max_offsets = segment.candidates.offsets_for(affinity_offsets(channels) is not None)
    graphs = [volume_graph(segment, channels, source.layout.shape, max_offset) for max_offset in max_offsets]
    sets = range(len(segment.candidates.fragments))
    tables = {(one, n): source.candidate_tables(one, n) for one, n in product(sets, range(len(graphs)))}

    def find(box: Box) -> BlockOutput:
        labels, probability = step.read("candidate-fragments", box), step.read("probability", box)
        start, edges = read_box(box).start, 0
        for (one, n), table in tables.items():
            read = graphs[n].read_box(box)
            ids = fragment_ids(labels[one][read.relative_to(start).slices], read, grid)
            own = graphs[n].probability_box(box).relative_to(probability_box(box).start).slices
            edges += graphs[n].save(table.of(box), box, ids, probability[:, *own])
        return str(digest_of_block(written, box)), {"edges": edges}

    def read_box(box: Box) -> Box:
        return enclosing([graph.read_box(box) for graph in graphs])

    def probability_box(box: Box) -> Box:
        return enclosing([graph.probability_box(box) for graph in graphs])

    written = list(tables.values())
    reads = {"candidate-fragments": read_box, "probability": probability_box}
    step = BlockStep("candidate_graph", source, reads, written)
    step.run(find, block_range, receipt, threads, graphs=[graph.settings for graph in graphs], code=code)


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
