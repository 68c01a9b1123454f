"""Neuroglancer precomputed as tensorstore writes it, and chunks in gzip as CloudVolume writes them to a folder."""

import gzip
import json
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore

from tests.conftest import S3Server
from unet.geometry.box import Box
from unet.volumes.input_states import input_state
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_source

SHAPE = (5, 37, 50)
WHOLE = Box.of_shape(SHAPE)


def volume(dtype: str = "uint8", channels: int = 1) -> np.ndarray:
    """Noise (c, z, y, x), of few values, so that few bits code it."""
    rng = np.random.default_rng(0)
    if dtype == "float32":
        return rng.normal(size=(channels, *SHAPE)).astype(dtype)
    return rng.integers(0, 100, (channels, *SHAPE)).astype(dtype)


def write_precomputed(path: Path, values: np.ndarray, encoding: str = "raw", **scale: Any) -> Path:
    """A volume (c, z, y, x) of voxels of 40 by 5 by 4 nm; its first voxel is not at the origin."""
    kind = "segmentation" if values.dtype.name in ("uint32", "uint64") else "image"
    blocks = {"compressed_segmentation_block_size": [8, 8, 8]} if encoding == "compressed_segmentation" else {}
    known = {"size": SHAPE[::-1], "chunk_size": [16, 20, 2], "resolution": [4, 5, 40], "voxel_offset": [8, 16, 2]}
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{path}/"},
        "multiscale_metadata": {"type": kind, "data_type": values.dtype.name, "num_channels": len(values)},
        "scale_metadata": {**known, "encoding": encoding, **blocks, **scale},
    }
    tensorstore.open(spec, create=True).result().write(values.transpose(3, 2, 1, 0)).result()
    return path


def assert_reads(address: Path | str, expected: np.ndarray) -> None:
    """The source has the shape, dtype and, in several boxes, the voxels of an array; it travels to other processes."""
    source = open_source(str(address))
    assert (source.shape, source.dtype) == (expected.shape[-3:], expected.dtype)
    z, y, x = source.shape
    for box in (Box.of_shape(source.shape), Box((0, 3, 5), (z, y - 1, x - 2)), Box((z - 1, 0, 7), (z, 9, 8))):
        np.testing.assert_array_equal(source.read(box), expected[(..., *box.slices)])
    restored = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(restored.read(box), expected[(..., *box.slices)])


def refusal(address: Path | str) -> str:
    """The message with which an address is refused at opening."""
    with pytest.raises(SourceError) as refused:
        open_source(str(address))
    return str(refused.value)


@pytest.mark.parametrize(
    ("encoding", "dtype"),
    [
        ("raw", "uint8"),
        ("raw", "uint16"),
        ("raw", "float32"),
        ("raw", "uint64"),
        ("png", "uint8"),
        ("compressed_segmentation", "uint32"),
        ("compressed_segmentation", "uint64"),
    ],
)
def test_precomputed_reads_as_written_and_torn_chunks_are_errors(tmp_path: Path, encoding: str, dtype: str) -> None:
    path = write_precomputed(tmp_path / "em", volume(dtype), encoding)
    assert_reads(path, volume(dtype)[0])
    source = open_source(str(path))
    assert source.voxel_size_nm == (40, 5, 4)
    assert source.offset_nm == (80, 80, 32)
    chunk = next((path / "4_5_40").iterdir())
    whole = chunk.read_bytes()
    for length in sorted({0, 1, 7, *(len(whole) * i // 10 for i in range(1, 10))}):
        chunk.write_bytes(whole[:length])
        with pytest.raises(SourceError, match=re.escape(str(chunk))):
            open_source(str(path)).read(WHOLE)


def test_jpeg_reads_nearly_as_written(tmp_path: Path) -> None:
    smooth = np.broadcast_to(np.arange(50, dtype=np.uint8) * 4, (1, *SHAPE)).copy()
    path = write_precomputed(tmp_path / "em", smooth, "jpeg", jpeg_quality=100)
    found = open_source(str(path)).read(WHOLE)
    assert np.abs(found.astype(int) - smooth[0]).max() <= 3
    chunk = next((path / "4_5_40").iterdir())
    whole = chunk.read_bytes()
    for length in sorted({0, 1, *(len(whole) * i // 10 for i in range(1, 10)), len(whole) - 1}):
        chunk.write_bytes(whole[:length])
        with pytest.raises(SourceError, match=re.escape(str(chunk))):
            open_source(str(path)).read(WHOLE)


def test_channels_come_first(tmp_path: Path) -> None:
    path = write_precomputed(tmp_path / "em", volume(channels=3))
    assert open_source(str(path)).channels == 3
    assert_reads(path, volume(channels=3))


def two_scales(path: Path) -> None:
    """A coarser scale, which comes first, and the finest."""
    write_precomputed(path, volume())
    info = json.loads((path / "info").read_text())
    coarse = {**info["scales"][0], "key": "8_10_40", "resolution": [8, 10, 40], "size": [25, 18, 5]}
    info["scales"].insert(0, {**coarse, "voxel_offset": [4, 8, 2]})
    (path / "info").write_text(json.dumps(info))
    spec = {"driver": "neuroglancer_precomputed", "kvstore": {"driver": "file", "path": f"{path}/"}, "scale_index": 0}
    halved = volume()[:, :, :36:2, ::2]
    tensorstore.open(spec, open=True).result().write(halved.transpose(3, 2, 1, 0)).result()


@pytest.mark.parametrize("inner", [":0", ":/0", ":8_10_40", "/8_10_40"])
def test_a_scale_is_chosen_by_index_or_key_and_else_it_is_the_finest(tmp_path: Path, inner: str) -> None:
    two_scales(tmp_path / "em")
    assert_reads(tmp_path / "em", volume()[0])
    assert open_source(f"{tmp_path}/em").remarks == []
    assert_reads(f"{tmp_path}/em{inner}", volume()[0, :, :36:2, ::2])
    source = open_source(f"{tmp_path}/em{inner}")
    assert (source.voxel_size_nm, source.offset_nm) == ((40, 10, 8), (80, 80, 32))
    assert "scale 8_10_40 is read, which has coarser voxels than the finest, 4_5_40" in source.remarks[0]


def test_a_scale_that_is_not_there_is_refused_with_a_list(tmp_path: Path) -> None:
    two_scales(tmp_path / "em")
    message = refusal(f"{tmp_path}/em:7")
    assert "the scales are 0: 8_10_40 (25, 18, 5), 1: 4_5_40 (50, 37, 5) (x, y, z)" in message


@pytest.mark.parametrize("hashed", ["identity", "murmurhash3_x86_128"])
@pytest.mark.parametrize("bits", [(1, 1, 2), (0, 0, 5), (0, 3, 0)])
def test_shards_read_as_written_and_are_counted(tmp_path: Path, hashed: str, bits: tuple[int, int, int]) -> None:
    sharding = {
        "@type": "neuroglancer_uint64_sharded_v1",
        "preshift_bits": bits[0],
        "hash": hashed,
        "minishard_bits": bits[1],
        "shard_bits": bits[2],
        "minishard_index_encoding": "gzip",
        "data_encoding": "gzip",
    }
    path = write_precomputed(tmp_path / "em", volume(), sharding=sharding)
    assert_reads(path, volume()[0])
    source, shards = open_source(str(path)), sorted((path / "4_5_40").iterdir())
    (found,) = source.missing_chunks(WHOLE)
    assert (found.missing, found.count, found.kind) == (0, len(shards), "shards")
    assert {state[0] for state in source.state(WHOLE)} == {"info", *(f"4_5_40/{one.name}" for one in shards)}
    before, whole = input_state(str(path)), shards[0].read_bytes()
    for length in sorted({1, 7, *(len(whole) * i // 10 for i in range(1, 10)), len(whole) - 1}):
        shards[0].write_bytes(whole[:length])
        with pytest.raises(SourceError, match=re.escape(str(shards[0]))):
            open_source(str(path)).read(WHOLE)
    assert input_state(str(path)) != before
    shards[0].unlink()
    assert source.missing_chunks(WHOLE)[0].missing == 1


@pytest.mark.parametrize(("bits", "hashed"), [((1, 1, 1), "identity"), ((0, 3, 0), "murmurhash3_x86_128")])
@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_chunks_that_shards_lack_are_counted_by_the_indices_of_the_shards(
    tmp_path: Path, hashed: str, bits: tuple[int, int, int], encoding: str
) -> None:
    """Fill values are not written, so chunks of zeros are those that are missing."""
    preshift, minishard, shard = bits
    sharding = {
        "@type": "neuroglancer_uint64_sharded_v1", "preshift_bits": preshift, "hash": hashed,
        "minishard_bits": minishard, "shard_bits": shard, "minishard_index_encoding": encoding, "data_encoding": "raw",
    }  # fmt: skip
    values = volume() + 1
    values[0, :2, :20, :16] = values[0, 2:4, 20:, 16:32] = values[0, 2:4, :20, 48:] = 0
    source = open_source(str(write_precomputed(tmp_path / "em", values, sharding=sharding)))
    shards, inside = source.missing_chunks(WHOLE)
    assert (shards.missing, inside.missing, inside.count) == (0, 3, 24)
    assert "3 of 24 chunks in " in str(inside)
    assert len(source.missing_chunks(Box((0, 20, 16), (2, 37, 50)))) == 1
    assert source.missing_chunks(Box((0, 0, 0), (1, 1, 1)))[1].missing == 1
    file = sorted((tmp_path / "em/4_5_40").iterdir())[0]
    file.write_bytes(file.read_bytes()[:15])
    with pytest.raises(SourceError, match="cut short, 15 bytes, of which its index alone has"):
        source.missing_chunks(WHOLE)


def test_missing_chunks_are_counted_and_changed_ones_seen(tmp_path: Path) -> None:
    path = write_precomputed(tmp_path / "em", volume())
    source, part = open_source(str(path)), Box((0, 0, 0), (2, 20, 16))
    (found,) = source.missing_chunks(WHOLE)
    assert (found.missing, found.count) == (0, 24)
    before, of_part = input_state(str(path)), source.state(part)
    assert len(of_part) == 2
    (path / "4_5_40/24-40_16-36_4-6").unlink()
    assert source.missing_chunks(WHOLE)[0].missing == 1
    assert source.state(part) == of_part
    assert input_state(str(path)) != before
    (path / "4_5_40/8-24_16-36_2-4").write_bytes(b"")
    assert source.state(part) != of_part
    with pytest.raises(SourceError, match="8-24_16-36_2-4: the file of a chunk is empty"):
        source.missing_chunks(WHOLE)


@pytest.mark.parametrize("encoding", ["raw", "compressed_segmentation"])
def test_chunks_in_gzip_read_as_written(tmp_path: Path, encoding: str) -> None:
    path = write_precomputed(tmp_path / "em", volume("uint64"), encoding)
    for chunk in list((path / "4_5_40").iterdir()):
        chunk.with_name(f"{chunk.name}.gz").write_bytes(gzip.compress(chunk.read_bytes()))
        chunk.unlink()
    assert_reads(path, volume("uint64")[0])
    source = open_source(str(path))
    assert source.missing_chunks(WHOLE)[0].missing == 0
    torn = path / "4_5_40/8-24_16-36_2-4.gz"
    whole = torn.read_bytes()
    for length in sorted({0, 1, *(len(whole) * i // 10 for i in range(1, 10)), len(whole) - 1}):
        torn.write_bytes(whole[:length])
        with pytest.raises(SourceError, match=re.escape(torn.name)):
            source.read(WHOLE)
    torn.unlink()
    assert source.missing_chunks(WHOLE)[0].missing == 1


def test_chunks_in_brotli_are_refused(tmp_path: Path) -> None:
    path = write_precomputed(tmp_path / "em", volume())
    for chunk in list((path / "4_5_40").iterdir()):
        chunk.rename(f"{chunk}.br")
    assert "end in .br, a compression that is not read; write it again with compress='gzip'" in refusal(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"@type": "neuroglancer_skeletons", "scales": None}, "neuroglancer_skeletons is no volume"),
        ({"data_type": "complex"}, "complex"),
        ({"encoding": "jxl"}, "encoding jxl is not read; write the volume again with one of raw, jpeg"),
        ({"resolution": [-4, 5, 40]}, "cannot be negative"),
        ({"key": "../em/4_5_40"}, "leaves the folder of the volume"),
        ({"voxel_offset": [1]}, "cannot be read as neuroglancer precomputed"),
        ({"chunk_sizes": [[0, 4, 4]]}, "cannot be read as neuroglancer precomputed"),
    ],
)
def test_what_cannot_be_read_is_told_at_opening(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write_precomputed(tmp_path / "em", volume())
    info = json.loads((path / "info").read_text())
    inside = info["scales"][0].keys() & change.keys()
    (info["scales"][0] if inside else info).update(change)
    (path / "info").write_text(json.dumps(info))
    assert message in refusal(path)


def test_a_volume_that_was_written_anew_is_opened_anew(tmp_path: Path) -> None:
    for values in (volume(), volume("uint16") + 1000):
        write_precomputed(tmp_path / "em", values)
        np.testing.assert_array_equal(open_source(str(tmp_path / "em")).read(WHOLE), values[0])
        shutil.rmtree(tmp_path / "em")


@pytest.mark.parametrize("name", ["key", "size", "resolution", "chunk_sizes"])
def test_what_a_scale_does_not_say_is_told(tmp_path: Path, name: str) -> None:
    path = write_precomputed(tmp_path / "em", volume())
    (path / "info").write_text((path / "info").read_text().replace(f'"{name}"', f'"{name[:-1]}"'))
    assert name in refusal(path)


def test_a_scale_whose_sharding_is_null_has_no_shards(tmp_path: Path) -> None:
    path = write_precomputed(tmp_path / "em", volume())
    info = json.loads((path / "info").read_text())
    info["scales"][0]["sharding"] = None
    (path / "info").write_text(json.dumps(info))
    assert_reads(path, volume()[0])
    assert open_source(str(path)).missing_chunks(WHOLE)[0].count == 24


def test_an_info_that_is_cut_short_is_told(tmp_path: Path) -> None:
    path = write_precomputed(tmp_path / "em", volume())
    (path / "info").write_bytes((path / "info").read_bytes()[:90])
    assert f"{path}/info: is no JSON" in refusal(path)


def test_precomputed_at_an_address_reads_as_written(tmp_path: Path, s3: S3Server, bucket: str) -> None:
    two_scales(tmp_path / "em")
    files = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    s3.upload(bucket, files)
    for address in (f"s3://{bucket}/em", f"precomputed://s3://{bucket}/em", f"s3://{bucket}/em:/1"):
        assert_reads(address, volume()[0])
    assert_reads(f"precomputed://s3://{bucket}/em:/8_10_40", volume()[0, :, :36:2, ::2])
    address = f"s3://{bucket}/em"
    key = "em/4_5_40/24-40_16-36_4-6"
    content = gzip.compress(files[key])
    s3.client.put_object(Bucket=bucket, Key=key, Body=content, ContentEncoding="gzip")
    assert_reads(address, volume()[0])
    before = input_state(address)
    s3.delete(bucket, key)
    assert open_source(address).missing_chunks(WHOLE)[0].missing == 1
    assert input_state(address) != before
