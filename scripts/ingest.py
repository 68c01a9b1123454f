"""Copy a block range of a volume from its image files into OME-Zarr: intensities, mask and labels.

Inputs: the image files of the volume, and the receipt of `survey`.

Outputs: blocks of `raw.zarr`, `mask.zarr`, and `labels.zarr` (instances) or `classes.zarr` (other kinds of labels); a
receipt and a journal per block range.

1. Read a block from all image files. A chunk, or a section that can only be decoded as a whole, is decoded once for all
   blocks of the job that touch it.
2. Convert labels to class indices (instances are ids already), and the mask to 0 and 1.
3. Write the block, and record it in the journal. A killed job continues with the blocks that are not recorded.

Memory is bounded by a block and a few sections or chunks per thread, and by `unet.volumes.block_reader.CACHE_BYTES`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unet.config.volumes import VolumeConfig
from unet.geometry.box import Box
from unet.jobs.blockwise import BlockOutput, digest_of_stores, run_blocks
from unet.jobs.script import run_script
from unet.storage.digests import fingerprint
from unet.storage.files import read_json
from unet.storage.zarr_store import Image
from unet.volumes.block_reader import CACHE_BYTES, BlockReader, in_reading_order
from unet.volumes.label_conversion import class_indices, grey_level_counts
from unet.volumes.readers.source import Source
from unet.volumes.sources import open_volume
from unet.volumes.volume import Volume


def main(
    survey: Path, receipt: Path, folder: Path, block_range: str, volume: VolumeConfig, code: str, threads: int = 1
) -> None:
    """Write the blocks of `block_range` to the stores in `folder`, and count the grey values of `interior` labels."""
    target = Volume.open(folder, survey)
    parts = _parts(target, volume)
    images = [part.image for part in parts]
    readers = [BlockReader(part.source, target.folder, CACHE_BYTES // len(parts)) for part in parts]

    def ordered(boxes: Sequence[Box]) -> list[Box]:
        found = in_reading_order(boxes, [part.source for part in parts])
        for reader in readers:
            reader.expect(found)
        return found

    def ingest(box: Box) -> BlockOutput:
        values = [reader.read(box) for reader in readers]
        blocks = [part.convert(v, f"{part.source.address}, {box}") for part, v in zip(parts, values, strict=True)]
        digests = [
            part.image.write_block(box, block.astype(part.image.dtype, copy=False))
            for part, block in zip(parts, blocks, strict=True)
        ]
        return digest_of_stores(digests), {"levels": _levels(volume, values[-1])}

    run_blocks(
        "ingest",
        target.blocks(block_range, target.layout.ingested_together),
        ingest,
        images,
        receipt=receipt,
        fingerprint=fingerprint(layout=read_json(survey)["layout"], volume=volume.model_dump(mode="json"), code=code),
        inputs_of=lambda box: [state for part in parts for state in part.source.state(box)],
        threads=threads,
        order=ordered,
    )


class Part(NamedTuple):
    """A store that is written, the image files of its voxels, and the function that checks and converts the voxels."""

    image: Image
    source: Source
    convert: Callable[[np.ndarray, str], np.ndarray]


def _parts(target: Volume, volume: VolumeConfig) -> list[Part]:
    """Return the stores to write: intensities, mask and labels. The labels come last."""
    channels = [f"channel {number}" for number in range(target.layout.channels)] if target.layout.channels > 1 else []
    sources = open_volume(volume)
    image = target.create("raw", target.layout.dtype, channels=channels)
    parts = [Part(image, sources.raw, lambda values, where: values)]
    if sources.mask is not None:
        image = target.create("mask", "uint8", kind="label")
        parts.append(Part(image, sources.mask, lambda values, where: (values != 0).astype(np.uint8)))
    if sources.labels is not None:
        store = "labels" if volume.label_kind == "instances" else "classes"
        dtype = target.layout.labels_dtype if store == "labels" else "uint8"
        image = target.create(store, str(dtype), kind="label")
        parts.append(Part(image, sources.labels, _label_converter(volume)))
    return parts


def _label_converter(volume: VolumeConfig) -> Callable[[np.ndarray, str], np.ndarray]:
    """Return the function that makes class indices out of the values of `interior` and `classes`; ids stay."""
    if volume.label_kind == "instances":
        return lambda values, where: values
    return lambda values, where: class_indices(values, volume, where)


def _levels(volume: VolumeConfig, labels: np.ndarray) -> dict[str, int]:
    """Return the voxels of each value of `interior` labels, which are compared with those of other blocks later."""
    if volume.labels is None or volume.label_kind != "interior":
        return {}
    return grey_level_counts(labels, volume.labels[0].path)


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
