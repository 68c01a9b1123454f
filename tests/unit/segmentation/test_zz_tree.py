"""A volume merged in parts, whatever the tree of parts, has the objects of one solve over the whole volume."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from unet.config.segment import AgglomerateConfig
from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid
from unet.geometry.run_length_encoding import run_length_encode
from unet.segmentation.fragments import BlockTable, Fragments, join_blocks
from unet.segmentation.merge_part import GraphEdges, Part, join_parts, read_part, settle_part
from unet.segmentation.merge_table import MergeTable, number_objects
from unet.segmentation.merge_tree import Outcome, TreePart, object_tables, tree_of_parts
from unet.segmentation.merging import fill_holes, solve_objects
from unet.segmentation.region_graph import Edges, EdgeSlabs, block_edges, edges_in_slabs, fragment_ids
from unet.segmentation.settling import MergeRules

WITHIN = [(0, 0, 1), (0, 1, 0)]


class Cells:
    """A volume of cells, cut into blocks: the tables of fragments and the edges of each block."""

    def __init__(
        self, seed: int, shape: Index, block: Index, seeds: int, levels: int, steps: list[Index], by_section: bool
    ) -> None:
        random = np.random.default_rng(seed)
        self.grid, self.steps = Grid(shape, block), steps
        points = random.random((seeds, 3)) * shape
        where = np.stack(np.indices(shape), axis=-1)[..., None, :] - points
        self.cells = np.argmin((where**2 * [1, 1.3, 0.9]).sum(-1), axis=-1)
        if by_section:
            self.cells = self.cells + seeds * np.arange(shape[0])[:, None, None]
        count = int(self.cells.max()) + 1
        self.class_of = random.choice([0, 1, 1, 1, 2], count).astype(np.uint8)
        level = np.linspace(0, 255, levels).astype(np.uint8)
        self.boundary = random.choice(level, shape)
        self.axes = (1, 2) if by_section else (0, 1, 2)
        self.labels = np.zeros(shape, np.uint32)
        self.tables = {box: self._table(box) for box in self.grid.boxes()}

    def _table(self, box: Box) -> BlockTable:
        """Return the table of a block; the upper planes lie behind the block, as those of a watershed do."""
        behind = [hi + (axis in self.axes) for axis, hi in enumerate(box.stop)]
        read = Box(box.start, tuple(behind)).clipped(self.grid.shape)
        own = self.cells[box.slices]
        known = np.unique(self.cells[read.slices])
        local = np.searchsorted(known, self.cells[read.slices]).astype(np.uint32) + 1
        self.labels[box.slices] = np.searchsorted(known, own) + 1
        size = np.bincount(np.searchsorted(known, own.ravel()), minlength=len(known))
        scan = np.arange(np.prod(self.grid.shape)).reshape(self.grid.shape)
        first = np.array([scan[read.slices][self.cells[read.slices] == cell].min() for cell in known])
        at_border = np.zeros(len(known), bool)
        faces = {}
        for axis in self.axes:
            plane = np.moveaxis(local, axis, 0)
            last = box.stop[axis] == self.grid.shape[axis]
            inner = np.moveaxis(local[tuple(slice(0, n) for n in box.shape)], axis, 0)
            high = plane[box.shape[axis] if not last else -1]
            high = high[tuple(slice(0, n) for i, n in enumerate(box.shape) if i != axis)]
            faces[axis] = run_length_encode(inner[0]), run_length_encode(high)
            if box.start[axis] == 0:
                at_border[np.unique(inner[0]) - 1] = True
            if last:
                at_border[np.unique(high) - 1] = True
        return BlockTable(box, first, size, self.class_of[known], at_border, faces)

    def edges(self, box: Box) -> Edges:
        """Return the edges of a block."""
        ahead = [max(step[axis] for step in self.steps) for axis in range(3)]
        read = Box(box.start, tuple(hi + n for hi, n in zip(box.stop, ahead, strict=True))).clipped(self.grid.shape)
        ids = fragment_ids(self.labels[read.slices], read, self.grid)
        return block_edges(ids, self.boundary[read.slices], box.shape, self.steps)

    def graph(self, histograms: bool) -> Callable[[Box], GraphEdges]:
        """Return the function that reads the edges of a block."""

        def read(box: Box) -> GraphEdges:
            found = self.edges(box)
            return GraphEdges.of(found if histograms else replace(found, histogram=None))

        return read


def in_scan_order(fragments: Fragments) -> Fragments:
    """Return the fragments with their components numbered by first voxel."""
    first = fragments.merge_components().first_voxel
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return replace(fragments, component_of=rank[fragments.component_of])


def merged_whole(cells: Cells, rules: MergeRules, min_size: int) -> MergeTable:
    """Return the merge table of one solve over all fragments."""
    fragments = in_scan_order(join_blocks(cells.grid, cells.tables.values()))
    objects = np.arange(fragments.component_count, dtype=np.int32)
    how = rules.agglomerate
    if how:
        edges = edges_in_slabs(fragments, cells.grid, cells.edges, how.method == "quantile")
        objects = solve_objects(fragments.merge_components(), edges, how, rules.section_voxels)
    if rules.fill_holes:
        edges = edges_in_slabs(fragments, cells.grid, cells.edges)
        objects = fill_holes(fragments.merge_objects(objects), objects, edges, rules.fill_holes)
    return number_objects(fragments, objects, min_size=min_size)


def merged_in_parts(
    cells: Cells, rules: MergeRules, min_size: int, tree: TreePart
) -> tuple[dict[str, NDArray[Any]], list[int], int]:
    """Return the merge table of a tree of parts, the live nodes of each part, and the number of components."""
    with_graph = bool(rules.agglomerate or rules.fill_holes)
    edges = cells.graph(bool(rules.agglomerate and rules.agglomerate.method == "quantile")) if with_graph else None
    reach = max(step[0] for step in cells.steps)
    outcomes, live = dict[TreePart, Outcome](), list[int]()

    def merge(one: TreePart) -> Part:
        if one.children:
            inputs = [merge(child) for child in one.children]
            part, into = join_parts(cells.grid, inputs, reach)
            starts = np.cumsum([0, *(len(part.nodes) for part in inputs)])
        else:
            part, fragments = read_part(cells.grid, one.layers, cells.tables.__getitem__, edges, reach)
            into, starts = fragments.component_of, fragments.offsets
        part, objects, became = settle_part(part, rules)
        outcomes[one] = Outcome(objects, became[into], starts)
        live.append(len(part.nodes))
        return part

    components = merge(tree).components
    count = sum(int(found.counts(min_size).sum()) for found in outcomes.values())
    tables = list(object_tables(cells.grid, tree, outcomes.__getitem__, count, 1, min_size))
    names = ("lut", "first_voxel", "sizes", "class_values")
    return {name: np.concatenate([getattr(t, name) for t in tables]) for name in names}, live, components


METHODS = {
    "none": {"method": "none"},
    "mean": {"method": "mean", "threshold": 0.5},
    "quantile": {"method": "quantile", "threshold": 0.6},
    "average_linkage": {"method": "average_linkage", "threshold": 0.5},
}


@settings(max_examples=1500, deadline=None)
@given(
    seed=st.integers(0, 9999),
    per_leaf=st.integers(1, 3),
    fan_out=st.integers(2, 3),
    depth=st.integers(1, 3),
    seeds=st.integers(2, 60),
    levels=st.sampled_from([2, 3, 256]),
    method=st.sampled_from(["touching", *METHODS]),
    by_section=st.booleans(),
    reach=st.integers(1, 4),
    join_below=st.sampled_from([0, 6, 25]),
    holes=st.sampled_from([0, 8, 60]),
)
def test_any_tree_of_parts_gives_the_objects_of_one_solve(
    seed: int,
    per_leaf: int,
    fan_out: int,
    depth: int,
    seeds: int,
    levels: int,
    method: str,
    by_section: bool,
    reach: int,
    join_below: int,
    holes: int,
) -> None:
    steps = [*WITHIN, *((ahead, 0, 0) for ahead in range(1, reach + 1))]
    cells = Cells(seed, (9, 7, 8), (depth, 4, 5), seeds if not by_section else min(seeds, 12), levels, steps, by_section)
    how = None
    if method != "touching":
        how = AgglomerateConfig.model_validate(METHODS[method] | {"join_fragments_below": join_below})
    rules = MergeRules(how, 7 * 8 if by_section else None, holes)
    expected = merged_whole(cells, rules, min_size=4)
    tree = tree_of_parts(cells.grid.counts[0], per_leaf, fan_out)
    found, live, components = merged_in_parts(cells, rules, 4, tree)
    has_voxels = join_blocks(cells.grid, cells.tables.values()).size > 0  # no voxel has the label of the others
    np.testing.assert_array_equal(found.pop("lut")[has_voxels], expected.lut[has_voxels])
    for name, column in found.items():
        np.testing.assert_array_equal(column, getattr(expected, name), err_msg=name)
    assert live[-1] == 0
    assert components == join_blocks(cells.grid, cells.tables.values()).component_count


def test_a_part_settles_what_its_faces_do_not_reach() -> None:
    cells = Cells(1, (40, 10, 10), (4, 5, 5), 300, 256, [*WITHIN, (1, 0, 0)], by_section=False)
    rules = MergeRules(AgglomerateConfig(method="mean", threshold=0.3, join_fragments_below=5), None, 10)
    tree = tree_of_parts(10, 5, 2)
    _, live, _ = merged_in_parts(cells, rules, 0, tree)
    assert live[-1] == 0
    assert 0 < live[0] < 75


@pytest.mark.parametrize("layers", [1, 2, 7, 64, 65])
def test_the_leaves_of_a_tree_cover_all_layers_once(layers: int) -> None:
    tree = tree_of_parts(layers, 2, 4)
    assert [layer for leaf in tree.leaves() for layer in leaf.layers] == list(range(layers))
    assert all(2 <= len(part.children) <= 4 for part in tree.joins())
    assert tree.layers == range(layers)
