"""Colours and tables of colours are ids of labels and no intensities; values that JPEG has changed are no labels."""

import re
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from tests.unit.volumes.in_memory import whole_and_by_voxel
from tests.unit.volumes.readers.test_section_files import palette_png
from unet.config.source import SourceConfig
from unet.config.volumes import VolumeConfig
from unet.geometry.box import Box
from unet.volumes.label_conversion import label_values, one_value_per_voxel
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_source
from unet.volumes.readers.source import Source

IDS = np.array([[[0, 1, 1], [300, 70000, 0]], [[1, 1, 0], [2, 255, 65536]]], np.uint32)
COLOURS = np.stack([IDS >> 16, IDS >> 8 & 255, IDS & 255], axis=-1).astype(np.uint8)
LOSSY = r"JPEG, which changes values.*PNG, or as TIFF"


def labels(path: Path | str, **settings: Any) -> Source:
    """Labels as a volume reads them."""
    volume = VolumeConfig.model_validate({"raw": "raw.tif", "labels": str(path)})
    return label_values(open_source(SourceConfig(path=str(path), **settings), colours=True), volume)


def write_png(folder: Path, colours: np.ndarray) -> Path:
    for z, section in enumerate(colours):
        iio.imwrite(folder / f"s{z}.png", section)
    return folder


def write_tiff_folder(folder: Path, colours: np.ndarray) -> Path:
    for z, section in enumerate(colours):
        tifffile.imwrite(folder / f"s{z}.tif", section, photometric="rgb", compression="zlib")
    return folder


def write_tiff_stack(folder: Path, colours: np.ndarray) -> Path:
    tifffile.imwrite(folder / "a.tif", colours, photometric="rgb", metadata=None)
    return folder / "a.tif"


@pytest.mark.parametrize("write", [write_png, write_tiff_folder, write_tiff_stack])
@pytest.mark.parametrize("alpha", [False, True])
def test_each_colour_is_an_id_without_axes(tmp_path: Path, write: Any, alpha: bool) -> None:
    opaque = np.where(IDS == 2, 0, 255).astype(np.uint8)[..., None]
    address = write(tmp_path, np.concatenate([COLOURS, opaque], axis=-1) if alpha else COLOURS)
    found = labels(address)
    found.check(Box.of_shape(found.shape))
    np.testing.assert_array_equal(whole_and_by_voxel(found), np.where(alpha & (IDS == 2), 0, IDS))
    assert any("one id per colour" in remark for remark in found.remarks)
    with pytest.raises(SourceError, match=r"not grey; convert .*as labels it is read.*`channels: \[0\]`"):
        open_source(str(address))
    red = open_source(SourceConfig(path=str(address), channels=[0]))
    np.testing.assert_array_equal(whole_and_by_voxel(red), COLOURS[..., 0])


def test_sections_of_other_samples_are_refused(tmp_path: Path) -> None:
    iio.imwrite(write_png(tmp_path, COLOURS) / "s2.png", np.dstack([COLOURS[0], IDS[0] < 9]).astype(np.uint8))
    found = labels(tmp_path)
    with pytest.raises(SourceError, match=r"s2\.png: .*4 samples each.*s0\.png: .*3 samples each"):
        found.check(Box.of_shape(found.shape))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("transparent", [b"", b"\0"])
def test_numbers_of_a_table_of_colours_are_ids(tmp_path: Path, bits: int, transparent: bytes) -> None:
    ids = np.random.default_rng(0).integers(0, 2**bits, (5, 7), dtype=np.uint8)
    table = np.random.default_rng(1).integers(0, 255, (2**bits, 3))
    table[-1] = 1, 2, 3
    palette_png(tmp_path / "a.png", ids, table, transparent=transparent, bits=bits)
    found = labels(tmp_path / "a.png")
    np.testing.assert_array_equal(whole_and_by_voxel(found)[0], ids)
    assert "stored numbers of its table of colours are the ids" in found.remarks[0]
    for settings in ({}, {"channels": [0]}):
        with pytest.raises(SourceError, match="palette PNG and not grey"):
            open_source(SourceConfig(path=str(tmp_path / "a.png"), **settings))


def test_sections_of_two_tables_of_colours_are_refused(tmp_path: Path) -> None:
    table = np.arange(12).reshape(4, 3)
    for z in range(2):
        palette_png(tmp_path / f"s{z}.png", np.eye(3, dtype=np.uint8), np.roll(table, z, axis=0))
    found = labels(tmp_path)
    with pytest.raises(SourceError, match=r"s1\.png: another table of colours than .*s0\.png"):
        found.check(Box.of_shape(found.shape))


def jpeg_folder(folder: Path) -> str:
    iio.imwrite(folder / "a.jpg", IDS[0].astype(np.uint8))
    return str(folder)


def jpeg_of_colours(folder: Path) -> str:
    iio.imwrite(folder / "a.jpg", COLOURS[0])
    return str(folder / "a.jpg")


def jpeg_in_tiff(folder: Path) -> str:
    tifffile.imwrite(folder / "a.tif", np.zeros((2, 16, 16), np.uint8), compression="jpeg", photometric="minisblack")
    return str(folder / "a.tif")


def jpeg_in_tiff_of_colours(folder: Path) -> str:
    tifffile.imwrite(folder / "a.tif", np.zeros((16, 16, 3), np.uint8), compression="jpeg", photometric="rgb")
    return str(folder / "a.tif")


def jpeg_in_a_later_section(folder: Path) -> str:
    for z, compression in enumerate((None, "zlib", "jpeg")):
        tifffile.imwrite(folder / f"s{z}.tif", np.zeros((16, 16), np.uint8), compression=compression)
    return str(folder)


def jpeg_on_a_later_page(folder: Path) -> str:
    with tifffile.TiffWriter(folder / "a.tif") as file:
        for compression in (None, "jpeg"):
            file.write(np.zeros((16, 16), np.uint8), compression=compression, metadata=None, photometric="minisblack")
    return str(folder / "a.tif")


def jpeg_in_precomputed(folder: Path) -> str:
    import tensorstore

    scale = {"size": [8, 8, 2], "encoding": "jpeg", "chunk_size": [8, 8, 2], "resolution": [4, 4, 40]}
    spec = {
        "driver": "neuroglancer_precomputed", "kvstore": {"driver": "file", "path": f"{folder}/em"},
        "multiscale_metadata": {"type": "image", "data_type": "uint8", "num_channels": 1}, "scale_metadata": scale,
    }  # fmt: skip
    tensorstore.open(spec, create=True).result().write(np.zeros((8, 8, 2, 1), np.uint8)).result()
    return f"{folder}/em"


@pytest.mark.parametrize(
    "write",
    [
        jpeg_folder, jpeg_of_colours, jpeg_in_tiff, jpeg_in_tiff_of_colours, jpeg_in_a_later_section,
        jpeg_on_a_later_page, jpeg_in_precomputed,
    ],
)  # fmt: skip
def test_labels_from_jpeg_are_refused_with_what_to_save(tmp_path: Path, write: Any) -> None:
    address = write(tmp_path)
    with pytest.raises(SourceError, match=LOSSY) as refused:
        (found := labels(address)).check(Box.of_shape(found.shape))
    assert re.search("once more from the program in which they were drawn", str(refused.value))


@pytest.mark.parametrize("write", [jpeg_folder, jpeg_in_tiff, jpeg_in_precomputed])
def test_intensities_from_jpeg_are_read_and_masks_refused(tmp_path: Path, write: Any) -> None:
    found = open_source(write(tmp_path))
    assert found.read(Box.of_shape(found.shape)).shape == found.shape
    with pytest.raises(SourceError, match=LOSSY):
        one_value_per_voxel(found)
