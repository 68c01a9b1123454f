"""The inputs of a volume as they were read: facts for the report, from the receipt of rule `survey`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unet.config.volumes import VolumeConfig
from unet.jobs.log_line import format_sizes
from unet.run.report.pictures import Picture
from unet.storage.address import is_address


@dataclass(frozen=True)
class InputsAsRead:
    """The inputs of a volume, after axes, flips, crop and downsampling.

    Attributes
    ----------
    facts : pairs of a name and a text, such as shape and voxel size
    remarks : sentences on how the files were read
    pictures : pictures of the first, middle and last section: intensities with the annotation over them
    """

    facts: Sequence[tuple[str, str]] = ()
    remarks: Sequence[str] = ()
    pictures: Sequence[Picture] = field(default_factory=tuple)


def input_facts(survey: Mapping[str, Any], volume: VolumeConfig) -> list[tuple[str, str]]:
    """Return what was read, for people.

    Parameters
    ----------
    survey : receipt of rule `survey`
    volume : configuration of the volume
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
    return facts + [(key, str(value)) for key, value in geometry.items()]


def file_name(path: str) -> str:
    """Return the last part of a path, which says nothing about the machine.

    >>> file_name("/home/me/data/cortex.h5:/volumes/raw"), file_name("sections/")
    ('cortex.h5:/volumes/raw', 'sections')
    """
    if is_address(path):
        return path
    where, colon, inner = path.partition(":")
    return where.rstrip("/").rpartition("/")[2] + colon + inner
