"""One volume of a run: its layout, which rule `survey` finds, and the stores and tables in its folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from unet.config.label_kinds import interior_of_ids, not_annotated_id
from unet.geometry.block_ranges import boxes_of_range
from unet.geometry.box import Box, Index
from unet.storage.backends import take_ownership
from unet.storage.files import read_json
from unet.storage.ngff import ImageSpec
from unet.volumes.block_tables import BlockTables
from unet.volumes.constant_regions import HALO, blank_regions
from unet.volumes.histogram import has_value
from unet.volumes.intensity import Normalisation
from unet.volumes.layout import VolumeLayout
from unet.volumes.raw_without_blanks import RawWithoutBlanks

if TYPE_CHECKING:
    from unet.storage.zarr_store import Image

ZARR = ".zarr"


@dataclass(frozen=True)
class Volume:
    """The stores of a volume, which all have the same blocks. They lie in `folder`, or below an address.

    Locks and tables always lie in `folder`. No fingerprint depends on the address of the stores, so they may be copied.
    """

    folder: Path
    layout: VolumeLayout
    address: str | None = None

    @classmethod
    def open(cls, folder: Path, survey: Path) -> "Volume":
        """Return the volume in `folder`, with the layout in the receipt `survey`."""
        address = read_json(survey).get("address")
        return cls(folder, VolumeLayout.read(survey), address and f"{address}/{folder.name}")

    @property
    def name(self) -> str:
        """Return the name of the volume in the configuration."""
        return self.folder.name

    def blocks(self, block_range: str, together: int = 1) -> list[Box]:
        """Return the blocks of a block range such as `0-of-8`, of a rule that takes so many blocks together."""
        return boxes_of_range(self.layout.grid, block_range, together)

    def image(self, store: str) -> "Image":
        """Open a store by its name, such as `raw`."""
        from unet.storage.zarr_store import open_image  # the Snakefile reads layouts, and opens no store

        return open_image(self._location(store), self._path(store))

    def true_ids(self, box: Box) -> NDArray[np.unsignedinteger]:
        """Return the ids of a box `(z, y, x)` in store `labels`, with 0 where nobody annotated."""
        labels = self.image("labels").read(box)
        return np.where(labels == not_annotated_id(labels.dtype), labels.dtype.type(0), labels)

    def scored_ids(
        self, box: Box, normalisation: Normalisation, bridge_single_sections: bool
    ) -> NDArray[np.unsignedinteger]:
        """Return the true ids of a box that count in a score: 0 where nobody annotated, and outside the tissue.

        The parameters are those of `tissue_mask`.
        """
        known, tissue = self.true_ids(box), self.tissue_mask(box, normalisation, bridge_single_sections)
        return known if tissue is None else known * tissue

    def class_targets(self, box: Box) -> NDArray[np.uint8]:
        """Return the class of each voxel of a box in store `targets`, 255 where nobody annotated.

        Targets of affinities are ids, of which 1 is inside an object and 0 outside.
        """
        targets = self.image("targets").read(box)
        return targets if targets.dtype == np.uint8 else interior_of_ids(targets)

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
    ) -> "Image":
        """Create a store of this volume, or open the existing store; see `unet.storage.zarr_store.create_image`."""
        from unet.storage.zarr_store import create_image

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

    def fragment_tables(self, store: str) -> BlockTables:
        """Return the tables that list the fragments of each block."""
        return BlockTables(self._tables(store), "", self.layout.grid)

    def edge_tables(self, store: str) -> BlockTables:
        """Return the tables that list the edges between fragments of each block."""
        return BlockTables(self._tables(store), "edges-", self.layout.grid)

    def candidate_tables(self, fragments: int, offsets: int | None = None) -> BlockTables:
        """Return the tables of one set of candidate fragments, or of its edges with pairs up to a largest offset.

        Both numbers count entries of `segment.candidates` from 0.
        """
        kind = f"{fragments}-" if offsets is None else f"edges-{fragments}-{offsets}-"
        return BlockTables(self._tables("candidate"), kind, self.layout.grid)

    def object_tables(self, store: str) -> BlockTables:
        """Return the tables that hold what is counted of the objects of each block."""
        return BlockTables(self._tables(store), "objects-", self.layout.grid)

    def face_tables(self, store: str) -> BlockTables:
        """Return the tables that hold the faces of chosen objects of each block."""
        return BlockTables(self._tables(store), "faces-", self.layout.grid)

    def merge_table(self, store: str) -> Path:
        """Return the folder of the table that maps every fragment to its final id."""
        return self._tables(store) / "merge"

    def merge_parts(self, store: str) -> Path:
        """Return the folder of what was merged part by part."""
        return self._tables(store) / "parts"

    def store_named(self, name: str) -> "Image | BlockTables":
        """Return a store or the tables that a job has written, by their name in the job's receipt."""
        if name.endswith(ZARR):
            return self.image(name.removesuffix(ZARR))
        return BlockTables.from_name(self.folder, name, self.layout.grid)

    def _tables(self, store: str) -> Path:
        return self.folder / f"{store}-tables"

    def section_voxels(self, connectivity: str) -> int | None:
        """Return the voxels per section if objects are found in each section alone; None for objects in 3-D."""
        return prod(self.layout.shape[1:]) if connectivity == "section" else None

    def raw_without_blanks(self, normalisation: Normalisation) -> RawWithoutBlanks:
        """Return the intensities with blank regions replaced, as a network gets them."""
        return RawWithoutBlanks(self.image("raw"), normalisation)

    def tissue_mask(
        self, box: Box, normalisation: Normalisation | None = None, bridge_single_sections: bool = False
    ) -> NDArray[np.bool_] | None:
        """Return where a box has tissue: inside the mask, and outside blank regions (`constant_regions.blank_regions`).

        Parameters
        ----------
        normalisation
            Holds the fill values of blank regions per channel. Without it blank regions count as tissue.
        bridge_single_sections
            Whether single blank sections count as tissue, as for a 3-D network.

        Returns
        -------
        numpy.ndarray or None
            bool `(z, y, x)`; None if every voxel is tissue.
        """
        inside = self.image("mask").read(box) != 0 if self.layout.masked else None
        window = self.tissue_read_box(box, normalisation, bridge_single_sections)
        if normalisation is None or window is None:
            return inside
        imaged = self._imaged(window, normalisation.fill_values, bridge_single_sections)[
            box.relative_to(window.start).slices
        ]
        return imaged if inside is None else inside & imaged

    def tissue_read_box(
        self, box: Box, normalisation: Normalisation | None = None, bridge_single_sections: bool = False
    ) -> Box | None:
        """Return the box of `raw` on which `tissue_mask` of a box depends; None if it does not depend on `raw`."""
        if normalisation is None or not normalisation.fill_values or not all(normalisation.fill_values):
            return None
        return box.grown((int(bridge_single_sections), *HALO[1:])).clipped(self.layout.shape)

    def _imaged(self, window: Box, fill: Sequence[Sequence[float]], bridge_single_sections: bool) -> NDArray[np.bool_]:
        """Return where some channel is not blank. Within `HALO` of the faces of the window the answer may be wrong."""
        imaged = np.zeros(window.shape, np.bool_)
        for intensities, values in zip(self.image("raw").read(window).reshape(-1, *window.shape), fill, strict=True):
            imaged |= ~blank_regions(intensities, has_value(intensities, values), bridge_single_sections)
        return imaged


def padded_in_section(box: Box, margin: int, shape: Index) -> tuple[Box, tuple[slice, ...]]:
    """Return a box grown along y and x and clipped at the volume's faces, and the slices of the box inside it.

    >>> window, inner = padded_in_section(Box((2, 0, 4), (3, 4, 8)), 3, (9, 9, 9))
    >>> print(window), inner
    2:3,0:7,1:9
    (None, (slice(0, 1, None), slice(0, 4, None), slice(3, 7, None)))
    """
    window = box.grown((0, margin, margin)).clipped(shape)
    return window, box.relative_to(window.start).slices
