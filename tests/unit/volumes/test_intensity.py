"""Intensity statistics against numpy on the whole volume, the values that are left out, and normalisation."""

from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unet.config.normalisation import NormalisationConfig
from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.volumes.constant_regions import HALO, constant_regions
from unet.volumes.histogram import histogram
from unet.volumes.intensity import (
    IntensityError,
    IntensityStatistics,
    Normalisation,
    crowd_at_an_end,
    intensity_statistics,
)
from unet.volumes.readers.open import open_source

INTEGERS = ["uint8", "int8", "uint16", "int16"]


def volumes(*dtypes: str) -> st.SearchStrategy:
    """Small volumes of one of some dtypes, float32 between -1e6 and 1e6."""
    shapes = st.tuples(*[st.integers(1, 6)] * 3)

    def elements(dtype: str) -> st.SearchStrategy:
        if dtype == "float32":
            return st.floats(-1e6, 1e6, width=32)
        return st.integers(np.iinfo(dtype).min, np.iinfo(dtype).max)

    return st.sampled_from(dtypes).flatmap(
        lambda dtype: hnp.arrays(dtype, shapes, elements=elements(dtype), fill=st.nothing())
    )


def statistics(values: np.ndarray, block: tuple[int, int, int] | None = None, **rule) -> IntensityStatistics:
    """Return the statistics of a volume that is cut into blocks, as the rules compute them."""
    counts = 0
    for box in Grid(values.shape, block or values.shape).boxes():
        window = box.grown(HALO).clipped(values.shape)
        constant = constant_regions(values[window.slices])[box.relative_to(window.start).slices]
        counts = counts + np.stack([histogram(values[box.slices], where) for where in (~constant, constant)])
    return intensity_statistics(counts[0], values.dtype, counts[1], NormalisationConfig(**rule))


def tissue(*shape: int, seed: int = 0, dtype: str = "uint8") -> np.ndarray:
    """Noise, clipped at both ends as badly set microscopes do."""
    return np.random.default_rng(seed).normal(120, 60, shape).clip(0, 255).astype(dtype)


@given(volumes(*INTEGERS))
@settings(max_examples=60, deadline=None)
def test_statistics_are_those_of_the_whole_volume(values: np.ndarray) -> None:
    exact = np.sort(values.astype(np.float64), axis=None)
    found = intensity_statistics(histogram(values), values.dtype)
    scale = np.abs(exact).max()
    assert found.mean == pytest.approx(exact.mean(), rel=1e-12, abs=1e-12 * scale)
    assert found.std == pytest.approx(exact.std(), rel=1e-9, abs=1e-9 * scale)
    assert (found.minimum, found.maximum, found.count) == (exact[0], exact[-1], values.size)
    ranks = [-(-percent * values.size // 100) - 1 for percent in (1, 99)]
    assert [found.p01, found.p99] == exact[ranks].tolist()


def test_statistics_of_four_voxels_by_hand() -> None:
    found = intensity_statistics(histogram(np.array([1, 1, 3, 7], np.uint8)), np.uint8)
    assert found == IntensityStatistics(
        mean=3.0, std=sqrt(6.0), minimum=1.0, maximum=7.0, p01=1.0, p99=7.0, count=4, centre=3.0, scale=sqrt(6.0)
    )


def test_percentiles_leave_out_one_in_a_hundred() -> None:
    found = intensity_statistics(histogram(np.arange(1, 201, dtype=np.int16)), np.int16)
    assert (found.p01, found.p99) == (2.0, 198.0)  # 2 of 200 voxels are not above 2, 198 not above 198


@pytest.mark.parametrize("value", [0.1, -1234.5678, 0.0])
def test_std_of_a_constant_volume_is_exactly_0(value: float) -> None:
    found = intensity_statistics(histogram(np.full(1001, value, np.float32)), np.float32)
    assert found.std == 0.0
    assert found.mean == found.minimum == found.maximum


def test_minus_zero_is_zero() -> None:
    found = intensity_statistics(histogram(np.array([-0.0, 0.0], np.float32)), np.float32)
    assert np.copysign(1, [found.minimum, found.maximum, found.mean]).tolist() == [1, 1, 1]


def test_nothing_counted_is_refused() -> None:
    with pytest.raises(ValueError, match="no voxel was counted"):
        intensity_statistics(histogram(np.ones(4, np.uint8), np.zeros(4, np.uint8)), np.uint8)


@pytest.mark.parametrize("offset", [0, 1e6, -3e7])
def test_float_data_of_any_offset_are_normalised_right(offset: float) -> None:
    values = (offset + np.random.default_rng(0).normal(0, max(1, abs(offset) / 1e6), (8, 90, 90))).astype(np.float32)
    found, exact = statistics(values, (3, 40, 33)), values.astype(np.float64)
    assert found.mean == pytest.approx(exact.mean(), rel=1e-12, abs=1e-12)
    assert found.std == pytest.approx(exact.std(), rel=1e-9)
    normalised = Normalisation((found.mean,), (found.std,))(values[None])
    assert normalised.mean(dtype=np.float64) == pytest.approx(0, abs=0.04)  # float32 has steps of 0.06 at 1e6
    assert normalised.std(dtype=np.float64) == pytest.approx(1, abs=1e-3)


FRAMES = {"zeros": (0, "uint8"), "white": (255, "uint8"), "16 bits": (4095, "uint16"), "float": (-1.5, "float32")}


@pytest.mark.parametrize("frame", FRAMES)
def test_a_frame_changes_nothing(frame: str) -> None:
    value, dtype = FRAMES[frame]
    bare = tissue(3, 90, 80, dtype=dtype)
    framed = np.pad(bare, ((0, 0), (40, 31), (9, 60)), constant_values=value)
    found, expected = statistics(framed, (2, 50, 33)), statistics(bare)
    assert found.fill_values == (value,)
    assert found.left_out == framed.size - bare.size
    assert Normalisation.of([vars(found)]) == Normalisation((expected.mean,), (expected.std,), ((value,),))
    for name in ("count", "minimum", "maximum", "p01", "p99"):
        assert getattr(found, name) == getattr(expected, name)


@pytest.mark.parametrize("blanks", [1, 4, 8])
def test_blank_sections_change_nothing_whatever_they_are_filled_with(blanks: int) -> None:
    values = tissue(20, 60, 60)
    values[3 : 3 + blanks : 2], values[4 : 3 + blanks : 2] = 0, 255
    kept = np.delete(values, range(3, 3 + blanks), axis=0)
    found = statistics(values)
    assert (found.mean, found.std, found.count) == (statistics(kept).mean, statistics(kept).std, kept.size)
    assert found.fill_values == ((0.0, 255.0) if blanks > 1 else (0.0,))


@given(st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 3), st.integers(15, 50), st.integers(15, 50)))
@settings(max_examples=10, deadline=None)
def test_any_blocks_give_the_same_statistics(seed: int, block: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(seed)
    values = tissue(2, 40, 50, seed=seed, dtype=str(rng.choice(["uint8", "uint16", "float32"])))
    (y, x), value = rng.integers(0, 35, 2), rng.integers(0, 256)
    values[rng.integers(2), y : y + rng.integers(5, 40), x : x + rng.integers(5, 40)] = value
    assert statistics(values, block) == statistics(values)


def test_clipped_tissue_alone_is_left_as_it_is() -> None:
    values = tissue(4, 200, 200)
    assert (values == 0).mean() > 0.02
    found = statistics(values)
    assert (found.left_out, found.fill_values, found.count) == (0, (), values.size)


@pytest.mark.parametrize(("low", "high"), [(0, 3), (252, 255)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_noise_around_the_tissue_is_found(low: int, high: int, dtype: str) -> None:
    random = np.random.default_rng(1)
    values = np.clip(random.normal(130, 20, (2, 100, 100)), 30, 230)
    framed = values.copy()
    framed[:, :40] = random.integers(low, high, (2, 40, 100), endpoint=True)
    found = crowd_at_an_end(histogram(framed.astype(dtype)), dtype)
    assert found == pytest.approx((low, high, 0.4), rel=1e-3)
    assert crowd_at_an_end(histogram(values.astype(dtype)), dtype) is None


def test_clipped_and_blank_voxels_are_no_noise() -> None:
    for values in (tissue(4, 200, 200), np.where(tissue(4, 200, 200) < 100, 0, 200), np.full((1, 9, 9), 7, np.uint8)):
        assert crowd_at_an_end(histogram(values.astype(np.uint8)), np.uint8) is None
    assert crowd_at_an_end(histogram(np.empty((0, 2, 2), np.uint8)), np.uint8) is None


@pytest.mark.parametrize("cells", [(0, 200), (50, 120, 200, 90, 160)])
def test_a_drawing_without_noise_is_left_as_it_is(cells: tuple[int, ...]) -> None:
    """Its cells are constant regions, but they are what is to be segmented."""
    y, x = np.mgrid[:200, :200] // 25
    values = np.array(cells)[(y * 3 + x) % len(cells)]
    lines = (np.mgrid[:200, :200] % 25 < 3).any(axis=0)
    drawn = np.where(lines, 20, values)[None].astype(np.uint8)
    found = statistics(drawn)
    assert (found.left_out, found.mean) == (0, pytest.approx(drawn.mean()))


@pytest.mark.parametrize("specks", [0, 3])
def test_a_blank_volume_has_nothing_left_out(specks: int) -> None:
    values = np.full((2, 40, 40), 7, np.uint8)
    values[0, 20, :specks] = 255
    found = statistics(values)
    assert (found.left_out, found.count) == (0, values.size)
    assert (found.std == 0) == (specks == 0)


def test_what_lies_outside_the_mask_tells_only_what_fills_blank_regions() -> None:
    bare = tissue(2, 60, 60)
    nothing, frame = np.zeros((1, 65536), np.int64), histogram(np.zeros(10_000, np.uint8))
    found = intensity_statistics(histogram(bare), bare.dtype, nothing, masked=frame)
    assert (found.fill_values, found.left_out, found.mean) == ((0.0,), 0, statistics(bare).mean)


def test_nothing_is_left_out_where_the_rule_says_so() -> None:
    framed = np.pad(tissue(1, 50, 50), ((0, 0), (50, 50), (50, 50)))
    found = statistics(framed, ignore_value="none")
    assert (found.mean, found.left_out, found.fill_values) == (pytest.approx(framed.mean()), 0, ())


def test_an_ignored_value_counts_nowhere() -> None:
    values = np.array([[[0, 0, 3, 7]]], np.uint8)
    found = statistics(values, ignore_value=0)
    assert (found.mean, found.count, found.left_out, found.fill_values) == (5.0, 2, 2, (0.0,))
    for absent in (300, -1, 0.5, 9):
        assert statistics(values, ignore_value=absent).left_out == 0
    with pytest.raises(IntensityError, match="all 8 have the value 4 that is to be ignored"):
        statistics(np.full((2, 2, 2), 4, np.uint8), ignore_value=4)


def test_percentiles_become_minus_1_and_1() -> None:
    values = np.arange(1, 201, dtype=np.int16).reshape(1, 1, 200)
    found = statistics(values, percentiles=(1, 99))
    assert Normalisation.of([vars(found)])(np.array([[2, 198]], np.int16)).tolist() == [[-1, 1]]
    assert (found.mean, found.std) == (100.5, pytest.approx(values.std()))


def test_percentiles_that_say_too_little_are_refused() -> None:
    with pytest.raises(IntensityError, match=r"\[1.0, 50.0\] % of the intensities are both 7"):
        statistics(np.array([[[7, 7, 7, 9]]], np.uint8), percentiles=(1, 50))
    near = (1e6 + np.random.default_rng(0).normal(0, 1, (1, 50, 50))).astype(np.float32)
    with pytest.raises(IntensityError, match="too close to each other"):
        statistics(near, percentiles=(1, 99))


def test_numbers_of_the_configuration_hold_for_their_channel() -> None:
    counts, rule = histogram(tissue(1, 9, 9)), NormalisationConfig(mean=[100, 128], std=33)
    found = intensity_statistics(counts, np.uint8, rule=rule, channel=1)
    assert (found.centre, found.scale) == (128, 33)
    with pytest.raises(IntensityError, match="2 numbers, but there is a channel 2"):
        intensity_statistics(counts, np.uint8, rule=rule, channel=2)


def test_normalised_volume_has_mean_0_and_std_1() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (4, 50, 50), dtype=np.uint16)
    found = intensity_statistics(histogram(values), values.dtype)
    normalised = Normalisation((found.mean,), (found.std,))(values[None])
    assert normalised.dtype == np.float32
    assert normalised.mean(dtype=np.float64) == pytest.approx(0, abs=1e-6)
    assert normalised.std(dtype=np.float64) == pytest.approx(1, abs=1e-6)


def test_constant_volumes_become_0_and_nothing_overflows() -> None:
    flat = Normalisation((7.0,), (0.0,))
    assert flat(np.full((1, 3), 7, np.uint8)).tolist() == [[0, 0, 0]]
    assert flat(np.array([[7, 9]], np.uint8)).tolist() == [[0, 2]]
    assert np.isfinite(Normalisation((0.10009765625,), (1e-60,))(np.full((1, 3), 0.1, np.float32))).all()


def test_each_channel_has_numbers_of_its_own() -> None:
    values = np.array([[[10, 20]], [[1, 3]]], np.uint8)
    assert Normalisation((10.0, 1.0), (5.0, 2.0))(values).tolist() == [[[0, 2]], [[0, 1]]]
    with pytest.raises(ValueError, match=r"2 channel\(s\) of intensities, but statistics of 1"):
        Normalisation((10.0,), (5.0,))(values)


@given(volumes(*INTEGERS, "float32"), st.integers(0, 6))
@settings(max_examples=20, deadline=None)
def test_normalisation_of_a_part_is_the_part_of_the_normalised(values: np.ndarray, cut: int) -> None:
    normalised = Normalisation((3.3,), (1.7,))
    whole = normalised(values[None])
    np.testing.assert_array_equal(normalised(values[None, ..., :cut]), whole[..., :cut])


def test_statistics_of_a_volume_in_any_blocks_are_those_of_numpy(em_data: Path) -> None:
    source = open_source(str(em_data / "isbi2012" / "train-volume.tif"))
    depth, *section = source.shape
    cuts = [0, depth // 3, 2 * depth // 3, depth]
    blocks = [source.read(Box((cuts[i], 0, 0), (cuts[i + 1], *section))) for i in (2, 0, 1)]
    found = intensity_statistics(sum(histogram(block) for block in blocks), source.dtype)
    whole = np.concatenate(blocks)
    assert found.mean == pytest.approx(whole.mean(dtype=np.float64), rel=1e-12)
    assert found.std == pytest.approx(whole.std(dtype=np.float64), rel=1e-12)
    assert (found.minimum, found.maximum, found.count) == (whole.min(), whole.max(), whole.size)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_few_voxels_far_from_all_others_flatten_the_contrast(dtype: type) -> None:
    """12,288 voxels of standard deviation 40: one of 65,535 makes it 592; one of 255 leaves it as it is."""
    values = np.random.default_rng(0).normal(128, 40, (3, 64, 64)).clip(1, 254)
    hot = values.copy()
    hot[1, 5, 5] = 255 if dtype == np.uint8 else 65535
    for image, flattened in ((values, False), (hot, dtype != np.uint8)):
        found = intensity_statistics(histogram(image.astype(dtype)), dtype)
        assert found.is_flattened == flattened
        percentiles = NormalisationConfig(percentiles=(1, 99))
        assert not intensity_statistics(histogram(image.astype(dtype)), dtype, rule=percentiles).is_flattened


def test_two_values_and_a_constant_are_not_flat() -> None:
    half = np.indices((2, 8, 8)).sum(0) % 2 * 255
    assert not intensity_statistics(histogram(half.astype(np.uint8)), np.uint8).is_flattened
    assert not intensity_statistics(histogram(np.full((2, 8, 8), 7, np.uint8)), np.uint8).is_flattened
