"""Every format is written with a known volume and read back box by box; every refusal names both values."""

import pickle
import re
from pathlib import Path

import h5py
import imagecodecs
import mrcfile
import numpy as np
import pytest
import tifffile
import zarr

from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.volumes.readers import tiff as source_tiff
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_channels, open_source
from unet.volumes.readers.section_files import section_paths

SHARED = Path(__file__).parents[4].parent / "shared" / "data"
SHAPE = (5, 37, 50)

needs_real_data = pytest.mark.skipif(not SHARED.exists(), reason="the real volumes of ../shared/data are not here")


def volume(dtype: str = "uint8", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Noise over the whole range of the dtype."""
    rng = np.random.default_rng(0)
    if dtype == "float32":
        return rng.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def boxes(shape: tuple[int, ...], count: int = 12) -> list[Box]:
    """The whole volume and random boxes inside it."""
    rng = np.random.default_rng(1)
    starts = [tuple(int(rng.integers(0, n)) for n in shape) for _ in range(count)]
    stops = [tuple(int(rng.integers(a + 1, n + 1)) for a, n in zip(start, shape, strict=True)) for start in starts]
    return [Box.of_shape(shape), *(Box(a, b) for a, b in zip(starts, stops, strict=True))]


def assert_reads(address: Path | str, expected: np.ndarray) -> None:
    """The source has the shape, dtype and, in every box, the voxels of an array."""
    source = open_source(str(address))
    source.check(Box.of_shape(source.shape))
    assert source.address == str(address)
    assert source.shape == expected.shape
    assert source.dtype == expected.dtype
    assert source.dtype.isnative
    for box in boxes(expected.shape):
        found = source.read(box)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected[box.slices])
    restored = pickle.loads(pickle.dumps(source))  # sources travel to other processes
    np.testing.assert_array_equal(restored.read(boxes(expected.shape)[1]), expected[boxes(expected.shape)[1].slices])


def read_headers(address: Path | str) -> None:
    """Open a source, and check the headers of all its sections."""
    source = open_source(str(address))
    source.check(Box.of_shape(source.shape))


def refusal(address: Path | str, *, whole: bool = False) -> str:
    """The message with which an address is refused, at opening, or at the check of all headers."""
    if not whole:
        with pytest.raises(SourceError) as refused:
            open_source(str(address))
    else:
        source = open_source(str(address))
        with pytest.raises(SourceError) as refused:
            source.check(Box.of_shape(source.shape))
    return str(refused.value)


def write_sections(directory: Path, values: np.ndarray, names: list[str] | None = None) -> Path:
    directory.mkdir(exist_ok=True)
    for z, section in enumerate(values):
        name = names[z] if names else f"s{z:03d}.tif"
        write = write_png if name.endswith(".png") else tifffile.imwrite
        write(directory / name, section)
    return directory


def write_png(path: Path, section: np.ndarray) -> None:
    path.write_bytes(imagecodecs.png_encode(section))


def truncate(path: Path, fraction: float) -> int:
    """Cut the end off a file; the bytes left."""
    content = path.read_bytes()
    kept = int(len(content) * fraction)
    path.write_bytes(content[:kept])
    return kept


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
    read = source_tiff._read_segment
    monkeypatch.setattr(source_tiff, "_read_segment", lambda page, i: indices.append(i) or read(page, i))
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


def test_tiff_with_channels_is_refused_with_its_axes(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume(shape=(2, 3, 9, 9)), imagej=True, metadata={"axes": "ZCYX"})
    assert re.search(r"a\.tif: axes ZCYX of lengths \(2, 3, 9, 9\).*one channel", refusal(tmp_path / "a.tif"))


def test_rgb_tiff_is_refused_with_advice(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume(shape=(9, 9, 3)), photometric="rgb")
    message = refusal(tmp_path / "a.tif")
    assert "RGB image of shape (9, 9, 3)" in message
    assert "convert it to one grey channel" in message
    assert "class_values" in message


@pytest.mark.parametrize("dtype", ["float64", "complex64", "float16"])
def test_unsupported_dtype_is_refused_with_those_supported(tmp_path: Path, dtype: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 9, 9), dtype), photometric="minisblack")
    message = refusal(tmp_path / "a.tif")
    assert f"dtype {dtype} is not supported" in message
    assert "uint8, int8, uint16, int16, float32" in message


def test_page_of_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for shape in ((9, 9), (9, 9), (9, 8)):
            tiff.write(np.zeros(shape, np.uint8), contiguous=False, metadata=None)
    message = refusal(tmp_path / "a.tif", whole=True)
    assert "a.tif, page 2" in message
    assert "9 x 8 pixels of uint8" in message
    assert "page 0: 9 x 9 pixels of uint8" in message


def test_page_of_another_size_is_refused_at_reading_too(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for shape in ((9, 9), (9, 10)):
            tiff.write(np.zeros(shape, np.uint8), contiguous=False, metadata=None)
    with pytest.raises(SourceError, match=r"page 1.*9 x 10 pixels.*9 x 9 pixels"):
        open_source(str(tmp_path / "a.tif")).read(Box((1, 0, 0), (2, 3, 3)))


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
    assert re.search(rf"cut short, pixels reach byte {whole} of a file of {kept}", refusal(tmp_path / "a.tif"))


def test_file_that_is_no_tiff_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"not an image at all")
    assert "a.tif: cannot be read as TIFF" in refusal(tmp_path / "a.tif")


# -- directories of sections -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_png_section_reads_as_written(tmp_path: Path, dtype: str) -> None:
    write_png(tmp_path / "a.png", volume(dtype)[0])
    assert_reads(tmp_path / "a.png", volume(dtype)[:1])


def test_directories_read_in_the_order_of_numbers(tmp_path: Path) -> None:
    values = volume(shape=(12, 9, 9))
    for ending in (".tif", ".png"):
        directory = write_sections(tmp_path / ending[1:], values, [f"slice_{z}{ending}" for z in range(12)])
        assert_reads(directory, values)
        source = open_source(str(directory))
        assert source.section_name(10).startswith(str(directory / f"slice_10{ending}"))
        assert source.files == [directory, *(directory / f"slice_{z}{ending}" for z in range(12))]


def test_directory_leaves_out_hidden_files_and_other_endings(tmp_path: Path) -> None:
    directory = write_sections(tmp_path / "raw", volume())
    (directory / "._s000.tif").write_bytes(b"a resource fork")
    (directory / "notes.txt").write_text("from the microscope")
    assert_reads(directory, volume())


def test_only_the_sections_of_a_box_are_opened(tmp_path: Path) -> None:
    directory = write_sections(tmp_path / "raw", volume())
    source = open_source(str(directory))
    (directory / "s004.tif").unlink()
    np.testing.assert_array_equal(source.read(Box((1, 2, 3), (4, 9, 9))), volume()[1:4, 2:9, 3:9])
    with pytest.raises(SourceError, match=r"s004\.tif"):
        source.read(Box((3, 0, 0), (5, 9, 9)))


def test_section_of_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    directory = write_sections(tmp_path / "raw", volume())
    tifffile.imwrite(directory / "s003.tif", volume()[0, :, :40])
    message = refusal(directory, whole=True)
    assert "s003.tif: 37 x 40 pixels of uint8" in message
    assert "s000.tif: 37 x 50 pixels of uint8" in message
    with pytest.raises(SourceError, match=r"s003\.tif: 37 x 40"):
        open_source(str(directory)).read(Box((3, 0, 0), (4, 5, 5)))


def test_section_of_another_dtype_is_refused_with_both_dtypes(tmp_path: Path) -> None:
    names = [f"{z}.png" for z in range(5)]
    directory = write_sections(tmp_path / "raw", volume(), names)
    write_png(directory / "4.png", volume("uint16")[0])
    message = refusal(directory, whole=True)
    assert "4.png: 37 x 50 pixels of uint16" in message
    assert "0.png: 37 x 50 pixels of uint8" in message


def test_missing_numbers_are_named(tmp_path: Path) -> None:
    directory = write_sections(tmp_path / "raw", volume(), [f"s{z:02d}.tif" for z in (7, 8, 10, 14, 15)])
    message = refusal(directory)
    assert "numbers 9, 11 to 13 are missing" in message
    assert "s07.tif to s15.tif" in message


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["1.tif", "01.tif"], r"01\.tif and 1\.tif have the same number"),
        (["s1.tif", "mask2.tif"], r"s1\.tif and mask2\.tif|mask2\.tif and s1\.tif"),
        (["1.tif", "2.png"], r"mixes TIFF and PNG, 1\.tif and 2\.png"),
    ],
)
def test_files_that_are_no_series_are_refused_by_name(tmp_path: Path, names: list[str], message: str) -> None:
    assert re.search(message, refusal(write_sections(tmp_path / "raw", volume()[:2], names)))


def test_names_with_two_numbers_are_ordered_by_both(tmp_path: Path) -> None:
    names = ["w1_s9.tif", "w1_s10.tif", "w2_s1.tif", "w10_s1.tif"]
    directory = write_sections(tmp_path / "raw", volume()[:4], names)
    assert [p.name for p in section_paths(directory)] == names


def test_empty_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    assert re.search(r"raw: holds no section, a file ending in \.tif, \.tiff, \.png", refusal(tmp_path / "raw"))


def test_what_is_there_instead_of_sections_is_named_with_what_to_do(tmp_path: Path) -> None:
    folder, grey = tmp_path / "raw", volume()[:2]
    folder.mkdir()
    (folder / "s1.jpg").write_bytes(b"")
    assert "but s1.jpg; convert the images, or name the folder with the sections" in refusal(folder)
    for name, wanted in (("a.czi", "files ending in '.czi' are not known"), ("a", "files without an ending")):
        (tmp_path / name).write_bytes(b"")
        assert re.search(rf"{wanted}.*else convert it, to TIFF", refusal(tmp_path / name))
    sections = write_sections(tmp_path / "sections", grey, ["s1.tif", "s2.tif"])
    (sections / "s2.tif").unlink()
    (sections / "s2.tif").mkdir()
    assert re.search(r"s2\.tif: cannot be read as TIFF, it is a folder", refusal(sections, whole=True))


def test_a_store_without_an_array_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    message = refusal(tmp_path / "a.zarr")
    assert message.startswith(f"{tmp_path}/a.zarr: no Zarr array or group")
    assert message.endswith("it holds no array; copy it again")


def test_damaged_voxels_are_told_with_the_box_that_was_read(tmp_path: Path) -> None:
    values = volume(shape=(4, 8, 8))
    zarr.create_array(tmp_path / "a.zarr", data=values, chunks=(2, 8, 8))
    (tmp_path / "a.zarr/c/1/0/0").write_bytes(b"no zstd")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        raw = file.create_dataset("raw", data=values, chunks=(2, 8, 8), compression="gzip")
        chunk = raw.id.get_chunk_info(1)
    with (tmp_path / "a.h5").open("r+b") as handle:
        handle.seek(chunk.byte_offset)
        handle.write(bytes(8))
    for address in (f"{tmp_path}/a.zarr", f"{tmp_path}/a.h5:/raw"):
        source = open_source(address)
        np.testing.assert_array_equal(source.read(Box((0, 0, 0), (2, 8, 8))), values[:2])
        with pytest.raises(SourceError, match=r", box 2:4,0:8,0:8 \(z, y, x\): cannot be read as .*copy or export it"):
            source.read(Box((2, 0, 0), (4, 8, 8)))


def test_stack_among_sections_is_refused_with_its_pages(tmp_path: Path) -> None:
    for name, layout in {"apart": {"compression": "zlib"}, "one": {"truncate": True}}.items():
        directory = write_sections(tmp_path / name, volume()[:2])
        tifffile.imwrite(directory / "s001.tif", volume()[:3], photometric="minisblack", **layout)
        assert re.search(r"s001\.tif: 3 pages, but .* 1 page", refusal(directory, whole=True))


def test_png_cut_short_is_refused(tmp_path: Path) -> None:
    directory = write_sections(tmp_path / "raw", volume(), [f"{z}.png" for z in range(5)])
    kept = truncate(directory / "2.png", 0.9)
    message = refusal(directory, whole=True)
    assert f"2.png: cut short, a PNG of {kept} bytes without its end" in message


@pytest.mark.parametrize(("shape", "kind"), [((9, 9, 3), "RGB"), ((9, 9, 2), "grey with alpha")])
def test_colour_png_is_refused_with_advice(tmp_path: Path, shape: tuple[int, ...], kind: str) -> None:
    write_png(tmp_path / "a.png", volume(shape=shape))
    assert re.search(rf"a\.png: {kind} PNG and not grey; convert it to one grey channel", refusal(tmp_path / "a.png"))


def test_file_that_is_no_png_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"GIF89a and so on")
    assert re.search(r"a\.png: begins with b'GIF89a", refusal(tmp_path / "a.png"))


# -- writers -----------------------------------------------------------------------------------------------------------


def write_hdf5(path: Path, values: np.ndarray, **attributes: tuple[float, ...]) -> str:
    with h5py.File(path, "a") as file:
        dataset = file.create_dataset("volumes/raw", data=values, chunks=True, compression="gzip")
        dataset.attrs.update(attributes)
    return f"{path}:/volumes/raw"


def write_mrc(path: Path, values: np.ndarray, voxel_angstrom: tuple[float, float, float] | None = None) -> Path:
    with mrcfile.new(path, values, overwrite=True) as file:
        if voxel_angstrom:
            z, y, x = voxel_angstrom
            file.voxel_size = (x, y, z)
    return path


# -- Zarr --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_arrays_read_as_written(tmp_path: Path, zarr_format: int) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=zarr_format)
    for name, values in {"raw": volume("uint16"), "labels/ids": volume("uint64")}.items():
        array = group.create_array(name, shape=SHAPE, chunks=(2, 16, 16), dtype=values.dtype)
        array[:] = values
    assert_reads(f"{tmp_path}/a.zarr:/raw", volume("uint16"))
    assert_reads(f"{tmp_path}/a.zarr/raw", volume("uint16"))
    assert_reads(f"{tmp_path}/a.zarr:/labels/ids", volume("uint64"))


def test_zarr_array_without_an_ending_is_known_by_its_metadata(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "plain", data=volume()[0], chunks=(16, 16))
    assert_reads(tmp_path / "plain", volume()[:1])
    assert open_source(str(tmp_path / "plain")).files == [tmp_path / "plain" / "zarr.json"]


def write_ome_zarr(path: Path, values: np.ndarray, axes: str, scale: list[float], version: str, unit: str) -> None:
    zarr_format = 2 if version == "0.4" else 3
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    group.create_array("0", shape=values.shape, chunks=values.shape, dtype=values.dtype)[:] = values
    group.create_array("1", shape=(1,) * values.ndim, chunks=(1,) * values.ndim, dtype=values.dtype)
    translation = [7.0 * (axis in "zyx") for axis in axes]
    transforms = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": translation}]
    kinds = {"t": {"type": "time"}, "c": {"type": "channel"}}
    multiscale = {
        "version": version,
        "axes": [{"name": axis, **kinds.get(axis, {"type": "space", "unit": unit})} for axis in axes],
        "datasets": [
            {"path": "0", "coordinateTransformations": transforms},
            {"path": "1", "coordinateTransformations": transforms},
        ],
    }
    attributes = {"multiscales": [multiscale]}
    group.attrs.update(attributes if version == "0.4" else {"ome": {"version": version, **attributes}})


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(("unit", "nm"), [("nanometer", 1.0), ("micrometer", 1e3)])
@pytest.mark.parametrize("axes", ["zyx", "tczyx"])
def test_ome_zarr_reads_its_finest_level(tmp_path: Path, version: str, unit: str, nm: float, axes: str) -> None:
    scale = [1.0] * (len(axes) - 3) + [50 / nm, 8 / nm, 4 / nm]
    stored = volume().reshape((1,) * (len(axes) - 3) + SHAPE)
    write_ome_zarr(tmp_path / "a.zarr", stored, axes, scale, version, unit)
    assert_reads(tmp_path / "a.zarr", volume())
    source = open_source(str(tmp_path / "a.zarr"))
    assert source.voxel_size_nm == pytest.approx((50, 8, 4))
    assert source.offset_nm == pytest.approx((7 * nm, 7 * nm, 7 * nm))


def test_ome_zarr_of_axes_in_another_order_reads_as_z_y_x(tmp_path: Path) -> None:
    stored = volume()[None].transpose(3, 2, 0, 1)
    write_ome_zarr(tmp_path / "a.zarr", stored, "xycz", [4, 8, 1, 50], "0.5", "nanometer")
    assert_reads(tmp_path / "a.zarr", volume())
    assert open_source(str(tmp_path / "a.zarr")).voxel_size_nm == (50, 8, 4)


def test_what_is_read_is_a_copy_that_may_be_changed(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume("int16"), photometric="minisblack")
    for path in (tmp_path / "a.tif", write_mrc(tmp_path / "a.mrc", volume("int16"))):
        source = open_source(str(path))
        source.read(Box.of_shape(SHAPE))[:] = 0
        np.testing.assert_array_equal(source.read(Box.of_shape(SHAPE)), volume("int16"))


def test_ome_zarr_of_two_dimensions_is_one_section_of_unknown_thickness(tmp_path: Path) -> None:
    write_ome_zarr(tmp_path / "a.zarr", volume()[0], "yx", [4, 4], "0.5", "nanometer")
    assert_reads(tmp_path / "a.zarr", volume()[:1])
    assert open_source(str(tmp_path / "a.zarr")).voxel_size_nm is None


@pytest.mark.parametrize("axes", ["czyx", "zcyx", "xyzc"])
def test_ome_zarr_reads_its_channels(tmp_path: Path, axes: str) -> None:
    values = volume(shape=(2, 3, 7, 9))
    stored = values.transpose(["czyx".index(axis) for axis in axes])
    scale = [{"z": 50.0, "y": 4.0, "x": 4.0}.get(axis, 1.0) for axis in axes]
    write_ome_zarr(tmp_path / "a.zarr", stored, axes, scale, "0.5", "nanometer")
    source, box = open_source(str(tmp_path / "a.zarr")), Box((0, 2, 1), (2, 7, 8))
    assert (source.channels, source.shape, source.voxel_size_nm) == (2, (3, 7, 9), (50, 4, 4))
    np.testing.assert_array_equal(source.read(box), values[:, *box.slices])


def test_ome_zarr_with_time_points_is_refused_with_its_axes(tmp_path: Path) -> None:
    write_ome_zarr(tmp_path / "a.zarr", volume(shape=(2, 3, 9, 9)), "tzyx", [1, 1, 1, 1], "0.5", "nanometer")
    assert "axes t of 2, z of 3, y of 9, x of 9" in refusal(tmp_path / "a.zarr")


# -- channels ----------------------------------------------------------------------------------------------------------


def test_several_sources_are_the_channels_of_one(tmp_path: Path) -> None:
    one, two = volume(), volume()[::-1].copy()
    tifffile.imwrite(tmp_path / "a.tif", one, photometric="minisblack")
    address, box = write_hdf5(tmp_path / "b.h5", np.stack([two, one])), Box((1, 2, 3), (4, 30, 40))
    stack = open_channels([SourceConfig(path=str(tmp_path / "a.tif")), SourceConfig(path=address, axes="czyx")])
    assert (stack.channels, stack.shape) == (3, SHAPE)
    np.testing.assert_array_equal(stack.read(box), np.stack([one, two, one])[:, *box.slices])
    before = stack.state(box)
    tifffile.imwrite(tmp_path / "a.tif", np.concatenate([one, one]), photometric="minisblack")
    assert [a != b for a, b in zip(stack.state(box), before, strict=True)] == [True, False]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (volume(shape=(5, 9, 9)), r"b\.h5:/volumes/raw: shape of \(5, 9, 9\), but .*a\.tif has \(5, 37, 50\)"),
        (volume("uint16"), r"b\.h5:/volumes/raw: dtype of uint16, but .*a\.tif has uint8"),
    ],
)
def test_channels_that_do_not_fit_are_refused_with_both_values(tmp_path: Path, other: np.ndarray, message: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume(), photometric="minisblack")
    with pytest.raises(SourceError, match=message):
        open_channels([SourceConfig(path=p) for p in (str(tmp_path / "a.tif"), write_hdf5(tmp_path / "b.h5", other))])


def test_absent_zarr_array_is_refused_with_those_that_are_there(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("volumes/raw", shape=SHAPE, dtype="uint8")
    for address in (f"{tmp_path}/a.zarr:/volumes/labels", f"{tmp_path}/a.zarr"):
        assert "/volumes/raw (5, 37, 50)" in refusal(address)


# -- all formats -------------------------------------------------------------------------------------------------------


def test_absent_path_is_refused_with_the_nearest_folder(tmp_path: Path) -> None:
    message = refusal(tmp_path / "none" / "a.tif")
    assert f"there is no {tmp_path / 'none' / 'a.tif'}" in message
    assert f"the folder {tmp_path} is there" in message


def test_unknown_ending_is_refused_with_those_known(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    assert re.search(r"'\.jpg' are not known; supported are \.h5, .*\.zarr.*\.tif", refusal(tmp_path / "a.jpg"))


def test_path_inside_a_file_that_has_none_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume())
    assert "is TIFF, in which nothing can be named: there is no /raw inside" in refusal(f"{tmp_path / 'a.tif'}:/raw")


def test_colons_in_file_names_are_part_of_them(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "12:30.tif", volume())
    assert_reads(tmp_path / "12:30.tif", volume())


def test_box_outside_the_volume_is_refused_with_both(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume())
    source = open_source(str(tmp_path / "a.tif"))
    for box in (Box((0, 0, 0), (6, 1, 1)), Box((0, -1, 0), (1, 1, 1))):
        with pytest.raises(SourceError, match=re.escape(f"box {box} is not inside the volume of shape {SHAPE}")):
            source.read(box)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_grey_values_that_are_not_finite_are_refused_with_section_and_position(tmp_path: Path, bad: float) -> None:
    values = volume("float32")
    values[2, 30, 41] = values[3, 0, 0] = bad
    directory = write_sections(tmp_path / "raw", values)
    source = open_source(str(directory))
    source.read(Box((0, 0, 0), (2, 37, 50)))
    with pytest.raises(SourceError, match=rf"s002\.tif.*intensity {bad} at \(z, y, x\) = \(2, 30, 41\), 2 not finite"):
        source.read(Box((1, 0, 0), (4, 37, 50)))


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


@needs_real_data
def test_real_section_directories_pair_up() -> None:
    raw = open_source(str(SHARED / "vnc" / "stack1" / "raw"))
    assert (raw.shape, raw.dtype) == ((15, 1024, 1024), np.uint8)
    raw.check(Box.of_shape(raw.shape))
    for folder in ("labels", "membranes", "mitochondria", "synapses"):
        labels = open_source(str(SHARED / "vnc" / "stack1" / folder))
        labels.check(Box.of_shape(labels.shape))
        assert labels.shape == raw.shape
    section = tifffile.imread(SHARED / "vnc" / "stack1" / "raw" / "07.tif")
    np.testing.assert_array_equal(raw.read(Box((7, 100, 200), (8, 300, 333)))[0], section[100:300, 200:333])


@needs_real_data
def test_real_hdf5_of_cremi_layout_knows_its_voxels() -> None:
    path = SHARED / "fib25" / "validation.h5"
    raw, labels = open_source(f"{path}:/volumes/raw"), open_source(f"{path}:/volumes/labels/neuron_ids")
    assert (raw.shape, raw.voxel_size_nm, raw.offset_nm) == ((35, 250, 250), (10, 10, 10), (1600, 0, 0))
    assert (raw.dtype, labels.dtype) == (np.uint8, np.uint64)
    assert (labels.shape, labels.voxel_size_nm, labels.offset_nm) == (raw.shape, raw.voxel_size_nm, raw.offset_nm)
