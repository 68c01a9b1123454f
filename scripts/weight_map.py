"""Compute the weight of every labelled voxel in the loss: class balance, and borders between cells (equation 2).

Inputs: `targets.zarr`, `labels.zarr`, and the voxels per class of all training volumes.

Outputs: blocks of `weights.zarr`, float32 `(z, y, x)`, 0 where nothing is annotated; a receipt and a journal per block
range.

1. Compute the class weights from the voxels per class of all training volumes.
2. Read a block with the distance around it at which the border weight vanishes.
3. Add the border weight, from the distances to the two nearest cells, within each section.
"""

from math import ceil
from pathlib import Path

import numpy as np

from unet.config.label_kinds import UNLABELLED
from unet.config.weights import WeightsConfig
from unet.geometry.box import Box
from unet.jobs.blockwise import BlockOutput
from unet.jobs.script import run_script
from unet.storage.files import read_json
from unet.training.weight_map import class_weights, cutoff_distance, weight_map
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
    threads: int = 1,
) -> None:
    """Write the blocks of `block_range` to `weights.zarr`."""
    source = Volume.open(folder, survey)
    image = source.create("weights", "float32")
    counts = np.array([read_json(path)["class_voxels"] for path in training_targets], dtype=np.int64).sum(axis=0)
    balance = class_weights(counts, weights.class_balance)
    margin = ceil(cutoff_distance(weights.sigma))

    def weigh(box: Box) -> BlockOutput:
        classes = step.read("targets", box)
        cells = np.where((classes == 0) | (classes == UNLABELLED), 0, step.read("labels", box))
        block = weight_map(classes, cells, balance, weights.w0, weights.sigma)[step.inner("targets", box)]
        return image.write_block(box, np.ascontiguousarray(block)), {}

    def balanced(box: Box, inputs: BlockInputs) -> dict[int, float]:
        """Return the weights of those classes that occur; what nobody annotated weighs 0."""
        if not weights.class_balance:  # every class weighs 1
            return {}
        occur = np.unique(source.image("targets").read(box)).tolist()
        return {c: weight for c, weight in enumerate(balance.tolist()) if c in occur}

    def padded(box: Box) -> Box:
        return box.grown((0, margin, margin)).clipped(source.layout.shape)

    step = BlockStep("weight_map", source, {"targets": padded, "labels": padded}, [image], balanced)
    step.run(weigh, block_range, receipt, threads, w0=weights.w0, sigma=weights.sigma, code=code)


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
