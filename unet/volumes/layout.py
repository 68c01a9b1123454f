"""The layout of a volume's stores. Nothing is opened here, since every start of the workflow reads layouts."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from unet.geometry.box import Index
from unet.geometry.grid import Grid
from unet.storage.files import read_json


@dataclass(frozen=True)
class VolumeLayout:
    """Shape, type, voxel size, chunks and blocks of a volume's stores, in voxels or nm, in the order `(z, y, x)`.

    `decoded_sections` is the number of whole sections that the image files decode for a box of any size; 0 where they
    read a box by itself.
    """

    shape: Index
    dtype: str
    voxel_size_nm: tuple[float, float, float]
    offset_nm: tuple[float, float, float]
    chunk: Index
    block: Index
    labels_dtype: str | None
    masked: bool
    channels: int = 1
    decoded_sections: int = 0

    @classmethod
    def read(cls, receipt: Path) -> "VolumeLayout":
        """Return the layout in a receipt of rule `survey`."""
        values = read_json(receipt)["layout"]
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**fields)

    @property
    def grid(self) -> Grid:
        """Return the grid of the volume's blocks."""
        return Grid(self.shape, self.block)

    @property
    def ingested_together(self) -> int:
        """Return the blocks that a job of `ingest` takes together: a layer where whole sections are decoded, else 1."""
        return prod(self.grid.counts[1:]) if self.decoded_sections else 1
