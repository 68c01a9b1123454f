"""Write the final object ids of a block range, with the resolution pyramid.

Inputs: `{store}-fragments.zarr`, the merge table.

Outputs: blocks of `{store}.zarr` (`segmentation` or `labels`), uint32 or uint64; receipt and journal per block range.

1. Read the fragments of a block.
2. Look up the final id of each fragment in the merge table.
3. Write the block on every level of the pyramid.
"""

from pathlib import Path

from unet.geometry.box import Box
from unet.jobs.blockwise import BlockOutput
from unet.jobs.script import run_script
from unet.segmentation.merge_table import load_merge_table, relabel
from unet.storage.digests import bytes_digest
from unet.volumes.block_inputs import BlockInputs
from unet.volumes.block_step import BlockStep, the_block
from unet.volumes.volume import Volume


def main(survey: Path, receipt: Path, folder: Path, block_range: str, store: str, code: str, threads: int = 1) -> None:
    """Write the blocks of `block_range` to `{store}.zarr`."""
    source = Volume.open(folder, survey)
    fragments = f"{store}-fragments"
    table = load_merge_table(source.merge_table(store))
    image = source.create(store, table.lut.dtype.name, kind="label")
    number = {box: index for index, box in enumerate(source.layout.grid.boxes())}

    def write(box: Box) -> BlockOutput:
        return image.write_block(box, relabel(step.read(fragments, box), table.lut_of_block(number[box]))), {}

    def ids(box: Box, inputs: BlockInputs) -> str:
        return bytes_digest(table.lut_of_block(number[box]).tobytes())

    step = BlockStep("relabel", source, {fragments: the_block}, [image], ids)
    step.run(write, block_range, receipt, threads, dtype=table.lut.dtype.name, code=code)


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
