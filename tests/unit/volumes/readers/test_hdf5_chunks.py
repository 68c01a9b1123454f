"""Chunks of HDF5 that are decoded beside each other hold what h5py reads."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import h5py
import numpy as np
import pytest

from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.volumes.readers import hdf5
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.hdf5_chunks import can_decode, read_chunks
from unet.volumes.readers.open import open_source

SHAPE = (5, 30, 41)
BOXES = [Box((0, 0, 0), SHAPE), Box((1, 7, 9), (4, 8, 40)), Box((4, 29, 40), (5, 30, 41))]


def written(path: Path, dtype: str = "uint16", **how: Any) -> np.ndarray:
    """Write a dataset `raw`, and return its voxels."""
    values = np.random.default_rng(0).integers(0, 200, SHAPE).astype(dtype)
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=values, **{"chunks": (2, 16, 41), "compression": "gzip", **how})
    return values


@pytest.mark.parametrize("dtype", ["uint8", ">u2", "<u2", "float32", "uint64"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_voxels_are_those_of_h5py(tmp_path: Path, dtype: str, shuffle: bool) -> None:
    values = written(tmp_path / "a.h5", dtype, shuffle=shuffle)
    with h5py.File(tmp_path / "a.h5") as file:
        assert can_decode(file["raw"])
        for box in BOXES:
            found = read_chunks(file["raw"], box.slices)
            np.testing.assert_array_equal(found, values[box.slices])
            assert found.dtype == file["raw"].dtype


@pytest.mark.parametrize("how", [{"compression": "lzf"}, {"compression": None}, {"fletcher32": True}])
def test_other_filters_are_left_to_hdf5(tmp_path: Path, how: dict[str, Any]) -> None:
    values = written(tmp_path / "a.h5", **how)
    with h5py.File(tmp_path / "a.h5") as file:
        assert not can_decode(file["raw"])
    source = open_source(f"{tmp_path / 'a.h5'}:/raw")
    for box in BOXES:
        np.testing.assert_array_equal(source.read(box), values[box.slices])


def test_chunks_that_are_not_stored_and_chunks_without_filters_are_left_to_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        raw = file.create_dataset("raw", SHAPE, "uint16", chunks=(1, 30, 41), compression="gzip", fillvalue=7)
        raw[1] = 9
        raw.id.write_direct_chunk((3, 0, 0), np.full((1, 30, 41), 4, "uint16").tobytes(), filter_mask=1)
    found = open_source(f"{tmp_path / 'a.h5'}:/raw").read(BOXES[0])
    assert [np.unique(section).tolist() for section in found] == [[7], [9], [7], [4], [7]]


def test_a_damaged_chunk_is_an_error(tmp_path: Path) -> None:
    written(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        chunk = file["raw"].id.get_chunk_info_by_coord((2, 0, 0))
    with (tmp_path / "a.h5").open("r+b") as file:
        file.seek(chunk.byte_offset + chunk.size // 2)
        file.write(b"damage" * 10)
    with pytest.raises(SourceError, match=r"a.h5, box 0:5,0:30,0:41"):
        open_source(f"{tmp_path / 'a.h5'}:/raw").read(BOXES[0])


def test_a_file_is_opened_once_to_read_its_blocks_also_by_many_threads(tmp_path: Path) -> None:
    values = written(tmp_path / "a.h5")
    source = open_source(f"{tmp_path / 'a.h5'}:/raw")
    boxes = [Box((z, 0, 0), (z + 1, 30, 41)) for z in range(5)] * 4
    with patch.object(hdf5.h5py, "File", wraps=h5py.File) as opened, ThreadPoolExecutor(4) as pool:
        for box, found in zip(boxes, pool.map(source.read, boxes), strict=True):
            np.testing.assert_array_equal(found, values[box.slices])
    assert opened.call_count == 1


@pytest.mark.parametrize(
    ("chunks", "axes", "found"),
    [((1, 30, 41), None, (1, 30, 41)), ((4, 8, 9), None, (4, 8, 9)), ((4, 8, 9), "yzx", (8, 4, 9))],
)
def test_packed_chunks_can_only_be_decoded_as_a_whole(
    tmp_path: Path, chunks: tuple[int, ...], axes: str | None, found: tuple[int, ...]
) -> None:
    written(tmp_path / "a.h5", chunks=chunks)
    source = open_source(SourceConfig(path=f"{tmp_path / 'a.h5'}:/raw", axes=axes))
    assert source.chunk == Box.of_shape(found)


@pytest.mark.parametrize("chunks", [None, (1, 30, 41)])
def test_without_compression_a_box_is_cheap(tmp_path: Path, chunks: tuple[int, ...] | None) -> None:
    written(tmp_path / "a.h5", chunks=chunks, compression=None)
    assert open_source(f"{tmp_path / 'a.h5'}:/raw").chunk is None
