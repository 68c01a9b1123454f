"""Targets of affinities: by hand, against a loop over pairs, and equal to the whole volume's at every face."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet.geometry.box import Box
from unet.geometry.mirroring import mirrored_indices
from unet.training.affinities import AffinityTargets, mirror_images

UNKNOWN = 2**32 - 1
OFFSETS = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 3), (1, -2, 0))


def row(*ids: int) -> np.ndarray:
    return np.array([[ids]], np.uint32)


def padded(ids: np.ndarray, margin: tuple[int, ...]) -> np.ndarray:
    """Nothing beyond the volume is annotated."""
    return np.pad(ids, [(m, m) for m in margin], constant_values=UNKNOWN)


def whole(ids: np.ndarray, pairs: AffinityTargets) -> np.ndarray:
    return pairs.pairs(padded(ids, pairs.margin))


@pytest.mark.parametrize(
    ("ids", "offset", "erode", "expected"),
    [
        (row(5, 5, 7, 7), 1, 0, [1, 0, 1, 255]),
        (row(5, 5, 7, 7), 1, 1, [0, 0, 0, 255]),  # the two voxels in the middle are border
        (row(5, 5, 5, 7), 1, 1, [1, 0, 0, 255]),
        (row(5, 5, 0, 0), 1, 1, [1, 0, 0, 255]),  # the background erodes nothing, and is no object
        (row(5, UNKNOWN, 7, 7), 1, 1, [255, 255, 1, 255]),  # nor does what nobody annotated
        (row(5, 5, 7, 5), 3, 1, [1, 255, 255, 255]),  # longer offsets are not eroded
        (row(5, 5, 5, 7), 2, 1, [1, 0, 255, 255]),
    ],
)
def test_four_voxels_by_hand(ids: np.ndarray, offset: int, erode: int, expected: list[int]) -> None:
    assert whole(ids, AffinityTargets(((0, 0, offset),), erode))[0, 0, 0].tolist() == expected


def test_labels_are_eroded_across_sections_only_for_isotropic_voxels() -> None:
    column = np.array([5, 5, 7, 7], np.uint32)[:, None, None]
    for z_nm, expected in ((8, [0, 0, 0, 255]), (40, [1, 0, 1, 255])):
        pairs = AffinityTargets.of([(1, 0, 0)], 1, 3, (z_nm, 8, 8))
        assert whole(column, pairs)[0, :, 0, 0].tolist() == expected


def by_loop(ids: np.ndarray, offset: tuple[int, ...]) -> np.ndarray:
    """Without erosion, pair by pair."""
    found = np.full(ids.shape, 255, np.uint8)
    for p in np.ndindex(ids.shape):
        q = tuple(np.add(p, offset))
        if all(0 <= i < n for i, n in zip(q, ids.shape, strict=True)) and UNKNOWN not in (ids[p], ids[q]):
            found[p] = ids[p] == ids[q] > 0
    return found


def volumes(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.tuples(*[st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)]))
    seed = draw(st.integers(0, 2**32 - 1))
    return np.random.default_rng(seed).choice(np.array([0, 3, 4, UNKNOWN], np.uint32), shape, p=[0.2, 0.4, 0.3, 0.1])


@settings(max_examples=30, deadline=None)
@given(st.composite(volumes)())
def test_targets_are_those_of_a_loop_over_pairs(ids: np.ndarray) -> None:
    found = whole(ids, AffinityTargets(OFFSETS, erode_labels=0))
    for offset, channel in zip(OFFSETS, found, strict=True):
        np.testing.assert_array_equal(channel, by_loop(ids, offset))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_box_of_mirrored_ids_equals_the_whole_volume_at_every_face(data: st.DataObject) -> None:
    """Within the volume; beyond it, pairs count only within one mirror image."""
    ids = data.draw(st.composite(volumes)())
    axes = data.draw(st.sampled_from([(1, 2), (0, 1, 2)]))
    pairs = AffinityTargets(OFFSETS, data.draw(st.integers(0, 2)), axes)
    start = tuple(data.draw(st.integers(0, n - 1)) for n in ids.shape)
    box = Box(start, tuple(data.draw(st.integers(lo + 1, n)) for lo, n in zip(start, ids.shape, strict=True)))
    window = box.grown(pairs.margin)
    indices = [mirrored_indices(lo, hi, n) for lo, hi, n in zip(window.start, window.stop, ids.shape, strict=True)]
    found = pairs.pairs(ids[np.ix_(*indices)], mirror_images(window, ids.shape))
    np.testing.assert_array_equal(found, whole(ids, pairs)[:, *box.slices])


def test_a_pair_has_the_mean_weight_of_its_voxels() -> None:
    weights = np.pad(np.array([[[1.0, 3.0, 5.0, 7.0]]], np.float32), [(0, 0), (0, 0), (2, 2)])
    found = AffinityTargets(((0, 0, 2),)).pair_weights(weights)
    assert found[0, 0, 0].tolist() == [3, 5, 2.5, 3.5]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_each_mirror_image_holds_no_voxel_twice(n: int) -> None:
    lo, hi = -3 * n, 4 * n
    images, indices = mirror_images(Box((0, 0, lo), (1, 1, hi)), (1, 1, n)), mirrored_indices(lo, hi, n)
    assert images is not None
    for number in np.unique(images):
        inside = indices[images[0, 0] == number]
        assert len(set(inside.tolist())) == len(inside)
    assert (images[0, 0, -lo : -lo + n] == 0).all()
    assert np.count_nonzero(images == 0) == n
