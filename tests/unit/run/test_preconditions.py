"""Problems that stop a run before its first job, and their messages."""

from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest

from unet.config.root import Config, load_config
from unet.run.preconditions import (
    is_dry_run,
    problem_of_folder,
    problem_of_input,
    problem_of_model,
    problem_of_skeletons,
    problems_of_addresses,
    problems_of_compared_volumes,
    problems_of_files,
)


def configuration(folder: Path, **volume: Any) -> Config:
    """One volume whose grey values are there."""
    (folder / "raw.tif").write_bytes(b"")
    own = {"raw": str(folder / "raw.tif"), "labels": str(folder / "labels.tif"), **volume}
    evaluate = {"volumes": ["train"]}
    return load_config({"volumes": {"train": own}, "evaluate": evaluate, "results": str(folder / "results")})


def test_missing_files_are_named_by_their_keys(tmp_path: Path) -> None:
    [problem] = problems_of_files(configuration(tmp_path), [])
    assert problem.startswith(f"volumes.train.labels: {tmp_path / 'labels.tif'} is not there")


def test_files_that_a_rule_makes_need_not_be_there(tmp_path: Path) -> None:
    assert problems_of_files(configuration(tmp_path), [str(tmp_path / "labels.tif")]) == []


def test_files_are_no_addresses(tmp_path: Path) -> None:
    assert problems_of_addresses(configuration(tmp_path)) == []


def test_skeletons_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "one.swc").write_text("no numbers")
    config = configuration(tmp_path, skeletons={"files": str(tmp_path), "unit_nm": 1})
    assert "volumes.train.skeletons.files: " in str(problem_of_skeletons(config))
    assert problem_of_skeletons(configuration(tmp_path)) is None


def test_a_segmentation_of_others_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    config = configuration(tmp_path, compare={"other": str(tmp_path / "other.tif")})
    [told] = problems_of_compared_volumes(config)
    first, *lines = told.splitlines()
    assert first == "volumes.train: 3 problems with its files:"
    assert [line.partition(": ")[0] for line in lines] == ["raw", "labels", "compare.other"]
    assert problems_of_compared_volumes(configuration(tmp_path)) == []


def test_a_given_model_that_is_none_is_told(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    assert problem_of_model(config) is None
    given = config.model.model_copy(update={"checkpoint": str(tmp_path / "raw.tif")})
    assert str(tmp_path / "raw.tif") in str(problem_of_model(config.model_copy(update={"model": given})))


def test_similar_names_and_folders_are_suggested(tmp_path: Path) -> None:
    (tmp_path / "raw.tif").touch()
    assert f"did you mean {tmp_path / 'raw.tif'}?" in str(problem_of_input("raw", tmp_path / "row.tif"))
    assert "patterns are read only for images" in str(problem_of_input("model.checkpoint", tmp_path / "*.pt"))
    assert problem_of_input("raw", tmp_path / "raw.tif") is None


def test_a_name_with_its_accents_in_another_form_is_told(tmp_path: Path) -> None:
    (tmp_path / normalize("NFD", "Präparat")).mkdir()
    said = str(problem_of_input("raw", tmp_path / normalize("NFC", "Präparat") / "raw.tif"))
    assert "looks the same, but its accents are encoded in another way; copy that name" in said


def test_a_pattern_of_images_has_to_fit_a_file(tmp_path: Path) -> None:
    key = "volumes.em.raw"
    assert (
        str(problem_of_input(key, tmp_path / "s*.tif"))
        == f"{key}: no file fits s*.tif in {tmp_path}; correct the pattern"
    )
    assert f"{tmp_path}/none is not there" in str(problem_of_input(key, tmp_path / "none" / "s*.tif"))
    (tmp_path / "s1.tif").touch()
    assert problem_of_input(key, tmp_path / "s*.tif") is None
    assert "patterns are read only" in str(problem_of_input("volumes.em.skeletons.files", tmp_path / "s*.tif"))


def test_a_file_is_no_folder_of_results(tmp_path: Path) -> None:
    (tmp_path / "results").touch()
    assert "cannot be a folder" in str(problem_of_folder("results", tmp_path / "results", may_try=False))
    assert problem_of_folder("results", tmp_path / "new", may_try=True) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results"]


@pytest.mark.parametrize(
    ("words", "dry"),
    [(["-n"], True), (["-np"], True), (["--dry-run"], True), (["--dryrun"], True), (["-p"], False), (["plan"], False)],
)
def test_a_dry_run_is_told_by_its_option(words: list[str], dry: bool) -> None:
    assert is_dry_run(["snakemake", *words]) is dry
