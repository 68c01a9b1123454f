"""Write the final object ids of a block range, with the resolution pyramid.

Inputs: `{store}-fragments.zarr`, the merge table.

Outputs: blocks of `{store}.zarr` (`segmentation` or `labels`), uint32 or uint64; receipt and journal per block range.

1. Read the fragments of a block.
2. Look up the final id of each fragment in the merge table.
3. Write the block on every level of the pyramid.
"""

from pathlib import Path

from unet.geometry.box import Box
from unet.jobs.blockwise import BlockOutput, run_blocks
from unet.jobs.script import run_script
from unet.segmentation.merge_table import load_merge_table, relabel
from unet.storage.digests import bytes_digest, fingerprint
from unet.volumes.volume import Volume


def main(survey: Path, receipt: Path, folder: Path, block_range: str, store: str, code: str, threads: int = 1) -> None:
    """Write the blocks of `block_range` to `{store}.zarr`."""
    source = Volume.open(folder, survey)
    fragments = source.image(f"{store}-fragments")
    table = load_merge_table(source.merge_table(store))
    image = source.create(store, table.lut.dtype.name, kind="label")
    number = {box: index for index, box in enumerate(source.layout.grid.boxes())}

    def write(box: Box) -> BlockOutput:
        return image.write_block(box, relabel(fragments.read(box), table.lut_of_block(number[box]))), {}

    def inputs_of(box: Box) -> list[str | None]:
        return [fragments.digest(box), bytes_digest(table.lut_of_block(number[box]).tobytes())]

    run_blocks(
        "relabel",
        source.blocks(block_range),
        write,
        [image],
        receipt=receipt,
        fingerprint=fingerprint(dtype=table.lut.dtype.name, code=code),
        inputs_of=inputs_of,
        threads=threads,
    )


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
