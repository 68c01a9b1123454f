"""Files beside the stores of a volume, one a block: what lies in it, and what touches in it."""

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
    """The tables of one kind; a job takes them as one of its stores (`unet.jobs.blockwise.Store`).

    Attributes
    ----------
    path : Path
        Their folder, which other kinds may share.
    prefix : str
        What their names begin with.
    grid : Grid
        The blocks of the volume.
    """

    path: Path
    prefix: str
    grid: Grid
    dtype = np.dtype("V")
    """They take no bytes a voxel."""

    @classmethod
    def from_name(cls, folder: Path, name: str, grid: Grid) -> "BlockTables":
        """Inverse of `name`, in the folder of a volume."""
        path = folder / name
        return cls(path.parent, path.name.removesuffix(SUFFIX), grid)

    @property
    def name(self) -> str:
        """In the folder of the volume, e.g. `segmentation-tables/edges-*.npz`."""
        return f"{self.path.name}/{self.prefix}{SUFFIX}"

    def of(self, box: Box) -> Path:
        """The table of a block."""
        return self.path / self._file(box)

    def digest(self, box: Box) -> str | None:
        """Hash of a block's table; None where it is not there."""
        table = self.of(box)
        return bytes_digest(table.read_bytes()) if table.exists() else None

    def size(self, box: Box) -> int | None:
        """Bytes of a block's table; None where it is not there."""
        table = self.of(box)
        return table.stat().st_size if table.exists() else None

    def sizes(self) -> dict[Box, int | None]:
        """`size` of every block, from one listing; the folder need not be there."""
        boxes = {self._file(box): box for box in self.grid.boxes()}
        found: dict[Box, int | None] = dict.fromkeys(boxes.values())
        if self.path.is_dir():
            with scandir(self.path) as entries:
                found |= {boxes[entry.name]: entry.stat().st_size for entry in entries if entry.name in boxes}
        return found

    def _file(self, box: Box) -> str:
        return f"{self.prefix}{'-'.join(map(str, box.start))}.npz"
