"""The suspected merge errors of a volume: their number, the largest ones, and pictures of their contacts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unet.run.report.pictures import Picture


@dataclass(frozen=True)
class SuspectedInVolume:
    """The suspected merge errors of one volume.

    Attributes
    ----------
    pairs : number of pairs of large parts that were found
    largest : pairs of the largest parts, as the receipt of rule `suspected_merges` has them
    pictures : one row of pictures per pair of `largest`, of the section through the middle of its contact
    """

    pairs: int
    largest: Sequence[Mapping[str, Any]]
    pictures: Sequence[Sequence[Picture]]

    @property
    def rows(self) -> list[tuple[str, Sequence[Picture]]]:
        """Return the voxel of each contact, as text, and the pictures of it."""
        voxels = [", ".join(map(str, pair["centre"])) for pair in self.largest]
        return list(zip(voxels, self.pictures, strict=True))
