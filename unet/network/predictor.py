"""Overlap-tile inference (paper, figure 2): probabilities of any box of a volume.

For a box:
1. `read` the voxels that all tiles of the box need, mirrored at the volume's faces (edge voxel not repeated).
2. Normalise grey values with the statistics of the whole volume, never with those of a tile.
3. Cut the inputs of the tiles, and run them through the network in batches of one fixed size. Take the softmax over the
   classes, or the sigmoid of each affinity. Test-time augmentation averages over mirrored or quarter-turned tiles (see
   `unet.network.symmetries`).
4. Crop each tile's result to its cell of the lattice (see `unet.geometry.tiling`), and the cells to the box.

The mean over rotations takes these steps on each of the 7 rotated lattices of `unet.network.rotation`.

Where nothing was imaged, tiles hold one grey value only. Tiles of equal value have equal results, so one is computed.

A cell's result depends on the volume and the model alone. It is the same bit for bit for one tile size. Across tile
sizes it is the same within rounding, because tiles of all sizes meet the pooling grid in the same phase.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unet.config.section import Precision
from unet.geometry.box import Box, enclosing
from unet.geometry.offsets import Offset
from unet.geometry.tiling import TileGeometry, tiles_for
from unet.network.engine import Engine
from unet.network.rotation import rotated_lattices
from unet.network.symmetries import TestTimeAugmentation, averaged_geometry, mean_over, require_applicable
from unet.volumes.intensity import Normalisation

Dtype = Literal["float32", "uint8"]
Output = Literal["classes", "affinities"]

MAX_CONSTANT_RESULTS = 8
"""Results of constant tiles that a predictor keeps, one per grey value."""


class Image(Protocol):
    """A volume that can be read beyond its faces."""

    def read_mirrored(self, box: Box) -> NDArray[Any]:
        """Return grey values `(z, y, x)` or `(c, z, y, x)` of a box, mirrored beyond the faces, the edge voxel once."""


class TileLattice(Protocol):
    """A lattice of tiles over a volume. It maps voxels to tile inputs, and tile outputs to the voxels of a box."""

    @property
    def interpolates(self) -> bool:
        """Return whether a tile's input is interpolated between voxels."""

    def cells(self, box: Box) -> list[Box]:
        """Return the cells whose tiles `box` needs, in coordinates of the lattice."""

    def read_box(self, box: Box) -> Box:
        """Return the box of all voxels that the tiles of `box` read; it may exceed the volume."""

    def source_box(self, cell: Box) -> Box:
        """Return the box of voxels that the tile of `cell` reads."""

    def tile_input(self, grey: Tensor, cell: Box) -> Tensor:
        """Return the input `(..., y, x)` of the tile of `cell` from the normalised grey values of its `source_box`."""

    def overlap(self, cell: Box, box: Box) -> Box:
        """Return the part of `box` that holds all voxels of `cell`."""

    def accumulate(self, total: Tensor, tile: Tensor, cell: Box, box: Box) -> None:
        """Add the output `(K, z, y, x)` of the tile of `cell` to `total` `(K, z, y, x)` of `box`."""


@dataclass(frozen=True)
class AlignedLattice:
    """The lattice whose cells are aligned with the voxels of the volume."""

    geometry: TileGeometry
    interpolates: bool = field(default=False, init=False)

    def cells(self, box: Box) -> list[Box]:
        return tiles_for(box, self.geometry)

    def read_box(self, box: Box) -> Box:
        return self.geometry.read_box(box)

    def source_box(self, cell: Box) -> Box:
        return self.geometry.input_box(cell)

    def tile_input(self, grey: Tensor, cell: Box) -> Tensor:
        return grey

    def overlap(self, cell: Box, box: Box) -> Box:
        return cell.intersected(box)

    def accumulate(self, total: Tensor, tile: Tensor, cell: Box, box: Box) -> None:
        part = self.overlap(cell, box)
        total[:, *part.relative_to(box.start).slices] += tile[:, *part.relative_to(cell.start).slices]


@dataclass(frozen=True)
class Predictor:
    """A model with all settings that its result depends on.

    Parameters
    ----------
    model : nn.Module
        From `build_model`. `unet.network.engine.Engine` moves it to the device and changes its memory layout.
    geometry : TileGeometry
        Sizes of the model's tiles.
    normalisation : Normalisation
        Normalisation by the statistics of the volume, for each input channel.
    test_time_augmentation : str
        Average over nothing ("none"); the 4 flips ("flips") or 8 symmetries ("symmetries") of the (y, x) plane; these
        with z flipped as well ("flips_3d", "symmetries_3d"); the 48 symmetries of the cube ("cube"); or 7 rotations in
        the (y, x) plane ("rotations").
    device : torch.device or str
        Device on which the network runs.
    batch : int
        Tiles per batch.
    precision : {"float32", "bfloat16", "float16"}
        Numeric precision of the convolutions. Softmax and averaging are always in float32.
    compiled : bool
        Whether the network is compiled for the shape of its tiles.
    threads : int
        Batches computed at the same time on a CPU; the result does not depend on this number.
    dtype : {"float32", "uint8"}
        Type of the result; see `quantised`.
    channels : int, optional
        Number of channels in the result, counted from the last one; by default all.
    output : {"classes", "affinities"}
        What the model predicts: probabilities of classes, which sum to 1 per voxel, or affinities, each by itself.
    offsets : sequence of Offset, optional
        Offset of each channel in voxels, if the channels are affinities.

    Raises
    ------
    ValueError
        If the test-time augmentation does not suit the network, the tile or the offsets.
    TileSizeError
        If the test-time augmentation leaves nothing of a tile's output.
    """

    model: nn.Module
    geometry: TileGeometry
    normalisation: Normalisation
    test_time_augmentation: TestTimeAugmentation = "none"
    device: torch.device | str = "cpu"
    batch: int = 1
    precision: Precision = "float32"
    compiled: bool = False
    threads: int = 1
    dtype: Dtype = "float32"
    channels: int | None = None
    output: Output = "classes"
    offsets: Sequence[Offset] | None = None
    lattices: Sequence[TileLattice] = field(init=False, repr=False, compare=False)
    engine: Engine = field(init=False, repr=False, compare=False)
    _constant_results: dict[tuple[float, ...], Tensor] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        engine = Engine(self.model, torch.device(self.device), self.precision, self.compiled, self.threads)
        offsets = None if self.output == "classes" else self.offsets or ()
        require_applicable(self.test_time_augmentation, self.geometry, 2 if engine.is_2d else 3, offsets)
        lattices = tile_lattices(self.test_time_augmentation, self.geometry, self.offsets)
        object.__setattr__(self, "lattices", lattices)
        object.__setattr__(self, "engine", engine)

    def predict_box(self, image: Image, box: Box) -> NDArray[Any]:
        """Return probabilities `(K, z, y, x)` of a box: `read`, then `infer`."""
        return self.infer(self.read(image, box), box)

    def read(self, image: Image, box: Box) -> NDArray[Any]:
        """Read the voxels that `infer` needs for `box`: `(z, y, x)` or `(c, z, y, x)` in the volume's dtype."""
        return image.read_mirrored(read_box(box, self.lattices))

    def infer(
        self,
        voxels: NDArray[Any],
        box: Box,
        tissue: NDArray[np.bool_] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> NDArray[Any]:
        """Return probabilities `(K, z, y, x)` of `box`, in `dtype`.

        Beside voxels and result, this takes the memory of `batch` tiles per thread.

        Parameters
        ----------
        voxels
            From `read`.
        tissue
            Mask `(z, y, x)` of the box. Tiles without tissue are skipped, and their voxels are 0.
        check
            Called before every batch. An exception that it raises ends the work.
        """
        origin, engine = read_box(box, self.lattices).start, self.engine

        def wanted(lattice: TileLattice, cell: Box) -> bool:
            return tissue is None or bool(tissue[lattice.overlap(cell, box).relative_to(box.start).slices].any())

        def add(lattice: TileLattice, cells: list[Box]) -> None:
            check()
            sources = [lattice.source_box(cell).relative_to(origin).trailing for cell in cells]
            constants = [_constant(given[source]) if not lattice.interpolates else None for source in sources]
            if all(values in self._constant_results for values in constants):
                results = [self._constant_results[values] for values in constants if values is not None]
            else:
                grey = [(on_device[source].float() - mean) / divisor for source in sources]
                results = list(
                    self._probabilities([lattice.tile_input(g, c) for g, c in zip(grey, cells, strict=True)])
                )
                self._keep_constants(constants, results)
            for cell, tile in zip(cells, results, strict=True):
                lattice.accumulate(total, tile, cell, box)

        given = voxels.reshape(-1, *voxels.shape[-3:])
        on_device = engine.to_device(given)
        mean, divisor = (torch.from_numpy(c).to(engine.device) for c in self.normalisation.columns(given.shape))
        with engine.computing():
            total = torch.zeros(cast(int, self.model.classes), *box.shape, device=engine.device)
            for lattice in self.lattices:  # in this order: another order of the sum changes the last bits
                cells = [cell for cell in lattice.cells(box) if wanted(lattice, cell)]
                engine.each(
                    partial(add, lattice), [cells[i : i + self.batch] for i in range(0, len(cells), self.batch)]
                )
            kept = total.div_(len(self.lattices))[-(self.channels or len(total)) :]
            result = quantised(kept) if self.dtype == "uint8" else kept
        return engine.to_host(result)

    def _keep_constants(self, constants: list[tuple[float, ...] | None], results: list[Tensor]) -> None:
        """Keep the results of tiles of one grey value; empty space has many such tiles."""
        for values, result in zip(constants, results, strict=True):
            if values is not None and len(self._constant_results) < MAX_CONSTANT_RESULTS:
                self._constant_results[values] = result

    def _probabilities(self, tiles: list[Tensor]) -> Tensor:
        """Return probabilities `(n, K, z, y, x)` of the outputs of up to `batch` tiles `(c, z, y, x)`.

        A short batch is filled with empty tiles. Libraries choose their algorithm by the shape, and another algorithm
        changes the last bits.
        """
        x = torch.zeros(self.batch, *tiles[0].shape, device=self.engine.device)
        for i, tile in enumerate(tiles):
            x[i] = tile
        with torch.inference_mode():
            result = mean_over(self.test_time_augmentation, self._output, x, self.offsets, self.geometry)
        return result[: len(tiles)]

    def _output(self, x: Tensor) -> Tensor:
        """Return the probabilities `(n, K, z, y, x)` of the network's logits, cropped to the tile's output."""
        flat = self.engine.is_2d
        logits = self.engine.logits(x.flatten(1, 2) if flat else x)  # sections of context are channels
        for axis, n in enumerate(self.geometry.output[-(logits.ndim - 2) :], start=2):
            logits = logits.narrow(axis, (logits.shape[axis] - n) // 2, n)
        result = probabilities(logits, self.output)
        return result[:, :, None] if flat else result


def probabilities(logits: Tensor, output: Output) -> Tensor:
    """Return the probabilities `(n, K, *size)` of logits: the softmax over classes, or the sigmoid of each affinity.

    >>> probabilities(torch.zeros(1, 4, 1, 1), "classes").flatten().tolist()
    [0.25, 0.25, 0.25, 0.25]
    >>> probabilities(torch.zeros(1, 4, 1, 1), "affinities").flatten().tolist()
    [0.5, 0.5, 0.5, 0.5]
    """
    return torch.softmax(logits, dim=1) if output == "classes" else torch.sigmoid(logits)


def tile_lattices(
    augmentation: TestTimeAugmentation, geometry: TileGeometry, offsets: Sequence[Offset] | None = None
) -> Sequence[TileLattice]:
    """Return the lattices whose results are averaged: the aligned lattice, or the 7 rotated lattices."""
    if augmentation == "rotations":
        return rotated_lattices(geometry)
    return [AlignedLattice(averaged_geometry(geometry, augmentation, offsets))]


def read_box(box: Box, lattices: Sequence[TileLattice]) -> Box:
    """Return the box of voxels that the tiles of all lattices read for `box`; it may exceed the volume."""
    return enclosing(lattice.read_box(box) for lattice in lattices)


def quantised(probabilities: Tensor) -> Tensor:
    """Return probabilities as uint8, `round(255 p)`.

    >>> quantised(torch.tensor([0, 0.5, 0.998, 1]))
    tensor([  0, 128, 254, 255], dtype=torch.uint8)
    """
    return (probabilities * 255).round_().to(torch.uint8)


def _constant(grey: NDArray[Any]) -> tuple[float, ...] | None:
    """Return the value of each channel of grey values `(c, z, y, x)`, or None unless each channel has one value."""
    first = grey[:, :1, :1, :1]
    same = bool((grey[:, :1, :1] == first).all() and (grey == first).all())  # most differ within the first row
    return tuple(first.flatten().tolist()) if same else None
