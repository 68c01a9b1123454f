"""From image files to stores: what comes in is what is stored, and nothing doubtful gets past.

Refused is before the first voxel, by `survey`, whatever headers tell; by `ingest` what only voxels tell; by
`intensity_statistics` what only all blocks together tell.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr

from tests.scripts.conftest import SCRIPTS, Project, Refused
from unet.geometry.box import Box
from unet.storage.files import read_json
from unet.volumes.readers import section_files

SHAPE = (3, 40, 50)
VOXEL = {"voxel_size_nm": [50, 4, 4]}
Files = dict[str, Any]
NO_TRAINING = {"model": {"checkpoint": "model.pt"}}


def name_of(value: object) -> str:
    """Return the name of a function that writes bad files, as the name of its test."""
    return getattr(value, "__name__", "")


def grey(dtype: str = "uint8", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Noise."""
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def tiff(path: Path, values: np.ndarray) -> str:
    """A multi-page TIFF."""
    tifffile.imwrite(path, values, photometric="minisblack")
    return str(path)


def sections(folder: Path, values: Any, suffix: str = "png") -> str:
    """A directory with one file per section."""
    folder.mkdir()
    for z, section in enumerate(values):
        path = folder / f"s{z + 8:02d}.{suffix}"
        if suffix == "png":
            path.write_bytes(imagecodecs.png_encode(section))
        else:
            tifffile.imwrite(path, section)
    return str(folder)


def hdf5(path: Path, values: np.ndarray, name: str = "volumes/raw", **attributes: Any) -> str:
    """A dataset laid out as CREMI's."""
    with h5py.File(path, "a") as file:
        file.create_dataset(name, data=values, chunks=True, compression="gzip")
        file[name].attrs.update(attributes)
    return f"{path}:/{name}"


# What comes in is what is stored


@pytest.mark.parametrize(("write", "suffix"), [(tiff, "tif"), (sections, "png"), (hdf5, "h5")], ids=name_of)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_raw_is_stored_as_it_is(project: Project, write: Callable[..., str], suffix: str, dtype: str) -> None:
    values = grey(dtype)
    project.settings = {
        "volumes": {"train": {"raw": write(project.folder / f"raw.{suffix}", values), **VOXEL}}
    } | NO_TRAINING
    (statistics,) = project.intensity_statistics("train")
    np.testing.assert_array_equal(project.array("train", "raw"), values)
    assert statistics["mean"] == pytest.approx(values.mean())
    assert statistics["std"] == pytest.approx(values.std())
    assert (statistics["minimum"], statistics["maximum"], statistics["count"]) == (0, 199, values.size)


def labelled(project: Project, labels: Any, raw: str | None = None, **more: Any) -> Project:
    """The project with a volume `train` of 3 x 40 x 50 voxels and these labels."""
    address = raw or tiff(project.folder / "raw.tif", grey())
    project.settings = {"volumes": {"train": {"raw": address, "labels": labels, **{**VOXEL, **more}}}}
    return project


def test_a_range_of_sections_keeps_its_place(project: Project) -> None:
    values = grey()
    raw = hdf5(project.folder / "a.h5", values, resolution=[50, 4, 4], offset=[100, 8, 12])
    labelled(project, tiff(project.folder / "l.tif", values), raw, sections=[1, 3]).ingest("train")
    np.testing.assert_array_equal(project.array("train", "raw"), values[1:])
    np.testing.assert_array_equal(project.array("train", "labels"), values[1:])
    assert project.volume("train").layout.offset_nm == (150, 8, 12)
    assert project.volume("train").layout.voxel_size_nm == (50, 4, 4)


def test_ids_beyond_32_bits_are_kept(project: Project) -> None:
    ids = grey("uint64") + np.uint64(2**40)
    labelled(project, hdf5(project.folder / "l.h5", ids)).ingest("train")
    found = project.array("train", "labels")
    assert found.dtype == np.uint64
    np.testing.assert_array_equal(found, ids)


def test_what_nobody_annotated_is_one_number_in_the_store(project: Project) -> None:
    ids = grey("int32") - 1
    labelled(project, hdf5(project.folder / "l.h5", ids), ignore_id=-1).ingest("train")
    np.testing.assert_array_equal(project.array("train", "labels"), np.where(ids < 0, 2**32 - 1, ids.astype(np.int64)))


def test_labels_of_a_part_are_unlabelled_elsewhere(project: Project) -> None:
    labels = tiff(project.folder / "l.tif", np.full((1, 30, 20), 255, np.uint8))
    labelled(project, {"path": labels, "offset": [1, 5, 30]}, label_kind="interior").intensity_statistics("train")
    expected = np.full(SHAPE, 255, np.uint8)
    expected[1, 5:35, 30:] = 1
    np.testing.assert_array_equal(project.array("train", "classes"), expected)


def test_interior_labels_become_two_classes(project: Project) -> None:
    labels = np.where(grey() < 60, 0, 255).astype(np.uint8)
    labelled(project, sections(project.folder / "l", labels), label_kind="interior").intensity_statistics("train")
    np.testing.assert_array_equal(project.array("train", "classes"), labels // 255)


def test_classes_are_looked_up_and_ignored_ones_unlabelled(project: Project) -> None:
    labels = np.array([0, 32, 159, 255], np.uint8)[grey() % 4]
    values = {"membrane": [0, 32], "ignore": 159, "interior": 255}
    labelled(project, tiff(project.folder / "l.tif", labels), label_kind="classes", class_values=values).ingest("train")
    expected = np.array([0, 0, 255, 1], np.uint8)[grey() % 4]
    np.testing.assert_array_equal(project.array("train", "classes"), expected)


def test_grey_values_outside_the_mask_do_not_count(project: Project) -> None:
    mask = np.zeros(SHAPE, np.uint16)
    mask[:, 5:, 7:] = 300
    labels = tiff(project.folder / "l.tif", grey())
    labelled(project, labels, mask=tiff(project.folder / "m.tif", mask))
    assert project.intensity_statistics("train")[0]["mean"] == pytest.approx(grey()[mask > 0].mean())
    np.testing.assert_array_equal(project.array("train", "mask"), mask > 0)


# Refused by the headers


def assert_readable(refused: Refused, words: list[str]) -> None:
    """One line that holds the words, and exit status 1."""
    *_, line, status = refused.args  # libraries may log lines of their own before
    assert [word for word in words if word not in line] == [], line
    assert status == "exit status 1"


def two_sizes(folder: Path) -> Files:
    return {"raw": sections(folder / "raw", [grey()[0], grey()[1], grey()[2, :39]])}


def two_dtypes(folder: Path) -> Files:
    return {"raw": sections(folder / "raw", [grey()[0], grey("uint16")[1]], "tif")}


def a_gap(folder: Path) -> Files:
    raw = sections(folder / "raw", grey())
    (folder / "raw" / "s09.png").unlink()
    return {"raw": raw}


def a_cut_section(folder: Path) -> Files:
    raw = sections(folder / "raw", grey())
    path = folder / "raw" / "s09.png"
    path.write_bytes(path.read_bytes()[:-40])
    return {"raw": raw}


def a_cut_stack(folder: Path) -> Files:
    raw = tiff(folder / "raw.tif", grey())
    (folder / "raw.tif").write_bytes((folder / "raw.tif").read_bytes()[:-900])
    return {"raw": raw}


def an_empty_directory(folder: Path) -> Files:
    (folder / "raw").mkdir()
    return {"raw": str(folder / "raw")}


def a_colour_image(folder: Path) -> Files:
    tifffile.imwrite(folder / "raw.tif", grey(shape=(40, 50, 3)), photometric="rgb")
    return {"raw": str(folder / "raw.tif")}


def another_shape(folder: Path) -> Files:
    return {"raw": tiff(folder / "raw.tif", grey()), "labels": tiff(folder / "l.tif", grey()[:, :39])}


def another_shape_of_mask(folder: Path) -> Files:
    return {"raw": tiff(folder / "raw.tif", grey()), "mask": tiff(folder / "m.tif", grey()[:2])}


def negative_labels(folder: Path) -> Files:
    ids = grey("int32")
    ids[0, :2, :3] = -1
    return {"raw": tiff(folder / "raw.tif", grey()), "labels": hdf5(folder / "l.h5", ids)}


def fractions_as_labels(folder: Path) -> Files:
    labels = hdf5(folder / "l.h5", grey("float32") / np.float32(8))
    return {"raw": tiff(folder / "raw.tif", grey()), "labels": labels, "label_kind": "interior"}


def another_voxel_size(folder: Path) -> Files:
    return {"raw": hdf5(folder / "a.h5", grey(), resolution=[40, 4, 4])}


def no_voxel_size(folder: Path) -> Files:
    return {"raw": tiff(folder / "raw.tif", grey()), "voxel_size_nm": None}


def no_such_dataset(folder: Path) -> Files:
    return {"raw": hdf5(folder / "a.h5", grey()).replace("/raw", "/grey")}


def no_such_array(folder: Path) -> Files:
    zarr.open_group(folder / "a.zarr", mode="w").create_array("em", data=grey())
    return {"raw": f"{folder / 'a.zarr'}:/grey"}


def no_such_file(folder: Path) -> Files:
    return {"raw": str(folder / "nowhere.tif")}


def no_such_sections(folder: Path) -> Files:
    return {"raw": tiff(folder / "raw.tif", grey()), "sections": [1, 9]}


def grey_values_of_64_bits(folder: Path) -> Files:
    return {"raw": hdf5(folder / "a.h5", grey("uint64"))}


def chunks_named_otherwise(folder: Path) -> Files:
    """A store whose metadata say that the files of its chunks are named 0.0.0, where they are 0/0/0."""
    encoding: Any = {"name": "v2", "separator": "/"}
    zarr.create_array(folder / "r.zarr", data=grey(), chunks=(1, 40, 50), zarr_format=2, chunk_key_encoding=encoding)
    metadata = json.loads((folder / "r.zarr/.zarray").read_text())
    (folder / "r.zarr/.zarray").write_text(json.dumps({**metadata, "dimension_separator": "."}))
    return {"raw": str(folder / "r.zarr")}


REFUSED_BY_HEADERS: list[tuple[Callable[[Path], Files], list[str]]] = [
    (two_sizes, ["s10.png", "39", "s08.png", "40"]),
    (two_dtypes, ["s09.tif", "uint16", "s08.tif", "uint8"]),
    (a_gap, ["raw", "s08.png", "s10.png", "9", "missing"]),
    (a_cut_section, ["s09.png", "cut short"]),
    (a_cut_stack, ["raw.tif"]),
    (an_empty_directory, ["raw", "holds no section", ".tif"]),
    (a_colour_image, ["raw.tif", "grey"]),
    (another_shape, ["l.tif", "(3, 39, 50)", "raw.tif", "(3, 40, 50)"]),
    (another_shape_of_mask, ["m.tif", "(2, 40, 50)", "raw.tif", "(3, 40, 50)"]),
    (negative_labels, ["l.h5", "-1 (6 times)", "(0, 0, 0)", "`ignore_id: -1`"]),
    (fractions_as_labels, ["l.h5", "whole numbers"]),
    (another_voxel_size, ["a.h5", "(40, 4, 4)", "(50, 4, 4)", "voxel_size_nm"]),
    (no_voxel_size, ["raw.tif", "voxel_size_nm"]),
    (no_such_dataset, ["a.h5", "/volumes/grey", "/volumes/raw"]),
    (no_such_array, ["a.zarr", "grey", "/em"]),
    (no_such_file, ["nowhere.tif", "there is no"]),
    (no_such_sections, ["raw.tif", "[1, 9]", "3"]),
    (grey_values_of_64_bits, ["a.h5", "uint64", "uint16"]),
    (chunks_named_otherwise, ["r.zarr", "none of its 3 chunks is stored", "dimension_separator"]),
]


@pytest.mark.parametrize(("write", "words"), REFUSED_BY_HEADERS, ids=name_of)
def test_refused_before_the_first_voxel(project: Project, write: Callable[[Path], Files], words: list[str]) -> None:
    project.settings = {"volumes": {"train": {**VOXEL, **write(project.folder)}}} | NO_TRAINING
    with pytest.raises(Refused) as refused:
        project.survey("train")
    assert_readable(refused.value, words)
    assert not project.receipt("survey", "train").exists()
    assert not project.stores("train").exists()


def test_from_a_shell_a_refusal_is_one_line_and_exit_status_1(tmp_path: Path) -> None:
    raw = two_sizes(tmp_path)["raw"]
    arguments = {"receipt": str(tmp_path / "r.json"), "name": "train", "code": "one", "storage": {}}
    arguments["volume"] = {"raw": raw, **VOXEL}
    command = [sys.executable, str(SCRIPTS / "survey.py"), json.dumps(arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "s10.png" in line


# Refused by the voxels


def not_a_number(folder: Path) -> Files:
    values = grey("float32")
    values[2, 35, 3] = np.nan
    return {"raw": sections(folder / "raw", values, "tif")}


def an_unknown_class(folder: Path) -> Files:
    labels = grey() % 2
    labels[2, 35, 3] = 77
    classes = {"label_kind": "classes", "class_values": {"a": 0, "b": 1}}
    return {"raw": tiff(folder / "raw.tif", grey()), "labels": sections(folder / "l", labels), **classes}


def grey_edges(folder: Path) -> Files:
    labels = grey() % 2 * 255
    labels[2, 35, 3] = 128
    return {"raw": tiff(folder / "raw.tif", grey()), "labels": tiff(folder / "l.tif", labels), "label_kind": "interior"}


REFUSED_BY_VOXELS: list[tuple[Callable[[Path], Files], list[str]]] = [
    (not_a_number, ["s10.tif", "section 2", "nan", "(2, 35, 3)"]),
    (an_unknown_class, ["77 (1 times)", "class_values", "2:3,32:40,0:32"]),
    (grey_edges, ["l.tif", "0, 128, 255", "interior", "2:3,32:40,0:32"]),
]


@pytest.mark.parametrize(("write", "words"), REFUSED_BY_VOXELS, ids=name_of)
def test_refused_by_its_voxels_with_what_is_ingested_kept(
    project: Project, write: Callable[[Path], Files], words: list[str]
) -> None:
    project.settings = {"volumes": {"train": {**VOXEL, **write(project.folder)}}} | NO_TRAINING
    with pytest.raises(Refused) as refused:
        project.ingest("train")
    assert_readable(refused.value, words)
    assert project.receipt("ingest", "train", "0-of-2").exists()
    assert not project.receipt("ingest", "train", "1-of-2").exists()
    # Blocks 6 to 11 are block range 1; the bad voxel lies in block 10, the last but one.
    journal = project.receipt("ingest", "train", "1-of-2").with_suffix(".jsonl").read_text().splitlines()
    assert len(journal) >= 4


def test_a_file_that_went_missing_costs_only_its_own_blocks(project: Project) -> None:
    values = grey()
    project.settings = {"volumes": {"train": {"raw": sections(project.folder / "raw", values), **VOXEL}}} | NO_TRAINING
    project.survey("train")
    volume, section = project.config.volumes["train"].model_dump(), project.folder / "raw" / "s10.png"
    section.rename(project.folder / "away.png")
    with pytest.raises(Refused, match="raw"):
        project.each_range("ingest", "train", volume=volume)
    (project.folder / "away.png").rename(section)
    first, second = project.each_range("ingest", "train", volume=volume)
    # Blocks 0 to 5 were block range 0, 6 and 7 the second section's last; the third section has 4.
    assert read_json(first)["run"]["blocks_made"] == 0
    assert read_json(second)["run"]["blocks_made"] == 4
    np.testing.assert_array_equal(project.array("train", "raw"), values)


def test_a_mended_section_costs_only_its_own_blocks(project: Project) -> None:
    values = grey()
    project.settings = {"volumes": {"train": {"raw": sections(project.folder / "raw", values), **VOXEL}}} | NO_TRAINING
    project.ingest("train")
    values[2] = 255 - values[2]
    (project.folder / "raw" / "s10.png").write_bytes(imagecodecs.png_encode(values[2]))
    made = [read_json(receipt)["run"]["blocks_made"] for receipt in project.ingest("train")]
    assert made == [0, 4]
    np.testing.assert_array_equal(project.array("train", "raw"), values)


# Sections that are decoded as a whole


def test_each_section_is_decoded_once_whatever_its_size(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three sections of four blocks, in two block ranges: of one layer and of two."""
    decoded = Counter[str]()
    decode = section_files.PNG.crop

    def counting(path: Path, box: Box) -> np.ndarray:
        decoded[path.name] += 1
        return decode(path, box)

    monkeypatch.setitem(section_files.READERS, ".png", replace(section_files.PNG, crop=counting))
    labels = sections(project.folder / "l", grey() % 2)
    labelled(project, labels, sections(project.folder / "raw", grey())).ingest("train")
    once = [2, 2, 4]
    assert sorted(decoded.values()) == once, "once for raw and for labels; survey looks into one section of each"
    np.testing.assert_array_equal(project.array("train", "raw"), grey())
    np.testing.assert_array_equal(project.array("train", "labels"), grey() % 2)
    project.each_range("ingest", "train", volume=project.config.volumes["train"].model_dump())
    assert sorted(decoded.values()) == once, "what is finished is not decoded again"


def test_a_killed_job_decodes_what_is_left(project: Project) -> None:
    """The journal keeps two of the four blocks of the first layer; the others become the same."""
    labelled(project, tiff(project.folder / "l.tif", grey()), sections(project.folder / "raw", grey()))
    receipt, *_ = project.ingest("train")
    whole, journal = read_json(receipt), receipt.with_suffix(".jsonl")
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:2]))
    receipt.unlink()
    project.each_range("ingest", "train", volume=project.config.volumes["train"].model_dump())
    assert read_json(receipt)["run"]["blocks_made"] == 2
    assert {**read_json(receipt), "run": None} == {**whole, "run": None}


# Refused by all blocks together


def test_interior_labels_with_another_grey_value_in_each_block_are_refused(project: Project) -> None:
    labels = (grey() % 2) * np.array([1, 1, 2], np.uint8)[:, None, None]
    labelled(project, tiff(project.folder / "l.tif", labels), label_kind="interior")
    with pytest.raises(Refused, match=r"volumes.train.labels: grey values 0, 1, 2, but .*`interior`"):
        project.intensity_statistics("train")
    assert not project.receipt("intensity_statistics", "train").exists()


def test_the_receipts_count_the_grey_values_of_interior_labels(project: Project) -> None:
    labels = (grey() % 2) * np.uint8(255)
    block_ranges = labelled(project, tiff(project.folder / "l.tif", labels), label_kind="interior").ingest("train")
    counts = [read_json(block_range)["levels"] for block_range in block_ranges]
    assert sum(count["255"] for count in counts) == np.count_nonzero(labels)
    assert sum(count["0"] for count in counts) == np.count_nonzero(labels == 0)
