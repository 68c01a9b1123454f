"""Blockwise components against whole-volume labelling, exactly and number for number."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tests.unit.segmentation.in_parts import NUMBERED, merged_in_parts
from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid
from unet.geometry.part_tree import tree_of_parts
from unet.geometry.run_length_encoding import run_length_encode
from unet.segmentation.components import BlockComponents, Connectivity, label_block
from unet.segmentation.fragments import (
    Fragments,
    connected_component_labels,
    face_pairs,
    join_blocks,
    load_block_table,
    save_block_table,
)
from unet.segmentation.merge_table import (
    FILES,
    MergeTable,
    ObjectTable,
    load_merge_table,
    number_objects,
    relabel,
    save_merge_table,
)
from unet.storage.files import DamagedFileError, save_arrays

CONNECTIVITIES: list[Connectivity] = ["section", "volume"]


def whole_volume(values: np.ndarray, connectivity: Connectivity) -> np.ndarray:
    """Oracle: scipy on the whole volume, a class at a time, renumbered by first voxel."""
    structure = ndimage.generate_binary_structure(3, 1)
    if connectivity == "section":
        structure[[0, 2]] = False
    classes = values.astype(np.uint8)
    found, total = np.zeros(values.shape, np.int64), 0
    for value in set(np.unique(classes)) - {0, 255}:
        labels, count = ndimage.label(classes == value, structure)
        found[labels > 0] = labels[labels > 0] + total
        total += count
    ids, first = np.unique(found, return_index=True)
    rank = np.zeros(total + 1, np.int64)
    foreground = ids > 0
    rank[ids[foreground][np.argsort(first[foreground])]] = 1 + np.arange(foreground.sum())
    return rank[found]


def label_blocks(values: np.ndarray, grid: Grid, connectivity: Connectivity) -> list[BlockComponents]:
    return [label_block(values[box.slices], box, grid.shape, connectivity) for box in grid.boxes()]


def assemble(blocks: list[BlockComponents], table: MergeTable, shape: Index) -> np.ndarray:
    out = np.zeros(shape, table.lut.dtype)
    for i, block in enumerate(blocks):
        out[block.box.slices] = relabel(block.labels, table.lut_of_block(i))
    return out


def merge_blocks(grid: Grid, blocks: list[BlockComponents], **options: int) -> MergeTable:
    """The merge table of touching fragments, made layer by layer; check that it equals one solve over all."""
    tree = tree_of_parts(grid.counts[0], 1, 2)
    table, live = merged_in_parts(grid, tree, {block.box: block for block in blocks}.__getitem__, **options)
    fragments = join_blocks(grid, blocks)
    expected = number_objects(fragments, np.arange(fragments.component_count, dtype=np.int32), **options)
    for name in (*NUMBERED[1:], "offsets"):
        np.testing.assert_array_equal(getattr(table, name), getattr(expected, name), strict=True)
    there = fragments.size > 0  # those of a watershed may have all their voxels beyond their block's face
    np.testing.assert_array_equal(table.lut[there], expected.lut[there], strict=True)
    assert live[-1].components == fragments.component_count
    return table


def save(folder: Path, table: MergeTable) -> str:
    return save_merge_table(folder, table.offsets, table.first_id, table.objects, [table])


def blockwise(values: np.ndarray, block: Index, connectivity: Connectivity, **options: int) -> np.ndarray:
    grid = Grid(values.shape, block)
    blocks = label_blocks(values, grid, connectivity)
    return assemble(blocks, merge_blocks(grid, blocks, **options), values.shape)


def merge(blocks: list[tuple[np.ndarray, np.ndarray]], pairs: list[tuple[int, int]], **options: int) -> MergeTable:
    """Return the merge table of fragments with these first voxels and sizes; the fragments of a pair are one object."""
    offsets = np.cumsum([0] + [len(first) for first, _ in blocks])
    first, size = (np.concatenate([np.empty(0, np.int64), *column]) for column in zip(*blocks, strict=True))
    one, no = np.ones(len(first), np.uint8), np.zeros(len(first), bool)
    component_of = connected_component_labels(len(first), np.array(pairs, np.int64).reshape(-1, 2))
    fragments = Fragments(offsets, first, size, one, no, component_of)
    return number_objects(fragments, np.arange(fragments.component_count, dtype=np.int32), **options)


@st.composite
def volumes_and_blocks(draw: st.DrawFn) -> tuple[np.ndarray, Index]:
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 14), st.integers(1, 14)))
    block = draw(st.tuples(st.integers(1, 6), st.integers(1, 15), st.integers(1, 15)))
    density = draw(st.floats(0, 1))
    highest = draw(st.sampled_from([1, 2, 3, 255]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = np.where(random.random(shape) < density, random.integers(1, highest + 1, shape), 0)
    return (values > 0 if highest == 1 else values.astype(np.uint8)), block


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@settings(deadline=None, max_examples=150)
@given(volumes_and_blocks(), st.sampled_from([0, 2, 5]))
def test_blocks_give_the_whole_volume_answer_number_for_number(
    connectivity: Connectivity, case: tuple[np.ndarray, Index], min_size: int
) -> None:
    values, block = case
    expected = whole_volume(values, connectivity)
    large = np.bincount(expected.ravel()) >= max(min_size, 1)
    large[0] = False
    expected = (np.cumsum(large) * large)[expected]
    assert np.array_equal(blockwise(values, block, connectivity, min_size=min_size), expected)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_a_spiral_through_every_block_is_one_object(connectivity: Connectivity) -> None:
    spiral = np.zeros((1, 11, 11), bool)
    y, x, dy, dx = 0, 0, 0, 1
    for length in (11, 10, 10, 8, 8, 6, 6, 4, 4, 2, 2):  # arms with a gap of one voxel between them
        for _ in range(length):
            spiral[0, y, x] = True
            y, x = y + dy, x + dx
        y, x, dy, dx = y - dy + dx, x - dx - dy, dx, -dy
    ids = blockwise(spiral, (1, 3, 2), connectivity)
    assert np.array_equal(ids, whole_volume(spiral, connectivity))
    assert ids.max() == 1


def test_a_column_is_one_object_in_the_volume_and_one_a_section() -> None:
    column = np.ones((4, 1, 1), bool)
    assert blockwise(column, (3, 1, 1), "volume").ravel().tolist() == [1, 1, 1, 1]
    assert blockwise(column, (3, 1, 1), "section").ravel().tolist() == [1, 2, 3, 4]


def test_two_by_two_worked_by_hand() -> None:
    # . X     cut between the columns: block 0 holds the lower left voxel (index 2 of the volume),
    # X X     block 1 the right column (index 1); they touch in the lower row.
    values = np.array([[[0, 1], [1, 1]]], bool)
    left, right = label_blocks(values, Grid((1, 2, 2), (1, 2, 1)), "section")
    assert (left.first_voxel.tolist(), left.size.tolist()) == ([2], [1])
    assert (right.first_voxel.tolist(), right.size.tolist()) == ([1], [2])
    pairs = face_pairs(left.faces[2][1], right.faces[2][0], left.class_value, right.class_value)
    assert pairs.tolist() == [[1, 1]]
    table = merge([(left.first_voxel, left.size), (right.first_voxel, right.size)], [(0, 1)])
    assert (table.lut.tolist(), table.offsets.tolist()) == ([1, 1], [0, 1, 2])
    assert (table.first_voxel.tolist(), table.sizes.tolist()) == ([1], [3])
    assert relabel(left.labels, table.lut_of_block(0)).tolist() == [[[0], [1]]]


def test_different_classes_that_touch_do_not_join_inside_or_across_a_face() -> None:
    values = np.array([[[5, 5, 7, 7], [5, 7, 7, 5]]], np.uint8)
    expected = [[[1, 1, 2, 2], [1, 2, 2, 3]]]
    for block in [(1, 2, 4), (1, 2, 2), (1, 1, 1)]:
        assert blockwise(values, block, "section").tolist() == expected


def test_unlabelled_voxels_are_background() -> None:
    values = np.array([[[1, 255, 1, 0, 1]]], np.uint8)
    assert blockwise(values, (1, 1, 2), "section").tolist() == [[[1, 0, 2, 0, 3]]]


def test_small_objects_are_dropped_by_their_whole_size_and_leave_no_gap() -> None:
    values = np.array([[[1, 0, 1, 1, 1, 0, 1, 1]]], bool)
    for block in [(1, 1, 8), (1, 1, 3), (1, 1, 1)]:
        ids = blockwise(values, block, "section", min_size=2)
        assert ids.tolist() == [[[0, 0, 1, 1, 1, 0, 2, 2]]]


def test_small_objects_that_cross_layers_of_blocks_are_dropped_too() -> None:
    """Columns of 3 and of 2 voxels through the layers; the second is too small, and leaves no gap."""
    values = np.zeros((4, 1, 5), bool)
    values[1:3, 0, 0] = values[0:3, 0, 2] = values[1:4, 0, 4] = True
    ids = blockwise(values, (1, 1, 5), "volume", min_size=3)
    assert ids[:, 0].tolist() == [[0, 0, 1, 0, 0], [0, 0, 1, 0, 2], [0, 0, 1, 0, 2], [0, 0, 0, 0, 2]]


@pytest.mark.parametrize(("block", "held"), [((4, 1, 2), 0), ((2, 1, 2), 2)])
def test_only_what_may_go_on_in_another_layer_is_held_for_the_whole_volume(block: Index, held: int) -> None:
    """A column through both layers counts in each; faces of the volume lead nowhere."""
    values = np.zeros((4, 1, 2), bool)
    values[:, 0, 0] = values[0, 0, 1] = values[3, 0, 1] = True
    grid = Grid(values.shape, block)
    tables = {one.box: one for one in label_blocks(values, grid, "volume")}
    table, live = merged_in_parts(grid, tree_of_parts(grid.counts[0], 1), tables.__getitem__)
    assert (sum(len(part.nodes) for part in live), table.objects) == (held, 1)


def test_ids_beyond_32_bits_are_kept_whole() -> None:
    values = np.array([[[1, 0, 1, 1, 0, 1]]], bool)
    ids = blockwise(values, (1, 1, 3), "section", first_id=2**40)
    first = 2**40
    assert ids.dtype == np.uint64
    assert ids.ravel().tolist() == [first, 0, first + 1, first + 1, 0, first + 2]


@pytest.mark.parametrize(
    ("first_id", "dtype"), [(2**32 - 2, np.uint32), (2**32 - 1, np.uint64), (2**64 - 2, np.uint64)]
)
def test_ids_take_32_bits_where_the_largest_fits(first_id: int, dtype: type) -> None:
    two = (np.array([0, 2]), np.array([1, 1]))
    table = merge([two], [], first_id=first_id)
    assert table.lut.dtype == dtype
    assert table.lut.tolist() == [first_id, first_id + 1]


@pytest.mark.parametrize("first_id", [0, 2**64 - 1])
def test_ids_that_cannot_be_are_refused(first_id: int) -> None:
    with pytest.raises(ValueError, match="not within 1 to 2\\^64 - 1"):
        merge([(np.array([0, 2]), np.array([1, 1]))], [], first_id=first_id)


def test_first_voxels_beyond_32_bits_are_counted_in_the_whole_volume() -> None:
    shape = (10_000, 100_000, 100_000)  # 10^14 voxels
    box = Box((9_999, 99_998, 99_998), (10_000, 100_000, 100_000))
    found = label_block(np.array([[[False, True], [True, False]]]), box, shape, "volume")
    assert found.first_voxel.tolist() == [10**14 - 100_001, 10**14 - 2]


def test_nothing_at_all_gives_an_empty_table() -> None:
    grid = Grid((2, 4, 4), (1, 2, 2))
    blocks = label_blocks(np.zeros(grid.shape, bool), grid, "volume")
    table = merge_blocks(grid, blocks)
    assert (table.objects, len(table.lut)) == (0, 0)
    assert not assemble(blocks, table, grid.shape).any()


@pytest.mark.parametrize("block", [(1, 512, 512), (5, 100, 333), (3, 201, 77)])
@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_annotated_cells_in_odd_blocks_equal_the_whole_volume(
    connectivity: Connectivity, block: Index, em_data: Path
) -> None:
    interior = tifffile.imread(em_data / "isbi2012" / "train-labels.tif")[:7] == 255
    assert np.array_equal(blockwise(interior, block, connectivity), whole_volume(interior, connectivity))


def test_tables_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    values = (np.random.default_rng(0).random((4, 9, 9)) * 4).astype(np.uint8)
    grid = Grid(values.shape, (2, 5, 4))
    blocks = label_blocks(values, grid, "volume")
    for i, block in enumerate(blocks):
        save_block_table(tmp_path / f"{i}.npz", block)
    loaded = [load_block_table(tmp_path / f"{i}.npz") for i in range(len(grid))]
    save(tmp_path / "merge", merge_blocks(grid, loaded, first_id=2**40))
    table = load_merge_table(tmp_path / "merge")
    expected = whole_volume(values, "volume")
    assert np.array_equal(assemble(blocks, table, grid.shape), np.where(expected, expected + 2**40 - 1, 0))
    assert table.sizes.tolist() == np.bincount(expected.ravel())[1:].tolist()
    assert (table.first_id, table.objects) == (2**40, expected.max())
    assert sorted(path.suffix for path in tmp_path.iterdir()) == ["", *[".npz"] * len(grid)]


def test_a_table_in_pieces_is_the_whole_one_with_the_same_bytes(tmp_path: Path) -> None:
    table = merge([(np.array([0, 4]), np.array([1, 2])), (np.array([2]), np.array([1]))], [(1, 2)])
    pieces = [
        ObjectTable(table.lut[:1], *(column[:1] for column in (table.first_voxel, table.sizes, table.class_values)))
    ]
    pieces += [
        ObjectTable(table.lut[1:], *(column[1:] for column in (table.first_voxel, table.sizes, table.class_values)))
    ]
    digests = {save(tmp_path / "whole", table)}
    digests |= {save_merge_table(tmp_path / "parts", table.offsets, 1, table.objects, pieces)}
    assert len(digests) == 1
    files = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "parts").iterdir()}
    assert len(files) == len(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_table_whose_bits_changed_is_refused(tmp_path: Path, name: str) -> None:
    """A row of the merge table that has become another one would give voxels to another object."""
    table = merge([(np.array([0, 4]), np.array([1, 2])), (np.array([2]), np.array([1]))], [(1, 2)])
    save(tmp_path / "merge", table)
    path = tmp_path / "merge" / name
    content, mapped = path.read_bytes(), load_merge_table(tmp_path / "merge", checked=[])
    for at in (9, len(content) // 2, len(content) - 3):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(DamagedFileError, match=rf"{name}: is damaged.* remove .*merge and run again"):
            load_merge_table(tmp_path / "merge")
        if name == "lut.npy":
            with pytest.raises(DamagedFileError, match="lut"):
                mapped.lut_of_block(0)


@pytest.mark.parametrize("wrong", [[], [1], [1, 1, 1]], ids=["none", "too few", "too many"])
def test_pieces_that_are_not_the_whole_table_leave_the_old_one_and_no_litter(tmp_path: Path, wrong: list[int]) -> None:
    table = merge([(np.array([0]), np.array([1])), (np.array([2]), np.array([3]))], [])
    save(tmp_path / "merge", table)
    piece = ObjectTable(table.lut[:1], table.first_voxel[:1], table.sizes[:1], table.class_values[:1])
    with pytest.raises(ValueError, match=r"rows are missing|are left to write"):
        save_merge_table(tmp_path / "merge", table.offsets, 1, table.objects, [piece for _ in wrong])
    assert [path.name for path in tmp_path.iterdir()] == ["merge"]
    assert load_merge_table(tmp_path / "merge").objects == 2


def test_a_full_disk_leaves_the_old_table_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file, array, **how):  # type: ignore[no-untyped-def]
        file.write(b"half")
        raise OSError("No space left on device")

    box = Box((0, 0, 0), (1, 2, 2))
    block = label_block(np.ones((1, 2, 2), bool), box, (1, 2, 2), "section")
    save_block_table(tmp_path / "0.npz", block)
    monkeypatch.setattr("unet.storage.files.np.lib.format.write_array", full)
    with pytest.raises(OSError, match="No space"):
        save_block_table(tmp_path / "0.npz", block)
    assert [path.name for path in tmp_path.iterdir()] == ["0.npz"]
    assert len(load_block_table(tmp_path / "0.npz")) == 1


def test_the_wrong_file_is_named(tmp_path: Path) -> None:
    save_arrays(tmp_path / "a.npz", {"first_voxel": np.zeros(1)})
    with pytest.raises(ValueError, match=r"a\.npz holds no box, class_value, size, touches_border"):
        load_block_table(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="merge is not there: no merge table"):
        load_merge_table(tmp_path / "merge")


def test_a_missing_or_misplaced_table_is_refused() -> None:
    grid = Grid((1, 2, 4), (1, 2, 2))
    blocks = label_blocks(np.ones(grid.shape, bool), grid, "section")
    with pytest.raises(ValueError, match="shorter"):
        join_blocks(grid, blocks[:1])
    with pytest.raises(ValueError, match="found the table of block 0:1,0:2,2:4, but expected block 0:1,0:2,0:2"):
        join_blocks(grid, blocks[::-1])


def test_labels_and_table_of_different_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="local label 3 but 1 fragments"):
        relabel(np.array([0, 3], np.uint32), np.array([0, 1], np.uint32))


def test_a_block_that_does_not_fit_is_refused() -> None:
    box, shape = Box((0, 0, 0), (1, 2, 2)), (1, 4, 4)
    with pytest.raises(ValueError, match="shape \\(1, 2, 3\\)"):
        label_block(np.ones((1, 2, 3), bool), box, shape, "section")
    with pytest.raises(ValueError, match="not inside"):
        label_block(np.ones((1, 2, 2), bool), box.shifted((0, 3, 0)), shape, "section")
    with pytest.raises(TypeError, match="float64"):
        label_block(np.ones((1, 2, 2)), box, shape, "section")
    with pytest.raises(ValueError, match="'plane' is not one of section, volume"):
        label_block(np.ones((1, 2, 2), bool), box, shape, "plane")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="differ: 4 and 6 voxels"):
        face_pairs(
            run_length_encode(np.ones((2, 2), np.uint32)),
            run_length_encode(np.ones((2, 3), np.uint32)),
            np.ones(1),
            np.ones(1),
        )


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@settings(deadline=None, max_examples=50)
@given(volumes_and_blocks())
def test_pieces_of_the_background_are_fragments_where_asked_for_and_never_objects(
    connectivity: Connectivity, case: tuple[np.ndarray, Index]
) -> None:
    values, block = case
    grid = Grid(values.shape, block)
    blocks = [label_block(values[box.slices], box, grid.shape, connectivity, background=True) for box in grid.boxes()]
    assert all(block.labels.all() for block in blocks)
    assert np.array_equal(assemble(blocks, merge_blocks(grid, blocks), grid.shape), whole_volume(values, connectivity))


def test_fragments_that_touch_the_border_of_the_volume_are_marked() -> None:
    values = np.array([[[1, 1, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]]], bool)
    found = label_block(values, Box((0, 0, 0), (1, 4, 4)), (1, 4, 8), "section")
    assert found.touches_border.tolist() == [True, False, False]
    assert label_block(values, Box((0, 0, 4), (1, 4, 8)), (1, 4, 8), "section").touches_border.tolist() == [
        True,
        True,
        False,
    ]
    assert label_block(values, Box((0, 0, 0), (1, 4, 4)), (1, 4, 8), "volume").touches_border.all()
