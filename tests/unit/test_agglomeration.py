"""Agglomeration in rounds against one edge after another from a heap, ties included."""

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet.agglomeration import Score, agglomerate, mean_boundary, quantile_boundary
from unet.region_graph import BINS, add_edges

Graph = tuple[int, np.ndarray, np.ndarray, np.ndarray]


def greedy(graph: Graph, score: Score, threshold: float) -> list[int]:
    """One edge after another, the lowest first, of equal ones that of the lowest nodes; the higher name stays."""
    nodes, u, v, statistics = graph
    beside: list[dict[int, np.ndarray]] = [{} for _ in range(nodes)]
    for a, b, row in zip(u.tolist(), v.tolist(), statistics, strict=True):
        beside[a][b] = beside[b][a] = row
    cluster = list(range(nodes))

    def entry(a: int, b: int) -> tuple[float, int, int]:
        return float(score(beside[a][b][None])[0]), min(a, b), max(a, b)

    heap = [entry(a, b) for a in range(nodes) for b in beside[a] if a < b]
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
    return nodes, *add_edges(u, v, statistics)


@settings(max_examples=300)
@given(graphs(2), st.floats(0, 1.1))
def test_mean_boundary_in_rounds_is_that_of_the_heap(graph: Graph, threshold: float) -> None:
    assert agglomerate(*graph, mean_boundary, threshold).tolist() == greedy(graph, mean_boundary, threshold)


@settings(max_examples=200)
@given(graphs(BINS), st.floats(0, 1.1), st.sampled_from([0.1, 0.5, 0.9]))
def test_quantiles_in_rounds_are_those_of_the_heap(graph: Graph, threshold: float, quantile: float) -> None:
    score = quantile_boundary(quantile)
    assert agglomerate(*graph, score, threshold).tolist() == greedy(graph, score, threshold)


@settings(max_examples=200)
@given(graphs(2), st.floats(0, 1.1), st.integers(1, 5))
def test_part_by_part_with_the_outermost_frozen_is_the_whole(graph: Graph, threshold: float, parts: int) -> None:
    nodes, u, v, statistics = graph
    part = np.arange(nodes) % parts
    cluster = np.arange(nodes)
    for own in range(parts):
        mine = (part[u] == own) | (part[v] == own)
        found = agglomerate(nodes, u[mine], v[mine], statistics[mine], mean_boundary, threshold, frozen=part != own)
        cluster = np.where(part == own, found, cluster)
    rest = add_edges(cluster[u], cluster[v], statistics)
    whole = agglomerate(nodes, *rest, mean_boundary, threshold)[cluster]
    expected = agglomerate(*graph, mean_boundary, threshold)
    assert (whole[:, None] == whole).tolist() == (expected[:, None] == expected).tolist()


def test_the_order_and_the_names_of_edges_do_not_matter() -> None:
    random = np.random.default_rng(0)
    u, v = random.integers(0, 3000, (2, 20_000))
    statistics = np.stack([random.integers(1, 50, 20_000), random.integers(0, 200, 20_000)], axis=1)
    statistics[:, 1] *= statistics[:, 0]
    u, v, statistics = add_edges(u, v, statistics)
    found = agglomerate(3000, u, v, statistics, mean_boundary, 0.3)
    order = random.permutation(len(u))
    shuffled = agglomerate(3000, u[order], v[order], statistics[order], mean_boundary, 0.3)
    np.testing.assert_array_equal(found, shuffled)
    assert 1 < len(np.unique(found)) < 3000


def test_parallel_edges_are_weighed_by_their_contacts() -> None:
    # 0-1 join; of 2's contacts with both, 100 are open and 300 lie across a membrane: 0.745 in the mean
    u, v = np.array([0, 0, 1]), np.array([1, 2, 2])
    statistics = np.array([[10, 0], [100, 100 * 10], [300, 300 * 250]])
    assert agglomerate(3, u, v, statistics, mean_boundary, 0.74).tolist() == [1, 1, 2]
    assert agglomerate(3, u, v, statistics, mean_boundary, 0.75).tolist() == [2, 2, 2]


def test_nothing_to_join() -> None:
    none = np.empty(0, np.int32), np.empty(0, np.int32), np.empty((0, 2), np.int64)
    assert agglomerate(3, *none, mean_boundary, 0.5).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("quantile", "expected"), [(0.25, 1 / 32), (0.5, 1 / 16), (0.75, 15.5 / 16), (1.0, 1.0)])
def test_quantiles_of_a_histogram(quantile: float, expected: float) -> None:
    histogram = np.zeros((1, BINS), np.int64)
    histogram[0, [0, -1]] = 5
    assert quantile_boundary(quantile)(histogram).tolist() == [pytest.approx(expected)]
