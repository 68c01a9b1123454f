"""HDF5 as its many writers leave it: axes, voxel sizes, layouts, filters, links, and voxels that are not there."""

import json
import multiprocessing
import pickle
import re
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from tests.unit.volumes.readers.reading import SHAPE, assert_reads, read_headers, refusal, truncate, volume
from tests.unit.volumes.readers.test_open import write_hdf5
from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_source
from unet.volumes.readers.source import MissingChunks, Source

WHOLE = Box.of_shape(SHAPE)
PLACE = "a.h5:/raw"


def stored(path: Path, values: np.ndarray, name: str = "raw", **attributes: Any) -> Source:
    """Write a dataset with attributes, and open it."""
    with h5py.File(path, "a") as file:
        file.create_dataset(name, data=values).attrs.update(attributes)
    return open_source(f"{path}:/{name}")


def axistags(keys: str, **each: Any) -> str:
    return json.dumps({"axes": [{"key": key, "typeFlags": 2, "resolution": 0} | each.get(key, {}) for key in keys]})


# -- as written --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "uint64"])
def test_hdf5_reads_as_written(tmp_path: Path, dtype: str) -> None:
    address = write_hdf5(tmp_path / "a.h5", volume(dtype), resolution=(50, 4, 4), offset=(100, 8, 0))
    assert_reads(address, volume(dtype))
    source = open_source(address)
    assert (source.voxel_size_nm, source.offset_nm) == ((50, 4, 4), (100, 8, 0))
    assert (source.files, source.remarks) == ([tmp_path / "a.h5"], [])


def test_other_dimensions_read_as_z_y_x(tmp_path: Path) -> None:
    assert_reads(write_hdf5(tmp_path / "a.h5", volume()[0]), volume()[:1])
    assert_reads(write_hdf5(tmp_path / "b.h5", volume()[None, None]), volume())


def test_other_types_read_as_native(tmp_path: Path) -> None:
    assert_reads(write_hdf5(tmp_path / "a.h5", volume("uint16").astype(">u2")), volume("uint16"))
    assert_reads(write_hdf5(tmp_path / "b.h5", volume() > 9), (volume() > 9).astype(np.uint8))
    half = volume("float32").astype(np.float16)
    assert_reads(write_hdf5(tmp_path / "c.h5", half), half.astype(np.float32))
    assert_reads(write_hdf5(tmp_path / "d.h5", half.astype(">f2")), half.astype(np.float32))
    names = h5py.enum_dtype({"nothing": 0, "membrane": 1}, basetype="u1")
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file.create_dataset("raw", data=volume() % 2, dtype=names)
    assert_reads(f"{tmp_path}/e.h5:/raw", volume() % 2)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (np.zeros((9, 9, 9), [("id", "u4"), ("size", "f4")]), r"records with the fields id, size"),
        (np.zeros((9, 9, 9), np.complex64), r"dtype complex64 is not supported"),
        (np.full((9, 9), b"text"), r"no numbers"),
        (h5py.Empty("u1"), r"the dataset is empty"),
        (np.zeros(9), r"a shape of \(9,\), and an image has at least two axes"),
        (np.uint8(3), r"a shape of \(\)"),
        (np.zeros((0, 9, 9), np.uint8), r"none of its voxels|holds no voxels"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path: Path, values: Any, what: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = values
    assert re.search(rf"a\.h5:/raw: .*{what}", refusal(f"{tmp_path}/{PLACE}"))


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


# -- which dataset -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", ["", ":/volumes", ":volumes"])
def test_the_only_image_is_read_and_told(tmp_path: Path, inner: str) -> None:
    address = write_hdf5(tmp_path / "a.h5", volume())
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["volumes/edges"], file["names"] = np.zeros((900, 2), int), ["a"]
    assert "read is /volumes/raw, the only image of the file" in open_source(f"{tmp_path}/a.h5{inner}").remarks[0]
    np.testing.assert_array_equal(open_source(f"{tmp_path}/a.h5{inner}").read(WHOLE), open_source(address).read(WHOLE))
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["volumes/labels"] = volume("uint64")
    assert re.search(
        r"which dataset.*2 of them may be images.*/volumes/labels \(5, 37, 50\), /volumes/raw",
        refusal(f"{tmp_path}/a.h5{inner}"),
    )


def test_absent_dataset_is_refused_with_those_that_are_there(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "a.h5", volume())
    message = refusal(f"{tmp_path}/a.h5:/volumes/labels")
    assert "no dataset /volumes/labels; write file.h5:/path, the file holds: /volumes/raw (5, 37, 50)" in message


@pytest.mark.parametrize("inner", [":raw", ":/raw", ":/my group/raw image (1)"])
def test_paths_inside_with_and_without_a_slash(tmp_path: Path, inner: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[inner[1:]] = volume()
        file["other"] = volume()[::-1]
    assert_reads(f"{tmp_path}/a.h5{inner}", volume())


def test_links_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["gone"], file["itself"] = h5py.ExternalLink("b.h5", "/raw"), h5py.SoftLink("/itself")
        file["no"], file["loop"] = h5py.SoftLink("/nothing"), file["/"]
        file["raw"] = volume()
    for name, what in {
        "gone": "a link to /raw of b.h5, which cannot",
        "itself": "itself",
        "no": "/nothing, which",
    }.items():
        assert what in refusal(f"{tmp_path}/a.h5:/{name}")
    assert_reads(f"{tmp_path}/a.h5:/loop/loop/raw", volume())
    assert "only image" in open_source(f"{tmp_path}/a.h5").remarks[0]


def test_an_external_link_is_followed_and_told_where_it_leaves_the_folder(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    write_hdf5(tmp_path / "b.h5", volume())
    with h5py.File(tmp_path / "here" / "a.h5", "w") as file:
        file["link"] = h5py.ExternalLink(str(tmp_path / "b.h5"), "/volumes")
    address = f"{tmp_path}/here/a.h5:/link/raw"
    assert_reads(address, volume())
    assert str(tmp_path / "b.h5") in open_source(address).remarks[0]
    assert open_source(f"{tmp_path}/here/a.h5").shape == SHAPE


def test_a_file_of_another_ending_is_known_by_its_signature(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "a.h5", volume())
    (tmp_path / "a.h5").rename(tmp_path / "a.volume")
    assert_reads(f"{tmp_path}/a.volume:/volumes/raw", volume())


# -- layouts -----------------------------------------------------------------------------------------------------------

XML = """<SpimData><SequenceDescription><ViewSetups><ViewSetup><id>0</id><voxelSize><unit>micrometer</unit>
<size>0.004 0.008 0.05</size></voxelSize></ViewSetup></ViewSetups></SequenceDescription></SpimData>"""


def bigdataviewer(path: Path, values: np.ndarray, setups: int = 1) -> None:
    with h5py.File(path, "w") as file:
        for setup in range(setups):
            for level, step in enumerate((1, 2)):
                file[f"t00000/s{setup:02d}/{level}/cells"] = values[:, ::step, ::step].view(np.int16)
            file[f"s{setup:02d}/resolutions"] = np.array([[1, 1, 1], [2, 2, 1]], float)
            file[f"s{setup:02d}/subdivisions"] = np.full((2, 3), 16, np.int32)


def test_bigdataviewer_means_uint16_and_has_its_voxel_size_beside(tmp_path: Path) -> None:
    values = volume("uint16")
    bigdataviewer(tmp_path / "a.h5", values)
    assert_reads(f"{tmp_path}/a.h5:/t00000/s00/0/cells", values)
    source = open_source(f"{tmp_path}/a.h5")
    assert source.voxel_size_nm is None
    assert "they are read as uint16" in "\n".join(source.remarks)
    (tmp_path / "a.xml").write_text(XML)
    assert open_source(f"{tmp_path}/a.h5:t00000/s00/0/cells").voxel_size_nm == pytest.approx((50, 8, 4))
    assert open_source(f"{tmp_path}/a.h5:t00000/s00/1/cells").voxel_size_nm == pytest.approx((50, 16, 8))
    (tmp_path / "a.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]>' + XML)
    assert open_source(f"{tmp_path}/a.h5").voxel_size_nm is None


def test_bigdataviewer_with_a_type_is_read_as_it_says(tmp_path: Path) -> None:
    bigdataviewer(tmp_path / "a.h5", volume("uint16"))
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["s00"].attrs["dataType"] = "int16"
    assert_reads(f"{tmp_path}/a.h5:/t00000/s00/0/cells", volume("uint16").view(np.int16))


def test_of_several_setups_one_has_to_be_named(tmp_path: Path) -> None:
    bigdataviewer(tmp_path / "a.h5", volume("uint16"), setups=2)
    assert "2 of them may be images" in refusal(tmp_path / "a.h5")


def imaris(path: Path, channels: int = 1) -> None:
    letters = {axis: np.array(list(str(n)), "S1") for axis, n in zip("ZYX", SHAPE, strict=True)}
    with h5py.File(path, "w") as file:
        for level in range(2):
            for channel in range(channels):
                group = file.create_group(f"DataSet/ResolutionLevel {level}/TimePoint 0/Channel {channel}")
                group.attrs.update({f"ImageSize{axis}": value for axis, value in letters.items()})
                padded = np.pad(volume("uint16"), ((0, 3), (0, 27), (0, 14)))
                group.create_dataset("Data", data=padded, chunks=(4, 32, 32), compression="gzip")
                group["Histogram"] = np.zeros(256, np.uint64)
        info = file.create_group("DataSetInfo/Image")
        for i, extent in enumerate((0.2, 0.296, 0.25)):
            info.attrs[f"ExtMin{i}"], info.attrs[f"ExtMax{i}"] = np.array([b"0"]), np.array(list(str(extent)), "S1")
        info.attrs["Unit"] = np.array([b"u", b"m"])
        file["Thumbnail/Data"] = np.zeros((64, 256), np.uint8)


def test_imaris_has_its_true_size_and_its_voxel_size(tmp_path: Path) -> None:
    imaris(tmp_path / "a.ims")
    assert_reads(f"{tmp_path}/a.ims:/DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data", volume("uint16"))
    source = open_source(str(tmp_path / "a.ims"))
    assert source.voxel_size_nm == pytest.approx((50, 8, 4))
    assert source.missing_chunks(WHOLE)[0].count == 2 * 2 * 2
    imaris(tmp_path / "b.ims", channels=2)
    assert "2 of them may be images" in refusal(tmp_path / "b.ims")


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


def test_old_mat_files_are_refused_with_how_to_save(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(600))
    assert "-v7.3" in refusal(f"{tmp_path}/a.mat:/raw")


# -- filters, and files that are damaged -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Bitshuffle", "Blosc", "Zstd", "LZ4"])
def test_filters_of_hdf5plugin_are_read(tmp_path: Path, name: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=volume("uint16"), chunks=(1, 37, 50), **getattr(hdf5plugin, name)())
    assert_reads(f"{tmp_path}/{PLACE}", volume("uint16"))


def test_a_missing_filter_is_told_with_the_extra_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=volume("uint16"), chunks=(1, 37, 50), **hdf5plugin.Bitshuffle())
    monkeypatch.setattr("unet.volumes.readers.hdf5_storage.filter_avail", lambda number: False)
    monkeypatch.setattr("unet.volumes.readers.hdf5_storage.is_installed", lambda package: False)
    message = refusal(f"{tmp_path}/{PLACE}")
    assert "compressed by HDF5 filter 32008 (bitshuffle" in message
    assert "needs hdf5plugin, of the extra formats: pip install" in message


@pytest.mark.parametrize("fraction", [0.1 * i for i in range(10)])
def test_hdf5_cut_short_is_refused(tmp_path: Path, fraction: float) -> None:
    address = write_hdf5(tmp_path / "a.h5", volume())
    truncate(tmp_path / "a.h5", fraction)
    assert "a.h5: cannot be read as HDF5" in refusal(address)


def test_bits_flipped_anywhere_in_the_metadata_end_in_a_named_error_or_in_voxels(tmp_path: Path) -> None:
    address = write_hdf5(tmp_path / "a.h5", volume(shape=(2, 20, 20)), resolution=(50, 4, 4))
    content = (tmp_path / "a.h5").read_bytes()
    rng = np.random.default_rng(5)
    for at in rng.integers(0, min(len(content), 4096), 60):
        damaged = bytearray(content)
        damaged[at] ^= 1 << int(rng.integers(8))
        (tmp_path / "a.h5").write_bytes(damaged)
        try:
            read_headers(address)
        except SourceError as error:
            assert "a.h5" in str(error)  # noqa: PT017 - either is right


def test_a_huge_dataset_that_was_never_written_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("contiguous", shape=(10**6,) * 3, dtype="u1")
        file.create_dataset("chunked", shape=(10**6,) * 3, chunks=(64,) * 3, dtype="u1")
    for name in ("contiguous", "chunked"):
        assert "none of its voxels was ever written" in refusal(f"{tmp_path}/a.h5:/{name}")


def test_a_huge_chunk_in_a_small_file_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        raw = file.create_dataset("raw", shape=(1500,) * 3, chunks=(1500,) * 3, dtype="u1", compression="gzip")
        raw.id.write_direct_chunk((0, 0, 0), b"x" * 100)
    assert "one chunk would hold 3,375,000,000 bytes" in refusal(f"{tmp_path}/{PLACE}")


# -- voxels in other files ---------------------------------------------------------------------------------------------


def virtual(folder: Path, values: np.ndarray, source_shape: tuple[int, ...] | None = None) -> str:
    """Write a virtual dataset of one file per section."""
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    for z, section in enumerate(values):
        with h5py.File(folder / f"raw-{z}.h5", "w") as file:
            file["data"] = section
        layout[z] = h5py.VirtualSource(f"raw-{z}.h5", "data", source_shape or section.shape)
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_virtual_dataset("raw", layout)
    return f"{folder}/{PLACE}"


def rewritten(folder: Path, z: int, values: Any, name: str = "data") -> None:
    with h5py.File(folder / f"raw-{z}.h5", "w") as file:
        file[name] = values


def test_a_virtual_dataset_reads_beside_its_sources_from_any_folder(tmp_path: Path, monkeypatch: Any) -> None:
    address = virtual(tmp_path, volume())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert_reads(address, volume())
    source = open_source(address)
    assert len(source.files_of(Box((1, 0, 0), (3, 9, 9)))) == 1 + 2
    assert source.missing_chunks(WHOLE) == [MissingChunks(address, 0, volume().size, 0, "voxels")]


def test_only_the_sources_of_a_box_are_needed(tmp_path: Path) -> None:
    address = virtual(tmp_path, volume())
    source = open_source(address)
    np.testing.assert_array_equal(source.read(WHOLE), volume())
    (tmp_path / "raw-3.h5").unlink()
    for opened in (source, open_source(address), pickle.loads(pickle.dumps(source))):
        opened.check(Box((0, 0, 0), (3, *SHAPE[1:])))
        np.testing.assert_array_equal(opened.read(Box((0, 0, 0), (3, *SHAPE[1:]))), volume()[:3])
        for look in (opened.check, opened.read, opened.missing_chunks):
            with pytest.raises(SourceError, match=r"5 other files, of which 1 are missing, the first is .*raw-3\.h5"):
                look(WHOLE)


@pytest.mark.parametrize(
    ("values", "name", "told"),
    [
        (volume()[0, :30], "data", r"of shape \(30, 50\), but the virtual dataset needs \(1, 37, 50\)"),
        (volume()[0].T, "data", r"of shape \(50, 37\)"),
        (volume("uint16")[0], "data", r"of uint16, which uint8 of the virtual dataset cannot hold"),
        (volume()[0], "other", r"and there is no such dataset"),
        (h5py.Empty("u1"), "data", r"and there is no such dataset"),
    ],
)
def test_sources_that_cannot_hold_their_voxels_are_named(tmp_path: Path, values: Any, name: str, told: str) -> None:
    address = virtual(tmp_path, volume())
    rewritten(tmp_path, 2, values, name)
    with pytest.raises(SourceError, match=rf"raw-2\.h5:data.*{told}"):
        open_source(address).read(WHOLE)


def test_a_damaged_source_is_named(tmp_path: Path) -> None:
    address = virtual(tmp_path, volume())
    (tmp_path / "raw-2.h5").write_bytes(b"no HDF5")
    with pytest.raises(SourceError, match=r"raw-2\.h5: cannot be read as HDF5"):
        open_source(address).check(WHOLE)


def test_a_part_without_a_source_is_counted(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout(SHAPE, "u1")
    write_hdf5(tmp_path / "b.h5", volume())
    layout[:3, :, :25] = h5py.VirtualSource("b.h5", "volumes/raw", SHAPE)[:3, :, :25]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("raw", layout, fillvalue=7)
    source = open_source(f"{tmp_path}/{PLACE}")
    [found] = source.missing_chunks(WHOLE)
    assert (found.missing, found.count, found.fill_value) == (volume().size - 3 * 37 * 25, volume().size, 7)
    assert source.missing_chunks(Box((0, 0, 0), (3, 37, 25)))[0].missing == 0


def test_chunks_that_a_source_never_wrote_are_counted(tmp_path: Path) -> None:
    address = virtual(tmp_path, volume())
    with h5py.File(tmp_path / "raw-1.h5", "w") as file:
        file.create_dataset("data", shape=(37, 50), chunks=(37, 25), dtype="u1")[:, :25] = 1
    assert open_source(address).missing_chunks(WHOLE)[0].missing == 37 * 25


def test_a_virtual_dataset_that_has_itself_as_a_source_is_refused(tmp_path: Path) -> None:
    for one, other in (("a", "b"), ("b", "a")):
        layout = h5py.VirtualLayout(SHAPE, "u1")
        layout[:] = h5py.VirtualSource(f"{other}.h5", "raw", SHAPE)
        with h5py.File(tmp_path / f"{one}.h5", "w") as file:
            file.create_virtual_dataset("raw", layout)
    with pytest.raises(SourceError, match="has itself as a source"):
        open_source(f"{tmp_path}/{PLACE}").read(WHOLE)


def numbered(folder: Path, values: np.ndarray) -> str:
    """Write a virtual dataset whose sources are named by number, as many as there are."""
    unlimited, section = h5py.h5s.UNLIMITED, values.shape[1:]
    space = h5py.h5s.create_simple((0, *section), (unlimited, *section))
    space.select_hyperslab((0, 0, 0), (unlimited, 1, 1), stride=(1, *section), block=(1, *section))
    created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    created.set_virtual(space, b"raw-%b.h5", b"data", h5py.h5s.create_simple((1, *section)))
    for z, one in enumerate(values):
        rewritten(folder, z, one[None])
    with h5py.File(folder / "a.h5", "w", libver="latest") as file:
        h5py.h5d.create(file.id, b"raw", h5py.h5t.NATIVE_UINT8, space, created)
    return f"{folder}/{PLACE}"


def test_sources_named_by_number_are_read_and_a_gap_is_named(tmp_path: Path) -> None:
    address = numbered(tmp_path, volume())
    assert_reads(address, volume())
    (tmp_path / "raw-2.h5").unlink()
    assert re.search(r"raw-2\.h5 is missing, although there are 2 later ones", refusal(address))


@pytest.mark.parametrize("size", [0, 100])
def test_external_storage_is_found_beside_the_file_and_has_to_be_whole(
    tmp_path: Path, monkeypatch: Any, size: int
) -> None:
    monkeypatch.chdir(tmp_path)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", shape=SHAPE, dtype="u1", external=[("raw.bin", 0, h5py.h5f.UNLIMITED)])[:] = volume()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert_reads(f"{tmp_path}/{PLACE}", volume())
    truncate(tmp_path / "raw.bin", size / volume().size)
    assert re.search(
        rf"raw\.bin, which is cut short: {size} bytes, {volume().size} are needed", refusal(f"{tmp_path}/{PLACE}")
    )


def write_velox(path: Path, values: np.ndarray) -> str:
    """An image as Velox stores it: (y, x, frames), and the metadata of each frame in a column."""
    metadata = {"BinaryResult": {"PixelSize": {"width": "4e-09", "height": "5e-09"}}}
    metadata["BinaryResult"] |= {"PixelUnitX": "m", "PixelUnitY": "m"}  # type: ignore[dict-item]
    text = np.frombuffer(json.dumps(metadata).encode().ljust(500, b"\0"), np.uint8)
    with h5py.File(path, "w") as file:
        group = file.create_group(f"Data/Image/{'0a' * 16}")
        group["Data"], group["Metadata"] = values.transpose(1, 2, 0), np.repeat(text[:, None], len(values), axis=1)
    return str(path)


def test_an_image_of_velox_is_one_section_and_its_frames_are_no_sections(tmp_path: Path) -> None:
    address = write_velox(tmp_path / "a.emd", volume()[:1])
    source = open_source(address)
    np.testing.assert_array_equal(source.read(Box.of_shape(source.shape)), volume()[:1])
    assert any("pixels of 5 x 4 nm (y, x) by Velox, and no thickness" in remark for remark in source.remarks)
    assert re.search(
        r"t of 5 by the layout of the file; only c .*`axes`", refusal(write_velox(tmp_path / "b.emd", volume()))
    )


# -- one opening per process -------------------------------------------------------------------------------------------


def test_a_file_is_opened_once_and_again_only_if_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = write_hdf5(tmp_path / "a.h5", volume())
    source = open_source(address)
    opened: list[str] = []
    h5py_file = h5py.File
    monkeypatch.setattr(h5py, "File", lambda *given: opened.append(given[0]) or h5py_file(*given))
    for z in range(5):
        np.testing.assert_array_equal(source.read(Box((z, 0, 0), (z + 1, *SHAPE[1:]))), volume()[z : z + 1])
    assert len(opened) == 1
    (tmp_path / "a.h5").unlink()
    write_hdf5(tmp_path / "a.h5", volume()[::-1].copy())
    np.testing.assert_array_equal(source.read(WHOLE), volume()[::-1])


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_source_that_was_read_travels_to_other_processes(tmp_path: Path, start: str) -> None:
    source = open_source(write_hdf5(tmp_path / "a.h5", volume()))
    source.read(WHOLE)
    with multiprocessing.get_context(start).Pool(1) as pool:
        found = pool.apply_async(source.read, (Box((3, 0, 0), (4, *SHAPE[1:])),)).get(timeout=120)
    np.testing.assert_array_equal(found, volume()[3:4])
    np.testing.assert_array_equal(source.read(WHOLE), volume())


@pytest.mark.parametrize(
    ("chunks", "whole"),
    [((1, 37, 50), True), ((5, 64, 64), True), ((5, 16, 50), True), ((5, 16, 16), False), (None, False)],
)
def test_chunks_of_whole_sections_are_known(tmp_path: Path, chunks: Any, whole: bool) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        maxshape = (None, None, None) if chunks else None
        packed = "gzip" if chunks else None  # of chunks that are not packed, HDF5 reads parts
        file.create_dataset("raw", data=volume(), chunks=chunks, maxshape=maxshape, compression=packed)
    assert open_source(f"{tmp_path}/{PLACE}").whole_sections == whole


def test_the_cache_holds_the_chunks_of_a_layer_of_blocks(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=np.zeros((4, 2048, 2048), "u2"), chunks=(2, 512, 512), compression="gzip")
    source = open_source(f"{tmp_path}/{PLACE}")
    cache = source._file.get().id.get_access_plist().get_chunk_cache()
    assert cache[1] == 4 * 2048 * 2048 * 2
