"""N5 as tensorstore writes it, with the attributes of Paintera, n5-viewer and OpenOrganelle."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore

from tests.conftest import S3Server
from tests.unit.volumes.readers.reading import SHAPE, assert_reads, refusal, volume
from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.volumes.input_states import input_state
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_source
from unet.volumes.readers.tensorstore_arrays import key_value_store

WHOLE = Box.of_shape(SHAPE)


def write_n5(path: Path, values: np.ndarray, compression: dict[str, Any] | None = None, **attributes: Any) -> Path:
    """A dataset of values (z, y, x), which N5 stores as x, y, z; its container has a version."""
    stored = values.transpose()
    metadata = {
        "dimensions": stored.shape,
        "blockSize": [16, 20, 2, 1, 1][: values.ndim],
        "dataType": values.dtype.name,
        "compression": compression or {"type": "gzip"},
    }
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": str(path)}, "metadata": metadata}
    tensorstore.open(spec, create=True).result().write(stored).result()
    container = next(one for one in (path, *path.parents) if one.suffix == ".n5")
    if container != path:
        (container / "attributes.json").write_text(json.dumps({"n5": "2.5.0"}))
    set_attributes(path, **attributes)
    return path


def set_attributes(path: Path, **attributes: Any) -> None:
    """Add attributes to a dataset or group."""
    path.mkdir(exist_ok=True)
    file = path / "attributes.json"
    before = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**before, **attributes}))


COMPRESSIONS: dict[str, dict[str, Any]] = {
    "raw": {"type": "raw"},
    "gzip": {"type": "gzip"},
    "zlib": {"type": "gzip", "useZlib": True},
    "bzip2": {"type": "bzip2"},
    "xz": {"type": "xz"},
    "zstd": {"type": "zstd"},
    "blosc": {"type": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1},
    "blosc copied": {"type": "blosc", "cname": "lz4", "clevel": 0, "shuffle": 1},
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_n5_reads_as_written_and_torn_blocks_are_errors_that_name_their_file(tmp_path: Path, compression: str) -> None:
    write_n5(tmp_path / "a.n5/em", volume("uint16"), COMPRESSIONS[compression])
    assert_reads(tmp_path / "a.n5:/em", volume("uint16"))
    block = tmp_path / "a.n5/em/1/0/0"
    whole = block.read_bytes()
    for length in sorted({0, 1, 7, 16, *(len(whole) * i // 10 for i in range(1, 10)), len(whole) - 1}):
        block.write_bytes(whole[:length])
        with pytest.raises(SourceError, match=re.escape(str(block))):
            open_source(f"{tmp_path}/a.n5:/em").read(WHOLE)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int16", "float32", "uint32", "uint64", "int64"])
def test_n5_of_every_type_reads_as_written(tmp_path: Path, dtype: str) -> None:
    assert_reads(write_n5(tmp_path / "a.n5", volume(dtype)), volume(dtype))


@pytest.mark.parametrize("address", ["a.n5:/em/s1", "a.n5/em/s1"])
def test_a_level_is_read_where_it_is_named_and_the_finest_of_a_group(tmp_path: Path, address: str) -> None:
    resolution = {"dimensions": [4.0, 4.0, 40.0], "unit": "nm"}
    write_n5(tmp_path / "a.n5/em/s0", volume(), pixelResolution=resolution)
    coarse = volume()[:, ::2, ::2]
    write_n5(tmp_path / "a.n5/em/s1", coarse, pixelResolution=resolution, downsamplingFactors=[2, 2, 1])
    for group in ("a.n5:/em", "a.n5/em"):
        assert_reads(tmp_path / group, volume())
        source = open_source(str(tmp_path / group))
        assert source.voxel_size_nm == (40, 4, 4)
        assert "/em is a pyramid; its finest level, /em/s0, is read" in source.remarks[0]
    assert_reads(tmp_path / address, coarse)
    source = open_source(str(tmp_path / address))
    assert source.voxel_size_nm == (40, 8, 8)
    assert "level s1 is read, which has coarser voxels than the finest, /em/s0" in source.remarks[0]


@pytest.mark.parametrize(
    ("attributes", "size", "offset"),
    [
        ({"pixelResolution": [4.0, 5.0, 40.0]}, (40, 5, 4), None),
        ({"pixelResolution": {"dimensions": [0.004, 0.005, 0.04], "unit": "um"}}, (40, 5, 4), None),
        ({"resolution": [4, 5, 40], "offset": [8, 10, 80]}, (40, 5, 4), (80, 10, 8)),
        ({"resolution": [4, 5, 40], "units": ["nm", "nm", "nm"]}, (40, 5, 4), None),
        (
            {
                "transform": {
                    "axes": ["z", "y", "x"],
                    "scale": [40, 5, 4],
                    "translate": [80, 10, 8],
                    "units": ["nm"] * 3,
                },
                "pixelResolution": {"dimensions": [1, 1, 1], "unit": "nm"},
            },
            (40, 5, 4),
            (80, 10, 8),
        ),
        ({"resolution": [40, 4, 4]}, None, None),
        ({"resolution": [0, 0, 0]}, None, None),
    ],
)
def test_attributes_tell_the_voxel_size(tmp_path: Path, attributes: dict[str, Any], size: Any, offset: Any) -> None:
    source = open_source(str(write_n5(tmp_path / "a.n5", volume(), **attributes)))
    assert source.voxel_size_nm == (None if size is None else pytest.approx(size))
    assert source.offset_nm == (None if offset is None else pytest.approx(offset))
    if attributes == {"resolution": [40, 4, 4]}:
        assert "in N5 it is x, y, z, and z would be 4 nm beside 40 nm of x" in source.remarks[0]


def test_a_negative_resolution_is_refused(tmp_path: Path) -> None:
    write_n5(tmp_path / "a.n5", volume(), resolution=[4, 4, -40], units=["nm"] * 3)
    assert "cannot be negative" in refusal(tmp_path / "a.n5")


def test_axes_are_followed(tmp_path: Path) -> None:
    turned = volume().transpose(2, 0, 1).copy()  # x, z, y for numpy; y, z, x for N5
    write_n5(tmp_path / "a.n5", turned, axes=["y", "z", "x"])
    assert_reads(tmp_path / "a.n5", volume())
    write_n5(tmp_path / "b.n5", turned)
    source = open_source(SourceConfig(path=str(tmp_path / "b.n5"), axes="yzx"))
    np.testing.assert_array_equal(source.read(WHOLE), volume())


def test_an_attribute_axes_that_is_no_list_of_names_does_not_count(tmp_path: Path) -> None:
    write_n5(tmp_path / "a.n5", volume(), axes=["z", "", "x"])
    assert_reads(tmp_path / "a.n5", volume())


def test_axes_of_a_transform_that_may_mean_two_orders_are_refused(tmp_path: Path) -> None:
    transform = {"axes": ["x", "y", "z"], "scale": [4, 4, 40], "translate": [0, 0, 0], "units": ["nm"] * 3}
    write_n5(tmp_path / "a.n5", volume(), transform=transform)
    assert "write `axes: xyz` at this source if the first of the dimensions is x" in refusal(tmp_path / "a.n5")
    source = open_source(SourceConfig(path=str(tmp_path / "a.n5"), axes="xyz"))
    np.testing.assert_array_equal(source.read(WHOLE), volume())
    assert source.voxel_size_nm == (40, 4, 4)
    set_attributes(tmp_path / "a.n5", transform={**transform, "order": "F"})
    assert_reads(tmp_path / "a.n5", volume())


def test_axes_of_length_1_are_left_out_and_longer_ones_need_a_name(tmp_path: Path) -> None:
    write_n5(tmp_path / "a.n5", volume()[None, :, None])
    assert_reads(tmp_path / "a.n5", volume())
    write_n5(tmp_path / "b.n5", np.stack([volume(), volume()]))
    assert "axes x of 50, y of 37, z of 5, ? of 2" in refusal(tmp_path / "b.n5")
    source = open_source(SourceConfig(path=str(tmp_path / "b.n5"), axes="xyzc"))
    assert (source.channels, source.shape) == (2, SHAPE)


def test_several_datasets_are_refused_with_a_list(tmp_path: Path) -> None:
    for name in ("raw", "labels/cells"):
        write_n5(tmp_path / "a.n5" / name, volume())
    for address in ("a.n5", "a.n5:/none"):
        message = refusal(tmp_path / address)
        assert "the container holds: /labels/cells (50, 37, 5) (x, y, z), /raw (50, 37, 5) (x, y, z)" in message


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"compression": {"type": "lz4", "blockSize": 65536}}, "compression lz4 is not read; write the dataset again"),
        ({"dataType": "string"}, "dataType string is not supported"),
        ({"isLabelMultiset": True}, "is a multiset of labels of Paintera"),
        ({"blockSize": [16, 16]}, r"dimensions \[50, 37, 5\] and blockSize \[16, 16\] .* do not fit"),
        ({"blockSize": [16, 0, 2]}, "do not fit"),
        ({"dimensions": [50, -37, 5]}, "do not fit"),
        ({"dimensions": "x"}, "do not fit"),
    ],
)
def test_what_cannot_be_read_is_told_at_opening(tmp_path: Path, attributes: dict[str, Any], message: str) -> None:
    set_attributes(write_n5(tmp_path / "a.n5", volume()), **attributes)
    assert re.search(message, refusal(tmp_path / "a.n5"))


def test_attributes_that_are_cut_short_are_told_with_their_file(tmp_path: Path) -> None:
    write_n5(tmp_path / "a.n5/raw", volume())
    file = tmp_path / "a.n5/raw/attributes.json"
    whole = file.read_bytes()
    for length in (0, len(whole) // 2):
        file.write_bytes(whole[:length])
        assert f"{file}: is no JSON" in refusal(tmp_path / "a.n5:/raw")


def test_missing_blocks_are_counted_and_changed_ones_seen(tmp_path: Path) -> None:
    path = write_n5(tmp_path / "a.n5", volume())
    source, part = open_source(str(path)), Box((0, 0, 0), (2, 20, 16))
    (found,) = source.missing_chunks(WHOLE)
    assert (found.missing, found.count, found.kind) == (0, 24, "blocks")
    before, of_part = input_state(str(path)), source.state(part)
    assert len(of_part) == 2
    (path / "3/1/2").unlink()
    assert source.missing_chunks(WHOLE)[0].missing == 1
    assert source.state(part) == of_part
    assert input_state(str(path)) != before
    before = input_state(str(path))
    (path / "0/0/0").write_bytes((path / "0/0/0").read_bytes() + b"\0")
    assert source.state(part) != of_part
    assert input_state(str(path)) != before


def test_n5_at_an_address_reads_as_written(tmp_path: Path, s3: S3Server, bucket: str) -> None:
    write_n5(tmp_path / "a.n5/em/s0", volume(), pixelResolution={"dimensions": [4, 4, 40], "unit": "nm"})
    files = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    s3.upload(bucket, files)
    for address in ("a.n5:/em/s0", "a.n5:/em", "a.n5/em/s0"):
        assert_reads(f"s3://{bucket}/{address}", volume())
        assert open_source(f"s3://{bucket}/{address}").voxel_size_nm == (40, 4, 4)
    assert_reads(f"n5://s3://{bucket}/a.n5:/em/s0", volume())
    address = f"s3://{bucket}/a.n5:/em/s0"
    before = input_state(address)
    s3.delete(bucket, "a.n5/em/s0/1/0/0")
    assert open_source(address).missing_chunks(WHOLE)[0].missing == 1
    assert input_state(address) != before


@pytest.mark.parametrize("package", ["tensorstore"])
def test_a_missing_library_is_told_with_its_extra(tmp_path: Path, package: str, monkeypatch: Any) -> None:
    write_n5(tmp_path / "a.n5", volume())
    monkeypatch.setitem(sys.modules, package, None)
    assert re.search(r"needs tensorstore, of the extra formats: pip install .*\[formats\]", refusal(tmp_path / "a.n5"))


def test_an_address_that_tensorstore_does_not_read_is_told() -> None:
    with pytest.raises(SourceError, match="are read at s3://, gs://, http:// and https:// only"):
        key_value_store("az://account/container/a.n5", "em")
