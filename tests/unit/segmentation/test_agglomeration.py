"""Agglomeration in rounds against one edge after another from a heap, ties included."""

import heapq
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from unet.segmentation.agglomeration import (
    Graph,
    Score,
    agglomerate,
    agglomerate_slabs,
    mean_boundary,
    quantile_boundary,
)
from unet.segmentation.region_graph import HISTOGRAM_BINS, group_edges, sum_groups


def graph_of(nodes: int, u: ArrayLike, v: ArrayLike, statistics: ArrayLike) -> Graph:
    """Return the graph of these edges with (n, k) statistics; parallel edges are summed."""
    u, v, order, start = group_edges(np.asarray(u, np.int32), np.asarray(v, np.int32))
    return Graph(nodes, u, v, [sum_groups(column, order, start) for column in np.asarray(statistics).T])


def solved(graph: Graph, score: Score, threshold: float, boundary_nodes: np.ndarray | None = None) -> list[int]:
    """Return the clusters of a graph; the graph stays as it is."""
    return agglomerate(replace(graph, columns=list(graph.columns)), score, threshold, boundary_nodes).tolist()


def greedy(graph: Graph, score: Score, threshold: float) -> list[int]:
    """Merge one edge after another, lowest first, of equals the one of the lowest nodes; the higher number stays."""
    beside: list[dict[int, np.ndarray]] = [{} for _ in range(graph.nodes)]
    for a, b, row in zip(graph.u.tolist(), graph.v.tolist(), np.transpose(graph.columns), strict=True):
        beside[a][b] = beside[b][a] = row
    cluster = list(range(graph.nodes))

    def entry(a: int, b: int) -> tuple[float, int, int]:
        return float(score(list(beside[a][b][:, None]))[0]), min(a, b), max(a, b)

    heap = [entry(a, b) for a in range(graph.nodes) for b in beside[a] if a < b]
    heapq.heapify(heap)
    while heap and heap[0][0] < threshold:
        found, gone, stays = heapq.heappop(heap)
        if stays not in beside[gone] or entry(gone, stays)[0] != found:
            continue
        cluster = [stays if name == gone else name for name in cluster]
        for other, row in beside[gone].items():
            del beside[other][gone]
            if other != stays:
                beside[stays][other] = beside[other][stays] = beside[stays].get(other, 0) + row
                heapq.heappush(heap, entry(stays, other))
        beside[gone] = {}
    return cluster


@st.composite
def graphs(draw: st.DrawFn, columns: int) -> Graph:
    """Few nodes, many edges and few different scores, so that ties abound."""
    nodes, edges = draw(st.integers(1, 14)), draw(st.integers(0, 40))
    random = np.random.default_rng(draw(st.integers(0, 99999)))
    u, v = random.integers(0, nodes, (2, edges))
    statistics = np.zeros((edges, columns), np.int64)
    if columns == 2:
        statistics[:, 0] = random.integers(1, 4, edges)
        statistics[:, 1] = 85 * random.integers(0, 4, edges) * statistics[:, 0]
    else:
        statistics[np.arange(edges), random.integers(0, columns, edges)] = random.integers(1, 4, edges)
    return graph_of(nodes, u, v, statistics)


@settings(max_examples=300)
@given(graphs(2), st.floats(0, 1.1))
def test_mean_boundary_in_rounds_is_that_of_the_heap(graph: Graph, threshold: float) -> None:
    assert solved(graph, mean_boundary, threshold) == greedy(graph, mean_boundary, threshold)


@settings(max_examples=200)
@given(graphs(HISTOGRAM_BINS), st.floats(0, 1.1), st.sampled_from([0.1, 0.5, 0.9]))
def test_quantiles_in_rounds_are_those_of_the_heap(graph: Graph, threshold: float, quantile: float) -> None:
    score = quantile_boundary(quantile)
    assert solved(graph, score, threshold) == greedy(graph, score, threshold)


@settings(max_examples=400)
@given(graphs(2), graphs(2), st.floats(0, 1.1), st.integers(1, 5), st.integers(0, 9))
def test_slab_by_slab_gives_the_clusters_of_the_whole_graph(
    one: Graph, other: Graph, threshold: float, parts: int, seed: int
) -> None:
    """The edges of two graphs are dealt out, so that some pairs of nodes have an edge in two parts."""
    nodes = max(one.nodes, other.nodes)
    u, v = np.concatenate([one.u, other.u]), np.concatenate([one.v, other.v])
    rows = np.concatenate([np.transpose(one.columns), np.transpose(other.columns)])
    part, last = np.random.default_rng(seed).integers(0, parts, len(u)), np.zeros(nodes, np.int64)
    for end in (u, v):
        np.maximum.at(last, end, part)
    pieces = [graph_of(nodes, u[part == number], v[part == number], rows[part == number]) for number in range(parts)]
    read = ((piece.u, piece.v, piece.columns) for piece in pieces)
    found = agglomerate_slabs(nodes, read, last, mean_boundary, threshold)
    expected = np.array(solved(graph_of(nodes, u, v, rows), mean_boundary, threshold))
    assert (found[:, None] == found).tolist() == (expected[:, None] == expected).tolist()


def test_the_order_and_the_names_of_edges_do_not_matter() -> None:
    random = np.random.default_rng(0)
    u, v = random.integers(0, 3000, (2, 20_000))
    statistics = np.stack([random.integers(1, 50, 20_000), random.integers(0, 200, 20_000)], axis=1)
    statistics[:, 1] *= statistics[:, 0]
    graph = graph_of(3000, u, v, statistics)
    order = random.permutation(len(graph))
    shuffled = Graph(3000, graph.u[order], graph.v[order], [column[order] for column in graph.columns])
    assert solved(graph, mean_boundary, 0.3) == solved(shuffled, mean_boundary, 0.3)
    assert 1 < len(set(solved(graph, mean_boundary, 0.3))) < 3000


def test_parallel_edges_are_weighed_by_their_contacts() -> None:
    # 0-1 join; of 2's contacts with both, 100 are open and 300 lie across a membrane: 0.745 in the mean
    graph = graph_of(3, [0, 0, 1], [1, 2, 2], [[10, 0], [100, 100 * 10], [300, 300 * 250]])
    assert solved(graph, mean_boundary, 0.74) == [1, 1, 2]
    assert solved(graph, mean_boundary, 0.75) == [2, 2, 2]


def test_nothing_to_join() -> None:
    assert solved(graph_of(3, [], [], np.empty((0, 2), np.int64)), mean_boundary, 0.5) == [0, 1, 2]


@pytest.mark.parametrize(("quantile", "expected"), [(0.25, 1 / 32), (0.5, 1 / 16), (0.75, 15.5 / 16), (1.0, 1.0)])
def test_quantiles_of_a_histogram(quantile: float, expected: float) -> None:
    histogram = [np.array([5 * (bin_ in (0, HISTOGRAM_BINS - 1))]) for bin_ in range(HISTOGRAM_BINS)]
    assert quantile_boundary(quantile)(histogram).tolist() == [pytest.approx(expected)]
