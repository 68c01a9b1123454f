"""What was foreseen beside what was then measured: for the report, and for `benchmarks/plan.py`."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import scandir
from pathlib import Path
from typing import Any

from unet.config.root import Config
from unet.storage.digests import fingerprint
from unet.storage.files import read_json


@dataclass(frozen=True)
class RuleForeseen:
    """Of all jobs of a rule: how many, seconds one after the other, processor seconds, and most memory of one in MB."""

    jobs: int
    seconds: float
    core_seconds: float
    memory_mb: float


@dataclass(frozen=True)
class StoreSize:
    """A store of a volume: bytes and files, foreseen and found."""

    volume: str
    store: str
    foreseen_bytes: float
    found_bytes: float
    foreseen_files: int
    found_files: int


def planned_for(config: Config) -> str:
    """Tells configurations apart whose plans differ; what there is to compute with does not count."""
    return fingerprint(config=config.model_dump(mode="json", exclude={"plan"}))


def read_plan(path: Path, config: Config) -> dict[str, Any] | None:
    """The plan that was made of this configuration, if one was."""
    values = read_json(path) if path.exists() else {}
    return values if values.get("config") == planned_for(config) else None


def foreseen_rules(plan: Mapping[str, Any]) -> dict[str, RuleForeseen]:
    """By rule."""
    keys = RuleForeseen.__dataclass_fields__
    return {one["rule"]: RuleForeseen(**{key: one[key] for key in keys}) for one in plan["rules"]}


def measured_jobs(results: Path) -> list[dict[str, Any]]:
    """What each job of a run took: the columns of Snakemake's benchmark file, and the `rule`, in the order they ended.

    Processor seconds (``cpu_time``) and memory in MB (``max_rss``) are Snakemake's samples of all the job's processes,
    or what the job itself counted (`unet.jobs.script`), whichever is more: neither sees everything.
    """
    folder = results / "benchmarks"
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.rglob("*.tsv"), key=lambda one: one.stat().st_mtime):
        job = path.relative_to(folder)
        usage = results / "logs" / job.with_suffix(".usage")
        used = read_json(usage) if usage.exists() else {}
        for row in list(csv.DictReader(path.read_text().splitlines(), delimiter="\t"))[-1:]:  # none in a torn file
            more = {}
            for column, own in (("cpu_time", "processor_seconds"), ("max_rss", "peak_mb")):
                sampled = 0.0 if row.get(column) in ("NA", "-", "", None) else float(row[column])
                more[column] = max(sampled, used.get(own, 0.0))
            rows.append({"rule": job.parts[0], **row, **more})
    return rows


def store_sizes(plan: Mapping[str, Any], volumes: Path) -> list[StoreSize]:
    """What each store takes in the folder of all volumes, beside what was foreseen."""
    sizes = []
    for one in plan["stores"]:
        folder = volumes / one["volume"] / one["store"]
        folder = folder if one["store"].endswith("-tables") else folder.with_name(f"{one['store']}.zarr")
        found = files_in(folder)
        sizes.append(
            StoreSize(one["volume"], one["store"], one["bytes"], sum(found), one["files"], len(found)),
        )
    return sizes


def files_in(folder: Path) -> Sequence[int]:
    """Bytes of every file in a folder and those below it; of none where it is not there."""
    sizes: list[int] = []
    waiting = [folder] if folder.exists() else []
    while waiting:
        with scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    waiting.append(Path(entry.path))
                else:
                    sizes.append(entry.stat().st_size)
    return sizes
