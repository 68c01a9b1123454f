"""Copy a shard of a volume from its image files into sharded OME-Zarr: grey values, mask and labels.

Every block is read, checked and written by itself, so memory is bounded by the block, and a killed job continues.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unet.annotation import as_instances, class_map, grey_levels, interior_classes
from unet.blockwise import Written, run_blocks
from unet.config import VolumeConfig
from unet.geometry import Box
from unet.grey_values import histogram, to_sparse
from unet.job import run
from unet.receipts import fingerprint, read_json
from unet.sources import Source, open_source
from unet.store import Image, remove_leftovers
from unet.volume import Volume


def main(
    survey: Path, receipt: Path, folder: Path, shard: str, volume: VolumeConfig, code: str, threads: int = 1
) -> None:
    """Write the blocks of `shard` to the stores in `folder`.

    The receipt holds the histogram of grey values, and how often each grey value occurs in `interior` labels.
    """
    target = Volume.open(folder, survey)
    parts = _parts(target, volume)
    for part in parts:
        remove_leftovers(part.image.path)
    reading = threading.Lock()  # image files are read by one thread at a time; checking and writing run beside it
    first = (volume.sections[0] if volume.sections else 0, 0, 0)

    def ingest(box: Box) -> Written:
        with reading:
            values = [part.source.read(box.shifted(first)) for part in parts]
        figures = {}
        for part, block in zip(parts, values, strict=True):
            part.image.write_block(box, part.convert(block).astype(part.image.dtype, copy=False))
            if part.convert_is_interior:
                pass
        tissue = target.tissue(box)
        counts = histogram(values[0] if tissue is None else values[0][tissue])
        return digest_of(box), {"histogram": to_sparse(counts)}

    def digest_of(box: Box) -> str:
        return fingerprint(stores=[part.image.digest(box) for part in parts])

    run_blocks(
        "ingest",
        target.blocks(shard),
        ingest,
        receipt=receipt,
        fingerprint=fingerprint(source=read_json(survey)["digest"], volume=volume.model_dump(mode="json"), code=code),
        digest_of=digest_of,
        threads=threads,
    )


def _parts(target: Volume, volume: VolumeConfig) -> list[tuple[Image, Callable[[Box], np.ndarray]]]:
    """Each store that ingest writes, with the function that reads and checks its voxels."""
    parts: list[tuple[Image, Callable[[Box], Any]]] = [
        (target.create("raw", target.layout.dtype), open_source(volume.raw).read)
    ]
    if volume.mask is not None:
        mask = open_source(volume.mask)
        parts.append((target.create("mask", "uint8", kind="label"), lambda box: (mask.read(box) != 0).astype(np.uint8)))
    if volume.labels is not None:
        store = "labels" if volume.label_kind == "instances" else "classes"
        dtype = target.layout.labels_dtype if store == "labels" else "uint8"
        parts.append((target.create(store, str(dtype), kind="label"), _label_reader(volume)))
    return parts


def _label_reader(volume: VolumeConfig) -> Callable[[Box], np.ndarray]:
    labels = open_source(str(volume.labels))
    if volume.label_kind == "instances":
        return lambda box: as_instances(labels.read(box), labels.address)
    if volume.label_kind == "interior":
        return lambda box: interior_classes(labels.read(box), labels.address)
    return lambda box: class_map(labels.read(box), volume.grey_values_of_class, labels.address)


if __name__ == "__main__":
    run(main, globals().get("snakemake"))
