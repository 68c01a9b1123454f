"""The file of a block is Zarr's own format: zarr-python reads what the codec writes, and the other way round."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import Zstd
from zarr.codecs import Crc32cCodec, ZstdCodec

from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.storage.local_folder import FileRangeReader
from unet.storage.shard_codec import BlockFormat

SHAPE, BLOCK, CHUNK = (3, 11, 7), (2, 8, 4), (1, 4, 2)
FORMAT = BlockFormat(BLOCK, CHUNK, np.dtype("uint32"), Zstd(level=1))
VALUES = np.random.default_rng(0).integers(0, 3, SHAPE, dtype=np.uint32)


def array(path: Path) -> zarr.Array:
    """An array of zarr-python with the same blocks, chunks and compression."""
    how = {"shards": BLOCK, "chunks": CHUNK, "compressors": [ZstdCodec(level=1), Crc32cCodec()]}
    return zarr.create_array(
        path, shape=SHAPE, dtype="uint32", fill_value=0, config={"write_empty_chunks": True}, **how
    )


def parts(content: bytes) -> FileRangeReader:
    return FileRangeReader(BytesIO(content))


def file_of(path: Path, index: tuple[int, ...]) -> Path:
    return path.joinpath("c", *map(str, index))


def test_zarr_reads_what_is_written_here(tmp_path: Path) -> None:
    stored, grid = array(tmp_path / "a"), Grid(SHAPE, BLOCK)
    for index in grid.indices():
        path = file_of(tmp_path / "a", index)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(FORMAT.encode(VALUES[grid.box(index).slices])))
    np.testing.assert_array_equal(stored[:], VALUES)


def test_what_zarr_writes_is_read_here(tmp_path: Path) -> None:
    array(tmp_path / "a")[:] = VALUES
    grid = Grid(SHAPE, BLOCK)
    for index in grid.indices():
        box = grid.box(index)
        found = np.empty(box.shape, np.uint32)
        FORMAT.decode(parts(file_of(tmp_path / "a", index).read_bytes()), Box.of_shape(box.shape), found)
        np.testing.assert_array_equal(found, VALUES[box.slices])


@settings(deadline=None)
@given(data=st.data())
def test_any_window_of_a_block_is_read(data: st.DataObject) -> None:
    block = VALUES[Box.of_shape(BLOCK).slices]
    spans = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in BLOCK]
    window = Box(tuple(lo for lo, _ in spans), tuple(hi for _, hi in spans))
    found = np.empty(window.shape, np.uint32)
    if window.size:
        FORMAT.decode(parts(b"".join(FORMAT.encode(block))), window, found)
    np.testing.assert_array_equal(found, block[window.slices])


def test_no_changed_bit_and_no_lost_byte_goes_unnoticed() -> None:
    content = b"".join(FORMAT.encode(VALUES[Box.of_shape(BLOCK).slices]))
    damaged = [bytes([*content[:at], content[at] ^ 1, *content[at + 1 :]]) for at in range(len(content))]
    found = np.empty(BLOCK, np.uint32)
    for broken in [*damaged, content[:-1], content[1:], content[: len(content) // 2], b""]:
        with pytest.raises((ValueError, RuntimeError)):
            FORMAT.decode(parts(broken), Box.of_shape(BLOCK), found)


def test_a_chunk_beyond_the_face_is_not_there() -> None:
    file = parts(b"".join(FORMAT.encode(VALUES[:1, :3, :2])))
    found = np.empty((1, 3, 2), np.uint32)
    FORMAT.decode(file, Box.of_shape(found.shape), found)
    np.testing.assert_array_equal(found, VALUES[:1, :3, :2])
    with pytest.raises(ValueError, match=r"chunk \(1, 0, 0\) is not there"):
        FORMAT.decode(file, Box((1, 0, 0), (2, 1, 1)), np.empty((1, 1, 1), np.uint32))


def test_the_bytes_depend_on_the_voxels_alone() -> None:
    block = VALUES[Box.of_shape(BLOCK).slices]
    assert FORMAT.encode(block) == FORMAT.encode(np.asfortranarray(block)) != FORMAT.encode(block + np.uint32(1))
