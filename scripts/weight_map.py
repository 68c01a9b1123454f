"""Compute the weight of every labelled voxel in the loss: class balance, and borders between cells (equation 2).

Inputs: `targets.zarr`, `labels.zarr`, and the voxels per class of all training volumes.

Outputs: blocks of `weights.zarr`, float32 `(z, y, x)`, 0 where nothing is annotated; a receipt and a journal per block
range.

1. Compute the class weights from the voxels per class of all training volumes.
2. Read a block with the distance around it at which the border weight vanishes.
3. Add the border weight, from the distances to the two nearest cells, within each section.

For `model.output: affinities` the weight is 1 where ids are annotated. With `train.affinities.border_weight` step 3
adds the border weight, with cells that touch separated by their eroded borders. The loss balances the classes.
"""

from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unet.config.label_kinds import UNLABELLED, interior_of_ids
from unet.config.train import AffinitiesConfig
from unet.config.weights import WeightsConfig
from unet.geometry.box import Box
from unet.jobs.blockwise import BlockOutput
from unet.jobs.script import run_script
from unet.storage.files import read_json
from unet.training.weight_map import class_weights, cutoff_distance, separation_border, weight_map
from unet.volumes.block_inputs import BlockInputs
from unet.volumes.block_step import BlockStep
from unet.volumes.volume import Volume


def main(
    survey: Path,
    training_targets: list[Path],
    receipt: Path,
    folder: Path,
    block_range: str,
    weights: WeightsConfig,
    code: str,
    affinities: AffinitiesConfig | None = None,
    threads: int = 1,
) -> None:
    """Write the blocks of `block_range` to `weights.zarr`."""
    source = Volume.open(folder, survey)
    image = source.create("weights", "float32")
    counts = np.array([read_json(path)["class_voxels"] for path in training_targets], dtype=np.int64).sum(axis=0)
    balance = class_weights(counts, weights.class_balance and affinities is None)
    margin = ceil(cutoff_distance(weights.sigma))
    border = max(affinities.erode_labels, 1) if affinities and affinities.border_weight else 0
    if affinities:
        margin = margin + border if border else 0

    def weigh(box: Box) -> BlockOutput:
        if affinities:
            weight = _weight_of_ids(step.read("targets", box), weights, border)[step.inner("targets", box)]
            return image.write_block(box, np.ascontiguousarray(weight)), {}
        classes = step.read("targets", box)
        cells = np.where((classes == 0) | (classes == UNLABELLED), 0, step.read("labels", box))
        block = weight_map(classes, cells, balance, weights.w0, weights.sigma)[step.inner("targets", box)]
        return image.write_block(box, np.ascontiguousarray(block)), {}

    def balanced(box: Box, inputs: BlockInputs) -> dict[int, float]:
        """Return the weights of those classes that occur; what nobody annotated weighs 0."""
        if not weights.class_balance or affinities:  # every class weighs 1
            return {}
        occur = np.unique(source.image("targets").read(box)).tolist()
        return {c: weight for c, weight in enumerate(balance.tolist()) if c in occur}

    def padded(box: Box) -> Box:
        return box.grown((0, margin, margin)).clipped(source.layout.shape)

    reads = {"targets": padded} if affinities else {"targets": padded, "labels": padded}
    step = BlockStep("weight_map", source, reads, [image], balanced)
    settings = {"w0": weights.w0, "sigma": weights.sigma, "affinities": affinities and border, "code": code}
    step.run(weigh, block_range, receipt, threads, **settings)


def _weight_of_ids(ids: NDArray[np.unsignedinteger], weights: WeightsConfig, border: int) -> NDArray[np.float32]:
    """Return 1 where ids are annotated, 0 elsewhere; with a border of some width the weight of equation 2 as well."""
    classes = interior_of_ids(ids)
    if not border:
        return (classes != UNLABELLED).astype(np.float32)
    cells = np.where(classes == 1, ids, 0)
    cells[separation_border(cells, border)] = 0
    classes = np.where(classes == UNLABELLED, classes, cells > 0).astype(np.uint8)
    return weight_map(classes, cells, np.ones(2), weights.w0, weights.sigma)


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
