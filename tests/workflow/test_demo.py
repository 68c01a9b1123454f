"""The run of `make demo`: the embedded sample with the default configuration, and Snakemake's own report of it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from unet.run.plan.estimates import store_sizes
from unet.run.report.usual_scores import LEVELS

ROOT = Path(__file__).parents[2]


def snakemake(folder: Path, *arguments: str) -> str:
    """Run the workflow in a folder; what it printed."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "workflow" / "Snakefile")]
    # The sizes that are planned do not depend on the speed, which is given, since it takes long to measure here.
    settings = ["--configfile", str(ROOT / "config" / "config.yaml"), "--config", "plan={gpu_flops: 1e13}"]
    command += [*arguments, "--directory", str(folder), *settings]
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.timeout(1500)
def test_sample_is_segmented_well_on_sections_never_seen(tmp_path: Path) -> None:
    printed = snakemake(tmp_path, "plan", "all", "--cores", "2")
    scores = json.loads((tmp_path / "results" / "scores.json").read_text())
    assert scores["test"]["v_rand"] >= 0.95
    assert scores["test"]["segmentation_v_rand"] >= 0.93
    assert scores["test"]["voi_split"] + scores["test"]["voi_merge"] <= 0.8, "of cells in 3-D"
    assert scores["test"]["level"] in LEVELS[:2]
    assert "report        results/report.html" in printed
    objects, thresholding = scores["test"]["segmentation_v_rand"], scores["test"]["v_rand"]
    told = rf"^test: \d+ objects; V_rand of the objects {objects:.4f}; .* thresholding at [\d.]+ {thresholding:.4f}$"
    assert re.search(told, printed, re.MULTILINE), printed
    plan = json.loads((tmp_path / "results" / "plan.json").read_text())
    sizes = store_sizes(plan, tmp_path / "results" / "volumes")
    assert [one for one in sizes if one.estimated_files != one.measured_files] == []
    assert sum(one.estimated_bytes for one in sizes) == pytest.approx(
        sum(one.measured_bytes for one in sizes), rel=0.25
    )
    assert "<h2>Disk</h2>" in (tmp_path / "results" / "report.html").read_text()
    snakemake(tmp_path, "--report", "snakemake-report.html")
    assert "report.html" in (tmp_path / "snakemake-report.html").read_text()
