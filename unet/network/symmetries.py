"""Symmetries of a tile, and the mean of a network's results over them (test-time augmentation).

A symmetry g permutes the axes of an image and reverses some. The voxel p moves to g p. Classes stay with their voxel,
so `g^-1(network(g(x)))` is one more prediction of x.

Affinities do not stay. The pair (p, p + d) moves to (g p, g p + g d). A channel holds each offset in one direction
(`unet.geometry.offsets`), so there are two cases:

```
g d is an offset       (flip of z, d = x+3)   channel g d, read at p
-g d is an offset      (flip of x, d = x+3)   channel -g d, read at the other end of the pair: at p + d

x flipped    . . B . . A .         the pair A, B is stored at B, which comes first in the flipped image:
undone       . A . . B . .         after the flip is undone, at p + d. Its position in the result is A.
```

A tile has no result for p + d beyond its output. `averaged_geometry` cuts these voxels from the tile, for all
symmetries alike. The mean is over all symmetries at each voxel, and does not depend on the tile.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations, product
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor

from unet.config.predict import TestTimeAugmentation
from unet.geometry.box import Index
from unet.geometry.offsets import Offset, offset_name
from unet.geometry.tiling import TileGeometry, TileSizeError


class Symmetry(NamedTuple):
    """A signed permutation of the axes `(z, y, x)`: first axis i becomes old axis `axes[i]`, then `flips` reverse."""

    axes: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    def applied(self, x: Tensor) -> Tensor:
        """Return `(..., z, y, x)` moved by the symmetry."""
        return _flipped(_permuted(x, self.axes), self.flips)

    def undone(self, x: Tensor) -> Tensor:
        """Return `(..., z, y, x)` moved by the inverse of the symmetry."""
        return _permuted(_flipped(x, self.flips), tuple(self.axes.index(axis) for axis in range(3)))

    def moved(self, offset: Offset) -> Offset:
        """Return the offset between the two voxels of a pair after the symmetry.

        >>> Symmetry((0, 2, 1), (False, True, False)).moved((1, 0, 3))
        (1, -3, 0)
        """
        z, y, x = (-offset[axis] if flip else offset[axis] for axis, flip in zip(self.axes, self.flips, strict=True))
        return z, y, x


STRAIGHT, SWAPPED = (0, 1, 2), (0, 2, 1)
IDENTITY = Symmetry()
FLIPS = [Symmetry(STRAIGHT, (False, y, x)) for y, x in ((False, False), (True, True), (False, True), (True, False))]
SQUARE = [
    Symmetry(axes, (False, y, x))
    for axes, y, x in (
        *((STRAIGHT, False, False), (SWAPPED, True, False), (STRAIGHT, True, True), (SWAPPED, False, True)),
        *((STRAIGHT, False, True), (SWAPPED, False, False), (STRAIGHT, True, False), (SWAPPED, True, True)),
    )
]
"""The 8 symmetries of the square: four quarter turns, then the same after x is mirrored."""

SYMMETRIES: dict[TestTimeAugmentation, list[Symmetry]] = {
    "none": [IDENTITY],
    "flips": FLIPS,
    "symmetries": SQUARE,
    "flips_3d": [Symmetry(g.axes, (z, *g.flips[1:])) for z in (False, True) for g in FLIPS],
    "symmetries_3d": [Symmetry(g.axes, (z, *g.flips[1:])) for z in (False, True) for g in SQUARE],
    "cube": [
        Symmetry((a, b, c), (z, y, x))
        for a, b, c in permutations(range(3))
        for z, y, x in product((False, True), repeat=3)
    ],
    "rotations": [IDENTITY],
}
"""Symmetries applied to each tile, in the order of the sum. Rotations turn the lattice, not the tile."""


class _Source(NamedTuple):
    """Place of an affinity in a symmetry's result: channel, and shift in voxels."""

    channel: int
    shift: Offset


def mean_over(
    augmentation: TestTimeAugmentation,
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    offsets: Sequence[Offset] | None = None,
    geometry: TileGeometry | None = None,
) -> Tensor:
    """Return the mean of a function's results over symmetries.

    Parameters
    ----------
    augmentation : str
        Key of `SYMMETRIES`.
    function : callable
        Maps a batch `(n, c, z, y, x)` to `(n, K, z, y, x)`, its middle.
    x : Tensor
        The batch.
    offsets : sequence of Offset, optional
        Offset of each channel of the result, if channels are affinities.
    geometry : TileGeometry, optional
        Sizes of the tiles. With offsets, the result is cut to the output of `averaged_geometry`.

    Returns
    -------
    Tensor
        `(n, K, z, y, x)`, in the voxels of `x`.
    """
    symmetries = SYMMETRIES[augmentation]
    if offsets is None or geometry is None:
        results = (g.undone(function(g.applied(x))) for g in symmetries)
    else:
        first, size = first_voxel(geometry, augmentation, offsets), averaged_geometry(geometry, augmentation, offsets)
        results = (
            _affinities(g.undone(function(g.applied(x))), _sources(g, offsets), first, size.output) for g in symmetries
        )
    total = next(results)
    for result in results:
        total += result
    return total / len(symmetries)


def _affinities(x: Tensor, sources: Sequence[_Source], first: Index, size: Index) -> Tensor:
    """Return the affinities `(n, K, *size)` of the pairs whose first voxel is `first` of `x`, or follows it."""
    found = x.new_empty(*x.shape[:2], *size)
    for channel, (source, shift) in enumerate(sources):
        part = x[:, source]
        for axis, (a, s, n) in enumerate(zip(first, shift, size, strict=True), start=1):
            part = part.narrow(axis, a + s, n)
        found[:, channel] = part
    return found


def _sources(symmetry: Symmetry, offsets: Sequence[Offset]) -> list[_Source]:
    """Return the source of each channel.

    Raises
    ------
    ValueError
        If the symmetry moves an offset to a pair that no channel holds.
    """
    channels, found = {offset: channel for channel, offset in enumerate(offsets)}, []
    for offset in offsets:
        moved = symmetry.moved(offset)
        reversed_ = (-moved[0], -moved[1], -moved[2])
        if moved in channels:
            found.append(_Source(channels[moved], (0, 0, 0)))
        elif reversed_ in channels:
            found.append(_Source(channels[reversed_], offset))
        else:
            raise ValueError(
                f"a symmetry moves the affinity {offset_name(offset)} to {offset_name(max(moved, reversed_))}, which "
                f"is none of {', '.join(map(offset_name, offsets))}: choose a smaller predict.test_time_augmentation, "
                "or add this offset to model.offsets and train anew"
            )
    return found


def first_voxel(geometry: TileGeometry, augmentation: TestTimeAugmentation, offsets: Sequence[Offset]) -> Index:
    """Return the first voxel of a tile's output that the mean over symmetries has, in whole pooling periods.

    Shifts by offsets such as (1, -2, 0) read before a voxel. Whole periods keep the phase of the pooling grid.
    """
    before = [max((-s[axis] for s in _shifts(augmentation, offsets)), default=0) for axis in range(3)]
    return tuple(ceil(max(n, 0) / unit) * unit for n, unit in zip(before, geometry.stride_unit, strict=True))


def averaged_geometry(
    geometry: TileGeometry, augmentation: TestTimeAugmentation, offsets: Sequence[Offset] | None
) -> TileGeometry:
    """Return the tile geometry whose output is what the mean over symmetries has.

    Without offsets, and without symmetries, it is the tile geometry itself.

    Raises
    ------
    TileSizeError
        If no output is left.

    >>> tile = TileGeometry((1, 60, 60), (1, 20, 20), (0, 20, 20), (1, 4, 4))
    >>> averaged_geometry(tile, "flips", [(0, 1, 0), (0, 0, 9)])
    TileGeometry(input=(1, 60, 60), output=(1, 19, 11), margin=(0, 20, 20), stride_unit=(1, 4, 4))
    """
    shifts = _shifts(augmentation, offsets or ())
    if offsets is None or not shifts:
        return geometry
    first = first_voxel(geometry, augmentation, offsets)
    last = [max(0, *(s[axis] for s in shifts)) for axis in range(3)]
    output = tuple(n - a - b for n, a, b in zip(geometry.output, first, last, strict=True))
    if any(n < unit for n, unit in zip(output, geometry.stride_unit, strict=True)):
        raise TileSizeError(
            f"test_time_augmentation: {augmentation} moves affinities by up to {tuple(last)} voxels (z, y, x), which "
            f"leaves nothing of the output {geometry.output} of a tile of {geometry.input}; choose a larger "
            "predict.tile, or test_time_augmentation: none"
        )
    return replace(geometry, output=output, margin=tuple(m + a for m, a in zip(geometry.margin, first, strict=True)))


def lost_voxels(stride_unit: Index, augmentation: TestTimeAugmentation, offsets: Sequence[Offset] | None) -> Index:
    """Return how many voxels `(z, y, x)` of a tile's output no cell can use.

    Rotations interpolate, and take a row and a column. Affinities are moved, and take the longest move.

    >>> lost_voxels((1, 4, 4), "rotations", None), lost_voxels((1, 4, 4), "flips", [(0, 3, 0), (0, 0, 9)])
    ((0, 1, 1), (0, 3, 9))
    """
    if augmentation == "rotations":
        return (0, 1, 1)
    vast = tuple(10**6 * unit for unit in stride_unit)
    whole = TileGeometry(vast, vast, (0, 0, 0), stride_unit)
    left = averaged_geometry(whole, augmentation, offsets).output
    return tuple(n - m for n, m in zip(vast, left, strict=True))


def require_applicable(
    augmentation: TestTimeAugmentation, geometry: TileGeometry, dimensions: int, offsets: Sequence[Offset] | None = None
) -> None:
    """Refuse a test-time augmentation that a network or its tiles do not permit.

    Raises
    ------
    ValueError
        If it flips z of a 2-D network, or turns tiles that are not square or cubic. If it rotates affinities, or moves
        an affinity to a pair that no channel holds.
    """
    if augmentation == "rotations" and offsets is not None:
        raise ValueError(
            "test_time_augmentation: rotations interpolates, but affinities belong to whole voxels; choose flips or "
            "symmetries"
        )
    if dimensions == 2 and augmentation in ("flips_3d", "symmetries_3d", "cube"):
        raise ValueError(
            f"test_time_augmentation: {augmentation} flips sections, but the network is 2-D; choose flips or symmetries"
        )
    (z, y, x), (unit_z, unit_y, unit_x), (out_z, *_, out_x) = geometry.input, geometry.stride_unit, geometry.output
    if any(g.axes[1] != 1 for g in SYMMETRIES[augmentation]) and (y != x or unit_y != unit_x):
        raise ValueError(
            f"test_time_augmentation: {augmentation} turns tiles, but y and x differ: tile {y} x {x}, pooling "
            f"{unit_y} x {unit_x}; choose a square tile or test_time_augmentation: flips"
        )
    if augmentation == "cube" and (z != x or unit_z != unit_x or out_z != out_x):
        raise ValueError(
            f"test_time_augmentation: cube turns tiles about every axis, but z and x differ: tile {z} and {x}, pooling "
            f"{unit_z} and {unit_x}, output {out_z} and {out_x}; choose a cubic tile, or symmetries_3d"
        )
    for symmetry in SYMMETRIES[augmentation] if offsets is not None else ():
        _sources(symmetry, offsets or ())


def _shifts(augmentation: TestTimeAugmentation, offsets: Sequence[Offset]) -> list[Offset]:
    """Return the shifts of all symmetries that are not 0."""
    sources = [source for g in SYMMETRIES[augmentation] for source in _sources(g, offsets)]
    return [source.shift for source in sources if any(source.shift)]


def _permuted(x: Tensor, axes: Sequence[int]) -> Tensor:
    leading = x.ndim - 3
    return x.permute(*range(leading), *(leading + axis for axis in axes))


def _flipped(x: Tensor, flips: Sequence[bool]) -> Tensor:
    axes = [axis - 3 for axis, flip in enumerate(flips) if flip]
    return torch.flip(x, axes) if axes else x
