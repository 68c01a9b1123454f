"""Expected run length: cases worked by hand, properties, two implementations that share no line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.stand_in import write_stand_in
from tests.unit.evaluation.reference_run_length import (
    SCORES,
    SKELETONS,
    VOXEL_NM,
    digest,
    random_trees,
    reference_case,
)
from unet.evaluation.expected_run_length import MERGER_NM, ExpectedRunLength, expected_run_length_scores
from unet.evaluation.skeletons import PlacedSkeletons, Skeletons, place_in_volume
from unet.geometry.box import Box
from unet.geometry.grid import Grid


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
    """Return the expected run length of nodes in these segments."""
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


def scores_of(skeletons: PlacedSkeletons, ids: np.ndarray, block: tuple[int, ...]) -> dict[str, Any]:
    """Return the scores of a segmentation that is read block by block, the last block first."""
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


REFERENCE = json.loads(SCORES.read_text())


@pytest.mark.parametrize("seed", REFERENCE)
def test_agrees_with_segmentation_skeleton_metrics(seed: str) -> None:
    """Numbers that the package gave; `reference_run_length` makes them anew."""
    skeletons, segment = reference_case(int(seed))
    assert digest(skeletons, segment) == REFERENCE[seed]["digest"], "NumPy draws other cases now: make the numbers anew"
    found = expected_run_length_scores(skeletons, segment.astype(np.uint64))
    assert found["merging_segments"] == 1
    assert found["erl_nm"] == pytest.approx(REFERENCE[seed]["erl_nm"])
    assert found["split_edges"] == REFERENCE[seed]["split_edges"]


def test_skeletons_of_kimimaro_are_followed_to_their_ends_and_through_other_results_less_far(tmp_path: Path) -> None:
    """Take the bodies of the stand-in."""
    write_stand_in(tmp_path)
    with h5py.File(tmp_path / "fib25" / "validation.h5") as file:
        truth = file["volumes/labels/neuron_ids"][:]
        peers = {name: file[f"volumes/peers/{name}"][:] for name in ("ffn", "oversegmentation")}
    with np.load(SKELETONS) as made:
        whole = Skeletons(made["node_nm"].astype(float), made["skeleton"], made["edges"])
    skeletons, block = place_in_volume(whole, truth.shape, (10, 10, 10), (0, 0, 0)), (2, 100, 128)
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
