"""Edges of exactly equal score: the objects are those of the whole volume, however it is cut into blocks and slabs."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet.config.segment import AgglomerateConfig
from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid
from unet.geometry.offsets import Offset
from unet.segmentation.affinity_graph import block_affinity_edges, graph_read_box
from unet.segmentation.components import (
    face_runs,
    first_voxel_and_size,
    label_volume,
    renumber_in_scan_order,
    volume_index,
)
from unet.segmentation.edge_slabs import edges_in_slabs
from unet.segmentation.fragments import BlockTable, Fragments, join_blocks
from unet.segmentation.merge_table import number_objects, relabel
from unet.segmentation.merging import WHOLE_GRAPH, solve_objects
from unet.segmentation.region_graph import Edges, block_edges, fragment_ids

OFFSETS: list[Offset] = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, -2)]
STEPS: list[Offset] = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
LEVELS = np.array([0, 51, 204], np.uint8)
"""Three affinities alone, so that many edges have equal means."""


def cut(basins: np.ndarray, grid: Grid) -> tuple[Fragments, np.ndarray]:
    """Return the fragments of known basins, as `watershed_block` lists them, and the local labels `(z, y, x)`."""
    labels, tables = np.zeros(basins.shape, np.uint32), []
    for box in grid.boxes():
        shared = Box(box.start, tuple(hi + 1 for hi in box.stop)).clipped(grid.shape)
        here = renumber_in_scan_order(basins[shared.slices].copy())
        count = int(here.max(initial=0))
        labels[box.slices] = own = here[box.relative_to(shared.start).slices]
        first = volume_index(first_voxel_and_size(here, count)[0], shared, grid.shape)
        faces = {axis: (face_runs(here, axis, 0), face_runs(here, axis, -1)) for axis in range(3)}
        sizes = np.bincount(own.ravel(), minlength=count + 1)[1:]
        tables.append(BlockTable(box, first, sizes, np.ones(count, np.uint8), np.zeros(count, bool), faces))
    return join_blocks(grid, tables), labels


def objects_of(
    basins: np.ndarray, affinities: np.ndarray, block: Index, how: AgglomerateConfig, at_once: int
) -> np.ndarray:
    """Return the final ids `(z, y, x)` of basins that are joined by a method, computed block by block."""
    grid = Grid(basins.shape, block)
    fragments, labels = cut(basins, grid)

    def edges_of(box: Box) -> Edges:
        if how.method in ("average_linkage", "mutex_watershed"):
            read = graph_read_box(box, OFFSETS, grid.shape)
            ids = fragment_ids(labels[read.slices], read, grid)
            return block_affinity_edges(ids, affinities[box.trailing], box, read, OFFSETS).as_boundary()
        read = Box(box.start, tuple(hi + 1 for hi in box.stop)).clipped(grid.shape)
        return block_edges(fragment_ids(labels[read.slices], read, grid), affinities[0][read.slices], box.shape, STEPS)

    at_once = 10**6 if how.method in WHOLE_GRAPH else at_once
    slabs = edges_in_slabs(fragments, grid, edges_of, how.method == "quantile", at_once)
    objects = solve_objects(fragments.merge_components(), slabs, how, None)
    table = number_objects(fragments, objects)
    for number, box in enumerate(grid.boxes()):
        labels[box.slices] = relabel(labels[box.slices].copy(), table.lut_of_block(number))
    return labels


@pytest.mark.parametrize("method", ["average_linkage", "mutex_watershed", "mean", "quantile", "multicut"])
@settings(max_examples=20)
@given(
    seed=st.integers(0, 9999),
    block=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6)),
    threshold=st.sampled_from([0.1, 0.4, 0.5, 0.7]),
    small=st.sampled_from([0, 3]),
    at_once=st.integers(1, 20),
)
def test_of_equal_edges_the_same_joins_whatever_the_blocks(
    method: Any, seed: int, block: Index, threshold: float, small: int, at_once: int
) -> None:
    if method == "multicut":
        pytest.importorskip("bioimage_cpp", reason="bioimage-cpp is not installed")
    random, shape = np.random.default_rng(seed), (3, 5, 6)
    basins, _ = label_volume(random.integers(0, 4, shape).astype(np.uint8), 6)
    affinities = random.choice(LEVELS, (len(OFFSETS), *shape))
    how = AgglomerateConfig(method=method, threshold=threshold, join_fragments_below=small)
    expected = objects_of(basins, affinities, shape, how, 10**6)
    np.testing.assert_array_equal(objects_of(basins, affinities, block, how, at_once), expected)


def test_components_are_numbered_by_their_first_voxels() -> None:
    """Take the order of blocks of two columns: 4 comes before 3."""
    basins = np.array([[[1, 2, 2, 3], [2, 2, 2, 3], [4, 4, 2, 3]]], np.uint32)
    for block in [(1, 3, 4), (1, 3, 2), (1, 2, 3), (1, 1, 1)]:
        grid = Grid(basins.shape, block)
        fragments, labels = cut(basins, grid)
        found = np.zeros_like(basins)
        for number, box in enumerate(grid.boxes()):
            found[box.slices] = fragments.component_of[fragments.offsets[number] + labels[box.slices] - 1] + 1
        np.testing.assert_array_equal(found, basins)
