"""Axes that nobody names: what is read, what the user is asked to look at, and what is refused."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from tests.unit.volumes.readers.reading import opened, refusal, whole
from unet.volumes.readers.axes import axis_order
from unet.volumes.readers.errors import SourceError

VALUES = np.random.default_rng(1).integers(0, 255, (5, 40, 36), np.uint8)


@pytest.mark.parametrize(
    ("lengths", "is_remarked"),
    [((5, 80, 72), False), ((80, 72, 36), True), ((80, 36, 72), True), ((200, 96, 96), False), ((80, 72), False)],
)
def test_axes_that_nobody_names_are_z_y_x_and_told_where_another_order_is_thinkable(
    lengths: tuple[int, ...], is_remarked: bool
) -> None:
    order = axis_order(lengths, None, "a.h5")
    assert order.names == tuple("zyx"[3 - len(lengths) :])
    assert (order.remark is not None) == is_remarked


@pytest.mark.parametrize("lengths", [(80, 72, 35), (72, 80, 30), (64, 64, 40), (1024, 1024, 600)])
def test_a_last_axis_that_may_count_the_sections_is_refused(lengths: tuple[int, ...]) -> None:
    with pytest.raises(SourceError, match=r"`axes: yxz` if .* `axes: xyz` if .* sections of .*, write `axes: zyx`"):
        axis_order(lengths, None, "a.npy")
    assert axis_order(lengths, None, "a.npy", configured="zyx").shape == lengths


def _npy(folder: Path, values: np.ndarray) -> str:
    np.save(folder / "a.npy", values)
    return str(folder / "a.npy")


def _fortran(folder: Path, values: np.ndarray) -> str:
    return _npy(folder, np.asfortranarray(values))


def _hdf5(folder: Path, values: np.ndarray) -> str:
    with h5py.File(folder / "a.h5", "w") as file:
        file["raw"] = values
    return f"{folder}/a.h5:/raw"


def _zarr(folder: Path, values: np.ndarray) -> str:
    zarr.create_array(str(folder / "a.zarr"), data=values, chunks=(16, 16, 4))
    return str(folder / "a.zarr")


def _shaped(folder: Path, values: np.ndarray) -> str:
    tifffile.imwrite(folder / "a.tif", values, photometric="minisblack")
    return str(folder / "a.tif")


def _pages(folder: Path, values: np.ndarray) -> str:
    tifffile.imwrite(folder / "a.tif", values, photometric="minisblack", metadata=None)
    return str(folder / "a.tif")


@pytest.mark.parametrize("write", [_npy, _fortran, _hdf5, _zarr, _shaped, _pages])
@pytest.mark.parametrize("axes", ["yxz", "xyz"])
def test_arrays_with_their_sections_last_are_refused_until_the_user_names_the_axes(
    tmp_path: Path, write, axes: str
) -> None:
    stored = VALUES.transpose(["zyx".index(axis) for axis in axes])
    address = write(tmp_path, np.ascontiguousarray(stored))
    assert f"`axes: {axes}`" in refusal(address)
    np.testing.assert_array_equal(whole(opened(address, axes=axes)), VALUES)
    np.testing.assert_array_equal(whole(opened(address, axes="zyx")), stored)


@pytest.mark.parametrize("write", [_shaped, _pages])
def test_pages_three_times_as_high_as_wide_are_read(tmp_path: Path, write) -> None:
    """A page has a height and a width, so that less is doubtful than in an array."""
    assert opened(write(tmp_path, np.zeros((90, 80, 24), np.uint8))).shape == (90, 80, 24)


def test_names_of_the_axes_longer_than_one_are_enough(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    values = np.arange(4 * 6 * 5, dtype=np.uint8).reshape(4, 1, 6, 5)
    with h5py.File(path, "w") as file:
        file["raw"] = values
    source = opened(f"{path}:/raw", axes="yxz")
    np.testing.assert_array_equal(whole(source), values[:, 0].transpose(2, 0, 1))
