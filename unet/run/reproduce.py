"""Repeat a run from its `provenance.json`, and say whether every voxel is the same, or where the first one differs.

    python -m unet.run.reproduce results           (make reproduce RUN=results)

1. Differences in versions and code are reported. Input that is not the same ends the reproduction.
2. The run is repeated into `{results}-reproduced`, with the same configuration, tiles and threads of the training.
3. The journals are compared in the order in which the stores follow from each other, block by block (`compare`).
4. In the first block with another digest the first voxel with another value is looked up, where both stores are
   there. Tables are compared as arrays.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from unet.config.inputs import source_files
from unet.config.root import Config, load_config
from unet.geometry.box import Box
from unet.jobs.journal import Journal
from unet.run.provenance import FORMAT, NAME, input_fingerprint, software
from unet.storage.file_patterns import is_pattern
from unet.storage.files import load_arrays, read_json, write_json
from unet.volumes.block_tables import BlockTables
from unet.volumes.volume import ZARR, Volume

ROOT = Path(__file__).parents[2]
ORDER = [
    *("ingest", "segment/labels", "relabel/labels", "targets", "weight_map", "train", "predict"),
    *("segment/segmentation", "relabel/segmentation"),
]
"""Rules whose stores follow from each other; others come last."""


class ReproductionError(ValueError):
    """A run cannot be repeated here; the message says why."""


@dataclass(frozen=True)
class Comparison:
    """The numbers of compared jobs and blocks, and the first difference in words; None where there is none."""

    jobs: int
    blocks: int
    difference: str | None


def compare(was: Path, now: Path) -> Comparison:
    """Compare the results of two runs: every block of every store, and the model.

    Parameters
    ----------
    was, now : Path
        Folders of results. Their receipts suffice; with their stores the voxel is found, and other compression does
        not count.
    """
    blocks, kinds = 0, _kinds(was)
    for kind, volume in kinds:
        receipts = [results / "receipts" / _folder(kind, volume) for results in (was, now)]
        if kind == "train":
            digests = [read_json(folder / "model.json")["digest"] for folder in receipts]
            found = None if digests[0] == digests[1] else "model/model.pt"
        else:
            done = [Journal.of_receipt(folder / "0-of-1.json").latest() for folder in receipts]
            stores = sorted({name for path in receipts[0].glob("*-of-*.json") for name in read_json(path)["stores"]})
            boxes = sorted(done[0].keys() | done[1].keys())
            other = (b for b in boxes if b not in done[0] or b not in done[1] or done[0][b].digest != done[1][b].digest)
            found = next((text for box in other if (text := _in_block(was, now, volume, stores, box))), None)
            blocks += len(boxes)
        if found is not None:
            return Comparison(len(kinds), blocks, found)
    return Comparison(len(kinds), blocks, None)


def _kinds(results: Path) -> list[tuple[str, str]]:
    """Return what was made, in the order of `ORDER`: rule, with the store where it writes two, and volume.

    Where there is a record, only what it names counts: the folder may hold volumes that are no longer configured.
    """
    receipts, record = results / "receipts", results / NAME
    made = [Path(name) for name in read_json(record)["made"]] if record.exists() else None
    folders = {path.parent.relative_to(receipts).parts for path in receipts.rglob("*-of-*.jsonl")}
    if made is not None:
        folders &= {name.parent.parts for name in made}
    found = [("/".join((rule, *store)), volume) for rule, volume, *store in folders]
    trained = Path("train", "model") in made if made is not None else (receipts / "train" / "model.json").exists()
    if trained:
        found.append(("train", ""))
    return sorted(found, key=lambda kind: (ORDER.index(kind[0]) if kind[0] in ORDER else len(ORDER), kind))


def _folder(kind: str, volume: str) -> Path:
    rule, *store = kind.split("/")
    return Path(rule, volume, *store)


def _in_block(was: Path, now: Path, volume: str, stores: list[str], box: Box) -> str | None:
    """Return where two runs differ in a block; None if its voxels are the same and only its files differ."""
    for name in stores:
        place = f"{name} of volume {volume}, block {box}"
        if not name.endswith(ZARR):
            if not _same_tables(*(_table(results, volume, name, box) for results in (was, now))):
                return place
            continue
        if not all((results / "volumes" / volume / name).exists() for results in (was, now)):
            return place
        before, after = (_read(results, volume, name, box) for results in (was, now))
        if before.shape != after.shape:
            return f"{place}: shape was {before.shape}, is {after.shape}"
        others = np.argwhere(before != after)
        if len(others):
            first = tuple(others[0])
            voxel = tuple(int(i) for i in (*first[:-3], *np.add(first[-3:], box.start)))
            return f"{place}, voxel {voxel}: was {before[first]}, is {after[first]}"
    return None


def _opened(results: Path, volume: str) -> Volume:
    return Volume.open(results / "volumes" / volume, results / "receipts" / "survey" / f"{volume}.json")


def _read(results: Path, volume: str, store: str, box: Box) -> np.ndarray:
    return _opened(results, volume).image(store.removesuffix(ZARR)).read(box)


def _table(results: Path, volume: str, name: str, box: Box) -> dict[str, np.ndarray]:
    """Return the arrays of a block's table; none where the table is missing."""
    path = BlockTables.from_name(results / "volumes" / volume, name, _opened(results, volume).layout.grid).of(box)
    return load_arrays(path) if path.exists() else {}


def _same_tables(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return bool(one) and one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def reproduce(run: Path) -> Comparison:
    """Repeat a run beside its results, and compare.

    Raises
    ------
    ReproductionError
        If there is no record of the run, its input is not what it was, or it fails.
    """
    if not (run / NAME).exists():
        raise ReproductionError(f"{run / NAME} is not there; it is written when a run has ended well")
    record = read_json(run / NAME)
    if record["format"] != FORMAT:
        raise ReproductionError(f"{run / NAME} is {record['format']!r}, but this version reads {FORMAT!r}")
    for line in other_software(record["software"], software(ROOT)):
        print(f"not the same here: {line}")
    again = run.with_name(f"{run.name}-reproduced")
    config = configuration(record, again)
    check_inputs(record["inputs"], config, again)
    shutil.rmtree(again, ignore_errors=True)
    again.mkdir(parents=True)
    (again / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    for volume, choices in record["chosen"].items():
        for key, choice in choices.items():
            write_json(again / "volumes" / volume / "probability-tiles" / f"{key}.json", choice)
    threads = next((job["arguments"]["threads"] for job in record["jobs"] if job["script"] == "scripts/train.py"), 1)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "workflow" / "Snakefile")]
    command += ["--cores", str(max(threads, os.cpu_count() or 1)), "--set-threads", f"train={threads}"]
    if subprocess.run([*command, "--configfile", str(again / "config.yaml")]).returncode:
        raise ReproductionError("the run failed, see above")
    return compare(run, again)


def configuration(record: Mapping[str, Any], results: Path) -> Config:
    """Return the recorded configuration with another folder of results."""
    values = _expanded(record["configuration"])
    made_here = f"{values['results']}/sample/"
    for volume in values["volumes"].values():
        for key in ("raw", "labels"):
            if isinstance(volume[key], str) and volume[key].startswith(made_here):
                volume[key] = f"{results}/sample/{volume[key].removeprefix(made_here)}"
    return load_config({**values, "results": str(results)})


def _expanded(values: Any) -> Any:
    """Return values with the paths restored that `unet.jobs.privacy.without_private` has shortened."""
    if isinstance(values, dict):
        return {key: _expanded(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_expanded(value) for value in values]
    if not isinstance(values, str):
        return values
    text = values.replace("{repository}", str(ROOT))
    return str(Path(text).expanduser()) if text.startswith("~/") else text


def check_inputs(recorded: Mapping[str, Any], config: Config, results: Path) -> None:
    """Compare the input with what the run had; the generated sample is made again."""
    problems = []
    for key, path in source_files(config).items():
        if not path.is_relative_to(results):
            found = input_fingerprint(path) if path.exists() or (is_pattern(path) and path.parent.is_dir()) else None
            if found != recorded[key]:
                problems.append(
                    f"{key}: {path} " + ("is not there" if found is None else f"is {found}, not {recorded[key]}")
                )
    if problems:
        raise ReproductionError("the input is not that of the run:\n" + "\n".join(problems))


def other_software(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line per difference in software."""
    for key in ("unet-em", "python", "git"):
        if was[key] != now[key]:
            yield f"{key}: was {was[key]}, is {now[key]}"
    packages = sorted(was["packages"].keys() | now["packages"].keys())
    for name in packages:
        before, after = (versions["packages"].get(name, "none") for versions in (was, now))
        if before != after:
            yield f"{name}: was {before}, is {after}"


def main() -> None:
    """Repeat, compare and say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of the run's results, from where the run was started")
    try:
        found = reproduce(parser.parse_args().run)
    except ReproductionError as error:
        raise SystemExit(str(error)) from None
    if found.difference is not None:
        raise SystemExit(f"first difference: {found.difference}")
    print(f"bit-identical: {found.blocks} blocks, written by {found.jobs} steps")


if __name__ == "__main__":
    main()
