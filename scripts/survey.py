"""Read the headers of a volume's image files, refuse what cannot be used, and fix the layout of its stores.

No voxel is read. Everything downstream (blocks, block ranges, jobs) follows from the layout.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from unet.config.storage import StorageConfig
from unet.config.volumes import VolumeConfig
from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.jobs.log_line import format_sizes
from unet.jobs.script import run_script
from unet.storage.backends import CannotList
from unet.storage.digests import fingerprint
from unet.storage.files import write_json
from unet.volumes.headers import layout_of_sources
from unet.volumes.input_states import survey_made_from
from unet.volumes.readers.open import (
    Source,
    SourceError,
    check_annotation,
    check_raw,
    check_sections,
    open_raw,
    open_source,
)
from unet.volumes.readers.source import MissingChunks

log = logging.getLogger(__name__)


def main(receipt: Path, name: str, volume: VolumeConfig, storage: StorageConfig, code: str) -> None:
    """Write the layout of volume `name` to `receipt`, with what it was made from, which tells whether it still holds.

    Raises
    ------
    SourceError
        If a file cannot be used, or chunks are not stored with ``missing_chunks: error``.
    """
    made_from = survey_made_from(volume, storage, code)  # before anything is read: a later change is a change
    raw = open_raw(volume.raw)
    check_raw(raw)
    others = {key: open_source(address) for key in ("labels", "mask") if (address := getattr(volume, key))}
    for source in (raw, *others.values()):
        source.check()
    layout = layout_of_sources(volume, storage, raw, others.get("labels"))
    for source in others.values():
        check_annotation(raw, source, volume.sections, layout.voxel_size_nm)
    channels = f"{raw.channels} channels of " if raw.channels > 1 else ""
    log.info(
        "%s: %s voxels of %s nm, %s%s",
        name,
        format_sizes(layout.shape),
        format_sizes(layout.voxel_size_nm),
        channels,
        layout.dtype,
    )
    first, stop = check_sections(raw, volume.sections)
    box = Box((first, 0, 0), (stop, *raw.shape[1:]))
    missing = [found for source in (raw, *others.values()) for found in missing_chunks(source, box)]
    tell_missing(missing, name, volume.missing_chunks)
    write_json(
        receipt,
        {
            "rule": "survey",
            "digest": fingerprint(made_from=made_from, layout=asdict(layout)),
            "made_from": made_from,
            "layout": asdict(layout),
            "missing_chunks": [asdict(one) for one in missing],
            "address": storage.address,
            "blocks": len(Grid(layout.shape, layout.block)),
        },
    )


def missing_chunks(source: Source, box: Box) -> list[MissingChunks]:
    """Return of which chunks of a box some are not stored; nothing where a server does not say."""
    try:
        return [found for found in source.missing_chunks(box) if found.missing]
    except CannotList as error:
        log.warning("%s; missing chunks are not counted, and a change of single chunks is not noticed", error)
        return []


def tell_missing(missing: Sequence[MissingChunks], name: str, answer: str) -> None:
    """Warn of chunks that are not stored, or refuse them."""
    if missing and answer == "error":
        raise SourceError(
            "; ".join(map(str, missing)) + f". Copy the store again, or, if its writer leaves out chunks without "
            f"content, set volumes.{name}.missing_chunks: read"
        )
    for one in missing:
        log.warning("%s (an error with volumes.%s.missing_chunks: error)", one, name)


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
