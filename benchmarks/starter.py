"""Shared by every program here: a folder with a configuration, Snakemake started in it, and what a run leaves there.

```
folder/config.yaml      written by `configure`, checked as a run would check it
      /log              what Snakemake has said
      /results/         as of any run
```
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from unet.config.root import load_config

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"
"""Folder of the real data sets that config/examples names."""
SAMPLE: dict[str, Any] = {
    "raw": "results/sample/raw.tif",
    "labels": "results/sample/labels.tif",
    "voxel_size_nm": [50, 4, 4],
}
"""The generated volume, which a workflow makes by itself, as section `volumes` names it."""
SMALL_NETWORK: dict[str, Any] = {"depth": 4, "base_channels": 16, "normalisation": "batch", "dropout": 0}
"""What the demo learns, in minutes on a few cores."""


@dataclass(frozen=True)
class Spent:
    """Use of a process: seconds by the clock and of the processor, and its largest resident size in MB."""

    seconds: float
    processor: float
    memory_mb: float

    def __str__(self) -> str:
        return f"{self.seconds:8.1f} s {self.processor:8.1f} s {self.memory_mb:7.0f} MB"


def example(path: Path) -> dict[str, Any]:
    """Return a configuration of this repository for a run in a folder of its own: its input is named absolutely."""
    text = path.read_text().replace("../shared/", f"{ROOT.parent}/shared/")
    return yaml.safe_load(text) | {"results": "results"}


def miniature() -> dict[str, Any]:
    """Return a configuration whose whole run takes a minute: what a smoke test runs instead of an example."""
    volume = SAMPLE | {"sections": [0, 2]}
    return {
        "sample": {"sections": 4, "size": 128},
        "volumes": {"train": volume, "validation": volume | {"sections": [2, 4]}},
        "storage": {"chunk": [1, 64, 64], "block": [2, 128, 128]},
        "model": {"depth": 3, "base_channels": 4, "normalisation": "batch", "dropout": 0},
        "train": {
            "volumes": ["train"],
            "steps": 4,
            "tile": 60,
            "batch": 2,
            "optimizer": "adamw",
            "augment": {"rotation": "right", "elastic_probability": 0},
        },
        "predict": {"volumes": ["train", "validation"], "tile": 60, "dashboard": False},
        "segment": {"threshold": "auto"},
        "evaluate": {"volumes": ["train", "validation"], "threshold_volumes": ["train"]},
    }


def configure(folder: Path, values: Mapping[str, Any], anew: bool = True) -> Path:
    """Write the configuration of a run into its folder, which is emptied first where it is made anew."""
    load_config(dict(values))
    if anew:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(dict(values), sort_keys=False))
    return folder


def command(folder: Path, *arguments: str) -> list[str]:
    """Return the command that starts Snakemake with the configuration of a folder; later options overrule earlier."""
    fixed = ["--snakefile", str(ROOT / "workflow" / "Snakefile"), "--directory", str(folder.absolute())]
    return [sys.executable, "-m", "snakemake", *fixed, "--configfile", "config.yaml", "--cores", "all", *arguments]


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of a process that finds this package, and the pretending executor beside this file."""
    own = [str(ROOT), str(ROOT / "benchmarks" / "pretending"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, own))} | variables


def start(folder: Path, *arguments: str, session: bool = True, **variables: str) -> subprocess.Popen[bytes]:
    """Start Snakemake; in a session of its own it can be killed with all that it has started."""
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            command(folder, *arguments),
            cwd=folder,
            env=environment(**variables),
            stdout=log,
            stderr=log,
            start_new_session=session,
        )


def run(folder: Path, *arguments: str, **variables: str) -> Spent:
    """Run Snakemake to its end, ask for success, and return what it has spent."""
    begin = time.perf_counter()
    process = start(folder, *arguments, session=False, **variables)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"Snakemake failed; see {folder / 'log'}:\n{(folder / 'log').read_text()[-2000:]}")
    return Spent(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def receipt(folder: Path, rule: str, *path: str) -> Path:
    """Return where the receipt of a job lies."""
    return folder / "results" / "receipts" / rule / Path(*path).with_suffix(".json")


def read(path: Path) -> Any:
    """Return the content of a receipt, or of another JSON file that a run has left."""
    return json.loads(path.read_text())


def scores(folder: Path, volume: str) -> dict[str, Any]:
    """Return the scores of a volume."""
    found: dict[str, Any] = read(folder / "results" / "volumes" / volume / "evaluation.json")["scores"]
    return found


def script(name: str) -> Callable[..., None]:
    """Return `main` of a rule's script."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    main: Callable[..., None] = module.main
    return main
