"""Sums over objects: against scikit-image on the whole volume, and the same for any blocks."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import regionprops

from unet.geometry.box import Box
from unet.measurement.block_measures import Measures, measure_block, read_ahead, sum_of_overlaps
from unet.measurement.contacts import Contacts, block_contacts, sum_of_contacts, surface_faces
from unet.measurement.object_sums import ObjectSums, object_sums, sum_of_objects
from unet.measurement.object_table import best_matches, contact_table, object_table, principal_axes, summary

VOXEL_NM = (40.0, 8.0, 10.0)
OFFSET_NM = (80.0, 0.0, 5.0)


def blobs(shape: tuple[int, ...], ids: int, seed: int) -> np.ndarray:
    """Ids in lumps of 2 x 2 x 3 voxels, of which some are no object."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, ids + 1, [-(-n // k) for n, k in zip(shape, (2, 2, 3), strict=True)])
    for axis, k in enumerate((2, 2, 3)):
        coarse = coarse.repeat(k, axis)
    return coarse[tuple(slice(n) for n in shape)].astype(np.uint32)


def measured(ids: np.ndarray, levels: np.ndarray, labels: np.ndarray, boxes: list[Box]) -> Measures:
    """The counts of a volume, block by block."""
    parts = []
    for box in boxes:
        ahead = read_ahead(box, ids.shape).slices
        parts.append(measure_block(ids[ahead], box, ids.shape, levels[ahead], labels[box.slices]))
    return Measures(
        sum_of_objects(part.sums for part in parts),
        sum_of_contacts(part.contacts for part in parts),
        sum_of_overlaps(part.overlap for part in parts),
    )


def boxes_between(shape: tuple[int, ...], cuts: list[list[int]]) -> list[Box]:
    """The boxes between some cuts along each axis."""
    spans = [list(pairwise(sorted({0, n, *(c for c in own if c < n)}))) for n, own in zip(shape, cuts, strict=True)]
    return [Box(*zip(z, y, x, strict=True)) for z in spans[0] for y in spans[1] for x in spans[2]]


def assert_same(one: Measures, other: Measures) -> None:
    """Every column of every table is equal, to the bit."""
    for part in ("sums", "contacts", "overlap"):
        for name, column in vars(getattr(one, part)).items():
            np.testing.assert_array_equal(column, getattr(getattr(other, part), name), f"{part}.{name}")


CUTS = st.lists(st.lists(st.integers(1, 11), max_size=3), min_size=3, max_size=3)


@settings(max_examples=25, deadline=None)
@given(cuts=CUTS, seed=st.integers(0, 2**20), shape=st.tuples(*[st.integers(1, 12)] * 3))
def test_any_blocks_give_the_counts_of_the_whole_volume(
    cuts: list[list[int]], seed: int, shape: tuple[int, int, int]
) -> None:
    ids = blobs(shape, 5, seed)
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 256, shape, dtype=np.uint8)
    labels = blobs(shape, 3, seed + 1)
    labels[0, 0, 0] = 2**32 - 1
    whole = measured(ids, levels, labels, [Box.of_shape(shape)])
    assert_same(measured(ids, levels, labels, boxes_between(shape, cuts)), whole)


def test_the_table_is_that_of_scikit_image() -> None:
    ids = blobs((9, 14, 17), 6, seed=3)
    levels = np.random.default_rng(0).integers(0, 256, ids.shape, dtype=np.uint8)
    cut = boxes_between(ids.shape, [[4], [5, 9], [8]])
    measures = measured(ids, levels, ids, cut)
    table = object_table(measures.sums, measures.contacts, VOXEL_NM, OFFSET_NM)
    expected = regionprops(ids, levels, spacing=VOXEL_NM)
    assert table["id"].tolist() == [one.label for one in expected]
    assert len(expected) == 6
    for row, one in enumerate(expected):
        box = [int(table[f"{axis}_{end}"][row]) for end in ("start", "stop") for axis in "zyx"]
        assert tuple(box) == one.bbox
        assert table["voxels"][row] == one.num_pixels
        assert table["volume_um3"][row] == pytest.approx(one.area * 1e-9)
        centre = [table[f"centroid_{axis}_nm"][row] for axis in "zyx"]
        np.testing.assert_allclose(centre, np.add(one.centroid, OFFSET_NM))
        assert table["major_axis_um"][row] == pytest.approx(one.axis_major_length / 1e3)
        assert table["minor_axis_um"][row] == pytest.approx(one.axis_minor_length / 1e3)
        assert table["mean_probability"][row] == pytest.approx(one.intensity_mean / 255)


def test_an_object_of_three_voxels_by_hand() -> None:
    """An L in a volume of 2 x 2 x 2 um: two voxels along x, and one above the second."""
    ids = np.zeros((2, 2, 2), np.uint32)
    ids[0, 0, :] = ids[1, 0, 1] = 4
    box = Box.of_shape(ids.shape)
    table = object_table(object_sums(ids, box, box.shape), block_contacts(ids, box.shape), (1e3, 1e3, 1e3), (0, 0, 0))
    row = {name: column[0].item() for name, column in table.items()}
    # towards 0: one face along z, one along x, and one along y of each voxel; in the volume's faces: 8 more
    assert (row["volume_um3"], row["surface_um2"], row["border_um2"]) == pytest.approx((3, 5, 9))
    assert (row["touches_border"], row["sections"]) == (True, 2)
    assert row["centroid_x_voxel"] == pytest.approx(2 / 3)


def test_axes_of_a_rod() -> None:
    """A rod along the diagonal of y and x: its length is that of the ellipsoid with its variance."""
    ids = np.eye(7, dtype=np.uint32)[None]
    sums = object_sums(ids, Box.of_shape(ids.shape), ids.shape)
    lengths, directions = principal_axes(sums, (1.0, 3.0, 3.0))
    variance = np.var(np.arange(7)) * 18
    np.testing.assert_allclose(lengths, [[2 * np.sqrt(5 * variance), 0, 0]], atol=1e-6)
    np.testing.assert_allclose(directions[0, 0], [0, np.sqrt(0.5), np.sqrt(0.5)], atol=1e-9)


def test_moments_far_from_the_origin_are_exact() -> None:
    """Squares of coordinates of 10^9 exceed 64 bits in their sum; floating point would lose the shape."""
    far = 10**9
    ids = np.ones((1, 1, 7), np.uint32)
    box = Box((far, far, far), (far + 1, far + 1, far + 7))
    halves = [Box(box.start, (far + 1, far + 1, far + 3)), Box((far, far, far + 3), box.stop)]
    sums = sum_of_objects(object_sums(ids[..., : half.shape[2]], half, (2 * far,) * 3) for half in halves)
    exact = sum(x * x for x in range(far, far + 7))
    assert (int(sums.second[0, 5, 0]) << 32) + int(sums.second[0, 5, 1]) == exact
    assert exact > 2**62
    lengths, _ = principal_axes(sums, (1.0, 1.0, 1.0))
    np.testing.assert_allclose(lengths[0], [2 * np.sqrt(5 * 4), 0, 0], atol=1e-9)


def test_contacts_of_four_voxels_by_hand() -> None:
    ids = np.array([[[1, 1], [2, 3]]], np.uint32)
    boundary = np.array([[[10, 20], [30, 5]]], np.uint8)
    found = block_contacts(ids, ids.shape, boundary)
    table = contact_table(found, (10e3, 2e3, 1e3))
    assert {name: column.tolist() for name, column in table.items()} == {
        **{"id": [1, 1, 2], "other_id": [2, 3, 3], "faces": [1, 1, 1], "area_um2": [10.0, 10.0, 20.0]},
        "mean_boundary": [30 / 255, 20 / 255, 30 / 255],
    }
    assert surface_faces(found, np.array([1, 2, 3], np.uint64)).tolist() == [[0, 2, 0], [0, 1, 1], [0, 1, 1]]


def test_ids_of_64_bits_are_kept() -> None:
    ids = np.array([[[2**63, 5, 2**64 - 1]]], np.uint64)
    found = block_contacts(ids, ids.shape)
    assert list(zip(found.u.tolist(), found.v.tolist(), strict=True)) == [(5, 2**63), (5, 2**64 - 1)]
    assert object_sums(ids, Box.of_shape(ids.shape), ids.shape).ids.tolist() == [5, 2**63, 2**64 - 1]


def test_nothing_gives_empty_tables() -> None:
    ids = np.zeros((2, 3, 4), np.uint32)
    sums, contacts = object_sums(ids, Box.of_shape(ids.shape), ids.shape), block_contacts(ids, ids.shape)
    assert (len(sums), len(contacts)) == (0, 0)
    table = object_table(sums, contacts, VOXEL_NM, OFFSET_NM)
    assert {len(column) for column in table.values()} == {0}
    assert summary(table)["objects"] == 0
    assert len(ObjectSums.empty()) == len(Contacts.empty()) == 0


def test_voxels_that_nobody_annotated_match_nothing() -> None:
    """Object 1 covers truth 8 but for a voxel, and a voxel that nobody annotated; object 2 lies in the background."""
    unknown = 2**32 - 1
    labels = np.array([[[8, 8, 8, 0, unknown, 0]]], np.uint32)
    ids = np.array([[[1, 1, 0, 1, 1, 2]]], np.uint32)
    found = measure_block(ids, Box.of_shape(ids.shape), ids.shape, labels=labels)
    matches = best_matches(found.overlap, found.sums.ids)
    assert matches["truth_id"].tolist() == [8, 0]
    assert matches["truth_iou"].tolist() == [2 / 4, 0]
