"""The configuration that `inspect` writes for two paths runs to its end, and the report shows what was read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import tifffile
import yaml

from unet.config.root import load_config
from unet.training.synthetic import synthesise

if TYPE_CHECKING:
    from tests.workflow.conftest import Project

ROOT = Path(__file__).parents[2]


def test_two_paths_become_a_configuration_that_runs(new_project: Project) -> None:
    """A folder of sections and a file of labels; the shortest training."""
    raw, labels = synthesise(sections=3, size=128, seed=3)
    (new_project.folder / "raw").mkdir()
    for z, section in enumerate(raw):
        tifffile.imwrite(new_project.folder / f"raw/{z:03}.tif", section, photometric="minisblack")
    tifffile.imwrite(new_project.folder / "labels.tif", labels, photometric="minisblack")
    words = ["raw/", "labels.tif", "--voxel-size", "50", "4", "4", "--minutes", "0.01", "--results", "results"]
    ran = subprocess.run(
        [sys.executable, "-m", "unet.run.inspect", *words],
        cwd=new_project.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert "estimated time: " in ran.stderr
    config = load_config(yaml.safe_load(ran.stdout))
    assert config.train.steps == 40
    (new_project.folder / "config.yaml").write_text(ran.stdout)
    new_project.run()
    report = (new_project.results / "report.html").read_text()
    shown = report[report.index('<section id="inputs">') : report.index('<section id="methods">')]
    assert re.findall(r'alt="(.*?)"', shown) == [f"train, as read: section {z}" for z in range(3)]
    assert "50 x 4 x 4 nm (z, y, x) from the configuration" in shown
