"""States of the user's files: any change gives another state, to the blocks that it touches and to no others."""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from unet.config.source import SourceConfig
from unet.config.volumes import VolumeConfig
from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.storage.object_storage import CannotList
from unet.volumes.input_states import changed_inputs, evaluation_input_states, input_state, model_input_states
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_channels, open_source
from unet.volumes.readers.source import MissingChunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import S3Server

SHAPE, FILE = (6, 40, 50), (2, 16, 16)
"""Shapes of the array and of one of its files: 3 * 3 * 4 = 36 files."""
VOXELS = np.random.default_rng(0).integers(1, 255, SHAPE, np.uint8)
BLOCKS = Grid(SHAPE, (3, 20, 20)).boxes()
"""Blocks that are not aligned with the files."""
NESTED_V2 = {"name": "v2", "separator": "/"}
LAYOUTS: dict[str, dict[str, Any]] = {
    "v2 flat": {"zarr_format": 2, "chunks": FILE},
    "v2 nested": {"zarr_format": 2, "chunks": FILE, "chunk_key_encoding": NESTED_V2},
    "v3 nested": {"zarr_format": 3, "chunks": FILE},
    "v3 flat": {"zarr_format": 3, "chunks": FILE, "chunk_key_encoding": {"name": "default", "separator": "."}},
    "v3 sharded": {"zarr_format": 3, "chunks": (1, 8, 8), "shards": FILE},
}


@dataclass
class Store:
    """An array `em` beside another one in a store, which lies in a folder or was uploaded from there."""

    folder: Path
    address: str
    sync: Callable[[Path], None]

    @property
    def array(self) -> zarr.Array:
        """Open the array for writing, as another program does."""
        return zarr.open_array(self.folder / "em", mode="r+")

    def file_at(self, voxel: tuple[int, ...]) -> Path:
        """The file of a voxel."""
        index = tuple(v // n for v, n in zip(voxel, FILE, strict=True))
        return self.folder / "em" / self.array.metadata.encode_chunk_key(index)

    def states(self) -> dict[Box, Any]:
        """The state of every block, as a new job sees it."""
        source = open_source(f"{self.address}:/em")
        return {box: source.state(box) for box in BLOCKS}

    def whole(self, sections: tuple[int, int] | None = None) -> str:
        """The state of the whole array."""
        return input_state(f"{self.address}:/em", sections)


def no_upload(path: Path) -> None:
    """A folder is read where it lies."""


@pytest.fixture(params=[("folder", name) for name in LAYOUTS] + [("s3", "v3 nested"), ("s3", "v2 flat")], ids="-".join)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store of each layout."""
    place, layout = request.param
    folder, kwargs = tmp_path / "a.zarr", {**LAYOUTS[layout]}
    group = zarr.open_group(folder, mode="w", zarr_format=kwargs.pop("zarr_format"))
    for name in ("em", "em2"):
        group.create_array(name, shape=SHAPE, dtype="uint8", **kwargs)[:] = VOXELS
    if place == "folder":
        return Store(folder, str(folder), no_upload)
    s3, bucket = request.getfixturevalue("s3"), request.getfixturevalue("bucket")
    store = Store(folder, f"s3://{bucket}/a.zarr", partial(upload, s3, bucket, folder))
    for path in folder.rglob("*"):
        if path.is_file():
            store.sync(path)
    return store


def upload(server: S3Server, bucket: str, folder: Path, path: Path) -> None:
    """Make an object as its file is, or remove it."""
    key = f"a.zarr/{path.relative_to(folder).as_posix()}"
    if path.exists():
        server.upload(bucket, {key: path.read_bytes()})
    else:
        server.delete(bucket, key)


def touching(voxel: tuple[int, ...]) -> set[Box]:
    """The blocks that have voxels in the file of a voxel."""
    start = tuple(v // n * n for v, n in zip(voxel, FILE, strict=True))
    extent = Box(start, tuple(lo + n for lo, n in zip(start, FILE, strict=True)))
    return {box for box in BLOCKS if box.intersected(extent).size}


# Zarr


def test_an_edited_chunk_is_seen_by_the_blocks_that_it_touches_and_by_no_others(store: Store) -> None:
    before, whole, voxel = store.states(), store.whole(), (4, 17, 40)
    assert store.states() == before
    assert store.whole() == whole
    store.array[voxel] = 0
    store.sync(store.file_at(voxel))
    now = store.states()
    assert {box for box in BLOCKS if now[box] != before[box]} == touching(voxel)
    assert store.whole() != whole


def test_a_chunk_that_comes_late_is_seen_and_missing_ones_are_counted(store: Store) -> None:
    voxel, last = (0, 20, 20), (5, 39, 49)
    kept = {path: path.read_bytes() for path in (store.file_at(voxel), store.file_at(last))}
    for path in kept:
        path.unlink()
        store.sync(path)
    kind = "shards" if store.array.shards else "chunks"
    [told] = open_source(f"{store.address}:/em").missing_chunks(Box.of_shape(SHAPE))
    assert (told.missing, told.count, told.fill_value) == (2, 36, 0)
    assert str(told) == f"{store.address}:/em: 2 of 36 {kind} are not stored; they read as 0"
    [of_sections] = open_source(f"{store.address}:/em").missing_chunks(Box((2, 0, 0), SHAPE))
    assert (of_sections.missing, of_sections.count) == (1, 24)
    before, whole = store.states(), store.whole()
    for path, content in kept.items():
        path.write_bytes(content)
        store.sync(path)
    now = store.states()
    assert {box for box in BLOCKS if now[box] != before[box]} == touching(voxel) | touching(last)
    assert store.whole() != whole


def test_what_a_volume_does_not_read_has_no_part_in_its_state(store: Store) -> None:
    first, later, whole = store.whole((0, 2)), store.whole((2, 6)), store.whole()
    other = store.folder / "em2" / store.file_at((0, 0, 0)).relative_to(store.folder / "em")
    other.write_bytes(other.read_bytes() + b" ")
    store.sync(other)
    assert store.whole() == whole
    edited = store.file_at((0, 0, 0))
    store.array[0, 0, 0] = 0
    store.sync(edited)
    assert store.whole((0, 2)) != first
    assert store.whole((2, 6)) == later


def test_a_listing_of_the_whole_says_what_a_look_at_each_file_does(store: Store) -> None:
    source, box = open_source(f"{store.address}:/em"), Box((1, 3, 0), (4, 30, 33))
    assert sorted(map(repr, source.listed(box))) == sorted(map(repr, source.state(box)))
    assert len(source.state(box)) == 2 * 2 * 3 + len(metadata_of(store))


def metadata_of(store: Store) -> list[str]:
    """Metadata files of the store, and of its array."""
    files = [*store.folder.iterdir(), *(store.folder / "em").iterdir()]
    names = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
    return [str(path) for path in files if path.name in names]


def test_metadata_of_the_finest_level_are_part_of_the_state(tmp_path: Path) -> None:
    """Other fill values are other voxels where chunks are missing."""
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    for level in "01":
        group.create_array(level, shape=SHAPE, chunks=FILE, dtype="uint8")
    axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]
    levels = [{"path": p, "coordinateTransformations": [{"type": "scale", "scale": [50, 4, 4]}]} for p in "01"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}
    before = input_state(str(tmp_path / "a.zarr"))
    for level, seen in (("1", False), ("0", True)):
        metadata = tmp_path / "a.zarr" / level / "zarr.json"
        metadata.write_text(metadata.read_text().replace('"fill_value": 0', '"fill_value": 77'))
        assert (input_state(str(tmp_path / "a.zarr")) != before) is seen
    [told] = open_source(str(tmp_path / "a.zarr")).missing_chunks(Box.of_shape(SHAPE))
    assert (told.missing, told.count, told.fill_value) == (36, 36, 77)


def test_channels_and_other_orders_of_axes_have_the_chunks_of_their_boxes(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    array = group.create_array("0", shape=(50, 40, 2, 6), chunks=(16, 16, 1, 2), dtype="uint8")
    array[:] = np.stack([VOXELS.transpose(2, 1, 0)] * 2, axis=2)
    axes = [{"name": axis, "type": "space" if axis in "zyx" else "channel"} for axis in "xycz"]
    scale = [{"type": "scale", "scale": [4, 4, 1, 50]}]
    multiscale = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    source = open_source(str(tmp_path / "a.zarr"))
    metadata = len([state for state in source.state(BLOCKS[0]) if "zarr.json" in state[0]])
    assert len(source.state(Box((1, 3, 0), (4, 30, 33)))) - metadata == 2 * (2 * 2 * 3)
    [told] = source.missing_chunks(Box.of_shape(source.shape))
    assert (told.missing, told.count) == (0, 2 * 36)


def test_a_server_that_does_not_list_has_the_state_of_its_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    zarr.create_array(tmp_path / "a.zarr", data=VOXELS, chunks=FILE)
    with served(tmp_path) as address:
        source = open_source(f"{address}/a.zarr")
        np.testing.assert_array_equal(source.read(Box.of_shape(SHAPE)), VOXELS)
        assert [name for name, *_ in source.state(BLOCKS[0])] == ["zarr.json"]
        assert input_state(f"{address}/a.zarr") == input_state(f"{address}/a.zarr")
        with pytest.raises(CannotList, match="does not list its files"):
            source.missing_chunks(BLOCKS[0])


class served:
    """A folder behind http://."""

    def __init__(self, folder: Path) -> None:
        handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


# Files and folders


def older(path: Path) -> Path:
    """Another file of the same length, written a month before."""
    other = path.with_name(f"older-{path.name}")
    other.write_bytes(path.read_bytes()[::-1])
    os.utime(other, (1.6e9, 1.6e9))
    return other


def test_an_older_file_is_another_one(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, VOXELS)
    before, of_block = input_state(str(path)), open_source(str(path)).state(BLOCKS[0])
    shutil.copy2(path, kept := tmp_path / "kept.tif")
    os.utime(path, (1.5e9, 1.5e9))
    assert input_state(str(path)) != before
    assert open_source(str(path)).state(BLOCKS[0]) != of_block
    shutil.copy2(kept, path)
    assert input_state(str(path)) == before


@pytest.mark.parametrize("part", ["file", "folder"])
def test_a_link_turned_to_a_file_of_the_same_size_and_time_is_seen(tmp_path: Path, part: str) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "a.tif", VOXELS if name == "one" else VOXELS[::-1])
        os.utime(tmp_path / name / "a.tif", (1.6e9, 1.6e9))
    link = tmp_path / "link" if part == "folder" else tmp_path / "a.tif"
    address = str(link / "a.tif" if part == "folder" else link)
    states = []
    for name in ("one", "two", "one"):
        link.unlink(missing_ok=True)
        link.symlink_to(name if part == "folder" else f"{name}/a.tif")
        states.append((input_state(address), open_source(address).state(BLOCKS[0])))
    assert states[0] == states[2]
    assert states[0][0] != states[1][0]
    assert states[0][1] != states[1][1]


def test_of_a_folder_every_section_counts_and_nothing_hidden(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for z in range(4):
        tifffile.imwrite(tmp_path / "raw" / f"s{z}.tif", VOXELS[z])
    before = input_state(str(tmp_path / "raw"))
    (tmp_path / "raw" / ".DS_Store").write_bytes(b"a viewer's")
    assert input_state(str(tmp_path / "raw")) == before
    changed_file = tmp_path / "raw" / "s2.tif"
    os.replace(older(changed_file), changed_file)
    assert input_state(str(tmp_path / "raw")) != before


def test_files_that_cannot_be_read_have_a_state_too(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"no HDF5")
    (tmp_path / "a.zarr").mkdir()
    for address in (f"{tmp_path}/a.h5:/raw", f"{tmp_path}/a.zarr", f"{tmp_path}/none.tif"):
        assert input_state(address) == input_state(address)


# HDF5


def test_chunks_of_hdf5_that_were_never_written_are_counted(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        chunked = file.create_dataset("chunked", shape=(2, *SHAPE), chunks=(1, *FILE), dtype="uint8", fillvalue=9)
        chunked[0, :2] = VOXELS[:2]
        file["contiguous"] = VOXELS
    source = open_source(SourceConfig(path=f"{tmp_path}/a.h5:/chunked", axes="czyx"))
    found = [source.missing_chunks(Box((z, 0, 0), SHAPE)) for z in (0, 2)]
    address = f"{tmp_path}/a.h5:/chunked"
    assert found == [[MissingChunks(address, 60, 72, 9)], [MissingChunks(address, 48, 48, 9)]]
    assert open_source(f"{tmp_path}/a.h5:/contiguous").missing_chunks(BLOCKS[0]) == []
    both = [SourceConfig(path=address, axes="czyx"), SourceConfig(path=f"{tmp_path}/a.h5:/contiguous")]
    [told] = open_channels(both).missing_chunks(BLOCKS[0])
    assert told.count == 2 * (2 * 2 * 2)


@pytest.fixture(params=["virtual", "external link", "external storage"])
def in_two_files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A dataset whose voxels lie in another file."""
    other = tmp_path / "voxels.bin"
    with h5py.File(tmp_path / "a.h5", "w") as file:
        if request.param == "external storage":
            external = [(str(other), 0, h5py.h5f.UNLIMITED)]
            file.create_dataset("raw", shape=SHAPE, dtype="uint8", external=external)[:] = VOXELS
        else:
            with h5py.File(other, "w") as voxels:
                voxels["data"] = VOXELS
            if request.param == "external link":
                file["raw"] = h5py.ExternalLink("voxels.bin", "data")
            else:
                layout = h5py.VirtualLayout(SHAPE, "uint8")
                layout[:] = h5py.VirtualSource("voxels.bin", "data", SHAPE)
                file.create_virtual_dataset("raw", layout)
    return f"{tmp_path}/a.h5:/raw", other


def test_the_file_that_voxels_of_hdf5_lie_in_is_part_of_the_state(in_two_files: tuple[str, Path]) -> None:
    address, other = in_two_files
    source = open_source(address)
    np.testing.assert_array_equal(source.read(Box.of_shape(SHAPE)), VOXELS)
    before, of_block = input_state(address), source.state(BLOCKS[0])
    os.utime(other, (1.6e9, 1.6e9))
    assert input_state(address) != before
    assert source.state(BLOCKS[0]) != of_block


def test_a_file_of_hdf5_that_was_not_copied_is_named(in_two_files: tuple[str, Path]) -> None:
    """HDF5 itself gives the fill value for what a virtual dataset does not find."""
    address, other = in_two_files
    other.unlink()
    with pytest.raises(SourceError, match=r"voxels\.bin"):
        open_source(address).check(Box.of_shape(SHAPE))


# What is recorded


def test_what_has_changed_is_named_by_key_and_address(tmp_path: Path) -> None:
    for name in ("peer.tif", "model.pt", "true.swc"):
        (tmp_path / name).write_bytes(b"1 2 3")
    compare, skeletons = {"peer": f"{tmp_path}/peer.tif"}, {"files": f"{tmp_path}/true.swc"}
    volume = VolumeConfig(raw="raw.tif", compare=compare, skeletons=skeletons)
    scores, model = evaluation_input_states(volume), model_input_states(tmp_path / "model.pt")
    assert changed_inputs(scores, evaluation_input_states(volume)) == []
    assert model_input_states(None) == {}
    os.replace(older(tmp_path / "peer.tif"), tmp_path / "peer.tif")
    os.replace(older(tmp_path / "model.pt"), tmp_path / "model.pt")
    assert changed_inputs(scores, evaluation_input_states(volume)) == [f"compare.peer: {tmp_path}/peer.tif"]
    assert changed_inputs(model, model_input_states(tmp_path / "model.pt")) == [
        f"model.checkpoint: {tmp_path}/model.pt"
    ]
    assert changed_inputs(None, model) == list(model)


def test_another_file_of_a_set_is_noticed(tmp_path: Path) -> None:
    for name in ("a.ome.tif", "b.ome.tif", "other.tif"):
        (tmp_path / name).write_bytes(b"")
    before = input_state(str(tmp_path / "a.ome.tif"))
    (tmp_path / "other.tif").write_bytes(b"1")
    assert input_state(str(tmp_path / "a.ome.tif")) == before
    (tmp_path / "b.ome.tif").write_bytes(b"1")
    assert input_state(str(tmp_path / "a.ome.tif")) != before
