"""The worst objects as a table: what is wrong, how much, and where; with a link into the viewer and a command."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

WORDS = {"split": "a true object in several pieces", "merge": "several true objects in one"}
"""Kinds of errors, in words."""
PARTS = {"split": "{:,} pieces", "merge": "{:,} true objects"}
"""What an object of each kind consists of, with their number."""


class ErrorRow(NamedTuple):
    """An object or contact to look at.

    Attributes
    ----------
    number : rank among the rows, 1 for the worst
    what : what is wrong, in words
    object_id : id in the truth of a split, in the segmentation of a merge
    amount : how much of the object is wrong, in words
    voxel : z, y, x in voxels from 0
    nm : the same in nm
    link : address within the report that opens the viewer there
    command : command that opens it in neuroglancer
    """

    number: int
    what: str
    object_id: int
    amount: str
    voxel: str
    nm: str
    link: str
    command: str


def error_rows(volume: str, worst: Sequence[Mapping[str, Any]]) -> list[ErrorRow]:
    """Return the objects with most wrong voxels, from `worst` in `evaluation.json`.

    >>> worst = {"kind": "split", "object": 7, "size": 900, "wrong": 300, "partners": 3}
    >>> [row] = error_rows("test", [{**worst, "centre": [1, 20, 30], "centre_nm": [50.0, 80.0, 120.0]}])
    >>> row.amount, row.link
    ('300 of 900 voxels (33 %), 3 pieces', '#volume=test&z=1&y=20&x=30')
    """
    return [
        ErrorRow(
            number,
            f"{one['kind']}: {WORDS[one['kind']]}",
            one["object"],
            f"{one['wrong']:,} of {one['size']:,} voxels ({100 * one['wrong'] / one['size']:.0f} %), "
            f"{PARTS[one['kind']].format(one['partners'])}",
            *_place(volume, one),
            view_command(f"volume: {volume}, error: {number}"),
        )
        for number, one in enumerate(worst, start=1)
    ]


def suspected_rows(volume: str, largest: Sequence[Mapping[str, Any]]) -> list[ErrorRow]:
    """Return the suspected merge errors, from `largest` in the receipt of rule `suspected_merges`."""
    return [
        ErrorRow(
            number,
            f"suspected merge: the contact is {one['reason']}",
            one["object"],
            f"parts of {one['larger']:,} and {one['smaller']:,} voxels, {one['contacts']} adjacent pairs, "
            f"score {one['score']:.2f}",
            *_place(volume, one),
            view_command(f"volume: {volume}, position: [{', '.join(map(str, one['centre']))}]"),
        )
        for number, one in enumerate(largest, start=1)
    ]


def position_link(volume: str, voxel: Sequence[int]) -> str:
    """Return the address within the report of a voxel `(z, y, x)`."""
    return "#" + urlencode({"volume": volume, **dict(zip("zyx", voxel, strict=True))})


def view_command(place: str) -> str:
    """Return the command that opens a position in neuroglancer, without the configuration file of the run."""
    return f'snakemake view --config view="{{{place}}}"'


def _place(volume: str, one: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return voxel, nm and link of an error's centre."""
    nm = ", ".join(f"{value:,.0f}" for value in one["centre_nm"])
    return ", ".join(map(str, one["centre"])), nm, position_link(volume, one["centre"])
