"""Reference numbers for the expected run length, made with packages that the workflow does not need.

``pip install segmentation-skeleton-metrics kimimaro``, then ``python -m tests.unit.evaluation.reference_run_length``
writes them anew. The committed ones were made with 5.9.14 and 5.8.5:

- ``tests/data/run_length.json``: scores of segmentation-skeleton-metrics for generated cases;
- ``tests/data/skeletons.npz``: skeletons that kimimaro makes of the bodies of the stand-in (`tests.stand_in`).
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from unet.evaluation.skeletons import PlacedSkeletons, Skeletons, place_in_volume

DATA = Path(__file__).parents[2] / "data"
SCORES, SKELETONS = DATA / "run_length.json", DATA / "skeletons.npz"
SEEDS, TREES, NODES, SHAPE = range(20), 4, 400, (100, 100, 100)
VOXEL_NM = (50.0, 4.0, 4.0)


def random_trees(rng: np.random.Generator, shape: tuple[int, ...], trees: int, nodes: int) -> Skeletons:
    """Trees of nodes in a volume that begins at 0 nm; some nodes lie outside."""
    voxel = np.array(VOXEL_NM)
    node_nm = rng.uniform(-voxel, (np.array(shape) + 0.5) * voxel, (trees * nodes, 3))
    edges = [(t * nodes + n, t * nodes + rng.integers(n)) for t in range(trees) for n in range(1, nodes)]
    return Skeletons(node_nm, np.repeat(np.arange(trees), nodes), np.array(edges).reshape(-1, 2))


def reference_case(seed: int) -> tuple[PlacedSkeletons, NDArray[np.int64]]:
    """Four trees, and the segment of each node.

    The definitions meet here: every segment is one piece of its skeleton, or a merger that holds over 50 nodes.
    """
    rng = np.random.default_rng(seed)
    voxel = rng.integers(0, 100, (TREES * NODES, 3))
    whole = replace(random_trees(rng, SHAPE, TREES, NODES), node_nm=voxel * np.array(VOXEL_NM))
    skeletons = place_in_volume(whole, SHAPE, VOXEL_NM, (0, 0, 0))
    segment = np.zeros(TREES * NODES, np.int64)
    for number in range(TREES):
        own = np.flatnonzero(skeletons.skeleton == number)
        edges = _own_edges(skeletons, number)
        kept = edges[rng.permutation(len(edges))[4:]]
        pieces = connected_components(coo_array((np.ones(len(kept)), kept.T), (NODES, NODES)))[1]
        segment[own] = pieces + 1 + 10 * number
    largest = [np.bincount(segment[skeletons.skeleton == number]).argmax() for number in range(TREES)]
    segment[segment == largest[1]] = largest[0]  # the largest pieces of two skeletons
    return skeletons, segment


def _own_edges(skeletons: PlacedSkeletons, number: int) -> NDArray[np.int64]:
    """Edges of one tree, between the places of its nodes among them."""
    own = np.flatnonzero(skeletons.skeleton == number)
    return np.searchsorted(own, skeletons.edges[skeletons.skeleton[skeletons.edges[:, 0]] == number])


def digest(skeletons: PlacedSkeletons, segment: NDArray[np.int64]) -> int:
    """Number that tells whether a case is the one that the numbers were made for: NumPy may draw others some day."""
    weights = np.arange(1, len(segment) + 1)
    return int((weights * (segment + skeletons.voxel.sum(axis=0))).sum() + skeletons.edges.sum())


def scores_of_reference(skeletons: PlacedSkeletons, segment: NDArray[np.int64]) -> dict[str, Any]:
    """Expected run length (nm) and split edges by segmentation-skeleton-metrics."""
    from segmentation_skeleton_metrics import skeleton_metrics as metrics
    from segmentation_skeleton_metrics.datamodules import graph_classes as graphs

    labelled = {}
    for number in range(TREES):
        own = np.flatnonzero(skeletons.skeleton == number)
        graph = graphs.LabeledGraph(anisotropy=VOXEL_NM[::-1], name=str(number))
        graph.set_nodes(NODES)
        graph.add_edges_from(map(tuple, _own_edges(skeletons, number)))
        graph.set_voxels(skeletons.voxel[:, own].T)
        graph.init_node_labels()
        graph.node_label[:] = segment[own].astype(str)
        labelled[str(number)] = graph
    metrics.MergedEdgePercentMetric(verbose=False).detect_label_intersections(labelled)
    # theirs is the mean over what is labelled, skeleton by skeleton: the sum over squared runs by its weight
    squares = sum(metrics.ERLMetric.compute_graph_erl(g) * g.labeled_run_length for g in labelled.values())
    split = sum(metrics.SplitEdgePercentMetric.count_split_edges(graph) for graph in labelled.values())
    return {"erl_nm": float(squares / skeletons.length_nm.sum()), "split_edges": int(split)}


def make_scores() -> None:
    """Write `SCORES`."""
    cases = {seed: reference_case(seed) for seed in SEEDS}
    rows = {seed: {"digest": digest(*case), **scores_of_reference(*case)} for seed, case in cases.items()}
    SCORES.write_text(json.dumps(rows, indent=1) + "\n")


def make_skeletons() -> None:
    """Write `SKELETONS`."""
    import kimimaro

    from tests.stand_in import write_stand_in

    with tempfile.TemporaryDirectory() as folder:
        write_stand_in(Path(folder))
        with h5py.File(Path(folder) / "fib25" / "validation.h5") as file:
            ids = file["volumes/labels/neuron_ids"][:]
    made = list(kimimaro.skeletonize(ids, anisotropy=(10, 10, 10), progress=False, dust_threshold=50).values())
    counts = [len(one.vertices) for one in made]
    first = np.cumsum([0, *counts[:-1]])
    edges = [one.edges.astype(np.int64) + n for one, n in zip(made, first, strict=True)]
    nodes = np.concatenate([one.vertices for one in made]).astype(np.float32)
    skeleton = np.repeat(np.arange(len(made)), counts)
    np.savez_compressed(SKELETONS, node_nm=nodes, skeleton=skeleton, edges=np.concatenate(edges))


if __name__ == "__main__":
    make_scores()
    make_skeletons()
