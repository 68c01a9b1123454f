"""Find the objects of a part of the volume that the rest of the volume cannot change.

The region graph of a part is not the whole graph. An **open** node may have voxels or edges in another part. The global
solve (`merging`) agglomerates, joins small objects, and fills holes. `settle` takes the same steps as far as they are
certain, whatever the other parts hold:

1. Agglomerate; an open node is merged with nothing. The linkage is reducible (see `agglomeration`), so what merges here
   merges in the whole graph as well. Equal scores count for the open node: its number is not known yet. Where sections
   have a penalty, the edge to an open node has an unknown score, so the node at its other end waits as well.
2. Join small objects round by round. An object is **uncertain** if it is open, or if an edge may still merge it. It is
   also uncertain if an uncertain neighbour may still join it or be chosen by it (`join_certain`).
3. Fill holes. The number of an object's neighbours has to be certain.
4. What is certain is **settled**. The nodes of all other objects stay **live**: as after step 1, with the edges between
   them. A small live node keeps all its neighbours, because it will choose again.

```
open face ->  | a  b . c . . d d        a: open     b: small, beside a     c: small, between b and d     d: large
              | a  b . c . . d d        a, b, c and d are live (b may choose a or c; c chooses b or d)
                                        what lies beyond d is settled
```
"""

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet.config.segment import AgglomerateConfig
from unet.segmentation.agglomeration import Graph, agglomerate
from unet.segmentation.fragments import is_object
from unet.segmentation.merging import (
    WHOLE_GRAPH,
    clusters_of_slabs,
    compact_labels,
    edge_score,
    fill_certain_holes,
    is_mergeable,
    penalises_sections,
    score_limit,
    summed_columns,
)
from unet.segmentation.region_graph import Edges, add_section_penalty, group_edges, sum_groups
from unet.segmentation.small_objects import join_certain


class MergeRules(NamedTuple):
    """Rules by which fragments become objects.

    Attributes
    ----------
    agglomerate : settings of the agglomeration; None where fragments that touch are one object, and nothing else is
    section_voxels : voxels of a section, where no fragment extends over two sections; None in 3-D
    fill_holes : largest number of voxels of a hole; 0 = holes stay
    """

    agglomerate: AgglomerateConfig | None = None
    section_voxels: int | None = None
    fill_holes: int = 0

    @property
    def penalises_sections(self) -> bool:
        """True where edges between sections get a penalty, which needs the sizes of both ends."""
        return self.agglomerate is not None and penalises_sections(self.agglomerate, self.section_voxels)

    @property
    def joins_below(self) -> int:
        """Objects of fewer voxels are joined with a neighbour."""
        return self.agglomerate.join_fragments_below if self.agglomerate else 0


@dataclass(frozen=True, eq=False)
class Nodes:
    """Fragments, or what they were merged into.

    Attributes
    ----------
    first_voxel : (n,) int64, first voxel in scan order, in the whole volume
    order : (n,) int64, first voxel of the connected component that names the node; equal scores go by it
    size : (n,) int64, voxels
    class_value : (n,) uint8; 0 = background
    touches_border : (n,) bool, True at a face of the volume; such a node is no hole
    """

    first_voxel: NDArray[np.int64]
    order: NDArray[np.int64]
    size: NDArray[np.int64]
    class_value: NDArray[np.uint8]
    touches_border: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.size)

    def select(self, which: NDArray[Any]) -> "Nodes":
        """Return the nodes at these indices, or where a mask is True."""
        return Nodes(**{f.name: getattr(self, f.name)[which] for f in fields(self)})

    @classmethod
    def concatenate(cls, several: "list[Nodes]") -> "Nodes":
        """Return several sets of nodes, one after the other."""
        return cls(**{f.name: np.concatenate([getattr(one, f.name) for one in several]) for f in fields(cls)})

    def is_object(self, min_size: int) -> NDArray[np.bool_]:
        """Return (n,) True for what becomes an object, see `fragments.is_object`."""
        return is_object(self.size, self.class_value, min_size)

    def merged(self, into: NDArray[np.integer], count: int) -> "Nodes":
        """Return the `count` nodes that these become; node i becomes node ``into[i]``."""
        first, order = np.full(count, np.iinfo(np.int64).max), np.full(count, -1, np.int64)
        size, class_value = np.zeros(count, np.int64), np.zeros(count, np.uint8)
        border = np.zeros(count, bool)
        np.minimum.at(first, into, self.first_voxel)
        np.maximum.at(order, into, self.order)
        np.add.at(size, into, self.size)
        np.maximum.at(class_value, into, self.class_value)
        np.logical_or.at(border, into, self.touches_border)
        return Nodes(first, order, size, class_value, border)


@dataclass(frozen=True, eq=False)
class NodeEdges:
    """Edges between nodes of a part.

    Attributes
    ----------
    sums : nodes and sums over the contacts; `settle` sums the edges of a pair that comes several times
    touching : (n,) bool, True where voxels of both nodes share a face
    penalised : (n,) bool, True where the penalty for sections is in the sums
    """

    sums: Edges
    touching: NDArray[np.bool_]
    penalised: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.sums)

    def select(self, keep: NDArray[np.bool_]) -> "NodeEdges":
        """Return the edges where `keep` is True."""
        return NodeEdges(self.sums.select(keep), self.touching[keep], self.penalised[keep])

    def are_mergeable(self, nodes: Nodes) -> NDArray[np.bool_]:
        """Return True for the edges by which nodes may be joined, see `merging.is_mergeable`."""
        return is_mergeable(nodes.class_value, self.sums.u, self.sums.v)

    def renumbered(self, into: NDArray[np.integer]) -> "NodeEdges":
        """Return the edges between the nodes ``into[u]`` and ``into[v]``, every pair once; edges within a node drop."""
        one = self.sums
        u, v, order, start = group_edges(into[one.u], into[one.v])
        histogram = None if one.histogram is None else sum_groups(one.histogram, order, start)
        sums = Edges(u, v, sum_groups(one.contacts, order, start), sum_groups(one.boundary, order, start), histogram)
        touching = np.logical_or.reduceat(self.touching[order], start) if len(start) else self.touching[:0]
        penalised = np.logical_and.reduceat(self.penalised[order], start) if len(start) else self.penalised[:0]
        return NodeEdges(sums, touching, penalised)


@dataclass(frozen=True, eq=False)
class Settled:
    """Nodes of a part after settling.

    Attributes
    ----------
    live, edges : nodes that may still change, in the order of their numbers, and the edges between them
    objects : settled objects, by their first voxels
    became : (nodes,) int64, i for live node i, ``-1 - i`` for settled object i
    """

    live: Nodes
    edges: NodeEdges
    objects: Nodes
    became: NDArray[np.int64]


def settle(nodes: Nodes, edges: NodeEdges, is_open: NDArray[np.bool_], rules: MergeRules) -> Settled:
    """Merge what is certain, and settle the objects that cannot change any more.

    Parameters
    ----------
    nodes : nodes of the part; an open one is a connected component of fragments
    edges : edges between them, as far as the part knows them
    is_open : (nodes,) True for nodes that may have voxels or edges in another part
    rules : how fragments become objects
    """
    rank = np.empty(len(nodes), np.int32)
    rank[np.lexsort((nodes.order, ~is_open))] = np.arange(len(nodes), dtype=np.int32)
    nodes, edges, is_open = nodes.select(np.argsort(rank)), edges.renumbered(rank), is_open[np.argsort(rank)]

    edges, waiting = _with_penalties(nodes, edges, is_open, rules)
    cluster, uncertain = _agglomerated(nodes, edges, waiting, rules)
    count = int(cluster.max(initial=-1)) + 1
    clusters, edges = nodes.merged(cluster, count), edges.renumbered(cluster)
    doubt = np.zeros(count, bool)
    doubt[cluster[uncertain]] = True

    mergeable = edges.are_mergeable(clusters)
    object_of, doubtful = join_certain(clusters.size, edges.sums.select(mergeable), rules.joins_below, doubt)
    object_of, doubtful = _without_holes(clusters, object_of, doubtful, edges, rules.fill_holes)
    live = _live_clusters(object_of, doubtful, clusters.size < rules.joins_below, edges.sums.select(mergeable))
    return _parted(clusters, edges, object_of, live, cluster[rank])


def _with_penalties(
    nodes: Nodes, edges: NodeEdges, is_open: NDArray[np.bool_], rules: MergeRules
) -> tuple[NodeEdges, NDArray[np.bool_]]:
    """Return the edges with the penalties that are known now, and the nodes that wait for more."""
    if not rules.penalises_sections:
        return edges, is_open
    assert rules.agglomerate is not None
    assert rules.section_voxels is not None
    sums = edges.sums
    due = edges.are_mergeable(nodes) & ~edges.penalised
    ready = due & ~is_open[sums.u] & ~is_open[sums.v]
    section = nodes.first_voxel // rules.section_voxels
    added = add_section_penalty(sums.select(ready), section, nodes.size, rules.agglomerate.size_mismatch_penalty)
    contacts, boundary = sums.contacts.copy(), sums.boundary.copy()
    contacts[ready], boundary[ready] = added.contacts, added.boundary
    histogram = None if sums.histogram is None else sums.histogram.copy()
    if histogram is not None and added.histogram is not None:
        histogram[ready] = added.histogram
    waiting = is_open.copy()
    for end in (sums.u, sums.v):
        waiting[end[due & ~ready]] = True
    known = Edges(sums.u, sums.v, contacts, boundary, histogram)
    return NodeEdges(known, edges.touching, edges.penalised | ready), waiting


def _agglomerated(
    nodes: Nodes, edges: NodeEdges, waiting: NDArray[np.bool_], rules: MergeRules
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the cluster of each node, in the order of the nodes that name them, and the nodes that may still merge."""
    alone, how = np.arange(len(nodes), dtype=np.int32), rules.agglomerate
    if how is None or how.method == "none":
        return alone, waiting
    kept = edges.sums.select(edges.are_mergeable(nodes))
    if how.method in WHOLE_GRAPH:
        if waiting.any():
            return alone, np.ones(len(nodes), bool)
        return clusters_of_slabs(len(nodes), iter([kept]), np.zeros(len(nodes), np.int64), how), waiting
    graph = Graph(len(nodes), kept.u.astype(np.int32), kept.v.astype(np.int32), summed_columns(kept, how))
    del kept  # its sums are the graph's alone, which frees what it has merged
    cluster = agglomerate(graph, edge_score(how), score_limit(how), waiting)
    uncertain = waiting.copy()
    uncertain[graph.u] = uncertain[graph.v] = True  # named by their clusters
    return compact_labels(cluster), uncertain[cluster]


def _without_holes(
    clusters: Nodes, object_of: NDArray[np.int32], doubtful: NDArray[np.bool_], edges: NodeEdges, largest: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the objects after holes were filled, and which objects are not certain; see `merging.fill_holes`."""
    if not largest:
        return object_of, doubtful
    objects = clusters.merged(object_of, len(doubtful))
    near = edges.sums.select(edges.touching)
    u, v, _, _ = group_edges(object_of[near.u], object_of[near.v])
    may_be_hole = (objects.size <= largest) & ~objects.touches_border
    filled, doubt = fill_certain_holes(objects.class_value, may_be_hole, u, v, doubtful)
    return filled[object_of], doubt


def _live_clusters(
    object_of: NDArray[np.int32], doubtful: NDArray[np.bool_], small: NDArray[np.bool_], mergeable: Edges
) -> NDArray[np.bool_]:
    """Return True for the clusters that stay live: all of an object that is, and all neighbours of small live ones."""
    live = doubtful.copy()
    while True:
        of_cluster = live[object_of]
        chooses = small & of_cluster
        u, v = mergeable.u, mergeable.v
        wanted = np.concatenate([v[chooses[u]], u[chooses[v]]])
        if live[object_of[wanted]].all():
            return of_cluster
        live[object_of[wanted]] = True


def _parted(
    clusters: Nodes, edges: NodeEdges, object_of: NDArray[np.int32], live: NDArray[np.bool_], cluster: NDArray[np.int32]
) -> Settled:
    """Return the live clusters and the settled objects."""
    live_number = np.cumsum(live) - 1
    every = clusters.merged(object_of, int(object_of.max(initial=-1)) + 1)
    settled = np.unique(object_of[~live])
    settled = settled[np.argsort(every.first_voxel[settled])]
    number = np.zeros(len(every), np.int64)
    number[settled] = np.arange(len(settled))
    became = np.where(live, live_number, -1 - number[object_of])
    u, v, border = edges.sums.u, edges.sums.v, clusters.touches_border.copy()
    near = edges.touching
    border[u[near & ~live[v]]] = border[v[near & ~live[u]]] = True  # beside a settled object: no hole of another one
    kept = edges.select(live[u] & live[v])
    remaining = Nodes(**{**vars(clusters), "touches_border": border}).select(live)
    into = live_number.astype(np.int32)
    return Settled(remaining, kept.renumbered(into), every.select(settled), became[cluster])
