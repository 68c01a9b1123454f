"""Compare the estimates of a plan with measurements: for the report, and for `benchmarks/plan.py`."""

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet.config.root import Config
from unet.run.plan.resources import RulePlan
from unet.storage.digests import fingerprint
from unet.storage.files import read_json


@dataclass(frozen=True)
class StoreSize:
    """A store of a volume: bytes and files, estimated and measured."""

    volume: str
    store: str
    estimated_bytes: float
    measured_bytes: float
    estimated_files: int
    measured_files: int


def planned_for(config: Config) -> str:
    """Return a digest of all that a plan depends on, except for the machine."""
    return fingerprint(config=config.model_dump(mode="json", exclude={"plan"}))


def read_plan(path: Path, config: Config) -> dict[str, Any] | None:
    """Return the plan that was made of this configuration, if one was."""
    values = read_json(path) if path.exists() else {}
    return values if values.get("config") == planned_for(config) else None


def estimated_rules(plan: Mapping[str, Any]) -> dict[str, RulePlan]:
    """Return what a plan estimates of each rule."""
    return {one["rule"]: RulePlan(**one) for one in plan["rules"]}


def measured_jobs(results: Path) -> list[dict[str, Any]]:
    """Return what each job of a run took: the columns of Snakemake's benchmark file, and the `rule`, in the order they
    ended.

    Processor seconds (``cpu_time``) and memory in MB (``max_rss``) are the larger of two numbers: Snakemake's samples
    of all the job's processes, and what the job itself counted (`unet.jobs.script`). Neither number includes
    everything.
    """
    folder = results / "benchmarks"
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.rglob("*.tsv"), key=lambda one: one.stat().st_mtime):
        job = path.relative_to(folder)
        usage = results / "logs" / job.with_suffix(".usage")
        used = read_json(usage) if usage.exists() else {}
        for row in list(csv.DictReader(path.read_text().splitlines(), delimiter="\t"))[-1:]:  # none in a truncated file
            more = {}
            for column, own in (("cpu_time", "processor_seconds"), ("max_rss", "peak_mb")):
                sampled = 0.0 if row.get(column) in ("NA", "-", "", None) else float(row[column])
                more[column] = max(sampled, used.get(own, 0.0))
            rows.append({"rule": job.parts[0], **row, **more})
    return rows


def store_sizes(plan: Mapping[str, Any], volumes: Path) -> list[StoreSize]:
    """Return bytes and files of each store in the folder of all volumes, measured and estimated."""
    sizes = []
    for one in plan["stores"]:
        name = one["store"] if one["store"].endswith("-tables") else f"{one['store']}.zarr"
        found = _sizes_of_files(volumes / one["volume"] / name)
        sizes.append(StoreSize(one["volume"], one["store"], one["bytes"], sum(found), one["files"], len(found)))
    return sizes


def _sizes_of_files(folder: Path) -> list[int]:
    """Return the bytes of every file in a folder and below; nothing where there is no folder."""
    return [os.stat(os.path.join(above, name)).st_size for above, _, names in os.walk(folder) for name in names]
