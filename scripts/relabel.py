"""Write the final object ids of a block range, with the resolution pyramid.

Inputs: `{store}-fragments.zarr`, the merge table.

Outputs: blocks of `{store}.zarr` (`segmentation` or `labels`), uint32 or uint64; receipt and journal per block range.

1. Read the fragments of a block; with `segment.separate_objects` one voxel behind it as well.
2. Look up the final id of each fragment in the merge table. Separate objects that touch.
3. Write the block on every level of the pyramid.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unet.geometry.box import Box
from unet.jobs.blockwise import BlockOutput
from unet.jobs.script import run_script
from unet.segmentation.merge_table import MergeTable, load_merge_table, relabel
from unet.segmentation.separation import separate_objects, separation_read_box
from unet.storage.digests import bytes_digest
from unet.volumes.block_inputs import BlockInputs
from unet.volumes.block_step import BlockStep, the_block
from unet.volumes.volume import Volume


def main(
    survey: Path,
    receipt: Path,
    folder: Path,
    block_range: str,
    store: str,
    code: str,
    separated_axes: Sequence[int] = (),
    threads: int = 1,
) -> None:
    """Write the blocks of `block_range` to `{store}.zarr`. Objects are separated along `separated_axes`."""
    source = Volume.open(folder, survey)
    fragments, grid, axes = f"{store}-fragments", source.layout.grid, tuple(separated_axes)
    table = load_merge_table(source.merge_table(store), checked=[])
    image = source.create(store, table.lut.dtype.name, kind="label")
    number = {box: index for index, box in enumerate(grid.boxes())}

    def read_box(box: Box) -> Box:
        return separation_read_box(box, axes, grid.shape) if axes else the_block(box)

    def write(box: Box) -> BlockOutput:
        read = read_box(box)
        ids = _ids(step.read(fragments, box), read, {one: number[one] for one in grid.touched(read)}, table)
        return image.write_block(box, separate_objects(ids, read, box, axes) if axes else ids), {}

    def luts(box: Box, inputs: BlockInputs) -> str | list[str]:
        digests = [bytes_digest(table.lut_of_block(number[one]).tobytes()) for one in grid.touched(read_box(box))]
        return digests if axes else digests[0]

    step = BlockStep("relabel", source, {fragments: read_box}, [image], luts)
    settings = {"separated_axes": list(axes)} if axes else {}
    step.run(write, block_range, receipt, threads, dtype=table.lut.dtype.name, **settings, code=code)


def _ids(
    labels: NDArray[np.uint32], read: Box, blocks: dict[Box, int], table: MergeTable
) -> NDArray[np.unsignedinteger]:
    """Return the final ids of a box from the labels of the blocks in it, and the number of each block."""
    if len(blocks) == 1:
        [block] = blocks.values()
        return relabel(labels, table.lut_of_block(block))
    ids = np.empty(read.shape, table.lut.dtype)
    for box, block in blocks.items():
        part = box.intersected(read).relative_to(read.start).slices
        ids[part] = relabel(labels[part], table.lut_of_block(block))
    return ids


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
