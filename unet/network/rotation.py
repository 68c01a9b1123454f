"""Test-time augmentation by 7 rotations of a volume (paper, section 4), computed tile by tile.

The *rotated lattice* of an angle is a second grid of pixels on every section, rotated about the volume's first voxel.
Pixel p of the lattice lies at position R p of the volume. Volume and angle alone determine the lattice and its tiles:

```
x ->                                 +-----+-----+            cells of the rotated lattice, at multiples of its
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
1. `cells`       Find the cells that the rotated box touches: rectangles meet unless an axis of either separates them.
                 Those of one row of cells are neighbours. The first and the last are found by bisection.
2. `source_box`  Find the voxels around a tile's input, rotated back. `read_box` encloses the source boxes of all cells.
3. `tile_input`  Sample the tile's input at R p, by cubic interpolation of normalised grey values. Run the network.
4. `accumulate`  Sample the probability of each voxel q of the box at R^-1 q, by linear interpolation between four
                 pixels of one tile: the tile whose cell holds the upper left pixel. A tile's output has one more row
                 and column than its cell.

A voxel's result depends on the volume and the model alone, down to the last bits. Positions are computed from whole
coordinates in float64, and split into integer and fraction before any box matters. Sums have one order.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from math import ceil, cos, floor, radians, sin

import torch
from torch import Tensor

from unet.geometry.box import Box, enclosing
from unet.geometry.tiling import TileGeometry, TileSizeError

ANGLES = tuple(360 * k / 7 for k in range(7))
"""Degrees. The paper names 7 rotated versions but no angles; here they divide the full turn evenly."""
CUBIC_SUPPORT = 2
"""Pixels that cubic interpolation reads on each side of a position."""

Matrix = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class RotatedLattice:
    """The rotated lattice of one angle, and its tiles.

    Parameters
    ----------
    geometry : TileGeometry
        Sizes of the network's tiles, which need not be square.
    degrees : float
        Angle a. The pixel (y, x) of the lattice lies at (y cos a - x sin a, y sin a + x cos a) of the volume.

    Raises
    ------
    TileSizeError
        If the output of a tile leaves no row or column for interpolation.
    """

    geometry: TileGeometry
    degrees: float
    interpolates: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        if 0 in self.cell_geometry.stride:
            raise TileSizeError(
                f"test_time_augmentation: rotations interpolates; a tile's output must be larger in y and x than "
                f"the {self.geometry.stride_unit} that tiles are apart at least, but that of {self.geometry.input} is "
                f"{self.geometry.output}; choose a larger predict.tile"
            )

    @cached_property
    def cell_geometry(self) -> TileGeometry:
        """Return the tile geometry whose output is the cell: one row and one column less, which interpolation needs."""
        z, y, x = self.geometry.output
        return replace(self.geometry, output=(z, y - 1, x - 1))

    @cached_property
    def to_volume(self) -> Matrix:
        """Return R, which maps a pixel (y, x) of the lattice to its position in the volume."""
        c, s = cos(radians(self.degrees)), sin(radians(self.degrees))
        return (c, -s), (s, c)

    @cached_property
    def to_lattice(self) -> Matrix:
        """Return R^-1, which maps a voxel (y, x) to its position on the lattice."""
        (c, _), (s, _) = self.to_volume
        return (c, s), (-s, c)

    def cells(self, box: Box) -> list[Box]:
        """Return the cells of the lattice that `box` of the volume touches, in scan order."""
        depth, rows = self.cell_geometry.stride[0], list(self._rows(box))
        return [
            self._cell(z, y, x)
            for z in range(box.start[0] // depth * depth, box.stop[0], depth)
            for y, columns in rows
            for x in columns
        ]

    def source_box(self, cell: Box) -> Box:
        """Return the box of voxels that the tile of `cell` reads; it may exceed the volume."""
        return hull(self.to_volume, self.cell_geometry.input_box(cell)).grown((0, CUBIC_SUPPORT, CUBIC_SUPPORT))

    def read_box(self, box: Box) -> Box:
        """Return the box of voxels that all tiles of `box` read; it may exceed the volume."""
        depth, first, last = self.cell_geometry.stride[0], box.start[0], box.stop[0] - 1
        outermost = (
            self._cell(z // depth * depth, y, x)
            for y, columns in self._rows(box)
            for x in (columns[0], columns[-1])
            for z in (first, last)
        )
        return enclosing(self.source_box(cell) for cell in outermost)

    def _rows(self, box: Box) -> Iterator[tuple[int, range]]:
        """Yield y of each row of cells that `box` touches, and x of its cells; they are the same in every section.

        Along a row the cells' hulls move one way along each axis, and rounding preserves order. The cells before
        those that meet the box are therefore all on one side of it, and the cells behind them on the other.
        """
        (_, height, width), around = self.cell_geometry.stride, hull(self.to_lattice, box)
        columns = range(around.start[2] // width * width, around.stop[2], width)
        for y in range(around.start[1] // height * height, around.stop[1], height):
            meeting = columns
            for axis in (1, 2):
                side = partial(self._side_along_row, box, axis, y)
                meeting = meeting[bisect_left(meeting, 0, key=side) : bisect_right(meeting, 0, key=side)]
            if meeting:
                yield y, meeting

    def _side_along_row(self, box: Box, axis: int, y: int, x: int) -> int:
        """Return -1 for a cell before those of its row that meet `box` along an axis, 0 for these, 1 behind them."""
        covered = self._covered(self._cell(box.start[0], y, x))
        side = int(covered.start[axis] >= box.stop[axis]) - int(covered.stop[axis] <= box.start[axis])
        return side if self.to_volume[axis - 1][1] > 0 else -side

    def _cell(self, z: int, y: int, x: int) -> Box:
        """Return the cell that starts there."""
        return Box((z, y, x), tuple(lo + n for lo, n in zip((z, y, x), self.cell_geometry.stride, strict=True)))

    def tile_input(self, grey: Tensor, cell: Box) -> Tensor:
        """Sample the input of the tile of `cell`.

        Parameters
        ----------
        grey : Tensor
            Float32 `(..., y, x)`, the voxels of `source_box(cell)`.

        Returns
        -------
        Tensor
            Float32 `(..., y, x)` of the tile's input size.
        """
        tile = self.cell_geometry.input_box(cell)
        pixel, fraction = positions(self.to_volume, tile, grey.device)
        values = interpolated(grey, pixel - _corner(self.source_box(cell), pixel), fraction, cubic)
        return values.unflatten(-1, tile.shape[-2:])

    def accumulate(self, total: Tensor, tile: Tensor, cell: Box, box: Box) -> None:
        """Add a tile's probabilities to the voxels of `box` whose position on the lattice lies in `cell`.

        Parameters
        ----------
        total : Tensor
            Float32 `(K, z, y, x)` of `box`, changed in place.
        tile : Tensor
            Float32 `(K, z, y, x)`: the tile's output, whose first pixel is the first pixel of `cell`.
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
        """Return the part of `box` around the voxels in `cell`; its size is 0 where box and cell do not meet."""
        return self._covered(cell).intersected(box)

    def _covered(self, cell: Box) -> Box:
        """Return the box around the voxels whose position on the lattice lies in `cell`."""
        return hull(self.to_volume, Box(cell.start, (cell.stop[0], cell.stop[1] + 1, cell.stop[2] + 1)))


def rotated_lattices(geometry: TileGeometry) -> list[RotatedLattice]:
    """Return the lattices of the 7 angles; the first angle is 0."""
    return [RotatedLattice(geometry, degrees) for degrees in ANGLES]


def hull(matrix: Matrix, box: Box) -> Box:
    """Return the smallest box that contains the rotated pixels of a box; its sections stay.

    Rounding preserves order, so no pixel's computed position lies beyond the corners' computed positions.

    >>> hull(((0.0, -1.0), (1.0, 0.0)), Box((3, 0, 0), (4, 2, 5)))  # a quarter turn: (y, x) to (-x, y)
    Box(start=(3, -4, 0), stop=(4, 1, 2))
    """
    (z0, *low), (z1, *high) = box.start, box.stop
    corners = [(y, x) for y in (low[0], high[0] - 1) for x in (low[1], high[1] - 1)]
    along = [[a * y + b * x for y, x in corners] for a, b in matrix]
    return Box((z0, *(floor(min(values)) for values in along)), (z1, *(ceil(max(values)) + 1 for values in along)))


def positions(matrix: Matrix, box: Box, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the rotated positions of the pixels `(y, x)` of a box, in scan order.

    Returns
    -------
    tuple of Tensor
        Integer parts `(2, n)` int64 in y and x, and fractions `(2, n)` float32.
    """
    sides = zip(box.start[-2:], box.stop[-2:], strict=True)
    y, x = (torch.arange(lo, hi, dtype=torch.float64, device=device) for lo, hi in sides)
    position = torch.stack([(a * y[:, None] + b * x).flatten() for a, b in matrix])
    below = position.floor()
    return below.long(), (position - below).float()


def interpolated(values: Tensor, pixel: Tensor, fraction: Tensor, weights: Callable[[Tensor], list[Tensor]]) -> Tensor:
    """Interpolate between pixels: `sum_i sum_j w_i(y) w_j(x) values[..., y + i, x + j]`, added in this order.

    Parameters
    ----------
    values : Tensor
        `(..., y, x)`.
    pixel, fraction : Tensor
        `(2, n)` from `positions`.
    weights : callable
        `linear` or `cubic`.

    Returns
    -------
    Tensor
        `(..., n)`.
    """
    *leading, height, width = values.shape
    flat = values.reshape(-1, height * width)  # selecting from two axes is 20 times faster than from three
    along_y, along_x = weights(fraction[0]), weights(fraction[1])
    before = len(along_x) // 2 - 1
    first = (pixel[0] - before) * width + pixel[1] - before

    def row(i: int) -> Tensor:
        taps = (flat[:, i * width + j :].index_select(-1, first) for j in range(len(along_x)))
        return _sum(w * tap for w, tap in zip(along_x, taps, strict=True))

    return _sum(w * row(i) for i, w in enumerate(along_y)).reshape(*leading, -1)


def linear(t: Tensor) -> list[Tensor]:
    """Return the weights of the pixels at 0 and 1 for a position 0 <= t <= 1."""
    return [1 - t, t]


def cubic(t: Tensor) -> list[Tensor]:
    """Return the weights of the pixels at -1, 0, 1, 2 for a position 0 <= t <= 1: Keys' kernel with a = -3/4.

    ```
    w_-1 = a t (1 - t)^2,   w_0 = 1 - t^2 (a + 3 - (a + 2) t),   w_1(t) = w_0(1 - t),   w_2(t) = w_-1(1 - t)
    ```

    PyTorch has the same kernel, by which `unet.training.augmentation` rotates training patches. The kernel with
    a = -1/2 keeps less detail, linear interpolation much less.

    >>> [float(w) for w in cubic(torch.tensor(0.5))]
    [-0.09375, 0.59375, 0.59375, -0.09375]

    Source: R. Keys, Cubic convolution interpolation, 1981; doi:10.1109/TASSP.1981.1163711.
    """
    u = 1 - t
    return [-0.75 * t * u * u, 1 - (2.25 - 1.25 * t) * t * t, 1 - (2.25 - 1.25 * u) * u * u, -0.75 * u * t * t]


def _corner(box: Box, like: Tensor) -> Tensor:
    """Return the first pixel `(y, x)` of a box as a column `(2, 1)`."""
    return torch.tensor(box.start[-2:], device=like.device)[:, None]


def _sum(terms: Iterator[Tensor]) -> Tensor:
    """Sum terms from left to right, in the memory of the first term."""
    total = next(terms)
    for term in terms:
        total += term
    return total
