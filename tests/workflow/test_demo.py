"""What `make demo` runs: the embedded sample with the default configuration, and Snakemake's own report of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def snakemake(folder: Path, *arguments: str) -> str:
    """Run the workflow in a folder; what it printed."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "workflow" / "Snakefile")]
    command += ["--directory", str(folder), "--configfile", str(ROOT / "config" / "config.yaml"), *arguments]
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


def files_of(volume: Path) -> int:
    """Files of the stores that prediction and segmentation make, raw included."""
    stores = ("raw.zarr", "probability.zarr", "segmentation-fragments.zarr", "segmentation.zarr", "segmentation-tables")
    return sum(path.is_file() for store in stores for path in (volume / store).rglob("*"))


@pytest.mark.timeout(1500)
def test_sample_is_segmented_well_on_sections_never_seen(tmp_path: Path) -> None:
    printed = snakemake(tmp_path, "--cores", "2")
    scores = json.loads((tmp_path / "results" / "scores.json").read_text())
    assert scores["test"]["v_rand"] >= 0.95
    assert "report        results/report.html" in printed
    assert f"V_rand        {scores['test']['v_rand']:.4f} on test" in printed
    snakemake(tmp_path, "--cores", "2", "plan")
    foreseen = json.loads((tmp_path / "results" / "plan.json").read_text())["volumes"]
    for volume in foreseen:
        assert volume["files"] == files_of(tmp_path / "results" / "volumes" / volume["name"])
    snakemake(tmp_path, "--report", "snakemake-report.html")
    assert "report.html" in (tmp_path / "snakemake-report.html").read_text()
