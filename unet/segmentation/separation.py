"""Separate objects that touch by one voxel of background.

A voxel becomes background if the next voxel along an axis is of another object. Of two voxels that share a face, the
first in scan order is thus taken away. No two objects share a face afterwards, and the gap along a flat face is one
voxel wide. An object loses no more than one voxel of its thickness along an axis. Objects may still touch at an edge or
a corner. So connected components of the result need neighbours that share a face (6 in 3-D, 4 in a section).

```
1 1 1 2 2        1 1 0 2 2
1 1 1 2 2   ->   0 0 0 2 2
3 3 3 2 2        3 3 0 0 0
3 3 3 3 3        3 3 3 3 3
```

A voxel depends on the next voxels alone, so blocks that are read with one voxel behind them give the whole volume's.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.geometry.box import Box, Index


def separation_read_box(box: Box, axes: Sequence[int], volume_shape: Index) -> Box:
    """Return the box that `separate_objects` needs for a block: one voxel more behind it along the axes.

    >>> print(separation_read_box(Box((0, 4, 4), (2, 8, 8)), (1, 2), (9, 9, 8)))
    0:2,4:9,4:8
    """
    return Box(box.start, tuple(hi + int(axis in axes) for axis, hi in enumerate(box.stop))).clipped(volume_shape)


def separate_objects(ids: NDArray[Any], read: Box, box: Box, axes: Sequence[int]) -> NDArray[Any]:
    """Return the ids of a block with background between objects that touch.

    Parameters
    ----------
    ids : (z, y, x) unsigned ids of the box `read`; 0 = background
    read : see `separation_read_box`; it starts where the block does
    box : the block
    axes : axes along which voxels touch: y and x, or all three

    Returns
    -------
    (z, y, x) ids of the block, in the dtype of `ids`

    >>> row = Box((0, 0, 0), (1, 1, 5))
    >>> separate_objects(np.array([[[7, 7, 9, 0, 4]]]), row, row, axes=(1, 2)).tolist()
    [[[7, 0, 9, 0, 4]]]
    """
    block = box.relative_to(read.start).slices
    inside = ids[block]
    touches = np.zeros(inside.shape, bool)
    for axis in axes:
        here = [slice(n) for n in inside.shape]
        here[axis] = slice(min(inside.shape[axis], ids.shape[axis] - 1))
        behind = list(block)
        behind[axis] = slice(1, here[axis].stop + 1)
        one, other = inside[tuple(here)], ids[tuple(behind)]
        touches[tuple(here)] |= (one != other) & (other > 0)
    return np.where(touches, ids.dtype.type(0), inside)
