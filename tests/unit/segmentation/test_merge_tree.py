"""A volume merged in parts, whatever the tree of parts, has the objects of one solve over the whole volume."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.segmentation.in_parts import merged_in_parts
from unet.config.segment import AgglomerateConfig
from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid
from unet.geometry.part_tree import tree_of_parts
from unet.geometry.run_length_encoding import run_length_encode
from unet.segmentation.edge_slabs import edges_in_slabs
from unet.segmentation.fragments import BlockTable, join_blocks
from unet.segmentation.merge_part import GraphEdges, join_parts, read_part, settle_part
from unet.segmentation.merge_table import MergeTable, number_objects
from unet.segmentation.merge_tree import Outcome
from unet.segmentation.merging import fill_holes, solve_objects
from unet.segmentation.part_files import load_outcome, load_part, save_outcome, save_part
from unet.segmentation.region_graph import Edges, block_edges, fragment_ids
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

    def graph_for(self, rules: MergeRules) -> Callable[[Box], GraphEdges] | None:
        """Return the function that reads the edges of a block; None where no rule needs them."""
        if not (rules.agglomerate or rules.fill_holes):
            return None
        histograms = rules.agglomerate is not None and rules.agglomerate.method == "quantile"

        def read(box: Box) -> GraphEdges:
            found = self.edges(box)
            return GraphEdges.of(found if histograms else replace(found, histogram=None))

        return read


def merged_whole(cells: Cells, rules: MergeRules, min_size: int) -> MergeTable:
    """Return the merge table of one solve over all fragments."""
    fragments = join_blocks(cells.grid, cells.tables.values())
    objects = np.arange(fragments.component_count, dtype=np.int32)
    how = rules.agglomerate
    if how:
        edges = edges_in_slabs(fragments, cells.grid, cells.edges, how.method == "quantile")
        objects = solve_objects(fragments.merge_components(), edges, how, rules.section_voxels)
    if rules.fill_holes:
        edges = edges_in_slabs(fragments, cells.grid, cells.edges)
        objects = fill_holes(fragments.merge_objects(objects), objects, edges, rules.fill_holes)
    return number_objects(fragments, objects, min_size=min_size)


METHODS = {
    "none": {"method": "none"},
    "mean": {"method": "mean", "threshold": 0.5},
    "quantile": {"method": "quantile", "threshold": 0.6},
    "average_linkage": {"method": "average_linkage", "threshold": 0.5},
}


@settings(max_examples=60)
@given(
    seed=st.integers(0, 9999),
    per_leaf=st.integers(1, 3),
    fan_out=st.integers(2, 3),
    depth=st.integers(1, 3),
    seeds=st.integers(2, 60),
    levels=st.sampled_from([2, 3, 256]),
    method=st.sampled_from(["touching", *METHODS]),
    by_section=st.booleans(),
    contact_distance=st.integers(1, 4),
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
    contact_distance: int,
    join_below: int,
    holes: int,
) -> None:
    steps = [*WITHIN, *((ahead, 0, 0) for ahead in range(1, contact_distance + 1))]
    cells = Cells(
        seed, (9, 7, 8), (depth, 4, 5), seeds if not by_section else min(seeds, 12), levels, steps, by_section
    )
    how = None
    if method != "touching":
        how = AgglomerateConfig.model_validate(METHODS[method] | {"join_fragments_below": join_below})
    rules = MergeRules(how, 7 * 8 if by_section else None, holes)
    expected = merged_whole(cells, rules, min_size=4)
    tree = tree_of_parts(cells.grid.counts[0], per_leaf, fan_out)
    found, live = merged_in_parts(
        cells.grid, tree, cells.tables.__getitem__, cells.graph_for(rules), contact_distance, rules, min_size=4
    )
    fragments = join_blocks(cells.grid, cells.tables.values())
    has_voxels = fragments.size > 0  # no voxel has the label of the others
    np.testing.assert_array_equal(found.lut[has_voxels], expected.lut[has_voxels])
    for name in ("first_voxel", "sizes", "class_values", "offsets"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    assert len(live[-1].nodes) == 0
    assert live[-1].components == fragments.component_count


def test_a_part_settles_what_its_faces_do_not_reach() -> None:
    cells = Cells(1, (40, 10, 10), (4, 5, 5), 300, 256, [*WITHIN, (1, 0, 0)], by_section=False)
    rules = MergeRules(AgglomerateConfig(method="mean", threshold=0.3, join_fragments_below=5), None, 10)
    tree = tree_of_parts(10, 5, 2)
    _, live = merged_in_parts(cells.grid, tree, cells.tables.__getitem__, cells.graph_for(rules), 1, rules)
    assert [len(part.nodes) > 0 for part in live] == [True, True, False]
    assert len(live[0].nodes) < 75


def test_what_is_live_in_a_part_is_kept_in_files(tmp_path: Path) -> None:
    cells = Cells(2, (12, 8, 8), (3, 4, 8), 40, 256, [*WITHIN, (1, 0, 0), (4, 0, 0)], by_section=False)
    rules = MergeRules(AgglomerateConfig(method="quantile", threshold=0.4), None, 5)
    part, _ = read_part(cells.grid, range(1, 3), cells.tables.__getitem__, cells.graph_for(rules), 4)
    live, objects, became = settle_part(part, rules)
    save_part(tmp_path / "live.npz", live)
    save_outcome(tmp_path / "settled.npz", Outcome(objects, became, np.arange(3)))
    assert_same(load_part(tmp_path / "live.npz"), live)
    assert_same(load_outcome(tmp_path / "settled.npz"), Outcome(objects, became, np.arange(3)))


def test_parts_that_do_not_follow_each_other_are_refused() -> None:
    cells = Cells(3, (9, 6, 6), (3, 6, 6), 10, 2, [*WITHIN, (1, 0, 0)], by_section=False)
    first, last = (read_part(cells.grid, range(n, n + 1), cells.tables.__getitem__)[0] for n in (0, 2))
    with pytest.raises(ValueError, match=r"layers range\(0, 1\) and range\(2, 3\) do not follow each other"):
        join_parts(cells.grid, [first, last])


def assert_same(found: Any, expected: Any) -> None:
    """Compare dataclasses and named tuples of arrays, and lists of arrays."""
    if is_dataclass(expected) or hasattr(expected, "_fields"):
        names = [f.name for f in fields(expected)] if is_dataclass(expected) else expected._fields
        for name in names:
            assert_same(getattr(found, name), getattr(expected, name))
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(found, expected, strict=True)
    else:
        assert found == expected
