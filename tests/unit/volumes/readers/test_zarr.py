"""Zarr and OME-Zarr as they are written by zarr, ome-zarr, ngff-zarr and bioformats2raw; torn files are refused."""

import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import ngff_zarr
import numcodecs
import numpy as np
import pytest
import zarr
from ome_zarr.writer import write_image, write_labels
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, ZstdCodec

from tests.unit.volumes.readers.reading import SHAPE, assert_reads, refusal, volume
from unet.config.source import SourceConfig
from unet.config.volumes import VolumeConfig
from unet.geometry.box import Box
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_source
from unet.volumes.sources import open_volume

WHOLE = Box.of_shape(SHAPE)


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


def test_names_that_contradict_each_other_are_refused_until_the_user_decides(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    group.create_array("0", data=volume(), dimension_names=["x", "y", "z"])
    group.attrs["ome"] = ome("zyx", [{"path": "0"}])
    assert re.search("axes z, y, x by the multiscales.*, but x, y, z by dimension_names", refusal(tmp_path / "a.zarr"))
    source = open_source(SourceConfig(path=str(tmp_path / "a.zarr"), axes="zyx"))
    np.testing.assert_array_equal(source.read(WHOLE), volume())


# -- OME-Zarr ---------------------------------------------------------------------------------------------------------


def ome(axes: str, datasets: list[dict[str, Any]], unit: str = "nanometer", **more: Any) -> dict[str, Any]:
    """The metadata of an image of version 0.5."""
    kinds = {"t": {"type": "time"}, "c": {"type": "channel"}}
    named = [{"name": axis, **kinds.get(axis, {"type": "space", "unit": unit})} for axis in axes]
    return {"version": "0.5", "multiscales": [{"axes": named, "datasets": datasets, **more}]}


def level(path: str, scale: list[float], translation: list[float] | None = None) -> dict[str, Any]:
    """One level of an image."""
    moved = [{"type": "translation", "translation": translation}] if translation else []
    return {"path": path, "coordinateTransformations": [{"type": "scale", "scale": scale}, *moved]}


def write_pyramid(group: zarr.Group, values: np.ndarray) -> None:
    """Two levels, the coarser one half as fine along y and x."""
    group.create_array("0", data=values)
    group.create_array("1", data=np.ascontiguousarray(values[:, ::2, ::2]))
    group.attrs["ome"] = ome("zyx", [level("0", [50, 4, 4]), level("1", [50, 8, 8], [0, 2, 2])])


@pytest.mark.parametrize("address", ["a.zarr/1", "a.zarr:/1", "a.zarr:1"])
def test_a_level_has_its_own_scale_and_is_told(tmp_path: Path, address: str) -> None:
    write_pyramid(zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3), volume())
    assert_reads(tmp_path / address, volume()[:, ::2, ::2])
    source = open_source(str(tmp_path / address))
    assert (source.voxel_size_nm, source.offset_nm) == ((50, 8, 8), (0, 2, 2))
    assert "level 1 is read, number 2 of 2, which has coarser voxels than the finest, 0" in source.remarks[0]
    finest = open_source(f"{tmp_path}/{address.removesuffix('1')}0")
    assert (finest.shape, finest.voxel_size_nm, finest.remarks) == (SHAPE, (50, 4, 4), [])


def write_bioformats2raw(path: Path, series: int) -> None:
    """The layout of bioformats2raw 0.9: a root of OME-Zarr 0.4 with one group per series, and their names in OME."""
    root = zarr.open_group(path, mode="w", zarr_format=2)
    root.attrs["bioformats2raw.layout"] = 3
    root.create_group("OME").attrs["series"] = [str(i) for i in range(series)]
    for i in range(series):
        image = root.create_group(str(i))
        multiscales = ome("tczyx", [level(str(n), [1, 1, 0.05, 0.004 * 2**n, 0.004 * 2**n]) for n in range(2)])
        axes = [
            axis | ({"unit": "micrometer"} if "unit" in axis else {}) for axis in multiscales["multiscales"][0]["axes"]
        ]
        image.attrs["multiscales"] = [{**multiscales["multiscales"][0], "version": "0.4", "axes": axes}]
        for n in range(2):
            image.create_array(str(n), data=np.ascontiguousarray(volume()[None, None, ..., :: 2**n, :: 2**n]))


def test_the_only_series_of_bioformats2raw_is_read(tmp_path: Path) -> None:
    write_bioformats2raw(tmp_path / "a.zarr", 1)
    for address in ("a.zarr", "a.zarr:/0", "a.zarr:/0/0", "a.zarr/0", "a.zarr/0/0"):
        assert_reads(tmp_path / address, volume())
        source = open_source(str(tmp_path / address))
        assert source.voxel_size_nm == pytest.approx((50, 4, 4))
        assert source.remarks == []
    shutil.rmtree(tmp_path / "a.zarr/OME")
    assert_reads(tmp_path / "a.zarr", volume())


def test_several_series_of_bioformats2raw_are_refused_with_a_list(tmp_path: Path) -> None:
    write_bioformats2raw(tmp_path / "a.zarr", 2)
    message = refusal(tmp_path / "a.zarr")
    assert "holds 2 images" in message
    assert "write a.zarr:/path, one of: /0 (1, 1, 5, 37, 50), /1 (1, 1, 5, 37, 50)" in message
    assert_reads(tmp_path / "a.zarr:/1", volume())


def test_a_plate_is_refused_with_the_images_of_its_wells(tmp_path: Path) -> None:
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    root.attrs["ome"] = {"version": "0.5", "plate": {"wells": [{"path": "A/1"}, {"path": "B/2"}]}}
    for well in ("A/1", "B/2"):
        group = root.create_group(well)
        group.attrs["ome"] = {"version": "0.5", "well": {"images": [{"path": "0"}]}}
        write_pyramid(group.create_group("0"), volume())
    assert "one of: /A/1/0 (5, 37, 50), /B/2/0 (5, 37, 50)" in refusal(tmp_path / "a.zarr")
    assert_reads(tmp_path / "a.zarr:/B/2/0", volume())
    assert_reads(tmp_path / "a.zarr:/B/2", volume())
    assert "/B/2/0 is read" in open_source(str(tmp_path / "a.zarr:/B/2")).remarks[0]


def test_several_images_of_a_group_are_refused_with_their_names(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    for name in ("a", "b"):
        group.create_array(name, data=volume())
    images = [ome("zyx", [level(n, [50, 4, 4])], name=f"the {n}")["multiscales"][0] for n in "ab"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": images}
    assert "holds 2 images; name one: the a: /a, the b: /b" in refusal(tmp_path / "a.zarr")
    assert open_source(str(tmp_path / "a.zarr:/b")).voxel_size_nm == (50, 4, 4)


@pytest.mark.parametrize(("translation", "place"), [([100.0, 40.0, 20.0], (100, 40, 20)), (None, None)])
def test_labels_of_a_part_have_a_place_only_where_the_metadata_say_it(
    tmp_path: Path, translation: list[float] | None, place: tuple[float, ...] | None
) -> None:
    group = zarr.open_group(tmp_path / "labels.zarr", mode="w", zarr_format=3)
    group.create_array("0", data=volume("uint16")[:3, :20, :30])
    group.attrs["ome"] = ome("zyx", [level("0", [50, 4, 4], translation)])
    assert open_source(f"{tmp_path}/labels.zarr").offset_nm == place
    raw = zarr.open_group(tmp_path / "raw.zarr", mode="w", zarr_format=3)
    write_pyramid(raw, volume())
    given = VolumeConfig.model_validate(
        {"raw": f"{tmp_path}/raw.zarr", "labels": f"{tmp_path}/labels.zarr", "label_kind": "instances"}
    )
    if place is None:
        with pytest.raises(SourceError, match=r"say with `offset: \[z, y, x\]`"):
            open_volume(given)
        return
    labels = open_volume(given).labels
    assert labels is not None
    assert labels.shape == SHAPE
    np.testing.assert_array_equal(labels.read(WHOLE)[2:, 10:30, 5:35], volume("uint16")[:3, :20, :30])


@pytest.mark.parametrize("version", ["0.1", "0.2", "0.3"])
def test_images_of_old_versions_have_five_axes(tmp_path: Path, version: str) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=volume()[None, None])
    axes = {"axes": list("tczyx")} if version == "0.3" else {}
    group.attrs["multiscales"] = [{"version": version, "datasets": [{"path": "0"}], **axes}]
    assert_reads(tmp_path / "a.zarr", volume())
    assert open_source(str(tmp_path / "a.zarr")).voxel_size_nm is None


def test_images_and_labels_of_ome_zarr_read_as_written(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    known: dict[str, Any] = {
        "axes": list("zyx"),
        "scale": {"z": 50.0, "y": 4.0, "x": 4.0},
        "axes_units": dict.fromkeys("zyx", "nanometer"),
        "scale_factors": [{"z": 1, "y": 2, "x": 2}],
    }
    write_image(volume(), group, **known)
    write_labels(volume("uint16"), group, name="cells", **known)
    assert_reads(tmp_path / "a.zarr", volume())
    assert_reads(tmp_path / "a.zarr:/labels/cells", volume("uint16"))
    assert open_source(str(tmp_path / "a.zarr:/labels/cells")).voxel_size_nm == (50, 4, 4)
    assert_reads(tmp_path / "a.zarr:/labels", volume("uint16"))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_images_of_ngff_zarr_read_as_written(tmp_path: Path, version: str) -> None:
    units = dict.fromkeys("zyx", "nanometer")
    scale = {"z": 50.0, "y": 4.0, "x": 4.0}
    image = ngff_zarr.to_ngff_image(volume(), dims=list("zyx"), scale=scale, axes_units=units)
    ngff_zarr.to_ngff_zarr(str(tmp_path / "a.zarr"), ngff_zarr.to_multiscales(image, []), version=version)
    assert_reads(tmp_path / "a.zarr", volume())
    assert open_source(str(tmp_path / "a.zarr")).voxel_size_nm == (50, 4, 4)


@pytest.mark.parametrize(
    ("scale", "found"), [([0, 0, 0], None), ([50, 0, 4], None), ([float("nan"), 4, 4], None), ([-50, 4, 4], "negative")]
)
def test_a_scale_that_is_not_positive_is_unknown_or_refused(
    tmp_path: Path, scale: list[float], found: str | None
) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    group.create_array("0", data=volume())
    group.attrs["ome"] = ome("zyx", [level("0", scale)])
    if found:
        assert re.search(r"\(-50, 4, 4\) nm .*cannot be negative", refusal(tmp_path / "a.zarr"))
    else:
        assert open_source(str(tmp_path / "a.zarr")).voxel_size_nm is None


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


def test_the_level_with_the_most_voxels_is_read(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    write_pyramid(group, volume())
    group.attrs["ome"] = ome("zyx", [level("1", [50, 8, 8]), level("0", [50, 4, 4])])
    assert_reads(tmp_path / "a.zarr", volume())
    assert any(
        "the first level is not the largest; 0 is read" in one for one in open_source(str(tmp_path / "a.zarr")).remarks
    )


def test_zip_archives_read_as_written(tmp_path: Path) -> None:
    write_pyramid(zarr.open_group(tmp_path / "a", mode="w", zarr_format=3), volume())
    for name in ("a.zarr.zip", "a.ozx"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for path in sorted((tmp_path / "a").rglob("*")):
                archive.write(path, path.relative_to(tmp_path / "a"))
        assert_reads(tmp_path / name, volume())
        assert_reads(tmp_path / f"{name}:/1", volume()[:, ::2, ::2])
        source = open_source(str(tmp_path / name))
        assert source.missing_chunks(WHOLE)[0].missing == 0
        assert len(source.state(WHOLE)) > 1
        assert source.files == [tmp_path / name]


# -- Torn and absent data ---------------------------------------------------------------------------------------------

CODECS: dict[str, dict[str, Any]] = {
    "2 raw": {"zarr_format": 2, "compressors": None},
    "2 gzip": {"zarr_format": 2, "compressors": numcodecs.GZip()},
    "2 zlib": {"zarr_format": 2, "compressors": numcodecs.Zlib()},
    "2 zstd": {"zarr_format": 2, "compressors": numcodecs.Zstd()},
    "2 lz4": {"zarr_format": 2, "compressors": numcodecs.LZ4()},
    "2 blosc lz4": {"zarr_format": 2, "compressors": numcodecs.Blosc("lz4")},
    "2 blosc zstd": {"zarr_format": 2, "compressors": numcodecs.Blosc("zstd", shuffle=2)},
    "2 blosc copied": {"zarr_format": 2, "compressors": numcodecs.Blosc("lz4", clevel=0)},
    "3 raw": {"zarr_format": 3, "compressors": None},
    "3 gzip": {"zarr_format": 3, "compressors": GzipCodec()},
    "3 zstd": {"zarr_format": 3, "compressors": ZstdCodec()},
    "3 blosc": {"zarr_format": 3, "compressors": BloscCodec(cname="lz4")},
    "3 blosc copied": {"zarr_format": 3, "compressors": BloscCodec(clevel=0)},
    "3 crc32c": {"zarr_format": 3, "compressors": [Crc32cCodec()]},
    "3 shards of raw": {"zarr_format": 3, "compressors": None, "shards": SHAPE, "chunks": (5, 37, 25)},
    "3 shards of blosc": {
        "zarr_format": 3,
        "compressors": BloscCodec(clevel=0),
        "shards": SHAPE,
        "chunks": (5, 37, 25),
    },
    "3 shards of zstd": {"zarr_format": 3, "compressors": ZstdCodec(), "shards": SHAPE, "chunks": (5, 37, 25)},
}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_chunk_that_is_cut_short_is_an_error_that_names_its_file(tmp_path: Path, codec: str, dtype: str) -> None:
    shape = (5, 37, 50) if "shards" in CODECS[codec] else (5, 37, 60)
    values = volume(dtype, shape) % 90
    known = {"chunks": (5, 37, 30), **CODECS[codec]}
    array = zarr.create_array(tmp_path / "a.zarr", shape=shape, dtype=dtype, **known)
    array[...] = values
    chunk = tmp_path / "a.zarr" / array.metadata.encode_chunk_key((0, 0, 0))
    whole = chunk.read_bytes()
    source, box = open_source(str(tmp_path / "a.zarr")), Box((0, 0, 0), (5, 37, 25))
    np.testing.assert_array_equal(source.read(box), values[:, :, :25])
    for length in sorted({0, 1, 7, 16, *(len(whole) * i // 10 for i in range(1, 10)), len(whole) - 1}):
        chunk.write_bytes(whole[:length])
        with pytest.raises(SourceError, match=re.escape(str(chunk))):
            source.read(box)


def test_a_raw_chunk_that_is_too_long_or_of_another_type_is_an_error(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=volume(), chunks=SHAPE, compressors=None)
    chunk = tmp_path / "a.zarr/c/0/0/0"
    for content in (chunk.read_bytes() + b"\0", volume().astype("uint16").tobytes()):
        chunk.write_bytes(content)
        with pytest.raises(SourceError, match=re.escape(str(chunk))):
            open_source(str(tmp_path / "a.zarr")).read(WHOLE)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_blosc_chunk_that_says_more_than_it_can_hold_is_an_error(tmp_path: Path, zarr_format: Any) -> None:
    """Its header alone would make c-blosc reserve 1.5 GB."""
    codec: Any = numcodecs.Blosc() if zarr_format == 2 else BloscCodec()
    zarr.create_array(tmp_path / "a.zarr", data=volume(), chunks=SHAPE, compressors=codec, zarr_format=zarr_format)
    chunk = tmp_path / ("a.zarr/0.0.0" if zarr_format == 2 else "a.zarr/c/0/0/0")
    content = bytearray(chunk.read_bytes())
    content[4:8] = (1_500_000_000).to_bytes(4, "little")
    chunk.write_bytes(content)
    with pytest.raises(SourceError, match="cannot hold the 1500000000 that it says"):
        open_source(str(tmp_path / "a.zarr")).read(WHOLE)


def test_missing_chunks_are_counted_and_empty_ones_are_refused(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=volume(), chunks=(1, 37, 50))
    (tmp_path / "a.zarr/c/2/0/0").unlink()
    source = open_source(str(tmp_path / "a.zarr"))
    (missing,) = source.missing_chunks(WHOLE)
    assert (missing.missing, missing.count) == (1, 5)
    (tmp_path / "a.zarr/c/3/0/0").write_bytes(b"")
    with pytest.raises(SourceError, match=r"a\.zarr/c/3/0/0: the file of a chunk is empty; copy it again"):
        source.missing_chunks(WHOLE)


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("checksum", [True, False])
def test_chunks_that_shards_lack_are_counted_by_the_index_of_each_shard(
    tmp_path: Path, location: Any, checksum: bool
) -> None:
    """Zarr does not write chunks of the fill value."""
    values = volume() // 2 + 1
    values[0, :20, :10] = values[4, 20:37, 40:50] = values[2] = 0  # chunks, and a shard
    index = [BytesCodec(), *([Crc32cCodec()] if checksum else [])]
    codec = ShardingCodec(chunk_shape=(1, 20, 10), index_codecs=index, index_location=location)
    store = zarr.create_array(
        tmp_path / "a.zarr", shape=SHAPE, dtype="uint8", chunks=(1, 40, 50), serializer=codec, compressors=None
    )
    store[:] = values
    source = open_source(str(tmp_path / "a.zarr"))
    shards, inside = source.missing_chunks(WHOLE)
    assert (shards.missing, shards.count, inside.missing, inside.count) == (1, 5, 2, 40)
    assert str(inside).endswith("2 of 40 chunks in 4 shards that are stored are not stored; they read as 0")
    assert len(source.missing_chunks(Box((0, 20, 0), (2, 37, 50)))) == 1
    assert source.missing_chunks(Box((0, 0, 9), (1, 1, 11)))[1].missing == 1
    of_objects = open_source(f"file://{tmp_path}/a.zarr").missing_chunks(WHOLE)
    assert [(one.missing, one.count) for one in of_objects] == [(1, 5), (2, 40)]


def test_shards_that_are_cut_short_or_damaged_are_found_by_their_index(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=volume(), shards=SHAPE, chunks=(1, 37, 25), compressors=None)
    shard, source = tmp_path / "a.zarr/c/0/0/0", open_source(str(tmp_path / "a.zarr"))
    whole = shard.read_bytes()
    for content, message in (
        (whole[:20], "cut short, 20 bytes, of which its index alone needs 164"),
        (whole[:-1], "index of the shard is damaged"),
        (whole[5000:], "cut short, .* its chunks reach beyond"),
    ):
        shard.write_bytes(content)
        with pytest.raises(SourceError, match=message):
            source.missing_chunks(WHOLE)


def test_partial_copies_are_refused_with_what_is_missing(tmp_path: Path) -> None:
    write_pyramid(zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3), volume())
    metadata = tmp_path / "a.zarr/0/zarr.json"
    whole = metadata.read_bytes()
    for length in (0, len(whole) // 2, len(whole) - 1):
        metadata.write_bytes(whole[:length])
        assert f"{metadata}: is no JSON" in refusal(tmp_path / "a.zarr:/0")
        assert "the metadata of /0 are damaged or cut short" in refusal(tmp_path / "a.zarr")
    shutil.rmtree(tmp_path / "a.zarr/0")
    assert re.search("name the levels 0, 1, of which 0 are missing; copy it again", refusal(tmp_path / "a.zarr"))


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
