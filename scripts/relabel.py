"""Write the final ids of a block range: every fragment's id looked up in the merge table, with the pyramid."""

from pathlib import Path

from unet.geometry.box import Box
from unet.jobs.blockwise import BlockOutput, run_blocks
from unet.jobs.script import run_script
from unet.segmentation.merge_table import load_merge_table, relabel
from unet.storage.digests import bytes_digest, fingerprint
from unet.volumes.volume import Volume


def main(survey: Path, receipt: Path, folder: Path, block_range: str, store: str, code: str, threads: int = 1) -> None:
    """Write `{store}.zarr`."""
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
