"""The global solve: from the fragments of a volume and their region graph to objects, over whole arrays.

1. `objects_of`: agglomerate the unions of fragments, or cut their graph by multicut.
2. `without_holes`: give what one object encloses to it.
3. `fragments.number_objects` numbers them.

Fragments of class 0 are background: nothing is joined with them, but they can be a hole of what encloses them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.agglomeration import Columns, Graph, Score, agglomerate, mean_boundary, quantile_boundary
from unet.config import AgglomerateConfig
from unet.fragments import Fragments
from unet.multicut import multicut
from unet.region_graph import Edges, across_sections, grouped


def objects_of(
    united: Fragments, edges: Edges, settings: AgglomerateConfig, section_voxels: int | None
) -> NDArray[np.int32]:
    """The object, 0 to objects - 1, of each union of fragments.

    Parameters
    ----------
    united : unions of fragments, see `Fragments.united`
    edges : between them
    settings : how they are joined
    section_voxels : voxels of a section, where no fragment extends over two; None in 3-D
    """
    joinable = (united.value[edges.u] > 0) & (united.value[edges.u] == united.value[edges.v])
    edges = edges.chosen(joinable)
    if section_voxels is not None:
        edges = across_sections(edges, united.first // section_voxels, united.size, settings.mismatch)
    if settings.method == "none":
        return np.arange(united.parts, dtype=np.int32)
    if settings.method == "multicut":
        return multicut(united.parts, edges, float(settings.threshold))
    columns, score = scored(edges, settings)
    return dense(agglomerate(Graph(united.parts, edges.u, edges.v, columns), score, float(settings.threshold)))


def scored(edges: Edges, settings: AgglomerateConfig) -> tuple[Columns, Score]:
    """What is summed over parallel edges, and the score of the sums: a quantile where there are histograms."""
    if edges.histogram is not None:
        return [bin_.copy() for bin_ in edges.histogram.T], quantile_boundary(settings.quantile)
    return [edges.contacts, edges.boundary], mean_boundary


def dense(cluster: NDArray[Any]) -> NDArray[np.int32]:
    """Clusters, each named by one of its nodes, numbered from 0 in the order of these nodes.

    >>> dense(np.array([2, 2, 2, 3])).tolist()
    [0, 0, 0, 1]
    """
    named = np.zeros(len(cluster), bool)
    named[cluster] = True
    return (np.cumsum(named, dtype=np.int32) - np.int32(1))[cluster]


def without_holes(
    objects: Fragments, object_of_part: NDArray[np.int32], edges: Edges, largest: int
) -> NDArray[np.int32]:
    """Objects with their holes: small ones, or background, that touch one other object and no face of the volume.

    Parameters
    ----------
    objects : see `Fragments.joined`
    object_of_part : (parts,) the object of each union of fragments
    edges : between these unions, those of background included
    largest : voxels that a hole may have

    Returns
    -------
    (parts,) int32, the object of each union of fragments
    """
    u, v, _, _ = grouped(object_of_part[edges.u], object_of_part[edges.v])
    ends, others = np.concatenate([u, v]), np.concatenate([v, u])
    neighbours = np.bincount(ends, minlength=len(objects.size))
    hole = (neighbours == 1) & (objects.size <= largest) & ~objects.rim
    around = np.arange(len(objects.size), dtype=np.int32)
    enclosed = hole[ends] & (objects.value[others] > 0) & ~hole[others]
    around[ends[enclosed]] = others[enclosed]
    return dense(around[object_of_part])
