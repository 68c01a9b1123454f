"""The inputs of a volume as they were read: facts, pictures and grey values, from what the first rules found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.config.volumes import VolumeConfig
from unet.jobs.log_line import format_sizes
from unet.run.report.pictures import Picture, block_centre, block_mean, overlay, stretch_contrast
from unet.run.report.webp import webp_uri
from unet.storage.address import is_address
from unet.volumes.histogram import BinSums

LONGEST_SIDE = 320
"""Side in px of a picture; larger sections are reduced by a whole factor."""
BARS = 64
"""Bars of a histogram of grey values."""


@dataclass(frozen=True)
class GreyHistogram:
    """The grey values of a volume's first channel, in bars of one width.

    Attributes
    ----------
    low, high : grey values at the ends
    heights : share of the voxels in each bar over the share in the highest bar, 0 to 1
    mean, std : of all voxels that count
    """

    low: float
    high: float
    heights: Sequence[float]
    mean: float
    std: float

    @property
    def bars(self) -> list[tuple[float, float]]:
        """Return the left side and the height of each bar in percent of the picture; empty bars are left out."""
        width = 100 / len(self.heights)
        return [(round(i * width, 2), round(100 * height, 1)) for i, height in enumerate(self.heights) if height > 0]

    @property
    def words(self) -> str:
        """Return what is seen, for readers who see no pictures."""
        peak = (np.argmax(self.heights) + 0.5) / len(self.heights) * (self.high - self.low) + self.low
        return (
            f"Histogram of grey values from {self.low:g} to {self.high:g}: mean {self.mean:.4g}, standard deviation "
            f"{self.std:.4g}, most voxels near {peak:.3g}"
        )


@dataclass(frozen=True)
class InputsAsRead:
    """The inputs of a volume, after axes, flips, crop and downsampling.

    Attributes
    ----------
    facts : pairs of a name and a text, such as shape and voxel size
    remarks : sentences on how the files were read
    pictures : pictures of the first, middle and last section: intensities with the annotation over them
    histogram : grey values; None where they were not counted
    """

    facts: Sequence[tuple[str, str]] = ()
    remarks: Sequence[str] = ()
    pictures: Sequence[Picture] = field(default_factory=tuple)
    histogram: GreyHistogram | None = None


def input_facts(
    survey: Mapping[str, Any], volume: VolumeConfig, checked: Mapping[str, Any] | None = None
) -> list[tuple[str, str]]:
    """Return what was read, for people.

    Parameters
    ----------
    survey : receipt of rule `survey`
    volume : configuration of the volume
    checked : receipt of rule `check_labels`; None where labels are not there
    """
    layout = survey["layout"]
    channels = f", {layout['channels']} channels" if layout["channels"] > 1 else ""
    origin = f" from {survey['voxel_size_from']}" if survey.get("voxel_size_from") else ""
    facts = [
        ("shape", f"{format_sizes(layout['shape'])} voxels (z, y, x), {layout['dtype']}{channels}"),
        ("voxel size", f"{format_sizes(layout['voxel_size_nm'])} nm (z, y, x){origin}"),
    ]
    for key, given in volume.sources.items():
        set_ = given.model_dump(mode="json", exclude_defaults=True, exclude={"path"})
        how = "".join(f", {name}: {value}" for name, value in set_.items())
        axes = survey.get("axes_from", {}).get(key)
        origin = f", axes from {axes}" if axes else ""
        facts.append((key, f"{file_name(given.path)}{origin}{how}"))
    geometry = volume.model_dump(mode="json", include={"sections", "crop", "downsample"}, exclude_defaults=True)
    facts += [(key, str(value)) for key, value in geometry.items()]
    return facts + (label_facts(checked) if checked and checked.get("used") else [])


def label_facts(checked: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what the annotation holds: share of each class, instances, annotated sections.

    >>> counts = {"class_voxels": {"membrane": 25, "interior": 75}, "instances": 3, "sections": [2, 6], "voxels": 200}
    >>> [text for _, text in label_facts(counts)]
    ['membrane 25.0 %, interior 75.0 %', '3 instances in 2 of 6 sections, 50.0 % of the voxels']
    """
    counts = checked["class_voxels"]
    annotated = sum(counts.values())
    shares = ", ".join(f"{name} {100 * n / max(annotated, 1):.1f} %" for name, n in counts.items())
    with_labels, sections = checked["sections"]
    number = checked["instances"]
    share = 100 * annotated / max(checked["voxels"], 1)
    where = f"in {with_labels:,} of {sections:,} sections, {share:.1f} % of the voxels"
    return [("classes", shares), ("annotation", f"{number:,} instance{'s' * (number != 1)} {where}")]


def section_as_read(raw: NDArray[Any], labels: NDArray[Any] | None, caption: str) -> Picture:
    """Return a picture of one section as it was read: the annotation over the intensities.

    Parameters
    ----------
    raw : (y, x) grey values, any dtype; shown from their 0.5th percentile (black) to their 99.5th (white)
    labels : (y, x) ids or classes, 0 = none; None without an annotation
    caption : words below the picture
    """
    factor = ceil(max(raw.shape) / LONGEST_SIDE)
    grey = block_mean(stretch_contrast(raw), factor)
    drawn = grey if labels is None else overlay(grey, block_centre(labels, factor))
    return Picture(caption, webp_uri(drawn))


def grey_histogram(counts: NDArray[np.int64], dtype: str, statistics: Mapping[str, Any]) -> GreyHistogram | None:
    """Return the grey values of a channel in `BARS` bars; None where no voxel was counted.

    Parameters
    ----------
    counts : int64, counts of `unet.volumes.histogram` of the channel: `(rows, bins)`
    dtype : of the intensities
    statistics : of the channel, from the receipt of rule `intensity_statistics`
    """
    sums = BinSums.of(counts, dtype)
    if not sums.bins:
        return None
    values = np.array([sums.value(number) for number in range(len(sums.bins))])
    low, high = float(values[0]), float(values[-1])
    place = np.minimum((values - low) / max(high - low, 1e-12) * BARS, BARS - 1).astype(int)
    heights = np.bincount(place, weights=np.array(sums.count, float), minlength=BARS)
    return GreyHistogram(low, high, (heights / heights.max()).tolist(), statistics["mean"], statistics["std"])


def file_name(path: str) -> str:
    """Return the last part of a path, which says nothing about the machine.

    >>> file_name("/home/me/data/cortex.h5:/volumes/raw"), file_name("sections/")
    ('cortex.h5:/volumes/raw', 'sections')
    """
    if is_address(path):
        return path
    where, colon, inner = path.partition(":")
    return where.rstrip("/").rpartition("/")[2] + colon + inner
