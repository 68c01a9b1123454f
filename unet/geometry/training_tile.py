"""Sizes of the patches that a network learns from.

A zero-padded network answers for every voxel of its input. Near the border it has seen zeros in place of surroundings.
A prediction leaves this border out (`unet.geometry.tiling`). A training may count it in the loss:

```
loss_region: exact                  loss_region: tile
+---------------------+             +---------------------+
|  padding reaches it |             | counts in the loss  |
|   +-------------+   |             |                     |
|   |  counts in  |   |             |                     |
|   |  the loss   |   |             |                     |
|   +-------------+   |             |                     |
+---------------------+             +---------------------+
```

In 3-D this border is most of a tile: of 120 voxels a side, a network of depth 4 keeps 16. With `tile` the same
arithmetic gives many times as many voxels of loss, and small tiles are enough.
"""

from math import ceil
from typing import Literal

from unet.geometry.box import Index
from unet.geometry.network_sizes import (
    NetworkShape,
    is_convolved,
    network_output,
    receptive_field_overhang,
    stride_unit,
)
from unet.geometry.tiling import TileGeometry, TileSizeError, full_size, tile_geometry, valid_input_sizes

LossRegion = Literal["exact", "tile"]
"""Voxels of a tile that count in the loss: those that no padding reaches, or all."""


def training_geometry(config: NetworkShape, tile: int | Index, region: LossRegion) -> TileGeometry:
    """Return the sizes of a training patch: what the network reads, and the part of its answer that is learnt.

    Parameters
    ----------
    config : NetworkShape
        The network.
    tile : int or Index
        Input size in voxels `(z, y, x)`; one number is the side along every axis of the network.
    region : {"exact", "tile"}
        Voxels that count in the loss. `tile` is for zero-padded networks alone.

    Raises
    ------
    TileSizeError
        If the network cannot take the size.
    """
    if region == "exact":
        return tile_geometry(config, tile)
    size = full_size(config, tile)
    output = tuple(_whole_output(config, axis, n) for axis, n in enumerate(size))
    margin = tuple((n - out) // 2 for n, out in zip(size, output, strict=True))
    return TileGeometry(size, output, margin, stride_unit(config))


def largest_training_tile(config: NetworkShape, tile: int | Index, region: LossRegion, shape: Index) -> Index:
    """Return the largest input size up to `tile` whose learnt voxels fit into a volume of `shape`; 0 if none does."""
    geometry = training_geometry(config, tile, region)
    most = [min(n, out) + 2 * m for n, out, m in zip(shape, geometry.output, geometry.margin, strict=True)]
    if region == "tile":
        return tuple(n // unit * unit for n, unit in zip(most, geometry.stride_unit, strict=True))
    return tuple(max(valid_input_sizes(config, n, axis), default=0) for axis, n in enumerate(most))


def validation_geometry(config: NetworkShape, tile: int | Index, region: LossRegion) -> TileGeometry:
    """Return the sizes of the tiles with which a model in training is validated: exact ones, as in a prediction.

    Where the loss counts whole tiles, a tile of the validation answers for as many voxels, and reads the border too.
    """
    if region == "exact":
        return tile_geometry(config, tile)
    size, unit = full_size(config, tile), stride_unit(config)
    border = [ceil(receptive_field_overhang(config, axis) / unit[axis]) * unit[axis] for axis in range(3)]
    return tile_geometry(config, tuple(n + 2 * b for n, b in zip(size, border, strict=True)))


def _whole_output(config: NetworkShape, axis: int, size: int) -> int:
    """Return the length of a network's answer along one axis; raise an error with the nearest valid sizes if none."""
    if not is_convolved(config, axis):
        return 1
    output, unit = network_output(config, axis, size), stride_unit(config)[axis]
    if output > 0:
        return output
    below = size // unit * unit
    nearest = f"nearest are {below} and {below + unit}" if below else f"the smallest is {unit}"
    raise TileSizeError(f"no tile of {size} along {'zyx'[axis]} fits a network that pools by {unit}: {nearest}")
