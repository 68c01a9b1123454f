"""The layout of a volume's stores. Nothing is opened here, since every start of the workflow reads layouts."""

from dataclasses import dataclass, fields
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from unet.geometry.box import Index
from unet.geometry.grid import Grid
from unet.storage.files import read_json

TOGETHER = 2**33
"""Most voxels of several layers of blocks that a job of `ingest` takes together: minutes of work."""


@dataclass(frozen=True)
class VolumeLayout:
    """Shape, type, voxel size, chunks and blocks of a volume's stores, in voxels or nm, in the order `(z, y, x)`.

    `decoded` is the shape of what the image files decode at once, if blocks share it; zeros where each block is read by
    itself.
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
    decoded: Index = (0, 0, 0)

    @classmethod
    def read(cls, receipt: Path) -> "VolumeLayout":
        """Return the layout in a receipt of rule `survey`.

        What another version has noted as well is left out. Its code was another one, so `survey` runs again.
        """
        values, known = read_json(receipt)["layout"], {field.name for field in fields(cls)}
        found: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items() if key in known
        }
        return cls(**found)

    @property
    def grid(self) -> Grid:
        """Return the grid of the volume's blocks."""
        return Grid(self.shape, self.block)

    @property
    def voxels(self) -> int:
        """Return the voxels of the volume."""
        return prod(self.shape)

    @property
    def section_pixels(self) -> int:
        """Return the pixels of a section."""
        return prod(self.shape[1:])

    @property
    def layer_voxels(self) -> int:
        """Return the voxels of the first layer of blocks."""
        return min(self.block[0], self.shape[0]) * self.section_pixels

    @property
    def raw_bytes(self) -> int:
        """Return the bytes of the grey values per voxel, all channels together."""
        return self.channels * np.dtype(self.dtype).itemsize

    @property
    def label_bytes(self) -> int:
        """Return the bytes per instance id; 0 where nothing is annotated."""
        return np.dtype(self.labels_dtype).itemsize if self.labels_dtype else 0

    @property
    def decoded_layers(self) -> int:
        """Return the layers of blocks that what is decoded at once reaches through."""
        return -(-self.decoded[0] // self.block[0])

    @property
    def ingested_together(self) -> int:
        """Return the blocks that a job of `ingest` takes together, since they share what image files decode at once.

        These are as many layers of blocks as chunks are deep, if they have at most `TOGETHER` voxels. Otherwise they
        are one layer, if chunks are about as wide as a section, or single blocks.
        """
        layer, depth = prod(self.grid.counts[1:]), self.decoded_layers
        wide = any(2 * side > n > 1 for side, n in zip(self.decoded[1:], self.shape[1:], strict=True))
        if depth > 1 and depth * layer * prod(self.block) <= TOGETHER:
            return min(depth, self.grid.counts[0]) * layer
        return layer if wide else 1
