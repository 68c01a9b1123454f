"""The table of objects: a row per object, in the units that people read, from the sums over its voxels.

Lengths in nm follow from voxel centres, which lie at ``offset_nm + i * voxel_size_nm``. An object in `axes` is taken
for a solid ellipsoid with the same second moments: an axis has length ``2 sqrt(5 v)``, v the variance of the voxel
centres along it. scikit-image calls these `axis_major_length` and `axis_minor_length`.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.evaluation.contingency import Contingency
from unet.measurement.contacts import Contacts, surface_faces
from unet.measurement.object_sums import LOW_BITS, PAIRS_OF_AXES, ObjectSums
from unet.segmentation.region_graph import FULL_BOUNDARY

Table = dict[str, NDArray[Any]]
"""Columns of equal length by their names, in the order in which they are written."""

AXES = "zyx"
NM_PER_UM = 1e3


def object_table(
    sums: ObjectSums,
    contacts: Contacts,
    voxel_size_nm: Sequence[float],
    offset_nm: Sequence[float],
    with_probability: bool = True,
) -> Table:
    """Return the table of objects: size, surface, position and shape.

    Parameters
    ----------
    sums : sums over the voxels of the objects
    contacts : contacts of the same objects, those with id 0 included
    voxel_size_nm, offset_nm : (z, y, x), edges of a voxel and centre of the first voxel
    with_probability : whether `sums` hold probabilities
    """
    size, face = np.array(voxel_size_nm, float), _face_um2(voxel_size_nm)
    centre = sums.first / np.maximum(sums.voxels, 1)[:, None]
    lengths, directions = principal_axes(sums, voxel_size_nm)
    table: Table = {
        "id": sums.ids,
        "voxels": sums.voxels,
        "volume_um3": sums.voxels * (prod(voxel_size_nm) / NM_PER_UM**3),
        "surface_um2": surface_faces(contacts, sums.ids) @ face,
        "border_um2": sums.border @ face,
        "touches_border": np.any(sums.border, axis=1, keepdims=True)[:, 0],
        "sections": sums.stop[:, 0] - sums.start[:, 0],
    }
    for axis, name in enumerate(AXES):
        table |= {f"{name}_start": sums.start[:, axis], f"{name}_stop": sums.stop[:, axis]}
    table |= {f"centroid_{name}_voxel": centre[:, axis] for axis, name in enumerate(AXES)}
    table |= {f"centroid_{name}_nm": offset_nm[axis] + size[axis] * centre[:, axis] for axis, name in enumerate(AXES)}
    for rank, which in enumerate(("major", "middle", "minor")):
        table[f"{which}_axis_um"] = lengths[:, rank] / NM_PER_UM
        table |= {f"{which}_axis_{name}": directions[:, rank, axis] for axis, name in enumerate(AXES)}
    if with_probability:
        table["mean_probability"] = sums.level / (FULL_BOUNDARY * np.maximum(sums.voxels, 1))
    return table


def principal_axes(sums: ObjectSums, voxel_size_nm: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the principal axes of objects: lengths in nm, and unit vectors, longest first.

    The covariance ``(n sum ab - sum a sum b) / n^2`` is a difference of large numbers, so it is formed in integers.

    Returns
    -------
    lengths : (n, 3) float64
    directions : (n, 3, 3) float64, axis by axis, each as (z, y, x); the largest component is positive
    """
    n, s = sums.voxels.astype(object), sums.first.astype(object)
    covariance = np.zeros((len(sums), 3, 3))
    for k, (a, b) in enumerate(PAIRS_OF_AXES):
        whole = (sums.second[:, k, 0].astype(object) << LOW_BITS) + sums.second[:, k, 1]
        exact = (n * whole - s[:, a] * s[:, b]).astype(np.float64) / np.maximum(sums.voxels.astype(np.float64), 1) ** 2
        covariance[:, a, b] = covariance[:, b, a] = exact * voxel_size_nm[a] * voxel_size_nm[b]
    variance, vectors = np.linalg.eigh(covariance)
    directions = np.swapaxes(vectors, 1, 2)[:, ::-1]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=2)[..., None], axis=2)
    lengths = 2 * np.sqrt(5 * np.maximum(variance[:, ::-1], 0))
    return lengths, directions * np.where(largest < 0, -1.0, 1.0)


def contact_table(contacts: Contacts, voxel_size_nm: Sequence[float], with_boundary: bool = True) -> Table:
    """Return the table of contacts: two ids, faces between them, area, and mean boundary probability.

    Parameters
    ----------
    contacts : contacts of objects; those with id 0 are left out
    voxel_size_nm : (z, y, x), edges of a voxel
    with_boundary : whether `contacts` hold boundary probabilities
    """
    found = contacts.of_objects
    faces = found.faces.sum(axis=1)
    table: Table = {"id": found.u, "other_id": found.v, "faces": faces}
    table["area_um2"] = found.faces @ _face_um2(voxel_size_nm)
    if with_boundary:
        table["mean_boundary"] = found.boundary / (FULL_BOUNDARY * np.maximum(faces, 1))
    return table


def best_matches(overlap: Contingency, ids: NDArray[np.uint64]) -> Table:
    """Return the true object that each object matches best, and their intersection over union.

    Only annotated voxels count. An object that lies in no true object has truth 0 and 0.0; among equal matches the
    smaller id is taken.

    Parameters
    ----------
    overlap : contingency table of true ids plus 1, so that 1 is the annotated background, and the objects
    ids : (objects,) in increasing order

    >>> table = Contingency(*np.array([[1, 3, 3, 5], [7, 0, 7, 7]], np.uint64), np.array([2, 1, 4, 3]))
    >>> {name: column.tolist() for name, column in best_matches(table, np.array([7, 8], np.uint64)).items()}
    {'truth_id': [2, 0], 'truth_iou': [0.4, 0.0]}
    """
    size, true_size = _sizes(overlap.segmentation, overlap.count), _sizes(overlap.truth, overlap.count)
    keep = (overlap.truth > 1) & (overlap.segmentation > 0)
    common = overlap.count[keep]
    iou = common / (size[keep] + true_size[keep] - common)
    true, own = overlap.truth[keep] - np.uint64(1), overlap.segmentation[keep]
    order = np.lexsort((true, -iou, own))
    objects, first = np.unique(own[order], return_index=True)
    best, place = order[first], np.searchsorted(ids, objects)
    truth_id, truth_iou = np.zeros(len(ids), np.uint64), np.zeros(len(ids))
    truth_id[place], truth_iou[place] = true[best], iou[best]
    return {"truth_id": truth_id, "truth_iou": truth_iou}


def inside_table(overlap: Contingency, voxel_size_nm: Sequence[float]) -> Table:
    """Return what lies inside each object: ids or classes of a second store, with their voxels in the object.

    Parameters
    ----------
    overlap : contingency table of the objects, and the values of the second store; 0 = nothing
    voxel_size_nm : (z, y, x), edges of a voxel
    """
    found, size = overlap.without_background, _sizes(overlap.truth, overlap.count)[overlap.segmentation != 0]
    volume = found.count * (prod(voxel_size_nm) / NM_PER_UM**3)
    shares = {"voxels": found.count, "volume_um3": volume, "share_of_object": found.count / size}
    return {"id": found.truth, "value": found.segmentation, **shares}


def inside_columns(inside: Mapping[str, Table], ids: NDArray[np.uint64]) -> Table:
    """Return columns of the table of objects: how many values of each second store lie inside, and their volume.

    >>> mitochondria = {"id": np.array([7, 7]), "value": np.array([1, 2]), "volume_um3": np.array([0.5, 1.0])}
    >>> found = inside_columns({"mitochondria": mitochondria}, np.array([3, 7], np.uint64))
    >>> {name: column.tolist() for name, column in found.items()}
    {'mitochondria_count': [0, 2], 'mitochondria_um3': [0.0, 1.5]}
    """
    table: Table = {}
    for name, found in inside.items():
        place = np.searchsorted(ids, found["id"])
        table[f"{name}_count"] = np.bincount(place, minlength=len(ids))
        table[f"{name}_um3"] = np.bincount(place, found["volume_um3"], len(ids))
    return table


def _sizes(ids: NDArray[np.uint64], count: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return, for each pair, the voxels of all pairs with the same id."""
    _, index = np.unique(ids, return_inverse=True)
    total = np.zeros(int(index.max(initial=-1)) + 1, np.int64)
    np.add.at(total, index, count)
    return total[index]


def _face_um2(voxel_size_nm: Sequence[float]) -> NDArray[np.float64]:
    """Return the area in um2 of a voxel's face perpendicular to z, y and x."""
    whole = prod(voxel_size_nm)
    return np.array([whole / edge for edge in voxel_size_nm]) / NM_PER_UM**2


def summary(table: Table) -> dict[str, float]:
    """Return the table of objects in short: their number, those at the border, median and largest volume, surface."""
    volume = table["volume_um3"]
    return {
        "objects": len(volume),
        "touching_border": int(table["touches_border"].sum()),
        "median_um3": float(np.median(volume)) if len(volume) else 0.0,
        "largest_um3": float(volume.max(initial=0)),
        "surface_um2": float(table["surface_um2"].sum()),
    }
