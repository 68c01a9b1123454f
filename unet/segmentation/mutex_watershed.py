"""The mutex watershed on a signed graph: joins and exclusions, the strongest first.

Every edge has a weight: positive attracts, negative repels. The edges are taken in the order of their magnitude. An
attractive edge joins its two clusters unless they exclude each other; a repulsive one makes them exclude each other for
good. This is agglomeration with the linkage "absolute maximum": of the edges between two clusters only the strongest
counts. (Wolf et al. 2018, doi:10.1007/978-3-030-01225-0_34; Bailoni et al. 2022, doi:10.1109/CVPR52688.2022.01136.)

The order of edges is total: of equal magnitudes the edge of the lowest nodes is first. Nodes are numbered by their
first voxel (`fragments.join_blocks`), so the order is the same for any blocks. Each edge has a rank in it.
Parallel edges keep the lowest rank. The greedy algorithm reaches an edge that is the first of both its nodes before
anything else happens to these nodes. All such edges are therefore worked in parallel:

1. Find the first edge of every node; edges of exclusion no longer count.
2. An edge that is the first of both its nodes joins them if it attracts; else it becomes an edge of exclusion.
3. Contract the joined nodes, as in `agglomeration`. The lowest rank is that of an exclusion wherever one is among
   parallel edges, since later edges have higher ranks.
4. Repeat until all edges are of exclusion.
"""

import numpy as np
from numpy.typing import NDArray

from unet.segmentation.region_graph import group_edges


def mutex_watershed(
    nodes: int, u: NDArray[np.integer], v: NDArray[np.integer], weight: NDArray[np.float64]
) -> NDArray[np.int32]:
    """Return the cluster of each node, named by its highest node.

    Parameters
    ----------
    nodes : number of nodes
    u, v : (n,) nodes of each edge, ``u < v``, every pair once
    weight : (n,) positive where the edge attracts, negative or 0 where it repels

    >>> mutex_watershed(3, np.array([0, 0, 1]), np.array([1, 2, 2]), np.array([0.9, -0.5, 0.3])).tolist()
    [1, 1, 2]
    """
    order = np.lexsort((v, u, -np.abs(weight)))
    u, v, attracts = u[order].astype(np.int32), v[order].astype(np.int32), weight[order] > 0
    rank, cluster = np.arange(len(order)), np.arange(nodes, dtype=np.int32)
    open_ = np.ones(len(order), bool)  # by rank: not yet an edge of exclusion
    while True:
        waiting = open_[rank]
        if not waiting.any():
            return cluster
        first = np.full(nodes, len(order))
        for end in (u, v):
            np.minimum.at(first, end[waiting], rank[waiting])
        mutual = waiting & (first[u] == rank) & (first[v] == rank)
        open_[rank[mutual & ~attracts[rank]]] = False
        joins = mutual & attracts[rank]
        if not joins.any():
            continue
        target = np.arange(nodes, dtype=np.int32)
        target[u[joins]] = v[joins]
        cluster = target[cluster]
        u, v, grouped, start = group_edges(target[u], target[v])
        rank = np.minimum.reduceat(rank[grouped], start) if len(start) else rank[:0]
