"""Descriptions of a TIFF by ImageJ, OME-XML and Micro-Manager are followed, or refused where the pages do not fit."""

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.unit.volumes.readers.reading import (
    assert_reads,
    opened,
    refusal,
    told,
    truncate,
    volume,
    whole,
)
from unet.geometry.box import Box
from unet.volumes.readers.open import open_source

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
    assert opened(tmp_path / "a.tif").chunk == Box.of_shape((1, *volume().shape[1:]))


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
