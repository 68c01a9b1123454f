"""The global solve: from the fragments of a volume and their region graph to objects, over whole arrays.

1. `objects_of`: agglomerate the unions of fragments, a run of layers of blocks after the other, or cut their graph by
   multicut.
2. `without_holes`: give what one object encloses to it.
3. `merge_table.number_objects` numbers them.

Fragments of class 0 are background: nothing is joined with them, but they can be a hole of what encloses them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.config.segment import AgglomerateConfig
from unet.segmentation.agglomeration import Columns, Score, agglomerate_parts, mean_boundary, quantile_boundary
from unet.segmentation.fragments import Fragments
from unet.segmentation.multicut import multicut
from unet.segmentation.region_graph import EdgeParts, Edges, across_sections, grouped


def objects_of(
    united: Fragments, edges: EdgeParts, settings: AgglomerateConfig, section_voxels: int | None
) -> NDArray[np.int32]:
    """The object, 0 to objects - 1, of each union of fragments.

    Parameters
    ----------
    united : unions of fragments, see `Fragments.united`
    edges : between them; a multicut needs all at once
    settings : how they are joined
    section_voxels : voxels of a section, where no fragment extends over two; None in 3-D
    """

    def joinable(part: Edges) -> Edges:
        value, section = united.value, united.first // (section_voxels or 1)
        part = part.chosen((value[part.u] > 0) & (value[part.u] == value[part.v]))
        return (
            part
            if section_voxels is None
            else across_sections(part, section, united.size, settings.size_mismatch_penalty)
        )

    parts = map(joinable, edges.read())
    if settings.method == "none":
        return np.arange(united.parts, dtype=np.int32)
    if settings.method == "multicut":
        [whole] = parts
        return multicut(united.parts, whole, float(settings.threshold))
    summed = ((part.u, part.v, columns_of(part, settings)) for part in parts)
    return dense(agglomerate_parts(united.parts, summed, edges.last, score_of(settings), float(settings.threshold)))


def columns_of(edges: Edges, settings: AgglomerateConfig) -> Columns:
    """What is summed over parallel edges."""
    if settings.method == "quantile":
        assert edges.histogram is not None
        return [bin_.copy() for bin_ in edges.histogram.T]
    return [edges.contacts, edges.boundary]


def score_of(settings: AgglomerateConfig) -> Score:
    """The score of these sums."""
    return quantile_boundary(settings.quantile) if settings.method == "quantile" else mean_boundary


def dense(cluster: NDArray[Any]) -> NDArray[np.int32]:
    """Clusters, each named by one of its nodes, numbered from 0 in the order of these nodes.

    >>> dense(np.array([2, 2, 2, 3])).tolist()
    [0, 0, 0, 1]
    """
    named = np.zeros(len(cluster), bool)
    named[cluster] = True
    return (np.cumsum(named, dtype=np.int32) - np.int32(1))[cluster]


def without_holes(
    objects: Fragments, object_of_part: NDArray[np.int32], edges: EdgeParts, largest: int
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
    beside = [grouped(object_of_part[part.u], object_of_part[part.v])[:2] for part in edges.read()]
    u, v, _, _ = grouped(*(np.concatenate(side) for side in zip(*beside, strict=True)))
    ends, others = np.concatenate([u, v]), np.concatenate([v, u])
    neighbours = np.bincount(ends, minlength=len(objects.size))
    hole = (neighbours == 1) & (objects.size <= largest) & ~objects.rim
    around = np.arange(len(objects.size), dtype=np.int32)
    enclosed = hole[ends] & (objects.value[others] > 0) & ~hole[others]
    around[ends[enclosed]] = others[enclosed]
    return dense(around[object_of_part])
