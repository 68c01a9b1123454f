"""Planning and `survey` read the same layout from the headers."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.scripts.conftest import Project, main_of
from unet.volumes.layout_from_headers import expected_layout


@pytest.mark.parametrize("kind", ["uint8", "uint64", "interior", "part", "masked", "bare"])
def test_a_run_is_planned_with_the_layout_that_is_surveyed(project: Project, kind: str) -> None:
    names = {"raw": "uint8", "labels": kind if kind == "uint64" else "uint8", "mask": "uint8"}
    files: dict[str, Any] = {name: str(project.folder / f"{name}.tif") for name in names}
    for name, dtype in names.items():
        tifffile.imwrite(files[name], np.ones((4, 40, 40), dtype), photometric="minisblack")
    if kind != "masked":
        del files["mask"]
    more: dict[str, Any] = {"interior": {"label_kind": "interior"}, "part": {"sections": [1, 3]}}.get(kind, {})
    volume = {**files, "voxel_size_nm": [50, 4, 4], **more}
    project.settings = {"volumes": {"train": volume}}
    if kind == "bare":
        del volume["labels"]
        project.settings |= {"model": {"checkpoint": "m"}, "train": {"volumes": []}}
    assert_surveyed(project)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sections": [1, 4]},
        {"crop": [[1, 4], [8, 72], [0, 65]]},
        {"crop": [[0, 5], [8, 72], [0, 65]], "downsample": [2, 1, 3]},
    ],
)
def test_the_sample_is_planned_before_it_is_made(project: Project, settings: dict[str, Any]) -> None:
    folder = project.folder / "results" / "sample"
    files = {"raw": folder / "raw.tif", "labels": folder / "labels.tif"}
    volume = {key: str(path) for key, path in files.items()}
    project.settings = {"sample": {"sections": 5, "size": 72}, "volumes": {"train": volume | settings}}
    main_of("sample")(**files, sample=project.config.sample)
    assert_surveyed(project)


def assert_surveyed(project: Project) -> None:
    """The layout that is planned with is the one that `survey` finds."""
    layout = expected_layout(project.config, "train")
    surveyed = project.survey("train")["layout"]
    assert {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(layout).items()} == surveyed
