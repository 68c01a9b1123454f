"""Skeletons: of shapes whose medial axis is known, over blocks, and as other programs read them."""

import numpy as np
import pytest

from unet.evaluation.skeletons import read_skeletons
from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.measurement.skeleton_files import write_neuroglancer_info, write_skeleton
from unet.measurement.skeletons import Skeleton, factors_for, object_mask, skeleton_of_mask, tree_of

CUBE = Box((0, 0, 0), (2, 7, 9))


def tube() -> np.ndarray:
    """A rod of 5 x 5 x 60 voxels along x, with a branch of 30 voxels along y."""
    mask = np.zeros((7, 40, 62), bool)
    mask[1:6, 1:6, 1:61] = True
    mask[1:6, 6:36, 28:33] = True
    return mask


def test_the_skeleton_of_a_branched_rod_is_as_long_as_its_branches() -> None:
    pytest.importorskip("bioimage_cpp")
    skeleton = skeleton_of_mask(tube(), (8, 8, 8), scale=1.5, radius_nm=40)
    degree = skeleton.degree
    assert ((degree == 1).sum(), (degree == 3).sum(), (skeleton.parent < 0).sum()) == (3, 1, 1)
    assert skeleton.length_nm == pytest.approx((60 + 30) * 8, rel=0.15)
    assert abs(np.median(skeleton.nodes[:, 0]) - 3 * 8) < 8
    assert (skeleton.parent < np.arange(len(skeleton.nodes))).all()


def test_an_object_is_gathered_from_all_its_blocks() -> None:
    ids = np.random.default_rng(0).integers(0, 3, (5, 9, 11)).astype(np.uint32)
    box = Box((1, 2, 3), (5, 9, 10))
    mask = object_mask(2, box, Grid(ids.shape, (2, 4, 3)), lambda part: ids[part.slices], (1, 1, 1))
    np.testing.assert_array_equal(mask, ids[box.slices] == 2)


def test_a_voxel_of_several_is_of_the_object_if_one_of_them_is() -> None:
    ids = np.zeros((2, 7, 9), np.uint32)
    ids[1, 6, 8] = ids[0, 2, 3] = 4
    mask = object_mask(4, CUBE, Grid(ids.shape, (1, 3, 4)), lambda part: ids[part.slices], (1, 2, 2))
    assert mask.shape == (2, 4, 5)
    assert np.argwhere(mask).tolist() == [[0, 1, 1], [1, 3, 4]]


def test_the_finest_axis_is_down_sampled_first() -> None:
    assert factors_for(Box((0, 0, 0), (8, 64, 64)), (8, 8, 8), 10**6) == (1, 1, 1)
    assert factors_for(Box((0, 0, 0), (8, 64, 64)), (32, 8, 8), 8 * 16 * 16) == (1, 4, 4)


def test_trees_have_no_loops_and_every_node() -> None:
    """A square with a diagonal, and a node alone."""
    nodes = np.array([[0, 0, 0], [0, 0, 2], [0, 2, 2], [0, 2, 0], [9, 9, 9]], float)
    edges = np.array([[0, 1], [1, 2], [2, 3], [3, 0], [0, 2]])
    tree = tree_of(nodes, edges, np.arange(5.0))
    assert len(tree.edges) == 3
    assert tree.length_nm == 6
    assert sorted(map(tuple, tree.nodes.tolist())) == sorted(map(tuple, nodes.tolist()))
    assert (tree.parent < 0).sum() == 2


def test_files_are_read_as_they_were_written(tmp_path) -> None:
    skeleton = Skeleton(
        np.array([[40, 8, 1000.0], [40, 16, 1000], [80, 16, 1000]]), np.full(3, 20.0), np.array([-1, 0, 0])
    )
    swc, precomputed = write_skeleton(tmp_path, 5, skeleton)
    found = read_skeletons(swc, unit_nm=1000)
    np.testing.assert_allclose(found.node_nm, skeleton.nodes, rtol=1e-6)
    assert sorted(map(sorted, found.edges.tolist())) == [[0, 1], [0, 2]]
    content = precomputed.read_bytes()
    assert np.frombuffer(content[:8], "<u4").tolist() == [3, 2]
    np.testing.assert_array_equal(np.frombuffer(content[8:44], "<f4").reshape(3, 3), skeleton.nodes[:, ::-1])
    assert np.frombuffer(content[44:60], "<u4").tolist() == [1, 0, 2, 0]
    assert np.frombuffer(content[60:], "<f4").tolist() == [20, 20, 20]
    assert write_neuroglancer_info(tmp_path).parent == precomputed.parent
