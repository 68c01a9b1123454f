"""Hierarchical agglomeration of a region graph: join the most similar neighbours, again and again, up to a threshold.

The greedy algorithm takes the edge with the lowest score, makes one node of its two, sums the statistics of edges that
have become parallel, and goes on; a heap does that edge by edge. Here the score of a sum of edges lies between their
scores: it is the mean, or a quantile, of their contacts' boundary. A joint edge is then never lower than the lower of
the two it was made of, so nothing that happens elsewhere can come between two nodes that are each other's best
neighbour: sooner or later the greedy algorithm joins them. All such pairs can be joined at once (Murtagh 1983,
doi:10.1093/comjnl/26.4.354), and the result is that of the heap, in whole arrays:

1. `_best`: the lowest edge of every node; of equal ones that of the lowest nodes, so that the order is a total one.
2. An edge that is the lowest of both its nodes joins them, if it is below the threshold. The higher number stays,
   so that an edge never gets ahead of its equals by a new name.
3. Edges are renumbered; those that have become parallel are summed.
4. A node without an edge below the threshold will never have one: its edges are dropped. Repeat until nothing joins.

```
a --0.1-- b --0.2-- c --0.3-- d     round 1: a-b are each other's best; c's best is b, d's is c
 ab ----0.2---- c ----0.3---- d     round 2: ab-c;   round 3: abc-d at 0.3
```

`frozen` nodes are not joined with anything. A part of a graph whose outermost nodes have edges that are not known yet
can be solved with these frozen: what has been joined then is what the whole graph would have joined. So a graph that
does not fit in memory is solved part by part (`agglomerate_parts`): what a part leaves, edges near its frozen nodes, is
solved with the next.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unet.segmentation.region_graph import BINS, FULL, grouped, packed, sums

Columns = list[NDArray[np.int64]]
"""Sums over the contacts of edges, (n,) each."""

Score = Callable[[Columns], NDArray[np.float64]]
"""Columns of (n,) sums to (n,) scores, 0 to 1; of added rows never outside the range of the rows' own."""

AT_ONCE = 1 << 24
"""Edges that are looked at together: bounds the memory of intermediate arrays."""


@dataclass
class Graph:
    """A region graph of ``nodes`` nodes, to be contracted in place, so that the memory of joined edges is free.

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

    def parts(self) -> Iterator[slice]:
        """Some of the edges after the other."""
        return (slice(lo, lo + AT_ONCE) for lo in range(0, len(self), AT_ONCE))

    def add(self, u: NDArray[np.int32], v: NDArray[np.int32], columns: Columns) -> None:
        """Add edges; those that are parallel to others are summed."""
        if not len(self):
            self.u, self.v, self.columns = u, v, columns
            return
        together = np.concatenate([self.u, u]), np.concatenate([self.v, v])
        self.u, self.v, order, start = grouped(*together)
        for i, column in enumerate(columns):
            self.columns[i] = sums(np.concatenate([self.columns[i], column]), order, start)

    def keep(self, edges: NDArray[np.bool_]) -> None:
        """Drop the other edges."""
        self.u, self.v = self.u[edges], self.v[edges]
        for i in range(len(self.columns)):
            self.columns[i] = self.columns[i][edges]

    def contract(self, target: NDArray[np.int32]) -> None:
        """Let every node become its target; edges that become parallel are summed, those within a node vanish.

        Only edges of nodes that others have joined can have become parallel; the rest is left as it is.
        """
        grown = np.zeros(self.nodes, bool)
        grown[target[target != np.arange(self.nodes, dtype=np.int32)]] = True
        self.u, self.v = target[self.u], target[self.v]
        changed = grown[self.u] | grown[self.v]
        same = ~changed
        u, v, order, start = grouped(self.u[changed], self.v[changed])
        self.u, self.v = np.concatenate([self.u[same], u]), np.concatenate([self.v[same], v])
        for i, column in enumerate(self.columns):
            self.columns[i] = np.concatenate([column[same], sums(column[changed], order, start)])


def mean_boundary(columns: Columns) -> NDArray[np.float64]:
    """Mean boundary probability from the number of contacts, and the sum of their boundary in 1/255.

    >>> mean_boundary([np.array([2]), np.array([255])]).tolist()
    [0.5]
    """
    contacts, boundary = columns
    return boundary / (FULL * contacts)


def quantile_boundary(quantile: float) -> Score:
    """A score that is a quantile of the boundary probability, from the 16 bins of a histogram; linear within a bin.

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
        return (bin_ + np.divide(wanted - below, inside, out=np.zeros(len(edge)), where=inside > 0)) / BINS

    return score


def agglomerate(
    graph: Graph, score: Score, threshold: float, frozen: NDArray[np.bool_] | None = None
) -> NDArray[np.int32]:
    """Join nodes while an edge scores below the threshold.

    Parameters
    ----------
    graph : contracted in place; what is left are the edges by which nodes might yet join
    score : of the columns of its edges
    threshold : edges that score less join their nodes
    frozen : (nodes,) nodes that stay as they are; None = none

    Returns
    -------
    (nodes,) int32, the highest node of each node's cluster

    >>> contacts, boundary = np.array([1, 1, 1]), np.array([26, 51, 77])
    >>> chain = Graph(4, np.array([0, 1, 2]), np.array([1, 2, 3]), [contacts, boundary])
    >>> agglomerate(chain, mean_boundary, 0.25).tolist()
    [2, 2, 2, 3]
    """
    cluster = np.arange(graph.nodes, dtype=np.int32)
    while len(graph):
        lowest, first = _best(graph, score)
        hopeful = lowest < threshold
        joins = _mutual(graph, first, hopeful)
        if frozen is not None:
            joins &= ~(frozen[graph.u] | frozen[graph.v])
            hopeful |= frozen  # of edges that are not known yet
        target = np.arange(graph.nodes, dtype=np.int32)
        target[graph.u[joins]] = graph.v[joins]
        cluster = target[cluster]
        graph.keep(hopeful[graph.u] & hopeful[graph.v] & ~joins)
        if not joins.any():
            break
        graph.contract(target)
    return cluster


def agglomerate_parts(
    nodes: int,
    parts: Iterable[tuple[NDArray[np.int32], NDArray[np.int32], Columns]],
    last: NDArray[np.integer],
    score: Score,
    threshold: float,
) -> NDArray[np.int32]:
    """Join nodes while an edge scores below the threshold, with some of the edges in memory: the clusters are the same.

    Parameters
    ----------
    nodes : number of nodes
    parts : nodes and columns of some edges after others (see `Graph`); an edge may come in several
    last : (nodes,) the last part, counted from 0, that has an edge of each node
    score, threshold : see `agglomerate`

    Returns
    -------
    (nodes,) int32, one node of each node's cluster
    """
    cluster, none = np.arange(nodes, dtype=np.int32), np.empty(0, np.int32)
    graph = Graph(nodes, none, none, [])
    for number, (u, v, columns) in enumerate(parts):
        graph.add(cluster[u], cluster[v], columns)
        cluster = agglomerate(graph, score, threshold, frozen=last > number)[cluster]
    return cluster


def _best(graph: Graph, score: Score) -> tuple[NDArray[np.float64], NDArray[np.uint64]]:
    """The score of every node's lowest edge, and that edge's nodes as one number; of equal ones the lowest number."""
    lowest, first = np.full(graph.nodes, np.inf), np.full(graph.nodes, np.iinfo(np.uint64).max)
    for part in graph.parts():
        scores = score([column[part] for column in graph.columns])
        for end in (graph.u[part], graph.v[part]):
            np.minimum.at(lowest, end, scores)
    for part in graph.parts():
        scores = score([column[part] for column in graph.columns])
        pair = packed(graph.u[part], graph.v[part])
        for end in (graph.u[part], graph.v[part]):
            is_lowest = scores == lowest[end]
            np.minimum.at(first, end[is_lowest], pair[is_lowest])
    return lowest, first


def _mutual(graph: Graph, first: NDArray[np.uint64], hopeful: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Edges below the threshold that are the lowest of both their nodes."""
    joins = np.zeros(len(graph), bool)
    for part in graph.parts():
        u, v = graph.u[part], graph.v[part]
        pair = packed(u, v)
        joins[part] = (first[u] == pair) & (first[v] == pair) & hopeful[u]
    return joins
