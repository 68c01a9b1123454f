"""Chunks and shards of Zarr that are cut short, damaged or absent."""

import re
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, ZstdCodec

from tests.conftest import S3Server
from tests.unit.volumes.readers.reading import SHAPE, volume
from unet.geometry.box import Box
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_source

WHOLE = Box.of_shape(SHAPE)


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
    tmp_path: Path, location: Any, checksum: bool, s3: S3Server, bucket: str
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
    s3.upload(bucket, {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()})
    of_objects = open_source(f"s3://{bucket}/a.zarr").missing_chunks(WHOLE)
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
