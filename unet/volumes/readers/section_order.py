"""Decide the order of sections by the numbers in their file names. Only names are read here, no files.

1. The names are read as columns of numbers, in every way that makes sense (`section_names`).
2. A column whose values all differ may be the number of the section. The one that steps evenly is taken.
3. Other columns have to move with it, as times and depths do, or be measured values that jitter.
4. Where two numbers, or two ways to read them, give different orders, the names are refused with both.
5. Numbers that are missing between even steps are gaps. Volumes of intensities refuse gaps; labels may have them.

```
slice_0001_z=0.010um.tif      columns: 1, 2, 4 (steps of 1)   and 0.010, 0.020, 0.040
slice_0002_z=0.020um.tif  ->  the section number is the first; the depth moves with it
slice_0004_z=0.040um.tif      gap: 3
```
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePath

from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.number_steps import Stepping, stepping_of
from unet.volumes.readers.section_names import (
    DEPTH_WORDS,
    SERIES_WORDS,
    Column,
    Number,
    Reading,
    pattern_of,
    readings,
    text_of,
    with_whole_time_stamps,
)

FEW_SECTIONS = 6
"""With fewer sections, a number that repeats in no order may be one of channels or tiles."""
COUNTED_ELSEWHERE = SERIES_WORDS - {"p", "g", "m", "v", "w", "r", "pos", "position"}
"""Text before a number that hardly ever counts sections."""


@dataclass(frozen=True)
class SectionOrder:
    """Names of sections in their order.

    Attributes
    ----------
    names : tuple of str
        File names, by section.
    numbers : tuple of int or Decimal
        Section number in each name.
    gaps : str or None
        Which numbers are missing between them, for a message; None if none is.
    remarks : tuple of str
        What the user has to know about the order.
    """

    names: tuple[str, ...]
    numbers: tuple[Number, ...]
    gaps: str | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Found:
    """The order that one reading of the names gives."""

    order: SectionOrder
    reading: Reading
    stepping: Stepping


def section_order(names: Iterable[str], folder: str) -> SectionOrder:
    """Return the names of sections in the order of their numbers.

    Parameters
    ----------
    names : iterable of str
        File names without their folder, in any order.
    folder : str
        The folder, for messages.

    Raises
    ------
    SourceError
        If the names are of several series, or two names have the same number. If two readings of the names give
        different orders.
    """
    names = sorted(names)
    _refuse_mixed_text(names, folder)
    found: list[_Found] = []
    problem: SourceError | None = None
    for written in (names, with_whole_time_stamps(names)):
        if written is None or len({text_of(name) for name in written}) > 1:
            continue
        if any(one.stepping.is_lattice for one in found):
            break
        found = []
        for reading in readings(written):
            try:
                found.append(_ordered(names, reading, folder))
            except SourceError as error:
                problem = problem or error
    if found:
        return _agreed(found, folder)
    raise problem or SourceError(
        f"{folder}: the numbers in {names[0]} and {names[-1]} are not written in the same way; rename the files, with "
        "one number each"
    )


def _refuse_mixed_text(names: Sequence[str], folder: str) -> None:
    """Raise if names differ in more than numbers. The message counts the files of each kind of name."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        if not name.isprintable():
            raise SourceError(f"{folder}: the name {name!r} holds a line break or another control character; rename it")
        kinds.setdefault(text_of(name), []).append(name)
    if len(kinds) > 1:
        one, other = sorted(kinds.values(), key=len, reverse=True)[:2]
        more = f", and {len(kinds) - 2} more kinds of names" if len(kinds) > 2 else ""
        raise SourceError(
            f"{folder}: {one[0]} ({_files(len(one))}) and {other[0]} ({_files(len(other))}) are not of one "
            f"series{more}; the names of sections differ in numbers only: move or rename some, or choose files by a "
            f"pattern, such as {_pattern(folder, one, names)}"
        )


def _agreed(found: Sequence[_Found], folder: str) -> SectionOrder:
    """Return the order of the best readings. Raise if two of them give different orders."""
    best = min(one.stepping.quality for one in found)
    first, *others = [one for one in found if one.stepping.quality == best]
    remarks = list(first.order.remarks)
    for other in others:
        if other.order.names == first.order.names:
            continue
        if other.reading.minus == first.reading.minus:
            raise SourceError(
                f"{folder}: the numbers in the names can be read in two ways, which give different orders: "
                f"{_shown(first.order)}, or {_shown(other.order)}; rename the files, such as to s0000, s0001, ..."
            )
        if DEPTH_WORDS & {*first.reading.hyphens}:
            meaning = "a minus sign" if any(first.reading.minus) else "a separator"
            remarks.append(
                f"{folder}: the hyphen before the numbers is read as {meaning}, so the order is {_shown(first.order)}; "
                "if that is upside down, set `flip: [z]`"
            )
            break
    return SectionOrder(first.order.names, first.order.numbers, first.order.gaps, tuple(remarks))


def _ordered(names: Sequence[str], reading: Reading, folder: str) -> _Found:
    """Return the order of the names by the one number that counts the sections.

    Raises
    ------
    SourceError
        If no number differs in every name, or if other numbers are those of other series or give another order.
    """
    if len(names) == 1:
        counted = [min(reading.columns, key=_rank)] if reading.columns else []
        number = counted[0].values[0] if counted else 0
        return _Found(SectionOrder(tuple(names), (number,)), reading, stepping_of((number,)))
    varying = [column for column in reading.columns if column.distinct > 1]
    unique = [column for column in varying if column.is_unique]
    if not reading.columns:
        raise SourceError(f"{folder}: {names[0]} and {names[1]} have no number; name sections by their numbers")
    if not unique:
        raise _several_series(names, varying or reading.columns[:1], folder)
    column = min(unique, key=_rank)
    stepping = stepping_of(column.values)
    _refuse_one_section_of_several_series(names, column, reading, folder)
    remarks = list(stepping.remarks(column.name, folder))
    gaps = stepping.gaps
    for other in varying:
        if other is column:
            continue
        if other.is_unique:
            _refuse_another_order(names, column, other, folder)
            if gaps is None and not column.counts_sections and not other.is_measured:
                gaps = stepping_of(other.values).gaps
        else:
            _refuse_repeated(names, column, other, varying, folder)
    if column.label in COUNTED_ELSEWHERE:
        remarks.append(f"{folder}: {column.name} counts the sections, since no other number differs in the names")
    indices = sorted(range(len(names)), key=lambda i: column.values[i])
    order = SectionOrder(
        tuple(names[i] for i in indices), tuple(column.values[i] for i in indices), gaps, tuple(remarks)
    )
    return _Found(order, reading, stepping)


def _rank(column: Column) -> tuple[float, ...]:
    """Return a key that is smallest for the number that counts the sections."""
    stepping = stepping_of(column.values)
    return (
        not stepping.is_lattice,
        column.label in SERIES_WORDS and not column.is_decimal,
        not column.counts_sections,
        stepping.quality,
        column.is_decimal,
        stepping.step != 1,
        max(len(str(value)) for value in column.values),
        -column.place,
    )


def _refuse_another_order(names: Sequence[str], column: Column, other: Column, folder: str) -> None:
    """Raise if another number that differs in every name says another order, and may well be right."""
    ours, theirs = (sorted(range(len(names)), key=lambda i, c=c: c.values[i]) for c in (column, other))  # type: ignore[misc]
    stepping, others = stepping_of(column.values), stepping_of(other.values)
    if ours == theirs:
        return
    if ours == theirs[::-1]:  # a stage that moves down while sections are counted up
        certain = stepping.step == 1 and not column.is_decimal and (others.step != 1 or other.is_decimal)
    else:
        sideways = other.label in ("x", "y") and other.is_measured
        certain = stepping.is_lattice and (sideways or not (others.is_lattice or others.is_drifting))
    if not certain:
        orders = [_shown(SectionOrder(tuple(names[i] for i in order), ())) for order in (ours, theirs)]
        raise SourceError(
            f"{folder}: {column.name} and {other.name} give different orders: {orders[0]}, or {orders[1]}; leave one "
            "number in the names"
        )


def _refuse_repeated(
    names: Sequence[str], column: Column, other: Column, varying: Sequence[Column], folder: str
) -> None:
    """Raise if a number that repeats is one of channels, tiles or times, or if sections have the same number."""
    values = [value for _, value in sorted(zip(column.values, other.values, strict=True))]
    steps = [b - a for a, b in pairwise(values)]
    moves_along = all(step >= 0 for step in steps) or all(step <= 0 for step in steps)
    stepping = stepping_of(column.values)
    mostly_differs = other.distinct > len(values) / 2
    if other.counts_sections and not column.counts_sections:
        raise _several_series(names, varying, folder)
    if moves_along:
        if mostly_differs and not other.is_measured and not stepping.is_lattice:
            raise _several_series(names, varying, folder)
        return
    jitters = other.is_measured or (mostly_differs and len(values) >= FEW_SECTIONS)
    if not (jitters and stepping.is_lattice):
        raise _several_series(names, varying, folder)


def _refuse_one_section_of_several_series(names: Sequence[str], column: Column, reading: Reading, folder: str) -> None:
    """Raise if the number of the section is the same in all names, and what differs is a channel or a tile."""
    if column.label in {"c", "ch", "chan", "channel", "tile", "row", "col", "column", "grid"}:
        fixed = [other for other in reading.columns if other.counts_sections and other.distinct == 1]
        if fixed:
            raise SourceError(
                f"{folder}: {len(names)} files of section {fixed[0].values[0]}, which differ in {column.name} "
                f"({_range(column)}), and not sections of one volume; choose one by its path, such as "
                f"{_joined(folder, names[0])}"
            )


def _several_series(names: Sequence[str], varying: Sequence[Column], folder: str) -> SourceError:
    """Return the error of names that differ in several numbers that are independent, or that repeat a number."""
    repeated = [column for column in varying if not column.is_unique]
    index = [column for column in repeated if not column.is_measured or column.counts_sections]
    if len(index) < 2:
        index = [column for column in repeated if not column.is_decimal] or repeated
    counting = [column for column in varying if column.is_unique and column.counts_sections]
    section = max(counting + index, key=lambda c: (c.counts_sections, c.label not in SERIES_WORDS, c.distinct, c.place))
    others = [column for column in index if column is not section]
    if not others:
        one, other = _pair_of_same_number(names, section)
        return SourceError(f"{folder}: {one} and {other} have the same number; keep one of them")
    series: dict[tuple[Number, ...], list[str]] = {}
    for i, name in enumerate(names):
        series.setdefault(tuple(column.values[i] for column in others), []).append(name)
    counts = sorted({len(files) for files in series.values()})
    each = f"{counts[0]} sections each" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} sections"
    differ = ", and ".join(f"{column.name} ({_range(column)})" for column in (*others, section))
    patterns = [_pattern(folder, files, names) for files in list(series.values())[:2]]
    return SourceError(
        f"{folder}: {len(names)} files of {len(series)} series of {each}, since the names differ in {differ}; one "
        f"volume is one series: give one of them as the path, such as {patterns[0]}; if they are channels of the same "
        f"sections, give a list, such as [{', '.join(patterns)}]"
    )


def _pair_of_same_number(names: Sequence[str], column: Column) -> tuple[str, str]:
    """Return the first two names that have the same number."""
    seen: dict[Number, str] = {}
    for name, value in zip(names, column.values, strict=True):
        if value in seen:
            return seen[value], name
        seen[value] = name
    return names[0], names[1]


def _range(column: Column) -> str:
    values = sorted(set(column.values))
    return f"{values[0]} and {values[1]}" if len(values) == 2 else f"{values[0]} to {values[-1]}"


def _shown(order: SectionOrder) -> str:
    names = order.names
    return ", ".join(names if len(names) <= 4 else [*names[:3], "...", names[-1]])


def _files(count: int) -> str:
    return f"{count} file{'s' if count > 1 else ''}"


def _pattern(folder: str, series: Sequence[str], names: Sequence[str]) -> str:
    """Return the path that chooses one series of the names in a folder."""
    return _joined(folder, pattern_of(series, sorted({*names} - {*series})))


def _joined(folder: str, name: str) -> str:
    return str(PurePath(folder) / name)
