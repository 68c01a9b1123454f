"""The surface of an object as faces of voxels, found block by block; any blocks give the same faces.

A *face* lies between a voxel of the object and a neighbour that is not of it. It belongs to the block of the voxel with
the lower coordinate, so a block is read with one plane beyond its upper faces. Faces in the faces of the volume close
the surface where the object continues outside.

A face is named by its voxel inside the object, and its side:

```
side 0: -z   side 1: +z   side 2: -y   side 3: +y   side 4: -x   side 5: +x
```
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from unet.geometry.box import Box, Index


@dataclass(frozen=True, eq=False)
class SurfaceFaces:
    """``n`` faces of objects, sorted by object, voxel and side.

    Attributes
    ----------
    ids : (n,) uint64, object that the face belongs to
    voxel : (n, 3) int32, voxel inside the object, (z, y, x) in the volume
    side : (n,) uint8, side of that voxel, 0 to 5
    """

    ids: NDArray[np.uint64]
    voxel: NDArray[np.int32]
    side: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def joined(cls, parts: "list[SurfaceFaces]") -> Self:
        """Return the faces of several blocks together, sorted."""
        ids = np.concatenate([np.zeros(0, np.uint64), *(part.ids for part in parts)])
        voxel = np.concatenate([np.zeros((0, 3), np.int32), *(part.voxel for part in parts)])
        side = np.concatenate([np.zeros(0, np.uint8), *(part.side for part in parts)])
        order = np.lexsort((side, voxel[:, 2], voxel[:, 1], voxel[:, 0], ids))
        return cls(ids[order], voxel[order], side[order])

    def of(self, object_id: int) -> "SurfaceFaces":
        """Return the faces of one object."""
        first, stop = np.searchsorted(
            self.ids, np.array([object_id, object_id], np.uint64) + np.array([0, 1], np.uint64)
        )
        own = slice(int(first), int(stop))
        return SurfaceFaces(self.ids[own], self.voxel[own], self.side[own])


def block_faces(
    ids: NDArray[np.unsignedinteger], box: Box, shape: Index, chosen: NDArray[np.unsignedinteger]
) -> SurfaceFaces:
    """Return the faces of chosen objects that belong to a block.

    Parameters
    ----------
    ids : (z, y, x) ids of the block, and of one plane behind each upper face where the volume goes on
    box : the block's voxels in the volume, without the planes behind
    shape : (z, y, x) voxels of the volume
    chosen : ids of the objects, in any order, without 0

    >>> one = block_faces(np.array([[[3, 0]]]), Box((0, 0, 0), (1, 1, 2)), (1, 1, 2), np.array([3]))
    >>> one.side.tolist()
    [0, 1, 2, 3, 4, 5]
    """
    if not np.isin(np.unique(ids), chosen).any():
        return SurfaceFaces.joined([])
    kept = np.where(np.isin(ids, chosen), ids, ids.dtype.type(0))
    parts = []
    for axis in range(3):
        own = tuple(
            slice(min(n, full - (a == axis))) for a, (n, full) in enumerate(zip(box.shape, ids.shape, strict=True))
        )
        behind = tuple(slice(s.start, s.stop) if a != axis else slice(1, s.stop + 1) for a, s in enumerate(own))
        one, other = kept[own], kept[behind]
        where = np.argwhere(one != other)
        low, high = one[tuple(where.T)], other[tuple(where.T)]
        step = np.arange(3) == axis
        parts += [_faces(low, where, box, 2 * axis + 1), _faces(high, where + step, box, 2 * axis)]
        for end, plane, at in ((0, 0, box.start[axis] == 0), (1, box.shape[axis] - 1, box.stop[axis] == shape[axis])):
            if at:
                face = kept[tuple(slice(n) for n in box.shape)].take(plane, axis)
                where = np.insert(np.argwhere(face), axis, plane, axis=1)
                parts.append(_faces(kept[tuple(where.T)], where, box, 2 * axis + end))
    return SurfaceFaces.joined(parts)


def _faces(ids: NDArray[Any], voxel: NDArray[np.intp], box: Box, side: int) -> SurfaceFaces:
    keep = ids != 0
    place = (voxel[keep] + np.array(box.start)).astype(np.int32)
    return SurfaceFaces(ids[keep].astype(np.uint64), place, np.full(len(place), side, np.uint8))
