"""Hierarchical agglomeration of a region graph: merge the most similar neighbours until a threshold is reached.

The greedy algorithm takes the edge with the lowest score, merges its two nodes, sums the statistics of edges that have
become parallel, and repeats. A heap does that edge by edge. Here the score is the mean, or a quantile, of the boundary
over an edge's contacts. The linkage is *reducible*: summing two edges never gives a score below the lower of the two.
Nothing that happens elsewhere can therefore come between mutual nearest neighbours: two nodes each of which is the
other's best neighbour. The greedy algorithm merges such a pair sooner or later. All such pairs can be merged in
parallel (Murtagh 1983, doi:10.1093/comjnl/26.4.354), in whole arrays, with the result of the heap:

1. `_lowest_edges`: find the lowest edge of every node. Of equal edges the one of the lowest nodes counts, so that the
   order of edges is total. Nodes are numbered by their first voxel (`fragments.join_blocks`), so that this order, and
   with it every join, is the same for any blocks.
2. `_mutual_edges`: an edge below the threshold that is the lowest of both its nodes merges them. The merged node keeps
   the higher number. A node's number thus never decreases, and no edge gets ahead of its equals by a new number.
3. `Graph.contract`: renumber the edges, and sum those that have become parallel.
4. A node without an edge below the threshold will never have one. Drop its edges. Repeat until no pair merges.

```
a --0.1-- b --0.2-- c --0.3-- d     round 1: a-b are mutual nearest neighbours; the best of c is b, of d is c
 ab ----0.2---- c ----0.3---- d     round 2: ab-c;   round 3: abc-d at 0.3
```

`boundary_nodes` are nodes with edges that are not known yet. They are not merged with anything. A merge of other nodes
would have happened in the whole graph as well. A graph that does not fit in memory is therefore solved slab by slab
(`agglomerate_slabs`): the edges that one slab leaves near its boundary nodes are solved with the next slab.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unet.geometry.compiled import use_compiled
from unet.segmentation.region_graph import FULL_BOUNDARY, HISTOGRAM_BINS, group_edges, pack_pairs, sum_groups

Columns = list[NDArray[np.int64]]
"""Sums over the contacts of edges, (n,) each."""

Score = Callable[[Columns], NDArray[np.float64]]
"""Function from columns of (n,) sums to (n,) scores, 0 to 1. The score of two rows' sum lies between their scores."""

EDGES_PER_CHUNK = 1 << 24
"""Edges that are worked together: bounds the memory of intermediate arrays."""


@dataclass
class Graph:
    """A region graph that is contracted in place, so that the memory of merged edges becomes free.

    Attributes
    ----------
    nodes : number of nodes
    u, v : (n,) int32, nodes of each edge, ``u < v``, every pair once
    columns : sums over each edge's contacts, (n,) each
    """

    nodes: int
    u: NDArray[np.int32]
    v: NDArray[np.int32]
    columns: Columns

    def __len__(self) -> int:
        return len(self.u)

    def chunks(self) -> Iterator[slice]:
        """Return slices of `EDGES_PER_CHUNK` edges that cover all edges."""
        return (slice(lo, lo + EDGES_PER_CHUNK) for lo in range(0, len(self), EDGES_PER_CHUNK))

    def add_edges(self, u: NDArray[np.int32], v: NDArray[np.int32], columns: Columns) -> None:
        """Add edges; sum those that are parallel to others."""
        if not len(self):
            self.u, self.v, self.columns = u, v, columns
            return
        together = np.concatenate([self.u, u]), np.concatenate([self.v, v])
        self.u, self.v, order, start = group_edges(*together)
        for i, column in enumerate(columns):
            self.columns[i] = sum_groups(np.concatenate([self.columns[i], column]), order, start)

    def keep_edges(self, keep: NDArray[np.bool_]) -> None:
        """Drop all edges where `keep` is False."""
        self.u, self.v = self.u[keep], self.v[keep]
        for i in range(len(self.columns)):
            self.columns[i] = self.columns[i][keep]

    def contract(self, target: NDArray[np.int32]) -> None:
        """Merge every node into its target: sum edges that become parallel, drop edges within a node.

        Only edges of nodes that others were merged into can become parallel; the other edges stay as they are.
        """
        grown = np.zeros(self.nodes, bool)
        grown[target[target != np.arange(self.nodes, dtype=np.int32)]] = True
        self.u, self.v = target[self.u], target[self.v]
        changed = grown[self.u] | grown[self.v]
        same = ~changed
        u, v, order, start = group_edges(self.u[changed], self.v[changed])
        self.u, self.v = np.concatenate([self.u[same], u]), np.concatenate([self.v[same], v])
        for i, column in enumerate(self.columns):
            self.columns[i] = np.concatenate([column[same], sum_groups(column[changed], order, start)])


def mean_boundary(columns: Columns) -> NDArray[np.float64]:
    """Return the mean boundary probability, from the number of contacts and the sum of their boundary in 1/255.

    >>> mean_boundary([np.array([2]), np.array([255])]).tolist()
    [0.5]
    """
    contacts, boundary = columns
    return boundary / (FULL_BOUNDARY * contacts)


def quantile_boundary(quantile: float) -> Score:
    """Return a score: a quantile of the boundary probability from its histogram of 16 bins, linear within a bin.

    >>> median = quantile_boundary(0.5)
    >>> median([np.array([1]), np.array([1]), *[np.array([0])] * 14]).tolist()
    [0.0625]
    """

    def score(columns: Columns) -> NDArray[np.float64]:
        up_to = np.cumsum(columns, axis=0)
        wanted = quantile * up_to[-1]
        bin_ = np.argmax(up_to >= wanted, axis=0)
        edge = np.arange(len(wanted))
        inside = np.stack(columns)[bin_, edge]
        below = up_to[bin_, edge] - inside
        fraction = np.divide(wanted - below, inside, out=np.zeros(len(edge)), where=inside > 0)
        return (bin_ + fraction) / HISTOGRAM_BINS

    return score


def agglomerate(
    graph: Graph, score: Score, threshold: float, boundary_nodes: NDArray[np.bool_] | None = None
) -> NDArray[np.int32]:
    """Merge nodes while an edge scores below the threshold.

    Parameters
    ----------
    graph : contracted in place; the edges that are left are those by which nodes might still merge
    score : function from the columns of edges to their scores
    threshold : edges that score less merge their nodes
    boundary_nodes : (nodes,) bool, nodes that are not merged with anything; None = no node

    Returns
    -------
    (nodes,) int32, the highest node of each node's cluster

    >>> contacts, boundary = np.array([1, 1, 1]), np.array([26, 51, 77])
    >>> chain = Graph(4, np.array([0, 1, 2]), np.array([1, 2, 3]), [contacts, boundary])
    >>> agglomerate(chain, mean_boundary, 0.25).tolist()
    [2, 2, 2, 3]
    """
    if score is mean_boundary and use_compiled(len(graph)):
        return _agglomerate_compiled(graph, threshold, boundary_nodes)
    cluster = np.arange(graph.nodes, dtype=np.int32)
    while len(graph):
        lowest_score, lowest_edge = _lowest_edges(graph, score)
        active = lowest_score < threshold
        merging = _mutual_edges(graph, lowest_edge, active)
        if boundary_nodes is not None:
            merging &= ~(boundary_nodes[graph.u] | boundary_nodes[graph.v])
            active |= boundary_nodes  # an edge that is not known yet may be below the threshold
        target = np.arange(graph.nodes, dtype=np.int32)
        target[graph.u[merging]] = graph.v[merging]
        cluster = target[cluster]
        graph.keep_edges(active[graph.u] & active[graph.v] & ~merging)
        if not merging.any():
            break
        graph.contract(target)
    return cluster


def _agglomerate_compiled(
    graph: Graph, threshold: float, boundary_nodes: NDArray[np.bool_] | None
) -> NDArray[np.int32]:
    """Return what `agglomerate` returns for the mean boundary."""
    from unet.segmentation.compiled_agglomeration import merge_mutual_neighbours

    # the kernel overwrites arrays, and others may hold these; where nobody does, each is free once it is copied
    graph.u, graph.v = np.array(graph.u, np.int32), np.array(graph.v, np.int32)
    for i, column in enumerate(graph.columns):
        graph.columns[i] = np.array(column, np.int64)
    u, v, (contacts, boundary) = graph.u, graph.v, graph.columns
    cluster, none = np.empty(graph.nodes, np.int32), np.empty(0, bool)
    not_merged = none if boundary_nodes is None else boundary_nodes
    left = merge_mutual_neighbours(u, v, contacts, boundary, threshold, not_merged, cluster)
    graph.u, graph.v = u[:left].copy(), v[:left].copy()
    graph.columns = [contacts[:left].copy(), boundary[:left].copy()]
    return cluster


def agglomerate_slabs(
    nodes: int,
    slabs: Iterable[tuple[NDArray[np.int32], NDArray[np.int32], Columns]],
    last_slab: NDArray[np.integer],
    score: Score,
    threshold: float,
) -> NDArray[np.int32]:
    """Merge nodes while an edge scores below the threshold, with the edges of one slab in memory at a time.

    The clusters are those of `agglomerate` on all edges.

    Parameters
    ----------
    nodes : number of nodes
    slabs : u, v and columns of each slab's edges (see `Graph`); an edge of several slabs is the sum of its parts
    last_slab : (nodes,) the last slab, counted from 0, that has an edge of each node
    score, threshold : see `agglomerate`

    Returns
    -------
    (nodes,) int32, one node of each node's cluster
    """
    cluster, none = np.arange(nodes, dtype=np.int32), np.empty(0, np.int32)
    graph = Graph(nodes, none, none, [])
    for number, (u, v, columns) in enumerate(slabs):
        graph.add_edges(cluster[u], cluster[v], columns)
        cluster = agglomerate(graph, score, threshold, boundary_nodes=last_slab > number)[cluster]
    return cluster


def _lowest_edges(graph: Graph, score: Score) -> tuple[NDArray[np.float64], NDArray[np.uint64]]:
    """Return the score of every node's lowest edge, and the edge itself as `pack_pairs` packs its nodes.

    Of equal edges the one with the lowest packed pair counts.
    """
    lowest_score = np.full(graph.nodes, np.inf)
    lowest_edge = np.full(graph.nodes, np.iinfo(np.uint64).max)
    for chunk in graph.chunks():
        scores = score([column[chunk] for column in graph.columns])
        for end in (graph.u[chunk], graph.v[chunk]):
            np.minimum.at(lowest_score, end, scores)
    for chunk in graph.chunks():
        scores = score([column[chunk] for column in graph.columns])
        pair = pack_pairs(graph.u[chunk], graph.v[chunk])
        for end in (graph.u[chunk], graph.v[chunk]):
            is_lowest = scores == lowest_score[end]
            np.minimum.at(lowest_edge, end[is_lowest], pair[is_lowest])
    return lowest_score, lowest_edge


def _mutual_edges(graph: Graph, lowest_edge: NDArray[np.uint64], active: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return True for the edges below the threshold that are the lowest of both their nodes."""
    mutual = np.zeros(len(graph), bool)
    for chunk in graph.chunks():
        u, v = graph.u[chunk], graph.v[chunk]
        pair = pack_pairs(u, v)
        mutual[chunk] = (lowest_edge[u] == pair) & (lowest_edge[v] == pair) & active[u]
    return mutual
