"""Linkages of affinities against bioimage-cpp, and against the greedy algorithms written down edge by edge."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet.config.segment import AgglomerateConfig
from unet.segmentation.edge_slabs import EdgeSlabs
from unet.segmentation.fragments import Fragments
from unet.segmentation.merging import solve_objects
from unet.segmentation.mutex_watershed import mutex_watershed
from unet.segmentation.region_graph import Edges
from unet.segmentation.small_objects import join_small_objects

Rows = list[tuple[int, int, float]]


def fragments(nodes: int, size: int = 9) -> Fragments:
    ones, numbers = np.ones(nodes, np.uint8), np.arange(nodes)
    return Fragments(
        np.array([0, nodes]), numbers, size * np.ones(nodes, int), ones, ones < 1, numbers.astype(np.int32)
    )


def edges_of(pairs: np.ndarray, affinity: np.ndarray, count: np.ndarray) -> Edges:
    return Edges(pairs[:, 0], pairs[:, 1], count, (255 - affinity) * count, None)


def random_graph(nodes: int, edges: int, seed: int, distinct: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs `(n, 2)` in increasing order, and a number 0 to 255 of each."""
    random = np.random.default_rng(seed)
    pairs = np.sort(random.integers(0, nodes, (edges, 2)), axis=1)
    pairs = np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)
    if distinct:
        return pairs, random.permutation(255)[: len(pairs)]
    return pairs, random.integers(0, 8, len(pairs)) * 36


def same_partition(one: np.ndarray, other: np.ndarray) -> bool:
    return ((one[:, None] == one) == (other[:, None] == other)).all()


def mutex_edge_by_edge(nodes: int, rows: Rows) -> np.ndarray:
    """Kruskal's algorithm with exclusions, in the order of the rows."""
    cluster, excluded = np.arange(nodes), set()
    for u, v, weight in rows:
        a, b = cluster[u], cluster[v]
        if a == b:
            continue
        if weight <= 0:
            excluded |= {(a, b), (b, a)}
        elif (a, b) not in excluded:
            cluster[cluster == a] = b
            excluded |= {(b, y) for x, y in excluded if x == a} | {(x, b) for x, y in excluded if y == a}
    return cluster


@settings(max_examples=200)
@given(st.integers(1, 14), st.integers(0, 40), st.integers(0, 9999), st.booleans())
def test_mutex_watershed_in_rounds_is_that_of_edge_by_edge(nodes: int, edges: int, seed: int, distinct: bool) -> None:
    pairs, level = random_graph(nodes, edges, seed, distinct)
    weight = level / 255 - 0.5
    found = mutex_watershed(nodes, pairs[:, 0], pairs[:, 1], weight)
    order = np.argsort(-np.abs(weight), kind="stable")
    rows = [(int(u), int(v), float(w)) for (u, v), w in zip(pairs[order], weight[order], strict=True)]
    assert same_partition(found, mutex_edge_by_edge(nodes, rows))
    assert same_partition(mutex_watershed(nodes, pairs[::-1, 0], pairs[::-1, 1], weight[::-1]), found)


def test_mutex_watershed_is_that_of_the_library() -> None:
    graph = pytest.importorskip("bioimage_cpp.graph", reason="bioimage-cpp is not installed")
    for seed in range(20):
        pairs, level = random_graph(40, 200, seed, distinct=True)
        weight = level / 255 - 0.5013  # no two of one magnitude
        joins = weight > 0
        base = graph.UndirectedGraph.from_unique_edges(40, pairs[joins].astype(np.uint64))
        expected = graph.mutex_watershed.mutex_watershed_clustering(
            base, weight[joins], pairs[~joins].astype(np.uint64), -weight[~joins]
        )
        assert same_partition(mutex_watershed(40, pairs[:, 0], pairs[:, 1], weight), expected), seed


def test_average_linkage_is_gasp_of_the_library() -> None:
    graph = pytest.importorskip("bioimage_cpp.graph", reason="bioimage-cpp is not installed")
    how, clusters = AgglomerateConfig(method="average_linkage", threshold=0.4), set()
    for seed in range(20):
        pairs, level = random_graph(40, 90, seed, distinct=True)
        count = np.random.default_rng(seed).integers(1, 50, len(pairs))
        one = EdgeSlabs.whole(edges_of(pairs, level, count), 40)
        base = graph.UndirectedGraph.from_unique_edges(40, pairs.astype(np.uint64))
        policy = graph.agglomeration.GaspClusterPolicy(linkage="mean")
        expected = policy.optimize(base, level / 255 - 0.4, edge_sizes=count.astype(float))
        found = solve_objects(fragments(40), one, how, None)
        assert same_partition(found, expected), seed
        clusters.add(int(found.max()))
    assert len(clusters) > 5


@pytest.mark.parametrize("method", ["average_linkage", "mutex_watershed"])
def test_a_larger_threshold_joins_less(method: str) -> None:
    pairs, level = random_graph(30, 120, 1, distinct=True)
    one = EdgeSlabs.whole(edges_of(pairs, level, np.ones(len(pairs), int)), 30)
    counts = [
        int(solve_objects(fragments(30), one, AgglomerateConfig.model_validate(how), None).max())
        for how in ({"method": method, "threshold": t} for t in (0.1, 0.5, 0.9))
    ]
    assert all(a < b for a, b in pairwise(counts))


def test_long_pairs_join_what_does_not_touch() -> None:
    # 0 and 2 lie on both sides of 1, which repels both; the pairs across it attract
    edges = edges_of(np.array([[0, 1], [0, 2], [1, 2]]), np.array([50, 200, 60]), np.array([10, 4, 10]))
    how = AgglomerateConfig(method="average_linkage", threshold=0.5)
    assert solve_objects(fragments(3), EdgeSlabs.whole(edges, 3), how, None).tolist() == [1, 0, 1]


@given(st.integers(2, 20), st.integers(0, 40), st.integers(0, 999), st.integers(1, 4))
def test_joining_of_small_objects_does_not_depend_on_the_slabs(nodes: int, edges: int, seed: int, slabs: int) -> None:
    pairs, level = random_graph(nodes, edges, seed, distinct=False)
    random = np.random.default_rng(seed)
    size, slab_of = random.integers(1, 30, nodes), random.integers(0, slabs, len(pairs))
    whole = edges_of(pairs, level, random.integers(1, 5, len(pairs)))
    alone = np.arange(nodes, dtype=np.int32)
    found = join_small_objects(alone, size, [whole], min_size=15)
    assert (
        found.tolist()
        == join_small_objects(alone, size, [whole.select(slab_of == n) for n in range(slabs)], min_size=15).tolist()
    )
    sizes = np.bincount(found, size)
    between = found[pairs[:, 0]] != found[pairs[:, 1]]
    assert (sizes[found[pairs[between]]] >= 15).all()  # what is left small has no neighbour


def test_a_small_object_joins_the_neighbour_of_the_highest_mean_affinity() -> None:
    edges = edges_of(np.array([[0, 2], [1, 2]]), np.array([90, 30]), np.array([1, 50]))
    how = AgglomerateConfig(method="average_linkage", threshold=0.5, join_fragments_below=10)
    assert solve_objects(fragments(3), EdgeSlabs.whole(edges, 3), how, None).tolist() == [0, 0, 0]
    three = fragments(3)
    three.size[:] = 40, 40, 2
    assert solve_objects(three, EdgeSlabs.whole(edges, 3), how, None).tolist() == [0, 1, 0]
