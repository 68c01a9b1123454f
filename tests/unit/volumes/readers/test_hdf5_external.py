"""HDF5 whose voxels lie in other files: virtual datasets and external storage."""

import pickle
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.unit.volumes.readers.reading import SHAPE, assert_reads, refusal, truncate, volume
from tests.unit.volumes.readers.test_open import write_hdf5
from unet.geometry.box import Box
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_source
from unet.volumes.readers.source import MissingChunks

WHOLE = Box.of_shape(SHAPE)
PLACE = "a.h5:/raw"


def virtual(folder: Path, values: np.ndarray, source_shape: tuple[int, ...] | None = None) -> str:
    """Write a virtual dataset of one file per section."""
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    for z, section in enumerate(values):
        with h5py.File(folder / f"raw-{z}.h5", "w") as file:
            file["data"] = section
        layout[z] = h5py.VirtualSource(f"raw-{z}.h5", "data", source_shape or section.shape)
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_virtual_dataset("raw", layout)
    return f"{folder}/{PLACE}"


def rewritten(folder: Path, z: int, values: Any, name: str = "data") -> None:
    with h5py.File(folder / f"raw-{z}.h5", "w") as file:
        file[name] = values


def test_a_virtual_dataset_reads_beside_its_sources_from_any_folder(tmp_path: Path, monkeypatch: Any) -> None:
    address = virtual(tmp_path, volume())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert_reads(address, volume())
    source = open_source(address)
    assert len(source.files_of(Box((1, 0, 0), (3, 9, 9)))) == 1 + 2
    assert source.missing_chunks(WHOLE) == [MissingChunks(address, 0, volume().size, 0, "voxels")]


def test_only_the_sources_of_a_box_are_needed(tmp_path: Path) -> None:
    address = virtual(tmp_path, volume())
    source = open_source(address)
    np.testing.assert_array_equal(source.read(WHOLE), volume())
    (tmp_path / "raw-3.h5").unlink()
    for opened in (source, open_source(address), pickle.loads(pickle.dumps(source))):
        opened.check(Box((0, 0, 0), (3, *SHAPE[1:])))
        np.testing.assert_array_equal(opened.read(Box((0, 0, 0), (3, *SHAPE[1:]))), volume()[:3])
        for look in (opened.check, opened.read, opened.missing_chunks):
            with pytest.raises(SourceError, match=r"5 other files, of which 1 are missing, the first is .*raw-3\.h5"):
                look(WHOLE)


@pytest.mark.parametrize(
    ("values", "name", "told"),
    [
        (volume()[0, :30], "data", r"of shape \(30, 50\), but the virtual dataset needs \(1, 37, 50\)"),
        (volume()[0].T, "data", r"of shape \(50, 37\)"),
        (volume("uint16")[0], "data", r"of uint16, which uint8 of the virtual dataset cannot hold"),
        (volume()[0], "other", r"and there is no such dataset"),
        (h5py.Empty("u1"), "data", r"and there is no such dataset"),
    ],
)
def test_sources_that_cannot_hold_their_voxels_are_named(tmp_path: Path, values: Any, name: str, told: str) -> None:
    address = virtual(tmp_path, volume())
    rewritten(tmp_path, 2, values, name)
    with pytest.raises(SourceError, match=rf"raw-2\.h5:data.*{told}"):
        open_source(address).read(WHOLE)


def test_a_damaged_source_is_named(tmp_path: Path) -> None:
    address = virtual(tmp_path, volume())
    (tmp_path / "raw-2.h5").write_bytes(b"no HDF5")
    with pytest.raises(SourceError, match=r"raw-2\.h5: cannot be read as HDF5"):
        open_source(address).check(WHOLE)


def test_a_part_without_a_source_is_counted(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout(SHAPE, "u1")
    write_hdf5(tmp_path / "b.h5", volume())
    layout[:3, :, :25] = h5py.VirtualSource("b.h5", "volumes/raw", SHAPE)[:3, :, :25]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("raw", layout, fillvalue=7)
    source = open_source(f"{tmp_path}/{PLACE}")
    [found] = source.missing_chunks(WHOLE)
    assert (found.missing, found.count, found.fill_value) == (volume().size - 3 * 37 * 25, volume().size, 7)
    assert source.missing_chunks(Box((0, 0, 0), (3, 37, 25)))[0].missing == 0


def test_chunks_that_a_source_never_wrote_are_counted(tmp_path: Path) -> None:
    address = virtual(tmp_path, volume())
    with h5py.File(tmp_path / "raw-1.h5", "w") as file:
        file.create_dataset("data", shape=(37, 50), chunks=(37, 25), dtype="u1")[:, :25] = 1
    assert open_source(address).missing_chunks(WHOLE)[0].missing == 37 * 25


def test_a_virtual_dataset_that_has_itself_as_a_source_is_refused(tmp_path: Path) -> None:
    for one, other in (("a", "b"), ("b", "a")):
        layout = h5py.VirtualLayout(SHAPE, "u1")
        layout[:] = h5py.VirtualSource(f"{other}.h5", "raw", SHAPE)
        with h5py.File(tmp_path / f"{one}.h5", "w") as file:
            file.create_virtual_dataset("raw", layout)
    with pytest.raises(SourceError, match="has itself as a source"):
        open_source(f"{tmp_path}/{PLACE}").read(WHOLE)


def numbered(folder: Path, values: np.ndarray) -> str:
    """Write a virtual dataset whose sources are named by number, as many as there are."""
    unlimited, section = h5py.h5s.UNLIMITED, values.shape[1:]
    space = h5py.h5s.create_simple((0, *section), (unlimited, *section))
    space.select_hyperslab((0, 0, 0), (unlimited, 1, 1), stride=(1, *section), block=(1, *section))
    created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    created.set_virtual(space, b"raw-%b.h5", b"data", h5py.h5s.create_simple((1, *section)))
    for z, one in enumerate(values):
        rewritten(folder, z, one[None])
    with h5py.File(folder / "a.h5", "w", libver="latest") as file:
        h5py.h5d.create(file.id, b"raw", h5py.h5t.NATIVE_UINT8, space, created)
    return f"{folder}/{PLACE}"


def test_sources_named_by_number_are_read_and_a_gap_is_named(tmp_path: Path) -> None:
    address = numbered(tmp_path, volume())
    assert_reads(address, volume())
    (tmp_path / "raw-2.h5").unlink()
    assert re.search(r"raw-2\.h5 is missing, although there are 2 later ones", refusal(address))


@pytest.mark.parametrize("size", [0, 100])
def test_external_storage_is_found_beside_the_file_and_has_to_be_whole(
    tmp_path: Path, monkeypatch: Any, size: int
) -> None:
    monkeypatch.chdir(tmp_path)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", shape=SHAPE, dtype="u1", external=[("raw.bin", 0, h5py.h5f.UNLIMITED)])[:] = volume()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert_reads(f"{tmp_path}/{PLACE}", volume())
    truncate(tmp_path / "raw.bin", size / volume().size)
    assert re.search(
        rf"raw\.bin, which is cut short: {size} bytes, {volume().size} are needed", refusal(f"{tmp_path}/{PLACE}")
    )
