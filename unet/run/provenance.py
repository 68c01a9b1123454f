"""The record of a run, `{results}/provenance.json`: enough for somebody else to repeat the run and compare.

The record holds versions, the state of the repository, seeds, devices, the configuration and fingerprints of the input.
It also holds the arguments of every job, and a digest of what the job made. It does not say who ran it, on which
machine or in which folder: paths below the repository, the working directory and the home are shortened, and secrets
are taken out (`unet.jobs.privacy`).
"""

import platform
import re
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from unet import __version__
from unet.config.inputs import source_files
from unet.config.root import Config
from unet.jobs.privacy import command_without_secrets, without_account, without_private
from unet.storage.digests import bytes_digest
from unet.storage.file_patterns import is_pattern, matching_files
from unet.storage.files import read_json, write_json

FORMAT = "unet-em provenance 1"
NAME = "provenance.json"
HASHED_BYTES = 2**30
"""Inputs of more bytes have no digest; the digests of the ingested blocks distinguish them."""


def configuration_text(config: Config) -> str:
    """Return the merged configuration, defaults included, as YAML: `run_config.yaml` beside a report.

    Where a model file is given, section `model` holds only what was set: defaults say nothing about that file. The
    account that pays for the jobs of a cluster is left out, as in every record: elsewhere it is somebody else's.
    """
    merged = config.model_dump(mode="json")
    merged["slurm"] = without_account(merged["slurm"])
    if config.model.checkpoint:
        merged["model"] = config.model.model_dump(mode="json", exclude_unset=True)
    return yaml.safe_dump(merged, sort_keys=False)


def write_provenance(
    results: Path, config: Config, root: Path, command: Sequence[str], started: datetime, asked: Collection[Path]
) -> dict[str, Any]:
    """Write `provenance.json`, and return what it holds.

    Parameters
    ----------
    results : Path
        Folder of everything that was written.
    root : Path
        Root of the repository.
    command : sequence of str
        Command line with which Snakemake was started.
    started : datetime
        Time of the start.
    asked : collection of Path
        Outputs and logs of all jobs that the configuration asks for, those included that were finished before. A folder
        of results may hold others, of volumes or settings that are no longer configured.
    """
    record: dict[str, Any] = without_private(provenance_of(results, config, root, command, started, asked), root)
    write_json(results / NAME, record)
    return record


def provenance_of(
    results: Path, config: Config, root: Path, command: Sequence[str], started: datetime, asked: Collection[Path]
) -> dict[str, Any]:
    """Return the content of `provenance.json`, with paths as they are."""
    settings, receipts = config.model_dump(mode="json"), _receipts(results, set(asked))
    predicted = {name: values for name, values in receipts.items() if values.get("rule") == "predict"}
    return {
        "format": FORMAT,
        "started": started.isoformat(timespec="seconds"),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": software(root),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": _processor(),
            "devices": sorted({values["run"]["device"] for values in predicted.values()}),
        },
        "command": command_without_secrets([Path(command[0]).name, *command[1:]]),
        "configuration": settings,
        "seeds": dict(_seeds(settings)),
        "chosen": _chosen(results, config.predict.volumes),
        "inputs": {key: input_fingerprint(path) for key, path in source_files(config).items()},
        "jobs": _jobs(results, set(asked)),
        "made": {name: values["digest"] for name, values in receipts.items() if "digest" in values},
    }


def software(root: Path) -> dict[str, Any]:
    """Return the versions of this package, of Python and of its dependencies, and the repository's state."""
    constraints = (root / "constraints.txt").read_text() if (root / "constraints.txt").exists() else ""
    wanted = dict(re.findall(r"^([\w.-]+)==(\S+)$", constraints, re.MULTILINE))
    installed = {name: found for name in wanted if (found := _installed(name)) is not None}
    return {
        "unet-em": __version__,
        "python": platform.python_version(),
        "constraints": bytes_digest(constraints.encode()),
        "packages": installed,
        "not_as_constrained": sorted(name for name, found in installed.items() if found != wanted[name]),
        "git": repository_state(root),
    }


def repository_state(root: Path) -> dict[str, Any] | None:
    """Return the commit, whether something differs from it, and a digest of that; None without a repository."""
    commit, changes = _git(root, "rev-parse", "HEAD"), _git(root, "status", "--porcelain")
    if commit is None or changes is None:
        return None
    difference = _git(root, "diff", "HEAD") or ""
    new = [line[3:] for line in changes.splitlines() if line.startswith("??")]
    changed = bytes_digest((difference + "\n".join(new)).encode()) if changes else None
    return {"commit": commit, "dirty": bool(changes), "changes": changed}


def input_fingerprint(path: Path) -> dict[str, Any]:
    """Return the number and bytes of an input's files, and one digest of names and content up to `HASHED_BYTES`."""
    above = path
    if is_pattern(path):
        files, above = matching_files(path), path.parent
    else:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files)
    summary = blake2b(digest_size=16)
    for file in files if size <= HASHED_BYTES else []:
        summary.update(str(file.relative_to(above)).encode() + file.read_bytes())
    return {"files": len(files), "bytes": size, "digest": summary.hexdigest() if size <= HASHED_BYTES else None}


def _chosen(results: Path, volumes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the tiles that were chosen, by volume and by the key of the task (`cached_selection`)."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((results / "volumes").glob("*/probability-tiles/*.json")):
        if path.parts[-3] in volumes:
            found.setdefault(path.parts[-3], {})[path.stem] = read_json(path)
    return found


def _jobs(results: Path, asked: set[Path]) -> list[dict[str, Any]]:
    """Return script and arguments of every job, as it was started last; `run_script` leaves them beside its log."""
    logs = results / "logs"
    paths = [path for path in sorted(logs.glob("*/**/*.json")) if path.with_suffix(".log") in asked]
    found = {path: path.relative_to(logs).parts[0] for path in paths}
    return [{"script": f"scripts/{rule}.py", "arguments": read_json(path)} for path, rule in found.items()]


def _receipts(results: Path, asked: set[Path]) -> dict[str, Any]:
    """Return the receipt of every job, by rule and job, e.g. `predict/train/0-of-2`."""
    folder = results / "receipts"
    paths = [path for path in sorted(folder.rglob("*.json")) if path in asked]
    return {str(path.relative_to(folder).with_suffix("")): read_json(path) for path in paths}


def _seeds(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _seeds(value, f"{prefix}{key}.")
        elif key == "seed":
            yield f"{prefix}{key}", value


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip("\n") if done.returncode == 0 else None


def _processor() -> str:
    """Return the processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    match = re.search(r"^model name\s*:\s*(.*)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return match[1] if match else platform.processor()
