"""Join small objects with the neighbour that they are most connected to, after the agglomeration.

An object below the size is joined with the neighbour with the lowest mean boundary, however high that boundary is:

1. Sum the edges between objects. Find the neighbour of each small object with the lowest mean boundary; of equal ones
   the one with the lower number.
2. Join all of them at once; two small objects that chose each other become one.
3. Repeat with the new objects, until every small object is without a neighbour.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from unet.segmentation.agglomeration import mean_boundary
from unet.segmentation.fragments import connected_component_labels
from unet.segmentation.region_graph import Edges, group_edges, sum_groups


def join_small_objects(
    object_of: NDArray[np.int32], size: NDArray[np.int64], slabs: Iterable[Edges], min_size: int
) -> NDArray[np.int32]:
    """Return the object of each component, 0 to objects - 1, after small objects were joined with a neighbour.

    Parameters
    ----------
    object_of : (components,) object of each connected component of fragments, 0 to objects - 1
    size : (components,) voxels
    slabs : edges between components, in parts
    min_size : objects of fewer voxels are joined

    >>> edges = Edges(np.array([0, 1]), np.array([1, 2]), np.array([1, 1]), np.array([200, 90]), histogram=None)
    >>> join_small_objects(np.array([0, 1, 2], np.int32), np.array([50, 3, 60]), [edges], min_size=10).tolist()
    [0, 1, 1]
    """
    u, v, contacts, boundary = _between_objects(object_of, slabs)
    size = np.bincount(object_of, size, minlength=int(object_of.max(initial=-1)) + 1).astype(np.int64)
    while True:
        ends, others = np.concatenate([u, v]), np.concatenate([v, u])
        small = size[ends] < min_size
        if not small.any():
            return object_of
        score = np.tile(mean_boundary([contacts, boundary]), 2)[small]
        ends, others = ends[small], others[small]
        order = np.lexsort((others, score, ends))
        first = order[np.concatenate([[True], ends[order][1:] != ends[order][:-1]])]
        joined = connected_component_labels(len(size), np.stack([ends[first], others[first]], axis=1).astype(np.int64))
        size = np.bincount(joined, size).astype(np.int64)
        u, v, grouped, start = group_edges(joined[u], joined[v])
        contacts, boundary = sum_groups(contacts, grouped, start), sum_groups(boundary, grouped, start)
        object_of = joined[object_of]


def _between_objects(object_of: NDArray[np.int32], slabs: Iterable[Edges]) -> tuple[NDArray[np.int64], ...]:
    """Return u, v, contacts and boundary of the edges between objects."""
    parts = [(object_of[slab.u], object_of[slab.v], slab.contacts, slab.boundary) for slab in slabs]
    empty = np.empty(0, np.int64)
    u, v, contacts, boundary = (np.concatenate([empty, *(part[i] for part in parts)]) for i in range(4))
    u, v, order, start = group_edges(u, v)
    return u, v, sum_groups(contacts, order, start), sum_groups(boundary, order, start)
