"""The mean over 7 rotated versions of a volume (paper, section 4), still one tile after another.

The *turned plane* of an angle is a second lattice of pixels on every section, turned about the volume's first voxel:
its pixel p lies at position R p of the volume. It is fixed by the volume and the angle, and has tiles of its own:

```
x ->                                 +-----+-----+            cells of the turned lattice, at multiples of its
y   +-----------+                    |   .'|'.   |            stride; negative ones lie beyond the volume's faces
|   |           |              +-----+-.'--+--'.-+-----+
v   |    box    |  turned by   |    .'     |     '.    |
    |           |  -a ------>  +--<--------+--------->-+      the box needs the cells that it touches, not the
    |           |              |    '.     |     .'    |      four in the corners
    +-----------+              +-----+-'.--+--.'-+-----+
                                     |   '.|.'   |
                                     +-----+-----+
```

For an angle and a box:
1. `cells`    Cells that the turned box touches: two rectangles meet unless an axis of either one parts them.
2. `source`   The voxels around a tile's turned-back input; `window` has those of all cells in one piece.
3. `sampled`  The tile's input, at R p by cubic interpolation of normalised grey values; then the network runs.
4. `add`      Each voxel q of the box reads its probability at R^-1 q by linear interpolation between four pixels of one
              tile: that of the cell which holds the upper left one, since tiles give a row and a column more than that.

So a voxel's result depends on the volume and the model alone. Its last bits do too: positions are computed from whole
coordinates in float64 and parted into an integer and a fraction before any window comes in, and sums have one order.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil, cos, floor, radians, sin

import torch
from torch import Tensor

from unet.geometry.box import Box
from unet.geometry.tiling import TileGeometry, TileSizeError, tiles_for

ANGLES = tuple(360 * k / 7 for k in range(7))
"""Degrees. The paper says 7 rotated versions and no angles; these share the full turn out evenly."""
CUBIC_SUPPORT = 2
"""Pixels that cubic interpolation reads on either side of a position."""

Matrix = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class RotatedLattice:
    """The tiles of one angle.

    Parameters
    ----------
    geometry : TileGeometry
        Of the network's tiles; they need not be square.
    degrees : float
        Angle a: the pixel at (y, x) lies at (y cos a - x sin a, y sin a + x cos a) of the volume.

    Raises
    ------
    TileSizeError
        If the output of a tile has no pixel to spare for interpolation.
    """

    geometry: TileGeometry
    degrees: float
    interpolates: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        if 0 in self.cell_geometry.stride:
            raise TileSizeError(
                f"test_time_augmentation: rotations interpolates, so a tile's output must be larger in y and x than "
                f"the {self.geometry.stride_unit} that tiles are apart at least, but that of {self.geometry.input} is "
                f"{self.geometry.output}; choose a larger predict.tile"
            )

    @cached_property
    def cell_geometry(self) -> TileGeometry:
        """Of the cells: they leave a row and a column of each output to interpolate with."""
        z, y, x = self.geometry.output
        return replace(self.geometry, output=(z, y - 1, x - 1))

    @cached_property
    def to_volume(self) -> Matrix:
        """R: from a pixel (y, x) of the turned lattice to its position in the volume."""
        c, s = cos(radians(self.degrees)), sin(radians(self.degrees))
        return (c, -s), (s, c)

    @cached_property
    def to_lattice(self) -> Matrix:
        """R^-1: from a voxel (y, x) to its position on the turned lattice."""
        (c, _), (s, _) = self.to_volume
        return (c, s), (-s, c)

    def cells(self, box: Box) -> list[Box]:
        """The cells of the turned plane that `box` of the volume touches, in scan order."""
        return [
            cell for cell in tiles_for(hull(self.to_lattice, box), self.cell_geometry) if self.overlap(cell, box).size
        ]

    def source_box(self, cell: Box) -> Box:
        """The voxels of the volume that the tile of `cell` reads; may exceed the volume."""
        return hull(self.to_volume, self.cell_geometry.input_box(cell)).grown((0, CUBIC_SUPPORT, CUBIC_SUPPORT))

    def read_box(self, box: Box) -> Box:
        """The voxels that all tiles of `box` read, as one box; may exceed the volume."""
        return enclosing(self.source_box(cell) for cell in self.cells(box))

    def tile_input(self, grey: Tensor, cell: Box) -> Tensor:
        """Input of the tile of `cell`.

        Parameters
        ----------
        grey : Tensor
            Float32 `(..., y, x)`, the voxels of `source_box(cell)`.

        Returns
        -------
        Tensor
            Float32 `(..., y, x)` of the tile's size in the lattice.
        """
        tile = self.cell_geometry.input_box(cell)
        pixel, fraction = positions(self.to_volume, tile, grey.device)
        values = interpolated(grey, pixel - _corner(self.source_box(cell), pixel), fraction, cubic)
        return values.unflatten(-1, tile.shape[-2:])

    def accumulate(self, total: Tensor, tile: Tensor, cell: Box, box: Box) -> None:
        """Add what a tile says to those voxels of `box` whose turned position lies in its `cell`; no other is touched.

        Parameters
        ----------
        total : Tensor
            Float32 `(K, z, y, x)` of `box`.
        tile : Tensor
            Float32 `(K, z, y, x)`, the tile's output, which starts at the first pixel of `cell`.
        """
        part = self.overlap(cell, box)
        pixel, fraction = positions(self.to_lattice, part, tile.device)
        pixel -= _corner(cell, pixel)
        size = torch.tensor(cell.shape[-2:], device=pixel.device)[:, None]
        here = ((pixel >= 0) & (pixel < size)).all(dim=0).nonzero()[:, 0]
        sections, _, _ = part.relative_to(cell.start).slices
        values = interpolated(tile[:, sections], pixel[:, here], fraction[:, here], linear)
        columns = part.shape[-1]
        total[:, *part.relative_to(box.start).slices][..., here // columns, here % columns] += values

    def overlap(self, cell: Box, box: Box) -> Box:
        """The part of `box` around the voxels that lie in `cell`; of size 0 where the two do not meet."""
        up_to_the_next = Box(cell.start, (cell.stop[0], cell.stop[1] + 1, cell.stop[2] + 1))
        return hull(self.to_volume, up_to_the_next).intersected(box)


def rotated_lattices(geometry: TileGeometry) -> list[RotatedLattice]:
    """Those of the 7 angles; the first one is not turned."""
    return [RotatedLattice(geometry, degrees) for degrees in ANGLES]


def enclosing(boxes: Iterable[Box]) -> Box:
    """The smallest box that holds all of some boxes.

    >>> enclosing([Box((0, 5), (1, 6)), Box((0, 2), (3, 4))])
    Box(start=(0, 2), stop=(3, 6))
    """
    starts, stops = zip(*((box.start, box.stop) for box in boxes), strict=True)
    return Box(tuple(map(min, zip(*starts, strict=True))), tuple(map(max, zip(*stops, strict=True))))


def hull(matrix: Matrix, box: Box) -> Box:
    """The smallest box that holds the turned pixels of a box; its sections stay.

    Rounding preserves order, so no pixel's computed position lies beyond those of the corners.

    >>> hull(((0.0, -1.0), (1.0, 0.0)), Box((3, 0, 0), (4, 2, 5)))  # a quarter turn: (y, x) to (-x, y)
    Box(start=(3, -4, 0), stop=(4, 1, 2))
    """
    (z0, *low), (z1, *high) = box.start, box.stop
    corners = [(y, x) for y in (low[0], high[0] - 1) for x in (low[1], high[1] - 1)]
    along = [[a * y + b * x for y, x in corners] for a, b in matrix]
    return Box((z0, *(floor(min(values)) for values in along)), (z1, *(ceil(max(values)) + 1 for values in along)))


def positions(matrix: Matrix, box: Box, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where the pixels `(y, x)` of a box lie after a turn.

    Returns
    -------
    tuple of Tensor
        `(2, n)` int64, the pixel below in y and x, and `(2, n)` float32, the fraction beyond it; in scan order.
    """
    sides = zip(box.start[-2:], box.stop[-2:], strict=True)
    y, x = (torch.arange(lo, hi, dtype=torch.float64, device=device) for lo, hi in sides)
    position = torch.stack([(a * y[:, None] + b * x).flatten() for a, b in matrix])
    below = position.floor()
    return below.long(), (position - below).float()


def interpolated(values: Tensor, pixel: Tensor, fraction: Tensor, weights: Callable[[Tensor], list[Tensor]]) -> Tensor:
    """Values between pixels, `sum_i sum_j w_i(y) w_j(x) values[..., y + i, x + j]`, added in this order.

    Parameters
    ----------
    values : Tensor
        `(..., y, x)`.
    pixel, fraction : Tensor
        `(2, n)` as from `positions`.
    weights : callable
        `linear` or `cubic`.

    Returns
    -------
    Tensor
        `(..., n)`.
    """
    *leading, height, width = values.shape
    flat = values.reshape(-1, height * width)  # selecting from two axes is 20 times as fast as from three
    along_y, along_x = weights(fraction[0]), weights(fraction[1])
    before = len(along_x) // 2 - 1
    first = (pixel[0] - before) * width + pixel[1] - before

    def row(i: int) -> Tensor:
        taps = (flat[:, i * width + j :].index_select(-1, first) for j in range(len(along_x)))
        return _sum(w * tap for w, tap in zip(along_x, taps, strict=True))

    return _sum(w * row(i) for i, w in enumerate(along_y)).reshape(*leading, -1)


def linear(t: Tensor) -> list[Tensor]:
    """Weights of the pixels at 0 and 1 for a position 0 <= t <= 1 between them."""
    return [1 - t, t]


def cubic(t: Tensor) -> list[Tensor]:
    """Weights of the pixels at -1, 0, 1, 2 for a position 0 <= t <= 1: Keys' kernel with a = -3/4.

    ```
    w_-1 = a t (1 - t)^2,   w_0 = 1 - t^2 (a + 3 - (a + 2) t),   w_1(t) = w_0(1 - t),   w_2(t) = w_-1(1 - t)
    ```

    PyTorch's, by which `unet.training.augmentation` turns the patches that a network learns from. a = -1/2 keeps
    less detail, linear interpolation much less.

    >>> [float(w) for w in cubic(torch.tensor(0.5))]
    [-0.09375, 0.59375, 0.59375, -0.09375]

    Source: R. Keys, Cubic convolution interpolation, 1981; doi:10.1109/TASSP.1981.1163711.
    """
    u = 1 - t
    return [-0.75 * t * u * u, 1 - (2.25 - 1.25 * t) * t * t, 1 - (2.25 - 1.25 * u) * u * u, -0.75 * u * t * t]


def _corner(box: Box, like: Tensor) -> Tensor:
    """First pixel `(y, x)` of a box as a column `(2, 1)`."""
    return torch.tensor(box.start[-2:], device=like.device)[:, None]


def _sum(terms: Iterator[Tensor]) -> Tensor:
    """Sum from left to right, in the first term's memory."""
    total = next(terms)
    for term in terms:
        total += term
    return total
