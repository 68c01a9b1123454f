"""Draw the first, middle and last section of each source as PNG, and labels over intensities."""

import re
from collections.abc import Sequence
from math import ceil
from pathlib import Path

import numpy as np

from unet.run.inspection.samples import middle_window, spread
from unet.run.inspection.source_summary import SourceSummary
from unet.run.report.pictures import (
    block_centre,
    block_mean,
    label_colours,
    overlay,
    png_bytes,
    stretch_contrast,
)
from unet.storage.files import write_atomically
from unet.volumes.readers.source import Source
from unet.volumes.sources import VolumeSources

PICTURED_SECTIONS = 3
LONGEST_SIDE = 512
"""Side in px of a picture; larger windows are reduced by a whole factor."""


def write_pictures(
    folder: Path, summaries: Sequence[SourceSummary], volume: VolumeSources | None = None, sections: Sequence[int] = ()
) -> list[Path]:
    """Write pictures of each source, and of the labels over the intensities in `sections`; return their paths."""
    written = [path for number, summary in enumerate(summaries, 1) for path in _of_source(folder, number, summary)]
    if volume is not None and volume.labels is not None:
        chosen = [sections[i] for i in spread(len(sections), PICTURED_SECTIONS)]
        written += [_of_labels(folder, volume.raw, volume.labels, z) for z in chosen]
    return written


def _of_source(folder: Path, number: int, summary: SourceSummary) -> list[Path]:
    """Write sections of a source: intensities stretched from their 0.5th to 99.5th percentile, one colour per label."""
    written, sample = [], summary.sample
    for index in spread(len(sample.values), PICTURED_SECTIONS):
        values, factor = sample.values[index], _factor(sample.values[index])
        if summary.role == "raw":
            picture = block_mean(stretch_contrast(values), factor)
        else:
            ids = block_centre(values, factor)
            picture = label_colours(ids) * (ids != 0)[..., None]
        name = f"{number}-{_name(summary.address)}-{summary.role}-section-{sample.sections[index]:04}.png"
        written.append(_write(folder / name, picture))
    return written


def _of_labels(folder: Path, raw: Source, labels: Source, z: int) -> Path:
    """Write the labels of a section over its intensities, as both are read into one volume."""
    box = middle_window(raw, z)
    grey, ids = (source.read(box).reshape(-1, *box.shape)[0, 0] for source in (raw, labels))
    factor = _factor(grey)
    picture = overlay(block_mean(stretch_contrast(grey), factor), block_centre(ids, factor))
    return _write(folder / f"labels-over-raw-section-{z:04}.png", picture)


def _factor(section: np.ndarray) -> int:
    return ceil(max(section.shape) / LONGEST_SIDE)


def _name(address: str) -> str:
    """Return the last part of an address as a part of a file name.

    >>> _name("data/cortex.h5:/volumes/raw"), _name("sections/")
    ('raw', 'sections')
    """
    return re.sub(r"[^\w.]+", "-", address.rstrip("/").rpartition("/")[2]).strip("-.")


def _write(path: Path, picture: np.ndarray) -> Path:
    write_atomically(path, png_bytes(picture))
    return path
