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

from unet.geometry.run_length_encoding import run_starts
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
    joined, _ = join_certain(size, Edges(u, v, contacts, boundary, None), min_size, np.zeros(len(size), bool))
    return joined[object_of]


def join_certain(
    size: NDArray[np.int64], edges: Edges, min_size: int, uncertain: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Join small objects with a neighbour, as far as it does not depend on objects that are not certain.

    A small object with an uncertain neighbour does not choose yet. All that it might choose is uncertain from then on,
    and so is an object that one of these is joined with.

    Parameters
    ----------
    size : (objects,) voxels, or the least number of voxels of an uncertain object
    edges : edges between the objects, every pair once
    min_size : objects of fewer voxels are joined
    uncertain : (objects,) True where further voxels or neighbours may come

    Returns
    -------
    joined : (objects,) int32, what each object was joined to, 0 to joined objects - 1
    uncertain : (joined objects,) bool

    >>> two = Edges(np.array([0, 1]), np.array([1, 2]), np.array([1, 1]), np.array([200, 90]), histogram=None)
    >>> joined, uncertain = join_certain(np.array([50, 3, 60]), two, 10, np.array([False, False, True]))
    >>> joined.tolist(), uncertain.tolist()
    ([0, 1, 2], [True, True, True])
    """
    object_of = np.arange(len(size), dtype=np.int32)
    u, v, contacts, boundary = edges.u, edges.v, edges.contacts, edges.boundary
    while True:
        ends, others = np.concatenate([u, v]), np.concatenate([v, u])
        small = size < min_size
        waiting = uncertain.copy()
        waiting[ends[uncertain[others]]] = True
        waiting &= small
        chosen = others[waiting[ends]]
        choosing = (small & ~waiting)[ends]
        doubt = uncertain | waiting
        doubt[chosen] = True
        if not choosing.any() and (doubt == uncertain).all():
            return object_of, uncertain
        score = np.tile(mean_boundary([contacts, boundary]), 2)[choosing]
        ends, others = ends[choosing], others[choosing]
        order = np.lexsort((others, score, ends))
        first = order[run_starts(ends[order])]
        joined = connected_component_labels(len(size), np.stack([ends[first], others[first]], axis=1).astype(np.int64))
        size = np.bincount(joined, size).astype(np.int64)
        uncertain = np.zeros(len(size), bool)
        uncertain[joined[doubt]] = True
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
