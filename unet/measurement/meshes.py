"""Meshes of objects out of the faces of their voxels: closed, and the same for any blocks.

1. `face_polygons`: join the corners of faces at each point of the voxel lattice, in integers. Faces are paired over
   edges. Where four faces meet in one edge, two voxels of the object touch in that edge alone; the two faces of one
   voxel are a pair. So every edge has two triangles, and the mesh is a closed, oriented 2-manifold.
2. `surface_net`: move each vertex to the mean of the centres of its faces. That is a surface net (Gibson 1998,
   doi:10.1007/BFb0056277), which takes the steps of the voxels out of the surface.
3. `smooth`: move each vertex a share of the way to the mean of its neighbours, then a little back (Taubin 1995,
   doi:10.1145/218380.218473). The second step keeps the mesh from shrinking.
4. `simplify`: merge edges by quadric error (bioimage-cpp).

```
voxels of an object      faces and lattice points        surface net
  . . # #                  . . +---+---+                     . .  __--+
  . # # #                  . +-+   .   .                     . .-'
  # # # #                  +-+     .   .                     /'
```
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from unet.config.meshes import MeshesConfig
from unet.extras import is_installed, needs
from unet.measurement.surface_faces import SurfaceFaces

CORNERS = np.array(
    [
        [[0, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1]],
        [[1, 0, 0], [1, 0, 1], [1, 1, 1], [1, 1, 0]],
        [[0, 0, 0], [0, 0, 1], [1, 0, 1], [1, 0, 0]],
        [[0, 1, 0], [1, 1, 0], [1, 1, 1], [0, 1, 1]],
        [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]],
        [[0, 0, 1], [0, 1, 1], [1, 1, 1], [1, 0, 1]],
    ]
)
"""Corners (z, y, x) of each side of a voxel. Seen from outside they turn counter-clockwise in axes (x, y, z)."""
TAUBIN = (0.5, -0.53)
"""Shares of the way to the mean of the neighbours, forward and back."""


class MeshError(RuntimeError):
    """A mesh cannot be made; the message says why and what to do."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """A closed mesh of triangles.

    Attributes
    ----------
    vertices : (n, 3) float64, (z, y, x), in voxels: 0 is the centre of the first voxel
    triangles : (m, 3) int64, vertices of each triangle, counter-clockwise from outside in axes (x, y, z)
    """

    vertices: NDArray[np.float64]
    triangles: NDArray[np.int64]

    def scaled(self, voxel_size_nm: tuple[float, ...], offset_nm: tuple[float, ...]) -> "Mesh":
        """Return the mesh in nm."""
        return Mesh(self.vertices * voxel_size_nm + np.array(offset_nm), self.triangles)

    @property
    def volume(self) -> float:
        """Enclosed volume, in the cube of the unit of the vertices."""
        a, b, c = (self.vertices[self.triangles[:, k]][:, ::-1] for k in range(3))
        return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)

    @property
    def area(self) -> float:
        """Area of all triangles, in the square of the unit of the vertices."""
        a, b, c = (self.vertices[self.triangles[:, k]] for k in range(3))
        return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def mesh_of_faces(faces: SurfaceFaces, smoothing: int = 0) -> Mesh:
    """Return the mesh of one object.

    Parameters
    ----------
    faces : all faces of the object, sorted
    smoothing : rounds of `smooth` after the surface net

    >>> voxel = SurfaceFaces(np.full(6, 1, np.uint64), np.zeros((6, 3), np.int32), np.arange(6, dtype=np.uint8))
    >>> mesh = mesh_of_faces(voxel)
    >>> mesh.vertices.shape, mesh.triangles.shape, round(mesh.volume, 3)
    ((8, 3), (12, 3), 0.037)
    """
    polygons = face_polygons(faces)
    vertices = smooth(surface_net(faces, polygons), polygons, smoothing)
    return triangulated(vertices, polygons)


@dataclass(frozen=True, eq=False)
class Polygons:
    """The faces of an object with shared vertices.

    Attributes
    ----------
    corners : (faces, 4) int64, vertices at the corners of each face
    middles : (faces, 4) int64, vertex in the middle of the edge after each corner; -1 where the edge needs none
    vertices : number of vertices
    """

    corners: NDArray[np.int64]
    middles: NDArray[np.int64]
    vertices: int

    @property
    def edges(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Vertices from which and to which the edges of all faces run, each edge once in each direction."""
        start, stop, middle = self.corners.ravel(), np.roll(self.corners, -1, axis=1).ravel(), self.middles.ravel()
        split = middle >= 0
        first = np.where(split, middle, stop)
        return np.concatenate([start, middle[split]]), np.concatenate([first, stop[split]])


def face_polygons(faces: SurfaceFaces) -> Polygons:
    """Return the faces with the vertices that they share.

    Two edges of different pairs of faces may have the same two ends. Each then gets a vertex in its middle, so that an
    edge is named by its ends.
    """
    corners = (faces.voxel[:, None, :] + CORNERS[faces.side]).astype(np.int64)
    low = corners.reshape(-1, 3).min(axis=0, initial=2**31)
    extent = tuple(corners.reshape(-1, 3).max(axis=0, initial=-1) - low + 2)
    point = np.ravel_multi_index(tuple(np.moveaxis(corners - low, -1, 0)), extent)
    inside = np.ravel_multi_index(tuple((faces.voxel - low).T), extent)
    following = np.roll(point, -1, axis=1)
    order = np.lexsort(
        (np.repeat(inside, 4), np.maximum(point, following).ravel(), np.minimum(point, following).ravel())
    )
    one, other = (
        order[0::2],
        order[1::2],
    )  # half-edges of two faces that are a pair, named by the corner where they begin
    after = np.roll(np.arange(point.size).reshape(-1, 4), -1, axis=1).ravel()
    # two faces run along their edge in opposite directions
    ends = np.concatenate([one, after[one]]), np.concatenate([after[other], other])
    graph = coo_matrix((np.ones(len(ends[0]), np.int8), ends), shape=(point.size,) * 2)
    count, vertex = connected_components(graph, directed=False)
    begin, end = vertex[one].astype(np.int64), vertex[after[one]].astype(np.int64)
    _, index, same = np.unique(
        np.minimum(begin, end) * count + np.maximum(begin, end), return_inverse=True, return_counts=True
    )
    twice = same[index] > 1
    middles = np.full(point.size, -1, np.int64)
    middles[one[twice]] = middles[other[twice]] = count + np.arange(np.count_nonzero(twice))
    corner_vertices = vertex.reshape(-1, 4).astype(np.int64)
    return Polygons(corner_vertices, middles.reshape(-1, 4), count + int(np.count_nonzero(twice)))


def surface_net(faces: SurfaceFaces, polygons: Polygons) -> NDArray[np.float64]:
    """Return the mean of the centres of each vertex' faces, in voxels; the sums are of integers, so they are exact."""
    centres = 2 * faces.voxel.astype(np.int64) + _half_steps(faces.side)
    vertex = np.concatenate([polygons.corners, polygons.middles], axis=1).ravel()
    face = np.repeat(np.arange(len(faces)), 8)[vertex >= 0]
    vertex = vertex[vertex >= 0]
    count = np.bincount(vertex, minlength=polygons.vertices)
    total = [np.bincount(vertex, centres[face, axis].astype(float), polygons.vertices) for axis in range(3)]
    return np.stack(total, axis=1) / (2 * count[:, None])


def _half_steps(side: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return twice the way from the centre of a voxel to the centre of its side."""
    steps = np.zeros((len(side), 3), np.int64)
    steps[np.arange(len(side)), side // 2] = np.where(side % 2 == 1, 1, -1)
    return steps


def smooth(vertices: NDArray[np.float64], polygons: Polygons, rounds: int) -> NDArray[np.float64]:
    """Return the vertices after some rounds of Taubin's smoothing over the edges of the faces."""
    if not rounds or not len(vertices):
        return vertices
    ends = polygons.edges
    graph = coo_matrix((np.ones(len(ends[0])), ends), shape=(len(vertices),) * 2).tocsr()
    degree = np.asarray(graph.sum(axis=1)).reshape(-1, 1)
    for _ in range(rounds):
        for share in TAUBIN:
            vertices = vertices + share * ((graph @ vertices) / degree - vertices)
    return vertices


def triangulated(vertices: NDArray[np.float64], polygons: Polygons) -> Mesh:
    """Return two triangles per face, divided along the shorter diagonal; a face with middles becomes a fan."""
    split = (polygons.middles >= 0).any(axis=1)
    quads = polygons.corners[~split]
    a, b, c, d = (vertices[quads[:, k]] for k in range(4))
    second = np.linalg.norm(a - c, axis=1) > np.linalg.norm(b - d, axis=1) + 1e-9
    turned = np.where(second[:, None], np.roll(quads, -1, axis=1), quads)
    corners, middles = polygons.corners[split], polygons.middles[split]
    centre = len(vertices) + np.arange(len(corners))
    fans = []
    for k in range(4):
        start, middle, stop = corners[:, k], middles[:, k], corners[:, (k + 1) % 4]
        has = middle >= 0
        fans.append(np.stack([centre, start, np.where(has, middle, stop)], axis=1))
        fans.append(np.stack([centre, middle, stop], axis=1)[has])
    whole = np.concatenate([vertices, vertices[corners].mean(axis=1)])
    return Mesh(whole, np.concatenate([turned[:, [0, 1, 2]], turned[:, [0, 2, 3]], *fans]))


def require_packages(meshes: MeshesConfig) -> None:
    """Refuse to begin without the packages that the settings need.

    Raises
    ------
    MeshError
        If bioimage-cpp or DracoPy is not installed; the message says how to install it.
    """
    if meshes.reduction and not is_installed("bioimage-cpp"):
        raise MeshError(f"meshes.reduction: {meshes.reduction} {needs('bioimage-cpp', 'meshes')}")
    if "neuroglancer" in meshes.formats and not is_installed("DracoPy"):
        raise MeshError(f"meshes.formats: neuroglancer {needs('DracoPy')}")


def simplify(mesh: Mesh, reduction: float) -> Mesh:
    """Return the mesh with about this share of its triangles removed; it stays closed."""
    from bioimage_cpp.mesh import simplify_mesh

    found: Any = simplify_mesh(mesh.vertices, mesh.triangles, reduction)
    return Mesh(np.asarray(found[0], np.float64), np.asarray(found[1], np.int64))
