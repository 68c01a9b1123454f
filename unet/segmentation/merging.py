"""The global solve: from the fragments of a volume and their region graph to objects, over whole arrays.

1. `solve_objects`: agglomerate the connected components of fragments, one slab of the graph after the other; or cut the
   whole graph by multicut or mutex watershed. Join small objects with a neighbour.
2. `fill_holes`: give the holes of an object to that object.
3. `merge_table.number_objects` numbers the objects.

Fragments of class 0 are background. Nothing is merged with them, but they can be a hole of an object around them.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.config.segment import AFFINITY_METHODS, AgglomerateConfig
from unet.segmentation.agglomeration import Columns, Score, agglomerate_slabs, mean_boundary, quantile_boundary
from unet.segmentation.edge_slabs import EdgeSlabs
from unet.segmentation.fragments import Fragments
from unet.segmentation.multicut import multicut
from unet.segmentation.mutex_watershed import mutex_watershed
from unet.segmentation.region_graph import Edges, add_section_penalty, group_edges
from unet.segmentation.small_objects import join_small_objects

WHOLE_GRAPH = ("multicut", "mutex_watershed")
"""Methods that need all edges of a volume in one slab."""


def solve_objects(
    components: Fragments, edges: EdgeSlabs, settings: AgglomerateConfig, section_voxels: int | None
) -> NDArray[np.int32]:
    """Return the object, 0 to objects - 1, of each connected component of fragments.

    Parameters
    ----------
    components : connected components as fragments, see `Fragments.merge_components`
    edges : edges between the components; the methods `WHOLE_GRAPH` need all in one slab
    settings : how components are merged
    section_voxels : voxels of a section, where no fragment extends over two sections; None in 3-D
    """

    slabs = mergeable_edges(components, edges, settings, section_voxels)
    objects = clusters_of_slabs(components.component_count, slabs, edges.last_slab, settings)
    if settings.join_fragments_below:
        slabs = mergeable_edges(components, edges, settings, section_voxels)
        objects = join_small_objects(objects, components.size, slabs, settings.join_fragments_below)
    return objects


def is_mergeable(class_value: NDArray[np.uint8], u: NDArray[Any], v: NDArray[Any]) -> NDArray[np.bool_]:
    """Return True for the edges by which nodes may be joined: of one class, which is not background."""
    one, other = class_value[u], class_value[v]
    return (one > 0) & (one == other)


def penalises_sections(settings: AgglomerateConfig, section_voxels: int | None) -> bool:
    """Return whether edges between sections get a penalty, which needs the sizes of both ends."""
    return section_voxels is not None and settings.method not in AFFINITY_METHODS


def mergeable_edges(
    components: Fragments, edges: EdgeSlabs, settings: AgglomerateConfig, section_voxels: int | None
) -> Iterator[Edges]:
    """Yield the edges by which components may be joined: of one class, with the penalty for sections.

    Parameters are those of `solve_objects`.
    """
    section = components.first_voxel // (section_voxels or 1)
    for slab in edges.read():
        kept = slab.select(is_mergeable(components.class_value, slab.u, slab.v))
        if penalises_sections(settings, section_voxels):
            kept = add_section_penalty(kept, section, components.size, settings.size_mismatch_penalty)
        yield kept


def clusters_of_slabs(
    nodes: int, slabs: Iterator[Edges], last_slab: NDArray[np.int64], settings: AgglomerateConfig
) -> NDArray[np.int32]:
    """Return the cluster of each node, 0 to clusters - 1, by the method of the settings."""
    threshold = float(settings.threshold)
    if settings.method == "none":
        return np.arange(nodes, dtype=np.int32)
    if settings.method == "multicut":
        [whole] = slabs
        return multicut(nodes, whole, threshold)
    if settings.method == "mutex_watershed":
        [whole] = slabs
        weight = (1 - threshold) - mean_boundary([whole.contacts, whole.boundary])
        return compact_labels(mutex_watershed(nodes, whole.u, whole.v, weight))
    summed = ((slab.u, slab.v, summed_columns(slab, settings)) for slab in slabs)
    return compact_labels(agglomerate_slabs(nodes, summed, last_slab, edge_score(settings), score_limit(settings)))


def score_limit(settings: AgglomerateConfig) -> float:
    """Return the score below which nodes are merged.

    A mean affinity above the threshold is a mean of ``1 - affinity`` below ``1 - threshold``.
    """
    threshold = float(settings.threshold)
    return 1 - threshold if settings.method in AFFINITY_METHODS else threshold


def summed_columns(edges: Edges, settings: AgglomerateConfig) -> Columns:
    """Return the columns that are summed over parallel edges: histogram bins, or contacts and boundary."""
    if settings.method == "quantile":
        assert edges.histogram is not None
        return [bin_.copy() for bin_ in edges.histogram.T]
    return [edges.contacts, edges.boundary]


def edge_score(settings: AgglomerateConfig) -> Score:
    """Return the score of `summed_columns` that the settings choose."""
    return quantile_boundary(settings.quantile) if settings.method == "quantile" else mean_boundary


def compact_labels(cluster: NDArray[Any]) -> NDArray[np.int32]:
    """Renumber clusters, each named by one of its nodes, from 0 without gaps, in the order of these nodes.

    >>> compact_labels(np.array([2, 2, 2, 3])).tolist()
    [0, 0, 0, 1]
    """
    named = np.zeros(len(cluster), bool)
    named[cluster] = True
    return (np.cumsum(named, dtype=np.int32) - np.int32(1))[cluster]


def fill_holes(
    objects: Fragments, object_of_component: NDArray[np.int32], edges: EdgeSlabs, max_size: int
) -> NDArray[np.int32]:
    """Merge every hole into the object around it.

    A hole is a small object, or a piece of background, that touches one other object and no face of the volume.

    Parameters
    ----------
    objects : see `Fragments.merge_objects`
    object_of_component : (components,) the object of each connected component of fragments
    edges : edges between the components, those of background included
    max_size : largest number of voxels of a hole

    Returns
    -------
    (components,) int32, the object of each connected component of fragments
    """
    beside = [group_edges(object_of_component[slab.u], object_of_component[slab.v])[:2] for slab in edges.read()]
    u, v, _, _ = group_edges(*(np.concatenate(side) for side in zip(*beside, strict=True)))
    may_be_hole, certain = (objects.size <= max_size) & ~objects.touches_border, np.zeros(len(objects.size), bool)
    return fill_certain_holes(objects.class_value, may_be_hole, u, v, certain)[0][object_of_component]


def fill_certain_holes(
    class_value: NDArray[np.uint8],
    may_be_hole: NDArray[np.bool_],
    u: NDArray[np.int32],
    v: NDArray[np.int32],
    uncertain: NDArray[np.bool_],
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Merge every hole into the object around it, as far as it does not depend on objects that are not certain.

    Parameters
    ----------
    class_value : (objects,) class of each object; 0 = background
    may_be_hole : (objects,) True for objects that are small enough and touch no face of the volume
    u, v : (edges,) objects that touch, every pair once
    uncertain : (objects,) True where further voxels or neighbours may come

    Returns
    -------
    filled : (objects,) int32, what each object was merged into, 0 to filled objects - 1
    uncertain : (filled objects,) bool
    """
    ends, others = np.concatenate([u, v]), np.concatenate([v, u])
    neighbours = np.bincount(ends, minlength=len(class_value))
    # beside a certain neighbour another one makes two, and background around an object fills nothing
    decided = np.zeros(len(class_value), bool)
    decided[ends[~uncertain[others] | (class_value[others] == 0)]] = True
    unsure = uncertain | (may_be_hole & ~decided & (neighbours > 0))
    unsure[ends[(uncertain & may_be_hole)[others]]] = True
    hole = may_be_hole & (neighbours == 1)
    enclosed = hole[ends] & (class_value[others] > 0) & ~hole[others] & ~unsure[ends]
    around = np.arange(len(class_value), dtype=np.int32)
    around[ends[enclosed]] = others[enclosed]
    filled = compact_labels(around)
    doubt = np.zeros(int(filled.max(initial=-1)) + 1, bool)
    doubt[filled[unsure]] = True
    return filled, doubt
