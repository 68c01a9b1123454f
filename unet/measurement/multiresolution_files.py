"""Neuroglancer's multi-resolution meshes: fragments of an octree, each level of detail compressed by Draco.

https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/meshes.md

1. The box around all levels is a grid of ``2^(levels - 1)`` cells along each axis. A cell of level l has twice the
   sides of one of level l - 1, and the coarsest level has one cell.
2. `cut`: divide triangles at the planes between cells. From level 1 on, divide them in the middle of cells as well:
   there the viewer shows a finer level beside a coarser one. Both triangles of an edge get the same new vertex, so no
   gap opens.
3. Round vertices to 1/65,535 of a cell. A vertex between two cells has the same position in both.
4. Compress the triangles of each cell. Cells are in Morton order, x first; a cell above one that has triangles is
   listed even if it has none.

```
{id}.index    manifest: grid, levels, cells, bytes of each cell
{id}          the cells one behind the other
info          for all objects
```
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unet.measurement.meshes import Mesh
from unet.storage.files import write_atomically, write_json

BITS = 16
"""Bits of a coordinate within a cell."""
STEPS = 2**BITS - 1
Cell = tuple[int, int, int]
"""Index of a cell, (x, y, z)."""


@dataclass(frozen=True, eq=False)
class Fragment:
    """The triangles of one cell.

    Attributes
    ----------
    vertices : (n, 3) uint32, (x, y, z) in 1/65,535 of the cell
    triangles : (m, 3) uint32
    """

    vertices: NDArray[np.uint32]
    triangles: NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class Grid:
    """The cells of the finest level: `origin` and `cell` in nm, (x, y, z), as the file holds them (float32)."""

    origin: NDArray[np.float32]
    cell: NDArray[np.float32]

    @classmethod
    def around(cls, meshes: Sequence[Mesh]) -> "Grid":
        """Return the grid around all levels."""
        points = np.concatenate([mesh.vertices for mesh in meshes])[:, ::-1]
        low = np.nextafter(points.min(axis=0).astype(np.float32), np.float32(-np.inf))
        sides = (points.max(axis=0) - low) / 2 ** (len(meshes) - 1)
        return cls(low, np.nextafter(sides.astype(np.float32), np.float32(np.inf)))


def write_multiresolution(
    folder: Path, object_id: int, meshes: Sequence[Mesh], scales_nm: Sequence[float]
) -> list[Path]:
    """Write the levels of an object, and return the files.

    Parameters
    ----------
    folder : folder of the meshes of a volume in this format
    meshes : levels in nm, the finest first
    scales_nm : length of a coarse voxel of each level; the viewer takes the level whose length is about a pixel
    """
    import DracoPy

    grid, encoded = Grid.around(meshes), list[dict[Cell, bytes]]()
    for level, mesh in enumerate(meshes):
        cells = {
            cell: bytes(DracoPy.encode(one.vertices, one.triangles, quantization_bits=BITS, compression_level=5))
            for cell, one in fragments(mesh, grid, level, len(meshes)).items()
        }
        below = encoded[-1] if encoded else {}
        encoded.append({**dict.fromkeys(((x // 2, y // 2, z // 2) for x, y, z in below), b""), **cells})
    encoded = [dict(sorted(cells.items(), key=lambda item: morton(item[0]))) for cells in encoded]
    index, data = folder / f"{object_id}.index", folder / f"{object_id}"
    write_atomically(data, b"".join(part for cells in encoded for part in cells.values()))
    write_atomically(index, manifest(grid, encoded, scales_nm))
    return [data, index]


def write_info(folder: Path) -> Path:
    """Write the file that says of a folder what it is. Coordinates are nm."""
    path = folder / "info"
    transform = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]
    kind = {"@type": "neuroglancer_multilod_draco", "vertex_quantization_bits": BITS}
    write_json(path, {**kind, "transform": transform, "lod_scale_multiplier": 1})
    return path


def manifest(grid: Grid, encoded: Sequence[dict[Cell, bytes]], scales_nm: Sequence[float]) -> bytes:
    """Return the manifest of an object: cells and their bytes at each level, all numbers little-endian."""
    levels = len(encoded)
    parts = [grid.cell.astype("<f4"), grid.origin.astype("<f4"), np.array([levels], "<u4")]
    parts += [np.array(scales_nm, "<f4"), np.zeros((levels, 3), "<f4")]
    parts.append(np.array([len(cells) for cells in encoded], "<u4"))
    for cells in encoded:
        parts += [np.array(list(cells), "<u4").T, np.array([len(part) for part in cells.values()], "<u4")]
    return b"".join(part.tobytes() for part in parts)


def morton(cell: Cell) -> int:
    """Return the number of a cell in Morton order.

    >>> [morton(cell) for cell in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 0, 0)]]
    [0, 1, 2, 4, 8]
    """
    return sum((n >> bit & 1) << (3 * bit + axis) for axis, n in enumerate(cell) for bit in range(n.bit_length()))


def fragments(mesh: Mesh, grid: Grid, level: int, levels: int) -> dict[Cell, Fragment]:
    """Return the triangles of each cell of a level that has any.

    Parameters
    ----------
    mesh : closed mesh in nm
    level, levels : number of the level, 0 for the finest, and of all
    """
    points = (mesh.vertices[:, ::-1] - grid.origin) / (grid.cell.astype(float) * 2**level) * STEPS
    triangles, cells = mesh.triangles, 2 ** (levels - 1 - level)
    halves = 2 if level else 1
    for axis in range(3):
        for plane in range(1, cells * halves):
            points, triangles = cut(points, triangles, axis, plane * STEPS / halves)
    middle = points[triangles].mean(axis=1)
    cell = np.clip(np.floor(middle / STEPS).astype(int), 0, cells - 1)
    places = np.floor(points + 0.5).astype(np.int64)  # the middle of a cell becomes 32,768, where the viewer divides it
    found = {}
    for one in np.unique(cell, axis=0):
        own = triangles[(cell == one).all(axis=1)]
        vertices, index = np.unique(places[own.ravel()] - one * STEPS, axis=0, return_inverse=True)
        joined = index.reshape(-1, 3)
        flat = (joined == np.roll(joined, 1, axis=1)).any(axis=1)
        if not flat.all():
            x, y, z = one.tolist()
            found[x, y, z] = Fragment(vertices.astype(np.uint32), joined[~flat].astype(np.uint32))
    return found


def cut(
    points: NDArray[np.float64], triangles: NDArray[np.int64], axis: int, at: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return points and triangles with all triangles divided that cross a plane.

    ```
         a              a             a, on the plane
        / \\            /|\\
     --ab--ac--       / | \\
      / \\_  \\        b--bc-c
     b-----c
    ```

    Parameters
    ----------
    points : (n, 3)
    triangles : (m, 3)
    axis, at : the plane

    >>> corners, pieces = cut(np.array([[0.0, 0, 0], [2, 0, 0], [2, 2, 0]]), np.array([[0, 1, 2]]), 0, 1.0)
    >>> corners[3:].tolist(), len(pieces)
    ([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]], 3)
    """
    side = np.sign(points[:, axis] - at).astype(int)[triangles]
    crossing = (side.min(axis=1) < 0) & (side.max(axis=1) > 0)
    if not crossing.any():
        return points, triangles
    own, side = triangles[crossing], side[crossing]
    touches = (side == 0).any(axis=1)
    lone = np.where(touches, 0, -np.sign(side.sum(axis=1)))  # the side that one corner has to itself
    first = (side == lone[:, None]).argmax(axis=1)
    a, b, c = (own[np.arange(len(own)), (first + k) % 3] for k in range(3))
    ends = np.concatenate([np.stack([a, b], 1)[~touches], np.stack([a, c], 1)[~touches], np.stack([b, c], 1)[touches]])
    edges, index = np.unique(np.sort(ends, axis=1), axis=0, return_inverse=True)
    low, high = points[edges[:, 0]], points[edges[:, 1]]
    share = (at - low[:, axis]) / (high[:, axis] - low[:, axis])
    new = low + share[:, None] * (high - low)
    new[:, axis] = at
    number = len(points) + index.ravel()
    alone = np.count_nonzero(~touches)
    ab, ac, bc = number[:alone], number[alone : 2 * alone], number[2 * alone :]
    pieces = [(a[~touches], ab, ac), (ab, b[~touches], c[~touches]), (ab, c[~touches], ac)]
    pieces += [(a[touches], b[touches], bc), (a[touches], bc, c[touches])]
    divided = [np.stack(three, axis=1) for three in pieces]
    return np.concatenate([points, new]), np.concatenate([triangles[~crossing], *divided])
