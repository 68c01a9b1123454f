"""Skeletons of whole objects: lines in the middle of their branches, with the distance to the surface.

1. `object_mask`: gather the voxels of an object from all blocks that its bounding box touches. If the box has more
   voxels than allowed, voxels are taken together; one that holds a voxel of the object is of the object.
2. `skeleton_of_mask`: skeletonise it by TEASAR (Sato 2000, doi:10.1109/PCCGA.2000.883951), as bioimage-cpp does it.
   Paths run from the farthest voxels to a root. A path takes all voxels within ``scale * distance + radius``.
3. `tree_of`: order the nodes so that each follows its parent, as SWC requires.

An object lies in one job whole, so the blocks do not enter the skeleton.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, prod

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree

from unet.extras import is_installed, needs
from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid

NO_PARENT = -1


class SkeletonError(RuntimeError):
    """A skeleton cannot be made; the message says why and what to do."""


@dataclass(frozen=True, eq=False)
class Skeleton:
    """The skeleton of an object: trees, of which each node follows its parent.

    Attributes
    ----------
    nodes : (n, 3) float64, (z, y, x) in nm
    radius : (n,) float64, distance to the surface in nm
    parent : (n,) int64, -1 for the root of a tree
    """

    nodes: NDArray[np.float64]
    radius: NDArray[np.float64]
    parent: NDArray[np.int64]

    @property
    def edges(self) -> NDArray[np.int64]:
        """Node and parent of every edge, ``(edges, 2)``."""
        child = np.flatnonzero(self.parent >= 0)
        return np.stack([child, self.parent[child]], axis=1)

    @property
    def length_nm(self) -> float:
        """Length of all edges together."""
        ends = self.nodes[self.edges]
        return float(np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1).sum())

    @property
    def degree(self) -> NDArray[np.int64]:
        """Edges at each node: 1 at an end, 3 or more at a branch point."""
        return np.bincount(self.edges.ravel(), minlength=len(self.nodes))


def require_teasar() -> None:
    """Refuse to make skeletons without the package for it.

    Raises
    ------
    SkeletonError
        If bioimage-cpp is not installed; the message says how to install it.
    """
    if not is_installed("bioimage-cpp"):
        raise SkeletonError(f"snakemake skeletons {needs('bioimage-cpp', 'skeletons')}")


def factors_for(box: Box, voxel_size_nm: Sequence[float], max_voxels: int) -> Index:
    """Return how many voxels (z, y, x) are taken together so that a box has at most so many.

    The axis of the smallest voxels is halved first, so that voxels become cubes.

    >>> factors_for(Box((0, 0, 0), (4, 100, 100)), (40, 10, 10), 10_000)
    (1, 2, 2)
    """
    factors = [1, 1, 1]
    while prod(ceil(n / f) for n, f in zip(box.shape, factors, strict=True)) > max_voxels:
        axis = min(range(3), key=lambda a: (voxel_size_nm[a] * factors[a], -box.shape[a]))
        factors[axis] *= 2
    return tuple(factors)


def object_mask(
    object_id: int, box: Box, grid: Grid, read: Callable[[Box], NDArray[np.unsignedinteger]], factors: Index
) -> NDArray[np.bool_]:
    """Return where an object is in its bounding box, bool ``(z, y, x)``, of voxels that `factors` voxels make.

    Parameters
    ----------
    object_id : id of the object
    box : its bounding box
    grid : blocks of the volume; one at a time is read
    read : function that returns the ids of a box
    """
    mask = np.zeros([ceil(n / f) for n, f in zip(box.shape, factors, strict=True)], np.bool_)
    for block in grid.touched(box):
        part = block.intersected(box)
        found = np.argwhere(read(part) == object_id) + np.subtract(part.start, box.start)
        mask[tuple((found // factors).T)] = True
    return mask


def skeleton_of_mask(
    mask: NDArray[np.bool_], voxel_size_nm: Sequence[float], scale: float, radius_nm: float
) -> Skeleton:
    """Return the skeleton of an object, with the centre of the first voxel at 0.

    Parameters
    ----------
    mask : (z, y, x) bool, where the object is
    voxel_size_nm : (z, y, x), edges of a voxel of the mask
    scale, radius_nm : a path takes all voxels within ``scale * distance to the surface + radius_nm``
    """
    from bioimage_cpp.skeleton import teasar

    nodes, edges, radius = teasar(mask, spacing=tuple(map(float, voxel_size_nm)), scale=scale, constant=radius_nm)
    return tree_of(np.asarray(nodes, float), np.asarray(edges).astype(np.int64), np.asarray(radius, float))


def tree_of(nodes: NDArray[np.float64], edges: NDArray[np.int64], radius: NDArray[np.float64]) -> Skeleton:
    """Return nodes and edges as trees: each node after its parent, the root of a tree at one of its ends.

    >>> line = tree_of(np.array([[0, 0, 5.0], [0, 0, 0], [0, 0, 9]]), np.array([[0, 1], [0, 2]]), np.ones(3))
    >>> line.nodes[:, 2].tolist(), line.parent.tolist(), line.length_nm
    ([0.0, 5.0, 9.0], [-1, 0, 1], 9.0)
    """
    count = len(nodes)
    length = np.linalg.norm(nodes[edges[:, 0]] - nodes[edges[:, 1]], axis=1)
    forest = minimum_spanning_tree(coo_matrix((length, edges.T), shape=(count, count)))
    forest = forest + forest.T
    _, component = connected_components(forest, directed=False)
    ends = np.flatnonzero(np.diff(forest.indptr) <= 1)  # a tree has an end, also where it is a node alone
    _, first = np.unique(component[ends], return_index=True)
    order, parents = list[NDArray[np.int64]](), np.full(count, NO_PARENT)
    for root in ends[first].tolist():
        visited, before = breadth_first_order(forest, root, directed=False)
        order.append(visited)
        parents[visited[1:]] = before[visited[1:]]
    sequence = np.concatenate([np.zeros(0, np.int64), *order]).astype(np.int64)
    place = np.empty(count, np.int64)
    place[sequence] = np.arange(count)
    parent = parents[sequence]
    return Skeleton(nodes[sequence], radius[sequence], np.where(parent >= 0, place[parent], NO_PARENT))
