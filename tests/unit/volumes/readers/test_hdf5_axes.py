"""HDF5 by its many writers: names of axes, voxel sizes and offsets, and who decides where they differ."""

import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.unit.volumes.readers.reading import SHAPE, assert_reads, refusal, volume
from tests.unit.volumes.readers.test_open import write_hdf5
from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_source
from unet.volumes.readers.source import Source

WHOLE = Box.of_shape(SHAPE)
PLACE = "a.h5:/raw"


def stored(path: Path, values: np.ndarray, name: str = "raw", **attributes: Any) -> Source:
    """Write a dataset with attributes, and open it."""
    with h5py.File(path, "a") as file:
        file.create_dataset(name, data=values).attrs.update(attributes)
    return open_source(f"{path}:/{name}")


def axistags(keys: str, **each: Any) -> str:
    return json.dumps({"axes": [{"key": key, "typeFlags": 2, "resolution": 0} | each.get(key, {}) for key in keys]})


# -- axes --------------------------------------------------------------------------------------------------------------


def named_axes(dataset: h5py.Dataset, how: str, names: str) -> None:
    """Name the axes of a dataset by one of the conventions."""
    if how == "axistags":
        dataset.attrs["axistags"] = axistags(names)
    elif how == "labels":
        for dim, name in zip(dataset.dims, names, strict=True):
            dim.label = name
    elif how == "scales":
        for i, name in enumerate(names):
            scale = dataset.file.create_dataset(name, data=np.arange(dataset.shape[i]))
            scale.make_scale(name)
            dataset.dims[i].attach_scale(scale)
    elif how == "nexus":
        dataset.parent.attrs.update({"signal": "raw", "axes": list(names)})
    else:
        dataset.attrs[how] = names if how == "axes" else list(names)


@pytest.mark.parametrize(
    "how", ["axistags", "labels", "scales", "nexus", "axes", "_ARRAY_DIMENSIONS", "axis_order", "dimension_order"]
)
@pytest.mark.parametrize("names", ["zyx", "xyz", "yxz", "zyxc", "tzyxc"])
def test_names_of_axes_are_followed(tmp_path: Path, how: str, names: str) -> None:
    lengths = dict(zip("tczyx", (1, 1, *SHAPE), strict=True))
    order = ["tczyx".index(name) for name in names]
    values = volume().reshape(1, 1, *SHAPE).transpose([*order, *(i for i in range(5) if i not in order)])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        named_axes(file.create_dataset("raw", data=values.reshape([lengths[n] for n in names])), how, names)
    assert_reads(f"{tmp_path}/{PLACE}", volume())


def test_channels_and_words_for_axes_are_known(tmp_path: Path) -> None:
    values = volume(shape=(4, 9, 9, 3))
    source = stored(tmp_path / "a.h5", values, _ARRAY_DIMENSIONS=["Depth", "height", "width", "channel"])
    assert (source.shape, source.channels) == ((4, 9, 9), 3)
    np.testing.assert_array_equal(source.read(Box.of_shape((4, 9, 9))), values.transpose(3, 0, 1, 2))


def test_time_points_by_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"t of 5, y of 37, x of 50 by the attribute axistags.*`axes` at this source"):
        stored(tmp_path / "a.h5", volume(), axistags=axistags("tyx"))


def test_names_that_differ_are_refused_with_both_until_the_user_says_which(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"zyx by the attribute axistags, but xyz by the attribute _ARRAY"):
        stored(tmp_path / "a.h5", volume(), axistags=axistags("zyx"), _ARRAY_DIMENSIONS=["x", "y", "z"])
    source = open_source(SourceConfig(path=f"{tmp_path}/{PLACE}", axes="zyx"))
    np.testing.assert_array_equal(source.read(WHOLE), volume())


@pytest.mark.parametrize("tags", ["no JSON", "[1]", '{"axes": 3}', '{"axes": [3]}', "", "[" * 9999])
def test_names_that_say_nothing_are_left_out(tmp_path: Path, tags: str) -> None:
    source = stored(tmp_path / "a.h5", volume(), axistags=tags, axes=[1, 2, 3], _ARRAY_DIMENSIONS=h5py.Empty("f"))
    np.testing.assert_array_equal(source.read(WHOLE), volume())


def test_five_axes_without_names_are_refused_with_their_lengths(tmp_path: Path) -> None:
    address = write_hdf5(tmp_path / "a.h5", volume(shape=(2, 3, 4, 9, 9)))
    assert "5 axes of lengths (2, 3, 4, 9, 9)" in refusal(address)


def test_four_axes_without_names_are_refused_until_the_user_names_them(tmp_path: Path) -> None:
    values = volume(shape=(3, 4, 9, 9))
    address = write_hdf5(tmp_path / "a.h5", values)
    assert re.search(r"4 axes of lengths \(3, 4, 9, 9\).*axes: czyx", refusal(address))
    source = open_source(SourceConfig(path=address, axes="czyx"))
    box = Box((1, 2, 0), (3, 9, 5))
    assert (source.channels, source.shape) == (3, (4, 9, 9))
    np.testing.assert_array_equal(source.read(box), values[:, *box.slices])


def test_matlab_is_refused_until_the_user_names_the_axes(tmp_path: Path) -> None:
    values = np.ascontiguousarray(volume().transpose(0, 2, 1))
    for path in (tmp_path / "a.mat", tmp_path / "a.h5"):
        with h5py.File(path, "w", userblock_size=512) as file:
            file["raw"] = values
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("raw", data=values).attrs["MATLAB_class"] = np.bytes_("uint8")
    for path in (tmp_path / "a.mat", tmp_path / "b.h5"):
        assert re.search(r"in reverse, .*\(5, 50, 37\).*write `axes: zxy`", refusal(f"{path}:/raw"))
        source = open_source(SourceConfig(path=str(path), axes="zxy"))
        np.testing.assert_array_equal(source.read(WHOLE), volume())
    assert re.search(r"user block, as MATLAB and Julia write.*write `axes: zxy`", refusal(f"{tmp_path}/{PLACE}"))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["raw"].attrs["axistags"] = axistags("zxy")
    assert_reads(f"{tmp_path}/{PLACE}", volume())


# -- voxel size and offset ---------------------------------------------------------------------------------------------

SIZES = [
    {"resolution": (50, 4, 4)},
    {"resolution": (0.05, 0.004, 0.004), "units": "um"},
    {"resolution": (0.05, 0.004, 4), "unit": ["micron", "µm", "nm"]},
    {"voxel_size": (50.0, 4.0, 4.0), "voxel_size_unit": "nm", "units": "counts"},
    {"pixel_size": (500, 40, 40), "units": "Angstrom"},
    {"element_size_um": (0.05, 0.004, 0.004)},
    {"element_size_um": (1.0, 1.0, 1.0), "resolution": (50, 4, 4)},  # the first was never set
    {"axistags": axistags("zyx", z={"resolution": 50, "unit": "nm"}, y={"resolution": 4, "unit": "nm"},
                          x={"resolution": 0.004, "unit": "um"})},
    {"axistags": axistags("zyx", z={"resolution": 50}, y={"resolution": 4}, x={"resolution": 4}),
     "axis_units": '{"z": "nm", "y": "nm", "x": "nm"}'},
]  # fmt: skip


@pytest.mark.parametrize("attributes", SIZES)
def test_voxel_sizes_of_many_writers(tmp_path: Path, attributes: dict) -> None:
    source = stored(tmp_path / "a.h5", volume(), **attributes)
    assert source.voxel_size_nm == pytest.approx((50, 4, 4))
    assert any(name in source.voxel_size_from for name in attributes)


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({"resolution": (4, 4)}, "resolution is [4, 4] and has no three numbers"),
        ({"resolution": 4.0}, "has no three numbers"),
        ({"resolution": "high"}, "has no three numbers"),
        ({"resolution": (50, 4, 4), "units": "pixel"}, "in a unit that is no length"),
        ({"resolution": (0, 4, 4)}, ""),
        ({"resolution": (50, 4, 4), "element_size_um": (0.05, 0.008, 0.008)}, "none of them is used"),
        (
            {"axistags": axistags("zyx", z={"resolution": 5}, y={"resolution": 4}, x={"resolution": 4})},
            "without a unit",
        ),
        ({"offset": (1, 2)}, "offset is [1, 2], and not three numbers"),
    ],
)
def test_what_says_no_voxel_size_is_told_and_left_out(tmp_path: Path, attributes: dict, told: str) -> None:
    source = stored(tmp_path / "a.h5", volume(), **attributes)
    assert (source.voxel_size_nm, source.offset_nm) == (None, None)
    assert told in "\n".join(source.remarks)


def test_a_negative_resolution_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"\(50, -4, 4\) nm .*cannot be negative"):
        stored(tmp_path / "a.h5", volume(), resolution=(50, -4, 4))


def test_an_attribute_is_z_y_x_whatever_the_order_of_the_axes(tmp_path: Path) -> None:
    source = stored(tmp_path / "a.h5", volume().T, resolution=(50, 4, 8), axistags=axistags("xyz"))
    assert source.voxel_size_nm == (50, 4, 8)
    assert "is read as (z, y, x), although the axes are stored as xyz" in "\n".join(source.remarks)


@pytest.mark.parametrize("how", ["scales", "nexus"])
def test_coordinates_of_the_axes_give_the_voxel_size(tmp_path: Path, how: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        raw = file.create_dataset("raw", data=volume())
        for i, (name, step) in enumerate({"z": 0.05, "y": 0.008, "x": 0.004}.items()):
            axis = file.create_dataset(name, data=3 + step * np.arange(SHAPE[i]))
            axis.attrs["units"] = "um"
            if how == "scales":
                axis.make_scale(name)
                raw.dims[i].attach_scale(axis)
        if how == "nexus":
            file.attrs.update({"signal": "raw", "axes": ["z", "y", "x"]})
    assert open_source(f"{tmp_path}/{PLACE}").voxel_size_nm == pytest.approx((50, 8, 4))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["z"][1] = 9
    assert open_source(f"{tmp_path}/{PLACE}").voxel_size_nm is None


@pytest.mark.parametrize("names", [("x", "", "z"), ("", "y", "z"), ("x", "y", "")])
def test_the_only_axis_without_a_label_is_the_one_that_is_left(tmp_path: Path, names: tuple[str, ...]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("raw", data=volume().T)
        for dim, name in zip(dataset.dims, names, strict=True):
            dim.label = name
    assert_reads(f"{tmp_path}/a.h5:/raw", volume())
    assert "the axis without a name" in open_source(f"{tmp_path}/a.h5:/raw").remarks[0]


def test_labels_of_one_axis_alone_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=volume()).dims[0].label = "x"
    assert "axes x of 5, ? of 37, ? of 50 by the labels of its dimensions" in refusal(f"{tmp_path}/a.h5:/raw")
