"""Every kind of TIFF is written with a known volume, and read back box by box, or refused with what it is."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.unit.volumes.readers.reading import (
    SHAPE,
    assert_reads,
    boxes,
    opened,
    read_headers,
    refusal,
    told,
    truncate,
    volume,
    whole,
)
from unet.geometry.box import Box
from unet.volumes.readers import tiff_pages
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_source
from unet.volumes.readers.tiff import tiff_crop, tiff_section

# -- TIFF stacks -------------------------------------------------------------------------------------------------------

TIFF_LAYOUTS = {
    "contiguous": {},
    "one page for all sections": {"truncate": True},
    "big-endian": {"byteorder": ">"},
    "bigtiff": {"bigtiff": True},
    "compressed": {"compression": "zlib"},
    "strips": {"compression": "lzw", "rowsperstrip": 5},
    "uncompressed strips": {"rowsperstrip": 5},
    "tiles": {"tile": (16, 32)},
    "compressed tiles with predictor": {"compression": "zlib", "tile": (16, 16), "predictor": True},
    "pages apart": {"metadata": None, "contiguous": False},
}


@pytest.mark.parametrize("layout", TIFF_LAYOUTS)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_tiff_of_every_layout_reads_as_written(tmp_path: Path, layout: str, dtype: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume(dtype), photometric="minisblack", **TIFF_LAYOUTS[layout])
    assert_reads(tmp_path / "a.tif", volume(dtype))


@pytest.mark.parametrize("dtype", ["float32", "uint32", "int32", "uint64", "int64"])
def test_tiff_of_wide_dtypes_reads_as_written(tmp_path: Path, dtype: str) -> None:
    tifffile.imwrite(tmp_path / "a.tiff", volume(dtype), photometric="minisblack", compression="zlib")
    assert_reads(tmp_path / "a.tiff", volume(dtype))


def test_tiff_of_one_page_is_one_section(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume()[0])
    assert_reads(tmp_path / "a.tif", volume()[:1])


def test_tiff_of_one_bit_reads_as_0_and_255(tmp_path: Path) -> None:
    bits = volume()[0] > 100
    tifffile.imwrite(tmp_path / "a.tif", bits)
    assert_reads(tmp_path / "a.tif", (bits * np.uint8(255))[None])


def test_tiff_with_a_colour_table_reads_its_stored_values(tmp_path: Path) -> None:
    table = np.zeros((3, 256), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", volume()[0], photometric="palette", colormap=table)
    assert_reads(tmp_path / "a.tif", volume()[:1])


def test_only_the_touched_tiles_of_a_tiff_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume(shape=(2, 64, 64)), tile=(16, 16), compression="zlib")
    indices: list[int] = []
    read = tiff_pages._read_segment
    monkeypatch.setattr(tiff_pages, "_read_segment", lambda page, i: indices.append(i) or read(page, i))
    open_source(str(tmp_path / "a.tif")).read(Box((1, 20, 30), (2, 33, 34)))
    assert indices == [5, 6, 9, 10]  # rows 1 and 2, columns 1 and 2 of the 4 x 4 tiles; of one page only


def test_imagej_voxel_size_becomes_nm(tmp_path: Path) -> None:
    for unit, nm in {"nm": 1.0, "micron": 1e3, r"\u00B5m": 1e3, "um": 1e3}.items():
        metadata = {"spacing": 50 / nm, "unit": unit, "axes": "ZYX"}
        tifffile.imwrite(tmp_path / "a.tif", volume(), imagej=True, resolution=(nm / 4, nm / 8), metadata=metadata)
        assert open_source(str(tmp_path / "a.tif")).voxel_size_nm == pytest.approx((50, 8, 4))
        assert_reads(tmp_path / "a.tif", volume())


@pytest.mark.parametrize(
    "metadata", [{"unit": "nm"}, {"spacing": 50}, {"spacing": 50, "unit": "pixel"}, {"spacing": 0, "unit": "nm"}]
)
def test_imagej_voxel_size_is_unknown_where_a_part_is_missing(tmp_path: Path, metadata: dict) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume(), imagej=True, resolution=(1, 1), metadata=metadata | {"axes": "ZYX"})
    assert open_source(str(tmp_path / "a.tif")).voxel_size_nm is None


def test_ome_voxel_size_becomes_nm(tmp_path: Path) -> None:
    sizes = {"PhysicalSizeX": 4, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.008, "PhysicalSizeZ": 0.05}
    tifffile.imwrite(tmp_path / "a.ome.tif", volume(), ome=True, metadata=sizes | {"axes": "ZYX"})
    assert open_source(str(tmp_path / "a.ome.tif")).voxel_size_nm == pytest.approx((50, 8, 4))
    assert_reads(tmp_path / "a.ome.tif", volume())


def test_tiff_without_metadata_has_no_voxel_size(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume(), resolution=(72, 72))
    assert open_source(str(tmp_path / "a.tif")).voxel_size_nm is None


def test_rgb_tiff_is_refused_with_advice(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume(shape=(9, 9, 3)), photometric="rgb")
    message = refusal(tmp_path / "a.tif")
    assert "RGB image of shape (9, 9, 3)" in message
    assert "convert it to one grey channel" in message
    assert "as labels it is read, one id per colour; `channels: [0]` at this source takes one colour" in message


@pytest.mark.parametrize("dtype", ["complex64"])
def test_unsupported_dtype_is_refused_with_those_supported(tmp_path: Path, dtype: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 9, 9), dtype), photometric="minisblack")
    message = refusal(tmp_path / "a.tif")
    assert f"dtype {dtype} is not supported" in message
    assert "uint8, int8, uint16, int16, float32" in message


@pytest.mark.parametrize("layout", [name for name in TIFF_LAYOUTS if name != "big-endian"])
@pytest.mark.parametrize("fraction", [0.95, 0.5, 0.01])
def test_tiff_cut_short_is_refused_without_reading_voxels(tmp_path: Path, layout: str, fraction: float) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, volume(), photometric="minisblack", **TIFF_LAYOUTS[layout])
    truncate(path, fraction)
    with pytest.raises(SourceError, match=r"a\.tif.*copy or export it again"):
        read_headers(path)


def test_tiff_cut_short_names_both_lengths(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume()[0], compression=None)
    whole = (tmp_path / "a.tif").stat().st_size
    kept = truncate(tmp_path / "a.tif", 0.9)
    assert re.search(rf"cut short.* reach byte {whole} of a file of {kept}", refusal(tmp_path / "a.tif"))


def test_file_that_is_no_tiff_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"not an image at all")
    assert "a.tif: cannot be read as TIFF" in refusal(tmp_path / "a.tif")


# -- images of a file --------------------------------------------------------------------------------------------------

LAYOUTS = {"contiguous": {}, "compressed": {"compression": "zlib"}, "tiles": {"tile": (16, 16)}}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(9, 20), (5, 9, 20), (5, 1, 9, 20), (1, 5, 9, 20), (1, 1, 5, 9, 20)])
def test_axes_of_length_1_are_left_out(tmp_path: Path, layout: str, shape: tuple[int, ...]) -> None:
    values = volume(shape=shape)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", **LAYOUTS[layout])
    assert_reads(tmp_path / "a.tif", values.reshape(-1, *shape[-2:]))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 5, 9, 20), (5, 2, 9, 20), (2, 3, 5, 9, 20)])
def test_axes_without_names_are_refused_until_the_user_names_them(
    tmp_path: Path, layout: str, shape: tuple[int, ...]
) -> None:
    values = volume(shape=shape)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", **LAYOUTS[layout])
    assert f"{len(shape)} axes of lengths {shape}" in refusal(tmp_path / "a.tif")
    if len(shape) == 4:
        for axes, expected in (("czyx", values), ("zcyx", values.swapaxes(0, 1))):
            np.testing.assert_array_equal(whole(opened(tmp_path / "a.tif", axes=axes)), expected)


@pytest.mark.parametrize("metadata", [None, {}])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_pages_written_one_by_one_are_sections(tmp_path: Path, metadata: dict | None, compression: str | None) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for section in volume():
            tiff.write(section, metadata=metadata, compression=compression, contiguous=False)
    assert_reads(tmp_path / "a.tif", volume())


@pytest.mark.parametrize("n", [3, 4])
def test_three_sections_that_tifffile_calls_rgb_are_refused_until_they_are_named(tmp_path: Path, n: int) -> None:
    values = volume(shape=(n, 20, 16))
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", planarconfig="separate")
    assert re.search(
        r"`axes: zyx` .*if they are sections, `axes: cyx` if they are colours", refusal(tmp_path / "a.tif")
    )
    np.testing.assert_array_equal(whole(opened(tmp_path / "a.tif", axes="zyx")), values)
    np.testing.assert_array_equal(whole(opened(tmp_path / "a.tif", axes="cyx")), values[:, None])


@pytest.mark.parametrize(("config", "axes"), [("contig", "yxz"), ("separate", "zyx")])
def test_bands_of_one_page_are_channels_until_they_are_sections(tmp_path: Path, config: str, axes: str) -> None:
    """GDAL and rasterio write a stack of sections as the bands of a page."""
    stored = volume().transpose(1, 2, 0) if config == "contig" else volume()
    options: Any = {"planarconfig": config, "photometric": "minisblack", "extrasamples": (0,) * (SHAPE[0] - 1)}
    tifffile.imwrite(tmp_path / "a.tif", stored, metadata=None, **options)
    assert f"5 channels and one section by the pages of the file; if they are sections, write `axes: {axes}`" in told(
        tmp_path / "a.tif"
    )
    np.testing.assert_array_equal(whole(opened(tmp_path / "a.tif", axes=axes)), volume())


def test_planes_of_colours_on_several_pages_are_channels(tmp_path: Path) -> None:
    planes = np.stack([volume(), 255 - volume(), volume()], axis=1)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    assert "`axes: zcyx` with `channels: [0]` takes one colour" in refusal(tmp_path / "a.tif")
    np.testing.assert_array_equal(whole(opened(tmp_path / "a.tif", axes="zcyx", channels=[1])), 255 - volume())


def test_one_colour_is_read_where_the_user_names_it(tmp_path: Path) -> None:
    values = volume(shape=(5, 20, 16, 3))
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", compression="zlib", rowsperstrip=7)
    assert "`channels: [0]` at this source takes one colour" in refusal(tmp_path / "a.tif")
    np.testing.assert_array_equal(whole(opened(tmp_path / "a.tif", axes="zyxc", channels=[1])), values[..., 1])


def test_grey_with_transparency_is_refused(tmp_path: Path) -> None:
    values = volume(shape=(20, 16, 2))
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", planarconfig="contig", extrasamples=[2])
    assert re.search(r"grey with alpha image of shape \(20, 16, 2\).*`axes: yxc`", refusal(tmp_path / "a.tif"))


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_stack_of_which_pages_were_taken_is_refused_until_the_user_names_the_axes(
    tmp_path: Path, compression: str | None
) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:  # as tiffcp a.tif,0-2 does: the description says 5 sections
        for z, section in enumerate(volume()[:3]):
            text = '{"shape": [5, 37, 50]}' if z == 0 else None
            tiff.write(section, description=text, metadata=None, compression=compression, contiguous=False)
    assert "the description of tifffile and the pages of the file do not fit" in refusal(tmp_path / "a.tif")
    np.testing.assert_array_equal(whole(opened(tmp_path / "a.tif", axes="zyx")), volume()[:3])


def test_several_images_are_listed_and_one_is_chosen_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        for values in (volume(), volume(shape=(3, 9, 9)), volume("uint16", (2, 7, 9))):
            tiff.write(values, photometric="minisblack", compression="zlib")
    message = refusal(path)
    assert "it holds 3 images" in message
    assert "1: axes QYX of lengths (3, 9, 9), uint8" in message
    assert "`a.tif:2`" in message
    assert_reads(f"{path}:0", volume())
    assert_reads(f"{path}:2", volume("uint16", (2, 7, 9)))
    assert "there is no image 3 in it" in refusal(f"{path}:3")
    assert "only the number of an image can be named" in refusal(f"{path}:/raw")


def test_pages_of_several_sizes_are_several_images(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for shape in ((9, 9), (9, 9), (9, 8), (9, 9)):
            tiff.write(np.ones(shape, np.uint8), contiguous=False, metadata=None)
    message = refusal(tmp_path / "a.tif")
    assert "0: 3 pages, 9 x 9 pixels of uint8" in message
    assert "1: 1 pages, 9 x 8 pixels of uint8 (the first is page 2)" in message
    assert opened(f"{tmp_path / 'a.tif'}:0").shape == (3, 9, 9)


def test_a_page_of_another_size_among_many_is_refused_where_it_is_read(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for z in range(20):
            tiff.write(np.ones((9, 8 if z == 4 else 9), np.uint8), contiguous=False, metadata=None)
    source = opened(tmp_path / "a.tif")  # only some pages are looked at
    source.read(Box((0, 0, 0), (4, 9, 9)))
    for use in (source.read, source.check):
        with pytest.raises(SourceError, match=r"page 4 .*9 x 8 pixels of uint8.*page 0: 9 x 9 pixels of uint8"):
            use(Box((3, 0, 0), (6, 3, 3)))


def test_smaller_copies_are_no_images(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "sub.tif") as tiff:  # a pyramid
        tiff.write(volume(), photometric="minisblack", subifds=1, tile=(16, 16))
        tiff.write(volume()[:, ::2, ::2], photometric="minisblack", subfiletype=1, tile=(16, 16))
    with tifffile.TiffWriter(tmp_path / "preview.tif") as tiff:  # as microscopes write them
        tiff.write(volume()[0], metadata=None)
        tiff.write(volume()[0, ::4, ::4], subfiletype=1, metadata=None)
    assert_reads(tmp_path / "sub.tif", volume())
    assert_reads(tmp_path / "preview.tif", volume()[:1])
    assert "1 of 2 pages are smaller copies" in told(tmp_path / "preview.tif")


@pytest.mark.parametrize("tile", [(16, 16, 16), (16, 32)])
def test_volumetric_tiff_reads_as_written(tmp_path: Path, tile: tuple[int, ...]) -> None:
    values = volume(shape=(20, 33, 40))
    tifffile.imwrite(tmp_path / "a.tif", values, volumetric=True, tile=tile, photometric="minisblack")
    assert_reads(tmp_path / "a.tif", values)


# -- sections of a folder ----------------------------------------------------------------------------------------------


def test_a_section_knows_its_size_and_reads_a_box(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume("uint16")[0], compression="zlib", photometric="miniswhite")
    section = tiff_section(tmp_path / "a.tif")
    assert (section.shape, section.dtype, section.zero_is_white) == ((37, 50), np.uint16, True)
    box = Box((3, 4), (30, 41))
    np.testing.assert_array_equal(tiff_crop(tmp_path / "a.tif", box), volume("uint16")[0][box.slices])


def test_a_box_of_a_compressed_page_costs_whole_strips_or_tiles(tmp_path: Path) -> None:
    for name, layout, found in (
        ("strip", {"rowsperstrip": 37}, (37, 50)),
        ("strips", {"rowsperstrip": 8}, (8, 50)),
        ("tiles", {"tile": (16, 32)}, (16, 32)),
    ):
        tifffile.imwrite(tmp_path / f"{name}.tif", volume(), compression="zlib", photometric="minisblack", **layout)
        assert opened(tmp_path / f"{name}.tif").chunk == Box.of_shape((1, *found))


# -- files of a real data set, and of its stand-in ---------------------------------------------------------------------


def test_a_tiff_stack_reads_as_tifffile_does(em_data: Path) -> None:
    path = em_data / "isbi2012" / "train-volume.tif"
    source = open_source(str(path))
    source.check(Box.of_shape(source.shape))
    whole = tifffile.imread(path)
    assert (source.shape, source.dtype, source.voxel_size_nm) == (whole.shape, np.uint8, None)
    for box in boxes(source.shape, 4)[1:]:
        np.testing.assert_array_equal(source.read(box), whole[box.slices])
    assert open_source(str(path.with_name("train-labels.tif"))).shape == source.shape


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"rowsperstrip": 7}])
def test_one_section_may_be_written_to_like_several(tmp_path: Path, options: dict[str, Any]) -> None:
    """One section is returned as it was decoded, without a copy; what is read belongs to the caller all the same."""
    values = volume("uint16")
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", **options)
    source = opened(tmp_path / "a.tif")
    for box in (Box((1, 0, 0), (2, *values.shape[1:])), Box((1, 3, 5), (2, 9, 11)), Box((1, 3, 5), (3, 9, 11))):
        found = source.read(box)
        found += 1
        np.testing.assert_array_equal(source.read(box), values[box.slices])
