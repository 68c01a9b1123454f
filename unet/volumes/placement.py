"""Place labels, masks and other segmentations in the voxels of the raw files.

Where a source lies is said, in this order, by

1. `offset` of the source: the voxel of raw at which it begins;
2. the numbers in the names of its sections, if it is a folder with other sections than raw, or has `first_number`;
3. the offsets in nm that both files give, as CREMI's padded volumes do;
4. its shape: the shape of raw.

```
raw/     s08 s09 s10 s11 s12          by numbers          raw.h5 (9, 120, 110)    by offsets
labels/      s09         s12   ->     . 9 . . 12          labels (5,  80,  72)    offset / voxel size = (2, 20, 19)
```

Voxels outside are not annotated (labels), no tissue (mask), or not segmented (`compare`).
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from unet.config.source import SourceConfig
from unet.geometry.box import Box, Index
from unet.volumes.label_conversion import add_remark
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.source import Nm, Source
from unet.volumes.readers.views import Flipped, Placed, View
from unet.volumes.voxel_size import TOLERANCE, resolve_voxel_size

GUESSED = ("the usual order", "the description of tifffile", "the pages of the file")
"""Origins of an order of axes that no file states."""


@dataclass(frozen=True)
class Frame:
    """The voxels of the raw files, in which labels, masks and other segmentations are placed."""

    raw: Source
    voxel_size_nm: Nm
    overrule: bool = False


class Placement(NamedTuple):
    """A source in the voxels of raw, and the boxes of raw that it holds."""

    source: Source
    boxes: list[Box]


class PlacedSections(View):
    """A source that holds some sections of a larger volume: its sections in order, and where each lies.

    Voxels of other sections are 0, and `covers` says where they are.
    """

    def __init__(self, below: Source, at: Sequence[int], shape: Index) -> None:
        self._at = list(at)
        super().__init__(below, shape)

    def box_below(self, box: Box) -> Box:
        """Return the sections of the source that lie in a box, and the box along y and x."""
        first, stop = (bisect_left(self._at, z) for z in (box.start[0], box.stop[0]))
        return Box((first, *box.start[1:]), (stop, *box.stop[1:]))

    def covers(self, box: Box) -> np.ndarray | None:
        """Return which voxels of a box the source holds; None if it holds all of them."""
        sections = self._sections_in(box)
        if len(sections) == box.shape[0]:
            return super().covers(box)
        found = np.zeros(box.shape, bool)
        below = super().covers(box) if sections else None
        found[sections] = True if below is None else below
        return found

    def section_name(self, z: int) -> str:
        """Return the name of section ``z``, for messages."""
        return super().section_name(z) if z in self._at else f"{self.address}, no section"

    def _read(self, box: Box) -> np.ndarray:
        sections = self._sections_in(box)
        values = np.zeros(box.shape, self.dtype)
        if sections:
            values[sections] = super()._read(box)
        return values

    def _sections_in(self, box: Box) -> list[int]:
        """Return the sections of a box that the source holds, counted from the first of the box."""
        below = self.box_below(box)
        return [z - box.start[0] for z in self._at[below.start[0] : below.stop[0]]]


def placed(frame: Frame, given: SourceConfig, source: Source) -> Placement:
    """Return a source with one value per voxel in the voxels of raw.

    Raises
    ------
    SourceError
        If its voxel size differs from the voxel size of raw. If it has another shape and its position is not known. If
        the numbers of its sections do not fit the numbers of raw.
    """
    raw = frame.raw
    if source.voxel_size_nm:
        resolve_voxel_size(
            tuple(frame.voxel_size_nm), source.voxel_size_nm, source.address, other=raw.address, overrule=frame.overrule
        )
    if given.offset is not None:
        _refuse_gaps(source)
        return _placed_at(source, given.offset, raw.shape)
    numbers = _section_numbers(source, given)
    if given.first_number is not None and numbers is None:
        raise SourceError(
            f"{source.address}: `first_number: {given.first_number}` is for a folder of sections, whose names have "
            "numbers; write `offset: [z, y, x]` instead, the voxel of raw at which this source begins"
        )
    if numbers is not None and (given.first_number is not None or source.shape[0] != raw.shape[0]):
        return _placed_by_numbers(frame, given, source, numbers)
    at = _offset_in_voxels(frame, source)
    if source.shape == raw.shape and at in (None, (0, 0, 0)):
        _pair_sections(raw, source)
        return Placement(source, [Box.of_shape(raw.shape)])
    if source.shape == raw.shape and at is not None:
        raise SourceError(
            f"{source.address}: offset {source.offset_nm} nm, but {raw.address} has {raw.offset_nm} nm (z, y, x); "
            "crop both to the same place"
        )
    if at is None:
        raise SourceError(
            f"{source.address}: shape {source.shape}, but {raw.address} has shape {raw.shape} (z, y, x); both need the "
            f"same voxels: {_other_order(source, raw.shape)}crop or pad one of them, or say with `offset: [z, y, x]` "
            "at which voxel of raw it begins"
        )
    return _placed_at(source, at, raw.shape)


def _other_order(source: Source, shape: Index) -> str:
    """Return the axes by which a source of another order has the shape of raw, for a message; empty if none do."""
    if source.axes_from not in GUESSED:
        return ""
    orders = (order for order in permutations("zyx") if tuple(source.shape[order.index(a)] for a in "zyx") == shape)
    found = next(orders, None)
    return (
        f"if its axes are stored in another order, write `axes: {''.join(found)}` at this source; else "
        if found
        else ""
    )


def _placed_at(source: Source, at: Index, shape: Index) -> Placement:
    box = Box.of_shape(source.shape).shifted(at)
    found = Placed(source, at, shape)
    if box != Box.of_shape(shape):
        add_remark(found, f"{source.address}: lies at {box} (z, y, x) of the volume of shape {shape}; {_OUTSIDE}")
    return Placement(found, [box])


_OUTSIDE = "outside, labels count as not annotated, and a mask as 0"


def _section_numbers(source: Source, given: SourceConfig) -> list[int] | None:
    """Return the numbers in the file names of the sections; None if the source is no folder of sections.

    Raises
    ------
    SourceError
        If the sections run in the opposite order (`flip`), in which no number says where a section lies.
    """
    below = source
    while isinstance(below, View):
        below = below.below
    numbers: Sequence[Any] | None = getattr(below, "numbers", None)
    if numbers is None or len(numbers) != source.shape[0] or any(number != int(number) for number in numbers):
        return None
    if "z" in given.flip and given.first_number is not None:
        raise SourceError(f"{source.address}: `flip: [z]` and `first_number` contradict each other; keep one of them")
    return None if _is_flipped_in_z(source) else [int(number) for number in numbers]


def _is_flipped_in_z(source: Source) -> bool:
    while isinstance(source, View):
        if isinstance(source, Flipped) and source.flips("z"):
            return True
        source = source.below
    return False


def _placed_by_numbers(frame: Frame, given: SourceConfig, source: Source, numbers: Sequence[int]) -> Placement:
    """Return a folder of some sections, each at the section of raw that has its number."""
    raw = frame.raw
    if source.shape[1:] != raw.shape[1:]:
        raise SourceError(
            f"{source.address}: sections of {source.shape[1:]} voxels (y, x), but {raw.address} has {raw.shape[1:]}; "
            "crop or pad them, or write `offset: [z, y, x]`, the voxel of raw at which this source begins"
        )
    at = [n - given.first_number for n in numbers] if given.first_number is not None else _as_raw(raw, source, numbers)
    outside = [n for n, z in zip(numbers, at, strict=True) if not 0 <= z < raw.shape[0]]
    if outside:
        raise SourceError(
            f"{source.address}: with `first_number: {given.first_number}`, section {outside[0]} is none of the "
            f"{raw.shape[0]} sections of {raw.address}; correct `first_number`"
        )
    found = PlacedSections(source, at, raw.shape)
    example = f"number {numbers[0]} is section {at[0]} (the first is 0)"
    add_remark(
        found,
        f"{source.address}: {len(at)} of {raw.shape[0]} sections, placed by the numbers in their names: {example}; "
        f"{_OUTSIDE}",
    )
    return Placement(found, [Box((z, 0, 0), (z + 1, *raw.shape[1:])) for z in at])


def _as_raw(raw: Source, source: Source, numbers: Sequence[int]) -> list[int]:
    """Return the sections of raw that have these numbers.

    Raises
    ------
    SourceError
        If raw's sections have no numbers, or none of them has one of these.
    """
    of_raw = _section_numbers(raw, SourceConfig(path=raw.address))
    listed = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else f"{numbers[0]}"
    if of_raw is None:
        raise SourceError(
            f"{source.address}: {len(numbers)} sections with numbers {listed}, but {raw.address} has {raw.shape[0]} "
            f"sections without numbers. If number 0 is the first section of raw, write `first_number: 0` at this "
            "source; if number 1 is the first, `first_number: 1`"
        )
    place = {number: z for z, number in enumerate(of_raw)}
    unknown = [number for number in numbers if number not in place]
    if unknown:
        raise SourceError(
            f"{source.address}: number {unknown[0]}{f' and {len(unknown) - 1} more' if unknown[1:] else ''} in the "
            f"names of its {len(numbers)} sections, but {raw.address} has numbers {of_raw[0]} to {of_raw[-1]}; rename "
            "them, or write at this source `first_number`, the number that means the first section of raw"
        )
    return [place[number] for number in numbers]


def _pair_sections(raw: Source, source: Source) -> None:
    """Check by the numbers in the names that as many sections as raw has are those of raw, in the same order.

    ```
    raw      0  1  2  3  4         no numbers        3  4  5  6  7       0  1  2  3  4
    labels   0  1  2  4  5         0  1  2  4  5     5  6  7  8  9       1  2  3  4  5
             refused: gap          refused: gap      refused: overlap    told, counted from 1
    ```

    Raises
    ------
    SourceError
        If numbers are missing, or if a number means another section here than in raw.
    """
    own, of_raw = source.numbers, raw.numbers
    if own is None or own == of_raw:
        return
    _refuse_gaps(source)
    if of_raw is None or _is_flipped_in_z(source) != _is_flipped_in_z(raw):
        return
    ranges = f"numbers {own[0]} to {own[-1]}, and those of {raw.address} {of_raw[0]} to {of_raw[-1]}"
    advice = "rename them, or write at this source `first_number`, the number that means the first section of raw"
    if len({ours - theirs for ours, theirs in zip(own, of_raw, strict=True)}) > 1:
        raise SourceError(f"{source.address}: its {len(own)} sections have {ranges}, with other gaps; {advice}")
    if set(own) & set(of_raw) and {own[0], of_raw[0]} != {0, 1}:
        raise SourceError(
            f"{source.address}: its {len(own)} sections have {ranges}: in their order, they would lie on sections of "
            f"other numbers. If they belong to these, {advice} ({own[0]}); else leave out those that raw does not have"
        )
    add_remark(source, f"{source.address}: its {len(own)} sections have {ranges}; they are taken in their order")


def _refuse_gaps(source: Source) -> None:
    """Raise where numbers are missing, since all sections behind a gap would lie beside their places."""
    try:
        source.refuse_gaps()
    except SourceError as error:
        raise SourceError(
            f"{error}. Without them, no number says where the sections after a gap lie. If only some sections of raw "
            "are annotated, name these files by a pattern, and write `first_number`: the number of the first section "
            "of raw"
        ) from None


def _offset_in_voxels(frame: Frame, source: Source) -> Index | None:
    """Return the voxel of raw at which a source begins by the offsets of both; None if its file says no offset."""
    if source.offset_nm is None or (source.shape == frame.raw.shape and frame.raw.offset_nm is None):
        return None
    begin = frame.raw.offset_nm or (0.0, 0.0, 0.0)
    steps = [(a - b) / edge for a, b, edge in zip(source.offset_nm, begin, frame.voxel_size_nm, strict=True)]
    if any(abs(step - round(step)) > TOLERANCE for step in steps):
        raise SourceError(
            f"{source.address}: offset {source.offset_nm} nm, but {frame.raw.address} has {tuple(begin)} nm (z, y, x): "
            f"{steps} voxels are not whole; correct the offset, or crop both to the same place"
        )
    z, y, x = (round(step) for step in steps)
    return z, y, x
