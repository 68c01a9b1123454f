"""Every kind of TIFF is written with a known volume, and read back box by box, or refused with what it is."""

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.unit.volumes.readers.reading import assert_reads, boxes, read_headers, refusal, truncate, volume
from tests.unit.volumes.readers.test_open import SHARED, needs_real_data, write_sections
from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.volumes.readers import tiff_pages
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_source
from unet.volumes.readers.source import Source
from unet.volumes.readers.tiff import tiff_crop, tiff_section


def opened(path: Path | str, **settings: object) -> Source:
    return open_source(SourceConfig(path=str(path), **settings))


def whole(source: Source) -> np.ndarray:
    """All voxels, after all headers are checked."""
    box = Box.of_shape(source.shape)
    source.check(box)
    return source.read(box)


def told(path: Path | str, **settings: object) -> str:
    """The remarks on a file."""
    source = opened(path, **settings)
    source.check(Box.of_shape(source.shape))
    return "; ".join(source.remarks)


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
    assert "class_values" in message


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


# -- ImageJ ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_imagej_hyperstacks_read_their_channels(tmp_path: Path, compression: str | None) -> None:
    values = volume(shape=(5, 2, 9, 20))
    tifffile.imwrite(tmp_path / "a.tif", values, imagej=True, metadata={"axes": "ZCYX"}, compression=compression)
    source = opened(tmp_path / "a.tif")
    assert (source.channels, source.axes_from) == (2, "ImageJ's description")
    np.testing.assert_array_equal(whole(source), values.swapaxes(0, 1))
    np.testing.assert_array_equal(whole(opened(tmp_path / "a.tif", channels=[1])), values[:, 1])


@pytest.mark.parametrize(("axes", "named"), [("TYX", "5 frames"), ("CYX", "5 channels")])
def test_imagej_stacks_of_frames_or_channels_are_refused_until_they_are_sections(
    tmp_path: Path, axes: str, named: str
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume(), imagej=True, metadata={"axes": axes})
    assert re.search(rf"{named} and one section.*write `axes: zyx`", refusal(tmp_path / "a.tif"))
    np.testing.assert_array_equal(whole(opened(tmp_path / "a.tif", axes="zyx")), volume())


def test_imagej_time_points_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume(shape=(2, 3, 9, 9)), imagej=True, metadata={"axes": "TZYX"})
    assert "axes t of 2, z of 3, y of 9, x of 9 by ImageJ's description" in refusal(tmp_path / "a.tif")


def test_an_old_imagej_stack_of_one_page_counts_images_only(tmp_path: Path) -> None:
    text = "ImageJ=1.34s\nimages=5\n"
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(volume()[0], metadata=None, description=text)
    with (tmp_path / "a.tif").open("ab") as file:
        file.write(volume()[1:].tobytes())
    assert_reads(tmp_path / "a.tif", volume())
    truncate(tmp_path / "a.tif", 0.8)
    assert "cut short" in refusal(tmp_path / "a.tif")


@pytest.mark.parametrize("text", ["images=9\nslices=9\n", "images=2\nslices=2\n", "images=9\nslices=5\n"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_an_imagej_description_that_does_not_fit_its_pages_is_refused(
    tmp_path: Path, text: str, compression: str | None
) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for z, section in enumerate(volume()):
            description = f"ImageJ=1.54f\n{text}" if z == 0 else None
            tiff.write(section, metadata=None, description=description, compression=compression, contiguous=False)
    assert re.search(r"ImageJ's description and the pages .* do not fit.*`axes: zyx`", refusal(tmp_path / "a.tif"))
    np.testing.assert_array_equal(whole(opened(tmp_path / "a.tif", axes="zyx")), volume())
    assert "the pages are read in their order, as `axes` says" in told(tmp_path / "a.tif", axes="zyx")


def test_an_imagej_stack_of_more_than_4_gb_has_one_page(tmp_path: Path) -> None:
    path, shape = tmp_path / "a.tif", (4200, 1024, 1024)
    with tifffile.TiffWriter(path) as tiff:
        text = "ImageJ=1.54f\nimages=4200\nslices=4200\n"
        tiff.write(np.zeros(shape[1:], np.uint8), metadata=None, description=text)
    with tifffile.TiffFile(path) as tiff:
        begin = tiff.pages[0].dataoffsets[0]
    with path.open("r+b") as file:  # a file with a hole: it takes no room on the disk
        file.truncate(begin + 4200 * 2**20)
        file.seek(begin + 4200 * 2**20 - 3)
        file.write(b"abc")
    source = opened(path)
    assert source.shape == shape
    assert source.read(Box((4199, 1023, 1021), shape)).tobytes() == b"abc"
    with path.open("r+b") as file:
        file.truncate(begin + 4199 * 2**20)
    assert "cut short" in refusal(path)


# -- OME-TIFF ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", ["ZCYX", "CZYX"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_ome_reads_its_channels_in_any_order(tmp_path: Path, axes: str, compression: str | None) -> None:
    values = volume(shape=(5, 2, 9, 20))
    tifffile.imwrite(tmp_path / "a.ome.tif", values, metadata={"axes": axes}, compression=compression)
    expected = values if axes == "CZYX" else values.swapaxes(0, 1)
    np.testing.assert_array_equal(whole(opened(tmp_path / "a.ome.tif")), expected)


def ome_xml(planes: str, sizes: str = 'SizeZ="5" SizeC="1" SizeT="1"', order: str = "XYZCT") -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="{order}" Type="uint8" SizeX="50" SizeY="37" '
        f"{sizes} "
        'PhysicalSizeX="4" PhysicalSizeXUnit="nm" PhysicalSizeY="4" PhysicalSizeYUnit="nm" PhysicalSizeZ="50" '
        f'PhysicalSizeZUnit="nm"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
    )


def write_ome(path: Path, sections: np.ndarray, xml: str, **layout: object) -> Path:
    with tifffile.TiffWriter(path) as tiff:
        for i, section in enumerate(sections):
            tiff.write(section, description=xml if i == 0 else None, metadata=None, contiguous=False, **layout)
    return path


ORDER = [3, 0, 4, 1, 2]
"""Section of each page."""
SHUFFLED = "".join(f'<TiffData FirstZ="{z}" IFD="{i}" PlaneCount="1"/>' for i, z in enumerate(ORDER))


@pytest.mark.parametrize("layout", [{}, {"compression": "zlib"}, {"tile": (16, 16)}])
def test_sections_lie_where_ome_says_and_not_in_the_order_of_pages(tmp_path: Path, layout: dict) -> None:
    path = write_ome(tmp_path / "a.ome.tif", volume()[ORDER], ome_xml(SHUFFLED), **layout)
    assert_reads(path, volume())
    source = open_source(str(path))
    assert source.voxel_size_nm == (50, 4, 4)
    assert source.section_name(0) == f"{path}, page 1 (the first is 0)"


@pytest.mark.parametrize(
    ("planes", "sizes"),
    [
        (SHUFFLED, 'SizeZ="4" SizeC="1" SizeT="1"'),
        (SHUFFLED, 'SizeZ="7" SizeC="1" SizeT="1"'),
        ('<TiffData IFD="0" PlaneCount="5"/>', 'SizeZ="3" SizeC="1" SizeT="1"'),
        ('<TiffData FirstZ="0" IFD="0" PlaneCount="3"/>', 'SizeZ="3" SizeC="1" SizeT="1"'),
        ('<TiffData IFD="3" PlaneCount="5"/>', 'SizeZ="5" SizeC="1" SizeT="1"'),
        (SHUFFLED, 'SizeZ="1000000000" SizeC="1" SizeT="1"'),
        (SHUFFLED, 'SizeZ="-5" SizeC="1" SizeT="1"'),
        ('<TiffData IFD="0" PlaneCount="9999999999"/>', 'SizeZ="5" SizeC="1" SizeT="1"'),
    ],
)
def test_ome_that_does_not_fit_its_pages_is_refused(tmp_path: Path, planes: str, sizes: str) -> None:
    path = write_ome(tmp_path / "a.ome.tif", volume(), ome_xml(planes, sizes))
    assert re.search(r"OME-XML and the pages|misses \d+ of its \d+ planes", refusal(path))


def test_several_ome_images_are_listed_with_their_names(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tiff:
        for i, name in enumerate(("overview", "stack")):
            sizes = {"PhysicalSizeX": 4 + i, "PhysicalSizeY": 4, "PhysicalSizeZ": 50}
            tiff.write(volume()[i:], metadata={"axes": "ZYX", "Name": name, **sizes}, photometric="minisblack")
    assert re.search(r"0: 'overview', axes ZYX .*1: 'stack', axes ZYX of lengths \(4,", refusal(tmp_path / "a.ome.tif"))
    assert_reads(f"{tmp_path / 'a.ome.tif'}:1", volume()[1:])
    assert opened(f"{tmp_path / 'a.ome.tif'}:1").voxel_size_nm == (50_000, 4000, 5000)


def write_ome_set(folder: Path, companion: bool = False) -> list[Path]:
    """A set of one file per section, whose OME-XML is in each file, or in a companion file."""
    names = [f"s{z}.ome.tif" for z in range(5)]
    planes = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{z}</UUID></TiffData>'
        for z, name in enumerate(names)
    )
    xml = ome_xml(planes)
    binary = (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        'UUID="urn:uuid:{}"><BinaryOnly MetadataFile="a.companion.ome" UUID="urn:uuid:9"/></OME>'
    )
    if companion:
        (folder / "a.companion.ome").write_text(xml, encoding="utf-8")
    for z, name in enumerate(names):
        own = binary.format(z) if companion else xml.replace('2016-06">', f'2016-06" UUID="urn:uuid:{z}">', 1)
        write_ome(folder / name, volume()[z : z + 1], own)
    return [folder / name for name in names]


@pytest.mark.parametrize("companion", [False, True])
def test_a_set_of_ome_files_is_read_whole_or_refused(tmp_path: Path, companion: bool) -> None:
    files = write_ome_set(tmp_path, companion)
    for path in (files[0], files[3]):
        assert_reads(path, volume())
        assert set(open_source(str(path)).files) == set(files)
    files[2].unlink()
    message = refusal(files[0])
    assert "misses 1 of its 5 planes: s2.ome.tif are not there" in message
    if companion:
        (tmp_path / "a.companion.ome").unlink()
        assert "which a.companion.ome describes, and that is not in its folder" in refusal(files[0])


def test_ome_that_names_files_elsewhere_is_refused(tmp_path: Path) -> None:
    planes = '<TiffData IFD="0" PlaneCount="5"><UUID FileName="../../a.tif">urn:uuid:1</UUID></TiffData>'
    path = write_ome(tmp_path / "a.ome.tif", volume(), ome_xml(planes))
    assert "'../../a.tif', which is not in the same folder" in refusal(path)


def test_micromanager_set_reads_as_written(tmp_path: Path) -> None:
    path = tmp_path / "a_MMStack.tif"
    write_micromanager(path, volume())
    assert_reads(path, volume())
    assert open_source(str(path)).voxel_size_nm == (50, 4, 4)


def test_micromanager_set_without_its_other_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a_MMStack.tif"
    write_micromanager(path, volume(), slices=9)
    assert "Micro-Manager's index and the pages of the file do not fit" in refusal(path)


def test_a_micromanager_index_larger_than_its_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a_MMStack.tif"
    write_micromanager(path, volume())
    with path.open("r+b") as file:  # the section of the first plane in the index map
        file.seek(-20 * 5 + 4, 2)
        file.write(struct.pack("<I", 2**25))
    assert "33554433 Slices" in refusal(path)


def write_micromanager(path: Path, values: np.ndarray, slices: int | None = None, ndtiff: bool = False) -> list[int]:
    """A file as Micro-Manager lays it out: index map, summary, and pages with headers of one size; their places."""
    summary = json.dumps({
        "MicroManagerVersion": "2.0", "Channels": 1, "Slices": slices or len(values), "Frames": 1, "Positions": 1,
        "SlicesFirst": True, "TimeFirst": False, "PixelSize_um": 0.004, "z-step_um": 0.05, "Prefix": "a",
    }).encode()  # fmt: skip
    z, y, x = values.shape
    begin = 40 + len(summary)
    page = 162 + y * x + 2  # 2 + 13 tags * 12 + 4 bytes, then the pixels, then metadata as JSON
    offsets = [begin + i * page for i in range(z)]
    index = begin + z * page
    with path.open("wb") as file:
        file.write(struct.pack("<2sHI", b"II", 42, offsets[0]))
        header = [54773648, index, 483765892, 0, 99384722, 0, 2355492, len(summary)]
        file.write(struct.pack("<5I", 483729, 3, 0, 2355492, len(summary)) if ndtiff else struct.pack("<8I", *header))
        file.write(summary.ljust(begin - file.tell()))
        for i, offset in enumerate(offsets):
            tags = [(254, 4, 1, 0), (256, 4, 1, x), (257, 4, 1, y), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
                    (273, 4, 1, offset + 162), (277, 3, 1, 1), (278, 3, 1, y), (279, 4, 1, y * x), (282, 4, 1, 1),
                    (296, 3, 1, 1), (51123, 2, 2, offset + 162 + y * x)]  # fmt: skip
            file.write(struct.pack("<H", len(tags)))
            file.write(b"".join(struct.pack("<HHII", *tag) for tag in tags))
            file.write(struct.pack("<I", offsets[i + 1] if i + 1 < z else 0) + values[i].tobytes() + b"{}")
        rows = np.array([(0, i, 0, 0, offset) for i, offset in enumerate(offsets)], "<u4")
        file.write(struct.pack("<2I", 3453623, z) + rows.tobytes())
    return offsets


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
        for page in tiff.pages:
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


# -- voxel sizes -------------------------------------------------------------------------------------------------------


def test_imagej_units_may_differ_between_axes(tmp_path: Path) -> None:
    metadata = {"spacing": -0.05, "unit": "nm", "yunit": "micron", "zunit": "\\u00B5m", "axes": "ZYX"}
    tifffile.imwrite(tmp_path / "a.tif", volume(), imagej=True, resolution=(1 / 4, 125), metadata=metadata)
    assert opened(tmp_path / "a.tif").voxel_size_nm == pytest.approx((50, 8, 4))
    assert opened(tmp_path / "a.tif").voxel_size_from == "ImageJ's metadata"


@pytest.mark.parametrize("unit", ["reference frame", "pixel"])
def test_ome_units_that_are_no_lengths_say_nothing(tmp_path: Path, unit: str) -> None:
    sizes = {f"PhysicalSize{axis}": 4 for axis in "XYZ"} | {f"PhysicalSize{axis}Unit": unit for axis in "XYZ"}
    tifffile.imwrite(tmp_path / "a.ome.tif", volume(), metadata=sizes | {"axes": "ZYX"})
    assert opened(tmp_path / "a.ome.tif").voxel_size_nm is None


def test_planes_that_only_tifffile_finds_are_read_whole(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume(), metadata=None, software="SI.2016", compression="zlib", tile=(16, 16))
    assert_reads(tmp_path / "a.tif", volume())
    assert opened(tmp_path / "a.tif").whole_sections


def test_ndtiff_reads_as_its_index_says(tmp_path: Path) -> None:
    path = tmp_path / "a_NDTiffStack.tif"
    offsets = write_micromanager(path, volume()[ORDER], ndtiff=True)
    with (tmp_path / "NDTiff.index").open("wb") as file:
        for z, offset in zip(ORDER, offsets, strict=True):
            axes, name = json.dumps({"z": z}).encode(), path.name.encode()
            file.write(struct.pack("<I", len(axes)) + axes + struct.pack("<I", len(name)) + name)
            file.write(struct.pack("<8i", offset + 162, 50, 37, 0, 0, offset + 162 + 1850, 2, 0))
    assert_reads(path, volume())


def microscope_tags() -> Iterator[tuple[str, list[tuple]]]:
    yield "the FEI tags", [(34682, 2, 0, "[Scan]\r\nPixelWidth=4e-09\r\nPixelHeight=4e-09\r\n", True)]
    yield (
        "the FEI tags",
        [(34680, 2, 0, "[User]\r\nUser=a\r\n[Scan]\r\nPixelWidth=4e-09\r\nPixelHeight=4e-09\r\n", True)],
    )
    yield (
        "the tags of Zeiss SmartSEM",
        [(34118, 2, 0, "1\r\nAP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 4.000 nm\r\n", True)],
    )
    yield (
        "the tags of Gatan DigitalMicrograph",
        [(65003, 2, 0, "nm", True), (65004, 2, 0, "nm", True), (65009, 12, 1, 4.0, True), (65010, 12, 1, 4.0, True)],
    )


@pytest.mark.parametrize(("origin", "tags"), list(microscope_tags()))
def test_the_pixel_size_of_a_microscope_is_told(tmp_path: Path, origin: str, tags: list[tuple]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume()[0], metadata=None, extratags=tags)
    assert opened(tmp_path / "a.tif").voxel_size_nm is None  # the thickness of the section is not known
    assert f"pixels of 4 x 4 nm (y, x) by {origin}" in told(tmp_path / "a.tif")


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


# -- sections of a folder ----------------------------------------------------------------------------------------------


def test_a_section_knows_its_size_and_reads_a_box(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume("uint16")[0], compression="zlib", photometric="miniswhite")
    section = tiff_section(tmp_path / "a.tif")
    assert (section.shape, section.dtype, section.zero_is_white) == ((37, 50), np.uint16, True)
    box = Box((3, 4), (30, 41))
    np.testing.assert_array_equal(tiff_crop(tmp_path / "a.tif", box), volume("uint16")[0][box.slices])


def test_a_box_of_a_page_of_one_compressed_strip_costs_the_whole_page(tmp_path: Path) -> None:
    for name, layout in {
        "strip": {"rowsperstrip": 37},
        "strips": {"rowsperstrip": 8},
        "tiles": {"tile": (16, 16)},
    }.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", volume(), compression="zlib", photometric="minisblack", **layout)
        assert opened(tmp_path / f"{name}.tif").whole_sections is (name == "strip")


# -- real files --------------------------------------------------------------------------------------------------------


@needs_real_data
def test_real_tiff_stack_reads_as_tifffile_does() -> None:
    path = SHARED / "isbi2012" / "train-volume.tif"
    source = open_source(str(path))
    source.check(Box.of_shape(source.shape))
    whole = tifffile.imread(path)
    assert (source.shape, source.dtype, source.voxel_size_nm) == ((24, 512, 512), np.uint8, None)
    for box in boxes(source.shape, 4)[1:]:
        np.testing.assert_array_equal(source.read(box), whole[box.slices])
    assert open_source(str(SHARED / "isbi2012" / "train-labels.tif")).shape == source.shape
