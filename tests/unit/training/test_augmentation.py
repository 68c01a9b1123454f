"""Augmentation: one map for grey values, targets and weights; exact where it can be; real voxels everywhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from unet.config.train import AugmentConfig
from unet.training.augmentation import Transform, displacements, draw_transform, spline_matrix

SHAPE, CENTRE = (20, 20), (40.5, 40.5)  # voxels 31 .. 50
VECTORS = np.random.default_rng(5).normal(0, 3, (2, 3, 3))
DEFECTS = AugmentConfig(contrast_shift=0.2, missing_section=0.1, misalignment=0.3, misalignment_px=6)


def read(image: np.ndarray, warp) -> np.ndarray:
    (y0, x0), (y1, x1) = warp.box()
    return image[None, y0:y1, x0:x1]


def smooth_image(n: int = 90) -> np.ndarray:
    y, x = np.mgrid[:n, :n]
    return (np.sin(y / 6) + np.cos(x / 4) + np.sin((x + 2 * y) / 9)).astype(np.float32)


def test_no_change_is_the_image_itself():
    image = np.random.default_rng(0).integers(0, 255, (90, 90), np.uint8)
    warp = Transform().warp(SHAPE, CENTRE)
    np.testing.assert_array_equal(warp.image(read(image, warp))[0], image[31:51, 31:51])


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True), (True, True)])
def test_flips_and_quarter_turns_move_pixels_without_interpolation(turns, flips):
    image = np.random.default_rng(1).random((90, 90)).astype(np.float32)
    warp = Transform(flips=flips, angle=90.0 * turns).warp(SHAPE, CENTRE)
    expected = np.rot90(image[31:51, 31:51], -turns)  # the map tells where a pixel comes from
    expected = np.flip(expected, [axis for axis in (0, 1) if flips[axis]])
    assert warp.exact
    np.testing.assert_array_equal(warp.image(read(image, warp))[0], expected)
    np.testing.assert_array_equal(warp.labels(read(image, warp))[0], expected)


def test_quarter_turns_of_an_oblong_odd_patch_are_exact_too():
    image = np.random.default_rng(1).random((90, 90))
    warp = Transform(angle=90.0).warp((5, 8), (40.0, 40.5))
    patch = warp.labels(read(image, warp))[0]
    window = np.rot90(patch)
    assert any(np.array_equal(window, image[y : y + 8, x : x + 5]) for y in range(30, 50) for x in range(30, 50))


def test_interpolation_agrees_with_the_exact_path_at_a_quarter_turn():
    image = smooth_image()
    exact = Transform(flips=(True, False), angle=90.0).warp(SHAPE, CENTRE)
    nearly = Transform(flips=(True, False), angle=90.0, vectors=np.zeros((2, 3, 3))).warp(SHAPE, CENTRE)
    assert not nearly.exact
    np.testing.assert_allclose(nearly.image(read(image, nearly)), exact.image(read(image, exact)), atol=1e-4)


def test_interpolated_grey_values_agree_with_scipys_splines():
    image = smooth_image()
    warp = Transform(angle=33.0, vectors=VECTORS).warp(SHAPE, CENTRE)
    expected = map_coordinates(image, warp.positions, order=3)
    np.testing.assert_allclose(warp.image(read(image, warp))[0], expected, atol=0.05)


def test_a_spot_lands_on_the_same_pixel_in_raw_and_labels():
    """A 5x5 spot, so that no rotation loses it: its brightest grey value lies in its label."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        raw, labels = np.zeros((2, 90, 90), np.float32)
        y, x = rng.integers(36, 45, 2)
        raw[y - 2 : y + 3, x - 2 : x + 3], labels[y - 2 : y + 3, x - 2 : x + 3] = 1, 7
        warp = draw_transform(rng, AugmentConfig(elastic_px=2)).warp(SHAPE, CENTRE)
        grey, label = warp.image(read(raw, warp))[0], warp.labels(read(labels, warp))[0]
        assert (label == 7).any()
        assert (grey[label == 7] > 0.3).all()
        assert (grey[label == 0] < 0.7).all()


def test_labels_are_the_nearest_voxel_and_never_a_new_value():
    labels = np.random.default_rng(2).choice([0, 1, 255], (90, 90)).astype(np.uint8)
    warp = Transform(angle=20.0, vectors=VECTORS).warp(SHAPE, CENTRE)
    y, x = np.floor(warp.positions + 0.5).astype(int)
    np.testing.assert_array_equal(warp.labels(read(labels, warp))[0], labels[y, x])


def test_the_inner_patch_is_the_middle_of_the_outer_one():
    labels = np.arange(8100).reshape(90, 90)
    warp = Transform(angle=20.0, vectors=VECTORS).warp(SHAPE, CENTRE)
    inner = warp.inner((1, 8, 6))
    expected = warp.labels(read(labels, warp))[0, 6:14, 7:13]
    np.testing.assert_array_equal(inner.labels(read(labels, inner))[0], expected)


@settings(max_examples=50, deadline=None)
@given(angle=st.floats(0, 360), seed=st.integers(0, 1000), flip=st.booleans())
def test_the_box_holds_every_voxel_that_interpolation_reads(angle, seed, flip):
    vectors = np.random.default_rng(seed).normal(0, 10, (2, 3, 3))
    warp = Transform(flips=(flip, False), angle=angle, vectors=vectors).warp((12, 17), (3.5, 4.0))
    low, high = np.array(warp.box())
    floors = np.floor(warp.positions).reshape(2, -1).T
    assert (floors - 1 >= low).all()
    assert (floors + 2 < high).all()


def test_displacements_meet_the_vectors_at_the_nodes_and_are_smooth_between():
    field = displacements(VECTORS, (21, 41))
    np.testing.assert_allclose(field[:, ::10, ::20], VECTORS, atol=1e-12)
    assert np.abs(np.diff(field, axis=1)).max() < 2


def test_a_constant_displacement_stays_constant_and_a_linear_one_linear():
    matrix = spline_matrix(31, 3)
    np.testing.assert_allclose(matrix @ np.ones(3), 1)
    np.testing.assert_allclose(matrix @ np.array([0.0, 15.0, 30.0]), np.arange(31))


def test_the_same_generator_draws_the_same_and_another_does_not():
    first, again, other = (draw_transform(np.random.default_rng(seed), AugmentConfig()) for seed in (3, 3, 4))
    values = smooth_image(30)
    np.testing.assert_array_equal(first.changed_intensities(values), again.changed_intensities(values))
    np.testing.assert_array_equal(first.vectors, again.vectors)
    assert (first.flips, first.angle) == (again.flips, again.angle)
    assert first.angle != other.angle


def test_everything_can_be_switched_off():
    off = AugmentConfig(flips=False, rotation="none", elastic_px=0, brightness=0, contrast=0, noise=0)
    transform = draw_transform(np.random.default_rng(0), off)
    assert (transform.exact, transform.flips, transform.angle) == (True, (False, False), 0)
    values = smooth_image(30)
    np.testing.assert_array_equal(transform.changed_intensities(values), values)


def test_random_vectors_have_the_configured_deviation():
    config = AugmentConfig(elastic_px=10)
    vectors = [draw_transform(np.random.default_rng(seed), config).vectors for seed in range(300)]
    assert np.std(vectors) == pytest.approx(10, rel=0.05)
    some = [
        draw_transform(np.random.default_rng(s), AugmentConfig(elastic_probability=0.3)).vectors for s in range(300)
    ]
    assert np.mean([v is not None for v in some]) == pytest.approx(0.3, abs=0.1)


def test_grey_values_are_scaled_about_the_mean_then_shifted():
    values = np.array([-1.0, 0.0, 2.0], np.float32)
    np.testing.assert_allclose(Transform(gain=2, offset=0.5).changed_intensities(values), [-1.5, 0.5, 4.5])
    noisy = Transform(noise=0.1, noise_seed=1).changed_intensities(np.zeros(10_000, np.float32))
    assert noisy.std() == pytest.approx(0.1, rel=0.05)


def test_every_section_of_a_3d_patch_is_moved_alike():
    image = np.stack([smooth_image(), 2 * smooth_image()])
    warp = Transform(angle=12.0, vectors=VECTORS).warp(SHAPE, CENTRE)
    (y0, x0), (y1, x1) = warp.box()
    patch = warp.image(image[:, y0:y1, x0:x1])
    assert patch.shape == (2, *SHAPE)
    np.testing.assert_allclose(patch[1], 2 * patch[0], rtol=1e-4, atol=1e-5)


def hand_drawn(rng: np.random.Generator) -> tuple[float, float]:
    """The numbers of a patch without section defects in their order, of which later ones must not depend on defects."""
    rng.integers(2, size=2)
    rng.integers(4)
    rng.uniform(0, 360)
    rng.random()
    rng.normal(0, 10, (2, 3, 3))
    contrast, brightness = rng.normal(0, 0.2), rng.normal(0, 0.2)
    rng.uniform(0, 0.1)
    rng.integers(2**63)
    return 2**contrast, brightness


def test_defects_switched_off_take_no_random_number_and_switched_on_change_no_other():
    for config in (AugmentConfig(), DEFECTS):
        by_hand, drawing = np.random.default_rng(8), np.random.default_rng(8)
        gain, offset = hand_drawn(by_hand)
        transform = draw_transform(drawing, config, sections=9)
        assert (transform.gain, transform.offset) == (gain, offset)
        defects = (transform.shifts, transform.gains, transform.offsets, transform.blanks)
        off = config is not DEFECTS
        assert (by_hand.bit_generator.state == drawing.bit_generator.state) == off
        assert all((defect is None) == off for defect in defects)


def test_defects_come_as_often_and_as_large_as_configured():
    drawn = [draw_transform(np.random.default_rng(seed), DEFECTS, sections=41) for seed in range(200)]
    gains, offsets, blanks = (
        np.concatenate([getattr(t, name) for t in drawn]) for name in ("gains", "offsets", "blanks")
    )
    assert np.mean(gains != 1) == pytest.approx(0.2, abs=0.02)
    np.testing.assert_array_equal(gains != 1, offsets != 0)
    assert np.log2(gains[gains != 1]).std() == pytest.approx(0.7, rel=0.1)
    assert offsets[offsets != 0].std() == pytest.approx(0.7, rel=0.1)
    assert np.mean(~np.isnan(blanks)) == pytest.approx(0.1, abs=0.02)
    assert np.nanmin(blanks) < -2 < 2 < np.nanmax(blanks)
    jumps = np.concatenate([np.diff(t.shifts, axis=0) for t in drawn])
    jumped = jumps.any(axis=1)
    assert np.mean(jumped) == pytest.approx(0.3, abs=0.03)
    assert jumps[jumped].std() == pytest.approx(6, rel=0.1)
    assert all((t.shifts[20] == 0).all() for t in drawn)


def test_a_section_of_its_own_contrast_leaves_the_others_as_they_are():
    values = np.random.default_rng(0).normal(size=(3, 5, 5)).astype(np.float32)
    changed = Transform(gains=np.array([1, 2, 1]), offsets=np.array([0, 0.5, 0])).changed_intensities(values)
    np.testing.assert_array_equal(changed[[0, 2]], values[[0, 2]])
    np.testing.assert_allclose(changed[1], 2 * values[1] + 0.5, rtol=1e-6)


def test_a_missing_section_is_blank_without_noise():
    values = np.random.default_rng(0).normal(size=(3, 5, 5)).astype(np.float32)
    changed = Transform(gain=2, noise=0.5, blanks=np.array([np.nan, -3, np.nan])).changed_intensities(values)
    assert (changed[1] == -3).all()
    assert (changed.dtype, changed[0].std() > 1, changed[2].std() > 1) == (np.float32, True, True)


@pytest.mark.parametrize("angle", [90.0, 31.0])
def test_displaced_sections_are_those_of_a_displaced_volume(angle):
    """The oracle: roll each section by its shift first, then move the whole volume as one; far from its faces."""
    shifts = np.array([[0, 0], [3, -4], [-7, 2]])
    volume = np.random.default_rng(3).integers(0, 250, (3, 90, 90), np.uint8)
    rolled = np.stack([np.roll(section, -shift, (0, 1)) for section, shift in zip(volume, shifts, strict=True)])
    vectors = None if angle == 90 else VECTORS
    whole, displaced = (Transform(angle=angle, vectors=vectors, shifts=s).warp(SHAPE, CENTRE) for s in (None, shifts))
    for warp, reference in ((displaced, whole), (displaced.inner((1, 8, 6)), whole.inner((1, 8, 6)))):
        sections = slice(None) if len(warp.shifts) == 3 else slice(1, 2)
        found, expected = cut(volume[sections], warp), cut(rolled[sections], reference)
        np.testing.assert_array_equal(warp.labels(found), reference.labels(expected))
        np.testing.assert_array_equal(warp.image(found), reference.image(expected))


def cut(volume: np.ndarray, warp) -> np.ndarray:
    (y0, x0), (y1, x1) = warp.box()
    return volume[:, y0:y1, x0:x1]
