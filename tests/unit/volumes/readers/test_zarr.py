"""Zarr and OME-Zarr as they are written by zarr, ome-zarr, ngff-zarr and bioformats2raw; torn files are refused."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import zarr

from unet.geometry.box import Box
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_source

SHAPE = (5, 37, 50)
WHOLE = Box.of_shape(SHAPE)


def volume(dtype: str = "uint8", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Noise over the whole range of the dtype."""
    limits = np.iinfo(dtype)
    return np.random.default_rng(0).integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def assert_reads(address: Path | str, expected: np.ndarray) -> None:
    """The source has the shape, dtype and, in several boxes, the voxels of an array; it travels to other processes."""
    source = open_source(str(address))
    source.check(Box.of_shape(source.shape))
    assert (source.shape, source.dtype) == (expected.shape, expected.dtype)
    z, y, x = expected.shape
    for box in (Box.of_shape(expected.shape), Box((0, 3, 5), (z, y - 1, x - 2)), Box((z - 1, 0, 7), (z, 9, 8))):
        np.testing.assert_array_equal(source.read(box), expected[box.slices])
    restored = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(restored.read(box), expected[box.slices])


def refusal(address: Path | str) -> str:
    """The message with which an address is refused at opening."""
    with pytest.raises(SourceError) as refused:
        open_source(str(address))
    return str(refused.value)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_arrays_read_as_written(tmp_path: Path, zarr_format: int) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=zarr_format)
    for name, values in {"raw": volume("uint16"), "labels/ids": volume("uint64")}.items():
        array = group.create_array(name, shape=SHAPE, chunks=(2, 16, 16), dtype=values.dtype)
        array[:] = values
    assert_reads(f"{tmp_path}/a.zarr:/raw", volume("uint16"))
    assert_reads(f"{tmp_path}/a.zarr/raw", volume("uint16"))
    assert_reads(f"{tmp_path}/a.zarr:/labels/ids", volume("uint64"))


def test_zarr_array_without_an_ending_is_known_by_its_metadata(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "plain", data=volume()[0], chunks=(16, 16))
    assert_reads(tmp_path / "plain", volume()[:1])
    assert open_source(str(tmp_path / "plain")).files == [tmp_path / "plain" / "zarr.json"]


def write_ome_zarr(path: Path, values: np.ndarray, axes: str, scale: list[float], version: str, unit: str) -> None:
    zarr_format = 2 if version == "0.4" else 3
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    group.create_array("0", shape=values.shape, chunks=values.shape, dtype=values.dtype)[:] = values
    group.create_array("1", shape=(1,) * values.ndim, chunks=(1,) * values.ndim, dtype=values.dtype)
    translation = [7.0 * (axis in "zyx") for axis in axes]
    transforms = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": translation}]
    kinds = {"t": {"type": "time"}, "c": {"type": "channel"}}
    multiscale = {
        "version": version,
        "axes": [{"name": axis, **kinds.get(axis, {"type": "space", "unit": unit})} for axis in axes],
        "datasets": [
            {"path": "0", "coordinateTransformations": transforms},
            {"path": "1", "coordinateTransformations": transforms},
        ],
    }
    attributes = {"multiscales": [multiscale]}
    group.attrs.update(attributes if version == "0.4" else {"ome": {"version": version, **attributes}})


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(("unit", "nm"), [("nanometer", 1.0), ("micrometer", 1e3)])
@pytest.mark.parametrize("axes", ["zyx", "tczyx"])
def test_ome_zarr_reads_its_finest_level(tmp_path: Path, version: str, unit: str, nm: float, axes: str) -> None:
    scale = [1.0] * (len(axes) - 3) + [50 / nm, 8 / nm, 4 / nm]
    stored = volume().reshape((1,) * (len(axes) - 3) + SHAPE)
    write_ome_zarr(tmp_path / "a.zarr", stored, axes, scale, version, unit)
    assert_reads(tmp_path / "a.zarr", volume())
    source = open_source(str(tmp_path / "a.zarr"))
    assert source.voxel_size_nm == pytest.approx((50, 8, 4))
    assert source.offset_nm == pytest.approx((7 * nm, 7 * nm, 7 * nm))


def test_ome_zarr_of_axes_in_another_order_reads_as_z_y_x(tmp_path: Path) -> None:
    stored = volume()[None].transpose(3, 2, 0, 1)
    write_ome_zarr(tmp_path / "a.zarr", stored, "xycz", [4, 8, 1, 50], "0.5", "nanometer")
    assert_reads(tmp_path / "a.zarr", volume())
    assert open_source(str(tmp_path / "a.zarr")).voxel_size_nm == (50, 8, 4)


def test_ome_zarr_of_two_dimensions_is_one_section_of_unknown_thickness(tmp_path: Path) -> None:
    write_ome_zarr(tmp_path / "a.zarr", volume()[0], "yx", [4, 4], "0.5", "nanometer")
    assert_reads(tmp_path / "a.zarr", volume()[:1])
    assert open_source(str(tmp_path / "a.zarr")).voxel_size_nm is None


@pytest.mark.parametrize("axes", ["czyx", "zcyx", "xyzc"])
def test_ome_zarr_reads_its_channels(tmp_path: Path, axes: str) -> None:
    values = volume(shape=(2, 3, 7, 9))
    stored = values.transpose(["czyx".index(axis) for axis in axes])
    scale = [{"z": 50.0, "y": 4.0, "x": 4.0}.get(axis, 1.0) for axis in axes]
    write_ome_zarr(tmp_path / "a.zarr", stored, axes, scale, "0.5", "nanometer")
    source, box = open_source(str(tmp_path / "a.zarr")), Box((0, 2, 1), (2, 7, 8))
    assert (source.channels, source.shape, source.voxel_size_nm) == (2, (3, 7, 9), (50, 4, 4))
    np.testing.assert_array_equal(source.read(box), values[:, *box.slices])


def test_ome_zarr_with_time_points_is_refused_with_its_axes(tmp_path: Path) -> None:
    write_ome_zarr(tmp_path / "a.zarr", volume(shape=(2, 3, 9, 9)), "tzyx", [1, 1, 1, 1], "0.5", "nanometer")
    assert "axes t of 2, z of 3, y of 9, x of 9" in refusal(tmp_path / "a.zarr")


def test_a_store_without_an_array_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    message = refusal(tmp_path / "a.zarr")
    assert message.startswith(f"{tmp_path}/a.zarr: no Zarr array or group")
    assert message.endswith("it holds no array; copy it again")


def test_absent_zarr_array_is_refused_with_those_that_are_there(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("volumes/raw", shape=SHAPE, dtype="uint8")
    for address in (f"{tmp_path}/a.zarr:/volumes/labels", f"{tmp_path}/a.zarr"):
        assert "/volumes/raw (5, 37, 50)" in refusal(address)
