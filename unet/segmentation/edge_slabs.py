"""The edges of a volume from the edges of its blocks: all at once, or in slabs of consecutive layers of blocks."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.segmentation.fragments import Fragments
from unet.segmentation.region_graph import Edges, group_edges, sum_groups

FRAGMENTS_PER_SLAB = 4_000_000
"""Fragments of the layers of blocks in one slab: some 24 million edges, 1.4 GB while they are solved."""


def gather_edges(fragments: Fragments, blocks: Iterable[Edges], with_histogram: bool = False) -> Edges:
    """Return the edges between the connected components of a volume's fragments, from the edges of its blocks."""
    component_of, offsets = fragments.component_of, fragments.offsets

    def components(ids: NDArray[np.uint64]) -> NDArray[np.int32]:
        block, label = ids >> np.uint64(32), (ids & np.uint64(0xFFFFFFFF)).astype(np.int64)
        return component_of[offsets[block.astype(np.int64)] + label - 1]

    names = ["contacts", "boundary", *(["histogram"] if with_histogram else [])]
    columns: dict[str, list[NDArray[Any]]] = {"u": [component_of[:0]], "v": [component_of[:0]]}
    columns |= {name: [getattr(Edges.empty(), name)] for name in names}
    for own in blocks:
        columns["u"].append(components(own.u))
        columns["v"].append(components(own.v))
        for name in names:
            columns[name].append(getattr(own, name))
    u, v, order, start = group_edges(np.concatenate(columns.pop("u")), np.concatenate(columns.pop("v")))
    # one column at a time: each is freed before the next is made
    summed = {name: sum_groups(np.concatenate(columns.pop(name)), order, start) for name in names}
    return Edges(u, v, summed["contacts"], summed["boundary"], summed.get("histogram"))


@dataclass(frozen=True)
class EdgeSlabs:
    """The edges of a volume, one slab of consecutive layers of blocks at a time.

    An edge that lies in several slabs is the sum of its parts.

    Attributes
    ----------
    last_slab : (components,) int64, the last slab that an edge of each connected component may lie in
    read : function that returns the slabs in their order, as often as it is called
    """

    last_slab: NDArray[np.int64]
    read: Callable[[], Iterable[Edges]]

    @classmethod
    def whole(cls, edges: Edges, components: int) -> Self:
        """Return all edges of a volume with so many components, in one slab."""
        return cls(np.zeros(components, np.int64), lambda: [edges])


def edges_in_slabs(
    fragments: Fragments,
    grid: Grid,
    edges_of: Callable[[Box], Edges],
    with_histogram: bool = False,
    fragments_per_slab: int = FRAGMENTS_PER_SLAB,
) -> EdgeSlabs:
    """Return the edges between the connected components of a volume's fragments, in slabs of layers of blocks.

    A contact belongs to the block of its first voxel, so a fragment has no edge in a layer behind its own. All edges
    between two sections lie in one slab.

    Parameters
    ----------
    fragments : all fragments of the volume
    grid : the blocks of the volume
    edges_of : function that reads the edges `block_edges` found in a block
    with_histogram : whether the histograms are read too
    fragments_per_slab : fragments of one slab; a layer with more is a slab of its own
    """
    start = fragments.offsets[:: prod(grid.counts[1:])]
    _, slab_of_layer = np.unique(start[:-1] // fragments_per_slab, return_inverse=True)
    last_slab = np.zeros(fragments.component_count, np.int64)
    np.maximum.at(last_slab, fragments.component_of, np.repeat(slab_of_layer, np.diff(start)))

    def read() -> Iterator[Edges]:
        for slab in range(slab_of_layer[-1] + 1):
            layers = np.flatnonzero(slab_of_layer == slab).tolist()
            boxes = (grid.box(index) for layer in layers for index in grid.layer(layer))
            yield gather_edges(fragments, map(edges_of, boxes), with_histogram)

    return EdgeSlabs(last_slab, read)
