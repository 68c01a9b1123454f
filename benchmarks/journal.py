"""Cost of the journals of a large volume to the jobs that read them: time and memory, without a voxel.

    python benchmarks/journal.py                                    # 100,000 blocks in 1,000 jobs
    python benchmarks/journal.py --blocks 2_000_000 --records 3     # half a petavoxel, made anew twice

1. Journals are written as ingest of a 16-bit volume writes them, each job its blocks in turn.
2. A process of its own starts the `BlockRangeJob` of the last block range, whose last block is missing. The files of
   the others are said to be as they were written.
3. It looks twice how far all jobs are, records the block and writes its receipt.
4. Another one sums up all blocks, as `reproduce` does.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import starter

from unet.geometry.block_ranges import boxes_of_range
from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.jobs.blockwise import BlockRangeJob
from unet.jobs.journal import Journal, summarise

BLOCK = (16, 1024, 1024)
ROW = 10
"""Blocks along y and x."""


class Store:
    """Holds what the journals say."""

    name, path, dtype = "raw", Path("raw.zarr"), np.dtype("uint16")

    def digest(self, box: Box) -> str:
        """Return the same value for every block."""
        return "d" * 32

    def size(self, box: Box) -> int:
        """Return the same value for every block."""
        return 16_000_000


def volume(blocks: int) -> Grid:
    """Return the grid of a volume of `blocks` blocks, or a few more to fill its last layer."""
    layers = -(-blocks // ROW**2)
    return Grid((layers * BLOCK[0], ROW * BLOCK[1], ROW * BLOCK[2]), BLOCK)


def write_journals(folder: Path, grid: Grid, jobs: int, records: int) -> float:
    """Record every block `records` times, the last time as it is now, except for the last block; return the MB."""
    figures: dict[str, object] = {"levels": {}, "bytes": 16_000_000}
    last = grid.boxes()[-1]
    for number_of_job in range(jobs):
        name = f"{number_of_job}-of-{jobs}"
        with (folder / f"{name}.jsonl").open("w") as file:
            for number in range(1, records + 1):
                fingerprint = "f" * 32 if number == records else f"{number:032x}"
                for box in boxes_of_range(grid, name):
                    if box != last or number < records:
                        line = {
                            "box": str(box),
                            "fingerprint": fingerprint,
                            "digest": "d" * 32,
                            "figures": figures,
                        }
                        file.write(json.dumps(line | {"revision": number}, separators=(",", ":")) + "\n")
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e6


def timed(seconds: dict[str, float], what: str, work: Callable[[], object]) -> object:
    """Return the result of `work`, and note its seconds."""
    begin = time.perf_counter()
    result = work()
    seconds[what] = time.perf_counter() - begin
    return result


def job(folder: Path, grid: Grid, jobs: int) -> dict[str, float]:
    """Do what a job does with its journal; seconds of each step."""
    name, seconds = f"{jobs - 1}-of-{jobs}", dict[str, float]()
    boxes, receipt = boxes_of_range(grid, name), folder / f"{name}.json"
    block_range = BlockRangeJob("ingest", boxes, [Store()], receipt=receipt, fingerprint="f" * 32)
    timed(seconds, "start", block_range.__enter__)
    assert block_range.unfinished == boxes[-1:]
    journal = Journal.of_receipt(receipt)
    for what in ("first look", "next look"):
        done = timed(seconds, what, lambda: journal.count_voxels("f" * 32))
        assert done == sum(box.size for box in grid.boxes()) - boxes[-1].size
    timed(seconds, "record", lambda: block_range.record(boxes[-1], ("d" * 32, {})))
    timed(seconds, "receipt", block_range.finish)
    block_range.__exit__(None, None, None)
    return seconds


def whole(folder: Path, grid: Grid, jobs: int) -> dict[str, float]:
    """Sum up the blocks of the volume; seconds."""
    seconds: dict[str, float] = {}
    journal = Journal(folder / f"0-of-{jobs}.jsonl")
    timed(seconds, "all blocks", lambda: summarise(journal.latest().values()))
    return seconds


def measured(part: str, folder: Path, arguments: argparse.Namespace) -> tuple[dict[str, float], float]:
    """Return the seconds of each step of a part, and its peak memory in MB, in a process of its own."""
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder)]
    command += ["--blocks", str(arguments.blocks), "--jobs", str(arguments.jobs)]
    said = subprocess.run(command, env=starter.environment(), capture_output=True, text=True, check=True).stdout
    values = json.loads(said)
    return values["seconds"], values["peak_mb"]


def main() -> None:
    """Write the journals, measure, and print a line of a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--records", type=int, default=1, help="how often each block was made")
    parser.add_argument("--part", choices=["job", "whole"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    grid = volume(arguments.blocks)
    if arguments.part:
        seconds = (job if arguments.part == "job" else whole)(arguments.folder, grid, arguments.jobs)
        high = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        print(json.dumps({"seconds": seconds, "peak_mb": int(high.split()[1]) / 1024}))
        return
    with tempfile.TemporaryDirectory() as folder:
        size = write_journals(Path(folder), grid, arguments.jobs, arguments.records)
        print(f"{len(grid):,} blocks, {arguments.jobs:,} jobs, {arguments.records} record(s) each: {size:,.0f} MB")
        for part in ("job", "whole"):
            steps, peak = measured(part, Path(folder), arguments)
            for what, took in steps.items():
                print(f"  {what:12} {took:9.3f} s")
            print(f"  {'peak':12} {peak:9.0f} MB")


if __name__ == "__main__":
    main()
