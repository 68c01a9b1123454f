"""Statistics of grey values against numpy on the whole volume, and their independence of the cut."""

import json
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unet.geometry import Box
from unet.grey_values import (
    PIECE,
    GreyValues,
    Normalisation,
    from_sparse,
    grey_values,
    histogram,
    key_values,
    keys,
    to_sparse,
)
from unet.sources import open_source

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
DTYPES = ["uint8", "int8", "uint16", "int16", "float32"]

dtypes = st.sampled_from(DTYPES)


def finite(dtype: str) -> st.SearchStrategy:
    """Elements of a dtype, for float32 over all magnitudes that bfloat16 has."""
    if dtype == "float32":
        return st.floats(-(2.0**127), 2.0**127, width=32)
    return st.integers(np.iinfo(dtype).min, np.iinfo(dtype).max)


volumes = dtypes.flatmap(
    lambda dtype: hnp.arrays(dtype, st.tuples(*[st.integers(1, 6)] * 3), elements=finite(dtype), fill=st.nothing())
)


def bfloat16(values: np.ndarray) -> np.ndarray:
    """Rounded to 8 significant bits, ties to even: by arithmetic, as an oracle of the bit trick."""
    mantissa, exponent = np.frexp(values.astype(np.float64))
    # subnormal bfloat16 have their last bit at 2^-133
    last_bit = np.maximum(exponent - 8, -133)
    return np.ldexp(np.rint(np.ldexp(mantissa, exponent - last_bit)), last_bit)


@given(volumes, st.integers(0, 6), st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_histograms_of_any_cut_add_up_to_the_whole(values: np.ndarray, cut: int, axis: int) -> None:
    parts = np.split(values, [min(cut, values.shape[axis])], axis=axis)
    together = histogram(parts[1]) + histogram(parts[0])
    np.testing.assert_array_equal(together, histogram(values))
    assert grey_values(together, values.dtype) == grey_values(histogram(values), values.dtype)
    assert together.sum() == values.size


@given(volumes)
@settings(max_examples=30, deadline=None)
def test_mask_and_its_complement_add_up_to_the_whole(values: np.ndarray) -> None:
    mask = np.random.default_rng(values.size).integers(0, 2, values.shape, dtype=np.uint8)
    np.testing.assert_array_equal(histogram(values, mask), histogram(values[mask == 1]))
    np.testing.assert_array_equal(histogram(values, mask) + histogram(values, 1 - mask), histogram(values))


@given(volumes)
@settings(max_examples=60, deadline=None)
def test_keys_sort_as_values_do_and_give_them_back(values: np.ndarray) -> None:
    expected = bfloat16(values) if values.dtype == np.float32 else values.astype(np.float64)
    found = key_values(values.dtype)[keys(values)]
    np.testing.assert_array_equal(found, expected)
    order = np.argsort(keys(values), axis=None, kind="stable")
    assert (np.diff(expected.reshape(-1)[order]) >= 0).all()


@given(volumes)
@settings(max_examples=60, deadline=None)
def test_statistics_are_those_of_the_whole_volume(values: np.ndarray) -> None:
    exact = np.sort(key_values(values.dtype)[keys(values)], axis=None)
    found = grey_values(histogram(values), values.dtype)
    scale = np.abs(exact).max()
    assert found.mean == pytest.approx(exact.mean(), rel=1e-12, abs=1e-12 * scale)
    assert found.std == pytest.approx(exact.std(), rel=1e-9, abs=1e-9 * scale)
    assert (found.minimum, found.maximum, found.count) == (exact[0], exact[-1], values.size)
    ranks = [-(-percent * values.size // 100) - 1 for percent in (1, 99)]
    assert [found.p01, found.p99] == exact[ranks].tolist()


def test_statistics_of_four_voxels_by_hand() -> None:
    found = grey_values(histogram(np.array([1, 1, 3, 7], np.uint8)), np.uint8)
    assert found == GreyValues(mean=3.0, std=sqrt(6.0), minimum=1.0, maximum=7.0, p01=1.0, p99=7.0, count=4)


def test_percentiles_leave_out_one_in_a_hundred() -> None:
    found = grey_values(histogram(np.arange(1, 201, dtype=np.int16)), np.int16)
    assert (found.p01, found.p99) == (2.0, 198.0)  # 2 of 200 voxels are not above 2, 198 not above 198


@pytest.mark.parametrize("value", [0.1, -1234.5678, 0.0])
def test_std_of_a_constant_volume_is_exactly_0(value: float) -> None:
    found = grey_values(histogram(np.full(1001, value, np.float32)), np.float32)
    assert found.std == 0.0
    assert found.mean == found.minimum == found.maximum


def test_volumes_larger_than_a_piece_are_counted_whole() -> None:
    values = np.resize(np.arange(251, dtype=np.uint8), 2 * PIECE + 3)
    np.testing.assert_array_equal(histogram(values)[:256], np.bincount(values, minlength=256))


def test_floats_are_rounded_to_the_nearest_key_and_ties_to_the_even_one() -> None:
    step = 2.0**-7  # between 1 and 2 bfloat16 counts in steps of 1/128
    values = np.array([1 + 0.49 * step, 1 + 0.5 * step, 1 + 0.51 * step, 1 + 1.5 * step], np.float32)
    assert key_values("float32")[keys(values)].tolist() == [1, 1, 1 + step, 1 + 2 * step]
    assert key_values("float32")[keys(-values)].tolist() == [-1, -1, -1 - step, -1 - 2 * step]


def test_minus_zero_is_zero() -> None:
    found = grey_values(histogram(np.array([-0.0, 0.0], np.float32)), np.float32)
    assert np.copysign(1, [found.minimum, found.maximum, found.mean]).tolist() == [1, 1, 1]


@given(volumes)
@settings(max_examples=20, deadline=None)
def test_sparse_histograms_survive_json(values: np.ndarray) -> None:
    counts = histogram(values)
    restored = from_sparse(json.loads(json.dumps(to_sparse(counts))))
    assert restored.dtype == np.int64
    np.testing.assert_array_equal(restored, counts)


@pytest.mark.parametrize(("key", "count"), [("65536", 1), ("-1", 1), ("3", -2)])
def test_impossible_entries_of_a_sparse_histogram_are_refused(key: str, count: int) -> None:
    with pytest.raises(ValueError, match=f"entry {key}: {count}; keys are 0 to 65535"):
        from_sparse({key: count})


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf, 3.4e38])
def test_float_values_without_a_key_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN, infinite"):
        histogram(np.array([1.0, bad], np.float32))


@pytest.mark.parametrize("refuse", [lambda d: histogram(np.zeros(2, d)), lambda d: grey_values(np.ones(65536), d)])
def test_other_dtypes_are_refused_with_those_allowed(refuse) -> None:
    with pytest.raises(ValueError, match="dtype float64; allowed are uint8, int8, uint16, int16, float32"):
        refuse(np.float64)


def test_nothing_counted_is_refused() -> None:
    with pytest.raises(ValueError, match="no voxel was counted"):
        grey_values(histogram(np.ones(4, np.uint8), np.zeros(4, np.uint8)), np.uint8)


def test_mask_of_another_shape_is_refused_with_both() -> None:
    with pytest.raises(ValueError, match=r"mask of shape \(2,\) for grey values of shape \(3,\)"):
        histogram(np.ones(3, np.uint8), np.ones(2, np.uint8))


def test_normalised_volume_has_mean_0_and_std_1() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (4, 50, 50), dtype=np.uint16)
    found = grey_values(histogram(values), values.dtype)
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
    with pytest.raises(ValueError, match=r"2 channel\(s\) of grey values, but statistics of 1"):
        Normalisation((10.0,), (5.0,))(values)


@given(volumes, st.integers(0, 6))
@settings(max_examples=20, deadline=None)
def test_normalisation_of_a_part_is_the_part_of_the_normalised(values: np.ndarray, cut: int) -> None:
    normalised = Normalisation((3.3,), (1.7,))
    whole = normalised(values[None])
    np.testing.assert_array_equal(normalised(values[None, ..., :cut]), whole[..., :cut])


@pytest.mark.skipif(not SHARED.exists(), reason="the real volumes of ../shared/data are not here")
def test_statistics_of_a_real_volume_are_those_of_numpy() -> None:
    source = open_source(str(SHARED / "isbi2012" / "train-volume.tif"))
    blocks = [source.read(Box((z, 0, 0), (z + 8, 512, 512))) for z in (16, 0, 8)]
    found = grey_values(sum(histogram(block) for block in blocks), source.dtype)
    whole = np.concatenate(blocks)
    assert found.mean == pytest.approx(whole.mean(dtype=np.float64), rel=1e-12)
    assert found.std == pytest.approx(whole.std(dtype=np.float64), rel=1e-12)
    assert (found.minimum, found.maximum, found.count) == (whole.min(), whole.max(), whole.size)
