"""Folders of sections as people have them: formats, other files, patterns, links, odd names, and damaged files."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import zlib
from pathlib import Path

import imagecodecs
import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from PIL import Image

from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.volumes.input_states import input_state
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_channels, open_source
from unet.volumes.readers.source import Source

SHAPE = (5, 37, 50)
VOXELS = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
WHOLE = Box.of_shape(SHAPE)


def write(folder: Path, name: str = "s{z:03d}.tif", values: np.ndarray = VOXELS) -> Path:
    """A folder of sections whose names have their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for z, section in enumerate(values):
        iio.imwrite(folder / name.format(z=z), section)
    return folder


def read(path: Path | str) -> np.ndarray:
    """All voxels of a source, after a check of all headers."""
    source = open_source(str(path))
    source.check(Box.of_shape(source.shape))
    return source.read(Box.of_shape(source.shape))


def refusal(path: Path | str) -> str:
    """The message with which a source is refused."""
    with pytest.raises(SourceError) as refused:
        read(path)
    return str(refused.value)


# Formats


@pytest.mark.parametrize("name", ["s{z}.tif", "s{z}.TIFF", "s{z}.png", "s{z}.PNG"])
def test_sections_of_every_format_read_as_written(tmp_path: Path, name: str) -> None:
    np.testing.assert_array_equal(read(write(tmp_path / "raw", name)), VOXELS)


@pytest.mark.parametrize("settings", [{}, {"progressive": True}, {"optimize": True, "quality": 70}])
@pytest.mark.parametrize("ending", ["jpg", "JPEG"])
def test_jpeg_sections_read_as_their_writer_reads_them(tmp_path: Path, ending: str, settings: dict) -> None:
    smooth = VOXELS // 8 + np.arange(50, dtype=np.uint8)
    for z, section in enumerate(smooth):
        iio.imwrite(tmp_path / f"s{z}.{ending}", section, **settings)
    expected = np.stack([iio.imread(tmp_path / f"s{z}.{ending}") for z in range(5)])
    source = open_source(str(tmp_path))
    assert (source.shape, source.dtype, source.chunk) == (SHAPE, np.uint8, Box((0, 0, 0), (1, *SHAPE[1:])))
    box = Box((1, 5, 6), (4, 30, 44))
    np.testing.assert_array_equal(source.read(box), expected[box.slices])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read(WHOLE), expected)
    np.testing.assert_array_equal(read(tmp_path / f"s2.{ending}"), expected[2:3])


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_jpeg_cut_short_is_refused(tmp_path: Path, share: float, progressive: bool) -> None:
    path = tmp_path / "a.jpg"
    iio.imwrite(path, VOXELS[0], progressive=progressive)
    whole = path.read_bytes()
    for padded in (0, len(whole)):  # a copy that was begun may have its full length
        path.write_bytes(whole[: int(len(whole) * share)].ljust(padded, b"\0"))
        assert re.search(r"a\.jpg.*copy (it|or export it) again", refusal(path))


def test_a_jpeg_with_bytes_after_its_end_is_read(tmp_path: Path) -> None:
    iio.imwrite(tmp_path / "a.jpg", VOXELS[0])
    expected = read(tmp_path / "a.jpg")
    with (tmp_path / "a.jpg").open("ab") as file:
        file.write(b"\0" * 100)
    np.testing.assert_array_equal(read(tmp_path / "a.jpg"), expected)


def test_coloured_jpegs_and_those_of_other_kinds_are_refused(tmp_path: Path) -> None:
    iio.imwrite(tmp_path / "a.jpg", np.repeat(VOXELS[0, ..., None], 3, axis=2))
    assert "JPEG of 3 colours and not grey; convert it to one grey channel" in refusal(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(imagecodecs.ljpeg_encode(VOXELS[0].astype(np.uint16) * 16, bitspersample=12))
    assert "b.jpg: JPEG of 12 bits is not read; convert" in refusal(tmp_path / "b.jpg")
    (tmp_path / "c.jpg").write_bytes(b"\x89PNG")
    assert r"begins with b'\x89P' and not as a JPEG" in refusal(tmp_path / "c.jpg")


def palette_png(path: Path, indices: np.ndarray, colours: np.ndarray, transparent: bytes = b"", bits: int = 8) -> None:
    """A PNG of indices into colours of red, green and blue, perhaps with the opacity of the first colours."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)

    rows, columns = indices.shape
    header = columns.to_bytes(4) + rows.to_bytes(4) + bytes((bits, 3, 0, 0, 0))
    packed = np.packbits(np.unpackbits(indices[..., None], axis=-1)[..., -bits:].reshape(rows, -1), axis=-1)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"PLTE", colours.astype(np.uint8).tobytes())
        + (chunk(b"tRNS", transparent) if transparent else b"")
        + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in packed))) + chunk(b"IEND", b"")
    )  # fmt: skip


def test_a_png_palette_is_read_if_it_is_grey_and_told(tmp_path: Path) -> None:
    grey = np.repeat(np.arange(255, -1, -1)[:, None], 3, axis=1)
    palette_png(tmp_path / "grey.png", VOXELS[0], grey)
    np.testing.assert_array_equal(read(tmp_path / "grey.png")[0], 255 - VOXELS[0])
    assert "grey values of its palette" in open_source(str(tmp_path / "grey.png")).remarks[0]
    grey[7] = 7, 7, 8
    palette_png(tmp_path / "coloured.png", VOXELS[0], grey)
    assert "palette PNG and not grey; convert it" in refusal(tmp_path / "coloured.png")
    iio.imwrite(tmp_path / "rgb.png", np.repeat(VOXELS[0, ..., None], 3, axis=2))
    assert "RGB PNG and not grey" in refusal(tmp_path / "rgb.png")


def test_values_of_a_png_that_are_stretched_are_told(tmp_path: Path) -> None:
    iio.imwrite(tmp_path / "a.png", VOXELS[0] > 100)
    np.testing.assert_array_equal(read(tmp_path / "a.png")[0], (VOXELS[0] > 100) * np.uint8(255))
    assert "1 bits, whose values 0 to 1 are read as 0 to 255" in open_source(str(tmp_path / "a.png")).remarks[0]


def test_sections_of_which_some_are_negatives_are_refused(tmp_path: Path) -> None:
    for z in range(4):
        tifffile.imwrite(tmp_path / f"s{z}.tif", VOXELS[z], photometric="miniswhite" if z == 2 else "minisblack")
    assert re.search(r"s2\.tif: .*0 is white, but .*s0\.tif: .*0 is black", refusal(tmp_path))
    open_source(str(tmp_path)).check(Box((0, 0, 0), (2, 37, 50)))


def oriented(path: Path, section: np.ndarray, orientation: int) -> None:
    """A section with the tag that tells viewers to turn it."""
    if path.suffix == ".tif":
        tifffile.imwrite(path, section, metadata=None, extratags=[(274, "H", 1, orientation, True)])
    else:
        image = Image.fromarray(section)
        exif = image.getexif()
        exif[274] = orientation
        image.save(path, exif=exif)


@pytest.mark.parametrize("ending", ["tif", "jpg"])
def test_an_orientation_is_told_and_has_to_be_that_of_all_sections(tmp_path: Path, ending: str) -> None:
    for z in range(3):
        oriented(tmp_path / f"s{z}.{ending}", VOXELS[z], 4)
    source = open_source(str(tmp_path))
    source.check(Box.of_shape(source.shape))
    [told] = source.remarks
    assert "orientation 4, viewers may show it mirrored from top to bottom" in told
    assert "write `flip: [y]`" in told
    oriented(tmp_path / f"s1.{ending}", VOXELS[1], 1)
    assert re.search(rf"s1\.{ending}: orientation 1, but .*s0\.{ending}: 4; viewers turn", refusal(tmp_path))


def test_an_orientation_of_the_first_page_is_that_of_a_stack(tmp_path: Path) -> None:
    oriented(tmp_path / "a.tif", VOXELS, 3)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), VOXELS)
    assert "turned by 180 degrees" in open_source(str(tmp_path / "a.tif")).remarks[0]


def test_sections_of_another_magnification_are_told_once(tmp_path: Path) -> None:
    for z, nm in enumerate((4, 4, 8, 8)):
        metadata = {"spacing": 50.0, "unit": "nm"}
        tifffile.imwrite(tmp_path / f"s{z}.tif", VOXELS[z], imagej=True, resolution=(1 / nm, 1 / nm), metadata=metadata)
    source = open_source(str(tmp_path))
    source.check(Box.of_shape(source.shape))
    [told] = source.remarks
    assert f"{tmp_path}/s2.tif: voxel size (50.0, 8.0, 8.0) nm, but that of {tmp_path}/s0.tif, (50.0, 4.0, 4.0)" in told


def test_pixels_that_are_decoded_together_are_known(tmp_path: Path) -> None:
    for kind, settings, found in (
        ("plain", {}, None),
        ("strip", {"compression": "zlib", "rowsperstrip": 37}, (37, 50)),
        ("strips", {"compression": "zlib", "rowsperstrip": 5}, (5, 50)),
        ("tiles", {"compression": "zlib", "tile": (16, 32)}, (16, 32)),
    ):
        (tmp_path / kind).mkdir()
        tifffile.imwrite(tmp_path / kind / "s1.tif", VOXELS[0], **settings)
        assert open_source(str(tmp_path / kind)).chunk == (Box.of_shape((1, *found)) if found else None)


# What else a folder holds


def test_several_formats_are_refused_with_their_counts_and_a_pattern_that_chooses(tmp_path: Path) -> None:
    folder = write(tmp_path / "raw", "s{z}.jpg")
    iio.imwrite(folder / "projection.png", VOXELS[0])
    message = refusal(folder)
    assert f"{folder}: mixes images of several formats, 5 .jpg, 1 .png; choose files by a pattern" in message
    assert f"{folder}/*.jpg" in message
    assert read(folder / "*.jpg").shape == SHAPE
    assert read(folder / "*.png").shape == (1, *SHAPE[1:])


@pytest.mark.parametrize("ending", ["bmp", "dm3", "jp2", "mrc", "czi"])
def test_one_section_beside_images_that_are_not_read_is_no_volume(tmp_path: Path, ending: str) -> None:
    folder = write(tmp_path / "raw", values=VOXELS[:1])
    for z in range(5):
        (folder / f"s{z}.{ending}").touch()
    assert f"1 .tif; not read are 5 .{ending}; choose files by a pattern" in refusal(folder)


def test_what_is_not_read_is_told(tmp_path: Path) -> None:
    folder = write(tmp_path / "raw")
    for name in ("a.txt", "b.txt", "overview.bmp", "README", ".DS_Store", "._s000.tif", "Thumbs.db", "desktop.ini"):
        (folder / name).touch()
    (folder / "old").mkdir()
    source = open_source(str(folder))
    assert source.remarks == [
        f"{folder}: 5 sections are read; not read: 2 .txt, 1 without an ending, 1 in folders, 1 .bmp"
    ]
    assert open_channels([SourceConfig(path=str(folder))]).remarks == source.remarks
    assert open_source(str(folder / "*.tif")).remarks == []
    np.testing.assert_array_equal(read(folder), VOXELS)


def test_a_folder_without_sections_lists_what_it_holds(tmp_path: Path) -> None:
    for name in ("a.bmp", "b.bmp", "c.dm3"):
        (tmp_path / name).touch()
    assert "holds no section" in refusal(tmp_path)
    assert "but a.bmp and 2 more (2 .bmp, 1 .dm3); convert the images" in refusal(tmp_path)


def test_folders_that_hold_the_sections_are_named(tmp_path: Path) -> None:
    """A microscope that saves a folder per section."""
    for z in range(3):
        (tmp_path / f"z{z:03}").mkdir()
        tifffile.imwrite(tmp_path / f"z{z:03}" / "image.tif", VOXELS[0])
    told = refusal(tmp_path)
    assert f"name the folder with the sections, such as {tmp_path}/z000" in told
    assert "if each of these 3 folders holds one section, put links to all sections into one folder" in told


def test_links_that_lead_nowhere_are_told_to_be_links(tmp_path: Path) -> None:
    folder = tmp_path / "sections"
    folder.mkdir()
    for z in range(3):
        tifffile.imwrite(folder / f"s{z}.tif", VOXELS[0])
    (folder / "s3.tif").symlink_to("s3.tif")
    with pytest.raises(SourceError, match=r"s3\.tif: cannot be read as TIFF, links lead in a circle"):
        open_source(str(folder)).check(Box((0, 0, 0), (4, 1, 1)))
    (tmp_path / "loop").symlink_to("loop")
    assert "is a link to loop, which leads nowhere" in refusal(tmp_path / "loop")


# Patterns


def test_a_pattern_chooses_one_of_several_series(tmp_path: Path) -> None:
    folder = write(tmp_path / "raw", "img_c0_z{z:03d}.tif")
    write(folder, "img_c1_z{z:03d}.tif", 255 - VOXELS)
    assert "2 series of 5 sections each" in refusal(folder)
    np.testing.assert_array_equal(read(folder / "*_c1_*.tif"), 255 - VOXELS)
    both = open_channels([SourceConfig(path=f"{folder}/img_c{c}_z*.tif") for c in (0, 1)])
    np.testing.assert_array_equal(both.read(WHOLE), np.stack([VOXELS, 255 - VOXELS]))


def test_channels_of_one_folder_have_the_same_sections(tmp_path: Path) -> None:
    folder = write(tmp_path / "raw", "c0_{z}.tif")
    write(folder, "c1_{z}.tif", VOXELS)
    (folder / "c0_0.tif").unlink()
    (folder / "c1_4.tif").unlink()
    with pytest.raises(
        SourceError, match=r"c1_.*: sections of numbers 0 to 3, but .*c0_.* has numbers 1 to 4; channels"
    ):
        open_channels([SourceConfig(path=f"{folder}/c{c}_*.tif") for c in (0, 1)])
    shutil.copytree(folder, tmp_path / "other")
    pair = [SourceConfig(path=f"{folder}/c0_*.tif"), SourceConfig(path=f"{tmp_path}/other/c1_*.tif")]
    assert "taken as channels of the same sections, in their order" in open_channels(pair).remarks[0]


def test_a_pattern_that_fits_nothing_says_what_is_there(tmp_path: Path) -> None:
    folder = write(tmp_path / "raw")
    (folder / "a.dm3").touch()
    assert f"no file fits *.png; {folder} holds a.dm3 and 5 more (5 .tif, 1 .dm3)" in refusal(folder / "*.png")
    assert "a.dm3 fits, but sections end in .tif" in refusal(folder / "*.dm3")


def test_only_files_that_fit_a_pattern_change_its_state(tmp_path: Path) -> None:
    folder = write(tmp_path / "raw", "c0_{z}.tif")
    pattern = f"{folder}/c0_*.tif"
    before = input_state(pattern)
    (folder / "c1_0.tif").touch()
    (folder / "notes.txt").touch()
    assert input_state(pattern) == before
    shutil.copy(folder / "c0_0.tif", folder / "c0_5.tif")
    added = input_state(pattern)
    assert added != before
    os.utime(folder / "c0_5.tif", ns=(0, 0))
    assert input_state(pattern) != added
    (folder / "c0_5.tif").unlink()
    assert input_state(pattern) == before


# Gaps and numbers


def test_intensities_refuse_gaps_and_labels_know_their_numbers(tmp_path: Path) -> None:
    folder = write(tmp_path / "raw")
    for z in (1, 3):
        (folder / f"s00{z}.tif").unlink()
    source = open_source(str(folder))
    assert source.numbers == (0, 2, 4)  # which is a regular series; so one more is taken away
    shutil.copy(folder / "s004.tif", folder / "s005.tif")
    source = open_source(SourceConfig(path=str(folder), flip=["z"]))
    assert source.numbers == (5, 4, 2, 0)
    with pytest.raises(SourceError, match=r"4 sections from s000\.tif to s005\.tif, of which numbers 1, 3 are missing"):
        source.refuse_gaps()
    with pytest.raises(SourceError, match="numbers 1, 3 are missing; add them"):
        open_channels([SourceConfig(path=str(folder), flip=["y"])])


def test_all_sections_that_are_not_like_the_first_are_told_at_once(tmp_path: Path) -> None:
    for z in range(9):
        tifffile.imwrite(tmp_path / f"s{z}.tif", VOXELS[0, :, : 9 if z > 2 else 10])
    source = open_source(str(tmp_path))
    with pytest.raises(SourceError) as refused:
        source.check(Box.of_shape(source.shape))
    assert [f"s{z}.tif: " in str(refused.value) for z in range(3, 7)] == [True, True, True, False]
    assert str(refused.value).endswith("; and 3 more of its sections, from s6.tif to s8.tif")


def test_only_headers_of_a_box_are_looked_at(tmp_path: Path) -> None:
    folder = write(tmp_path / "raw")
    iio.imwrite(folder / "s003.tif", VOXELS[0, :9])
    source = open_source(str(folder))
    source.check(Box((0, 0, 0), (3, 37, 50)))
    with pytest.raises(SourceError, match=r"s003\.tif: 9 x 50 pixels.*s000\.tif: 37 x 50 pixels"):
        source.check(Box((2, 0, 0), (4, 37, 50)))


# Paths


FOLDERS = [
    "My Data - Lab (2)",
    'user\'s "data"',
    "run {a} {{b}}",
    "Präparat µm 切片 🔬",
    "data [old]*",
    "[raw]",
    "12:30:00",
    "a,b;c&d$e#f%20",
    "stack.tif",
    "pictures.png",
    "-x",
    "~",
]


@pytest.mark.parametrize("folder", FOLDERS)
def test_paths_as_people_have_them(tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / folder, "slice {z:03d}.TIF")
    np.testing.assert_array_equal(read(tmp_path / folder), VOXELS)
    np.testing.assert_array_equal(read(tmp_path / folder / "*.TIF"), VOXELS)
    np.testing.assert_array_equal(read(tmp_path / folder / "slice 002.TIF"), VOXELS[2:3])
    monkeypatch.chdir(tmp_path)
    for path in (folder, f"./{folder}/", f"{folder}/*"):
        np.testing.assert_array_equal(read(path), VOXELS)


def test_links_to_folders_and_to_sections_are_followed(tmp_path: Path) -> None:
    folder = write(tmp_path / "raw")
    (tmp_path / "link").symlink_to(folder)
    linked = tmp_path / "linked"
    linked.mkdir()
    for z in range(5):
        (linked / f"{z}.tif").symlink_to(folder / f"s{z:03d}.tif")
    for path in (tmp_path / "link", linked, linked / "*.tif", tmp_path / "link" / "s*.tif"):
        np.testing.assert_array_equal(read(path), VOXELS)
    states = [input_state(str(path)) for path in (tmp_path / "link", tmp_path / "link" / "s*.tif")]
    write(tmp_path / "raw2", values=VOXELS[::-1])
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to(tmp_path / "raw2")
    now = [input_state(str(path)) for path in (tmp_path / "link", tmp_path / "link" / "s*.tif")]
    assert all(a != b for a, b in zip(states, now, strict=True))
    (linked / "2.tif").unlink()
    (linked / "2.tif").symlink_to(tmp_path / "gone.tif")
    assert re.search(r"linked/2\.tif: cannot be read as TIFF", refusal(linked))


def test_names_with_line_breaks_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "raw")
    (folder / "s003.tif").rename(folder / "s003\n.tif")
    assert r"the name 's003\n.tif' holds a line break" in refusal(folder)


def test_sources_without_names_have_no_numbers(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", VOXELS, photometric="minisblack")
    source: Source = open_source(str(tmp_path / "a.tif"))
    assert source.numbers is None
    source.refuse_gaps()
