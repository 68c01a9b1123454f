"""Watershed fragments: cases worked by hand, and blocks of any size against the whole volume, voxel for voxel."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tests.unit.segmentation.test_components import merge_blocks
from unet.geometry.box import Box, Index
from unet.geometry.distance_transform import capped_distance
from unet.geometry.grid import Grid
from unet.segmentation.components import Connectivity
from unet.segmentation.foreground import confidence, foreground
from unet.segmentation.height_map import WatershedParameters, height_map
from unet.segmentation.merge_table import relabel
from unet.segmentation.steepest_ascent import NO_FRAGMENT, label_basins
from unet.segmentation.watershed import labelled_and_read_boxes, watershed_block


def blockwise(
    foreground: np.ndarray,
    block: Index,
    parameters: WatershedParameters,
    tissue: np.ndarray | None = None,
    confidence_map: np.ndarray | None = None,
) -> np.ndarray:
    grid = Grid(foreground.shape, block)
    found = []
    for box in reversed(grid.boxes()):  # the order in which blocks are worked does not matter
        _, read = labelled_and_read_boxes(box, grid.shape, parameters)
        here, grey = (None if values is None else values[read.slices] for values in (tissue, confidence_map))
        found.insert(0, watershed_block(foreground[read.slices], box, grid.shape, parameters, here, grey))
    table = merge_blocks(grid, found)
    out = np.zeros(grid.shape, table.lut.dtype)
    for number, fragments in enumerate(found):
        out[fragments.box.slices] = relabel(fragments.labels, table.lut_of_block(number))
    assert table.sizes.tolist() == np.bincount(out.ravel(), minlength=1)[1:].tolist()
    return out


def blobs(shape: Index, seed: int, share: float = 0.6) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), (0.7, 2, 2))
    return noise > np.quantile(noise, 1 - share)


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, Index, WatershedParameters]:
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 24), st.integers(1, 24)))
    block = draw(st.tuples(st.integers(1, 5), st.integers(2, 20), st.integers(2, 20)))
    parameters = WatershedParameters(
        max_distance=draw(st.sampled_from([1, 2.5, 6])),
        smoothing=draw(st.sampled_from([0, 1, 1.7])),
        expand_distance=draw(st.sampled_from([0, 1, 3.5])),
        connectivity=draw(st.sampled_from(["section", "volume"])),
        voxel_size_nm=draw(st.sampled_from([(10.0, 10.0, 10.0), (30.0, 4.6, 4.6)])),
        confidence_weight=draw(st.sampled_from([0, 5])),
    )
    seed, share = draw(st.integers(0, 9999)), draw(st.sampled_from([0.2, 0.6, 0.9, 1.0]))
    return blobs(shape, seed, share), block, parameters


@settings(max_examples=60)
@given(cases(), st.booleans())
def test_blocks_give_the_whole_volume_answer_number_for_number(
    case: tuple[np.ndarray, Index, WatershedParameters], grey: bool
) -> None:
    foreground, block, parameters = case
    confidence_map = np.random.default_rng(0).random(foreground.shape).astype(np.float32) + foreground if grey else None
    whole = blockwise(foreground, foreground.shape, parameters, None, confidence_map)
    np.testing.assert_array_equal(blockwise(foreground, block, parameters, None, confidence_map), whole)
    assert (whole[foreground] > 0).all()
    ids, first = np.unique(whole[whole > 0], return_index=True)
    assert (np.diff(first) > 0).all()
    assert ids.tolist() == list(range(1, len(ids) + 1))


@given(st.integers(0, 999), st.floats(0.5, 7), st.sampled_from([(1.0, 1.0, 1.0), (2.5, 1.0, 1.0)]))
def test_distance_is_the_euclidean_one_up_to_its_cap(seed: int, cap: float, voxel: tuple[float, ...]) -> None:
    target = np.random.default_rng(seed).random((5, 9, 9)) > 0.95
    target[2, 4, 4] = True
    parameters = WatershedParameters(1, 0, 1, "volume", voxel)
    found = capped_distance(target, cap, parameters.edge_units, parameters.units_per_px)
    expected = ndimage.distance_transform_edt(~target, sampling=voxel)
    np.testing.assert_allclose(found, np.minimum(expected, cap), rtol=1e-6)


def test_without_anything_to_be_far_from_all_is_at_the_cap() -> None:
    assert (capped_distance(np.zeros((1, 4, 4), bool), 3, {1: 1, 2: 1}) == 3).all()
    assert (height_map(np.ones((1, 4, 4), bool), WatershedParameters(3, 1, 1, "section")) == 3).all()
    assert (height_map(np.zeros((1, 4, 4), bool), WatershedParameters(3, 1, 1, "section")) == NO_FRAGMENT).all()


def test_two_discs_that_touch_are_two_fragments() -> None:
    y, x = np.mgrid[:21, :40]
    discs = (y - 10) ** 2 + (x - 10) ** 2 <= 81, (y - 10) ** 2 + (x - 27) ** 2 <= 81
    ids = blockwise((discs[0] | discs[1])[None], (1, 21, 40), WatershedParameters(20, 1, 0, "section"))[0]
    assert [len(np.unique(ids[disc & (abs(x - 18.5) > 1)])) for disc in discs] == [1, 1]
    assert ids[10, 10] != ids[10, 27]
    assert ids.max() == 2


def test_a_membrane_is_shared_out_to_the_nearest_cell_up_to_expand_distance() -> None:
    row = np.array([[[1, 1, 0, 0, 0, 0, 1, 1]]], bool)
    assert blockwise(row, (1, 1, 8), WatershedParameters(2, 0, 1, "section")).tolist() == [[[1, 1, 1, 0, 0, 2, 2, 2]]]
    assert blockwise(row, (1, 1, 8), WatershedParameters(2, 0, 5, "section")).tolist() == [[[1, 1, 1, 1, 2, 2, 2, 2]]]


@pytest.mark.parametrize("block", [(1, 1, 7), (1, 1, 3)])
def test_the_middle_of_a_membrane_goes_to_the_side_with_the_higher_probability(block: Index) -> None:
    row, parameters = np.array([[[1, 1, 0, 0, 0, 1, 1]]], bool), WatershedParameters(2, 0, 5, "section")
    to_the_left = np.array([[[1, 1, 0.9, 0.5, 0.1, 1, 1]]], np.float32)
    assert blockwise(row, block, parameters, None, to_the_left).tolist() == [[[1, 1, 1, 1, 2, 2, 2]]]
    assert blockwise(row, block, parameters, None, to_the_left[..., ::-1]).tolist() == [[[1, 1, 1, 2, 2, 2, 2]]]


@pytest.mark.parametrize("block", [(1, 1, 9), (1, 1, 4)])
def test_a_faint_membrane_that_is_above_the_threshold_parts_two_fragments(block: Index) -> None:
    row = np.ones((1, 1, 9), bool)
    faint = np.array([[[2, 2, 1.8, 1.5, 1.1, 1.5, 1.8, 2, 2]]], np.float32)
    assert blockwise(row, block, WatershedParameters(4, 0, 1, "section"), None, faint).tolist() == [[[1] * 9]]
    certain = WatershedParameters(4, 0, 1, "section", confidence_weight=5)
    assert height_map(row, certain, faint).ravel().tolist() == pytest.approx([9, 9, 8, 6.5, 4.5, 6.5, 8, 9, 9])
    assert blockwise(row, block, certain, None, faint).tolist() == [[[1, 1, 1, 1, 1, 2, 2, 2, 2]]]


@settings(max_examples=60)
@given(cases())
def test_no_local_maximum_lies_in_the_background_for_any_confidence(
    case: tuple[np.ndarray, Index, WatershedParameters],
) -> None:
    foreground, _, parameters = case
    confidence_map = np.random.default_rng(1).integers(0, 2, foreground.shape).astype(np.float32) + foreground
    found = blockwise(foreground, foreground.shape, parameters, None, confidence_map)
    assert set(np.unique(found[found > 0])) == set(np.unique(found[foreground]))


@pytest.mark.parametrize("seed", range(3))
def test_a_voxel_beside_the_foreground_joins_what_is_straight_beside_it_however_high_the_rest(seed: int) -> None:
    """The distance alone decides in the background: a summit at a corner is farther than a slope beside the edge."""
    noise = np.random.default_rng(seed).random((1, 80, 80))
    cells = ndimage.gaussian_filter(noise, (0, 1.5, 1.5)) > 0.5
    sure = np.where(cells, 1 + np.random.default_rng(seed).random(cells.shape), 0).astype(np.float32)
    parameters = WatershedParameters(5, 0, 3, "section", confidence_weight=5)
    found = np.pad(blockwise(cells, cells.shape, parameters, None, sure)[0], 1)
    inside = np.pad(cells[0], 1)
    beside = np.stack([np.roll(np.where(inside, found, 0), step, axis) for axis in (0, 1) for step in (-1, 1)])
    at_edge = ~inside & beside.any(0)
    at_edge[[0, -1]] = at_edge[:, [0, -1]] = False
    assert at_edge.sum() > 500
    assert (beside == found).any(0)[at_edge].all()


def test_a_plateau_is_one_local_maximum_however_it_is_cut() -> None:
    wide = np.ones((1, 9, 30), bool)
    for block in [(1, 9, 30), (1, 4, 7)]:
        assert (blockwise(wide, block, WatershedParameters(2, 1, 1, "section")) == 1).all()


def test_a_local_maximum_at_a_face_of_the_volume_counts_like_any_other() -> None:
    row = np.array([[[1, 1, 1, 0, 0, 1, 1, 1, 1, 1]]], bool)
    height = height_map(row, WatershedParameters(9, 0, 1, "section"))[0, 0]
    assert (int(height.argmax()), height[0]) == (9, 3)  # what lies beyond the face is not taken for a membrane
    assert blockwise(row, (1, 1, 10), WatershedParameters(9, 0, 1, "section")).max() == 2


def test_sections_are_kept_apart_or_joined() -> None:
    column = np.ones((3, 2, 2), bool)
    assert np.unique(blockwise(column, (2, 2, 2), WatershedParameters(2, 0, 1, "section"))).tolist() == [1, 2, 3]
    assert np.unique(blockwise(column, (2, 2, 2), WatershedParameters(2, 0, 1, "volume"))).tolist() == [1]


@pytest.mark.parametrize("block", [(2, 40, 40), (1, 16, 23)])
def test_nothing_is_found_where_there_is_no_tissue(block: Index) -> None:
    foreground, tissue = blobs((2, 40, 40), 3), np.ones((2, 40, 40), bool)
    tissue[:, 10:25, :30] = False
    parameters = WatershedParameters(6, 1, 4, "section")
    found = blockwise(foreground, block, parameters, tissue)
    assert (found[~tissue] == 0).all()
    np.testing.assert_array_equal(found, blockwise(foreground, (2, 40, 40), parameters, tissue))


def test_links_are_steepest_and_a_saddle_that_is_level_with_nothing_higher_joins() -> None:
    height = np.full((1, 3, 7), NO_FRAGMENT, np.float32)
    height[0, 1] = [NO_FRAGMENT, 5, 3, 1, 2, 4, NO_FRAGMENT]
    assert label_basins(height, {1: 1, 2: 1}).tolist() == [[[1, 1, 1, 2, 2]]]  # 1 is linked to 3, not to 2
    height[0, 1] = [NO_FRAGMENT, 5, 5, 5, 5, 5, NO_FRAGMENT]
    assert label_basins(height, {1: 1, 2: 1}).tolist() == [[[1, 1, 1, 1, 1]]]


def test_a_step_on_a_slope_is_no_summit() -> None:
    """The first 2 has no higher neighbour, but one of its own height that leads on to 3."""
    height = np.pad(np.array([[[0, 1, 2, 2, 3, 0]]], np.float32), ((0, 0), (1, 1), (1, 1)), constant_values=NO_FRAGMENT)
    assert label_basins(height, {1: 1, 2: 1}).tolist() == [[[1, 1, 1, 1, 1, 1]]]


def test_the_slope_is_the_steeper_the_shorter_the_step() -> None:
    height = np.full((1, 5, 5), NO_FRAGMENT, np.float32)
    height[0, 2, 1:4] = [2, 0, 0]
    height[0, 1, 3] = 2.5  # at a corner: 2.5 / sqrt(2) is less than 2
    assert label_basins(height, {1: 1, 2: 1})[0].tolist() == [[0, 0, 1], [2, 2, 1], [0, 0, 0]]
    height[0, 1, 3] = 3
    assert label_basins(height, {1: 1, 2: 1})[0].tolist() == [[0, 0, 1], [2, 1, 1], [0, 0, 0]]


@given(st.integers(0, 9999), st.sampled_from([{1: 1, 2: 1}, {0: 1, 1: 1, 2: 1}, {0: 6.5, 1: 1, 2: 1}]))
def test_links_are_those_of_all_neighbours_looked_at_one_by_one(seed: int, edges: dict[int, float]) -> None:
    height = np.random.default_rng(seed).random((4, 6, 7)).astype(np.float32)  # no two alike
    labels, core = (
        label_basins(height, edges),
        tuple(slice(1, -1) if axis in edges else slice(None) for axis in range(3)),
    )
    root = {}
    for voxel in product(*(range(n)[part] for n, part in zip(height.shape, core, strict=True))):
        way = [voxel]
        while True:
            above = max(beside(way[-1], height.shape, edges), key=lambda there: slope(height, way[-1], there, edges))
            inner = all(
                1 <= i < n - 1 for axis, (i, n) in enumerate(zip(above, height.shape, strict=True)) if axis in edges
            )
            if height[above] <= height[way[-1]] or not inner:
                break
            way.append(above)
        root[voxel] = way[-1]
    tops = sorted(set(root.values()))
    for voxel, top in root.items():
        inside = tuple(i - (axis in edges) for axis, i in enumerate(voxel))
        assert labels[inside] == tops.index(top) + 1


def beside(voxel: Index, shape: Index, edges: dict[int, float]) -> list[Index]:
    """Return the neighbours of a voxel in an array."""
    around = product(*((-1, 0, 1) if axis in edges else (0,) for axis in range(3)))
    found = [tuple(i + by for i, by in zip(voxel, shift, strict=True)) for shift in around if any(shift)]
    return [there for there in found if all(0 <= i < n for i, n in zip(there, shape, strict=True))]


def slope(height: np.ndarray, here: Index, there: Index, edges: dict[int, float]) -> float:
    """Return the slope of the step from one voxel to another."""
    steps = [(a - b) * edges.get(axis, 0) for axis, (a, b) in enumerate(zip(here, there, strict=True))]
    return float((height[there] - height[here]) / np.linalg.norm(steps))


def test_an_array_of_the_wrong_shape_is_refused() -> None:
    box = Box((0, 0, 0), (1, 4, 4))
    with pytest.raises(ValueError, match=r"shape \(1, 4, 4\) for 0:1,0:12,0:12, to be read for block 0:1,0:4,0:4"):
        watershed_block(np.ones((1, 4, 4), bool), box, (1, 12, 12), WatershedParameters(3, 0, 1, "section"))


def test_a_block_has_hardly_more_fragments_than_there_are_basins_in_it() -> None:
    foreground, parameters = blobs((40, 60, 60), 5, 0.7), WatershedParameters(6, 1, 4, "volume")
    whole = blockwise(foreground, foreground.shape, parameters)
    box = Box((16, 20, 20), (32, 40, 40))
    found = watershed_block(
        foreground[labelled_and_read_boxes(box, whole.shape, parameters)[1].slices], box, whole.shape, parameters
    )
    assert len(found) < 3 * len(np.unique(whole[box.slices]))


@pytest.mark.parametrize("connectivity", ["section", "volume"])
def test_annotated_membranes_in_odd_blocks_equal_the_whole_volume(connectivity: Connectivity, em_data: Path) -> None:
    interior = tifffile.imread(em_data / "isbi2012" / "train-labels.tif")[:4, :300, :300] == 255
    parameters = WatershedParameters(10, 2, 6, connectivity, (50.0, 4.0, 4.0))
    whole = blockwise(interior, interior.shape, parameters)
    np.testing.assert_array_equal(blockwise(interior, (3, 77, 101), parameters), whole)
    assert whole.max() > 30


@pytest.mark.parametrize("connectivity", ["section", "volume"])
def test_fragments_of_grey_values_in_odd_blocks_equal_the_whole_volume(
    connectivity: Connectivity, em_data: Path
) -> None:
    grey = tifffile.imread(em_data / "isbi2012" / "train-volume.tif")[:3, :200, :200]
    parameters = WatershedParameters(4, 1, 6, connectivity, (50.0, 4.0, 4.0), confidence_weight=5)
    interior, confidence_map = foreground(grey, 0.4), confidence(grey, 0.4)
    whole = blockwise(interior, interior.shape, parameters, None, confidence_map)
    np.testing.assert_array_equal(blockwise(interior, (2, 77, 61), parameters, None, confidence_map), whole)
    assert whole.max() > 100


def test_the_picture_of_the_module() -> None:
    row = np.array([[[1, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0]]], bool)
    parameters = WatershedParameters(2, 0, 3, "section")
    heights = [2, 2, 2, 1, -1, -1, 1, 2, 1, -1, -2, -3, -np.inf, -np.inf]
    assert height_map(row, parameters).ravel().tolist() == heights
    assert blockwise(row, (1, 1, 5), parameters).ravel().tolist() == [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 0, 0]
