"""One volume of a run: its layout, found by `survey`, and the stores in its folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unet.geometry.block_ranges import boxes_of_range
from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid
from unet.storage.backends import take_ownership
from unet.storage.files import read_json
from unet.storage.zarr_store import Image, ImageSpec, create_image, open_image
from unet.volumes.block_tables import BlockTables
from unet.volumes.constant_regions import HALO, blank
from unet.volumes.histogram import has_value
from unet.volumes.intensity import Normalisation
from unet.volumes.network_input import NetworkInput

ZARR = ".zarr"


@dataclass(frozen=True)
class Layout:
    """What the headers of the image files say, in the order `(z, y, x)`; voxels and nm."""

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
    def read(cls, receipt: Path) -> "Layout":
        """From the receipt of `survey`."""
        values = read_json(receipt)["layout"]
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**fields)

    @property
    def grid(self) -> Grid:
        """The blocks of the volume."""
        return Grid(self.shape, self.block)


@dataclass(frozen=True)
class Volume:
    """The stores of a volume, all with the same blocks: in `folder`, or below an address.

    Locks and tables lie in `folder` always. Where the stores lie enters no fingerprint: they may be copied elsewhere.
    """

    folder: Path
    layout: Layout
    address: str | None = None

    @classmethod
    def open(cls, folder: Path, survey: Path) -> "Volume":
        """The volume in `folder` that `survey` describes."""
        address = read_json(survey).get("address")
        return cls(folder, Layout.read(survey), address and f"{address}/{folder.name}")

    @property
    def name(self) -> str:
        """As in the configuration."""
        return self.folder.name

    def blocks(self, block_range: str) -> list[Box]:
        """The blocks of a block range."""
        return boxes_of_range(self.layout.grid, block_range)

    def image(self, store: str) -> Image:
        """Open a store, e.g. `raw`."""
        return open_image(self._location(store), self._path(store))

    def _path(self, store: str) -> Path:
        return self.folder / f"{store}{ZARR}"

    def _location(self, store: str) -> Path | str:
        return f"{self.address}/{store}{ZARR}" if self.address else self._path(store)

    def create(
        self,
        store: str,
        dtype: str,
        kind: Literal["image", "label"] = "image",
        channels: Sequence[str] = (),
        pyramid: bool = True,
    ) -> Image:
        """Create a store of this volume, or open the one that is there; see `unet.storage.zarr_store.create_image`."""
        spec = ImageSpec(
            name=f"{self.name} {store}",
            shape=self.layout.shape,
            dtype=dtype,
            chunk=self.layout.chunk,
            block=self.layout.block,
            voxel_size_nm=self.layout.voxel_size_nm,
            offset_nm=self.layout.offset_nm,
            kind=kind,
            channels=tuple(channels),
            pyramid=pyramid,
        )
        if self.address:
            take_ownership(self.address, self.folder)
        return create_image(self._location(store), spec, self._path(store))

    def tables(self, store: str) -> BlockTables:
        """Where the fragments of each block are listed."""
        return BlockTables(self._tables(store), "", self.layout.grid)

    def edges(self, store: str) -> BlockTables:
        """Where the edges of each block's fragments are listed."""
        return BlockTables(self._tables(store), "edges-", self.layout.grid)

    def merge_table(self, store: str) -> Path:
        """Where the final id of every fragment stands, a folder."""
        return self._tables(store) / "merge"

    def named(self, name: str) -> Image | BlockTables:
        """What a job has written, by the name that its receipt gives it."""
        if name.endswith(ZARR):
            return self.image(name.removesuffix(ZARR))
        return BlockTables.named(self.folder, name, self.layout.grid)

    def _tables(self, store: str) -> Path:
        return self.folder / f"{store}-tables"

    def section_voxels(self, connectivity: str) -> int | None:
        """Voxels of a section where objects are found in each section alone; None where they are found in 3-D."""
        return prod(self.layout.shape[1:]) if connectivity == "section" else None

    def grey(self, normalisation: Normalisation) -> NetworkInput:
        """The grey values as a network sees them."""
        return NetworkInput(self.image("raw"), normalisation)

    def tissue(
        self, box: Box, normalisation: Normalisation | None = None, bridged: bool = False
    ) -> NDArray[np.bool_] | None:
        """Where there is tissue: inside the mask, and not in a blank region (`unet.volumes.constant_regions.blank`).

        Parameters
        ----------
        normalisation
            Tells the values of each channel that fill blank regions; without it these count as tissue.
        bridged
            Whether single blank sections count as tissue, as for a network in 3-D.

        Returns
        -------
        numpy.ndarray or None
            bool `(z, y, x)`; None where all is tissue.
        """
        inside = self.image("mask").read(box) != 0 if self.layout.masked else None
        window = self.grey_window(box, normalisation, bridged)
        if normalisation is None or window is None:
            return inside
        imaged = self._imaged(window, normalisation.fill, bridged)[box.relative_to(window.start).slices]
        return imaged if inside is None else inside & imaged

    def grey_window(self, box: Box, normalisation: Normalisation | None = None, bridged: bool = False) -> Box | None:
        """The voxels whose grey values decide where there is tissue in a box; None where they do not matter."""
        if normalisation is None or not normalisation.fill or not all(normalisation.fill):
            return None
        return box.grown((int(bridged), *HALO[1:])).clipped(self.layout.shape)

    def _imaged(self, window: Box, fill: Sequence[Sequence[float]], bridged: bool) -> NDArray[np.bool_]:
        """Where one of the channels shows something; near the faces of the window it may be wrong."""
        imaged = np.zeros(window.shape, np.bool_)
        for grey, values in zip(self.image("raw").read(window).reshape(-1, *window.shape), fill, strict=True):
            imaged |= ~blank(grey, has_value(grey, values), bridged)
        return imaged


def padded_in_section(box: Box, margin: int, shape: Index) -> tuple[Box, tuple[slice, ...]]:
    """A box with context along y and x, cut at the volume's faces, and where the box lies in it.

    >>> window, inner = padded_in_section(Box((2, 0, 4), (3, 4, 8)), 3, (9, 9, 9))
    >>> print(window), inner
    2:3,0:7,1:9
    (None, (slice(0, 1, None), slice(0, 4, None), slice(3, 7, None)))
    """
    window = box.grown((0, margin, margin)).clipped(shape)
    return window, box.relative_to(window.start).slices
