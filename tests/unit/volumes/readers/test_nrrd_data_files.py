"""NRRD whose voxels lie in several files: numbered, listed, one section or several a file."""

import bz2
import gzip
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_source
from unet.volumes.readers.source import Source

SHAPE = (6, 5, 7)
VOXELS = np.random.default_rng(0).integers(0, 60_000, SHAPE, np.uint16)
WHOLE = Box.of_shape(SHAPE)
HEADER = """NRRD0004
# written by hand
type: uint16
dimension: 3
sizes: 7 5 6
endian: little
space dimension: 3
space directions: (4,0,0) (0,5,0) (0,0,40)
space units: "nm" "nm" "nm"
space origin: (8,10,80)
"""


def header(folder: Path, data_file: str, fields: str = "encoding: raw\n", lines: str = "") -> Path:
    path = folder / "a.nhdr"
    path.write_text(f"{HEADER}{fields}data file: {data_file}\n{lines}")
    return path


def sections(folder: Path, form: str, numbers: range, per_file: int = 1) -> None:
    for k, number in enumerate(numbers):
        path = folder / form.format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(VOXELS[k * per_file : (k + 1) * per_file].tobytes())


def assert_read(path: Path) -> Source:
    source = open_source(str(path))
    assert (source.shape, source.dtype, source.channels) == (SHAPE, np.uint16, 1)
    assert (source.voxel_size_nm, source.offset_nm) == ((40.0, 5.0, 4.0), (80.0, 10.0, 8.0))
    source.check(WHOLE)
    np.testing.assert_array_equal(source.read(WHOLE), VOXELS)
    for box in Grid(SHAPE, (4, 2, 3)).boxes():
        np.testing.assert_array_equal(source.read(box), VOXELS[box.slices])
    return source


@pytest.mark.parametrize(
    ("form", "numbers", "data_file"),
    [
        ("s{:03d}.raw", range(1, 7), "s%03d.raw 1 6 1"),
        ("s{:d}.raw", range(8, 14), "s%d.raw 8 13 1"),  # 8, 9, 10: by their values
        ("s{:4d}.raw", range(5, 35, 5), "s%4d.raw 5 30 5"),
        ("s{:02d}.raw", range(5, -1, -1), "s%02d.raw 5 0 -1"),
        ("s{:02d}.raw", range(0, 12, 2), "s%02d.raw 0 11 2 2"),
        ("s{}.raw", range(-3, 3), "s%i.raw -3 2 1"),
        ("of day 1/s {:03d} é{{}}.raw", range(1, 7), "of day 1/s %03d é{}.raw 1 6 1"),
    ],
)
def test_numbered_files_are_sections(tmp_path: Path, form: str, numbers: range, data_file: str) -> None:
    sections(tmp_path, form, numbers)
    source = assert_read(header(tmp_path, data_file))
    files = [tmp_path / form.format(number) for number in numbers]
    assert source.files_of(Box((2, 0, 0), (4, 1, 1))) == [tmp_path / "a.nhdr", *files[2:4]]
    assert source.files == [tmp_path / "a.nhdr", *files]


def test_listed_files_are_in_the_order_of_the_list(tmp_path: Path) -> None:
    names = ["c.raw", "b b.raw", "sub/a.raw", "d.raw", "10.raw", "9.raw"]
    (tmp_path / "sub").mkdir()
    for name, section in zip(names, VOXELS, strict=True):
        (tmp_path / name).write_bytes(section.tobytes())
    assert_read(header(tmp_path, "LIST", lines="\n".join(names)))
    assert_read(header(tmp_path, "LIST 2", lines="\r\n".join([*names, "", ""])))


def test_files_of_all_axes_are_slabs(tmp_path: Path) -> None:
    sections(tmp_path, "s{}.raw", range(3), per_file=2)
    assert_read(header(tmp_path, "s%d.raw 0 2 1 3"))
    assert_read(header(tmp_path, "LIST 3", lines="s0.raw\ns1.raw\ns2.raw\n"))


def test_files_of_rows(tmp_path: Path) -> None:
    """A file with one axis holds a row; y is counted before z."""
    for k, row in enumerate(VOXELS.reshape(-1, 7)):
        (tmp_path / f"r{k}.raw").write_bytes(row.tobytes())
    source = assert_read(header(tmp_path, "r%d.raw 0 29 1 1"))
    assert [path.name for path in source.files_of(Box((1, 2, 0), (2, 4, 1)))] == ["a.nhdr", "r7.raw", "r8.raw"]


@pytest.mark.parametrize("skip", [0, 3, -1])
def test_bytes_before_the_voxels_are_those_of_each_file(tmp_path: Path, skip: int) -> None:
    for k, section in enumerate(VOXELS):
        (tmp_path / f"s{k}.raw").write_bytes(b"x" * (3 + k if skip < 0 else skip) + section.tobytes())
    assert_read(header(tmp_path, "s%d.raw 0 5 1", f"encoding: raw\nbyte skip: {skip}\n"))


@pytest.mark.parametrize(("encoding", "packed"), [("gzip", gzip.compress), ("bzip2", bz2.compress)])
def test_each_file_is_compressed(tmp_path: Path, encoding: str, packed: Callable[[bytes], bytes]) -> None:
    for k, section in enumerate(VOXELS):
        (tmp_path / f"s{k}").write_bytes(packed(section.tobytes()))
    source = assert_read(header(tmp_path, "s%d 0 5 1", f"encoding: {encoding}\n"))
    assert source.chunk == Box.of_shape((1, 5, 7)), "a section is decoded as a whole"


def test_axes_of_the_user_overrule_the_header(tmp_path: Path) -> None:
    sections(tmp_path, "s{}.raw", range(6))
    source = open_source(SourceConfig(path=str(header(tmp_path, "s%d.raw 0 5 1")), axes="zyx"))
    np.testing.assert_array_equal(source.read(Box.of_shape(source.shape)), VOXELS.transpose(2, 1, 0))


def test_a_file_with_a_percent_sign_in_its_name_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "100%.raw").write_bytes(VOXELS.tobytes())
    assert_read(header(tmp_path, "100%.raw"))


def gap(folder: Path) -> str:
    (folder / "s2.raw").unlink()
    return "s%d.raw 0 5 1"


def gaps(folder: Path) -> str:
    for number in range(5):
        (folder / f"s{number}.raw").unlink()
    return "s%d.raw 0 5 1"


def short(folder: Path) -> str:
    (folder / "s4.raw").write_bytes(b"x" * 69)
    return "s%d.raw 0 5 1"


@pytest.mark.parametrize(
    ("data_file", "lines", "words"),
    [
        (gap, "", "s2.raw, which is not there; copy"),
        (gaps, "", "s0.raw, .*s1.raw, .*s2.raw and 2 more, which are not there"),
        (short, "", r"s4.raw: cut short, 69 bytes, but the header of \(7, 5\) uint16 needs 70"),
        ("s%d.raw 0 4 1", "", r"names 5 files, but sizes \(7, 5, 6\) need 6 files of 7 x 5; add the missing"),
        ("s%d.raw 0 6 1", "", r"names 7 files, but sizes \(7, 5, 6\) need 6"),
        ("s%d.raw 5 0 1", "", "names 0 files"),
        ("s%d.raw 0 5 0", "", "counts in steps of 0"),
        ("s%d.raw 0 3 1 3", "", "names 4 files, which cannot share 6 slices alike"),
        ("s%d.raw 0 5 1 4", "", "files of 4 axes, but sizes"),
        ("s%d.raw 0 5 1 0", "", "files of 0 axes, but sizes"),
        ("s%s.raw 0 5 1", "", "does not hold one number such as %03d"),
        ("s%d%d.raw 0 5 1", "", "does not hold one number"),
        ("../s%d.raw 0 5 1", "", "lie in another folder, `data file: ../s0.raw`"),
        ("s%d.raw 0 99999999999999999999 1", "", "cannot be read as NRRD"),
        ("LIST", "s0.raw\ns1.raw\n", "names 2 files, but"),
        ("LIST", "", "names 0 files, but"),
        (
            "LIST",
            "s0.raw\ns1.raw\ns2.raw\n/etc/passwd\ns4.raw\ns5.raw\n",
            "folder, `data file: /etc/passwd`",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, data_file: str | Callable[[Path], str], lines: str, words: str
) -> None:
    sections(tmp_path, "s{}.raw", range(6))
    (tmp_path / "s6.raw").write_bytes(b"x" * 70)
    path = header(tmp_path, data_file if isinstance(data_file, str) else data_file(tmp_path), lines=lines)
    with pytest.raises(SourceError, match=words) as refused:
        open_source(str(path))
    assert str(path) in str(refused.value) or "s4.raw" in str(refused.value)


def test_a_file_that_became_short_is_found_before_the_voxels(tmp_path: Path) -> None:
    sections(tmp_path, "s{}.raw", range(6))
    source = open_source(str(header(tmp_path, "s%d.raw 0 5 1")))
    (tmp_path / "s4.raw").write_bytes(b"x" * 9)
    source.check(Box((0, 0, 0), (4, 5, 7)))
    for asked in (source.check, source.read):
        with pytest.raises(SourceError, match=re.escape(f"{tmp_path}/s4.raw: cut short, 9 bytes")):
            asked(WHOLE)


def test_a_change_of_one_file_is_a_change_of_its_section_alone(tmp_path: Path) -> None:
    sections(tmp_path, "s{}.raw", range(6))
    source = open_source(str(header(tmp_path, "s%d.raw 0 5 1")))
    boxes = [Box((z, 0, 0), (z + 1, 5, 7)) for z in range(6)]
    before = [source.state(box) for box in boxes]
    (tmp_path / "s4.raw").write_bytes(b"y" * 71)
    assert [a != b for a, b in zip(before, map(source.state, boxes), strict=True)] == [z == 4 for z in range(6)]


def test_a_lost_section_may_be_named_as_its_neighbour(tmp_path: Path) -> None:
    sections(tmp_path, "s{}.raw", range(6))
    names = [f"s{k}.raw" for k in (0, 1, 1, 3, 4, 5)]
    found = open_source(str(header(tmp_path, "LIST", lines="\n".join(names)))).read(WHOLE)
    np.testing.assert_array_equal(found, VOXELS[[0, 1, 1, 3, 4, 5]])
