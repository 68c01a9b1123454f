"""Expected run length: cases worked by hand, properties, two implementations that share no line, and real labels."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from unet.evaluation.expected_run_length import MERGER_NM, ExpectedRunLength, expected_run_length_scores
from unet.evaluation.skeletons import PlacedSkeletons, Skeletons, place_in_volume
from unet.geometry.box import Box
from unet.geometry.grid import Grid

SHARED = Path(__file__).parents[4] / "shared" / "data"
VOXEL_NM = (50.0, 4.0, 4.0)


def lines(*lengths_nm: list[float]) -> PlacedSkeletons:
    """A skeleton a list, each an unbranched line of edges of these lengths, the nodes one after another."""
    counts = [len(lengths) + 1 for lengths in lengths_nm]
    firsts = np.cumsum([0, *counts[:-1]])
    edges = [(first + i, first + i + 1) for first, n in zip(firsts, counts, strict=True) for i in range(n - 1)]
    return PlacedSkeletons(
        np.zeros((3, sum(counts)), np.int64),
        np.repeat(np.arange(len(counts)), counts),
        np.array(edges, np.int64).reshape(-1, 2),
        np.concatenate([np.array(lengths, float) for lengths in lengths_nm]),
        0,
    )


def erl(skeletons: PlacedSkeletons, *segment: int) -> float | int | None:
    """Of nodes in these segments."""
    return expected_run_length_scores(skeletons, np.array(segment, np.uint64))["erl_nm"]


# By hand


def test_a_line_of_four_nodes_that_is_split_once() -> None:
    line = lines([100, 100, 100])
    assert erl(line, 5, 5, 5, 5) == 300  # one run: 300 * 300 / 300
    found = expected_run_length_scores(line, np.array([5, 5, 7, 7], np.uint64))
    assert found["erl_nm"] == pytest.approx((100**2 + 100**2) / 300)  # the edge between the segments is in no run
    assert (found["split_edges"], found["omitted_edges"], found["merging_segments"]) == (1, 0, 0)
    assert (found["erl_perfect_nm"], found["skeletons"], found["skeleton_nm"]) == (300, 1, 300)


def test_an_edge_with_a_node_in_no_segment_is_omitted() -> None:
    found = expected_run_length_scores(lines([100, 100, 100]), np.array([5, 5, 5, 0], np.uint64))
    assert found["erl_nm"] == pytest.approx(200**2 / 300)
    assert (found["split_edges"], found["omitted_edges"]) == (0, 1)
    assert erl(lines([100, 100, 100]), 0, 0, 0, 0) == 0


def test_pieces_of_a_skeleton_in_one_segment_are_one_run() -> None:
    assert erl(lines([100, 100, 100, 100]), 5, 5, 7, 5, 5) == pytest.approx((100 + 100) ** 2 / 400)


def test_a_segment_that_merges_two_skeletons_has_no_run() -> None:
    two = lines([100, 100, 100], [200, 200])
    assert erl(two, 1, 1, 1, 1, 2, 2, 2) == pytest.approx((300**2 + 400**2) / 700)
    found = expected_run_length_scores(two, np.array([1, 1, 1, 1, 1, 1, 1], np.uint64))
    assert (found["erl_nm"], found["merging_segments"]) == (0, 1)
    # what lies outside the merger still counts
    assert erl(two, 3, 3, 1, 1, 1, 1, 1) == pytest.approx(100**2 / 700)


def test_a_short_run_of_a_second_skeleton_merges_nothing() -> None:
    assert erl(lines([300], [99, 200]), 1, 1, 1, 1, 2) == pytest.approx((300**2 + 99**2) / 599)
    assert erl(lines([300], [100, 200]), 1, 1, 1, 1, 2) == 0
    assert erl(lines([300], [100, 200]), 1, 1, 1, 2, 2) == pytest.approx((300**2 + 200**2) / 600)  # a single node


def test_what_is_in_no_segment_is_no_merger() -> None:
    two = lines([100, 100, 100], [200, 200, 200])
    assert erl(two, 0, 0, 1, 1, 0, 0, 2, 2) == pytest.approx((100**2 + 200**2) / 900)


def test_branches_belong_to_the_run() -> None:
    star = replace(lines([100, 100, 100]), edges=np.array([[0, 1], [0, 2], [0, 3]]))
    assert erl(star, 4, 4, 4, 9) == pytest.approx(200**2 / 300)


def test_skeletons_without_an_edge_have_no_run_length() -> None:
    found = expected_run_length_scores(lines([], []), np.array([1, 1], np.uint64))
    assert (found["erl_nm"], found["erl_perfect_nm"], found["skeletons"], found["skeleton_nm"]) == (None, None, 0, 0)


# Properties


def random_trees(rng: np.random.Generator, shape: tuple[int, ...], trees: int, nodes: int) -> Skeletons:
    """Trees of nodes in a volume that begins at 0 nm; some nodes lie outside."""
    voxel = np.array(VOXEL_NM)
    node_nm = rng.uniform(-voxel, (np.array(shape) + 0.5) * voxel, (trees * nodes, 3))
    edges = [(t * nodes + n, t * nodes + rng.integers(n)) for t in range(trees) for n in range(1, nodes)]
    return Skeletons(node_nm, np.repeat(np.arange(trees), nodes), np.array(edges).reshape(-1, 2))


def scores_of(skeletons: PlacedSkeletons, ids: np.ndarray, block: tuple[int, ...]) -> dict[str, Any]:
    """Of a segmentation that is looked up block by block, the last one first."""
    runs = ExpectedRunLength(skeletons)
    for box in reversed(Grid(ids.shape, block).boxes()):
        runs.add(box, ids[box.slices])
    return runs.scores()


SEEDS = st.integers(0, 10_000)


@given(seed=SEEDS, block=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)))
def test_the_scores_do_not_depend_on_the_blocks(seed: int, block: tuple[int, ...]) -> None:
    rng, shape = np.random.default_rng(seed), (4, 9, 8)
    skeletons = place_in_volume(random_trees(rng, shape, 3, 12), shape, VOXEL_NM, (0, 0, 0))
    ids = rng.integers(0, 4, shape, dtype=np.uint32)
    found = scores_of(skeletons, ids, block)
    assert found == scores_of(skeletons, ids, shape)
    assert found == expected_run_length_scores(skeletons, ids[tuple(skeletons.voxel)].astype(np.uint64))


@given(seed=SEEDS)
def test_a_perfect_segmentation_has_the_mean_length_weighted_by_length(seed: int) -> None:
    skeletons = place_in_volume(
        random_trees(np.random.default_rng(seed), (4, 9, 8), 3, 12), (4, 9, 8), VOXEL_NM, (0, 0, 0)
    )
    found = expected_run_length_scores(skeletons, (skeletons.skeleton + 1).astype(np.uint64))
    owner = skeletons.skeleton[skeletons.edges[:, 0]]
    lengths = np.bincount(owner, weights=skeletons.length_nm)
    assume(lengths.sum() > 0)
    assert found["erl_nm"] == pytest.approx(np.average(lengths, weights=lengths))
    assert found["erl_nm"] == pytest.approx(found["erl_perfect_nm"])
    assert (found["split_edges"], found["omitted_edges"], found["merging_segments"]) == (0, 0, 0)


@given(seed=SEEDS)
def test_other_ids_change_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    skeletons = place_in_volume(random_trees(rng, (4, 9, 8), 3, 12), (4, 9, 8), VOXEL_NM, (0, 0, 0))
    segment = rng.integers(0, 5, len(skeletons.skeleton)).astype(np.uint64)
    others = np.array([0, *(2**63 + int(n) for n in rng.permutation(4))], np.uint64)
    found = expected_run_length_scores(skeletons, others[segment])
    assert found == pytest.approx(expected_run_length_scores(skeletons, segment))


@given(seed=SEEDS)
def test_a_split_shortens_and_never_lengthens(seed: int) -> None:
    rng = np.random.default_rng(seed)
    skeletons = place_in_volume(random_trees(rng, (4, 9, 8), 3, 12), (4, 9, 8), VOXEL_NM, (0, 0, 0))
    whole = (skeletons.skeleton + 1).astype(np.uint64)
    halves = whole + 10 * rng.integers(0, 2, len(whole)).astype(np.uint64)
    assert (erl(skeletons, *halves) or 0) <= (erl(skeletons, *whole) or 0)


# Others


@given(seed=SEEDS, segments=st.integers(1, 12))
def test_agrees_with_a_graph_of_networkx(seed: int, segments: int) -> None:
    """Edges are put into a graph one by one, as the definition reads; no table of the module is used."""
    networkx = pytest.importorskip("networkx")
    rng = np.random.default_rng(seed)
    skeletons = place_in_volume(random_trees(rng, (4, 9, 8), 4, 15), (4, 9, 8), VOXEL_NM, (0, 0, 0))
    segment = rng.integers(0, segments + 1, len(skeletons.skeleton))
    graph = networkx.Graph()
    for (a, b), length in zip(skeletons.edges, skeletons.length_nm, strict=True):
        if segment[a] == segment[b] != 0:
            graph.add_edge(a, b, length=length)
            graph.add_edge(a, (segment[a], skeletons.skeleton[a]), length=0.0)  # holds the pieces of a run together
    runs: dict[int, list[float]] = {}
    for own in networkx.connected_components(graph):
        [(in_segment, _)] = (node for node in own if isinstance(node, tuple))
        runs.setdefault(in_segment, []).append(graph.subgraph(own).size("length"))
    right = [run for own in runs.values() if sum(run >= MERGER_NM for run in own) < 2 for run in own]
    total = skeletons.length_nm.sum()
    assume(total > 0)
    assert erl(skeletons, *segment) == pytest.approx(sum(run**2 for run in right) / total)


@pytest.mark.parametrize("seed", range(20))
def test_agrees_with_segmentation_skeleton_metrics(seed: int) -> None:
    """Where the definitions meet: every segment is one piece of its skeleton, or a merger that holds over 50 nodes."""
    reason = "segmentation-skeleton-metrics is not installed (docs/how-to/add-a-metric.md)"
    metrics = pytest.importorskip("segmentation_skeleton_metrics.skeleton_metrics", reason=reason)
    graphs = pytest.importorskip("segmentation_skeleton_metrics.datamodules.graph_classes", reason=reason)
    rng, nodes = np.random.default_rng(seed), 400
    voxel = rng.integers(0, 100, (4 * nodes, 3))
    whole = random_trees(rng, (100, 100, 100), 4, nodes)
    skeletons = place_in_volume(
        replace(whole, node_nm=voxel * np.array(VOXEL_NM)), (100, 100, 100), VOXEL_NM, (0, 0, 0)
    )
    segment, theirs = np.zeros(4 * nodes, np.int64), {}
    for number in range(4):
        own = np.flatnonzero(skeletons.skeleton == number)
        place = {node: i for i, node in enumerate(own)}
        graph = graphs.LabeledGraph(anisotropy=VOXEL_NM[::-1], name=str(number))
        graph.set_nodes(nodes)
        graph.add_edges_from((place[a], place[b]) for a, b in skeletons.edges if a in place)
        graph.set_voxels(skeletons.voxel[:, own].T)
        segment[own] = pieces(rng, nodes, list(graph.edges)) + 1 + 10 * number
        theirs[number] = (graph, own)
    big = [segment[own[np.argmax(np.bincount(segment[own])[segment[own]])]] for _, own in theirs.values()]
    segment[segment == big[1]] = big[0]  # the largest pieces of two skeletons
    for graph, own in theirs.values():
        graph.init_node_labels()
        graph.node_label[:] = segment[own].astype(str)
    labelled = {str(number): graph for number, (graph, _) in theirs.items()}
    metrics.MergedEdgePercentMetric(verbose=False).detect_label_intersections(labelled)
    # theirs is the mean over what is labelled, skeleton by skeleton: the sum over squared runs by its weight
    squares = sum(metrics.ERLMetric.compute_graph_erl(g) * g.labeled_run_length for g in labelled.values())
    found = expected_run_length_scores(skeletons, segment.astype(np.uint64))
    assert found["merging_segments"] == 1
    assert found["erl_nm"] == pytest.approx(squares / skeletons.length_nm.sum())
    split = sum(metrics.SplitEdgePercentMetric.count_split_edges(graph) for graph in labelled.values())
    assert found["split_edges"] == split


def pieces(rng: np.random.Generator, nodes: int, edges: list[tuple[int, int]]) -> np.ndarray:
    """The number of the piece of each node of a tree that some edges are cut out of."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    kept = np.array(edges)[rng.permutation(len(edges))[4:]]
    return connected_components(coo_array((np.ones(len(kept)), kept.T), (nodes, nodes)))[1]


def test_real_labels_are_followed_to_their_ends_and_others_results_less_far() -> None:
    """Skeletons that kimimaro makes of the labels of fib25."""
    kimimaro = pytest.importorskip("kimimaro", reason="kimimaro is not installed (docs/how-to/add-a-metric.md)")
    path = SHARED / "fib25" / "validation.h5"
    if not path.exists():
        pytest.skip("the shared development data are not beside this checkout")
    with h5py.File(path) as file:
        truth = file["volumes/labels/neuron_ids"][:]
        peers = {name: file[f"volumes/peers/{name}"][:] for name in ("ffn", "oversegmentation")}
    made = list(kimimaro.skeletonize(truth, anisotropy=(10, 10, 10), progress=False).values())
    first = np.cumsum([0, *(len(one.vertices) for one in made[:-1])])
    skeletons = place_in_volume(
        Skeletons(
            np.concatenate([one.vertices for one in made]).astype(float),
            np.repeat(np.arange(len(made)), [len(one.vertices) for one in made]),
            np.concatenate([one.edges.astype(np.int64) + n for one, n in zip(made, first, strict=True)]),
        ),
        truth.shape,
        (10, 10, 10),
        (0, 0, 0),
    )
    block = (16, 100, 128)
    perfect = scores_of(skeletons, truth, block)
    assert perfect["erl_nm"] == pytest.approx(perfect["erl_perfect_nm"])
    assert (perfect["split_edges"], perfect["omitted_edges"], perfect["skeleton_nodes_outside"]) == (0, 0, 0)
    ffn, over = (scores_of(skeletons, peers[name], block) for name in ("ffn", "oversegmentation"))
    assert over["erl_nm"] < ffn["erl_nm"] < perfect["erl_nm"]
    assert over["split_edges"] > ffn["split_edges"] > 0


def test_a_block_takes_its_own_nodes_alone() -> None:
    skeletons = replace(lines([1, 1]), voxel=np.array([[0, 1, 1], [0, 0, 1], [3, 3, 3]]))
    runs = ExpectedRunLength(skeletons)
    runs.add(Box((1, 0, 2), (2, 1, 4)), np.array([[[7, 9]]]))
    assert runs.segment.tolist() == [0, 9, 0]
