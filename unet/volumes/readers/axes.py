"""Bring the axes of a stored array into the order `(c, z, y, x)`.

A file may name its axes, the user may name them (`axes` of a source), or nobody does:

```
stored (5, 80, 72, 1), named "zyxc"   ->  1 channel of (5, 80, 72)
stored (72, 80, 5), named "xyz"       ->  (5, 80, 72), transposed
stored (2, 5, 80, 72), no names       ->  refused: four long axes; write axes: czyx
stored (80, 72, 5), no names          ->  refused: sections of 5 voxels, or 5 sections? write axes: yxz, xyz or zyx
```

An axis of length 1 that is neither z, y, x nor c is left out. A longer axis without a meaning is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unet.geometry.box import Box, Index
from unet.volumes.readers.errors import SourceError

KNOWN = "czyx"
UNKNOWN = "?"
NAMELESS = ("", UNKNOWN)
"""Names of axes to which the file gives none."""
SYNONYMS = {
    **dict.fromkeys(("channel", "channels", "ch", "band"), "c"),
    **dict.fromkeys(("time", "frame", "timepoint"), "t"),
    **dict.fromkeys(("depth", "section", "sections", "plane", "slice"), "z"),
    **dict.fromkeys(("height", "row", "rows"), "y"),
    **dict.fromkeys(("width", "column", "columns", "col"), "x"),
}
"""One letter for the words by which writers name axes."""


@dataclass(frozen=True)
class AxisOrder:
    """The order of the axes of a stored array.

    Attributes
    ----------
    names : tuple of str
        One letter per stored axis: c, z, y or x; another letter for an axis of length 1 that is left out.
    stored : tuple of int
        Lengths of the stored axes.
    origin : str
        Who names the axes, for messages and for `inspect`.
    remark : str or None
        What the user has to look at, because nobody names the axes and their lengths are unusual.
    """

    names: tuple[str, ...]
    stored: Index
    origin: str
    remark: str | None = None

    @property
    def shape(self) -> Index:
        """Return `(z, y, x)` in voxels; without an axis z there is one section."""
        z, y, x = (self._length(axis) for axis in "zyx")
        return z, y, x

    @property
    def channels(self) -> int:
        """Return the number of channels."""
        return self._length("c")

    def selection(self, box: Box) -> tuple[slice, ...]:
        """Return a box `(z, y, x)` as slices of the stored array, with all channels."""
        wanted = dict(zip(KNOWN, (slice(0, self.channels), *box.slices), strict=True))
        return tuple(wanted.get(name, slice(0, 1)) for name in self.names)

    def arranged(self, values: np.ndarray) -> np.ndarray:
        """Return what was read by `selection` as `(z, y, x)`, or as `(c, z, y, x)` if there are several channels.

        >>> order = axis_order((2, 4, 3), ("x", "y", "z"), "a.h5", "axistags")
        >>> order.arranged(np.zeros((2, 4, 3))).shape
        (3, 4, 2)
        """
        by_name = sorted(range(values.ndim), key=lambda i: KNOWN.find(self.names[i]))  # axes left out come first
        lengths = dict(zip(self.names, values.shape, strict=True))
        shape = tuple(lengths.get(axis, 1) for axis in KNOWN)
        return values.transpose(by_name).reshape(shape if self.channels > 1 else shape[1:])

    def by_axis(self, values: Sequence[float] | None) -> tuple[float, ...] | None:
        """Return `(z, y, x)` of one number per stored axis; None if z, y or x is not stored.

        >>> axis_order((2, 4, 3), ("x", "y", "z"), "a.h5", "axistags").by_axis((4.0, 5.0, 40.0))
        (40.0, 5.0, 4.0)
        """
        if values is None or not set("zyx") <= set(self.names):
            return None
        return tuple(float(values[self.names.index(axis)]) for axis in "zyx")

    def chunk(self, stored: Sequence[int]) -> Index:
        """Return the shape `(z, y, x)` of a chunk from its lengths along the stored axes.

        >>> axis_order((2, 4, 3), ("x", "y", "c"), "a.h5", "axistags").chunk((2, 3, 1))
        (1, 3, 2)
        """
        z, y, x = (int(stored[self.names.index(axis)]) if axis in self.names else 1 for axis in "zyx")
        return z, y, x

    def _length(self, axis: str) -> int:
        return self.stored[self.names.index(axis)] if axis in self.names else 1


def axis_order(
    stored: Sequence[int],
    names: Sequence[str] | None,
    where: str,
    origin: str = "",
    configured: str | None = None,
) -> AxisOrder:
    """Return the order of the axes of a stored array.

    >>> axis_order((5, 80, 72, 1), ("z", "y", "x", "c"), "a.h5", "axistags").shape
    (5, 80, 72)
    >>> axis_order((1, 5, 80, 72), None, "a.h5").names
    ('?', 'z', 'y', 'x')

    Parameters
    ----------
    stored : sequence of int
        Lengths of the stored axes.
    names : sequence of str, or None
        Name of each stored axis as the file gives it: one letter, or a word of `SYNONYMS`; any other word has no
        meaning here. None if the file does not name its axes.
    where : str
        Address of the source, for messages.
    origin : str
        Where the file names them, such as "the attribute axistags".
    configured : str or None
        Names given by the user (`axes` of the source), which overrule the file: one letter per stored axis, or per
        stored axis longer than 1.

    Raises
    ------
    SourceError
        If y or x is missing, or an axis is named twice. If an axis longer than 1 is not one of c, z, y and x. If nobody
        names the axes, and the last of three may count the sections.
    """
    lengths = tuple(int(n) for n in stored)
    if configured is not None:
        return AxisOrder(_configured_names(configured, lengths, where), lengths, "`axes` of the configuration")
    if names is None:
        return _unnamed_order(lengths, where)
    letters = _with_the_one_left(tuple(_letter(name) for name in names), names, lengths)
    _refuse_unusable(letters, lengths, where, origin)
    guessed = next(
        (letter for letter, name in zip(letters, names, strict=True) if letter in KNOWN and name in NAMELESS), None
    )
    remark = f"{where}: the axis without a name by {origin} is read as {guessed}, since the others are named"
    return AxisOrder(letters, lengths, origin, remark if guessed else None)


def _letter(name: str) -> str:
    lower = name.strip().lower()
    return SYNONYMS.get(lower, lower if len(lower) == 1 else UNKNOWN)


def _with_the_one_left(letters: tuple[str, ...], names: Sequence[str], lengths: Index) -> tuple[str, ...]:
    """Return the letters, of which the only long axis without a name has the only one of z, y and x that is left.

    >>> _with_the_one_left(("x", "?", "z"), ("x", "", "z"), (36, 40, 5))
    ('x', 'y', 'z')
    """
    nameless = [i for i, (name, n) in enumerate(zip(names, lengths, strict=False)) if name in NAMELESS and n > 1]
    left = [axis for axis in "zyx" if axis not in letters]
    if len(nameless) != 1 or len(left) != 1:
        return letters
    return tuple(left[0] if i == nameless[0] else letter for i, letter in enumerate(letters))


def _configured_names(axes: str, lengths: Index, where: str) -> tuple[str, ...]:
    names, long = tuple(axes), [i for i, n in enumerate(lengths) if n > 1]
    if len(names) == len(long) != len(lengths):  # the user names the axes that are there to see
        spread = [UNKNOWN] * len(lengths)
        for i, name in zip(long, names, strict=True):
            spread[i] = name
        names = tuple(spread)
    if len(names) != len(lengths):
        raise SourceError(
            f"{where}: `axes: {axes}` names {len(axes)} axes, but the array has {len(lengths)}, of lengths {lengths}; "
            "write one letter of c, z, y and x per axis, in the order of the lengths"
        )
    _refuse_unusable(names, lengths, where, f"`axes: {axes}`")
    return names


def _unnamed_order(lengths: Index, where: str) -> AxisOrder:
    """Return the order of axes that nobody names: z, y, x without the axes of length 1 at both ends."""
    names, begin, end = [UNKNOWN] * len(lengths), 0, len(lengths)
    while end - begin > 3 and lengths[begin] == 1:
        begin += 1
    while end - begin > 2 and lengths[end - 1] == 1:
        end -= 1
    if end - begin not in (2, 3):
        raise SourceError(
            f"{where}: the array has {len(lengths)} axes of lengths {lengths}, and the file does not name them; write "
            f"their names in this order, as in `{{path: {where}, axes: {_guess(lengths)}}}` (c: channels)"
        )
    names[begin:end] = "zyx"[3 - (end - begin) :]
    refuse_sections_last(lengths[begin:end], where)
    return AxisOrder(tuple(names), lengths, "the usual order", _shortest_axis(lengths[begin:end], where))


def _guess(lengths: Index) -> str:
    """Return names for an example. Channels are most likely the shortest axis, and never y or x before z.

    >>> _guess((2, 5, 80, 72)), _guess((5, 2, 80, 72)), _guess((5, 80, 72, 2)), _guess((9, 3, 5, 80, 72))
    ('czyx', 'zcyx', 'zyxc', 'tczyx')
    """
    if len(lengths) != 4:
        return "t" * max(0, len(lengths) - 4) + "czyx"[-len(lengths) :]
    return min(("czyx", 0), ("zcyx", 1), ("zyxc", 3), key=lambda one: lengths[one[1]])[0]


def refuse_sections_last(lengths: Sequence[int], where: str, times: float = 2.0) -> None:
    """Raise if the last of three axes that nobody names is much the shortest: it is rather sections than x.

    Arrays (x, y, z) of MATLAB, ITK and ImageJ, and (y, x, z) of scikit-image, have such lengths. So have colours.

    Parameters
    ----------
    times : float
        How many times shorter it is than the other two. A square in front of a shorter axis is refused as well.

    Raises
    ------
    SourceError
        If it is so much shorter.
    """
    if len(lengths) != 3:
        return
    z, y, x = lengths
    colours = f", `axes: yxc` if it has {x} colours" if x in (3, 4) else ""
    if times * x < min(z, y) or (times <= 2 and z == y > x > 1):
        raise SourceError(
            f"{where}: the file does not name its axes, of lengths {tuple(lengths)}, of which the last, the shortest, "
            "may count the sections. Write at this source `axes: yxz` if the array is (y, x, z), or "
            f"`axes: xyz` if it is (x, y, z){colours}. If there are {z} sections of {y} x {x} voxels, write `axes: zyx`"
        )


def _shortest_axis(lengths: Sequence[int], where: str) -> str | None:
    """Return a remark if y or x is shorter than z, so that another order is thinkable. Squares are sections."""
    if len(lengths) != 3 or min(lengths[1:]) >= lengths[0] or lengths[1] == lengths[2]:
        return None
    return (
        f"{where}: the file does not name its axes, of lengths {tuple(lengths)}; they are read as z, y, x. If that is "
        "wrong, write `axes` at this source, such as xyz"
    )


def _refuse_unusable(names: Sequence[str], lengths: Index, where: str, origin: str) -> None:
    listed = ", ".join(f"{name} of {n}" for name, n in zip(names, lengths, strict=False))
    if len(names) != len(lengths) or not {"y", "x"} <= set(names):
        problem = "an image has y and x"
    elif any(names.count(axis) > 1 for axis in KNOWN):
        problem = "an axis is named twice"
    elif any(n != 1 for name, n in zip(names, lengths, strict=True) if name not in KNOWN):
        problem = "only c (channels), z, y and x may be longer than 1"
    else:
        return
    raise SourceError(
        f"{where}: axes {listed} by {origin}; {problem}: extract one time point or position, or name each axis by "
        "`axes` at this source: one letter of c, z, y and x per axis"
    )
