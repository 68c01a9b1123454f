"""Coarser surfaces of an object, for views from afar: the same voxels down-sampled, so every level is closed.

1. `coarser_faces`: fill the object between its faces along x, a coarse section at a time. A coarse voxel belongs to it
   if at least half of its voxels do. Parts thinner than half a coarse voxel vanish, as they do in a label pyramid.
2. `levels_of_detail`: make the mesh of each level, until it has few triangles.

Removing triangles by quadric error was tried instead. fast-simplification 0.2 left edges of other than two triangles;
bioimage-cpp 0.10 does not, and takes a second per 4,000 triangles.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unet.geometry.box import Box, Index
from unet.measurement.meshes import Mesh, mesh_of_faces
from unet.measurement.surface_faces import SurfaceFaces, block_faces

FEW_TRIANGLES = 1000
"""Triangles below which a mesh needs no coarser level."""
MAX_LEVELS = 4
"""Levels of detail of an object, at most; each doubles the size of a voxel."""


@dataclass(frozen=True, eq=False)
class LevelOfDetail:
    """One level of an object's surface.

    Attributes
    ----------
    mesh : closed mesh, in voxels of the volume
    factor : voxels of the volume along a coarse voxel, (z, y, x)
    """

    mesh: Mesh
    factor: Index


def levels_of_detail(
    mesh: Mesh, faces: SurfaceFaces, smoothing: int, voxel_size_nm: Sequence[float]
) -> list[LevelOfDetail]:
    """Return an object's mesh, and coarser ones made of its faces, the finest first.

    Parameters
    ----------
    mesh : finest level, in voxels
    faces : all faces of the object, sorted
    smoothing : rounds of smoothing, as for the finest level
    voxel_size_nm : (z, y, x) in nm; the shorter sides of a voxel are doubled first
    """
    factor: Index = (1, 1, 1)
    levels = [LevelOfDetail(mesh, factor)]
    while len(levels) < MAX_LEVELS and len(levels[-1].mesh.triangles) > FEW_TRIANGLES:
        factor = next_factor(factor, voxel_size_nm)
        coarse = coarser_faces(faces, factor)
        if not len(coarse):
            break
        found = mesh_of_faces(coarse, smoothing)
        centre = (np.array(factor) - 1) / 2
        levels.append(LevelOfDetail(Mesh(found.vertices * factor + centre, found.triangles), factor))
    return levels


def next_factor(factor: Index, voxel_size_nm: Sequence[float]) -> Index:
    """Return the factor of the next level: sides below 1.5 times the shortest one are doubled.

    >>> next_factor((1, 1, 1), (40, 4, 4)), next_factor((1, 8, 8), (40, 4, 4)), next_factor((2, 2, 2), (8, 8, 8))
    ((1, 2, 2), (2, 16, 16), (4, 4, 4))
    """
    sides = [n * nm for n, nm in zip(factor, voxel_size_nm, strict=True)]
    z, y, x = (2 * n if side < 1.5 * min(sides) else n for n, side in zip(factor, sides, strict=True))
    return z, y, x


def coarser_faces(faces: SurfaceFaces, factor: Index) -> SurfaceFaces:
    """Return the faces of an object that is down-sampled, in coarse voxels; none if nothing of it is left.

    Parameters
    ----------
    faces : all faces of one object, sorted
    factor : voxels of the volume along a coarse voxel, (z, y, x)

    >>> pair = block_faces(np.ones((1, 1, 2), np.uint8), Box.of_shape((1, 1, 2)), (1, 1, 2), np.array([1]))
    >>> coarser_faces(pair, (1, 1, 2)).side.tolist(), len(coarser_faces(pair, (2, 2, 2)))
    ([0, 1, 2, 3, 4, 5], 0)
    """
    low, last = (np.array(end) // factor for end in (faces.voxel.min(axis=0), faces.voxel.max(axis=0)))
    shape = tuple((last - low + 1).tolist())
    coarse = np.zeros(shape, np.uint8)
    begins = faces.voxel[faces.side == 4] - low * factor
    ends = faces.voxel[faces.side == 5] - low * factor + (0, 0, 1)
    for z in range(shape[0]):
        slab = _slab(begins, ends, z * factor[0], factor, shape)
        coarse[z] = 2 * slab >= np.prod(factor)
    box = Box.of_shape(shape)
    found = block_faces(coarse, box, shape, np.array([1], np.uint8))
    return SurfaceFaces(np.full(len(found), faces.ids[0]), found.voxel + low.astype(np.int32), found.side)


def _slab(
    begins: NDArray[np.int32], ends: NDArray[np.int32], start: int, factor: Index, shape: Index
) -> NDArray[np.int_]:
    """Return the voxels of the object in each coarse voxel of one coarse section that begins at a voxel `start`."""
    (fz, fy, fx), (_, ny, nx) = factor, shape
    change = np.zeros((fz, ny * fy, nx * fx + 1), np.int8)
    for points, step in ((begins, 1), (ends, -1)):
        first, stop = np.searchsorted(points[:, 0], [start, start + fz])
        z, y, x = points[first:stop].T
        change[z - start, y, x] = step
    inside = np.cumsum(change, axis=2, dtype=np.int8)[..., :-1]
    return inside.reshape(fz, ny, fy, nx, fx).sum(axis=(0, 2, 4), dtype=np.int64)
