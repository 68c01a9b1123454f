"""Inspection of given files, of each format: roles, voxel sizes, annotated sections, and errors of single files."""

from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr

from unet.config.source import SourceConfig
from unet.run.inspection.annotated_sections import AnnotatedSections, find_annotated_sections, split_sections
from unet.run.inspection.inspection import Inspection, inspect_paths
from unet.run.inspection.sample_pictures import write_pictures
from unet.run.inspection.samples import section_distance_px
from unet.run.inspection.source_summary import summarise
from unet.run.plan.text import size
from unet.training.synthetic import synthesise
from unet.volumes.readers.open import open_source

RAW, LABELS = synthesise(sections=6, size=96, seed=3)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One volume in every format, and its labels."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sections").mkdir()
    for z, section in enumerate(RAW):
        (tmp_path / f"sections/{z:03}.png").write_bytes(imagecodecs.png_encode(section))
    tifffile.imwrite("raw.tif", RAW, photometric="minisblack")
    tifffile.imwrite("labels.tif", LABELS.astype(np.uint16), photometric="minisblack")
    mask = np.ones(RAW.shape, np.uint8)
    mask[:, :20] = 0
    tifffile.imwrite("mask.tif", mask, photometric="minisblack")
    with h5py.File("a.h5", "w") as file:
        file["raw"], file["labels"] = RAW, LABELS.astype(np.uint64)
        file["raw"].attrs["resolution"] = (40.0, 4.0, 4.0)
    zarr.create_array("a.zarr", data=RAW, chunks=(2, 64, 64))
    return tmp_path


def inspected(*paths: str, **given: Any) -> Inspection:
    return inspect_paths([(SourceConfig(path=path), None) for path in paths], **given)


@pytest.mark.parametrize("raw", ["sections", "raw.tif", "a.h5:/raw", "a.zarr"])
@pytest.mark.parametrize("labels", ["labels.tif", "a.h5:/labels"])
def test_paths_in_any_order_are_told_apart(files: Path, raw: str, labels: str) -> None:
    found = inspected(labels, raw)
    assert found.problems == []
    assert found.inputs is not None
    assert found.inputs.labels is not None
    assert (found.inputs.raw.path, found.inputs.labels.path) == (raw, labels)
    assert found.inputs.guess is not None
    assert found.inputs.guess.kind == "instances"
    assert "6 of 6 sections (0 to 5)" in found.summaries[1].text()


def test_all_that_is_known_of_a_source_is_told_with_its_origin(files: Path) -> None:
    text = summarise(SourceConfig(path="a.h5:/raw")).text()
    for told in ("6 x 96 x 96 voxels (z, y, x), uint8", "axes", "40 x 4 x 4 nm", "the attribute resolution", "1 file"):
        assert told in text
    assert "percentiles 1, 50, 99" in text
    assert "not stated by the file" in summarise(SourceConfig(path="sections")).text()


def test_chunks_count_as_files_and_ids_are_no_grey_values(files: Path) -> None:
    chunks = len([path for path in (files / "a.zarr").rglob("*") if path.is_file() and path.name != "zarr.json"])
    bytes_ = sum(path.stat().st_size for path in (files / "a.zarr").rglob("*") if path.is_file())
    text = summarise(SourceConfig(path="a.zarr")).text()
    assert f"{chunks + 1} files, {size(bytes_)}" in text
    labels = summarise(SourceConfig(path="labels.tif")).text()
    assert f"{len(np.unique(LABELS))} different ones, 0 to {LABELS.max()}" in labels
    assert "grey" not in labels


def test_chunks_that_are_not_stored_are_counted(files: Path) -> None:
    sparse = zarr.create_array("sparse.zarr", shape=(6, 96, 96), chunks=(2, 64, 64), dtype="uint8")
    sparse[:2] = RAW[:2]
    assert "8 of 12 chunks, read as 0" in summarise(SourceConfig(path="sparse.zarr")).text()


def test_a_mask_beside_labels_is_found(files: Path) -> None:
    inputs = inspected("mask.tif", "labels.tif", "raw.tif").inputs
    assert inputs is not None
    assert inputs.mask is not None
    assert inputs.labels is not None
    assert (inputs.mask.path, inputs.labels.path) == ("mask.tif", "labels.tif")


def test_intensities_without_labels_are_a_further_volume(files: Path) -> None:
    tifffile.imwrite("other.tif", np.tile(RAW, (1, 2, 1)), photometric="minisblack")
    inputs = inspected("other.tif", "labels.tif", "raw.tif").inputs
    assert inputs is not None
    assert inputs.raw.path == "raw.tif"
    assert {name: source.path for name, (source, _) in inputs.further.items()} == {"other_0": "other.tif"}


def test_a_path_that_cannot_be_read_is_told_and_the_others_are_shown(files: Path) -> None:
    found = inspected("raw.tif", "none.tif", "labels.tif")
    assert [summary.address for summary in found.summaries] == ["raw.tif", "labels.tif"]
    [problem] = found.problems
    assert problem.startswith("none.tif: there is no none.tif")
    assert found.inputs is None


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        (("raw.tif",), "no path holds labels"),
        (("labels.tif",), "none of them looks like intensities"),
        (("raw.tif", "labels.tif", "a.h5:/labels"), "each may be the labels"),
        (("raw.tif", "small.tif"), "shape"),
        (("raw.tif", "empty.tif"), "nothing is annotated"),
    ],
)
def test_without_a_configuration_it_is_said_why(files: Path, paths: tuple[str, ...], told: str) -> None:
    tifffile.imwrite("small.tif", LABELS[:, 1:].astype(np.uint16), photometric="minisblack")
    tifffile.imwrite("empty.tif", np.zeros(RAW.shape, np.uint8), photometric="minisblack")
    found = inspected(*paths)
    assert found.inputs is None
    assert len(found.problems) == 1
    assert told in found.problems[0]


def test_with_a_trained_model_no_labels_are_needed(files: Path) -> None:
    inputs = inspected("a.h5:/raw", model="model.pt").inputs
    assert inputs is not None
    assert (inputs.split, inputs.unlabelled) == (None, ["all"])


# Voxel sizes


def test_a_voxel_size_that_no_file_states_is_assumed_and_said_so(files: Path) -> None:
    found = inspected("raw.tif", "labels.tif")
    assert found.inputs is not None
    assert found.inputs.voxel_size.write
    assert any("voxel size ASSUMED, no file states it" in warning for warning in found.warnings)
    stated = inspected("a.h5:/raw", "labels.tif").inputs
    assert stated is not None
    assert (stated.voxel_size.nm, stated.voxel_size.write) == ((40.0, 4.0, 4.0), False)


def test_the_users_voxel_size_overrules_that_of_the_file(files: Path) -> None:
    found = inspected("a.h5:/raw", "labels.tif", voxel_size_nm=(50.0, 4.0, 4.0))
    assert found.problems == []
    assert found.inputs is not None
    assert found.inputs.voxel_size.overrule


def test_the_distance_of_sections_follows_from_their_correlation(tmp_path: Path) -> None:
    from scipy.ndimage import gaussian_filter

    cube = gaussian_filter(np.random.default_rng(0).normal(size=(40, 96, 96)), 4, mode="wrap")
    cube = np.rint(128 + 800 * cube).astype(np.uint8)
    for step in (1, 4):
        path = tmp_path / f"{step}.tif"
        tifffile.imwrite(path, cube[::step], photometric="minisblack")
        distance = section_distance_px(open_source(str(path)))
        assert distance == pytest.approx(step, abs=0.5)


# Annotated sections


@pytest.mark.parametrize(
    ("dtype", "value"), [("int16", -1), ("uint32", 2**32 - 1), ("uint64", 2**64 - 1), ("float32", -1)]
)
def test_what_other_programs_call_not_annotated_is_taken_as_that(files: Path, dtype: str, value: int) -> None:
    """Also where it is in a section of which no sample is taken."""
    raw, labels = synthesise(sections=20, size=64, seed=3)
    ids = labels.astype(dtype)
    ids[1, :20] = value
    np.save("r.npy", raw)
    np.save("l.npy", ids)
    found = inspected("r.npy", "l.npy")
    assert found.problems == []
    assert found.inputs is not None
    assert found.inputs.guess is not None
    assert (found.inputs.guess.kind, found.inputs.guess.not_annotated) == ("instances", (value,))
    assert f"ignore_id   {value}, taken as not annotated" in found.summaries[1].text()


def test_many_negative_values_are_no_labels(files: Path) -> None:
    np.save("l.npy", np.minimum(LABELS.astype(np.int32) - 9, 0))
    assert "negative labels in box" in inspected("raw.tif", "l.npy").problems[0]


def test_what_is_told_when_labels_are_converted_is_told_here_too(files: Path) -> None:
    colours = np.random.default_rng(0).integers(30, 255, (int(LABELS.max()) + 1, 3)).astype(np.uint8)
    colours[0] = 0
    tifffile.imwrite("l.tif", colours[LABELS], photometric="rgb")
    assert any("colours are read as one id per colour" in told for told in inspected("raw.tif", "l.tif").warnings)


def test_a_known_size_of_a_pixel_is_kept_where_the_thickness_is_assumed(files: Path) -> None:
    metadata = {"axes": "ZYX", "unit": "nm"}
    tifffile.imwrite("ij.tif", RAW, imagej=True, metadata=metadata, resolution=(1 / 6, 1 / 6))
    found = inspected("ij.tif", "labels.tif")
    assert found.inputs is not None
    assert found.inputs.voxel_size.nm == (50.0, pytest.approx(6.0), pytest.approx(6.0))
    assert "pixels by ImageJ's metadata" in found.inputs.voxel_size.why
    assert any("ASSUMED along z" in told for told in found.warnings)


def test_a_placeholder_is_told_as_one(files: Path) -> None:
    metadata = {"axes": "ZYX", "unit": "nm", "spacing": 1}
    tifffile.imwrite("ij.tif", RAW, imagej=True, metadata=metadata, resolution=(1, 1))
    assert any(
        "ASSUMED, the file's 1 x 1 x 1 nm is a placeholder" in told
        for told in inspected("ij.tif", "labels.tif").warnings
    )


@pytest.mark.parametrize(
    ("axes", "told"), [((0, 1, 2), None), ((2, 1, 0), "x rather counts the sections"), ((1, 0, 2), "y rather counts")]
)
def test_an_axis_along_which_voxels_are_least_alike_rather_counts_the_sections(
    files: Path, axes: tuple[int, ...], told: str | None
) -> None:
    """A cube of which no length tells the order of its axes."""
    raw = synthesise(sections=64, size=64, seed=3)[0].transpose(axes)
    np.save("cube.npy", raw)
    doubts = [one for one in inspected("cube.npy", model="model.pt").warnings if "neighbouring voxels correlate" in one]
    assert [told in one for one in doubts] == ([] if told is None else [True])


def test_annotated_sections_are_those_with_two_values(tmp_path: Path) -> None:
    labels = np.zeros((7, 20, 20), np.uint8)
    labels[1:3, 5:9, 5:9] = labels[5, 5:9, 5:9] = 1
    tifffile.imwrite(tmp_path / "labels.tif", labels, photometric="minisblack")
    found = find_annotated_sections(open_source(str(tmp_path / "labels.tif")))
    assert found.runs == ((1, 3), (5, 6))
    assert str(found) == "3 of 7 sections (1 to 2, 5)"


def test_of_large_labels_the_first_and_the_last_drawn_section_are_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unet.run.inspection.annotated_sections.WHOLE_VOXELS", 100)
    labels = np.zeros((300, 4, 4), np.uint8)
    labels[147:161, 1] = 1
    zarr.create_array(tmp_path / "labels.zarr", data=labels, chunks=(10, 4, 4))
    assert find_annotated_sections(open_source(str(tmp_path / "labels.zarr"))).runs == ((147, 161),)


@pytest.mark.parametrize(
    ("runs", "volumes"),
    [
        (((0, 3),), {"train": (0, 3)}),
        (((2, 8),), {"train": (2, 7), "validation": (7, 8)}),
        (((0, 12),), {"train": (0, 9), "validation": (9, 10), "test": (10, 12)}),
        (((0, 2), (5, 7)), {"train_1": (0, 2), "train_2": (5, 6), "validation": (6, 7)}),
    ],
)
def test_annotated_sections_are_divided(runs: Any, volumes: dict[str, tuple[int, int]]) -> None:
    split = split_sections(AnnotatedSections(runs, 20, 20))
    assert split.volumes == volumes
    assert set(split.names("train")) == {name for name in volumes if name.startswith("train")}


# Pictures


def test_pictures_show_each_source_and_labels_over_intensities(files: Path) -> None:
    found = inspected("raw.tif", "labels.tif")
    written = write_pictures(files / "pictures", found.summaries, found.volume, range(6))
    names = [path.name for path in written]
    assert names[0] == "1-raw.tif-raw-section-0000.png"
    assert [name for name in names if "over" in name] == [f"labels-over-raw-section-000{z}.png" for z in (0, 3, 5)]
    shapes = {path.name: imagecodecs.png_decode(path.read_bytes()).shape for path in written}
    assert shapes[names[0]] == (96, 96)
    assert shapes[names[-1]] == (96, 96, 3)
