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
does not fit in memory is solved part by part, and the rest, which is small, at once.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from unet.region_graph import BINS, FULL, add_edges

Score = Callable[[NDArray[np.int64]], NDArray[np.float64]]
"""(n, k) statistics of edges to (n,) scores, 0 to 1; of a sum of rows never outside the range of the rows' own."""

AT_ONCE = 1 << 24
"""Edges that are looked at together: bounds the memory of intermediate arrays."""


def mean_boundary(statistics: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean boundary probability from (n, 2): contacts, and the sum of their boundary in 1/255.

    >>> mean_boundary(np.array([[2, 255]])).tolist()
    [0.5]
    """
    return statistics[:, 1] / (FULL * statistics[:, 0])


def quantile_boundary(quantile: float) -> Score:
    """A score that is a quantile of the boundary probability, from (n, 16) histograms; linear within a bin.

    >>> median = quantile_boundary(0.5)
    >>> median(np.array([[1, 1] + [0] * 14])).tolist()
    [0.0625]
    """

    def score(histogram: NDArray[np.int64]) -> NDArray[np.float64]:
        up_to = np.cumsum(histogram, axis=1)
        wanted = quantile * up_to[:, -1]
        bin_ = np.argmax(up_to >= wanted[:, None], axis=1)
        row = np.arange(len(histogram))
        inside = histogram[row, bin_]
        below = up_to[row, bin_] - inside
        return (bin_ + np.divide(wanted - below, inside, out=np.zeros(len(row)), where=inside > 0)) / BINS

    return score


def agglomerate(
    nodes: int,
    u: NDArray[np.int32],
    v: NDArray[np.int32],
    statistics: NDArray[np.int64],
    score: Score,
    threshold: float,
    frozen: NDArray[np.bool_] | None = None,
) -> NDArray[np.int32]:
    """Join nodes while an edge scores below the threshold.

    Parameters
    ----------
    nodes : number of nodes
    u, v : (n,) nodes of each edge, ``u < v``, every pair once
    statistics : (n, k) sums over each edge's contacts
    score : of statistics
    threshold : edges that score less join their nodes
    frozen : (nodes,) nodes that stay as they are; None = none

    Returns
    -------
    (nodes,) int32, the highest node of each node's cluster

    >>> chain = np.array([[1, 26], [1, 51], [1, 77]])
    >>> agglomerate(4, np.array([0, 1, 2]), np.array([1, 2, 3]), chain, mean_boundary, 0.25).tolist()
    [2, 2, 2, 3]
    """
    cluster = np.arange(nodes, dtype=np.int32)
    while len(u):
        scores = _in_parts(score, statistics)
        lowest, first = _best(nodes, u, v, scores)
        open_ = lowest < threshold
        joins = _mutual(u, v, scores, first, open_)
        if frozen is not None:
            joins &= ~(frozen[u] | frozen[v])
        if not joins.any():
            break
        target = np.arange(nodes, dtype=np.int32)
        target[u[joins]] = v[joins]
        cluster = target[cluster]
        keep = open_[u] & open_[v] & ~joins
        u, v, statistics = u[keep], v[keep], statistics[keep]
        u, v, statistics = _contracted(u, v, statistics, target)
    return cluster


def _in_parts(score: Score, statistics: NDArray[np.int64]) -> NDArray[np.float64]:
    scores = np.empty(len(statistics))
    for lo in range(0, len(statistics), AT_ONCE):
        scores[lo : lo + AT_ONCE] = score(statistics[lo : lo + AT_ONCE])
    return scores


def _pair(u: NDArray[np.int32], v: NDArray[np.int32]) -> NDArray[np.uint64]:
    return u.astype(np.uint64) << np.uint64(32) | v.astype(np.uint64)


def _best(
    nodes: int, u: NDArray[np.int32], v: NDArray[np.int32], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.uint64]]:
    """The score of every node's lowest edge, and that edge's nodes as one number; of equal ones the lowest number."""
    lowest, first = np.full(nodes, np.inf), np.full(nodes, np.iinfo(np.uint64).max)
    parts = [slice(lo, lo + AT_ONCE) for lo in range(0, len(u), AT_ONCE)]
    for part in parts:
        np.minimum.at(lowest, u[part], scores[part])
        np.minimum.at(lowest, v[part], scores[part])
    for part in parts:
        pair = _pair(u[part], v[part])
        for end in (u[part], v[part]):
            is_lowest = scores[part] == lowest[end]
            np.minimum.at(first, end[is_lowest], pair[is_lowest])
    return lowest, first


def _mutual(
    u: NDArray[np.int32],
    v: NDArray[np.int32],
    scores: NDArray[np.float64],
    first: NDArray[np.uint64],
    open_: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Edges below the threshold that are the lowest of both their nodes."""
    joins = np.zeros(len(u), bool)
    for lo in range(0, len(u), AT_ONCE):
        part = slice(lo, lo + AT_ONCE)
        pair = _pair(u[part], v[part])
        joins[part] = (first[u[part]] == pair) & (first[v[part]] == pair) & open_[u[part]]
    return joins


def _contracted(
    u: NDArray[np.int32], v: NDArray[np.int32], statistics: NDArray[np.int64], target: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """Edges between what their nodes have become; only those whose nodes have can have become parallel."""
    to_u, to_v = target[u], target[v]
    grown = np.zeros(len(target), bool)
    grown[target[target != np.arange(len(target))]] = True
    changed = grown[to_u] | grown[to_v]
    new_u, new_v, new_statistics = add_edges(to_u[changed], to_v[changed], statistics[changed])
    same = ~changed
    return (
        np.concatenate([u[same], new_u]),
        np.concatenate([v[same], new_v]),
        np.concatenate([statistics[same], new_statistics]),
    )
