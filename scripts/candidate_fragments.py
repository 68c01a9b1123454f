"""Label the fragments of every block of a block range, once for each entry of `segment.candidates.fragments`.

Inputs: `probability.zarr` of a volume that chooses the decoder.

Outputs: blocks of `candidate-fragments.zarr`, a channel per entry; a table of fragments per block and entry; a receipt
and a journal per block range.

1. Threshold the probability of the foreground class, or the interior that affinities give.
2. Label the basins of the watershed, read with their halo, as `segment` does.
3. Write labels and tables. `candidate_graph` finds the edges between them.
"""

from pathlib import Path
from typing import Any

import numpy as np

from unet.config.segment import SegmentConfig
from unet.geometry.box import Box, enclosing
from unet.jobs.blockwise import BlockOutput, Store, digest_of_block
from unet.jobs.script import run_script
from unet.segmentation.fragments import save_block_table
from unet.segmentation.volume_fragments import VolumeFragments
from unet.volumes.block_inputs import BlockInputs
from unet.volumes.block_step import BlockStep
from unet.volumes.volume import Volume


def main(
    survey: Path,
    made: list[Path],
    receipt: Path,
    folder: Path,
    block_range: str,
    segment: SegmentConfig,
    code: str,
    threads: int = 1,
) -> None:
    """Write `candidate-fragments.zarr`, and a table per block and entry."""
    source = Volume.open(folder, survey)
    several = [VolumeFragments.of(source, one, float(one.threshold)) for one in segment.fragment_settings]
    numbers = [str(number) for number in range(len(several))]
    fragments = source.create("candidate-fragments", "uint32", channels=numbers, pyramid=False)
    tables = [source.candidate_tables(number) for number in range(len(several))]

    def label(box: Box) -> BlockOutput:
        stored, start = step.read("probability", box), read_box(box).start
        parts = [(slice(None), *one.read_box(box).relative_to(start).slices) for one in several]
        found = [one.label(box, stored[part]) for one, part in zip(several, parts, strict=True)]
        for table, one in zip(tables, found, strict=True):
            save_block_table(table.of(box), one)
        fragments.write_block(box, np.stack([one.labels for one in found]))
        return str(digest_of_block(written, box)), {"fragments": sum(map(len, found))}

    def read_box(box: Box) -> Box:
        return enclosing([one.read_box(box) for one in several])

    def tissue_of(box: Box, inputs: BlockInputs) -> list[Any]:
        return inputs.tissue_mask_digests(enclosing([one.foreground_box(box) for one in several]))

    written: list[Store] = [fragments, *tables]
    step = BlockStep("candidate_fragments", source, {"probability": read_box}, written, tissue_of)
    settings = segment.model_dump(mode="json")
    step.run(label, block_range, receipt, threads, segment=settings, code=code)


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
