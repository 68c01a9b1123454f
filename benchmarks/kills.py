"""Thirty SIGKILLs at random moments through one prediction; each is followed by a plain rerun of Snakemake.

    python benchmarks/kills.py                    # of the job, or of Snakemake with all that it has started
    python benchmarks/kills.py --workers 2        # the same on a dask scheduler's workers, of which some are killed too

Prints a line a kill: what was killed, when, and how many blocks were in flight. At the end the store has to be
bit-identical to the store of an undisturbed run. No block that was recorded may have been made again.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import starter
from starter import ROOT, SAMPLE

RECEIPTS = "results/receipts/predict/train"
PREDICTION = f"{RECEIPTS}/0-of-1.json"
CONFIG: dict[str, Any] = {
    "sample": {"sections": 16, "size": 512},
    "volumes": {"train": SAMPLE},
    "storage": {"chunk": [1, 64, 64], "block": [1, 128, 128]},
    "model": {"depth": 3, "base_channels": 8, "dropout": 0},
    "train": {"steps": 20, "tile": 140, "optimizer": "adamw"},
    "predict": {"tile": 140, "test_time_augmentation": "symmetries", "dashboard": False},
}
SETTINGS = ("--cores", "2")
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


def recorded(folder: Path) -> list[str]:
    """Return the blocks in the journals, each as often as it was made."""
    lines = [
        line for path in (folder / RECEIPTS).glob("*.jsonl") for line in path.read_text().splitlines(keepends=True)
    ]
    whole = [json.loads(line) for line in lines if line.endswith("\n") and line.strip()]
    return [values["box"] for values in whole if "box" in values]


def digest(folder: Path) -> str:
    """Return a digest of all files of the store."""
    summary, store = hashlib.blake2b(digest_size=16), folder / "results/volumes/train/probability.zarr"
    for path in sorted(p for p in store.rglob("*") if p.is_file()):
        summary.update(str(path.relative_to(store)).encode() + path.read_bytes())
    return summary.hexdigest()


def job_of(folder: Path) -> int | None:
    """Process number of the prediction's job."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
            if b".predict.py" in command and (entry / "cwd").resolve() == folder.resolve():
                return int(entry.name)
        except OSError:
            continue  # ended meanwhile
    return None


class Workers:
    """A dask scheduler and its workers, each a process; one that is killed is replaced."""

    def __init__(self, folder: Path, count: int) -> None:
        self.file = folder / "scheduler.json"
        self.scheduler = self._start("dask_scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1")
        while not self.file.exists():
            time.sleep(0.1)
        self.address = json.loads(self.file.read_text())["address"]
        self.workers = [self._start_worker() for _ in range(count)]

    def kill_one(self) -> None:
        """Kill a worker and start another."""
        worker = self.workers.pop(0)
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        self.workers.append(self._start_worker())

    def close(self) -> None:
        """End all."""
        for process in (*self.workers, self.scheduler):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _start_worker(self) -> subprocess.Popen[bytes]:
        return self._start("dask_worker", "--nthreads", "2", "--no-nanny", "--no-dashboard")

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.{module}", "--scheduler-file", str(self.file), *arguments]
        environment = starter.environment(**ENVIRONMENT)
        null = subprocess.DEVNULL
        return subprocess.Popen(command, env=environment, stdout=null, stderr=null, start_new_session=True)


def killed_once(folder: Path, what: str, blocks: int, moment: float, workers: Workers | None) -> int:
    """Run until so many more blocks are recorded, wait a moment, kill; how many were recorded meanwhile."""
    before = len(recorded(folder))
    process = starter.start(folder, *SETTINGS, PREDICTION, session=True, **ENVIRONMENT)
    while len(recorded(folder)) < before + blocks and process.poll() is None:
        time.sleep(0.01)
    time.sleep(moment)
    kill: dict[str, Callable[[], None]] = {
        "Snakemake and all it started": lambda: os.killpg(process.pid, signal.SIGKILL),
        "the job": lambda: os.kill(job_of(folder) or process.pid, signal.SIGKILL),
        "a dask worker": lambda: workers.kill_one() if workers else None,
    }
    if process.poll() is None:
        kill[what]()
    if what == "a dask worker":  # the job goes on with the others; end it in the middle all the same
        time.sleep(1)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.returncode == -signal.SIGKILL:
        starter.run(folder, "--unlock")
    return len(recorded(folder)) - before


def main() -> None:
    """Predict once in peace and once with kills, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--sections", type=int, default=16, help="of the volume, 16 blocks each")
    parser.add_argument("--folder", type=Path, default=ROOT / "results-benchmark-kills")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.folder, ignore_errors=True)
    peace, war = (arguments.folder.absolute() / name for name in ("peace", "war"))
    config = CONFIG | {"sample": {"sections": arguments.sections, "size": 512}}
    starter.configure(peace, config)
    prepared = ("results/model/model.pt", "results/receipts/intensity_statistics/train.json")
    starter.run(peace, *SETTINGS, *prepared, **ENVIRONMENT)
    shutil.copytree(peace, war)
    starter.run(peace, *SETTINGS, PREDICTION, **ENVIRONMENT)
    workers = Workers(arguments.folder, arguments.workers) if arguments.workers else None
    if workers:
        starter.configure(war, config | {"predict": config["predict"] | {"scheduler": workers.address}}, anew=False)
    whole, moments = len(recorded(peace)), random.Random(arguments.seed)
    targets = ["the job", "Snakemake and all it started"] + ["a dask worker"] * bool(workers)
    for number in range(arguments.kills):
        what, moment = moments.choice(targets), moments.uniform(0, 0.5)
        most = max(1, (whole - len(recorded(war))) // (arguments.kills - number + 1))
        made = killed_once(war, what, moments.randint(1, most), moment, workers)
        print(f"{number + 1:>3}  {what:<30} {made:>3} blocks more, {len(recorded(war))} of {whole}", flush=True)
    starter.run(war, *SETTINGS, PREDICTION, **ENVIRONMENT)
    if workers:
        workers.close()
    again = len(recorded(war)) - whole
    same = digest(war) == digest(peace)
    print(
        f"{arguments.kills} kills; store {'bit-identical' if same else 'DIFFERS'}; {again} recorded blocks made again"
    )
    print(json.dumps({"kills": arguments.kills, "identical": same, "made_again": again}))
    raise SystemExit(0 if same and again == 0 else 1)


if __name__ == "__main__":
    main()
