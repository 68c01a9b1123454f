"""The global solve: holes, classes and multicut on graphs worked by hand."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from unet.config.segment import AgglomerateConfig
from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid
from unet.segmentation.components import Connectivity, label_block
from unet.segmentation.edge_slabs import EdgeSlabs, edges_in_slabs
from unet.segmentation.fragments import Fragments, join_blocks
from unet.segmentation.height_map import WatershedParameters
from unet.segmentation.merge_part import _node_of
from unet.segmentation.merge_table import number_objects, relabel
from unet.segmentation.merging import compact_labels, fill_holes, solve_objects
from unet.segmentation.multicut import SolverMissing, multicut
from unet.segmentation.region_graph import HISTOGRAM_BINS, Edges, block_edges, fragment_ids
from unet.segmentation.watershed import labelled_and_read_boxes, watershed_block

STEPS = [(0, 0, 1), (0, 1, 0)]


def edges_of(*rows: tuple[int, int, int, int]) -> Edges:
    """Return edges from rows of (u, v, contacts, boundary of each contact)."""
    u, v, contacts, level = np.array(sorted(rows)).T
    return Edges(u, v, contacts, contacts * level, None)


def with_histogram(edges: Edges) -> Edges:
    """Return the edges with a histogram in which all contacts of an edge have its mean boundary."""
    histogram = np.zeros((len(edges), HISTOGRAM_BINS), np.int64)
    histogram[np.arange(len(edges)), edges.boundary // edges.contacts // 16] = edges.contacts
    return replace(edges, histogram=histogram)


def whole(edges: Edges, components: Fragments) -> EdgeSlabs:
    """Return all edges in one slab."""
    return EdgeSlabs.whole(edges, components.component_count)


def fragments_of(size: list[int], value: list[int] | None = None, first: list[int] | None = None) -> Fragments:
    """Return fragments of one block, none of them at a face of the volume."""
    n = len(size)
    values, firsts = np.array(value or [1] * n, np.uint8), np.array(first or range(n))
    return Fragments(np.array([0, n]), firsts, np.array(size), values, np.zeros(n, bool), np.arange(n, dtype=np.int32))


def filled_blockwise(values: np.ndarray, block: Index, largest: int, at_once: int = 100) -> np.ndarray:
    """Return the components of a volume with their holes filled, computed block by block."""
    grid = Grid(values.shape, block)
    blocks = [label_block(values[box.slices], box, grid.shape, "section", background=True) for box in grid.boxes()]
    fragments = join_blocks(grid, blocks)
    labels = np.zeros(values.shape, np.uint32)
    for found in blocks:
        labels[found.box.slices] = found.labels
    tables = []
    for box in grid.boxes():
        read = Box(box.start, tuple(hi + d for hi, d in zip(box.stop, (0, 1, 1), strict=True))).clipped(grid.shape)
        ids = fragment_ids(labels[read.slices], read, grid)
        tables.append(block_edges(ids, np.zeros(read.shape, np.uint8), box.shape, STEPS))
    objects = np.arange(fragments.component_count, dtype=np.int32)
    by_box = dict(zip(grid.boxes(), tables, strict=True))
    edges = edges_in_slabs(fragments, grid, by_box.__getitem__, fragments_per_slab=at_once)
    objects = fill_holes(fragments.merge_objects(objects), objects, edges, largest)
    table = number_objects(fragments, objects)
    for number, found in enumerate(blocks):
        labels[found.box.slices] = relabel(found.labels, table.lut_of_block(number))
    return labels


RING = np.array(
    [
        [1, 1, 1, 1, 1, 0, 0],
        [1, 0, 0, 0, 1, 0, 1],
        [1, 0, 1, 0, 1, 0, 1],
        [1, 0, 0, 0, 1, 0, 0],
        [1, 1, 1, 1, 1, 0, 0],
    ],
    bool,
)[None]


@pytest.mark.parametrize("block", [(1, 5, 7), (1, 2, 3), (1, 3, 2)])
def test_a_hole_is_filled_and_an_island_in_it_is_not_lost(block: Index) -> None:
    expected = np.where(RING, 1, 0)
    expected[0, 1:3, 6] = 2
    expected[0, 1:4, 1:4], expected[0, 2, 2] = 1, 1
    around = filled_blockwise(RING, block, largest=8)
    # the background between ring and island touches both, so it is no hole; the island, enclosed by it, stays
    assert around[0, 2, 2] not in (0, around[0, 0, 0])
    plain = RING.copy()
    plain[0, 2, 2] = False
    np.testing.assert_array_equal(filled_blockwise(plain, block, largest=9), expected)
    assert not filled_blockwise(plain, block, largest=8)[0, 1:4, 1:4].any()


@given(st.integers(0, 9999), st.tuples(st.just(1), st.integers(1, 9), st.integers(1, 9)))
def test_holes_of_a_single_object_are_those_of_scipy(seed: int, block: Index) -> None:
    random = np.random.default_rng(seed).random((1, 9, 9)) > 0.35
    one = ndimage.label(random[0])[0]
    largest = one == np.argmax(np.bincount(one.ravel())[1:]) + 1
    found = filled_blockwise(largest[None], block, largest=81)[0]
    np.testing.assert_array_equal(found > 0, ndimage.binary_fill_holes(largest))


def test_what_lies_at_a_face_of_the_volume_is_no_hole() -> None:
    values = np.ones((1, 3, 3), bool)
    values[0, 0, 1] = False
    assert filled_blockwise(values, (1, 3, 3), 9)[0, 0, 1] == 0


@pytest.mark.parametrize("method", ["mean", "quantile"])
@pytest.mark.parametrize("connectivity", ["section", "volume"])
@pytest.mark.parametrize("at_once", [1, 40])
def test_a_graph_in_slabs_gives_the_objects_of_the_whole(method: str, connectivity: Connectivity, at_once: int) -> None:
    random = np.random.default_rng(at_once)
    probability = ndimage.gaussian_filter(random.random((14, 24, 24)), 0.8)
    probability = np.uint8(255 * (probability - probability.min()) / np.ptp(probability))
    grid, parameters = (
        Grid(probability.shape, (3, 12, 10)),
        WatershedParameters(3, 1, 1, connectivity, (10.0, 10.0, 10.0)),
    )
    labels, found = np.zeros(grid.shape, np.uint32), []
    for box in grid.boxes():
        _, read = labelled_and_read_boxes(box, grid.shape, parameters)
        found.append(watershed_block(probability[read.slices] > 100, box, grid.shape, parameters))
        labels[box.slices] = found[-1].labels
    fragments = join_blocks(grid, found)

    def edges_of_block(box: Box) -> Edges:
        read = Box(box.start, tuple(hi + 2 for hi in box.stop)).clipped(grid.shape)
        ids, steps = fragment_ids(labels[read.slices], read, grid), [*STEPS, (1, 0, 0), (2, 0, 0)]
        return block_edges(ids, 255 - probability[read.slices], box.shape, steps)

    histograms, settings = method == "quantile", AgglomerateConfig(method=method, threshold=0.6)
    one, several = (
        edges_in_slabs(fragments, grid, edges_of_block, histograms, fragments_per_slab=n) for n in (10**6, at_once)
    )
    assert len(list(one.read())) == 1 < len(list(several.read()))
    section = 24 * 24 if connectivity == "section" else None
    expected = solve_objects(fragments.merge_components(), one, settings, section)
    assert fragments.component_count > expected.max() + 1 > 10
    in_slabs = solve_objects(fragments.merge_components(), several, settings, section)
    numbered = [number_objects(fragments, objects) for objects in (expected, in_slabs)]
    np.testing.assert_array_equal(numbered[0].lut, numbered[1].lut)


def test_holes_are_filled_from_a_graph_in_slabs() -> None:
    stack = np.concatenate([RING, ~RING, RING])
    stack[:, 2, 2] = False
    found, whole_at_once = (filled_blockwise(stack, (1, 2, 3), 9, at_once) for at_once in (1, 10**6))
    np.testing.assert_array_equal(found, whole_at_once)
    assert found[0, 1:4, 1:4].all()
    assert found[2, 1:4, 1:4].all()


def test_background_is_joined_with_nothing_nor_are_two_classes() -> None:
    components = fragments_of([5, 5, 5], value=[1, 0, 2])
    edges = edges_of((0, 1, 9, 0), (0, 2, 9, 0), (1, 2, 9, 0))
    assert solve_objects(components, whole(edges, components), AgglomerateConfig(), None).tolist() == [0, 1, 2]


def test_sections_are_linked_by_overlap_and_a_neighbour_that_overlaps_little_is_not() -> None:
    # sections of 100 voxels: 0 and 1 lie in the first, 2 and 3 in the second; 0 lies on 2, 1 on 3, and 0 a little on 3
    components = fragments_of([40, 40, 40, 40], first=[0, 50, 100, 150])
    edges = edges_of((0, 2, 38, 10), (1, 3, 38, 10), (0, 3, 2, 0), (0, 1, 10, 240), (2, 3, 10, 240))
    settings = AgglomerateConfig(threshold=0.5, size_mismatch_penalty=0.5)
    assert solve_objects(components, whole(edges, components), settings, 100).tolist() == [0, 1, 0, 1]


def test_methods_agree_where_the_case_is_clear() -> None:
    components = fragments_of([9] * 6)
    clear = edges_of((0, 1, 10, 20), (1, 2, 10, 20), (2, 3, 10, 230), (3, 4, 10, 20), (0, 5, 10, 230), (4, 5, 1, 250))
    for edges, method in ((clear, "mean"), (with_histogram(clear), "quantile"), (clear, "multicut")):
        found = solve_objects(components, whole(edges, components), AgglomerateConfig(method=method), None)
        assert found.tolist() == [0, 0, 0, 1, 1, 2], method
    assert solve_objects(components, whole(clear, components), AgglomerateConfig(method="none"), None).tolist() == list(
        range(6)
    )


def test_multicut_weighs_a_cycle_as_a_whole() -> None:
    # 0-1 and 1-2 attract a little, 0-2 repels strongly: agglomeration joins all, multicut cuts the weaker of the two
    components, cycle = fragments_of([9] * 3), edges_of((0, 1, 12, 60), (1, 2, 10, 60), (0, 2, 10, 250))
    greedy = solve_objects(components, whole(cycle, components), AgglomerateConfig(threshold=0.7), None)
    cut = solve_objects(components, whole(cycle, components), AgglomerateConfig(method="multicut", threshold=0.4), None)
    assert (greedy.tolist(), cut.tolist()) == ([0, 0, 0], [0, 0, 1])


def test_without_the_solver_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bioimage_cpp", None)
    monkeypatch.setitem(sys.modules, "bioimage_cpp.graph", None)
    with pytest.raises(SolverMissing, match=r"needs bioimage-cpp, of the extra multicut: pip install"):
        multicut(2, edges_of((0, 1, 1, 0)), 0.5)


def test_multicut_of_nothing() -> None:
    assert multicut(3, Edges.empty(), 0.5).tolist() == [0, 1, 2]


def test_clusters_are_numbered_by_the_nodes_that_name_them() -> None:
    assert compact_labels(np.array([4, 1, 4, 3, 4])).tolist() == [2, 0, 2, 1, 2]


def test_sets_of_fragments_become_blocks_each_fragment_a_component() -> None:
    whole = Fragments.concatenate([fragments_of([1, 2]), fragments_of([3]), fragments_of([4, 5, 6])])
    assert whole.offsets.tolist() == [0, 2, 3, 6]
    assert whole.size.tolist() == [1, 2, 3, 4, 5, 6]
    assert whole.component_of.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("missing", [[3], [9], [2, 9]], ids=["between", "behind all", "one of two"])
def test_an_edge_to_a_fragment_without_a_table_is_an_error(missing: list[int]) -> None:
    known, node = np.array([2, 5], np.uint64), np.array([7, 8])
    assert _node_of(np.array([5, 2], np.uint64), known, node).tolist() == [8, 7]
    with pytest.raises(ValueError, match="tables of fragments and edges do not fit"):
        _node_of(np.array(missing, np.uint64), known, node)
