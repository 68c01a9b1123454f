"""Planning and `survey` read the same layout from the headers."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.scripts.conftest import Project
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
    layout = expected_layout(project.config, "train")
    surveyed = project.survey("train")["layout"]
    assert {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(layout).items()} == surveyed
