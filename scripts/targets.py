"""Draw the classes that the network learns, with a border of background between touching cells.

Inputs: `labels.zarr` (instances) or `classes.zarr`, `raw.zarr` and `mask.zarr` for blank regions.

Outputs: blocks of `targets.zarr`, uint8 class index, 255 where nothing is annotated; receipts with voxels per class.
For `model.output: affinities` the blocks hold ids: 0 is background, the largest number is not annotated.

1. Read a block with the width of the separation border around it.
2. Instances: a voxel inside a cell is 1, the separation border and everything outside of cells is 0.
3. Mark voxels that are not annotated, or not tissue, with 255.
4. Count the voxels of each class.

For affinities, step 2 takes the ids as they are; the training compares them in pairs (`unet.training.affinities`).
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unet.config.label_kinds import UNLABELLED, interior_of_ids, not_annotated_id
from unet.config.volumes import VolumeConfig
from unet.config.weights import WeightsConfig
from unet.geometry.box import Box
from unet.jobs.blockwise import BlockOutput
from unet.jobs.script import run_script
from unet.storage.files import read_json
from unet.training.weight_map import separation_border
from unet.volumes.block_inputs import BlockInputs
from unet.volumes.block_step import BlockStep, the_block
from unet.volumes.intensity import Normalisation
from unet.volumes.volume import Volume


def main(
    survey: Path,
    check_model: Path,
    intensity_statistics: Path,
    receipt: Path,
    folder: Path,
    block_range: str,
    volume: VolumeConfig,
    weights: WeightsConfig,
    code: str,
    output: Literal["classes", "affinities"] = "classes",
    threads: int = 1,
) -> None:
    """Write the blocks of `block_range` to `targets.zarr`, and the voxels per class to `receipt`."""
    source, in_3d = Volume.open(folder, survey), read_json(check_model)["dimensions"] == 3
    normalisation = Normalisation.of(read_json(intensity_statistics)["statistics"])
    instances, ids = volume.label_kind == "instances", output == "affinities"
    annotated = "labels" if instances else "classes"
    dtype = source.image("labels").dtype if ids else np.dtype("uint8")
    unknown = dtype.type(not_annotated_id(dtype))  # 255 for classes
    target = source.create("targets", dtype.name, kind="label")
    # Annotated classes contain a border already; instances need one drawn; ids are eroded when they are compared.
    width = weights.separation_border if instances and not ids else 0

    def learnt(box: Box) -> NDArray[Any]:
        values = step.read(annotated, box)
        if ids:
            return values if instances else _where_annotated(step.read("labels", box), values)
        return (_interior(values, width) if instances else values)[step.inner(annotated, box)]

    def draw(box: Box) -> BlockOutput:
        block = learnt(box)
        tissue = source.tissue_mask(box, normalisation, bridge_single_sections=in_3d)
        if tissue is not None:
            block = np.where(tissue, block, unknown)
        classes = interior_of_ids(block) if ids else block
        counts = np.bincount(classes.ravel(), minlength=UNLABELLED + 1)[: len(volume.class_names)]
        return target.write_block(box, np.ascontiguousarray(block)), {"class_voxels": counts.tolist()}

    def padded(box: Box) -> Box:
        return box.grown((0, width, width)).clipped(source.layout.shape)

    def tissue_of(box: Box, inputs: BlockInputs) -> list[Any]:
        return inputs.tissue_mask_digests(box, normalisation, bridge_single_sections=in_3d)

    reads = {annotated: padded} | ({"labels": the_block} if ids else {})
    step = BlockStep("targets", source, reads, [target], tissue_of)
    kind = volume.model_dump(mode="json", include={"label_kind", "class_values"})
    step.run(draw, block_range, receipt, threads, volume=kind, border=width, output=output, code=code)


def _where_annotated(ids: NDArray[np.unsignedinteger], classes: NDArray[np.uint8]) -> NDArray[np.unsignedinteger]:
    """Return the ids, and the largest number where nobody annotated the classes that they were made from."""
    return np.where(classes == UNLABELLED, ids.dtype.type(not_annotated_id(ids.dtype)), ids)


def _interior(ids: NDArray[np.unsignedinteger], width: int) -> NDArray[np.uint8]:
    """Return 1 inside a cell, 0 on the border and outside of all cells, 255 where nobody annotated."""
    unknown = ids == not_annotated_id(ids.dtype)
    cells = np.where(unknown, 0, ids)
    inside = (cells > 0) & ~separation_border(cells, width)
    return np.where(unknown, UNLABELLED, inside).astype(np.uint8)


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
