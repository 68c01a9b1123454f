"""MRC as mrcfile writes it, and as older programs do: other modes, stamps, extended headers and axes."""

import struct
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from tests.unit.volumes.readers.reading import SHAPE, assert_reads, read_headers, refusal, truncate, volume
from tests.unit.volumes.readers.test_open import write_mrc
from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_source

WHOLE = Box.of_shape(SHAPE)


def overwritten(path: Path, at: int, content: bytes) -> Path:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)
    return path


def remarks(path: Path) -> str:
    return "\n".join(open_source(str(path)).remarks)


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "float32"])
def test_mrc_reads_as_written(tmp_path: Path, dtype: str) -> None:
    path = write_mrc(tmp_path / "a.mrc", volume(dtype), (500, 80, 40))
    assert_reads(path, volume(dtype))
    assert open_source(str(path)).voxel_size_nm == pytest.approx((50, 8, 4))
    assert ("signed, -128 to 127" in remarks(path)) == (dtype == "int8")


@pytest.mark.parametrize("order", ["<", ">"])
def test_big_endian_and_half_precision_read_as_native(tmp_path: Path, order: str) -> None:
    values = volume("float32").astype(np.float16)
    assert_reads(write_mrc(tmp_path / "a.mrc", values.astype(f"{order}f2")), values.astype(np.float32))
    assert_reads(write_mrc(tmp_path / "b.mrc", volume("int16").astype(f"{order}i2")), volume("int16"))


def test_voxel_size_of_0_is_unknown(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "a.mrc", volume("int16"))
    assert open_source(str(path)).voxel_size_nm is None
    overwritten(path, 28, bytes(12))  # mx, my, mz
    assert open_source(str(path)).voxel_size_nm is None


def test_bytes_of_imod_are_unsigned_unless_flagged(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "a.mrc", volume("int8"))
    for flags, expected in ((0, volume("int8").view(np.uint8)), (1, volume("int8"))):
        assert_reads(overwritten(path, 152, struct.pack("<ii", 1146047817, flags)), expected)
        assert not remarks(path)
    assert "two voxels per byte in mode 0" in refusal(overwritten(path, 152, struct.pack("<ii", 1146047817, 16)))


def test_bytes_are_unsigned_where_the_header_has_a_maximum_above_127(tmp_path: Path) -> None:
    path = overwritten(write_mrc(tmp_path / "a.mrc", volume("int8")), 76, struct.pack("<ff", 0, 255))
    assert_reads(path, volume("int8").view(np.uint8))
    assert "unsigned, 0 to 255, since the header has a minimum of 0 and a maximum of 255" in remarks(path)


@pytest.mark.parametrize("width", [8, 7])
def test_mode_101_has_two_voxels_per_byte_and_rows_of_whole_bytes(tmp_path: Path, width: int) -> None:
    values = np.random.default_rng(2).integers(0, 16, (3, 4, width), dtype=np.uint8)
    even = np.pad(values, ((0, 0), (0, 0), (0, width % 2)))
    path = write_mrc(tmp_path / "a.mrc", (even[..., ::2] | even[..., 1::2] << 4).view(np.int8))
    overwritten(path, 0, struct.pack("<iiii", width, 4, 3, 101))
    assert_reads(path, values)


@pytest.mark.parametrize(
    ("mode", "what"), [(3, "complex"), (4, "complex"), (16, "RGB"), (7, "mode 7 of MRC is not known")]
)
def test_modes_without_grey_values_are_refused(tmp_path: Path, mode: int, what: str) -> None:
    path = overwritten(write_mrc(tmp_path / "a.mrc", volume("int16")), 12, struct.pack("<i", mode))
    assert what in refusal(path)
    assert "convert it" in refusal(path)


def test_axes_in_another_order_read_as_z_y_x(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "a.mrc", np.ascontiguousarray(volume("int16").transpose(1, 2, 0)))
    with mrcfile.open(path, "r+") as file:
        file.header.maps, file.header.mapr, file.header.mapc = 2, 1, 3  # stored as (y, x, z)
    assert_reads(path, volume("int16"))
    assert "axes (maps, mapr, mapc) are (2, 2, 3)" in refusal(overwritten(path, 68, struct.pack("<i", 2)))


STAMPS = {
    "SerialEM": (212, b"\x44\0\0\0"),
    "older IMOD": (212, b"\x44\x20\x20\x20"),
    "none": (212, bytes(4)),
    "big-endian, wrongly": (212, b"\x11\x11\0\0"),
    "Amira, no MAP": (208, bytes(4)),
    "neither": (208, bytes(8)),
}


@pytest.mark.parametrize("writer", STAMPS)
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_wrong_stamp_is_told_where_sizes_agree(tmp_path: Path, writer: str, order: str) -> None:
    at, content = STAMPS[writer]
    path = write_mrc(tmp_path / "a.mrc", volume("int16").astype(f"{order}i2"), (500, 40, 40))
    is_right = writer == "big-endian, wrongly" and order == ">"
    assert_reads(overwritten(path, at, content), volume("int16"))
    assert open_source(str(path)).voxel_size_nm == pytest.approx((50, 4, 4))
    assert ("endian, in which header and file size agree" in remarks(path)) != is_right


def test_without_map_a_file_of_another_size_is_not_mrc(tmp_path: Path) -> None:
    path = overwritten(write_mrc(tmp_path / "a.mrc", volume("int16")), 208, bytes(8))
    truncate(path, 0.9)
    assert "as MRC, it is of another format" in refusal(path)


@pytest.mark.parametrize("exttyp", [b"FEI1", b"SERI", b"AGAR", b"MRCO"])
def test_extended_headers_are_skipped(tmp_path: Path, exttyp: bytes) -> None:
    values = volume("int16")
    whole = write_mrc(tmp_path / "a.mrc", values).read_bytes()
    for length in (768, 1001):  # also an odd one
        header = bytearray(whole[:1024])
        header[92:96], header[104:108] = struct.pack("<i", length), exttyp
        (tmp_path / "b.mrc").write_bytes(bytes(header) + b"\7" * length + whole[1024:])
        assert_reads(tmp_path / "b.mrc", values)
        assert not remarks(tmp_path / "b.mrc")


@pytest.mark.parametrize("extended", [-1, 768])
def test_a_wrong_length_of_the_extended_header_is_told_where_sizes_agree(tmp_path: Path, extended: int) -> None:
    path = overwritten(write_mrc(tmp_path / "a.mrc", volume("int16")), 92, struct.pack("<i", extended))
    assert_reads(path, volume("int16"))
    assert f"nsymbt says that the extended header has {extended} bytes" in remarks(path)


def test_a_longer_file_is_told(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "a.mrc", volume("int16"))
    path.write_bytes(path.read_bytes() + bytes(100))
    assert_reads(path, volume("int16"))
    assert "100 bytes longer than its header" in remarks(path)


def test_of_several_volumes_one_is_chosen(tmp_path: Path) -> None:
    values = np.stack([volume("int16"), volume("int16")[::-1]])
    path = tmp_path / "a.mrc"
    mrcfile.new(path, values).close()
    assert "holds 2 volumes of 5 sections" in refusal(path)
    source = open_source(SourceConfig(path=str(path), axes="czyx", channels=[1]))
    np.testing.assert_array_equal(source.read(WHOLE), values[1])


def test_volumes_of_one_section_each_are_volumes(tmp_path: Path) -> None:
    path = tmp_path / "a.mrc"
    mrcfile.new(path, volume("int16")[:, None]).close()
    assert "holds 5 volumes of 1 section" in refusal(path)


@pytest.mark.parametrize("sizes", [(50, 37, 0), (50, -37, 5), (0, 0, 0)])
def test_sizes_that_cannot_be_are_refused(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    path = overwritten(write_mrc(tmp_path / "a.mrc", volume("int16")), 0, struct.pack("<iii", *sizes))
    assert f"sizes (nz, ny, nx) are {sizes[::-1]}" in refusal(path)


def test_a_huge_volume_is_cut_short_and_nothing_is_allocated(tmp_path: Path) -> None:
    path = overwritten(write_mrc(tmp_path / "a.mrc", volume("int16")), 0, struct.pack("<iii", *[2**31 - 1] * 3))
    assert "cut short" in refusal(path)


def test_mrc_cut_short_names_both_lengths(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "a.mrc", volume("int16"))
    whole = path.stat().st_size
    kept = truncate(path, 0.9)
    assert f"a.mrc: cut short, {kept} bytes, but" in refusal(path)
    assert f"needs {whole}" in refusal(path)
    truncate(path, 0.01)
    assert "a.mrc: cannot be read as MRC" in refusal(path)


@pytest.mark.parametrize("at", range(0, 1024, 64))
def test_a_damaged_header_ends_in_a_named_error_or_in_voxels(tmp_path: Path, at: int) -> None:
    path = overwritten(write_mrc(tmp_path / "a.mrc", volume("int16")), at, b"\xff" * 64)
    try:
        read_headers(path)
    except SourceError as error:
        assert "a.mrc" in str(error)  # noqa: PT017 - either is right


@pytest.mark.parametrize(("name", "program"), [("a.mrc.gz", "gunzip"), ("a.mrc.bz2", "bunzip2"), ("a.mrc", "gunzip")])
def test_a_compressed_file_is_refused_with_the_program_that_unpacks_it(tmp_path: Path, name: str, program: str) -> None:
    values, compression = volume("int16"), "bzip2" if name.endswith("bz2") else "gzip"
    with mrcfile.new(tmp_path / "b.mrc", values, compression=compression):
        pass
    (tmp_path / "b.mrc").rename(tmp_path / name)
    message = refusal(tmp_path / name)
    assert program in message or "by its first bytes" in message


def test_a_file_of_another_ending_is_known_by_the_word_map(tmp_path: Path) -> None:
    write_mrc(tmp_path / "a.mrc", volume("int16")).rename(tmp_path / "a.preali")
    assert_reads(tmp_path / "a.preali", volume("int16"))
