"""Overlap-tile inference (paper, figure 2): probabilities of any box of a volume, whatever the box.

For a box:
1. `read` the window that all of its tiles need, mirrored at the volume's own faces (edge voxel not repeated).
2. Normalise grey values with the statistics of the whole volume, never of a tile.
3. Cut the tiles' inputs, run them through the network in batches of one fixed size, softmax, and average over
   mirrored or quarter-turned tiles where asked for.
4. Crop each tile's result to its cell of the lattice (see `unet.geometry.tiling`), and the cells to the box.

The mean over rotations takes these steps on each of the 7 turned planes of `unet.network.rotation`.

Where nothing was imaged, all tiles are of one grey value and their results are equal: one of them is computed.

A cell's result depends on the volume and the model alone: bit for bit for one tile size, and within rounding across
tile sizes, since tiles of all sizes meet the pooling grid in the same phase.
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
from unet.geometry.box import Box
from unet.geometry.tiling import TileGeometry, tiles_for
from unet.network.engine import Engine
from unet.network.rotation import enclosing, rotated_planes
from unet.volumes.intensity import Normalisation

Average = Literal["none", "flips", "symmetries", "rotations"]
Dtype = Literal["float32", "uint8"]
Symmetry = tuple[int, bool]

SYMMETRIES: dict[Average, list[Symmetry]] = {
    "none": [(0, False)],
    "flips": [(0, False), (2, False), (0, True), (2, True)],
    "symmetries": [(quarter_turns, mirrored) for mirrored in (False, True) for quarter_turns in range(4)],
    "rotations": [(0, False)],
}
"""Of a tile: quarter turns in the (y, x) plane after mirroring x or not. Two turns are both flips; with a mirror, the y
flip. Rotations turn the plane that the tiles lie on instead."""


MOST_CONSTANTS = 8
"""Grey values of which a tile's result is kept."""


class Image(Protocol):
    """A volume that answers for voxels beyond its faces."""

    def read_mirrored(self, window: Box) -> NDArray[Any]:
        """Grey values `(z, y, x)` or `(c, z, y, x)` of `window`, mirrored beyond the faces, the edge voxel once."""


class Plane(Protocol):
    """A lattice of tiles over a volume: how their inputs come from the volume, and their outputs go into a box."""

    @property
    def turned(self) -> bool:
        """Whether a tile's input lies between the voxels of its source."""

    def cells(self, box: Box) -> list[Box]:
        """The cells whose tiles `box` needs, in the plane's own coordinates."""

    def window(self, box: Box) -> Box:
        """The voxels that all of these tiles read; may exceed the volume."""

    def source(self, cell: Box) -> Box:
        """The voxels that the tile of `cell` reads."""

    def sampled(self, grey: Tensor, cell: Box) -> Tensor:
        """Input `(..., y, x)` of the tile of `cell`, from the normalised grey values of its `source`."""

    def part(self, cell: Box, box: Box) -> Box:
        """The part of `box` that holds all voxels which the tile of `cell` is for."""

    def add(self, total: Tensor, tile: Tensor, cell: Box, box: Box) -> None:
        """Add the output `(K, z, y, x)` of the tile of `cell` to its share of the voxels of `box`."""


@dataclass(frozen=True)
class StraightPlane:
    """The volume's own lattice of cells."""

    geometry: TileGeometry
    turned: bool = field(default=False, init=False)

    def cells(self, box: Box) -> list[Box]:
        return tiles_for(box, self.geometry)

    def window(self, box: Box) -> Box:
        return self.geometry.read_box(box)

    def source(self, cell: Box) -> Box:
        return self.geometry.input_box(cell)

    def sampled(self, grey: Tensor, cell: Box) -> Tensor:
        return grey

    def part(self, cell: Box, box: Box) -> Box:
        return cell.intersected(box)

    def add(self, total: Tensor, tile: Tensor, cell: Box, box: Box) -> None:
        part = self.part(cell, box)
        total[:, *part.relative_to(box.start).slices] += tile[:, *part.relative_to(cell.start).slices]


@dataclass(frozen=True)
class Predictor:
    """A model with all that its result depends on beside the volume.

    Parameters
    ----------
    model : nn.Module
        From `build_model`; see `unet.network.engine.Engine` for what becomes of it.
    geometry : TileGeometry
        Of that model.
    normalisation : Normalisation
        By the statistics of the volume, one input channel of the model each.
    average : {"none", "flips", "symmetries", "rotations"}
        Mean over nothing, the 4 flips, the square's 8 symmetries or 7 rotations in the (y, x) plane.
    device : torch.device or str
        Where the network runs.
    batch : int
        Tiles that go through the network at once.
    precision : {"float32", "bfloat16", "float16"}
        Of the convolutions; softmax and averaging are float32 always.
    compiled : bool
        Whether the network is compiled for the shape of its tiles.
    threads : int
        Batches at once on a CPU; the result does not depend on it.
    dtype : {"float32", "uint8"}
        Of the result; see `quantised`.
    channels : int, optional
        How many of the last classes the result holds; by default all.

    Raises
    ------
    ValueError
        If "symmetries" is asked for and a tile is no square, or "rotations" and its output is too small.
    """

    model: nn.Module
    geometry: TileGeometry
    normalisation: Normalisation
    average: Average = "none"
    device: torch.device | str = "cpu"
    batch: int = 1
    precision: Precision = "float32"
    compiled: bool = False
    threads: int = 1
    dtype: Dtype = "float32"
    channels: int | None = None
    planes: Sequence[Plane] = field(init=False, repr=False, compare=False)
    engine: Engine = field(init=False, repr=False, compare=False)
    _of_constant: dict[tuple[float, ...], Tensor] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        _, y, x = self.geometry.input
        _, unit_y, unit_x = self.geometry.stride_unit
        if self.average == "symmetries" and (y != x or unit_y != unit_x):
            raise ValueError(
                f"test_time_augmentation: symmetries turns tiles, but y and x differ: tile {y} x {x}, pooling "
                f"{unit_y} x {unit_x}; "
                "choose a square tile or test_time_augmentation: flips"
            )
        engine = Engine(self.model, torch.device(self.device), self.precision, self.compiled, self.threads)
        object.__setattr__(self, "planes", planes_of(self.average, self.geometry))
        object.__setattr__(self, "engine", engine)

    def predict_box(self, image: Image, box: Box) -> NDArray[Any]:
        """Class probabilities of a box `(K, z, y, x)`, each voxel's summing to 1: `read`, then `infer`."""
        return self.infer(self.read(image, box), box)

    def read(self, image: Image, box: Box) -> NDArray[Any]:
        """What `infer` needs for `box`, in the volume's dtype, in one piece `(z, y, x)` or `(c, z, y, x)`."""
        return image.read_mirrored(window_of(box, self.planes))

    def infer(
        self,
        window: NDArray[Any],
        box: Box,
        tissue: NDArray[np.bool_] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> NDArray[Any]:
        """Class probabilities of `box` from its `window`, `(K, z, y, x)` of `dtype`.

        Memory beside window and result is that of `batch` tiles a thread.

        Parameters
        ----------
        tissue
            `(z, y, x)` of the box: tiles without any are left out, and their voxels 0.
        check
            Called before every batch; what it raises ends the work.
        """
        origin, engine = window_of(box, self.planes).start, self.engine

        def wanted(plane: Plane, cell: Box) -> bool:
            return tissue is None or bool(tissue[plane.part(cell, box).relative_to(box.start).slices].any())

        def add(plane: Plane, cells: list[Box]) -> None:
            check()
            sources = [plane.source(cell).relative_to(origin).trailing for cell in cells]
            constants = [_constant(given[source]) if not plane.turned else None for source in sources]
            if all(values in self._of_constant for values in constants):
                results = [self._of_constant[values] for values in constants if values is not None]
            else:
                grey = [(on_device[source].float() - mean) / divisor for source in sources]
                results = list(self._probabilities([plane.sampled(g, c) for g, c in zip(grey, cells, strict=True)]))
                self._keep_constants(constants, results)
            for cell, tile in zip(cells, results, strict=True):
                plane.add(total, tile, cell, box)

        given = window.reshape(-1, *window.shape[-3:])
        on_device = engine.to_device(given)
        mean, divisor = (torch.from_numpy(c).to(engine.device) for c in self.normalisation.columns(given.shape))
        with engine.computing():
            total = torch.zeros(cast(int, self.model.classes), *box.shape, device=engine.device)
            for plane in self.planes:  # one after the other: a sum in another order has other last bits
                cells = [cell for cell in plane.cells(box) if wanted(plane, cell)]
                engine.each(partial(add, plane), [cells[i : i + self.batch] for i in range(0, len(cells), self.batch)])
            kept = total.div_(len(self.planes))[-(self.channels or len(total)) :]
            result = quantised(kept) if self.dtype == "uint8" else kept
        return engine.to_host(result)

    def _keep_constants(self, constants: list[tuple[float, ...] | None], results: list[Tensor]) -> None:
        """Remember what tiles without any contrast gave: there are many of one value in empty space."""
        for values, result in zip(constants, results, strict=True):
            if values is not None and len(self._of_constant) < MOST_CONSTANTS:
                self._of_constant[values] = result

    def _probabilities(self, tiles: list[Tensor]) -> Tensor:
        """Probabilities `(n, K, z, y, x)` of the output of up to `batch` tiles `(c, z, y, x)`.

        A short batch is filled up with empty tiles: libraries choose their algorithm by the shape, and with another
        algorithm the last bits differ.
        """
        x = torch.zeros(self.batch, *tiles[0].shape, device=self.engine.device)
        for i, tile in enumerate(tiles):
            x[i] = tile
        flat = self.engine.is_2d
        with torch.inference_mode():
            result = _mean_over(SYMMETRIES[self.average], self._output, x[:, :, 0] if flat else x)[: len(tiles)]
        return result[:, :, None] if flat else result

    def _output(self, x: Tensor) -> Tensor:
        """Softmax of the network's result, cropped to the tile's output."""
        logits = self.engine.logits(x)
        for axis, n in enumerate(self.geometry.output[-(logits.ndim - 2) :], start=2):
            logits = logits.narrow(axis, (logits.shape[axis] - n) // 2, n)
        return torch.softmax(logits, dim=1)


def planes_of(average: Average, geometry: TileGeometry) -> Sequence[Plane]:
    """The planes whose results are averaged: the volume's own, or the 7 turned ones of rotations."""
    return rotated_planes(geometry) if average == "rotations" else [StraightPlane(geometry)]


def window_of(box: Box, planes: Sequence[Plane]) -> Box:
    """The voxels that the tiles of all planes need for `box`; may exceed the volume."""
    return enclosing(plane.window(box) for plane in planes)


def quantised(probabilities: Tensor) -> Tensor:
    """Probabilities as uint8, `round(255 p)`.

    >>> quantised(torch.tensor([0, 0.5, 0.998, 1]))
    tensor([  0, 128, 254, 255], dtype=torch.uint8)
    """
    return (probabilities * 255).round_().to(torch.uint8)


def _constant(grey: NDArray[Any]) -> tuple[float, ...] | None:
    """The value of each channel of grey values `(c, z, y, x)`, if it has one."""
    first = grey[:, :1, :1, :1]
    same = bool((grey[:, :1, :1] == first).all() and (grey == first).all())  # most differ within the first row
    return tuple(first.flatten().tolist()) if same else None


def _mean_over(symmetries: list[Symmetry], function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Mean of `g^-1(function(g(x)))` over symmetries g."""
    first, *others = symmetries
    total = _undone(first, function(_applied(first, x)))
    for g in others:
        total += _undone(g, function(_applied(g, x)))
    return total / len(symmetries)


def _applied(symmetry: Symmetry, x: Tensor) -> Tensor:
    """Mirror x if asked to, then turn."""
    quarter_turns, mirrored = symmetry
    return torch.rot90(x.flip(-1) if mirrored else x, quarter_turns, dims=(-2, -1))


def _undone(symmetry: Symmetry, x: Tensor) -> Tensor:
    """Inverse of `_applied`."""
    quarter_turns, mirrored = symmetry
    x = torch.rot90(x, -quarter_turns, dims=(-2, -1))
    return x.flip(-1) if mirrored else x
