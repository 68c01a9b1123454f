"""Find the numbers in the file names of sections. Only names are read here, no files.

A name is text and numbers in turn. The names of one series have the same text, so that their numbers form columns:

```
img_c0_z-2.5um.tif    ->  "img_c" 0 "_z" -2.5 "um"        columns: c = (0, 0), z = (-2.5, -2.0)
img_c0_z-2.0um.tif    ->  "img_c" 0 "_z" -2.0 "um"
```

Some names can be read in more than one way: `1.10` is one number or two, and a hyphen is a minus sign or separates.
`readings` returns every way, the likeliest first.
"""

import fnmatch
import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from pathlib import PurePath

Number = int | Decimal

NUMBER = re.compile(r"([-+\N{MINUS SIGN}]?)([0-9]+(?:[.,][0-9]+)*(?:[eE][-+][0-9]+)?)")
WORDS = {
    "sections": "s sec sect section sections slice slices sl slc z zslice zplane layer plane",
    "series": "c ch chan channel g grid r row col column x y tile p pos position t time timepoint tp w m v",
    "depths": "z dz depth focus height",
}
SECTION_WORDS = frozenset(WORDS["sections"].split())
"""Text before a number of sections."""
SERIES_WORDS = frozenset(WORDS["series"].split())
"""Text before a number of channels, tiles, positions or times: what one volume has one of."""
DEPTH_WORDS = frozenset(WORDS["depths"].split())
"""Text before a number that may be negative."""
LENGTH = re.compile(r"\s*(nm|um|µm|μm|mm|micron|a\b|å)", re.IGNORECASE)
DATE = r"(?:19|20)[0-9]{2}([-_.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12][0-9]|3[01])"
CLOCK = r"(?:[01][0-9]|2[0-3])([-_.:h]?)[0-5][0-9]{}[0-5][0-9]s?"
TIME_STAMP = re.compile(
    rf"(?<![0-9]){DATE}(?:[T_ .-]+{CLOCK.format(r'[-_.:m]?')})?(?![0-9])"
    r"|(?<![0-9])(?:[01][0-9]|2[0-3])([-_.:h])[0-5][0-9][-_.:m][0-5][0-9](?![0-9])"
)
MEASURED_FROM = 1000
"""Whole numbers from here on may be measured, such as a stage position in nm or a time."""


@dataclass(frozen=True)
class Column:
    """A number that every name of a series has at the same place.

    Attributes
    ----------
    label : str
        Letters before the number, in lower case.
    values : tuple of int or Decimal
        Value in each name.
    place : int
        How manieth number of the name it is.
    """

    label: str
    values: tuple[Number, ...]
    place: int

    @property
    def distinct(self) -> int:
        """Return the number of different values."""
        return len(set(self.values))

    @property
    def is_unique(self) -> bool:
        """Return whether the number differs in every name."""
        return self.distinct == len(self.values)

    @property
    def is_decimal(self) -> bool:
        """Return whether the number is written with a fraction."""
        return isinstance(self.values[0], Decimal)

    @property
    def is_measured(self) -> bool:
        """Return whether the number may be a measured one, such as a stage position, which may repeat or jitter."""
        return self.is_decimal or not all(-MEASURED_FROM < value < MEASURED_FROM for value in self.values)

    @property
    def counts_sections(self) -> bool:
        """Return whether the text before the number says that it counts sections."""
        return self.label in SECTION_WORDS and not self.is_decimal

    @property
    def name(self) -> str:
        """Return how messages name the number."""
        return f"the number after {self.label!r}" if self.label else f"number {self.place + 1}"


@dataclass(frozen=True)
class Reading:
    """One way to read the numbers of all names.

    Attributes
    ----------
    columns : tuple of Column
        All numbers.
    minus : tuple of bool
        For each hyphen that may be a minus sign or a separator, whether it is read as a minus sign.
    hyphens : tuple of str
        The text before each of these hyphens.
    """

    columns: tuple[Column, ...]
    minus: tuple[bool, ...] = ()
    hyphens: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Token:
    text: str
    sign: str
    digits: str


def text_of(name: str) -> tuple[str, ...]:
    """Return the text of a name around its numbers. A hyphen before a number may be a sign, and is left out.

    >>> text_of("img_c0_z-2.tif"), text_of("2024-05-12.tif")
    (('img_c', '_z', ''), ('', '-', '-', ''))
    """
    tokens, tail = _split(PurePath(name).stem)
    return (*(token.text for token in tokens), tail)


def pattern_of(names: Sequence[str], without: Sequence[str] = ()) -> str:
    """Return a pattern of file names that fits the names of one series: what differs becomes `*`.

    Parameters
    ----------
    names
        The names of the series.
    without
        Names that should not fit. Where `*` would fit them, each digit that differs becomes `[0-9]`.

    >>> pattern_of(["a_c0_z1.tif", "a_c0_z2.tif"]), pattern_of(["a1.tif", "a2.tif"], ["a1_mask.tif"])
    ('a_c0_z*.tif', 'a[0-9].tif')
    """
    split = [re.split("([0-9]+)", name) for name in names]
    if len({len(parts) for parts in split}) > 1:
        return "*" + PurePath(names[0]).suffix
    columns = [sorted(set(column)) for column in zip(*split, strict=True)]
    parts = [glob.escape(column[0]) if len(column) == 1 else "*" for column in columns]
    pattern = re.sub(r"\*+", "*", "".join(parts))
    if any(fnmatch.fnmatchcase(name, pattern) for name in without):
        digits = ["[0-9]" * len(column[0]) if len({*map(len, column)}) == 1 else "[0-9]*" for column in columns]
        return "".join(part if part != "*" else one for part, one in zip(parts, digits, strict=True))
    return pattern


def with_whole_time_stamps(names: Sequence[str]) -> list[str] | None:
    """Return the names with each date and time as one number; None where not all names have one.

    >>> with_whole_time_stamps(["2024-05-12_23-59-30_s1.tif"])
    ['20240512235930_s1.tif']
    """
    if not all(TIME_STAMP.search(name) for name in names):
        return None
    return [TIME_STAMP.sub(lambda found: re.sub("[^0-9]", "", found[0]), name) for name in names]


def readings(names: Sequence[str]) -> Iterator[Reading]:
    """Yield every way to read the numbers of the names of one series, the likeliest first.

    Parameters
    ----------
    names
        Names with the same `text_of`.
    """
    split = [_split(PurePath(name).stem) for name in names]
    if not split[0][0]:
        yield Reading(())
        return
    tokens = [list(column) for column in zip(*(tokens for tokens, _ in split), strict=True)]
    after = [*(column[0].text for column in tokens[1:]), split[0][1]]
    slots = [_ways(place, *of_slot) for place, of_slot in enumerate(zip(tokens, after, strict=True))]
    for ways in product(*slots):
        yield Reading(
            tuple(column for way in ways for column in way.columns),
            tuple(minus for way in ways for minus in way.minus),
            tuple(text for way in ways for text in way.hyphens),
        )


def _split(stem: str) -> tuple[list[_Token], str]:
    """Return text, sign and digits of each number, and the text after the last one."""
    tokens: list[_Token] = []
    end = 0
    for found in NUMBER.finditer(stem):
        text, sign = stem[end : found.start()], found[1]
        if sign and not text and tokens:  # between digits, as in 2024-05, a hyphen separates
            text, sign = sign, ""
        tokens.append(_Token(text, sign, found[2]))
        end = found.end()
    return tokens, stem[end:]


def _ways(place: int, tokens: Sequence[_Token], after: str) -> list[Reading]:
    """Return the ways to read one number of all names, the likeliest first."""
    letters = re.search(r"([^\W\d_]*)[\W_]*$", tokens[0].text)
    label = letters[1].lower() if letters else ""
    ways = []
    for minus in _minus_signs(tokens, label):
        signs = [-1 if token.sign in ("-", "\N{MINUS SIGN}") and minus is not False else 1 for token in tokens]
        for values in _values(tokens, signs, after):
            columns = tuple(Column(label if i == 0 else "", v, place) for i, v in enumerate(values))
            ways.append(Reading(columns, () if minus is None else (minus,), () if minus is None else (label,)))
    return ways


def _minus_signs(tokens: Sequence[_Token], label: str) -> list[bool | None]:
    """Return whether hyphens before a number are minus signs: None where this is certain, or both where it is not."""
    text, varies = tokens[0].text, len({token.digits for token in tokens}) > 1
    if {token.sign for token in tokens} != {"-"} or text == "" or text[-1] in "_=(":
        return [None]
    if not varies:
        return [False]
    padded = any(re.match("0[0-9]", token.digits) for token in tokens)
    return [True, False] if label in DEPTH_WORDS and not padded else [False, True]


def _values(tokens: Sequence[_Token], signs: Sequence[int], after: str) -> list[list[tuple[Number, ...]]]:
    """Return the ways to read digits with points: as one decimal number, or as several whole numbers."""
    digits = [token.digits for token in tokens]
    shapes = {re.sub("[0-9]+", "0", text) for text in digits}
    apart: list[tuple[Number, ...]] = []
    if len(shapes) == 1 and re.fullmatch("0(?:[.,]0)*", min(shapes)):
        whole = [[int(part) for part in re.split("[.,]", text)] for text in digits]
        apart = list(zip(*([sign * one[0], *one[1:]] for sign, one in zip(signs, whole, strict=True)), strict=True))
    if shapes == {"0"} or (len(set(digits)) == 1 and apart):
        return [apart]
    decimal: list[tuple[Number, ...]] = []
    marks = {mark for text in digits for mark in text if mark in ".,"}
    if len(marks) <= 1 and all(re.fullmatch(r"0(?:[.,]0)?(?:[eE][-+]0)?", shape) for shape in shapes):
        decimal = [tuple(sign * Decimal(text.replace(",", ".")) for sign, text in zip(signs, digits, strict=True))]
    counts_inside = len(apart) == 2 and len(set(apart[0])) > 1  # 9.95, 10.0: what is before the point counts as well
    if decimal and (LENGTH.match(after) or -1 in signs or counts_inside):
        return [decimal]
    widths = {len(text) - 1 - max(text.rfind("."), text.rfind(",")) for text in digits}
    numbered = len(widths) == 1 and min(widths) >= 3  # as in stack1.0001
    return [way for way in ([apart, decimal] if numbered else [decimal, apart]) if way]
