"""Decide which of the given files are intensities, labels and mask, and which intensities the labels belong to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from unet.config.volumes import VolumeConfig
from unet.run.inspection.label_guess import pieces_per_section
from unet.run.inspection.source_summary import SourceSummary, listed
from unet.run.inspection.suggested_settings import VoxelSize
from unet.volumes.readers.errors import SourceError
from unet.volumes.sources import VolumeSources, open_volume

MAX_PIECES_OF_MASK = 3
"""Largest mean number of pieces per section of what a mask holds."""


class InspectionError(ValueError):
    """No configuration follows from the given files; the message says why, and what to do."""


@dataclass(frozen=True)
class Roles:
    """The given files by what they are."""

    raw: tuple[SourceSummary, ...]
    labels: SourceSummary | None = None
    mask: SourceSummary | None = None

    @property
    def all(self) -> list[SourceSummary]:
        """Return all of them, intensities first."""
        return [*self.raw, *(one for one in (self.labels, self.mask) if one is not None)]


def assign_roles(summaries: Iterable[SourceSummary]) -> Roles:
    """Return which files are intensities, labels and mask. What looks like labels, in a few pieces, may be a mask.

    Raises
    ------
    InspectionError
        If no file holds intensities, or if two files may be the labels.
    """
    found = list(summaries)
    raw = tuple(one for one in found if one.role == "raw")
    masks = [one for one in found if one.role == "mask"]
    labels = [one for one in found if one.role == "labels"]
    if len(labels) > 1 and not masks:
        masks = [one for one in labels if may_be_mask(one)]
        if len(masks) == 1:
            labels.remove(masks[0])
            masks = [masks[0].with_role("mask", "two values in a few pieces, beside other labels")]
        else:
            masks = []
    if not raw:
        given = listed([one.address for one in found])
        raise InspectionError(f"{given}: none of them looks like intensities; name the intensities with --raw")
    for purpose, several in (("labels", labels), ("mask", masks)):
        if len(several) > 1:
            raise InspectionError(
                f"{listed([one.address for one in several])}: each may be the {purpose} of the volume; say which is "
                "what with --labels and --mask, and give one at a time"
            )
    return Roles(raw, next(iter(labels), None), next(iter(masks), None))


def may_be_mask(summary: SourceSummary) -> bool:
    """Return whether labels hold two values, and few pieces of what is not 0."""
    values = summary.sample.values
    if len(np.unique(values)) > 2:
        return False
    pieces = pieces_per_section(values)
    return max((n for grey, n in pieces.items() if grey), default=0.0) <= MAX_PIECES_OF_MASK


def annotated_raw(
    roles: Roles, sizes: Sequence[VoxelSize], not_annotated: Sequence[int] = ()
) -> tuple[int, VolumeSources]:
    """Return the number of the intensities that labels and mask belong to, and the open volume.

    Parameters
    ----------
    not_annotated : sequence of int
        Values of the labels that mean that nobody annotated the voxel.

    Raises
    ------
    SourceError
        If labels or mask fit none of the intensities. The message is that of the first.
    """
    problems: list[SourceError] = []
    for number, (raw, size) in enumerate(zip(roles.raw, sizes, strict=True)):
        volume = VolumeConfig(
            raw=(raw.given,),
            labels=None if roles.labels is None else (roles.labels.given,),
            ignore_id=list(not_annotated) or None,
            mask=None if roles.mask is None else roles.mask.given,
            voxel_size_nm=size.nm if size.write else None,
            voxel_size_from="configuration" if size.overrule else "agreement",
        )
        try:
            return number, open_volume(volume)
        except SourceError as error:
            problems.append(error)
    raise problems[0]
