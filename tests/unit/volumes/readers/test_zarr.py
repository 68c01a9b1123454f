"""Zarr arrays: names of axes, attributes of other programs, and types."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from tests.unit.volumes.readers.reading import SHAPE, assert_reads, refusal, truncate, volume
from unet.volumes.readers.open import open_source


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


# -- Names of axes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("names", ["xyz", "czyx", "zyxc", "yxz"])
def test_names_of_xarray_and_of_zarr_are_followed(tmp_path: Path, names: str, zarr_format: int) -> None:
    values = volume(shape=(1, *SHAPE))
    stored = values.transpose(["czyx".index(axis) for axis in names] + ([0] if "c" not in names else []))
    stored = stored if "c" in names else stored[..., 0]
    words = {"c": "channel", "z": "z", "y": "Y", "x": "x"}
    known: dict[str, Any] = {"dimension_names": [words[axis] for axis in names]} if zarr_format == 3 else {}
    array = zarr.create_array(tmp_path / "a.zarr", data=stored, zarr_format=zarr_format, **known)
    if zarr_format == 2:
        array.attrs["_ARRAY_DIMENSIONS"] = [words[axis] for axis in names]
    assert_reads(tmp_path / "a.zarr", values[0])
    source = open_source(str(tmp_path / "a.zarr"))
    assert source.axes_from == ("dimension_names" if zarr_format == 3 else "_ARRAY_DIMENSIONS")


def test_names_that_nobody_gave_are_no_names(tmp_path: Path) -> None:
    names = ["dim_0", "dim_1", "dim_2"]
    zarr.create_array(tmp_path / "a.zarr", data=volume(), zarr_format=3, dimension_names=names)
    assert_reads(tmp_path / "a.zarr", volume())


def test_time_points_without_multiscales_are_refused_with_their_name(tmp_path: Path) -> None:
    names = ["time", "z", "y", "x"]
    zarr.create_array(tmp_path / "a.zarr", data=volume(shape=(2, 3, 4, 5)), zarr_format=3, dimension_names=names)
    assert "axes t of 2, z of 3, y of 4, x of 5 by dimension_names" in refusal(tmp_path / "a.zarr")


@pytest.mark.parametrize(
    "attributes",
    [
        {"voxel_size": [50, 4, 4], "offset": [100, 8, 0], "axis_names": ["z", "y", "x"], "units": ["nm", "nm", "nm"]},
        {"resolution": [50, 4, 4], "offset": [100, 8, 0]},
        {
            "transform": {
                "axes": ["x", "y", "z"],
                "scale": [0.004, 0.004, 0.05],
                "translate": [0, 0.008, 0.1],
                "units": ["um"] * 3,
            }
        },
    ],
)
def test_attributes_of_funlib_cremi_and_openorganelle_place_an_array(
    tmp_path: Path, attributes: dict[str, Any]
) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=volume(), zarr_format=2).attrs.update(attributes)
    source = open_source(str(tmp_path / "a.zarr"))
    assert source.voxel_size_nm == pytest.approx((50, 4, 4))
    assert source.offset_nm == pytest.approx((100, 8, 0))


def test_old_consolidated_metadata_do_not_count(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("raw", data=volume()[:3], chunks=(1, 37, 50))
    zarr.consolidate_metadata(str(tmp_path / "a.zarr"))
    group = zarr.open_group(tmp_path / "a.zarr", mode="r+", use_consolidated=False)
    group["raw"].append(volume()[3:], axis=0)
    assert_reads(tmp_path / "a.zarr:/raw", volume())


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_half_precision_reads_as_float32(tmp_path: Path, zarr_format: int) -> None:
    values = np.random.default_rng(0).normal(size=SHAPE).astype("float16")
    zarr.create_array(tmp_path / "a.zarr", data=values, zarr_format=zarr_format)
    assert_reads(tmp_path / "a.zarr", values.astype("float32"))


def test_codecs_and_chunks_that_nobody_knows_are_told_at_opening(tmp_path: Path) -> None:
    for zarr_format, name, key in ((2, ".zarray", "compressor"), (3, "zarr.json", "codecs")):
        zarr.create_array(tmp_path / "a.zarr", data=volume(), zarr_format=zarr_format, overwrite=True)
        file = tmp_path / "a.zarr" / name
        metadata = json.loads(file.read_text())
        metadata[key] = {"id": "jpegxl"} if zarr_format == 2 else [*metadata[key], {"name": "jpegxl"}]
        file.write_text(json.dumps(metadata))
        assert re.search("a.zarr: cannot be read as Zarr, .*jpegxl", refusal(tmp_path / "a.zarr"))
        shutil.rmtree(tmp_path / "a.zarr")
    zarr.create_array(tmp_path / "a.zarr", data=volume(), zarr_format=2)
    metadata = json.loads((tmp_path / "a.zarr/.zarray").read_text())
    (tmp_path / "a.zarr/.zarray").write_text(json.dumps({**metadata, "chunks": [0, 9, 9]}))
    assert "its chunks have the shape (0, 9, 9)" in refusal(tmp_path / "a.zarr")


@pytest.mark.parametrize(
    "attributes",
    [
        {"multiscales": "x"},
        {"multiscales": [{"datasets": "x"}]},
        {"multiscales": [{"datasets": [{}], "axes": "zyx"}]},
        {"multiscales": [{"datasets": [{"path": "../../0"}], "axes": ["z", "y", "x"]}]},
        {"plate": {"wells": "x"}},
        {"plate": {"wells": ["x"]}},
        {"labels": []},
        {"bioformats2raw.layout": 3},
    ],
)
def test_metadata_that_say_nothing_are_refused_by_name(tmp_path: Path, attributes: dict[str, Any]) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("raw", data=volume())
    group.attrs.update(attributes)
    assert refusal(tmp_path / "a.zarr").startswith(f"{tmp_path}/a.zarr: ")
    assert_reads(tmp_path / "a.zarr:/raw", volume())


@pytest.mark.parametrize("dtype", ["U5", "datetime64[ns]", "complex64", "S3", [("a", "u1"), ("b", "f4")]])
@pytest.mark.filterwarnings("ignore")
def test_types_that_are_no_intensities_are_refused(tmp_path: Path, dtype: Any) -> None:
    zarr.create_array(tmp_path / "a.zarr", shape=SHAPE, dtype=np.dtype(dtype), zarr_format=2)
    assert re.search("dtype .* is not supported; convert", refusal(tmp_path / "a.zarr"))


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    metadata = {"zarr_format": 2, "shape": [2, 3, 4], "chunks": [2, 3, 4], "dtype": "|O", "order": "C"}
    content = json.dumps({**metadata, "compressor": None, "fill_value": None, "filters": [{"id": "pickle"}]})
    (tmp_path / "a.zarr/.zarray").write_text(content)
    assert "a.zarr" in refusal(tmp_path / "a.zarr")


def test_the_only_dimension_without_a_name_is_the_one_that_is_left(tmp_path: Path) -> None:
    names = [None, "y", "x"]
    zarr.create_array(f"{tmp_path}/a.zarr", data=volume(), chunks=SHAPE, dimension_names=names, zarr_format=3)
    assert_reads(tmp_path / "a.zarr", volume())


def test_a_zip_archive_that_is_cut_short_is_told_to_be(tmp_path: Path) -> None:
    store = zarr.storage.ZipStore(tmp_path / "a.zarr.zip", mode="w")
    zarr.create_array(store, data=volume(), chunks=(2, 16, 16))
    store.close()
    truncate(tmp_path / "a.zarr.zip", 0.8)
    assert "it is cut short (BadZipFile" in refusal(tmp_path / "a.zarr.zip")
