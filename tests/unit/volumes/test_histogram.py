"""Counts and exact sums of intensities against rational arithmetic, for any cut of the volume."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unet.volumes.histogram import PIECE, BinSums, bins, has_value, histogram

DTYPES = ["uint8", "int8", "uint16", "int16", "float32"]


def finite(dtype: str) -> st.SearchStrategy:
    """Elements of a dtype, for float32 of all magnitudes."""
    if dtype == "float32":
        return st.floats(allow_nan=False, allow_infinity=False, width=32)
    return st.integers(np.iinfo(dtype).min, np.iinfo(dtype).max)


volumes = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, st.tuples(*[st.integers(1, 6)] * 3), elements=finite(dtype), fill=st.nothing())
)


@given(volumes, st.integers(0, 6), st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_histograms_of_any_cut_add_up_to_the_whole(values: np.ndarray, cut: int, axis: int) -> None:
    parts = np.split(values, [min(cut, values.shape[axis])], axis=axis)
    together = histogram(parts[1]) + histogram(parts[0])
    whole, found = BinSums.of(histogram(values), values.dtype), BinSums.of(together, values.dtype)
    assert (found.count, found.first, found.second) == (whole.count, whole.first, whole.second)
    assert together[0].sum() == values.size


@given(volumes)
@settings(max_examples=30, deadline=None)
def test_mask_and_its_complement_add_up_to_the_whole(values: np.ndarray) -> None:
    mask = np.random.default_rng(values.size).integers(0, 2, values.shape, dtype=np.uint8)
    np.testing.assert_array_equal(histogram(values, mask), histogram(values[mask == 1]))
    np.testing.assert_array_equal((histogram(values, mask) + histogram(values, 1 - mask))[:2], histogram(values)[:2])


@given(volumes)
@settings(max_examples=60, deadline=None)
def test_sums_are_exact(values: np.ndarray) -> None:
    exact, found = [Fraction(float(v)) for v in values.ravel()], BinSums.of(histogram(values), values.dtype)
    mean = sum(exact) / len(exact)
    assert found.mean == mean
    assert found.variance == sum(v * v for v in exact) / len(exact) - mean**2
    assert sum(found.count) == len(exact)


@given(volumes)
@settings(max_examples=60, deadline=None)
def test_keys_sort_as_values_do(values: np.ndarray) -> None:
    order = np.argsort(bins(values), axis=None, kind="stable")
    sums = BinSums.of(histogram(values), values.dtype)
    means = [sums.value(number) for number in range(len(sums.bins))]
    assert means == sorted(means)
    if values.dtype != np.float32:
        assert (np.diff(values.ravel()[order].astype(int)) >= 0).all()
        assert means == sorted({float(v) for v in values.ravel()})


def test_squares_of_float_data_do_not_overflow() -> None:
    """All lower bits set: each voxel adds nearly 2^32, and there are 2^33 of them."""
    one = np.frombuffer(np.uint32(0x3F80FFFF).tobytes(), np.float32)
    counts = histogram(np.broadcast_to(one, PIECE)) * 2**13
    sums = BinSums.of(counts, np.float32)
    assert sums.variance == 0
    assert sums.mean == Fraction(float(one[0]))


def test_volumes_larger_than_a_piece_are_counted_whole() -> None:
    values = np.resize(np.arange(251, dtype=np.uint8), 2 * PIECE + 3)
    np.testing.assert_array_equal(histogram(values)[0, :256], np.bincount(values, minlength=256))


def test_values_are_found_by_their_keys() -> None:
    values = np.array([[0.0, 7.5], [9.0, -7.5]], np.float32)
    assert has_value(values, [7.5, 0]).tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_float_values_without_a_key_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        histogram(np.array([1.0, bad], np.float32))


@pytest.mark.parametrize("refuse", [lambda d: histogram(np.zeros(2, d)), lambda d: BinSums.of(np.ones((1, 65536)), d)])
def test_other_dtypes_are_refused_with_those_allowed(refuse) -> None:
    with pytest.raises(ValueError, match="dtype float64; allowed are uint8, int8, uint16, int16, float32"):
        refuse(np.float64)


def test_mask_of_another_shape_is_refused_with_both() -> None:
    with pytest.raises(ValueError, match=r"mask of shape \(2,\) for intensities of shape \(3,\)"):
        histogram(np.ones(3, np.uint8), np.ones(2, np.uint8))
