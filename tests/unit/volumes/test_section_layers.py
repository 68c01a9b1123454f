"""Sections that are decoded as a whole are decoded once per layer of blocks.

Voxels and memory are those of reading block by block.
"""

import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.volumes import section_layers
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.source import Source
from unet.volumes.readers.views import Cropped, Downsampled, Flipped
from unet.volumes.section_layers import LayerReader

SHAPE, BLOCK = (5, 30, 40), (2, 16, 16)
LAYERS = 3


class Decoded(Source):
    """A volume whose sections are decoded as a whole. It counts how often, and how many at once."""

    whole_sections = parallel_reads = True

    def __init__(self, channels: int = 1, broken: int | None = None) -> None:
        super().__init__("a.png", [Path("a.png")], SHAPE, "uint16", channels=channels)
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


def read_all(reader: LayerReader, boxes: list[Box], threads: int = 2) -> list[np.ndarray]:
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
    for box, values in zip(boxes, read_all(LayerReader(source, tmp_path, kept_bytes), boxes, threads), strict=True):
        np.testing.assert_array_equal(values, source.voxels[box.trailing])
        assert values.flags.writeable
    assert set(source.times.values()) == {1}
    assert list(tmp_path.iterdir()) == [], "a scratch file has no name"


def test_blocks_that_are_finished_are_left_out(tmp_path: Path, kept_bytes: int) -> None:
    """A killed job continues: the last block of the first layer, none of the second, all of the third."""
    source, boxes = Decoded(), Grid(SHAPE, BLOCK).boxes()
    left = [boxes[5], *boxes[12:]]
    for box, values in zip(left, read_all(LayerReader(source, tmp_path, kept_bytes), left), strict=True):
        np.testing.assert_array_equal(values, source.voxels[box.trailing])
    assert source.times == {0: 1, 1: 1, 4: 1}


def test_views_decode_each_section_once_too(tmp_path: Path, kept_bytes: int) -> None:
    source = Decoded()
    view = Downsampled(Cropped(Flipped(source, "zy"), Box((1, 2, 0), (5, 30, 40))), (2, 2, 2), "mean")
    boxes = Grid(view.shape, (1, 8, 8)).boxes()
    expected = [Downsampled(view.below, (2, 2, 2), "mean").read(box) for box in boxes]
    source.times.clear()
    for values, one in zip(read_all(LayerReader(view, tmp_path, kept_bytes), boxes), expected, strict=True):
        np.testing.assert_array_equal(values, one)
    assert source.times == {0: 1, 1: 1, 2: 1, 3: 1}


@pytest.mark.parametrize(("together", "reads"), [(1, 5), (2, 3), (9, 3)])
def test_sections_of_one_chunk_are_read_together(tmp_path: Path, together: int, reads: int) -> None:
    source, boxes = Decoded(), Grid(SHAPE, BLOCK).boxes()
    source.sections_together = together
    read, count = source._read, Counter[str]()
    source._read = lambda box: (count.update(["read"]), read(box))[1]  # type: ignore[method-assign]
    read_all(LayerReader(source, tmp_path), boxes)
    assert count["read"] == reads


def test_cheap_boxes_are_read_block_by_block(tmp_path: Path) -> None:
    source, boxes = Decoded(), Grid(SHAPE, BLOCK).boxes()
    source.whole_sections = False
    read_all(LayerReader(source, tmp_path), boxes)
    assert source.times[0] == len(boxes) // LAYERS


def test_a_library_that_must_not_be_called_twice_at_once_is_not(tmp_path: Path) -> None:
    source, boxes = Decoded(), Grid(SHAPE, BLOCK).boxes()
    source.parallel_reads = False
    for whole in (True, False):
        source.whole_sections = whole
        read_all(LayerReader(source, tmp_path), boxes, threads=8)
    assert source.most == 1


def test_a_broken_section_ends_every_block_of_its_layer_and_no_other(tmp_path: Path, kept_bytes: int) -> None:
    source, boxes = Decoded(broken=2), Grid(SHAPE, BLOCK).boxes()
    reader = LayerReader(source, tmp_path, kept_bytes)
    reader.expect(boxes)
    with ThreadPoolExecutor(4) as pool:
        failures = [pool.submit(reader.read, box).exception() for box in boxes]
    assert [str(failure) for failure in failures] == ["None"] * 6 + ["section 2 is broken"] * 6 + ["None"] * 6


def test_memory_is_bounded(tmp_path: Path) -> None:
    """Two bytes per voxel of a layer of 2 x 30 x 40; room for one layer: what is open beside it is on the disk."""
    source, boxes = Decoded(), Grid(SHAPE, BLOCK).boxes()
    reader, layer = LayerReader(source, tmp_path, kept_bytes=2 * 2 * 30 * 40), 2 * 2 * 30 * 40
    reader.expect(boxes)
    reader.read(boxes[0])
    assert reader._in_memory == layer
    reader.read(boxes[6])
    assert reader._in_memory == layer
    for box in [*boxes[1:6], *boxes[7:]]:
        reader.read(box)
    assert (reader._in_memory, reader._layers, reader._expected) == (0, {}, {})


def test_a_full_disk_is_said_before_sections_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, boxes = Decoded(), Grid(SHAPE, BLOCK).boxes()
    monkeypatch.setattr(section_layers.shutil, "disk_usage", lambda folder: SimpleNamespace(free=100))
    reader = LayerReader(source, tmp_path, kept_bytes=0)
    reader.expect(boxes)
    with pytest.raises(OSError, match=f"{os.strerror(28)} for 0.0 MB of decoded sections"):
        reader.read(boxes[0])
    assert not source.times
