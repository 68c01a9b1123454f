"""Ratios of what the plan estimates to what a run then takes: time, memory, disk and files.

    python benchmarks/plan.py                        # the sample, ISBI 2012 and 1 Gvoxel; on a quiet machine
    python benchmarks/plan.py --only sample
    python benchmarks/plan.py --only gigavoxel --voxels 33_000_000

1. `snakemake plan`, in a folder of its own.
2. The whole run. 1 Gvoxel is made block by block (`synthetic.py`) and predicted by a tiny network that learns from a
   corner of it.
3. What every job took, and every file of the stores, beside the plan. Aims: time within 30 %, memory never
   less and within 40 %, disk within 25 %, files exact. Rules of less than ten seconds or 100 MB do not count for
   themselves, but in the sums.
"""

import argparse
import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import starter
import yaml
from starter import ROOT
from synthetic import make_volume

from unet.config.root import load_config
from unet.run.plan.estimates import StoreSize, estimated_rules, measured_jobs, read_plan, store_sizes

RUNS = ("sample", "isbi2012", "gigavoxel")
TINY: dict[str, Any] = {
    "volumes": {
        "corner": {"raw": "corner.zarr", "labels": "corner-labels.zarr", "voxel_size_nm": [30, 8, 8]},
        "all": {"raw": "raw.zarr", "voxel_size_nm": [30, 8, 8]},
    },
    "model": {"depth": 2, "base_channels": 4, "normalisation": "batch", "dropout": 0},
    "train": {
        "volumes": ["corner"],
        "steps": 200,
        "tile": 188,
        "batch": 2,
        "optimizer": "adamw",
        "learning_rate": 0.01,
        "augment": {"rotation": "right", "elastic_probability": 0},
    },
    "predict": {"volumes": ["all"], "dashboard": False},
    "segment": {"min_size": 100},
}


def configuration(name: str) -> dict[str, Any]:
    """Return the configuration of a run."""
    if name == "gigavoxel":
        return TINY
    return starter.example(ROOT / "config" / ("config.yaml" if name == "sample" else f"examples/{name}.yaml"))


def measured_rules(results: Path) -> dict[str, dict[str, float]]:
    """Return jobs, seconds, processor seconds, and the largest memory of a job in MB, by rule."""
    found: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(("jobs", "seconds", "cores", "memory"), 0.0))
    for job in measured_jobs(results):
        rule = found[job["rule"]]
        rule["jobs"] += 1
        rule["seconds"] += float(job["s"])
        rule["cores"] += job["cpu_time"]
        rule["memory"] = max(rule["memory"], job["max_rss"])
    return dict(found)


def compared(folder: Path, clock: float) -> dict[str, Any]:
    """Print the tables of a run; its ratios estimated / measured."""
    config = load_config(yaml.safe_load((folder / "config.yaml").read_text()))
    plan = read_plan(folder / "results" / "plan.json", config)
    assert plan is not None
    estimated, found = estimated_rules(plan), measured_rules(folder / "results")
    print(f"{'rule':<24}{'jobs':>6}{'seconds':>18}{'ratio':>7}{'core seconds':>18}{'ratio':>7}{'MB':>16}{'ratio':>7}")
    sums, memory = dict.fromkeys(("seconds", "core_seconds"), 0.0), {}
    for rule, one in found.items():
        said = estimated[rule]
        assert said.jobs == one["jobs"], f"{rule}: {said.jobs} jobs estimated, {one['jobs']:.0f} found"
        memory[rule] = ratio(said.memory_mb, one["memory"])
        print(
            f"{rule:<24}{said.jobs:>6}{pair(said.seconds, one['seconds']):>25}"
            f"{pair(said.core_seconds, one['cores']):>25}{pair(said.memory_mb, one['memory']):>23}"
        )
        sums["seconds"] += one["seconds"]
        sums["core_seconds"] += one["cores"]
    ratios: dict[str, Any] = {
        key: ratio(sum(getattr(estimated[rule], key) for rule in found), total) for key, total in sums.items()
    }
    ratios |= {"wall": ratio(plan["wall_seconds"], clock), "memory": memory}
    return ratios | disk(store_sizes(plan, folder / "results" / "volumes"))


def disk(stores: list[StoreSize]) -> dict[str, Any]:
    """Print the table of the stores; the ratio of all bytes, and whether all files are as estimated."""
    for one in stores:
        size = pair(one.estimated_bytes / 1e6, one.measured_bytes / 1e6)
        print(f"{one.volume:<14}{one.store:<26}{size:>25} MB {one.estimated_files:>9}{one.measured_files:>9} files")
    bytes_ratio = ratio(sum(one.estimated_bytes for one in stores), sum(one.measured_bytes for one in stores))
    return {"disk": bytes_ratio, "files": all(one.estimated_files == one.measured_files for one in stores)}


def pair(estimated: float, found: float) -> str:
    """Return both values and their ratio."""
    return f"{estimated:8.1f} /{found:8.1f}{ratio(estimated, found):7.2f}"


def ratio(estimated: float, found: float) -> float:
    """Return the estimated value over the measured one."""
    return round(estimated / found, 3) if found else float("nan")


def main() -> None:
    """Plan, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=RUNS, nargs="*", default=RUNS)
    parser.add_argument("--voxels", type=int, default=2**30, help="of the synthetic volume")
    parser.add_argument("--folder", type=Path, default=ROOT / "results-benchmark-plan")
    parser.add_argument("--keep", action="store_true", help="leave the folder of the runs")
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    for name in arguments.only:
        folder = (arguments.folder / name).absolute()
        starter.configure(folder, configuration(name))
        if name == "gigavoxel":
            make_volume(folder, arguments.voxels)
        starter.run(folder, "plan")
        print(f"\n{name}: estimated / measured", flush=True)
        results[name] = compared(folder, starter.run(folder).seconds)
        if not arguments.keep:
            shutil.rmtree(folder)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
