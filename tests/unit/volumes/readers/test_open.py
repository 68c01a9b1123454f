"""Every format is written with a known volume and read back box by box; every refusal names both values."""

import os
import re
from pathlib import Path

import h5py
import imagecodecs
import mrcfile
import numpy as np
import pytest
import tifffile
import zarr

from tests.unit.volumes.readers.reading import SHAPE, assert_reads, refusal, truncate, volume
from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.volumes.readers import open as opening
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_channels, open_source


def write_sections(directory: Path, values: np.ndarray, names: list[str] | None = None) -> Path:
    directory.mkdir(exist_ok=True)
    for z, section in enumerate(values):
        name = names[z] if names else f"s{z:03d}.tif"
        write = write_png if name.endswith(".png") else tifffile.imwrite
        write(directory / name, section)
    return directory


def write_png(path: Path, section: np.ndarray) -> None:
    path.write_bytes(imagecodecs.png_encode(section))


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


def test_empty_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    assert re.search(r"raw: holds no section, a file ending in \.tif, \.tiff, \.png", refusal(tmp_path / "raw"))


def test_what_is_there_instead_of_sections_is_named_with_what_to_do(tmp_path: Path) -> None:
    folder, grey = tmp_path / "raw", volume()[:2]
    folder.mkdir()
    (folder / "s1.bmp").write_bytes(b"")
    assert "but s1.bmp; convert the images, or name the folder with the sections" in refusal(folder)
    for name, wanted in (("a.czi", "files ending in '.czi' are not known"), ("a", "files without an ending")):
        (tmp_path / name).write_bytes(b"")
        assert re.search(rf"{wanted}.*else convert it, to TIFF", refusal(tmp_path / name))
    sections = write_sections(tmp_path / "sections", grey, ["s1.tif", "s2.tif"])
    (sections / "s2.tif").unlink()
    (sections / "s2.tif").mkdir()
    assert re.search(r"s2\.tif: cannot be read as TIFF, it is a folder", refusal(sections, whole=True))


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
    assert re.search(r"a\.png: .* by its first bytes it is GIF", refusal(tmp_path / "a.png"))


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


def test_what_is_read_is_a_copy_that_may_be_changed(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", volume("int16"), photometric="minisblack")
    for path in (tmp_path / "a.tif", write_mrc(tmp_path / "a.mrc", volume("int16"))):
        source = open_source(str(path))
        source.read(Box.of_shape(SHAPE))[:] = 0
        np.testing.assert_array_equal(source.read(Box.of_shape(SHAPE)), volume("int16"))


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


# -- all formats -------------------------------------------------------------------------------------------------------


def test_absent_path_is_refused_with_the_nearest_folder(tmp_path: Path) -> None:
    message = refusal(tmp_path / "none" / "a.tif")
    assert f"there is no {tmp_path / 'none' / 'a.tif'}" in message
    assert f"the folder {tmp_path} is there" in message


def test_unknown_ending_is_refused_with_those_known(tmp_path: Path) -> None:
    (tmp_path / "a.bmp").write_bytes(b"")
    assert re.search(r"'\.bmp' are not known; supported are \.h5, .*\.zarr.*\.tif", refusal(tmp_path / "a.bmp"))


def test_path_inside_a_file_that_has_none_is_refused(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", volume()[0])
    assert "in which nothing can be named: there is no /raw inside" in refusal(f"{tmp_path / 'a.png'}:/raw")


def test_colons_in_file_names_are_part_of_them(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "12:30.tif", volume())
    assert_reads(tmp_path / "12:30.tif", volume())


def test_a_dataset_may_have_colons_in_its_name(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "12:30.h5", "w") as file:
        file["run:2/raw:1"] = volume()
    assert_reads(f"{tmp_path}/12:30.h5:/run:2/raw:1", volume())


@pytest.mark.parametrize("name", ["cell.h5", "cell.nii", "cell.mrc", "cell.tif"])
def test_a_folder_of_sections_may_be_called_like_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    for z, section in enumerate(volume()):
        tifffile.imwrite(tmp_path / name / f"s{z}.tif", section)
    assert_reads(tmp_path / name, volume())


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


# -- files of real data sets, and of their stand-in --------------------------------------------------------------------


def test_section_directories_pair_up(em_data: Path) -> None:
    stack = em_data / "vnc" / "stack1"
    raw, files = open_source(str(stack / "raw")), sorted((stack / "raw").iterdir())
    assert (len(raw.shape), raw.shape[0], raw.dtype) == (3, len(files), np.uint8)
    raw.check(Box.of_shape(raw.shape))
    for folder in ("labels", "membranes", "mitochondria", "synapses"):
        labels = open_source(str(stack / folder))
        labels.check(Box.of_shape(labels.shape))
        assert labels.shape == raw.shape
    z = len(files) // 2
    part = raw.read(Box((z, 50, 60), (z + 1, 150, 190)))[0]
    np.testing.assert_array_equal(part, tifffile.imread(files[z])[50:150, 60:190])


def test_hdf5_of_cremi_layout_knows_its_voxels(em_data: Path) -> None:
    path = em_data / "fib25" / "validation.h5"
    raw, labels = open_source(f"{path}:/volumes/raw"), open_source(f"{path}:/volumes/labels/neuron_ids")
    with h5py.File(path) as file:
        shape = file["volumes/raw"].shape
    assert (raw.shape, raw.voxel_size_nm, raw.offset_nm) == (shape, (10, 10, 10), (1600, 0, 0))
    assert (raw.dtype, labels.dtype) == (np.uint8, np.uint64)
    assert (labels.shape, labels.voxel_size_nm, labels.offset_nm) == (raw.shape, raw.voxel_size_nm, raw.offset_nm)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://bucket/a.zarr.zip", "a zip archive is read from a file system only; copy it there, or unpack it"),
        ("az://account/container/a.ozx:/0", "a zip archive is read from a file system only"),
        ("file:///not/there/a.tif", "there is no /not/there/a.tif"),
    ],
)
def test_what_is_not_read_at_addresses_is_told(address: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(address)


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tif")
    assert "is a pipe or a device, and no file" in refusal(tmp_path / "a.tif")


def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", f"{path}/zarr.json")

    (tmp_path / "sections").mkdir()
    monkeypatch.setattr(opening, "_recognises", lambda one, where: forbidden(where))
    assert "you may not read it" in refusal(tmp_path / "sections")


@pytest.mark.parametrize(
    ("begin", "message"),
    [
        (b"ZISRAWFILE", "Zeiss CZI; convert it to OME-Zarr with bioformats2raw"),
        (b"GIF89a", "GIF; open it in Fiji and save it as TIFF"),
        (b"ObjectType = Image\n", "MetaImage; save it as NIfTI"),
        (
            b'<?xml version="1.0" encoding="UTF-8"?>\n<SpimData',
            "BigDataViewer; name the file or folder beside it: a.h5:/t0",
        ),
    ],
)
def test_formats_that_are_not_read_are_named_with_a_converter(tmp_path: Path, begin: bytes, message: str) -> None:
    (tmp_path / "a.bin").write_bytes(begin.ljust(2000, b"\1"))
    with pytest.raises(SourceError, match=message):
        open_source(str(tmp_path / "a.bin"))
