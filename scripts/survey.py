"""Read the headers of a volume's image files, refuse what cannot be used, and fix the layout of its stores.

No voxel is read. Everything downstream (blocks, shards, jobs) follows from the layout.
"""

import logging
from dataclasses import asdict
from pathlib import Path

import numpy as np

from unet.annotation import as_instances, grey_levels
from unet.config import StorageConfig, VolumeConfig
from unet.geometry import Box, Grid
from unet.job import run
from unet.log_line import by
from unet.receipts import fingerprint, write_json
from unet.sources import Source, agree_voxel_size, check_labels, check_raw, check_sections, open_raw, open_source
from unet.volume import Layout

log = logging.getLogger(__name__)


def main(receipt: Path, name: str, volume: VolumeConfig, storage: StorageConfig, made_from: str) -> None:
    """Write the layout of volume `name` to `receipt`, with `made_from`, which tells whether it still holds."""
    raw = open_raw(volume.raw)
    check_raw(raw)
    first, stop = check_sections(raw, volume.sections)
    others = {key: open_source(address) for key in ("labels", "mask") if (address := getattr(volume, key))}
    for source in (raw, *others.values()):
        source.check()
    for source in others.values():
        check_labels(raw, source, volume.sections)
    voxel_nm = agree_voxel_size(volume.voxel_nm, raw.voxel_nm, raw.address)
    offset_nm = raw.offset_nm or (0.0, 0.0, 0.0)
    layout = Layout(
        shape=(stop - first, *raw.shape[1:]),
        dtype=raw.dtype.name,
        voxel_nm=voxel_nm,
        offset_nm=(offset_nm[0] + first * voxel_nm[0], offset_nm[1], offset_nm[2]),
        chunk=storage.chunk,
        block=storage.block,
        labels_dtype=_labels_dtype(others.get("labels"), volume),
        masked="mask" in others,
        channels=raw.channels,
    )
    channels = f"{raw.channels} channels of " if raw.channels > 1 else ""
    log.info("%s: %s voxels of %s nm, %s%s", name, by(layout.shape), by(voxel_nm), channels, layout.dtype)
    states = [source.state(Box.of_shape(source.shape)) for source in (raw, *others.values())]
    digest = fingerprint(files=states, layout=asdict(layout))
    write_json(
        receipt,
        {
            "rule": "survey",
            "digest": digest,
            "made_from": made_from,
            "layout": asdict(layout),
            "address": storage.address,
            "blocks": len(Grid(layout.shape, layout.block)),
        },
    )


def _labels_dtype(labels: Source | None, volume: VolumeConfig) -> str | None:
    """Type of the instance ids; what labels of their kind cannot be is refused here, before any voxel is read."""
    if labels is None:
        return None
    nothing = np.empty(0, labels.dtype)
    if volume.label_kind == "instances":
        return as_instances(nothing, labels.address).dtype.name
    grey_levels(nothing, labels.address)
    return "uint32"


if __name__ == "__main__":
    run(main, globals().get("snakemake"))
