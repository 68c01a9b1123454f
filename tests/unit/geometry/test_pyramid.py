"""Levels of the pyramid: the axes that are halved, and the values of coarse voxels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unet.geometry import compiled, pyramid
from unet.geometry.pyramid import downsample, pyramid_factors

STEPS = st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 2))
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6))


@pytest.mark.parametrize(
    ("shape", "block", "voxel_size_nm", "expected"),
    [
        ((20, 128, 128), (16, 64, 64), (50, 4, 4), [(1, 1, 1)]),  # small enough already
        ((20, 129, 100), (16, 64, 64), (50, 4, 4), [(1, 1, 1), (1, 2, 2)]),
        ((99, 2048, 2048), (16, 1024, 1024), (16, 4, 4), [(1,) * 3, (1, 2, 2), (1, 4, 4), (2, 8, 8), (4, 16, 16)]),
        ((99, 2048, 2048), (1, 1024, 1024), (8, 8, 8), [(1, 1, 1)]),  # a block of one section cannot be halved along z
        ((20, 4096, 4096), (16, 32, 32), (50, 4, 4), [(1, 1, 1), (1, 2, 2)]),  # files would become tiny
        ((20, 4096, 4096), (16, 75, 75), (50, 4, 4), [(1, 1, 1)]),  # an odd block stays whole
        (
            (20, 512, 512),
            (16, 256, 256),
            (50, 4, 8),
            [(1, 1, 1), (1, 2, 1), (1, 4, 2), (1, 8, 4)],
        ),  # the finer axis goes first
    ],
)
def test_levels_of_known_volumes(shape: tuple, block: tuple, voxel_size_nm: tuple, expected: list) -> None:
    assert pyramid_factors(shape, block, voxel_size_nm) == expected


@settings(deadline=None)
@given(values=arrays(np.uint8, SHAPES), step=STEPS)
def test_the_mean_is_that_of_the_voxels_put_together(values: np.ndarray, step: tuple[int, int, int]) -> None:
    found = downsample(values, step, "image")
    padded = np.pad(values, [(0, -n % s) for n, s in zip(values.shape, step, strict=True)], mode="edge")
    for at in np.ndindex(found.shape):
        cube = padded[tuple(slice(i * s, i * s + s) for i, s in zip(at, step, strict=True))]
        assert found[at] == int(np.floor(cube.astype(int).mean() + 0.5))


@settings(deadline=None)
@given(values=arrays(np.uint64, SHAPES, elements=st.integers(2**63, 2**63 + 3)), step=STEPS)
def test_the_mode_is_the_first_of_the_most_frequent_ids(values: np.ndarray, step: tuple[int, int, int]) -> None:
    found = downsample(values, step, "label")
    padded = np.pad(values, [(0, -n % s) for n, s in zip(values.shape, step, strict=True)], mode="edge")
    assert found.dtype == values.dtype
    for at in np.ndindex(found.shape):
        cube = padded[tuple(slice(i * s, i * s + s) for i, s in zip(at, step, strict=True))].ravel().tolist()
        assert found[at] == max(cube, key=cube.count)


def test_floats_are_averaged_and_channels_kept_apart() -> None:
    values = np.array([[[[0.0, 1.0]]], [[[2.0, 5.0]]]], np.float32)  # (c, z, y, x) = (2, 1, 1, 2)
    assert downsample(values, (1, 1, 2), "image").tolist() == [[[[0.5]]], [[[3.5]]]]
    assert downsample(values, (1, 1, 2), "image").dtype == np.float32


def test_extreme_grey_values_do_not_overflow() -> None:
    values = np.full((2, 2, 2), 65535, np.uint16)
    assert downsample(values, (2, 2, 2), "image").tolist() == [[[65535]]]
    assert downsample(np.full((1, 2, 2), -32768, np.int16), (1, 2, 2), "image").tolist() == [[[-32768]]]


@pytest.mark.skipif(not compiled.IS_INSTALLED, reason="numba is not installed")
@pytest.mark.parametrize("dtype", ["uint8", "int16"])
@settings(deadline=None, max_examples=50)
@given(shape=SHAPES, step=STEPS, seed=st.integers(0, 99), channels=st.sampled_from([(), (2,)]))
def test_the_kernel_has_the_mean_of_numpy(
    dtype: str, shape: tuple[int, ...], step: tuple[int, int, int], seed: int, channels: tuple[int, ...]
) -> None:
    """The extremes of the type are among the values, where a sum would overflow first."""
    ends, random = np.iinfo(dtype), np.random.default_rng(seed)
    values = random.integers(ends.min, ends.max, (*channels, *shape), dtype, endpoint=True)
    values[random.random(values.shape) < 0.3] = random.choice([ends.min, ends.max])
    assert_kernel_is_numpy(values, step, "image")


@pytest.mark.skipif(not compiled.IS_INSTALLED, reason="numba is not installed")
@settings(deadline=None, max_examples=50)
@given(shape=SHAPES, step=STEPS, seed=st.integers(0, 99), ids=st.integers(1, 5))
def test_the_kernel_has_the_mode_of_numpy(
    shape: tuple[int, ...], step: tuple[int, int, int], seed: int, ids: int
) -> None:
    values = np.random.default_rng(seed).integers(2**32 - ids, 2**32, shape, np.uint32)
    assert_kernel_is_numpy(values, step, "label")


def assert_kernel_is_numpy(values: np.ndarray, step: tuple[int, int, int], kind: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        found = []
        for choice in (True, False):
            patch.setattr(pyramid, "use_compiled", lambda voxels, choice=choice: choice)
            found.append(downsample(values, step, kind))
    np.testing.assert_array_equal(*found, strict=True)
