"""TIA SER: rows, series and what is no series of sections, with ncempy as the oracle."""

from pathlib import Path

import numpy as np
import pytest
from ncempy.io.ser import fileSER  # type: ignore[import-untyped]

from tests.unit.volumes.readers.writers import ser_file
from unet.geometry.box import Box
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_source

VOLUME = np.random.default_rng(0).integers(0, 60_000, (3, 7, 5)).astype(np.uint16)


def written(folder: Path, content: bytes) -> str:
    (folder / "a.ser").write_bytes(content)
    return f"{folder}/a.ser"


@pytest.mark.parametrize("version", [0x210, 0x220])
def test_every_image_is_that_of_ncempy(tmp_path: Path, version: int) -> None:
    address = written(tmp_path, ser_file(VOLUME, version))
    source = open_source(address)
    with fileSER(Path(address)) as file:
        images = [file.getDataset(z)[0] for z in range(3)]
    assert np.array_equal(source.read(Box((0, 0, 0), source.shape)), np.stack(images))
    assert np.array_equal(source.read(Box((1, 2, 1), (3, 6, 4))), np.stack(images)[1:3, 2:6, 1:4])


def test_the_size_of_a_pixel_and_a_series_are_told(tmp_path: Path) -> None:
    source = open_source(written(tmp_path, ser_file(VOLUME, edge_m=4e-9)))
    assert source.voxel_size_nm is None
    assert "pixels of 4 x 4 nm (y, x)" in source.remarks[0]
    assert "3 images are read as sections" in source.remarks[1]


def test_images_of_other_sizes_are_refused(tmp_path: Path) -> None:
    content = bytearray(ser_file(VOLUME))
    at = len(content) - VOLUME[0].nbytes - 8  # columns and rows of the last image
    content[at : at + 8] = content[at + 4 : at + 8] + content[at : at + 4]
    source = open_source(written(tmp_path, bytes(content)))
    with pytest.raises(SourceError, match=r"image 2 .*\(5, 7\) pixels of uint16 .* image 0 has \(7, 5\)"):
        source.check(Box((0, 0, 0), source.shape))


@pytest.mark.parametrize(
    ("at", "number", "message"),
    [(6, 0x4120, "holds spectra"), (4, 0x4120 << 16 | 0x300, "version 0x300 is not known"), (18, 0, "holds no image")],
)
def test_what_is_no_series_of_images_is_refused(tmp_path: Path, at: int, number: int, message: str) -> None:
    content = bytearray(ser_file(VOLUME))
    content[at : at + 4] = number.to_bytes(4, "little")
    with pytest.raises(SourceError, match=message):
        open_source(written(tmp_path, bytes(content)))


def test_images_at_positions_of_a_map_are_refused(tmp_path: Path) -> None:
    """Two axes of two positions each, where a series has one axis."""
    content = ser_file(VOLUME)
    axis = content[34:72]  # of "Number": 24 bytes, two lengths and the 6 letters
    shifted = bytearray(content[:34] + axis + content[34:])
    shifted[22:30], shifted[30:34] = (34 + 2 * len(axis)).to_bytes(8, "little"), (2).to_bytes(4, "little")
    with pytest.raises(SourceError, match="at 3 x 3 positions, which are no sections"):
        open_source(written(tmp_path, bytes(shifted)))
