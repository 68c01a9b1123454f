"""What Snakemake and the Snakefile themselves cost, by the number of block ranges: time and memory, without a voxel.

    python benchmarks/scheduling.py                                          # 10, 100, 1,000 and 10,000 block ranges
    python benchmarks/scheduling.py --ranges 1000 --method watershed

1. A volume of so many block ranges is only said to be there: the receipt of `survey` is written, and an empty file
   is its image.
2. `snakemake -n` plans the whole run.
3. A run whose jobs do nothing but write their receipts (`pretending/`) shows what scheduling takes.
4. `snakemake -n` again, now that all is done.
5. `--teravoxel` does 2. with `predict.job_voxels: auto` for 4096 x 16384 x 16384 voxels: at most 30 s and 2 GB.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
import yaml

from unet.config.model import ModelConfig
from unet.network.model import build_model
from unet.network.model_file import save_model
from unet.storage.files import write_json
from unet.volumes.volume import VolumeLayout

ROOT = Path(__file__).parent.parent
BLOCK = (16, 1024, 1024)
TERAVOXEL = (4096, 16384, 16384)
MODEL = ModelConfig(depth=2, base_channels=2, dropout=0)
CONFIG: dict[str, Any] = {
    "volumes": {"all": {"raw": "raw.tif", "voxel_size_nm": [30, 8, 8]}},
    "model": {"checkpoint": "model.pt"},
    "predict": {"volumes": ["all"], "tile": 316},
}


@dataclass(frozen=True)
class Spent:
    """Of a process: seconds on the clock and of the processor, and its largest resident size in MB."""

    seconds: float
    processor: float
    memory_mb: float

    def __str__(self) -> str:
        return f"{self.seconds:8.1f} s {self.processor:8.1f} s {self.memory_mb:7.0f} MB"


def snakemake(folder: Path, *arguments: str) -> Spent:
    """Run Snakemake in a folder, and ask for success."""
    command = [sys.executable, "-m", "snakemake", *arguments, "--snakefile", str(ROOT / "workflow" / "Snakefile")]
    command += ["--directory", str(folder), "--configfile", "config.yaml", "--quiet", "all"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks' / 'pretending'}"}
    begin = time.perf_counter()
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"Snakemake failed; see {folder / 'log'}")
    return Spent(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def prepare(folder: Path, shape: tuple[int, ...], method: str, job_voxels: int | str) -> None:
    """A folder in which a volume of `shape` has just been surveyed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "raw.tif").touch()
    save_model(folder / "model.pt", build_model(MODEL), MODEL, ["membrane", "interior"], normalisation={})
    predict = CONFIG["predict"] | {"job_voxels": job_voxels}
    text = yaml.safe_dump(CONFIG | {"predict": predict, "segment": {"method": method}})
    (folder / "config.yaml").write_text(text)
    layout = VolumeLayout(shape, "uint8", (30, 8, 8), (0, 0, 0), (8, 128, 128), BLOCK, None, False)
    write_json(folder / "results/receipts/survey/all.json", {"layout": vars(layout), "digest": "0"})


def measured(folder: Path, block_ranges: int, method: str) -> dict[str, Spent]:
    """Dry run, run of pretended jobs, and dry run of what is finished; 4 blocks per block range, 64 per section."""
    shape = (BLOCK[0] * -(-block_ranges * 4 // 64), BLOCK[1] * 8, BLOCK[2] * 8)
    prepare(folder, shape, method, 4 * prod(BLOCK))
    return {
        "-n": snakemake(folder, "-n"),
        "run": snakemake(folder, "--executor", "pretend", "--jobs", "100", "--cores", "100", "--latency-wait", "0"),
        "-n, finished": snakemake(folder, "-n"),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranges", type=int, nargs="*", default=[10, 100, 1000, 10_000])
    parser.add_argument("--method", choices=["components", "watershed"], default="components")
    parser.add_argument("--teravoxel", action="store_true")
    parser.add_argument("--folder", type=Path, default=ROOT / "results-benchmark-scheduling")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    folder, rows = arguments.folder.absolute(), {}
    print(f"{'block_ranges':>10}  {'':<14}{'clock':>10} {'processor':>10} {'memory':>10}")
    for block_ranges in [] if arguments.teravoxel else arguments.ranges:
        rows[block_ranges] = measured(folder, block_ranges, arguments.method)
        for name, spent in rows[block_ranges].items():
            print(f"{block_ranges:>10}  {name:<14}{spent}", flush=True)
    if arguments.teravoxel:
        prepare(folder, TERAVOXEL, arguments.method, "auto")
        rows["teravoxel"] = {"-n": (spent := snakemake(folder, "-n"))}
        print(f"{'1.1e12 vx':>10}  {'-n':<14}{spent}")
    print(
        json.dumps(
            {block_ranges: {name: vars(spent) for name, spent in row.items()} for block_ranges, row in rows.items()}
        )
    )


if __name__ == "__main__":
    main()
