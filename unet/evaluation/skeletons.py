"""Skeletons of neurons, traced or made from labels: read them from SWC files, and map them to the voxels of a volume.

1. `read_skeletons`: read SWC files. A file is a neuron: all its trees are one skeleton.
2. Convert the nodes from the file's unit and order, x y z, to nm and (z, y, x).
3. `place_in_volume`: keep the nodes that lie in the volume, with their voxels, and the edges between these nodes.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

import numpy as np
from numpy.typing import NDArray

from unet.geometry.box import Index

COLUMNS = ("id", "type", "x", "y", "z", "radius", "parent")
"""Columns of an SWC file."""
ROOT = -1
"""Parent of a node that has none."""
LONGEST_REASON = 120
"""Characters of a library's message that an error quotes."""


class SkeletonError(ValueError):
    """Skeletons that cannot be used."""


@dataclass(frozen=True)
class Skeletons:
    """Skeletons, with all their nodes in one list.

    Parameters
    ----------
    node_nm : (n, 3) float64
        z, y, x of each node.
    skeleton : (n,) int64
        Skeleton of each node, counted from 0.
    edges : (m, 2) int64
        Two nodes of one skeleton per edge, by their index in the list.
    """

    node_nm: NDArray[np.float64]
    skeleton: NDArray[np.int64]
    edges: NDArray[np.int64]


@dataclass(frozen=True)
class PlacedSkeletons:
    """The part of skeletons that lies in a volume; nodes are sorted by section, so that a block finds its own nodes.

    Parameters
    ----------
    voxel : (3, n) int64
        z, y, x of the voxel that contains each node.
    skeleton, edges
        See `Skeletons`.
    length_nm : (m,) float64
        Length of each edge.
    outside : int
        Number of nodes outside the volume; these are left out, with their edges.
    """

    voxel: NDArray[np.int64]
    skeleton: NDArray[np.int64]
    edges: NDArray[np.int64]
    length_nm: NDArray[np.float64]
    outside: int


def read_skeletons(files: Path, unit_nm: float) -> Skeletons:
    """Read SWC files, one skeleton per file.

    A line is a node: ``id type x y z radius parent``, where the parent of a root is -1; ``#`` begins a comment.

    Parameters
    ----------
    files : Path
        An SWC file, or a folder of files that end in ``.swc``.
    unit_nm : float
        nm per unit of the coordinates, which SWC does not state: 1, or 1000 for µm.

    Raises
    ------
    SkeletonError
        If there is no SWC file, or a file is not as above. The message names the file, the line or node, and the fault.

    References
    ----------
    Cannon et al. 1998, J Neurosci Methods 84:49, doi:10.1016/S0165-0270(98)00091-0.
    """
    paths = sorted(path for path in files.iterdir() if path.suffix.lower() == ".swc") if files.is_dir() else [files]
    if not paths:
        raise SkeletonError(f"{files}: there is no file that ends in .swc; name the folder of the skeletons")
    nodes, edges, first = [], [], 0
    for path in paths:
        rows = _rows(path)
        nodes.append(rows[:, 4:1:-1] * unit_nm)
        edges.append(first + _edges(path, rows))
        first += len(rows)
    skeleton = np.repeat(np.arange(len(paths)), [len(of_one) for of_one in nodes])
    return Skeletons(np.concatenate(nodes), skeleton, np.concatenate(edges))


def _rows(path: Path) -> NDArray[np.float64]:
    """Read the nodes of one file, (n, 7)."""
    try:
        with warnings.catch_warnings(action="ignore"):  # a file without a node is refused below
            # comments may hold bytes of any encoding
            rows: NDArray[np.float64] = np.loadtxt(path, ndmin=2, encoding="latin-1")
    except ValueError as error:
        why = shorten(repr(str(error)), LONGEST_REASON)
        raise SkeletonError(f"{path} is not an SWC file: {why}; a line is {' '.join(COLUMNS)}") from None
    if not len(rows):
        raise SkeletonError(f"{path} has no node; a line is {' '.join(COLUMNS)}")
    if rows.shape[1] != len(COLUMNS):
        raise SkeletonError(
            f"{path} has {rows.shape[1]} columns, but an SWC file has {len(COLUMNS)}: {' '.join(COLUMNS)}"
        )
    strange = np.flatnonzero(~np.isfinite(rows[:, [0, 2, 3, 4, 6]]).all(axis=1))  # type and radius are not used
    if len(strange):
        raise SkeletonError(f"{path}: a node has a number that is not finite: {rows[strange[0]].tolist()}")
    return rows


def _edges(path: Path, rows: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the indices of child and parent, `(m, 2)`."""
    node, parent = rows[:, 0], rows[:, 6]
    order = np.argsort(node, kind="stable")
    in_order = node[order]
    again = in_order[1:] == in_order[:-1]
    if again.any():
        raise SkeletonError(f"{path}: there are two nodes {in_order[again.argmax()]:g}; give each an id of its own")
    children = np.flatnonzero(parent != ROOT)
    found = np.searchsorted(in_order, parent[children]).clip(max=len(node) - 1)
    missing = in_order[found] != parent[children]
    if missing.any():
        child = children[missing.argmax()]
        raise SkeletonError(
            f"{path}: node {node[child]:g} has parent {parent[child]:g}, which is not there; a root has {ROOT}"
        )
    edges = np.stack([children, order[found]], axis=1)
    _refuse_loops(path, node, edges)
    return edges


def _refuse_loops(path: Path, node: NDArray[np.float64], edges: NDArray[np.int64]) -> None:
    """Refuse nodes from which the path of parents never ends at a root; `n` steps of the path must reach a root."""
    ahead = np.arange(len(node))
    ahead[edges[:, 0]] = edges[:, 1]
    is_root = np.ones(len(node), bool)
    is_root[edges[:, 0]] = False
    for _ in range(len(node).bit_length()):  # each round doubles the steps
        ahead = ahead[ahead]
    if not is_root[ahead].all():
        lost = node[np.argmin(is_root[ahead])]
        raise SkeletonError(
            f"{path}: the parents of node {lost:g} lead back to itself; one of a tree is {ROOT}, a root"
        )


def place_in_volume(
    skeletons: Skeletons, shape: Index, voxel_size_nm: tuple[float, ...], offset_nm: tuple[float, ...]
) -> PlacedSkeletons:
    """Return the part of skeletons that lies in a volume.

    A node lies in the voxel with the nearest centre. Voxel `i` has its centre at `offset_nm + i * voxel_size_nm`, as in
    OME-Zarr and in the skeletons that kimimaro makes from labels.

    Parameters
    ----------
    shape : (z, y, x)
        Voxels of the volume.
    voxel_size_nm, offset_nm : (z, y, x)
        Edges of a voxel, and centre of the first voxel.

    Raises
    ------
    SkeletonError
        If no node lies in the volume.

    >>> line = Skeletons(np.array([[0.0, 0, 0], [0, 0, 6], [0, 0, 30]]), np.zeros(3, int), np.array([[0, 1], [1, 2]]))
    >>> part = place_in_volume(line, (1, 1, 4), (50, 4, 4), (0, 0, 0))
    >>> part.voxel[2].tolist(), part.length_nm.tolist(), part.outside
    ([0, 2], [6.0], 1)
    """
    voxel = np.floor((skeletons.node_nm - offset_nm) / voxel_size_nm + 0.5)
    inside = np.all((voxel >= 0) & (voxel < shape), axis=1)
    if not inside.any():
        last = [o + (n - 1) * v for o, n, v in zip(offset_nm, shape, voxel_size_nm, strict=True)]
        raise SkeletonError(
            f"none of the {len(voxel)} nodes of the skeletons lies in the volume: z, y, x are "
            f"{_span(skeletons.node_nm.min(0), skeletons.node_nm.max(0))} nm, those of its voxels "
            f"{_span(offset_nm, last)} nm; set skeletons.unit_nm to the nm of a unit of the files, 1000 for µm"
        )
    order = np.flatnonzero(inside)[np.argsort(voxel[inside, 0], kind="stable")]
    place = np.zeros(len(voxel), np.int64)
    place[order] = np.arange(len(order))
    edges = skeletons.edges[np.all(inside[skeletons.edges], axis=1)]
    length = np.linalg.norm(np.subtract(*skeletons.node_nm[edges.T]), axis=1)
    outside = len(voxel) - len(order)
    in_order = np.ascontiguousarray(voxel[order].T.astype(np.int64))
    return PlacedSkeletons(in_order, skeletons.skeleton[order], place[edges], length, outside)


def _span(low: NDArray[np.float64] | tuple[float, ...], high: NDArray[np.float64] | list[float]) -> str:
    """Return the range along each axis in words."""
    return ", ".join(f"{lo:g} to {hi:g}" for lo, hi in zip(low, high, strict=True))
