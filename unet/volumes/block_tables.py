"""Locate the tables of a volume: one file per block that lists the block's fragments, or the edges between them."""

from dataclasses import dataclass
from os import scandir
from pathlib import Path

import numpy as np

from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.storage.digests import bytes_digest

SUFFIX = "*.npz"


@dataclass(frozen=True)
class BlockTables:
    """The tables of one kind. A job treats them like one of its stores (`unet.jobs.blockwise.Store`).

    Attributes
    ----------
    path : Path
        Folder of the tables. Tables of another kind may lie in the same folder.
    prefix : str
        First part of the file names, by which the kinds differ.
    grid : Grid
        Blocks of the volume.
    """

    path: Path
    prefix: str
    grid: Grid
    dtype = np.dtype("V")
    """Type of a voxel, which every store has; tables take no bytes per voxel."""

    @classmethod
    def from_name(cls, folder: Path, name: str, grid: Grid) -> "BlockTables":
        """Return the tables that have a given `name` in the folder of a volume."""
        path = folder / name
        return cls(path.parent, path.name.removesuffix(SUFFIX), grid)

    @property
    def name(self) -> str:
        """Return the pattern of the files within the folder of the volume, e.g. `segmentation-tables/edges-*.npz`."""
        return f"{self.path.name}/{self.prefix}{SUFFIX}"

    def of(self, box: Box) -> Path:
        """Return the path of the table of a block."""
        return self.path / self._file(box)

    def digest(self, box: Box) -> str | None:
        """Return the hash of a block's table; None if the table is not there."""
        table = self.of(box)
        return bytes_digest(table.read_bytes()) if table.exists() else None

    def size(self, box: Box) -> int | None:
        """Return the bytes of a block's table; None if the table is not there."""
        table = self.of(box)
        return table.stat().st_size if table.exists() else None

    def sizes(self) -> dict[Box, int | None]:
        """Return the `size` of every block from one listing of the folder. The folder need not exist."""
        boxes = {self._file(box): box for box in self.grid.boxes()}
        found: dict[Box, int | None] = dict.fromkeys(boxes.values())
        if self.path.is_dir():
            with scandir(self.path) as entries:
                found |= {boxes[entry.name]: entry.stat().st_size for entry in entries if entry.name in boxes}
        return found

    def _file(self, box: Box) -> str:
        return f"{self.prefix}{'-'.join(map(str, box.start))}.npz"
