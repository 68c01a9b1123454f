"""Defects of single sections, worked by hand."""

import numpy as np
import pytest

from unet.config.train import AugmentConfig
from unet.training.augmentation import draw_transform
from unet.training.section_defects import SectionDefect, draw_section_defects, with_defects

STACK = np.arange(3 * 4 * 4, dtype=np.float32).reshape(3, 4, 4)


def test_a_shift_moves_one_section_and_mirrors_at_its_rim() -> None:
    found = with_defects(STACK, (SectionDefect(1, shift=(0, 1)),))
    np.testing.assert_array_equal(found[[0, 2]], STACK[[0, 2]])
    np.testing.assert_array_equal(found[1], STACK[1][:, [1, 0, 1, 2]])


def test_a_partial_section_is_blank_on_one_side_of_the_line() -> None:
    found = with_defects(STACK, (SectionDefect(0, blank=-3.0, angle=90.0, offset=0.0),))
    assert (found[0, :, 2:] == -3).all()
    np.testing.assert_array_equal(found[0, :, :2], STACK[0, :, :2])


def test_a_blur_keeps_a_constant_section_and_smooths_a_bright_voxel() -> None:
    point = np.zeros((2, 9, 9), np.float32)
    point[1, 4, 4] = 1
    found = with_defects(point, (SectionDefect(1, blur=1.0), SectionDefect(0, blur=1.0)))
    assert (found[0] == 0).all()
    assert found[1].sum() == pytest.approx(1, abs=1e-3)
    assert found[1].max() == found[1, 4, 4] < 0.2


def test_all_channels_of_a_section_have_the_same_defect() -> None:
    both = np.stack([STACK, STACK])
    found = with_defects(both, (SectionDefect(2, shift=(1, -1)),))
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found, both)


def test_shares_are_kept_and_a_section_has_one_defect_at_most() -> None:
    config = AugmentConfig(partial_section=0.1, blurred_section=0.2, shifted_section=0.3)
    found = draw_section_defects(np.random.default_rng(0), config, 5000, 4.0)
    assert len({one.section for one in found}) == len(found)
    kinds = [0 if one.blank is not None else 1 if one.blur else 2 for one in found]
    np.testing.assert_allclose(np.bincount(kinds) / 5000, (0.1, 0.2, 0.3), atol=0.02)


def test_jitter_moves_sections_apart_and_leaves_the_middle_one() -> None:
    shifts = draw_transform(np.random.default_rng(0), AugmentConfig(jitter_px=2.0), 101).shifts
    assert shifts is not None
    assert (shifts[50] == 0).all()
    assert 1.5 < np.std(shifts - shifts.mean(axis=0)) < 2.5


def test_off_takes_no_random_number() -> None:
    rng = np.random.default_rng(0)
    assert draw_section_defects(rng, AugmentConfig(), 9, 4.0) == ()
    assert rng.random() == np.random.default_rng(0).random()


def test_more_than_one_defect_per_section_is_refused() -> None:
    with pytest.raises(ValueError, match=r"1\.2 together"):
        AugmentConfig(partial_section=0.6, blurred_section=0.6)
