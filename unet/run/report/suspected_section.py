"""The section of the report about suspected merge errors: a table per volume, and a picture of each contact."""

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
    def rows(self) -> list[tuple[list[Any], Sequence[Picture]]]:
        """Return the cells of the table and the pictures of each pair, in their order."""
        return [(cells(pair), pictures) for pair, pictures in zip(self.largest, self.pictures, strict=True)]


COLUMNS = ("Object", "Contact at z, y, x", "in nm", "Voxels of the parts", "Adjacent pairs", "Score", "Contact is")
"""Heads of the table."""


def cells(pair: Mapping[str, Any]) -> list[Any]:
    """Return the cells of a pair's row, in the order of `COLUMNS`.

    >>> pair = {"object": 7, "centre": [1, 2, 3], "centre_nm": [50.0, 8.0, 12.0], "larger": 90, "smaller": 40}
    >>> cells({**pair, "contacts": 2, "score": 0.25, "reason": "small"})
    [7, '1, 2, 3', '50, 8, 12', '90 + 40', 2, 0.25, 'small']
    """
    voxel, nm = ", ".join(map(str, pair["centre"])), ", ".join(f"{value:.0f}" for value in pair["centre_nm"])
    sizes = f"{pair['larger']:,} + {pair['smaller']:,}"
    return [pair["object"], voxel, nm, sizes, pair["contacts"], pair["score"], pair["reason"]]
