"""Multicut of a region graph: the partition with the lowest sum of cut costs, through the solvers of bioimage-cpp.

An edge with the mean boundary p costs ``contacts * (logit(t) - logit(p))`` when it is cut: it attracts below the
threshold t and repels above it.

1. Decompose the graph: solve each connected component of attractive edges by itself.
2. Find a partition by greedy additive edge contraction.
3. Improve it by Kernighan-Lin moves (Keuper et al. 2015, doi:10.1109/ICCV.2015.204).

The solvers take equal costs in the order of nodes and edges. Nodes are numbered by their first voxel, edges are sorted,
and one thread works: the same partition for any blocks.
"""

from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from unet.extras import needs
from unet.segmentation.agglomeration import mean_boundary
from unet.segmentation.region_graph import FULL_BOUNDARY, Edges


class SolverMissing(RuntimeError):
    """The optional package that solves multicuts is not installed."""


def multicut(nodes: int, edges: Edges, threshold: float) -> NDArray[np.int32]:
    """Return the cluster of each node, 0 to clusters - 1 in the order of the clusters' first nodes.

    Parameters
    ----------
    nodes : number of nodes
    edges : edges between nodes 0, 1, ...
    threshold : mean boundary, 0 to 1, at which cutting an edge costs 0

    Raises
    ------
    SolverMissing
        If bioimage-cpp is not installed.
    """
    solvers = _solvers()
    if not len(edges):
        return np.arange(nodes, dtype=np.int32)
    graph = solvers.UndirectedGraph.from_unique_edges(nodes, np.stack([edges.u, edges.v], axis=1).astype(np.uint64))
    objective = solvers.multicut.MulticutObjective(graph, cut_costs(edges, threshold))
    stages = [solvers.multicut.GreedyAdditiveMulticut(), solvers.multicut.KernighanLinMulticut()]
    solver = solvers.multicut.MulticutDecomposer(solvers.multicut.ChainedMulticutSolvers(stages), number_of_threads=1)
    labels = solver.optimize(objective)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return rank[inverse]


def cut_costs(edges: Edges, threshold: float) -> NDArray[np.float64]:
    """Return the cost of cutting each edge, positive where the edge attracts.

    >>> one = Edges(np.array([0]), np.array([1]), np.array([1]), np.array([51]), histogram=None)
    >>> cut_costs(one, threshold=0.2).round(6).tolist()
    [0.0]
    """
    half = 0.5 / FULL_BOUNDARY  # half a step of the stored probability: the logit of 0 or 1 would be infinite
    boundary = np.clip(mean_boundary([edges.contacts, edges.boundary]), half, 1 - half)
    return edges.contacts * (np.log(threshold / (1 - threshold)) - np.log(boundary / (1 - boundary)))


def _solvers() -> ModuleType:
    """Import the optional package."""
    try:
        import bioimage_cpp.graph
    except ImportError:
        raise SolverMissing(
            f"segment.agglomerate.method: multicut {needs('bioimage-cpp')}, or set the method to mean"
        ) from None
    return bioimage_cpp.graph
