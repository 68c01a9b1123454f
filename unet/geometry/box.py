"""Boxes of voxels, and the types of indices."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any, Self

Index = tuple[int, ...]


@dataclass(frozen=True, order=True)
class Box:
    """Half-open box of voxels, ``start <= voxel < stop``, usually with axes ``(z, y, x)``.

    >>> box = Box((0, 2, 2), (1, 6, 5))
    >>> box.shape, box.size
    ((1, 4, 3), 12)
    >>> box.grown((0, 1, 1)).clipped((1, 6, 9))
    Box(start=(0, 1, 1), stop=(1, 6, 6))
    """

    start: Index
    stop: Index

    @classmethod
    def of_shape(cls, shape: Index) -> Self:
        """Return the box from the origin to ``shape``."""
        return cls((0,) * len(shape), tuple(int(n) for n in shape))

    @property
    def shape(self) -> Index:
        """Voxels along each axis; never negative."""
        return tuple(max(0, hi - lo) for lo, hi in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Number of voxels."""
        return prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Slices that select the box in an array of the whole volume."""
        return tuple(slice(lo, hi) for lo, hi in zip(self.start, self.stop, strict=True))

    @property
    def trailing(self) -> tuple[Any, ...]:
        """Slices that select the box in the last axes of an array of the whole volume."""
        return (..., *self.slices)

    def grown(self, margin: Index) -> "Box":
        """Return the box enlarged by ``margin`` voxels on both sides of each axis; it may exceed the volume."""
        return Box(
            tuple(lo - m for lo, m in zip(self.start, margin, strict=True)),
            tuple(hi + m for hi, m in zip(self.stop, margin, strict=True)),
        )

    def intersected(self, other: "Box") -> "Box":
        """Return the box of the common voxels; it is empty (size 0) if there are none."""
        start = tuple(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = tuple(min(a, b) for a, b in zip(self.stop, other.stop, strict=True))
        return Box(start, tuple(max(lo, hi) for lo, hi in zip(start, stop, strict=True)))

    def clipped(self, shape: Index) -> "Box":
        """Return the part of the box inside a volume of ``shape``."""
        return self.intersected(Box.of_shape(shape))

    def shifted(self, offset: Index) -> "Box":
        """Return the box moved by ``offset`` voxels."""
        return Box(
            tuple(lo + d for lo, d in zip(self.start, offset, strict=True)),
            tuple(hi + d for hi, d in zip(self.stop, offset, strict=True)),
        )

    def relative_to(self, origin: Index) -> "Box":
        """Return the box in coordinates relative to ``origin``."""
        return self.shifted(tuple(-d for d in origin))

    def contains(self, other: "Box") -> bool:
        """Tell whether every voxel of ``other`` is in this box."""
        return self.intersected(other).shape == other.shape

    def __str__(self) -> str:
        return ",".join(f"{lo}:{hi}" for lo, hi in zip(self.start, self.stop, strict=True))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the box of a text; the inverse of ``str(box)``.

        >>> Box.parse("0:1,2:6")
        Box(start=(0, 2), stop=(1, 6))
        """
        pairs = [part.split(":") for part in text.split(",")]
        return cls(tuple(int(lo) for lo, _ in pairs), tuple(int(hi) for _, hi in pairs))


def enclosing(boxes: Iterable[Box]) -> Box:
    """Return the smallest box that contains all given boxes.

    >>> enclosing([Box((0, 5), (1, 6)), Box((0, 2), (3, 4))])
    Box(start=(0, 2), stop=(3, 6))
    """
    starts, stops = zip(*((box.start, box.stop) for box in boxes), strict=True)
    return Box(tuple(map(min, zip(*starts, strict=True))), tuple(map(max, zip(*stops, strict=True))))
