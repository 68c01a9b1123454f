"""Objects with background between them: no two share a face, nothing else is taken, and the same for any blocks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid
from unet.segmentation.separation import separate_objects, separation_read_box

SECTION = np.array([False, True, False])[:, None, None]
"""Neighbours within a section."""


def separated(ids: NDArray[np.uint32], axes: tuple[int, ...], block: Index) -> NDArray[np.uint32]:
    """The whole volume, block by block."""
    result = np.full(ids.shape, 99, ids.dtype)
    for box in Grid(ids.shape, block).boxes():
        read = separation_read_box(box, axes, ids.shape)
        result[box.slices] = separate_objects(ids[read.slices], read, box, axes)
    return result


def touching(ids: NDArray[np.uint32], axes: tuple[int, ...]) -> NDArray[np.bool_]:
    """Voxels with another object beside them, that is with a face in common."""
    found = np.zeros(ids.shape, bool)
    for axis in axes:
        for step in (-1, 1):
            beside = ndimage.shift(ids, [step * (a == axis) for a in range(3)], order=0, mode="constant")
            found |= (ids > 0) & (beside > 0) & (beside != ids)
    return found


@pytest.mark.parametrize("axes", [(1, 2), (0, 1, 2)])
@given(st.integers(0, 9999), st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)))
def test_no_two_objects_touch_whatever_the_blocks(axes: tuple[int, ...], seed: int, block: Index) -> None:
    random = np.random.default_rng(seed)
    ids = random.integers(0, 4, (4, 3, 3)).astype(np.uint32).repeat(2, 1).repeat(2, 2)
    found = separated(ids, axes, block)
    assert not touching(found, axes).any()
    of, neighbours = (
        found[found.nonzero()],
        ndimage.generate_binary_structure(3, 1) & (SECTION if len(axes) < 3 else True),
    )
    pieces = ndimage.label(found, neighbours)[0][found.nonzero()]
    assert len(np.unique(np.stack([of, pieces]), axis=1).T) == len(np.unique(pieces))  # each piece is of one object
    changed = found != ids
    assert not found[changed].any()
    assert not (changed & ~touching(ids, axes)).any()
    np.testing.assert_array_equal(found, separated(ids, axes, ids.shape))


def test_the_gap_along_a_face_is_one_voxel_wide() -> None:
    ids = np.ones((4, 4, 6), np.uint32)
    ids[:, :, 3:] = 2
    expected = ids.copy()
    expected[:, :, 2] = 0
    np.testing.assert_array_equal(separated(ids, (0, 1, 2), (2, 4, 3)), expected)
    corner = np.array([[1, 1, 2], [1, 1, 2], [3, 3, 3]], np.uint32)[None]
    assert separated(corner, (1, 2), (1, 2, 2))[0].tolist() == [[1, 0, 2], [0, 0, 0], [3, 3, 3]]
    sections = np.array([1, 1, 2, 2], np.uint32)[:, None, None] * np.ones((1, 3, 3), np.uint32)
    np.testing.assert_array_equal(separated(sections, (1, 2), (1, 2, 2)), sections)
    assert (separated(sections, (0, 1, 2), (1, 2, 2))[:, 0, 0] == [1, 0, 2, 2]).all()
    assert Box.of_shape(ids.shape) == separation_read_box(Box.of_shape(ids.shape), (0, 1, 2), ids.shape)
