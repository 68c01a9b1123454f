"""Values of a TIFF are read as they are stored, and remarks tell where viewers show others."""

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.unit.volumes.readers.reading import assert_reads, opened, refusal, told, volume, whole
from tests.unit.volumes.readers.test_open import write_sections
from unet.geometry.box import Box
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_source
from unet.volumes.readers.tiff_pages import _is_grey_ramp

# -- values ------------------------------------------------------------------------------------------------------------


def test_zero_is_white_is_read_as_stored_and_told(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume(), photometric="miniswhite")
    assert_reads(tmp_path / "a.tif", volume())
    assert "0 is white (PhotometricInterpretation 0): the stored values are read" in told(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", volume(), photometric="minisblack")
    assert told(tmp_path / "b.tif") == ""


def test_sections_that_are_negatives_of_others_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for z, section in enumerate(volume()):
            tiff.write(section, photometric="miniswhite" if z == 2 else "minisblack", metadata=None, contiguous=False)
    assert re.search(r"page 2 .*0 is white, but page 0: .*0 is black", refusal(tmp_path / "a.tif", whole=True))
    folder = write_sections(tmp_path / "raw", volume())
    tifffile.imwrite(folder / "s003.tif", 255 - volume()[3], photometric="miniswhite")
    assert re.search(r"s003\.tif: .*0 is white, but .*s000\.tif: .*0 is black", refusal(folder, whole=True))


def test_a_table_of_colours_is_told_unless_it_shows_greys(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint16) * 257, (3, 1))
    for name, table in (("ramp", ramp), ("colours", ramp[::-1] * np.array([[1], [0], [2]], np.uint16))):
        tifffile.imwrite(tmp_path / f"{name}.tif", volume()[0], photometric="palette", colormap=table)
        assert_reads(tmp_path / f"{name}.tif", volume()[:1])
        assert ("table of colours" in told(tmp_path / f"{name}.tif")) is (name == "colours")


@pytest.mark.parametrize(
    ("bits", "dtype"), [(2, "uint8"), (4, "uint8"), (10, "uint16"), (12, "uint16"), (14, "uint16")]
)
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_samples_of_few_bits_are_read_as_stored(tmp_path: Path, bits: int, dtype: str, compression: str | None) -> None:
    values = (volume("uint16", (2, 37, 48)) % 2**bits).astype(dtype)
    packed = [packed_bits(section, bits) for section in values]
    write_packed(tmp_path / "a.tif", packed, bits, (37, 48), compression)
    assert_reads(tmp_path / "a.tif", values)
    assert (f"the values 0 to {2**bits - 1} are read as they are stored" in told(tmp_path / "a.tif")) is (bits < 8)


def packed_bits(section: np.ndarray, bits: int) -> bytes:
    """Rows of whole bytes, the highest bit first."""
    planes = (section[..., None].astype(np.uint32) >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(planes.reshape(section.shape[0], -1).astype(np.uint8), axis=1).tobytes()


def write_packed(path: Path, pages: list[bytes], bits: int, shape: tuple[int, int], compression: str | None) -> None:
    """Write pages of packed samples: as bytes, whose tags are then changed."""
    rows, columns = shape
    with tifffile.TiffWriter(path) as tiff:
        for page in pages:
            values = np.frombuffer(page, np.uint8).reshape(rows, -1)
            tiff.write(values, metadata=None, compression=compression, contiguous=False)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        written: Any = tiff.pages
        for page in written:
            page.tags["BitsPerSample"].overwrite(bits)
            page.tags["ImageWidth"].overwrite(columns)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_float16_is_read_as_float32(tmp_path: Path, compression: str | None) -> None:
    values = volume("float32").astype(np.float16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", compression=compression)
    assert_reads(tmp_path / "a.tif", values.astype(np.float32))


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "webp", "lerc", "packbits", "lzma", "zstd"])
@pytest.mark.parametrize("layout", [{"tile": (16, 16)}, {"rowsperstrip": 16}])
def test_every_compression_reads_as_tifffile_does(tmp_path: Path, compression: str, layout: dict) -> None:
    values = volume(shape=(2, 40, 50, 3) if compression == "webp" else (2, 40, 50))
    kind = "rgb" if compression == "webp" else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", values, compression=compression, photometric=kind, **layout)
    read = tifffile.imread(tmp_path / "a.tif")
    found = whole(opened(tmp_path / "a.tif", **({"axes": "zyxc"} if kind == "rgb" else {})))
    np.testing.assert_array_equal(found, read if kind == "minisblack" else np.moveaxis(read, -1, 0))


def test_a_page_that_does_not_say_what_0_is_is_not_white(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume()[0], metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tiff:
        tag = tiff.pages[0].tags["PhotometricInterpretation"]
        tiff.filehandle.seek(tag.offset)
        tiff.filehandle.write(struct.pack("<H", 263))  # Thresholding, of no meaning here
    assert_reads(tmp_path / "a.tif", volume()[:1])
    assert told(tmp_path / "a.tif") == ""


# -- values that ImageJ shows otherwise than they are stored -----------------------------------------------------------

SIGNED = {"cf": 0, "c0": -32768.0, "c1": 1.0, "vunit": "Gray Value"}
"""What ImageJ writes when an image of signed 16 bits is saved."""


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_signed_values_of_imagej_are_signed(tmp_path: Path, compression: str | None) -> None:
    values = np.arange(-60, 60, dtype=np.int16).reshape(3, 5, 8) * 500
    stored = (values.astype(np.int32) + 32768).astype(np.uint16)
    options: dict[str, Any] = {"imagej": True, "metadata": {"axes": "ZYX"} | SIGNED, "compression": compression}
    tifffile.imwrite(tmp_path / "a.tif", stored, **options)
    source = open_source(str(tmp_path / "a.tif"))
    assert source.dtype == np.int16
    np.testing.assert_array_equal(source.read(Box.of_shape(source.shape)), values)
    assert "32768 is subtracted" in " ".join(source.remarks)


def test_signed_sections_of_imagej_are_signed(tmp_path: Path) -> None:
    values = np.arange(-60, 60, dtype=np.int16).reshape(3, 5, 8)
    for z, section in enumerate(values):
        stored = (section.astype(np.int32) + 32768).astype(np.uint16)
        tifffile.imwrite(tmp_path / f"s{z}.tif", stored, imagej=True, metadata=SIGNED)
    source = open_source(str(tmp_path))
    source.check(Box.of_shape(source.shape))
    np.testing.assert_array_equal(source.read(Box.of_shape(source.shape)), values)
    tifffile.imwrite(tmp_path / "s2.tif", np.zeros((5, 8), np.uint16), imagej=True)
    with pytest.raises(SourceError, match=r"s2.tif: 5 x 8 pixels of uint16"):
        source.check(Box.of_shape(source.shape))


@pytest.mark.parametrize(
    ("calibration", "told"),
    [
        ({"cf": 0, "c0": 5.0, "c1": 0.5}, "show 5 \\+ 0.5 x the stored values; the stored ones are read"),
        ({"cf": 1, "c0": 5.0, "c1": 0.5, "c2": 1.0}, "show values by a curve; the stored"),
        ({"cf": 0, "c0": 0.0, "c1": 1.0}, None),
        ({}, None),
    ],
)
def test_another_calibration_of_imagej_is_told(tmp_path: Path, calibration: dict[str, float], told: str | None) -> None:
    values = np.arange(120, dtype=np.uint8).reshape(3, 5, 8)
    tifffile.imwrite(tmp_path / "a.tif", values, imagej=True, metadata={"axes": "ZYX"} | calibration)
    source = open_source(str(tmp_path / "a.tif"))
    np.testing.assert_array_equal(source.read(Box.of_shape(source.shape)), values)
    assert [bool(re.search(told or "", remark)) for remark in source.remarks] == ([True] if told else [])


def test_a_table_of_colours_is_a_grey_ramp_if_each_value_is_a_brighter_grey() -> None:
    ramp = np.arange(256, dtype=np.uint16)
    assert _is_grey_ramp(np.stack([ramp] * 3))
    assert not _is_grey_ramp(np.stack([ramp[::-1]] * 3))
    assert not _is_grey_ramp(np.stack([ramp // 2] * 3)), "two values are one grey"
    assert not _is_grey_ramp(np.stack([ramp, ramp, ramp // 2]))
