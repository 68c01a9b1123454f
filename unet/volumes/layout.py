"""The layout of a volume's stores. Nothing is opened here, since every start of the workflow reads layouts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet.geometry.box import Index
from unet.geometry.grid import Grid
from unet.storage.files import read_json


@dataclass(frozen=True)
class VolumeLayout:
    """Shape, type, voxel size, chunks and blocks of a volume's stores, in voxels or nm, in the order `(z, y, x)`."""

    shape: Index
    dtype: str
    voxel_size_nm: tuple[float, float, float]
    offset_nm: tuple[float, float, float]
    chunk: Index
    block: Index
    labels_dtype: str | None
    masked: bool
    channels: int = 1

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
