"""Read the headers of a volume's image files, refuse unusable files, and fix the layout of the stores.

Inputs: the image files of the volume.

Outputs: a receipt with the layout, from which blocks, block ranges and jobs follow.

1. Open all image files, and check that labels and mask lie on the voxels of the intensities.
2. Check the header of every section, and read a few voxels of each file.
3. Count chunks that are not stored, and warn of them or stop (`missing_chunks`).
4. Record the layout and the states of the files.

This rule reports all problems that show in headers and first chunks. It does so before anything is written, in one
message.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from math import prod
from pathlib import Path

from unet.config.storage import StorageConfig
from unet.config.volumes import VolumeConfig
from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.jobs.log_line import format_sizes
from unet.jobs.script import run_script
from unet.storage.digests import fingerprint
from unet.storage.files import write_receipt
from unet.storage.object_storage import CannotList
from unet.volumes.block_reader import unit_shape
from unet.volumes.input_states import survey_input_states
from unet.volumes.layout import VolumeLayout
from unet.volumes.layout_from_headers import layout_from_sources
from unet.volumes.problems import Problems, SeveralProblems
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.source import MissingChunks, Source
from unet.volumes.sources import VolumeSources, open_volume

log = logging.getLogger(__name__)


def main(receipt: Path, name: str, volume: VolumeConfig, storage: StorageConfig, code: str) -> None:
    """Write the layout of volume `name` to `receipt`, with the states of its inputs.

    Raises
    ------
    SourceError
        If a file cannot be used, or if chunks are not stored and ``missing_chunks`` is ``error``.
    """
    input_states = survey_input_states(
        volume, storage, code
    )  # taken before anything is read, so that a later change is noticed
    try:
        sources = open_volume(volume)
        check(sources)
    except SeveralProblems as problems:
        raise SeveralProblems(f"volumes.{name}: {problems}") from None
    layout = layout_from_sources(volume, storage, sources)
    for remark in sources.all_remarks():
        log.warning("%s", remark)
    for remark in _decoded_again(sources, layout):
        log.info("%s", remark)
    channels = f"{layout.channels} channels of " if layout.channels > 1 else ""
    log.info(
        "%s: %s voxels of %s nm, %s%s",
        name,
        format_sizes(layout.shape),
        format_sizes(layout.voxel_size_nm),
        channels,
        layout.dtype,
    )
    missing = [found for source in sources.given for found in missing_chunks(source, sources.box)]
    warn_or_refuse_missing(missing, name, volume.missing_chunks)
    write_receipt(
        receipt,
        {
            "rule": "survey",
            "digest": fingerprint(input_states=input_states, layout=asdict(layout)),
            "input_states": input_states,
            "layout": asdict(layout),
            "missing_chunks": [asdict(one) for one in missing],
            "remarks": sources.all_remarks(),
            "label_boxes": [str(box) for box in sources.label_boxes],
            "voxel_size_from": "the configuration" if volume.voxel_size_nm else sources.raw.voxel_size_from,
            "axes_from": _axes_from(sources),
            "address": storage.address,
            "blocks": len(Grid(layout.shape, layout.block)),
        },
    )


def check(sources: VolumeSources) -> None:
    """Check the headers of all sections, and read a few voxels of each file; report all problems at once."""
    problems = Problems()
    for key, source in (("raw", sources.raw), ("mask", sources.mask), ("labels", sources.labels)):
        if source is not None:
            problems.tried(key, partial(check_source, source, sources.box))
    problems.refuse()


def check_source(source: Source, box: Box) -> None:
    """Check the headers of all sections of a source, and read a few voxels."""
    source.check(box)
    source.probe(box)


def _decoded_again(sources: VolumeSources, layout: VolumeLayout) -> list[str]:
    """Return a remark for each source whose chunks are so deep that several jobs of `ingest` decode them."""
    depths = {one.address: min(unit_shape(one, layout.block)[0], layout.shape[0]) for one in sources.given}
    layers = max(1, layout.ingested_together // prod(layout.grid.counts[1:]))
    return [
        f"{address}: chunks of {depth} sections are decoded by up to {times} jobs, since a layer of them is more than "
        f"a job takes; once with storage: {{block: [{depth}, 512, 512]}}"
        for address, depth in depths.items()
        if (times := -(-depth // (layers * layout.block[0]))) > 1
    ]


def _axes_from(sources: VolumeSources) -> dict[str, str]:
    """Return the origin of the order of the axes of raw, labels and mask."""
    opened = {"raw": sources.raw, "labels": sources.labels, "mask": sources.mask}
    return {key: source.axes_from for key, source in opened.items() if source is not None}


def missing_chunks(source: Source, box: Box) -> list[MissingChunks]:
    """Return the missing chunks of a box per array; an empty list if a server does not list its content."""
    try:
        return [found for found in source.missing_chunks(box) if found.missing]
    except CannotList as error:
        log.warning("%s; missing chunks are not counted, and a change of single chunks is not noticed", error)
        return []


def warn_or_refuse_missing(missing: Sequence[MissingChunks], name: str, answer: str) -> None:
    """Warn of chunks that are not stored, or refuse them. Where none is stored, they are always refused.

    A writer may leave out chunks without content. A volume without any chunk is a copy that failed, or its metadata
    give other names than the files have.
    """
    if empty := [one for one in missing if one.missing == one.count]:
        raise SourceError(
            "; ".join(f"{one.address}: none of its {one.count:,} {one.kind} is stored" for one in empty)
            + f", so that all of it would read as {empty[0].fill_value:g}. Copy it again, correct the path, or, in a "
            "Zarr store whose files are there, the separator of their names (`dimension_separator`, "
            "`chunk_key_encoding`)"
        )
    if missing and answer == "error":
        raise SourceError(
            "; ".join(map(str, missing)) + f". Copy the store again, or, if its writer leaves out chunks without "
            f"content, set volumes.{name}.missing_chunks: fill"
        )
    for one in missing:
        log.warning("%s (an error with volumes.%s.missing_chunks: error)", one, name)


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
