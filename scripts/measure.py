"""Measure the objects in the blocks of a block range: sums over their voxels, contacts, overlap with the truth.

Inputs: `segmentation.zarr`, `probability.zarr`, and `labels.zarr` of a volume with labels.

Outputs: a table of counts per block; a receipt and a journal per block range.

1. Read each block with one plane behind its upper faces.
2. Sum up coordinates, their products and probabilities of each object, in integers.
3. Count the faces between every two ids, and the voxels of every true and segmented object.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.config.segment import SegmentConfig
from unet.geometry.box import Box
from unet.jobs.blockwise import BlockOutput
from unet.jobs.script import run_script
from unet.measurement.block_measures import measure_block, read_ahead, save_measures
from unet.measurement.object_sums import probability_levels
from unet.segmentation.foreground import channel_of, foreground_read_box, read_foreground
from unet.volumes.block_step import BlockStep, the_block
from unet.volumes.volume import Volume


def main(
    survey: Path,
    receipt: Path,
    folder: Path,
    block_range: str,
    segment: SegmentConfig,
    has_labels: bool,
    code: str,
    threads: int = 1,
) -> None:
    """Write a table of counts per block, beside the block's table of fragments."""
    source = Volume.open(folder, survey)
    tables, shape = source.object_tables("segmentation"), source.layout.shape
    channels = source.image("probability").spec.channels

    def ahead(box: Box) -> Box:
        return read_ahead(box, shape)

    def count(box: Box) -> BlockOutput:
        levels = probability_levels(_of_objects(source, segment, ahead(box)))
        labels = step.read("labels", box) if has_labels else None
        measures = measure_block(step.read("segmentation", box), box, shape, levels, labels)
        save_measures(tables.of(box), measures)
        return str(tables.digest(box)), {"objects": len(measures.sums), "contacts": len(measures.contacts.of_objects)}

    reads = {
        "segmentation": ahead,
        "probability": lambda box: foreground_read_box(ahead(box), channels, segment.axes),
        **({"labels": the_block} if has_labels else {}),
    }
    step = BlockStep("measure", source, reads, [tables])
    what = {"foreground": segment.classes, "axes": segment.axes, "has_labels": has_labels}
    step.run(count, block_range, receipt, threads, **what, code=code)


def _of_objects(source: Volume, segment: SegmentConfig, box: Box) -> NDArray[Any]:
    """Return the probability of the class that makes objects; of several classes the largest."""
    image = source.image("probability")
    if len(segment.classes) == 1:
        return read_foreground(image, box, segment.main_class, segment.axes)
    channels = [channel_of(name, image.spec.channels) for name in segment.classes]
    return np.max(image.read(box)[channels], axis=0)


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
