"""Absent and torn data of a TIFF are counted, or refused."""

import re
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.unit.volumes.readers.reading import assert_reads, opened, read_headers, refusal, volume, whole
from tests.unit.volumes.readers.test_tiff import LAYOUTS
from unet.geometry.box import Box
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_source

# -- absent and torn data ----------------------------------------------------------------------------------------------


def make_sparse(path: Path, page: int, segments: list[int]) -> None:
    """Make some strips or tiles of a page absent, as GDAL writes them."""
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for name in ("Offsets", "ByteCounts"):
            tags = tiff.pages[page].tags
            tag = tags.get(f"Tile{name}") or tags[f"Strip{name}"]
            values = [0 if i in segments else n for i, n in enumerate(tag.value)]
            tag.overwrite(values[0] if len(values) == 1 else values)


@pytest.mark.parametrize("layout", [{"tile": (16, 32)}, {"rowsperstrip": 16, "compression": "zlib"}])
def test_absent_tiles_are_counted_and_read_as_the_fill_value(tmp_path: Path, layout: dict) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for section in volume():
            tiff.write(section, metadata=None, contiguous=False, **layout)
    make_sparse(tmp_path / "a.tif", 2, [0])
    expected = volume().copy()
    expected[2, :16, : 32 if "tile" in layout else 50] = 0
    assert_reads(tmp_path / "a.tif", expected)
    count = 6 if "tile" in layout else 3
    source = opened(tmp_path / "a.tif")
    assert [(m.missing, m.count) for m in source.missing_chunks(Box.of_shape(source.shape))] == [(1, 5 * count)]
    assert [(m.missing, m.count) for m in source.missing_chunks(Box((2, 20, 0), (3, 30, 9)))] == [(0, 1)]


def test_absent_pixels_of_an_uncompressed_page_are_not_the_header_of_the_file(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume()[0], metadata=None)
    make_sparse(tmp_path / "a.tif", 0, [0])
    assert_reads(tmp_path / "a.tif", np.zeros_like(volume()[:1]))
    assert str(opened(tmp_path / "a.tif").missing_chunks(Box.of_shape((1, 37, 50)))[0]).endswith(
        "1 of 1 strips are not stored; they read as 0"
    )


def test_the_fill_value_of_gdal_is_read(tmp_path: Path) -> None:
    tags = [(42113, 2, 0, "7", True)]
    tifffile.imwrite(tmp_path / "a.tif", volume()[0], metadata=None, tile=(16, 32), extratags=tags)
    make_sparse(tmp_path / "a.tif", 0, [0, 1, 2, 3, 4, 5])
    assert (whole(opened(tmp_path / "a.tif")) == 7).all()


def damaged(path: Path, tag: str, value: object, **layout: object) -> str:
    tifffile.imwrite(path, volume()[0], metadata=None, **layout)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[0].tags[tag].overwrite(value)
    try:
        return f"{whole(opened(path)).shape} was read"
    except SourceError as refused:
        return str(refused)


@pytest.mark.parametrize(
    ("tag", "value", "layout", "message"),
    [
        ("StripOffsets", 4, {}, "pixels begin in the header"),
        ("StripOffsets", 2**31, {}, "cut short, pixels reach byte"),
        ("StripByteCounts", 2**31, {}, "cut short, pixels reach byte"),
        ("StripByteCounts", 7, {}, "cut short, 7 bytes of pixels of 1850"),
        ("ImageLength", 2**31, {}, "lists 1 of its 58040099 strips"),
        ("ImageLength", 2**31, {"compression": "zlib"}, "cannot hold|lists 1 of its"),
        ("ImageWidth", 2**31, {"compression": "zlib"}, "cannot hold"),
        ("ImageWidth", 60, {"compression": "zlib", "rowsperstrip": 37}, "cut short|cannot be read"),
        ("ImageLength", 0, {}, "an image of 50 x 0 pixels"),
        ("ImageWidth", 2**31, {"tile": (16, 16)}, "lists 12 of its"),
        ("BitsPerSample", 65, {"compression": "zlib"}, "samples of 65 bits"),
        ("RowsPerStrip", 1, {}, "lists 1 of its 37 strips"),
    ],
)
def test_a_header_that_cannot_be_true_is_refused(
    tmp_path: Path, tag: str, value: object, layout: dict, message: str
) -> None:
    assert re.search(message, damaged(tmp_path / "a.tif", tag, value, **layout))


@pytest.mark.parametrize("back", [0, 70, 149])
def test_a_list_of_pages_that_runs_in_a_circle_is_refused(tmp_path: Path, back: int) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        for _ in range(150):
            tiff.write(np.ones((2, 2), np.uint8), metadata=None, contiguous=False)
    with tifffile.TiffFile(path) as tiff:
        offsets = [page.offset for page in tiff.pages]
    with path.open("r+b") as file:
        file.seek(offsets[-1])
        (tags,) = struct.unpack("<H", file.read(2))
        file.seek(offsets[-1] + 2 + 12 * tags)
        file.write(struct.pack("<I", offsets[back]))
    assert f"runs in a circle, from page 149 to page {back}" in refusal(path)


@pytest.mark.parametrize("layout", ["contiguous", "tiles", "compressed"])
def test_a_bigtiff_is_refused_wherever_it_is_cut(tmp_path: Path, layout: str) -> None:
    content = tmp_path / "whole.tif"
    tifffile.imwrite(content, volume(), photometric="minisblack", bigtiff=True, **LAYOUTS[layout])
    for tenth in range(10):
        (tmp_path / "a.tif").write_bytes(content.read_bytes()[: content.stat().st_size * tenth // 10])
        with pytest.raises(SourceError):
            read_headers(tmp_path / "a.tif")


def test_flipped_bytes_never_raise_anything_but_a_source_error(tmp_path: Path) -> None:
    rng, path = np.random.default_rng(3), tmp_path / "a.tif"
    for layout in LAYOUTS.values():
        tifffile.imwrite(
            path, volume(shape=(3, 9, 20)), imagej="tile" not in layout, photometric="minisblack", **layout
        )
        content = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(15):
            broken = content.copy()
            at = rng.integers(0, min(400, len(content)), 3)
            broken[at] = rng.integers(0, 256, 3)
            path.write_bytes(broken.tobytes())
            try:
                source = open_source(str(path))
                if np.prod(source.shape) < 1e6:
                    whole(source)
            except SourceError:
                pass
