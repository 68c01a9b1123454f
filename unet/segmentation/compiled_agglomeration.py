"""Kernel of `agglomeration` for the mean boundary: the same rounds, in place, in a few passes over the edges each."""

import numpy as np
from numpy.typing import NDArray

from unet.geometry.compiled import kernel

FULL = 255


@kernel
def merge_mutual_neighbours(
    u: NDArray[np.int32],
    v: NDArray[np.int32],
    contacts: NDArray[np.int64],
    boundary: NDArray[np.int64],
    threshold: float,
    boundary_nodes: NDArray[np.bool_],
    cluster: NDArray[np.int32],
) -> int:
    """Merge mutual nearest neighbours until none is left, and return the number of edges that are left.

    Parameters
    ----------
    u, v, contacts, boundary : edges, overwritten with those that are left
    threshold : edges whose mean boundary is less merge their nodes
    boundary_nodes : (nodes,) nodes that are not merged, or (0,)
    cluster : (nodes,) written: the highest node of each node's cluster
    """
    nodes, edges = len(cluster), len(u)
    lowest_score, lowest = np.empty(nodes, np.float64), np.empty(nodes, np.int32)
    grown = np.zeros(nodes, np.bool_)
    first, beside, next_ = np.full(nodes, -1, np.int32), np.full(nodes, -1, np.int32), np.empty(edges, np.int32)
    for node in range(nodes):
        cluster[node] = node
    while edges:
        _lowest_edges(u, v, contacts, boundary, edges, lowest_score, lowest)
        edges, merged = _merge(
            u, v, contacts, boundary, edges, threshold, boundary_nodes, lowest_score, lowest, grown, cluster
        )
        if not merged:
            break
        edges = _contract(u, v, contacts, boundary, edges, grown, cluster, first, next_, beside)
    for node in range(nodes - 1, -1, -1):  # a node is merged into a higher one
        cluster[node] = cluster[cluster[node]]
    return edges


@kernel
def _lowest_edges(
    u: NDArray[np.int32],
    v: NDArray[np.int32],
    contacts: NDArray[np.int64],
    boundary: NDArray[np.int64],
    edges: int,
    lowest_score: NDArray[np.float64],
    lowest: NDArray[np.int32],
) -> None:
    """Write the lowest edge of every node that has edges, and its score; of equal edges the one of the lowest nodes."""
    for edge in range(edges):
        lowest_score[u[edge]] = np.inf
        lowest_score[v[edge]] = np.inf
    for edge in range(edges):
        one, other = u[edge], v[edge]
        score = np.float64(boundary[edge]) / np.float64(FULL * contacts[edge])
        for node in (one, other):
            if score > lowest_score[node]:
                continue
            best = lowest[node]
            if score < lowest_score[node] or one < u[best] or (one == u[best] and other < v[best]):
                lowest_score[node] = score
                lowest[node] = edge


@kernel
def _merge(
    u: NDArray[np.int32],
    v: NDArray[np.int32],
    contacts: NDArray[np.int64],
    boundary: NDArray[np.int64],
    edges: int,
    threshold: float,
    boundary_nodes: NDArray[np.bool_],
    lowest_score: NDArray[np.float64],
    lowest: NDArray[np.int32],
    grown: NDArray[np.bool_],
    cluster: NDArray[np.int32],
) -> tuple[int, int]:
    """Merge the mutual nearest neighbours in `cluster`, and drop their edges and those of nodes that are done.

    Returns
    -------
    numbers of edges that are left, and of merged edges
    """
    merged = 0
    has_boundary = len(boundary_nodes) > 0
    for edge in range(edges):
        one, other = u[edge], v[edge]
        grown[one] = grown[other] = False
    for edge in range(edges):
        one, other = u[edge], v[edge]
        mutual = lowest[one] == edge and lowest[other] == edge and lowest_score[one] < threshold
        if mutual and not (has_boundary and (boundary_nodes[one] or boundary_nodes[other])):
            cluster[one] = other
            grown[one] = grown[other] = True
            merged += 1
    left = 0
    for edge in range(edges):
        one, other = u[edge], v[edge]
        active_one = lowest_score[one] < threshold or (has_boundary and boundary_nodes[one])
        active_other = lowest_score[other] < threshold or (has_boundary and boundary_nodes[other])
        if active_one and active_other and cluster[one] != other:
            u[left], v[left], contacts[left], boundary[left] = one, other, contacts[edge], boundary[edge]
            left += 1
    return left, merged


@kernel
def _contract(
    u: NDArray[np.int32],
    v: NDArray[np.int32],
    contacts: NDArray[np.int64],
    boundary: NDArray[np.int64],
    edges: int,
    grown: NDArray[np.bool_],
    cluster: NDArray[np.int32],
    first: NDArray[np.int32],
    next_: NDArray[np.int32],
    beside: NDArray[np.int32],
) -> int:
    """Give the edges of merged nodes to the node that is left, sum those that are parallel, and return their number.

    Parallel edges are edges of a merged node. Those of one lower node form a list, which begins at `first` of the node
    and goes on with `next_` of the edge. `beside` is the edge to a higher node. `first` and `beside` are -1, and become
    -1 again.
    """
    for edge in range(edges - 1, -1, -1):
        one, other = u[edge], v[edge]
        if grown[one] or grown[other]:
            one, other = cluster[one], cluster[other]
            low, high = (one, other) if one < other else (other, one)
            u[edge], v[edge] = low, high
            next_[edge] = first[low]
            first[low] = edge
    for edge in range(edges):
        low = u[edge]
        if first[low] != edge:
            continue
        own = edge
        while own >= 0:
            high = v[own]
            same = beside[high]
            if same < 0:
                beside[high] = own
            else:
                contacts[same] += contacts[own]
                boundary[same] += boundary[own]
                u[own] = -1
            own = next_[own]
        own = edge
        while own >= 0:
            beside[v[own]] = -1
            own = next_[own]
        first[low] = -1
    left = 0
    for edge in range(edges):
        if u[edge] >= 0:
            u[left], v[left], contacts[left], boundary[left] = u[edge], v[edge], contacts[edge], boundary[edge]
            left += 1
    return left
