"""Chunks, and sections that are decoded as a whole, are decoded once for all blocks of a job, within bounded memory.

The voxels are those of blocks that are read one by one."""

import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid
from unet.volumes import block_reader
from unet.volumes.block_reader import UNIT_BYTES, BlockReader, in_reading_order, unit_shape
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.source import Source
from unet.volumes.readers.views import Cropped, Downsampled, Flipped, Placed

SHAPE, BLOCK = (5, 30, 40), (2, 16, 16)
LAYERS = 3


class Decoded(Source):
    """A volume whose sections are decoded as a whole. It counts how often, and how many at once."""

    parallel_reads = True

    def __init__(self, channels: int = 1, broken: int | None = None) -> None:
        super().__init__("a.png", [Path("a.png")], SHAPE, "uint16", channels=channels)
        self.decode_in((1, *SHAPE[1:]))
        lead = (channels,) if channels > 1 else ()
        self.voxels = np.random.default_rng(0).integers(0, 60_000, (*lead, *SHAPE), np.uint16)
        self.times, self.at_once, self.most, self._broken = Counter[int](), 0, 0, broken
        self._counting = threading.Lock()

    def _read(self, box: Box) -> np.ndarray:
        with self._counting:
            self.times.update(range(box.start[0], box.stop[0]))
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        if self._broken is not None and box.start[0] <= self._broken < box.stop[0]:
            raise SourceError(f"section {self._broken} is broken")
        values = self.voxels[box.trailing].copy()
        with self._counting:
            self.at_once -= 1
        return values


def read_all(reader: BlockReader, boxes: list[Box], threads: int = 2) -> list[np.ndarray]:
    """Read blocks as a job does."""
    reader.expect(boxes)
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(reader.read, boxes))


@pytest.fixture(params=[0, 2**20], ids=["on disk", "in memory"])
def kept_bytes(request: pytest.FixtureRequest) -> int:
    """Nothing may be kept in memory, or everything."""
    return int(request.param)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("threads", [1, 4])
def test_each_section_is_decoded_once_a_layer(tmp_path: Path, kept_bytes: int, channels: int, threads: int) -> None:
    source, boxes = Decoded(channels), Grid(SHAPE, BLOCK).boxes()
    for box, values in zip(boxes, read_all(BlockReader(source, tmp_path, kept_bytes), boxes, threads), strict=True):
        np.testing.assert_array_equal(values, source.voxels[box.trailing])
        assert values.flags.writeable
    assert set(source.times.values()) == {1}
    assert list(tmp_path.iterdir()) == [], "a scratch file has no name"


def test_blocks_that_are_finished_are_left_out(tmp_path: Path, kept_bytes: int) -> None:
    """A killed job continues: the last block of the first layer, none of the second, all of the third."""
    source, boxes = Decoded(), Grid(SHAPE, BLOCK).boxes()
    left = [boxes[5], *boxes[12:]]
    for box, values in zip(left, read_all(BlockReader(source, tmp_path, kept_bytes), left), strict=True):
        np.testing.assert_array_equal(values, source.voxels[box.trailing])
    assert source.times == {0: 1, 1: 1, 4: 1}


def test_views_decode_each_section_once_too(tmp_path: Path, kept_bytes: int) -> None:
    source = Decoded()
    view = Downsampled(Cropped(Flipped(source, "zy"), Box((1, 2, 0), (5, 30, 40))), (2, 2, 2), "mean")
    boxes = Grid(view.shape, (1, 8, 8)).boxes()
    expected = [Downsampled(view.below, (2, 2, 2), "mean").read(box) for box in boxes]
    source.times.clear()
    for values, one in zip(read_all(BlockReader(view, tmp_path, kept_bytes), boxes), expected, strict=True):
        np.testing.assert_array_equal(values, one)
    assert source.times == {0: 1, 1: 1, 2: 1, 3: 1}


@pytest.mark.parametrize(("together", "reads"), [(1, 5), (2, 3), (3, 2), (9, 1)])
def test_sections_of_one_chunk_are_read_together(tmp_path: Path, together: int, reads: int) -> None:
    source, boxes = Decoded(), Grid(SHAPE, BLOCK).boxes()
    source.decode_in((together, *SHAPE[1:]))
    read, count = source._read, Counter[str]()
    source._read = lambda box: (count.update(["read"]), read(box))[1]  # type: ignore[method-assign]
    read_all(BlockReader(source, tmp_path), boxes)
    assert count["read"] == reads


def test_cheap_boxes_are_read_block_by_block(tmp_path: Path) -> None:
    source, boxes = Decoded(), Grid(SHAPE, BLOCK).boxes()
    source.chunk = None
    read_all(BlockReader(source, tmp_path), boxes)
    assert source.times[0] == len(boxes) // LAYERS


def test_a_library_that_must_not_be_called_twice_at_once_is_not(tmp_path: Path) -> None:
    source, boxes = Decoded(), Grid(SHAPE, BLOCK).boxes()
    source.parallel_reads = False
    for chunk in (source.chunk, None):
        source.chunk = chunk
        read_all(BlockReader(source, tmp_path), boxes, threads=8)
    assert source.most == 1


def test_a_broken_section_ends_every_block_of_its_layer_and_no_other(tmp_path: Path, kept_bytes: int) -> None:
    source, boxes = Decoded(broken=2), Grid(SHAPE, BLOCK).boxes()
    reader = BlockReader(source, tmp_path, kept_bytes)
    reader.expect(boxes)
    with ThreadPoolExecutor(4) as pool:
        failures = [pool.submit(reader.read, box).exception() for box in boxes]
    assert [str(failure) for failure in failures] == ["None"] * 6 + ["section 2 is broken"] * 6 + ["None"] * 6


def test_memory_is_bounded(tmp_path: Path) -> None:
    """Two bytes per voxel of a layer of 2 x 30 x 40; room for one layer: what is open beside it is on the disk."""
    source, boxes = Decoded(), Grid(SHAPE, BLOCK).boxes()
    reader, layer = BlockReader(source, tmp_path, kept_bytes=2 * 2 * 30 * 40), 2 * 2 * 30 * 40
    reader.expect(boxes)
    kept = reader._kept
    reader.read(boxes[0])
    assert (kept.bytes_in_memory, len(kept.on_disk)) == (layer - 2 * boxes[0].size, 0)
    reader.read(boxes[6])
    assert kept.bytes_in_memory <= layer
    assert kept.on_disk
    for box in [*boxes[1:6], *boxes[7:]]:
        reader.read(box)
    assert (kept.bytes_in_memory, kept.in_memory, kept.on_disk, reader._units) == (0, {}, {}, {})


def test_a_full_disk_is_said_before_sections_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, boxes = Decoded(), Grid(SHAPE, BLOCK).boxes()
    monkeypatch.setattr(block_reader.shutil, "disk_usage", lambda folder: SimpleNamespace(free=100))
    reader = BlockReader(source, tmp_path, kept_bytes=0)
    reader.expect(boxes)
    with pytest.raises(OSError, match=f"{os.strerror(28)} for 0.0 MB of decoded voxels"):
        reader.read(boxes[0])
    assert not source.times


# -- chunks of any shape -----------------------------------------------------------------------------------------------


class Chunked(Source):
    """A volume in chunks. It counts how often each is decoded."""

    parallel_reads = True

    def __init__(self, shape: Index, chunk: Index) -> None:
        super().__init__("a.zarr", [Path("a.zarr")], shape, "uint16")
        self.voxels = np.random.default_rng(0).integers(0, 60_000, shape, np.uint16)
        self.side, self.times, self._counting = chunk, Counter[Index](), threading.Lock()
        self.decode_in(chunk)

    def _read(self, box: Box) -> np.ndarray:
        ends = zip(box.start, box.stop, self.side, strict=True)
        with self._counting:
            self.times.update(product(*(range(lo // c, -(-hi // c)) for lo, hi, c in ends)))
        return self.voxels[box.slices].copy()


def lengths(low: int, high: int) -> st.SearchStrategy[Index]:
    return st.tuples(*[st.integers(low, high)] * 3)


@settings(max_examples=60, deadline=None)
@given(lengths(1, 20), lengths(1, 9), lengths(1, 9), st.sampled_from([0, 300, 2**20]), st.integers(1, 2), st.data())
def test_no_chunk_is_decoded_twice(
    shape: Index, chunk: Index, block: Index, kept: int, threads: int, data: st.DataObject
) -> None:
    """Any chunks, any blocks, in memory or on the disk, also where some blocks are finished already."""
    source, boxes = Chunked(shape, chunk), Grid(shape, block).boxes()
    left = data.draw(st.lists(st.sampled_from(boxes), unique=True, min_size=1).map(sorted)) if kept else boxes
    with TemporaryDirectory() as folder:
        order = in_reading_order(left, [source])
        assert sorted(order) == sorted(left)
        for box, values in zip(order, read_all(BlockReader(source, Path(folder), kept), order, threads), strict=True):
            np.testing.assert_array_equal(values, source.voxels[box.slices])
    assert set(source.times.values()) == {1}


@settings(max_examples=60, deadline=None)
@given(lengths(3, 14), lengths(1, 7), lengths(1, 6), st.sets(st.sampled_from("zyx")), st.data())
def test_chunks_of_a_flipped_window_are_decoded_once_too(
    shape: Index, chunk: Index, block: Index, flipped: set[str], data: st.DataObject
) -> None:
    source = Chunked(shape, chunk)
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(data.draw(st.integers(lo + 1, n)) for lo, n in zip(start, shape, strict=True))
    view = Placed(Cropped(Flipped(source, sorted(flipped)), Box(start, stop)), (2, 1, 0), (20, 20, 20))
    turned = source.voxels[tuple(slice(None, None, -1 if axis in flipped else 1) for axis in "zyx")]
    boxes = Grid(view.shape, block).boxes()
    expected = np.zeros(view.shape, np.uint16)
    expected[view.inside.slices] = turned[Box(start, stop).slices]
    with TemporaryDirectory() as folder:
        order = in_reading_order(boxes, [view])
        for box, values in zip(order, read_all(BlockReader(view, Path(folder)), order), strict=True):
            np.testing.assert_array_equal(values, expected[box.slices])
    assert set(source.times.values()) == {1}


@pytest.mark.parametrize("block", [(4, 16, 16), (4, 32, 32), (8, 32, 16)])
def test_blocks_that_share_no_chunk_are_read_alone_and_nothing_is_kept(tmp_path: Path, block: Index) -> None:
    """Blocks of whole chunks: no chunk is wanted twice, so that memory is the memory of a block per thread."""
    source, boxes = Chunked((8, 60, 50), (4, 16, 16)), Grid((8, 60, 50), block).boxes()
    assert unit_shape(source, block) == (0, 0, 0)
    reader = BlockReader(source, tmp_path)
    reader.expect(boxes)
    assert not reader._units
    for box in boxes:
        reader.read(box)
        assert not reader._kept.bytes_in_memory
    assert set(source.times.values()) == {1}


@pytest.mark.parametrize(
    ("chunk", "block", "unit"),
    [
        ((64, 64, 64), (16, 1024, 1024), (64, 128, 1024)),
        ((128, 512, 512), (16, 1024, 1024), (128, 512, 512)),
        ((1, 4096, 4096), (16, 1024, 1024), (1, 4096, 4096)),
        ((1, 8, 4096), (16, 1024, 1024), (1, 1024, 4096)),
        ((600, 1000, 1000), (16, 1024, 1024), (600, 1000, 1000)),
    ],
)
def test_a_unit_is_of_bounded_size(chunk: Index, block: Index, unit: Index) -> None:
    source = Source.__new__(Chunked)
    Source.__init__(source, "a.zarr", [Path("a.zarr")], (640, 4096, 4096), "uint8")
    source.decode_in(chunk)
    assert unit_shape(source, block) == unit
    assert prod(unit) <= max(UNIT_BYTES, prod(chunk))


def test_deep_chunks_need_the_memory_of_a_column_of_blocks(tmp_path: Path) -> None:
    """Chunks of 16 sections, blocks of 4: four blocks are open at once, of 2 x 2 x 4, and none goes to the disk."""
    source, boxes = Chunked((32, 40, 40), (16, 20, 20)), Grid((32, 40, 40), (4, 20, 20)).boxes()
    reader, most = BlockReader(source, tmp_path, kept_bytes=4 * 2 * boxes[0].size), 0
    order = in_reading_order(boxes, [source])
    reader.expect(order)
    for box in order:
        reader.read(box)
        most = max(most, reader._kept.bytes_in_memory)
        assert reader._kept._scratch is None
    assert most == 3 * 2 * boxes[0].size
    assert set(source.times.values()) == {1}


def test_a_place_in_the_scratch_file_is_taken_again(tmp_path: Path) -> None:
    source, boxes = Chunked((32, 40, 40), (16, 20, 20)), Grid((32, 40, 40), (4, 20, 20)).boxes()
    reader = BlockReader(source, tmp_path, kept_bytes=0)
    order = in_reading_order(boxes, [source])
    reader.expect(order)
    for box in order:
        reader.read(box)
    assert reader._kept._scratch is not None
    assert reader._kept._scratch._end == 4 * 2 * boxes[0].size


@pytest.mark.parametrize(("factors", "times"), [((2, 2, 2), {1}), ((1, 3, 1), {1, 2})])
def test_coarser_voxels_are_those_of_single_blocks(tmp_path: Path, factors: Index, times: set[int]) -> None:
    """Chunks of 4 x 8 x 8. Three voxels along y do not divide a chunk, so that chunks there are decoded again."""
    source = Chunked((16, 48, 40), (4, 8, 8))
    view = Downsampled(source, factors, "mean")
    boxes = Grid(view.shape, (1, 5, 7)).boxes()
    expected = [view.read(box) for box in boxes]
    source.times.clear()
    order = in_reading_order(boxes, [view])
    found = dict(zip(order, read_all(BlockReader(view, tmp_path), order), strict=True))
    for box, values in zip(boxes, expected, strict=True):
        np.testing.assert_array_equal(found[box], values)
    assert set(source.times.values()) == times
