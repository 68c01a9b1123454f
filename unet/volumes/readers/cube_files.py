"""Define `CubeFiles`, a volume of one file per cube of voxels. A cube without a file is counted, and reads as 0.

```
voxels   0 ........ 128 ....... 256 ....... 384         cubes of 128
             index 0     index 1     index 2
                    begin = 130: the first voxel of the source lies in the cube with index 1
```
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from unet.geometry.box import Box, Index
from unet.storage.local_folder import file_state, links_of
from unet.volumes.readers.errors import read_errors
from unet.volumes.readers.source import ArraySource, MissingChunks

MAX_LISTED_CUBES = 10_000
"""Number of cubes up to which each is looked up by its name. Otherwise the folders are listed."""


class CubeFiles(ArraySource):
    """An array of one file per cube, of which the last three axes are x, y and z.

    Attributes
    ----------
    edge : int
        Edge of a cube in voxels.
    begin : tuple of int
        Voxel `(x, y, z)` of the cubes at which the source begins.
    counted : str
        What one file is called when missing ones are counted.
    """

    edge: int
    begin: Index = (0, 0, 0)
    counted = "files"

    def files_of(self, box: Box) -> list[Path]:
        """Return the files of the metadata, and the cubes that a box touches."""
        return [*super().files_of(box), *self.cubes_of(box)]

    def state(self, box: Box) -> list[list[Any]]:
        """Return the state of the files of a box; a cube is named by its folders, since its name alone may repeat."""
        cubes = (["/".join(path.parts[-4:]), *file_state(path)] for path in self.cubes_of(box))
        others = ([path.name, *file_state(path)] for path in super().files_of(box))
        return [*links_of(self.files[0]), *others, *cubes]

    def missing_chunks(self, box: Box) -> list[MissingChunks]:
        """Count the cubes that a box touches and that have no file."""
        count = prod(map(len, self._ranges(box)))
        return [MissingChunks(self.address, count - sum(1 for _ in self.cubes_of(box)), count, 0, self.counted)]

    def check(self, box: Box) -> None:
        """Check that the files of the cubes that a box touches are whole."""
        for path in self.cubes_of(box):
            with read_errors(path, self.format_name):
                self.refuse_truncated(path)

    def cubes_of(self, box: Box) -> Iterator[Path]:
        """Yield the files of the cubes that a box touches."""
        ranges = self._ranges(box)
        indices: Iterable[Index]
        if prod(map(len, ranges)) <= MAX_LISTED_CUBES:
            indices = product(*ranges)
        else:
            indices = (one for one in self.indices() if all(i in part for i, part in zip(one, ranges, strict=True)))
        return (path for path in map(self.cube_path, indices) if path.is_file())

    def _ranges(self, box: Box) -> list[range]:
        spatial = zip(self.order.selection(box)[-3:], self.begin, strict=True)
        return [range((s.start + lo) // self.edge, -(-(s.stop + lo) // self.edge)) for s, lo in spatial]

    @abstractmethod
    def cube_path(self, index: Index) -> Path:
        """Return the file of the cube with an index `(x, y, z)`; there may be none."""

    @abstractmethod
    def indices(self) -> Iterator[Index]:
        """Yield the index `(x, y, z)` of each cube that has a file."""

    @abstractmethod
    def refuse_truncated(self, path: Path) -> None:
        """Raise an error if the file of a cube is not whole."""
