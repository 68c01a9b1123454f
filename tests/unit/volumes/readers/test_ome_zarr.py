"""OME-Zarr as it is written by ome-zarr, ngff-zarr and bioformats2raw: axes, levels, series, plates and places."""

import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import ngff_zarr
import numpy as np
import pytest
import zarr
from ome_zarr.writer import write_image, write_labels

from tests.unit.volumes.readers.reading import SHAPE, assert_reads, refusal, volume
from unet.config.source import SourceConfig
from unet.config.volumes import VolumeConfig
from unet.geometry.box import Box
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_source
from unet.volumes.sources import open_volume

WHOLE = Box.of_shape(SHAPE)


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


def test_levels_that_are_listed_the_coarsest_first_are_told_by_their_scales(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    write_pyramid(group, volume())
    group.attrs["ome"] = ome("zyx", [level("1", [50, 8, 8], [0, 2, 2]), level("0", [50, 4, 4])])
    assert_reads(tmp_path / "a.zarr", volume())
    assert [source.split(": ")[1] for source in open_source(str(tmp_path / "a.zarr")).remarks] == [
        "the first level is not the largest; 0 is read"
    ]
    coarse = open_source(f"{tmp_path}/a.zarr/1")
    assert "level 1 is read, number 1 of 2, which has coarser voxels than the finest, 0" in coarse.remarks[0]


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


def test_names_that_contradict_each_other_are_refused_until_the_user_decides(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    group.create_array("0", data=volume(), dimension_names=["x", "y", "z"])
    group.attrs["ome"] = ome("zyx", [{"path": "0"}])
    assert re.search("axes z, y, x by the multiscales.*, but x, y, z by dimension_names", refusal(tmp_path / "a.zarr"))
    source = open_source(SourceConfig(path=str(tmp_path / "a.zarr"), axes="zyx"))
    np.testing.assert_array_equal(source.read(WHOLE), volume())


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
