"""Stores: whole blocks in, any box out, bytes reproducible, and NGFF 0.5 checked by three independent readers."""

import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import ngff_zarr
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models.v05 import Image as NgffImage
from ome_zarr_models.v05 import ImageLabel as NgffLabel

from unet.geometry.box import Box
from unet.geometry.pyramid import downsample
from unet.storage.foreign_images import open_foreign
from unet.storage.local_folder import LocalFolder
from unet.storage.zarr_store import (
    Image,
    ImageSpec,
    StoreError,
    create_image,
    open_image,
)

ODD = ImageSpec("odd", (5, 150, 131), "uint16", (2, 32, 32), (4, 64, 64), (50.0, 4.0, 4.0), (100.0, 8.0, 12.0))
"""Levels (1, 1, 1) and (1, 2, 2); the last block of every axis is cut, and odd."""
LABELS = dataclasses.replace(ODD, name="ids", dtype="uint64", kind="label")
PROBABILITY = dataclasses.replace(ODD, name="p", dtype="uint8", channels=("membrane", "interior", "synapse"))
FLAT = dataclasses.replace(ODD, pyramid=False)


def noise(spec: ImageSpec, seed: int = 0) -> np.ndarray:
    """Return random values over the whole range of the store's dtype."""
    shape = (len(spec.channels), *spec.shape) if spec.channels else spec.shape
    top = np.iinfo(spec.dtype).max
    return np.random.default_rng(seed).integers(0, top, shape, dtype=spec.dtype, endpoint=True)


def part(values: np.ndarray, box: Box) -> np.ndarray:
    """Return the voxels of a box, in all channels."""
    return values[(..., *box.slices)]


def filled(path: Path, spec: ImageSpec, values: np.ndarray) -> Image:
    """Write a store with `values`."""
    image = create_image(path, spec)
    for box in image.grid.boxes():
        image.write_block(box, part(values, box))
    return image


def files(path: Path) -> dict[str, bytes]:
    """Return the content of every file of a store."""
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


# Creating and opening


def test_the_same_specification_keeps_what_is_there(tmp_path: Path) -> None:
    values = noise(ODD)
    filled(tmp_path / "a.zarr", ODD, values)
    before = files(tmp_path / "a.zarr")
    again = create_image(tmp_path / "a.zarr", ODD)
    assert files(tmp_path / "a.zarr") == before
    assert again.spec == ODD
    np.testing.assert_array_equal(again.read(Box.of_shape(ODD.shape)), values)


@pytest.mark.parametrize(
    "change",
    [{"dtype": "uint8"}, {"shape": (5, 150, 130)}, {"block": (4, 128, 64)}, {"chunk": (4, 32, 32)}, {"kind": "label"}],
)
def test_another_specification_replaces_the_stale_store(tmp_path: Path, change: dict[str, Any]) -> None:
    filled(tmp_path / "a.zarr", ODD, noise(ODD))
    changed = dataclasses.replace(ODD, **change)
    image = create_image(tmp_path / "a.zarr", changed)
    assert open_image(tmp_path / "a.zarr").spec == changed
    assert image.digest(changed.grid.boxes()[0]) is None


def test_opening_nothing_says_which_store_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"b\.zarr: no image store"):
        open_image(tmp_path / "b.zarr")
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(StoreError, match=r"other\.zarr: no image store"):
        open_image(tmp_path / "other.zarr")


WRITER = """
import sys
import threading
from pathlib import Path
import numpy as np
from unet.storage.zarr_store import ImageSpec, create_image

spec = ImageSpec("flat", (5, 150, 131), "uint16", (2, 32, 32), (4, 64, 64), (50.0, 4.0, 4.0))
image = create_image(Path(sys.argv[1]), spec)
for index, box in list(enumerate(image.grid.boxes()))[int(sys.argv[2]) :: 3]:
    image.write_block(box, np.full(box.shape, index + 1, spec.dtype))
"""


def test_processes_that_create_and_write_at_once_lose_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "a.zarr")]
    writers = [subprocess.Popen([*command, str(k)]) for k in range(3)]
    assert [writer.wait(100) for writer in writers] == [0, 0, 0]
    image = open_image(tmp_path / "a.zarr")
    for index, box in enumerate(image.grid.boxes()):
        assert (image.read(box) == index + 1).all(), f"block {box} was lost"


# Writing and reading


@pytest.mark.parametrize("spec", [ODD, LABELS, PROBABILITY, FLAT], ids=lambda spec: spec.name)
def test_what_was_written_is_read_back_in_any_box(tmp_path: Path, spec: ImageSpec) -> None:
    values = noise(spec)
    image = filled(tmp_path / "a.zarr", spec, values)
    for box in [Box.of_shape(spec.shape), Box((3, 60, 60), (5, 70, 131)), Box((4, 149, 130), (5, 150, 131))]:
        np.testing.assert_array_equal(image.read(box), part(values, box))
        assert image.read(box).dtype == spec.dtype


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 64, 64), (2, 3, 200), (9, 65, 1)])
def test_volumes_smaller_or_a_little_larger_than_a_block(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    spec = dataclasses.replace(ODD, shape=shape)
    values = noise(spec)
    np.testing.assert_array_equal(filled(tmp_path / "a.zarr", spec, values).read(Box.of_shape(shape)), values)


def test_a_box_outside_the_volume_is_refused(tmp_path: Path) -> None:
    image = create_image(tmp_path / "a.zarr", ODD)
    with pytest.raises(StoreError, match=r"0:1,0:10,130:132 exceeds the volume \(5, 150, 131\)"):
        image.read(Box((0, 0, 130), (1, 10, 132)))


def test_only_whole_blocks_of_the_right_type_are_written(tmp_path: Path) -> None:
    image = create_image(tmp_path / "a.zarr", ODD)
    with pytest.raises(StoreError, match=r"0:4,0:64,0:32 is not a whole block; the nearest is 0:4,0:64,0:64"):
        image.write_block(Box((0, 0, 0), (4, 64, 32)), np.zeros((4, 64, 32), np.uint16))
    whole = Box((0, 0, 0), (4, 64, 64))
    with pytest.raises(StoreError, match=r"needs \(4, 64, 64\) of uint16, got \(4, 64, 63\) of uint16"):
        image.write_block(whole, np.zeros((4, 64, 63), np.uint16))
    with pytest.raises(StoreError, match=r"of uint16, got \(4, 64, 64\) of float32"):
        image.write_block(whole, np.zeros((4, 64, 64), np.float32))
    assert not list((tmp_path / "a.zarr").rglob("c/*"))


def test_ids_beyond_32_bits_survive_on_all_levels(tmp_path: Path) -> None:
    image = create_image(tmp_path / "a.zarr", LABELS)
    box, huge = image.grid.boxes()[0], 2**63 + 2**32 + 1
    image.write_block(box, np.full(box.shape, huge, np.uint64))
    assert (image.read(box) == huge).all()
    assert (image.read(Box((0, 0, 0), (4, 32, 32)), level=1) == huge).all()


# Digests


def test_the_digest_follows_the_files_of_every_level(tmp_path: Path) -> None:
    image = filled(tmp_path / "a.zarr", ODD, noise(ODD))
    box = image.grid.boxes()[1]
    digest, others = image.digest(box), [image.digest(b) for b in image.grid.boxes() if b != box]
    for level in ("0", "1"):
        key = tmp_path / "a.zarr" / level / "c" / "0" / "0" / "1"
        content = key.read_bytes()
        flipped = content[:20] + bytes([content[20] ^ 1]) + content[21:]
        for broken in (flipped, content[:-7], b""):
            key.write_bytes(broken)
            assert image.digest(box) != digest
        key.unlink()
        assert image.digest(box) != digest
        key.write_bytes(content)
        assert image.digest(box) == digest
    assert [image.digest(b) for b in image.grid.boxes() if b != box] == others


@pytest.mark.parametrize("number", [0, -1], ids=["whole block", "cut by the faces"])
def test_a_rewritten_block_has_the_same_bytes_whatever_stood_there(tmp_path: Path, number: int) -> None:
    values = noise(ODD)
    values[:, :, 128:130] = 0
    image = filled(tmp_path / "a.zarr", ODD, values)
    before, box = files(tmp_path / "a.zarr"), image.grid.boxes()[number]
    digest = image.digest(box)
    image.write_block(box, part(noise(ODD, seed=1), box))
    assert image.digest(box) != digest
    assert image.write_block(box, part(values, box)) == digest
    assert files(tmp_path / "a.zarr") == before


def test_a_torn_file_does_not_hinder_the_block_from_being_written_again(tmp_path: Path) -> None:
    values = noise(ODD)
    image = filled(tmp_path / "a.zarr", ODD, values)
    box = image.grid.boxes()[-1]
    digest = image.digest(box)
    for level in ("0", "1"):
        key = tmp_path / "a.zarr" / level / "c" / "1" / "2" / "2"
        key.write_bytes(key.read_bytes()[:50])
    assert image.write_block(box, part(values, box)) == digest


def test_a_block_of_zeros_is_a_block(tmp_path: Path) -> None:
    image = filled(tmp_path / "a.zarr", ODD, noise(ODD))
    box = image.grid.boxes()[0]
    digest = image.write_block(box, np.zeros(box.shape, np.uint16))
    assert not image.read(box).any()
    assert image.digest(box) == digest
    image.write_block(box, np.ones(box.shape, np.uint16))
    assert image.digest(box) != digest


def test_leftovers_of_a_killed_write_go_an_hour_later_and_those_of_other_blocks_stay(tmp_path: Path) -> None:
    values = noise(ODD)
    image = filled(tmp_path / "a.zarr", ODD, values)
    before = files(tmp_path / "a.zarr")
    row = tmp_path / "a.zarr" / "0" / "c" / "0" / "0"
    old, new, other = (row / f"{name}.partial" for name in ("0.5f3a", "0.77e1", "1.5f3a"))
    for path in (old, new, other):
        path.write_bytes(b"half")
    for path in (old, other):
        os.utime(path, (0, 0))
    first = image.grid.boxes()[0]
    image.write_block(first, part(values, first))
    assert [path.exists() for path in (old, new, other)] == [False, True, True], "a living writer's stays"
    for path in (new, other):
        path.unlink()
    assert files(tmp_path / "a.zarr") == before


def test_two_writers_of_one_block_do_not_meet(tmp_path: Path) -> None:
    folder, content, errors = LocalFolder(tmp_path), bytes(1_000_000), []

    def write() -> None:
        try:
            for _ in range(30):
                folder.write("c/0/0/0", [content])
        except OSError as error:
            errors.append(error)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not errors
    assert files(tmp_path) == {"c/0/0/0": content}


@pytest.mark.parametrize("broken", ["", '{"zarr_format": 3, "node', "\0" * 200, "[]", "{}"])
@pytest.mark.parametrize("name", ["zarr.json", "0/zarr.json"])
def test_a_store_with_broken_metadata_is_none_and_made_anew(tmp_path: Path, name: str, broken: str) -> None:
    values = noise(ODD)
    filled(tmp_path / "a.zarr", ODD, values)
    before = files(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / name).write_text(broken)
    with pytest.raises(StoreError, match=r"a\.zarr: no image store .*; rerun the rule that makes it"):
        open_image(tmp_path / "a.zarr")
    filled(tmp_path / "a.zarr", ODD, values)
    assert files(tmp_path / "a.zarr") == before


def test_what_is_left_of_a_store_that_could_not_be_removed_is_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    filled(tmp_path / "a.zarr", ODD, noise(ODD))
    monkeypatch.setattr("unet.storage.local_folder.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        LocalFolder(tmp_path / "a.zarr").clear()
    assert (tmp_path / "a.zarr/0/zarr.json").exists()
    with pytest.raises(StoreError, match="no image store"):
        open_image(tmp_path / "a.zarr")


# Mirroring


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, ...], tuple[Image, np.ndarray]]:
    """Small stores of several shapes, sizes 1 and 2 among them, one with channels."""
    stores = {}
    for shape in ((1, 1, 1), (1, 2, 5), (3, 7, 6)):
        for channels in ((), ("a", "b")):
            spec = ImageSpec("tiny", shape, "uint8", (1, 2, 2), (2, 4, 4), (1.0, 1.0, 1.0), channels=channels)
            values = noise(spec)
            stores[*shape, len(channels)] = (filled(tmp_path_factory.mktemp("t") / "a.zarr", spec, values), values)
    return stores


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_reading_beyond_the_faces_is_numpy_pad_reflect(data: st.DataObject, tiny: dict[Any, Any]) -> None:
    image, values = tiny[data.draw(st.sampled_from(sorted(tiny)))]
    start = tuple(data.draw(st.integers(-9, n + 4)) for n in image.shape)
    stop = tuple(lo + data.draw(st.integers(1, 14)) for lo in start)
    padded = values
    for axis, n in enumerate(image.shape):
        widths = [(0, 0)] * values.ndim
        widths[axis - 3] = (10, 40)
        padded = np.pad(padded, widths, mode="reflect" if n > 1 else "edge")
    expected = part(padded, Box(start, stop).shifted((10, 10, 10)))
    np.testing.assert_array_equal(image.read_mirrored(Box(start, stop)), expected)


# The pyramid


@pytest.mark.parametrize("spec", [ODD, LABELS, PROBABILITY], ids=lambda spec: spec.name)
def test_levels_are_those_of_the_whole_volume_whatever_the_blocks(tmp_path: Path, spec: ImageSpec) -> None:
    values = noise(spec) % 5
    image = filled(tmp_path / "a.zarr", spec, values)
    coarse = downsample(values, (1, 2, 2), spec.kind)
    assert spec.factors == [(1, 1, 1), (1, 2, 2)]
    found = image.read(Box.of_shape(coarse.shape[-3:]), level=1)
    np.testing.assert_array_equal(found, coarse)
    if spec.kind == "label":
        assert set(np.unique(found)) <= set(np.unique(values))


# NGFF 0.5, as others read it


def test_the_metadata_are_valid_ngff(tmp_path: Path) -> None:
    for spec, model in ((ODD, NgffImage), (LABELS, NgffLabel), (PROBABILITY, NgffImage)):
        create_image(tmp_path / f"{spec.name}.zarr", spec)
        found = model.from_zarr(zarr.open_group(tmp_path / f"{spec.name}.zarr", mode="r")).ome_attributes
        assert found.version == "0.5"
        assert [axis.name for axis in found.multiscales[0].axes] == list("czyx" if spec.channels else "zyx")
        assert len(found.multiscales[0].datasets) == 2


def test_ome_zarr_reads_shapes_voxels_and_transforms(tmp_path: Path) -> None:
    values = noise(ODD)
    filled(tmp_path / "a.zarr", ODD, values)
    (node,) = Reader(parse_url(str(tmp_path / "a.zarr")))()
    assert [level.shape for level in node.data] == [(5, 150, 131), (5, 75, 66)]
    np.testing.assert_array_equal(np.asarray(node.data[0]), values)
    assert {axis["unit"] for axis in node.metadata["axes"]} == {"nanometer"}
    coarse = node.metadata["coordinateTransformations"][1]
    # The centre of a coarse voxel lies half a fine voxel beyond that of the first it averages: 8 + 4 / 2.
    assert coarse[0]["scale"] == [50, 8, 8]
    assert coarse[1]["translation"] == [100, 10, 14]


@pytest.mark.parametrize("spec", [ODD, PROBABILITY], ids=lambda spec: spec.name)
def test_ngff_zarr_reads_axes_units_scale_and_translation(tmp_path: Path, spec: ImageSpec) -> None:
    values = noise(spec)
    filled(tmp_path / "a.zarr", spec, values)
    fine, coarse = ngff_zarr.from_ngff_zarr(str(tmp_path / "a.zarr")).images
    assert tuple(fine.dims) == tuple("czyx" if spec.channels else "zyx")
    np.testing.assert_array_equal(np.asarray(fine.data), values)
    space = {"z", "y", "x"}
    assert {fine.axes_units[axis] for axis in space} == {"nanometer"}
    assert {axis: fine.scale[axis] for axis in space} == {"z": 50, "y": 4, "x": 4}
    assert {axis: coarse.scale[axis] for axis in space} == {"z": 50, "y": 8, "x": 8}
    assert {axis: fine.translation[axis] for axis in space} == {"z": 100, "y": 8, "x": 12}
    assert {axis: coarse.translation[axis] for axis in space} == {"z": 100, "y": 10, "x": 14}


def test_channels_carry_the_names_of_the_classes(tmp_path: Path) -> None:
    create_image(tmp_path / "a.zarr", PROBABILITY)
    channels = zarr.open_group(tmp_path / "a.zarr", mode="r").attrs["ome"]["omero"]["channels"]
    assert [channel["label"] for channel in channels] == ["membrane", "interior", "synapse"]
    assert {channel["window"]["max"] for channel in channels} == {255}


def test_a_store_of_this_workflow_can_be_a_source_again(tmp_path: Path) -> None:
    values = noise(ODD)
    filled(tmp_path / "a.zarr", ODD, values)
    found = open_foreign(str(tmp_path / "a.zarr"))
    assert (found.scale_nm, found.translation_nm) == (ODD.voxel_size_nm, ODD.offset_nm)
    np.testing.assert_array_equal(found.read((slice(None),) * 3), values)


# Damage


def test_a_lost_block_is_an_error_and_not_zeros(tmp_path: Path) -> None:
    image = filled(tmp_path / "a.zarr", ODD, noise(ODD))
    lost = ODD.grid.boxes()[0]
    (tmp_path / "a.zarr" / "0" / "c" / "0" / "0" / "0").unlink()
    assert image.digest(lost) is None
    with pytest.raises(StoreError, match=r"block 0:4,0:64,0:64 is missing on level 0"):
        image.read_mirrored(Box((-1, -1, -1), (1, 1, 1)))
    assert image.read(ODD.grid.boxes()[-1]).any()


def test_asking_for_a_store_that_is_not_there_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no image store of this workflow"):
        open_image(tmp_path / "a.zarr")
    assert list(tmp_path.iterdir()) == []
