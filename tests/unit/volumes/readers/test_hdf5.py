"""HDF5 as its many writers leave it: types, which dataset, filters, damaged files, and one opening per process."""

import multiprocessing
import re
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from tests.unit.volumes.readers.reading import SHAPE, assert_reads, read_headers, refusal, truncate, volume
from tests.unit.volumes.readers.test_open import write_hdf5
from unet.geometry.box import Box
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_source

WHOLE = Box.of_shape(SHAPE)
PLACE = "a.h5:/raw"


# -- as written --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "uint64"])
def test_hdf5_reads_as_written(tmp_path: Path, dtype: str) -> None:
    address = write_hdf5(tmp_path / "a.h5", volume(dtype), resolution=(50, 4, 4), offset=(100, 8, 0))
    assert_reads(address, volume(dtype))
    source = open_source(address)
    assert (source.voxel_size_nm, source.offset_nm) == ((50, 4, 4), (100, 8, 0))
    assert (source.files, source.remarks) == ([tmp_path / "a.h5"], [])


def test_other_dimensions_read_as_z_y_x(tmp_path: Path) -> None:
    assert_reads(write_hdf5(tmp_path / "a.h5", volume()[0]), volume()[:1])
    assert_reads(write_hdf5(tmp_path / "b.h5", volume()[None, None]), volume())


def test_other_types_read_as_native(tmp_path: Path) -> None:
    assert_reads(write_hdf5(tmp_path / "a.h5", volume("uint16").astype(">u2")), volume("uint16"))
    assert_reads(write_hdf5(tmp_path / "b.h5", volume() > 9), (volume() > 9).astype(np.uint8))
    half = volume("float32").astype(np.float16)
    assert_reads(write_hdf5(tmp_path / "c.h5", half), half.astype(np.float32))
    assert_reads(write_hdf5(tmp_path / "d.h5", half.astype(">f2")), half.astype(np.float32))
    names = h5py.enum_dtype({"nothing": 0, "membrane": 1}, basetype="u1")
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file.create_dataset("raw", data=volume() % 2, dtype=names)
    assert_reads(f"{tmp_path}/e.h5:/raw", volume() % 2)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (np.zeros((9, 9, 9), [("id", "u4"), ("size", "f4")]), r"records with the fields id, size"),
        (np.zeros((9, 9, 9), np.complex64), r"dtype complex64 is not supported"),
        (np.full((9, 9), b"text"), r"no numbers"),
        (h5py.Empty("u1"), r"the dataset is empty"),
        (np.zeros(9), r"a shape of \(9,\), and an image has at least two axes"),
        (np.uint8(3), r"a shape of \(\)"),
        (np.zeros((0, 9, 9), np.uint8), r"none of its voxels|holds no voxels"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path: Path, values: Any, what: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = values
    assert re.search(rf"a\.h5:/raw: .*{what}", refusal(f"{tmp_path}/{PLACE}"))


# -- which dataset -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", ["", ":/volumes", ":volumes"])
def test_the_only_image_is_read_and_told(tmp_path: Path, inner: str) -> None:
    address = write_hdf5(tmp_path / "a.h5", volume())
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["volumes/edges"], file["names"] = np.zeros((900, 2), int), ["a"]
    assert "read is /volumes/raw, the only image of the file" in open_source(f"{tmp_path}/a.h5{inner}").remarks[0]
    np.testing.assert_array_equal(open_source(f"{tmp_path}/a.h5{inner}").read(WHOLE), open_source(address).read(WHOLE))
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["volumes/labels"] = volume("uint64")
    assert re.search(
        r"which dataset.*2 of them may be images.*/volumes/labels \(5, 37, 50\), /volumes/raw",
        refusal(f"{tmp_path}/a.h5{inner}"),
    )


def test_absent_dataset_is_refused_with_those_that_are_there(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "a.h5", volume())
    message = refusal(f"{tmp_path}/a.h5:/volumes/labels")
    assert "no dataset /volumes/labels; write file.h5:/path, the file holds: /volumes/raw (5, 37, 50)" in message


@pytest.mark.parametrize("inner", [":raw", ":/raw", ":/my group/raw image (1)"])
def test_paths_inside_with_and_without_a_slash(tmp_path: Path, inner: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[inner[1:]] = volume()
        file["other"] = volume()[::-1]
    assert_reads(f"{tmp_path}/a.h5{inner}", volume())


def test_links_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["gone"], file["itself"] = h5py.ExternalLink("b.h5", "/raw"), h5py.SoftLink("/itself")
        file["no"], file["loop"] = h5py.SoftLink("/nothing"), file["/"]
        file["raw"] = volume()
    for name, what in {
        "gone": "a link to /raw of b.h5, which cannot",
        "itself": "itself",
        "no": "/nothing, which",
    }.items():
        assert what in refusal(f"{tmp_path}/a.h5:/{name}")
    assert_reads(f"{tmp_path}/a.h5:/loop/loop/raw", volume())
    assert "only image" in open_source(f"{tmp_path}/a.h5").remarks[0]


def test_an_external_link_is_followed_and_told_where_it_leaves_the_folder(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    write_hdf5(tmp_path / "b.h5", volume())
    with h5py.File(tmp_path / "here" / "a.h5", "w") as file:
        file["link"] = h5py.ExternalLink(str(tmp_path / "b.h5"), "/volumes")
    address = f"{tmp_path}/here/a.h5:/link/raw"
    assert_reads(address, volume())
    assert str(tmp_path / "b.h5") in open_source(address).remarks[0]
    assert open_source(f"{tmp_path}/here/a.h5").shape == SHAPE


def test_a_file_of_another_ending_is_known_by_its_signature(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "a.h5", volume())
    (tmp_path / "a.h5").rename(tmp_path / "a.volume")
    assert_reads(f"{tmp_path}/a.volume:/volumes/raw", volume())


# -- filters, and files that are damaged -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Bitshuffle", "Blosc", "Zstd", "LZ4"])
def test_filters_of_hdf5plugin_are_read(tmp_path: Path, name: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=volume("uint16"), chunks=(1, 37, 50), **getattr(hdf5plugin, name)())
    assert_reads(f"{tmp_path}/{PLACE}", volume("uint16"))


def test_a_missing_filter_is_told_with_the_extra_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=volume("uint16"), chunks=(1, 37, 50), **hdf5plugin.Bitshuffle())
    monkeypatch.setattr("unet.volumes.readers.hdf5_storage.filter_avail", lambda number: False)
    monkeypatch.setattr("unet.volumes.readers.hdf5_storage.is_installed", lambda package: False)
    message = refusal(f"{tmp_path}/{PLACE}")
    assert "compressed by HDF5 filter 32008 (bitshuffle" in message
    assert "needs hdf5plugin, of the extra formats: pip install" in message


@pytest.mark.parametrize("fraction", [0.1 * i for i in range(10)])
def test_hdf5_cut_short_is_refused(tmp_path: Path, fraction: float) -> None:
    address = write_hdf5(tmp_path / "a.h5", volume())
    truncate(tmp_path / "a.h5", fraction)
    assert "a.h5: cannot be read as HDF5" in refusal(address)


def test_bits_flipped_anywhere_in_the_metadata_end_in_a_named_error_or_in_voxels(tmp_path: Path) -> None:
    address = write_hdf5(tmp_path / "a.h5", volume(shape=(2, 20, 20)), resolution=(50, 4, 4))
    content = (tmp_path / "a.h5").read_bytes()
    rng = np.random.default_rng(5)
    for at in rng.integers(0, min(len(content), 4096), 60):
        damaged = bytearray(content)
        damaged[at] ^= 1 << int(rng.integers(8))
        (tmp_path / "a.h5").write_bytes(damaged)
        try:
            read_headers(address)
        except SourceError as error:
            assert "a.h5" in str(error)  # noqa: PT017 - either is right


def test_a_huge_dataset_that_was_never_written_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("contiguous", shape=(10**6,) * 3, dtype="u1")
        file.create_dataset("chunked", shape=(10**6,) * 3, chunks=(64,) * 3, dtype="u1")
    for name in ("contiguous", "chunked"):
        assert "none of its voxels was ever written" in refusal(f"{tmp_path}/a.h5:/{name}")


def test_a_huge_chunk_in_a_small_file_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        raw = file.create_dataset("raw", shape=(1500,) * 3, chunks=(1500,) * 3, dtype="u1", compression="gzip")
        raw.id.write_direct_chunk((0, 0, 0), b"x" * 100)
    assert "one chunk would hold 3,375,000,000 bytes" in refusal(f"{tmp_path}/{PLACE}")


# -- one opening per process -------------------------------------------------------------------------------------------


def test_a_file_is_opened_once_and_again_only_if_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = write_hdf5(tmp_path / "a.h5", volume())
    source = open_source(address)
    opened: list[str] = []
    h5py_file = h5py.File
    monkeypatch.setattr(h5py, "File", lambda *given: opened.append(given[0]) or h5py_file(*given))
    for z in range(5):
        np.testing.assert_array_equal(source.read(Box((z, 0, 0), (z + 1, *SHAPE[1:]))), volume()[z : z + 1])
    assert len(opened) == 1
    (tmp_path / "a.h5").unlink()
    write_hdf5(tmp_path / "a.h5", volume()[::-1].copy())
    np.testing.assert_array_equal(source.read(WHOLE), volume()[::-1])


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_source_that_was_read_travels_to_other_processes(tmp_path: Path, start: str) -> None:
    source = open_source(write_hdf5(tmp_path / "a.h5", volume()))
    source.read(WHOLE)
    with multiprocessing.get_context(start).Pool(1) as pool:
        found = pool.apply_async(source.read, (Box((3, 0, 0), (4, *SHAPE[1:])),)).get(timeout=120)
    np.testing.assert_array_equal(found, volume()[3:4])
    np.testing.assert_array_equal(source.read(WHOLE), volume())


@pytest.mark.parametrize(
    ("chunks", "found"),
    [((1, 37, 50), (1, 37, 50)), ((5, 64, 64), (5, 37, 50)), ((5, 16, 16), (5, 16, 16)), (None, None)],
)
def test_what_is_decoded_together_is_known(tmp_path: Path, chunks: Any, found: Any) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        maxshape = (None, None, None) if chunks else None
        packed = "gzip" if chunks else None  # of chunks that are not packed, HDF5 reads parts
        file.create_dataset("raw", data=volume(), chunks=chunks, maxshape=maxshape, compression=packed)
    assert open_source(f"{tmp_path}/{PLACE}").chunk == (Box.of_shape(found) if found else None)


def test_the_cache_holds_the_chunks_of_a_layer_of_blocks(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=np.zeros((4, 2048, 2048), "u2"), chunks=(2, 512, 512), compression="gzip")
    source: Any = open_source(f"{tmp_path}/{PLACE}")
    cache = source._file.get().id.get_access_plist().get_chunk_cache()
    assert cache[1] == 4 * 2048 * 2048 * 2
