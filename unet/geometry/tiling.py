"""Overlap-tile strategy: the sizes that fit a network, the context that a tile needs, the positions of the tiles.

```
            input = 572
+-----------------------------------+
|  context = margin (92)            |        cells of the lattice, stride 384 (paper: output 388)
|    +-------------------------+    |        +--------+--------+--------+
|    | cell = stride (384)   | |    |        | (0, 0) | (0, 1) |  ...   |
|    |                       | |    |        +--------+--------+--------+
|    |-----------------------' |    |        | (1, 0) |
|    +-------------------------+    |        +--------+
|            output = 388           |        the cell at (i, j) starts at voxel (384 i, 384 j) of the volume
+-----------------------------------+
```

A network with poolings is not invariant to every shift. Moved by one pixel, an image falls differently into the
windows of the max-pools. The network is invariant to shifts by the product of its pooling factors: 2^(depth - 1), 16
for the paper's network. All tiles therefore start at multiples of a stride that is a multiple of this product, counted
from the volume's first voxel: 384 for an output of 388. A voxel's result then does not depend on the tile, the block
or the job that computes it.

All sizes have axes `(z, y, x)`. For a 2-D network a tile is one section: size 1, margin 0 and factor 1 along z. With
n context sections on each side, its input has 2 n + 1 sections and margin n.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice, pairwise, product
from math import ceil, prod

from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid
from unet.geometry.network_sizes import (
    NetworkShape,
    is_convolved,
    network_output,
    receptive_field_overhang,
    stride_unit,
)


class TileSizeError(ValueError):
    """The network cannot take a tile of this size. The message names the nearest sizes that it can take."""


@dataclass(frozen=True)
class TileGeometry:
    """Sizes of a tile in voxels, axes `(z, y, x)`.

    Parameters
    ----------
    input : Index
        Size of the network's input.
    output : Index
        Size of the part of the network's result that depends on the input alone, not on padding.
    margin : Index
        Context on each side: `input = margin + output + margin`.
    stride_unit : Index
        Product of the pooling factors. The origin of every tile is a multiple of it.

    Examples
    --------
    >>> TileGeometry((1, 572, 572), (1, 388, 388), (0, 92, 92), (1, 16, 16)).stride
    (1, 384, 384)
    """

    input: Index
    output: Index
    margin: Index
    stride_unit: Index

    @property
    def stride(self) -> Index:
        """Distance between neighbouring tiles: the largest multiple of `stride_unit` that is at most `output`."""
        return tuple(out // unit * unit for out, unit in zip(self.output, self.stride_unit, strict=True))

    def input_box(self, cell: Box) -> Box:
        """Return the voxels that a tile reads to predict its `cell`; the box may exceed the volume."""
        start = tuple(lo - m for lo, m in zip(cell.start, self.margin, strict=True))
        return Box(start, tuple(lo + n for lo, n in zip(start, self.input, strict=True)))

    def read_box(self, box: Box) -> Box:
        """Return the box that contains the voxels that all tiles of `box` read; it may exceed the volume."""
        corners = Box(box.start, tuple(lo + 1 for lo in box.start)), Box(tuple(hi - 1 for hi in box.stop), box.stop)
        first, last = (tiles_for(corner, self)[0] for corner in corners)  # there may be a million between them
        return Box(self.input_box(first).start, self.input_box(last).stop)


def tiles_for(box: Box, geometry: TileGeometry) -> list[Box]:
    """Return the cells of the volume's lattice that `box` touches, in scan order. Each cell is predicted by one tile.

    The lattice starts at the volume's first voxel, whatever the box.

    >>> paper = TileGeometry((1, 572, 572), (1, 388, 388), (0, 92, 92), (1, 16, 16))
    >>> [str(cell) for cell in tiles_for(Box((4, 0, 380), (5, 10, 400)), paper)]
    ['4:5,0:384,0:384', '4:5,0:384,384:768']
    """
    stride = geometry.stride
    ranges = [range(lo // s, ceil(hi / s)) for lo, hi, s in zip(box.start, box.stop, stride, strict=True)]
    starts = [tuple(i * s for i, s in zip(index, stride, strict=True)) for index in product(*ranges)]
    return [Box(start, tuple(lo + s for lo, s in zip(start, stride, strict=True))) for start in starts]


def tile_geometry(config: NetworkShape, tile: int | Index) -> TileGeometry:
    """Return the sizes of a tile from the size of its input.

    Parameters
    ----------
    config : NetworkShape
        The network.
    tile : int or Index
        Input size in voxels `(z, y, x)`; one number is the side along every axis of the network.

    Raises
    ------
    TileSizeError
        If the network cannot take the size, or its output is smaller than one `stride_unit`.
    """
    size, unit, axes = full_size(config, tile), stride_unit(config), range(3)
    output = output_size(config, size)
    for axis in axes:
        if output[axis] < unit[axis]:
            raise TileSizeError(
                f"a tile of {size[axis]} along {'zyx'[axis]} leaves an output of {output[axis]}, less than the "
                f"{unit[axis]} that neighbouring tiles must be apart; the next size that fits is "
                f"{next(_sizes(config, axis, count(size[axis]), least=unit[axis]))}"
            )
    margin = tuple((size[axis] - output[axis]) // 2 for axis in axes)
    return TileGeometry(size, output, margin, unit)


def output_size(config: NetworkShape, tile: int | Index) -> Index:
    """Return the size `(z, y, x)` of the result that depends on a tile's input alone; see `tile_geometry`.

    For the paper's network `input = 16 b + 60` gives `output = 16 b - 124`, b >= 8: 572 gives 388. For a zero-padded
    network the border whose receptive field touches the padding is left out.

    Raises
    ------
    TileSizeError
        If the network cannot take the size.
    """
    size = full_size(config, tile)
    return tuple(_fitting_output(config, axis, n) for axis, n in enumerate(size))


def valid_input_sizes(config: NetworkShape, up_to: int, axis: int = 2) -> list[int]:
    """Return every input size along `axis` (0 = z, 1 = y, 2 = x) that has an output, up to and including `up_to`."""
    return list(_sizes(config, axis, range(1, up_to + 1)))


def full_size(config: NetworkShape, tile: int | Index) -> Index:
    """Return a tile's input size as `(z, y, x)`; one number is the side along every axis of the network.

    Raises
    ------
    TileSizeError
        If a tile of a 2-D network is thicker than a section.
    """
    sections = config.sections
    size = tile if isinstance(tile, tuple) else (sections,) * (3 - config.dimensions) + (tile,) * config.dimensions
    if config.dimensions == 2 and size[0] != sections:
        seen = "one section" if sections == 1 else f"one section and {sections - 1} of context"
        raise TileSizeError(f"a tile of a 2-D network is {seen}, so its z is {sections}, not {size[0]}")
    return size


def tile_candidates(config: NetworkShape, grid: Grid, spare: Index = (0, 0, 0), *, cubic: bool = False) -> list[Index]:
    """Return candidate input sizes `(z, y, x)` for the blocks of a volume, those that read the fewest voxels first.

    A tile that two blocks touch is computed for each of them. Strides that divide the block are therefore efficient,
    and among them large ones, because their context is a smaller share of the input. Of all sizes that need equally
    many tiles only the smallest is a candidate. Candidates are square in y and x.

    Parameters
    ----------
    grid
        The blocks of the volume.
    spare
        Voxels `(z, y, x)` of a tile's output that its cell does not use: (0, 1, 1) for the mean over rotations.
    cubic
        Whether candidates have one side along z, y and x.
    """
    found: dict[int, Index] = {}
    if cubic:
        for side, tiles in _tiles_by_size(config, (0, 1, 2), grid, spare).items():
            found.setdefault(tiles, (side,) * 3)
    else:
        z_sizes, sides = _tiles_by_size(config, (0,), grid, spare), _tiles_by_size(config, (1, 2), grid, spare)
        for z, side in product(z_sizes, sides):
            tile, tiles = (z, side, side), z_sizes[z] * sides[side]
            found[tiles] = min(found.get(tiles, tile), tile, key=prod)
    return [tile for _, tile in sorted(found.items(), key=lambda item: item[0] * prod(item[1]))]


def tile_count(grid: Grid, geometry: TileGeometry) -> int:
    """Return the number of tiles of all blocks of a volume; a tile counts once per block that touches it."""
    return prod(_tiles_along(axis, grid, stride) for axis, stride in enumerate(geometry.stride))


def alternative_tile(config: NetworkShape, tile: Index) -> Index:
    """Return a small input size `(z, y, x)` other than `tile`, to compare two tilings of a volume.

    >>> from unet.config.root import ModelConfig
    >>> alternative_tile(ModelConfig(), (1, 572, 572)), alternative_tile(ModelConfig(), (1, 220, 220))
    ((1, 220, 220), (1, 236, 236))
    """
    unit = stride_unit(config)
    sizes = (_sizes(config, axis, count(1), least=2 * unit[axis]) for axis in range(3))
    z, y, x = (
        [config.sections] if not is_convolved(config, axis) else list(islice(s, 2)) for axis, s in enumerate(sizes)
    )
    smallest = (z[0], y[0], x[0])
    return smallest if smallest != tile else (z[0], y[1], x[1])


def _tiles_by_size(config: NetworkShape, axes: tuple[int, ...], grid: Grid, spare: Index) -> dict[int, int]:
    """Return the number of tiles of all blocks along some axes by their side.

    It ends with the first side at which one tile covers a block.
    """
    if not is_convolved(config, axes[0]):
        return {config.sections: grid.shape[axes[0]]}
    units, tiles = stride_unit(config), {}
    for side in count(1):
        outputs = [_output(config, axis, side) - spare[axis] for axis in axes]
        if any(output < units[axis] for output, axis in zip(outputs, axes, strict=True)):
            continue
        strides = [output // units[axis] * units[axis] for output, axis in zip(outputs, axes, strict=True)]
        tiles[side] = prod(_tiles_along(axis, grid, stride) for axis, stride in zip(axes, strides, strict=True))
        if tiles[side] == prod(grid.counts[axis] for axis in axes):
            break
    return tiles


def _tiles_along(axis: int, grid: Grid, stride: int) -> int:
    """Return the number of tiles that all blocks need along an axis."""
    faces = [*range(0, grid.shape[axis], grid.block[axis]), grid.shape[axis]]
    return sum(ceil(hi / stride) - lo // stride for lo, hi in pairwise(faces))


def _sizes(config: NetworkShape, axis: int, candidates: Iterable[int], least: int = 1) -> Iterator[int]:
    """Yield the candidates that are input sizes with an output of at least `least` voxels."""
    return (n for n in candidates if _output(config, axis, n) >= least)


def _fitting_output(config: NetworkShape, axis: int, size: int) -> int:
    """Return the output of an input size along one axis; raise an error with the nearest valid sizes if none."""
    output = _output(config, axis, size)
    if output > 0:
        return output
    below = next(_sizes(config, axis, range(size - 1, 0, -1)), None)
    above = next(_sizes(config, axis, count(max(1, size + 1))))
    nearest = f"the smallest is {above}" if below is None else f"nearest are {below} and {above}"
    name = {"unet": "U-Net", "fcn8s": "FCN-8s"}[config.architecture]
    along = f" along {'zyx'[axis]}" if config.dimensions == 3 else ""
    raise TileSizeError(
        f"no tile of {size}{along} fits a {config.convolution} {name} of depth {config.depth}: {nearest}"
    )


def _output(config: NetworkShape, axis: int, size: int) -> int:
    """Return the output of an input size along one axis; 0 if the size does not fit.

    The result of a zero-padded network is as large as its input. The border whose receptive field touches the padding
    is cut. It is cut in whole periods of the pooling grid, so the origins of tiles stay multiples of `stride_unit`.
    """
    if not is_convolved(config, axis):
        return int(size == config.sections)
    unit = stride_unit(config)[axis]
    margin = ceil(receptive_field_overhang(config, axis) / unit) * unit if config.convolution == "same" else 0
    return max(0, network_output(config, axis, size) - 2 * margin)
