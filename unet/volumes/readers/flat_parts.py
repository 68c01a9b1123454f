"""Read an array that lies in several files, each a `FlatArray`. The first axis is the fastest.

```
sizes (x, y, z) = (50, 40, 6)

files of (50, 40)       one section each              files of (50, 40, 2)      slabs along the slowest axis
 a1  a2  a3  a4  a5  a6                                 a1: z 0, 1   a2: z 2, 3   a3: z 4, 5
```
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path

import numpy as np

from unet.geometry.box import Index
from unet.volumes.readers.flat_array import FlatArray

Selection = tuple[slice, ...]


@dataclass(frozen=True)
class FlatParts:
    """An array of which files hold the parts, in the order of the slower axes.

    Attributes
    ----------
    parts : tuple of FlatArray
        The parts, all of one shape.
    shape : tuple of int
        Lengths of the axes of the whole array.
    """

    parts: tuple[FlatArray, ...]
    shape: Index

    @property
    def dtype(self) -> np.dtype:
        """Return the type of the elements."""
        return self.parts[0].dtype

    @property
    def paths(self) -> list[Path]:
        """Return all files."""
        return [part.path for part in self.parts]

    @property
    def part_shape(self) -> Index:
        """Return the shape of what a file holds, with as many axes as the array."""
        held = self.parts[0].shape
        return (*held, *(1 for _ in self.shape[len(held) :]))

    def check(self, selection: Selection | None = None) -> None:
        """Raise an error if a file of a selection is too small, see `FlatArray.check`; by default of all."""
        touched = self.parts if selection is None else [part for part, _, _ in self._touched(selection)]
        for part in touched:
            part.check()

    def surplus(self) -> str | None:
        """Return a remark if the first file is longer than the header says."""
        return self.parts[0].surplus()

    def files_of(self, selection: Selection) -> list[Path]:
        """Return the files that hold a selection."""
        return [part.path for part, _, _ in self._touched(selection)]

    def read(self, selection: Selection) -> np.ndarray:
        """Return a part of the array.

        Raises
        ------
        SourceError
            As `FlatArray.read`.
        """
        out = np.empty([s.stop - s.start for s in selection], self.dtype, order="F")
        for part, inside, into in self._touched(selection):
            out[into] = part.read(inside[: len(part.shape)]).reshape(out[into].shape, order="F")
        return out

    def _touched(self, selection: Selection) -> Iterator[tuple[FlatArray, Selection, Selection]]:
        """Yield each part that a selection touches, its own selection, and the place in what is selected."""
        held = self.part_shape
        grid = tuple(-(-n // h) for n, h in zip(self.shape, held, strict=True))
        assert prod(grid) == len(self.parts)
        ranges = (range(s.start // h, -(-s.stop // h)) for s, h in zip(selection, held, strict=True))
        for index in product(*ranges):
            axes = list(zip(index, held, selection, strict=True))
            low = [max(s.start, i * h) for i, h, s in axes]
            high = [min(s.stop, (i + 1) * h) for i, h, s in axes]
            inside = tuple(slice(a - i * h, b - i * h) for a, b, (i, h, _) in zip(low, high, axes, strict=True))
            into = tuple(slice(a - s.start, b - s.start) for a, b, (_, _, s) in zip(low, high, axes, strict=True))
            yield self.parts[int(np.ravel_multi_index(index, grid, order="F"))], inside, into
