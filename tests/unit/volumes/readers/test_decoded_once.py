"""Chunks that are deeper or wider than a block are decoded once by a job, whichever format holds them."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorstore
import tifffile
import zarr
from zarr.codecs import ZstdCodec

from tests.unit.volumes.readers.writers import WRITERS, Stored
from unet.geometry.box import Index
from unet.geometry.grid import Grid
from unet.volumes.block_reader import BlockReader, in_reading_order
from unet.volumes.readers.open import open_source
from unet.volumes.readers.source import ArraySource

SHAPE, BLOCK = (21, 50, 46), (4, 16, 16)
VOXELS = np.random.default_rng(0).integers(0, 255, SHAPE, np.uint8)
Writer = Callable[[Path, Index], str]


def zarr_v3(folder: Path, chunk: Index) -> str:
    zarr.create_array(folder / "a.zarr", data=VOXELS, chunks=chunk, dimension_names=["z", "y", "x"])
    return f"{folder}/a.zarr"


def zarr_shards(folder: Path, chunk: Index) -> str:
    shards = tuple(2 * n for n in chunk)
    zarr.create_array(folder / "a.zarr", data=VOXELS, chunks=chunk, shards=shards, dimension_names=["z", "y", "x"])
    return f"{folder}/a.zarr"


def zarr_v2_xyz(folder: Path, chunk: Index) -> str:
    array = zarr.create_array(folder / "a.zarr", data=VOXELS.T, chunks=chunk[::-1], zarr_format=2)
    array.attrs["_ARRAY_DIMENSIONS"] = ["x", "y", "z"]
    return f"{folder}/a.zarr"


def n5(folder: Path, chunk: Index) -> str:
    metadata = {"dimensions": SHAPE[::-1], "blockSize": chunk[::-1], "dataType": "uint8"}
    store = {"driver": "file", "path": f"{folder}/a.n5/em/s0/"}
    spec = {"driver": "n5", "kvstore": store, "metadata": {**metadata, "compression": {"type": "gzip"}}}
    tensorstore.open(spec, create=True).result()[...].write(VOXELS.T).result()
    return f"{folder}/a.n5:/em/s0"


def precomputed(folder: Path, chunk: Index) -> str:
    scale = {"size": SHAPE[::-1], "resolution": [8, 8, 40], "chunk_size": chunk[::-1], "encoding": "raw"}
    scale["voxel_offset"] = [7, 5, 3]
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{folder}/a.precomputed/"},
        "multiscale_metadata": {"data_type": "uint8", "num_channels": 1, "type": "image"},
        "scale_metadata": scale,
    }
    tensorstore.open(spec, create=True).result().translate_to[0][..., 0].write(VOXELS.T).result()
    return f"{folder}/a.precomputed"


def hdf5(folder: Path, chunk: Index) -> str:
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("raw", data=VOXELS, chunks=chunk, compression="gzip")
    return f"{folder}/a.h5:/raw"


def tiff_tiles(folder: Path, chunk: Index) -> str:
    tifffile.imwrite(folder / "a.tif", VOXELS, tile=(32, 16), compression="zlib", photometric="minisblack")
    return f"{folder}/a.tif"


def tiff_strips(folder: Path, chunk: Index) -> str:
    tifffile.imwrite(folder / "a.tif", VOXELS, rowsperstrip=3, compression="zlib", photometric="minisblack")
    return f"{folder}/a.tif"


def wkw_lz4(folder: Path, chunk: Index) -> str:
    stored = Stored(voxel_size_nm=(40.0, 8.0, 8.0), offset_nm=(3 * 40.0, 5 * 8.0, 8 * 8.0))
    return WRITERS["wkw, LZ4"].write(folder, VOXELS, stored)


def decoded_by_job(source: ArraySource, folder: Path, chunk: Index) -> Counter[Index]:
    """Read all blocks as a job does, compare them with the whole volume, and count how often each chunk was decoded."""
    assert source.chunk is not None
    times, read, begin = Counter[Index](), source._read_stored, source.chunk.start

    def counted(selection: tuple[slice, ...]) -> Any:
        by_axis = dict(zip(source.order.names, selection, strict=True))
        touched = zip((by_axis[axis] for axis in "zyx"), chunk, begin, strict=True)
        times.update(product(*(range((s.start - b) // c, -(-(s.stop - b) // c)) for s, c, b in touched)))
        return read(selection)

    source._read_stored = counted  # type: ignore[method-assign]
    boxes = in_reading_order(Grid(SHAPE, BLOCK).boxes(), [source])
    reader = BlockReader(source, folder)
    reader.expect(boxes)
    with ThreadPoolExecutor(2) as pool:
        for box, values in zip(boxes, pool.map(reader.read, boxes), strict=True):
            np.testing.assert_array_equal(values, VOXELS[box.slices])
    return times


CHUNKED = [zarr_v3, zarr_shards, zarr_v2_xyz, n5, precomputed, hdf5]


@pytest.mark.parametrize("chunk", [(16, 8, 8), (7, 20, 33), (1, 50, 46), (21, 50, 46)], ids=str)
@pytest.mark.parametrize("write", CHUNKED, ids=lambda write: write.__name__)
def test_a_job_decodes_each_chunk_once(tmp_path: Path, write: Writer, chunk: Index) -> None:
    source = open_source(write(tmp_path, chunk))
    assert isinstance(source, ArraySource)
    times = decoded_by_job(source, tmp_path, chunk)
    assert set(times.values()) == {1}
    assert len(times) == np.prod([-(-n // c) for n, c in zip(SHAPE, chunk, strict=True)])


@pytest.mark.parametrize(
    ("write", "chunk"), [(tiff_tiles, (1, 32, 16)), (tiff_strips, (1, 3, 46)), (wkw_lz4, (8, 8, 8))]
)
def test_a_job_decodes_each_strip_tile_and_packed_block_once(tmp_path: Path, write: Writer, chunk: Index) -> None:
    source = open_source(write(tmp_path, chunk))
    assert isinstance(source, ArraySource)
    assert set(decoded_by_job(source, tmp_path, chunk).values()) == {1}


def test_the_codec_of_zarr_is_called_once_a_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three layers of chunks of 2 x 2, each touched by up to 2 x 4 x 4 blocks."""
    source, calls = open_source(zarr_v3(tmp_path, (8, 25, 23))), []
    decode = ZstdCodec._decode_single
    monkeypatch.setattr(ZstdCodec, "_decode_single", lambda self, *a: (calls.append(1), decode(self, *a))[1])
    assert isinstance(source, ArraySource)
    decoded_by_job(source, tmp_path, (8, 25, 23))
    assert len(calls) == 3 * 2 * 2
