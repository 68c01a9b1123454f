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
from typing import Any

import numpy as np

from unet.config.label_kinds import UNLABELLED
from unet.config.weights import WeightsConfig
from unet.geometry.box import Box
from unet.jobs.blockwise import BlockOutput, run_blocks
from unet.jobs.script import run_script
from unet.storage.digests import fingerprint
from unet.storage.files import read_json
from unet.training.weight_map import class_weights, cutoff_distance, weight_map
from unet.volumes.block_inputs import BlockInputs
from unet.volumes.volume import Volume, padded_in_section


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
    targets, labels = source.image("targets"), source.image("labels")
    image, inputs = source.create("weights", "float32"), BlockInputs(source)
    counts = np.array([read_json(path)["class_voxels"] for path in training_targets], dtype=np.int64).sum(axis=0)
    balance = class_weights(counts, weights.class_balance)
    margin = ceil(cutoff_distance(weights.sigma))

    def weigh(box: Box) -> BlockOutput:
        window, inner = padded_in_section(box, margin, labels.shape)
        classes = targets.read(window)
        cells = np.where((classes == 0) | (classes == UNLABELLED), 0, labels.read(window))
        block = weight_map(classes, cells, balance, weights.w0, weights.sigma)[inner]
        return image.write_block(box, np.ascontiguousarray(block)), {}

    def inputs_of(box: Box) -> list[Any]:
        """Return digests, and of balanced classes the weights of those that occur; what nobody annotated weighs 0."""
        window, _ = padded_in_section(box, margin, labels.shape)
        read = [inputs.digests("targets", window), inputs.digests("labels", window)]
        if not weights.class_balance:  # every class weighs 1
            return read
        occur = np.unique(targets.read(box)).tolist()
        balanced = {c: weight for c, weight in enumerate(balance.tolist()) if c in occur}
        return [*read, balanced]

    run_blocks(
        "weight_map",
        source.blocks(block_range),
        weigh,
        [image],
        receipt=receipt,
        fingerprint=fingerprint(w0=weights.w0, sigma=weights.sigma, code=code),
        inputs_of=inputs_of,
        threads=threads,
    )


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
