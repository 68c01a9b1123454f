"""Blocks of a block range: only unfinished blocks are processed, however the run before ended."""

import errno
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.jobs.blockwise import BlockOutput, DiskFullError, run_blocks
from unet.jobs.journal import Journal
from unet.storage import locks
from unet.storage.files import read_json

BOXES = Grid((1, 4, 12), (1, 4, 2)).boxes()
NOW = dict.fromkeys(BOXES, "now")


class Disk:
    """Fake store: its files, and the blocks that were made."""

    dtype = np.dtype("uint8")

    def __init__(self, path: Path = Path("disk.zarr")) -> None:
        self.path = path
        self.files: dict[Box, str] = {}
        self.made: list[Box] = []

    @property
    def name(self) -> str:
        """Return the digest of the block's file."""
        return self.path.name

    def digest(self, box: Box) -> str | None:
        """Return the content of a block's file."""
        return self.files.get(box)

    def size(self, box: Box) -> int | None:
        """Return the bytes of a block's file."""
        return len(self.files[box]) if box in self.files else None

    def work(self, box: Box) -> BlockOutput:
        """Write a block."""
        self.made.append(box)
        self.files[box] = f"content of {box}"
        return self.files[box], {"voxels_seen": box.size}


def run(
    disk: Disk,
    folder: Path,
    work: Callable[[Box], BlockOutput] | None = None,
    fingerprint: str = "now",
    threads: int = 1,
) -> list[Box]:
    """Run block range 0-of-1, and return the blocks that were made by this run."""
    disk.made.clear()
    receipt = folder / "0-of-1.json"
    run_blocks(
        "test",
        BOXES,
        work or disk.work,
        [disk],
        receipt=receipt,
        fingerprint=fingerprint,
        threads=threads,
    )
    return sorted(disk.made)


def said_by_blockwise(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Messages of the module; other modules log as well, if another test has set the level."""
    return [record.getMessage() for record in caplog.records if record.name == "unet.jobs.blockwise"]


def test_a_finished_block_range_is_not_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "unet.jobs.blockwise")
    disk = Disk()
    assert run(disk, tmp_path) == BOXES
    assert not said_by_blockwise(caplog)  # nothing was finished, which is no news
    first = read_json(tmp_path / "0-of-1.json")
    assert (first["blocks"], first["voxels"], first["voxels_seen"], first["run"]["blocks_made"]) == (6, 48, 48, 6)
    assert run(disk, tmp_path) == []
    assert said_by_blockwise(caplog) == ["6 of 6 blocks are finished already"]
    second = read_json(tmp_path / "0-of-1.json")
    assert second == {**first, "run": {"blocks_made": 0}}


@pytest.mark.parametrize("failing", range(len(BOXES)))
def test_a_failing_block_stops_the_run_and_the_finished_ones_stay(tmp_path: Path, failing: int) -> None:
    disk = Disk()

    def broken(box: Box) -> BlockOutput:
        if box == BOXES[failing]:
            raise OSError(f"disk full at {box}")
        return disk.work(box)

    with pytest.raises(OSError, match=f"disk full at {BOXES[failing]}"):
        run(disk, tmp_path, broken)
    assert not (tmp_path / "0-of-1.json").exists()
    finished = Journal(tmp_path / "0-of-1.jsonl").finished(NOW, disk.files.get)
    assert set(BOXES[:failing]) <= set(finished) == set(disk.files)
    assert run(disk, tmp_path) == [box for box in BOXES if box not in finished]
    assert read_json(tmp_path / "0-of-1.json")["voxels_seen"] == 48


def test_the_receipt_tells_where_it_ran_and_how_earlier_runs_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()

    def broken(box: Box) -> BlockOutput:
        if box == BOXES[4]:
            raise ValueError("bad block")
        return disk.work(box)

    for slurm_job, fingerprint in (("6", "older"), ("7", "now")):
        monkeypatch.setenv("SLURM_JOB_ID", slurm_job)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
        with pytest.raises(ValueError, match="bad block"):
            run(disk, tmp_path, broken, fingerprint)
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    run(disk, tmp_path)
    told = read_json(tmp_path / "0-of-1.json")["run"]
    [ended] = told.pop("ended_before")
    made = ended["blocks_made"]
    assert ended == {"ended": "bad block", "slurm_job": "7", "cuda_visible_devices": "1", "blocks_made": made}
    assert told == {"blocks_made": len(BOXES) - made, "slurm_job": "8", "cuda_visible_devices": "1"}
    assert made >= 4


def test_blocks_in_flight_when_another_fails_are_recorded_too(tmp_path: Path) -> None:
    disk, failed = Disk(), threading.Event()

    def work(box: Box) -> BlockOutput:
        if box == BOXES[0]:
            failed.set()
            raise ValueError("bad block")
        failed.wait(20)
        return disk.work(box)

    with pytest.raises(ValueError, match="bad block"):
        run(disk, tmp_path, work, threads=2)
    finished = set(Journal(tmp_path / "0-of-1.jsonl").finished(NOW, disk.files.get))
    assert finished == set(disk.files)
    assert BOXES[1] in finished


def test_exactly_what_is_missing_or_changed_is_made_again(tmp_path: Path) -> None:
    disk = Disk()
    run(disk, tmp_path)
    del disk.files[BOXES[1]]
    disk.files[BOXES[4]] = "cut short"
    assert run(disk, tmp_path) == [BOXES[1], BOXES[4]]


def test_another_fingerprint_makes_all_again(tmp_path: Path) -> None:
    disk = Disk()
    run(disk, tmp_path)
    assert run(disk, tmp_path, fingerprint="another model") == BOXES


def test_a_new_division_makes_nothing_again(tmp_path: Path) -> None:
    disk = Disk()
    run(disk, tmp_path)
    disk.made.clear()
    for k, share in enumerate((BOXES[:3], BOXES[3:])):
        receipt = tmp_path / f"{k}-of-2.json"
        run_blocks("test", share, disk.work, [disk], receipt=receipt, fingerprint="now")
        assert read_json(receipt)["blocks"] == 3
    assert disk.made == []


HOLD = """
import sys
from pathlib import Path
from unet.geometry.box import Box
from unet.storage.locks import blocks_locked
with blocks_locked(Path(sys.argv[1]), [Box.parse(sys.argv[2])]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holding(folder: Path, box: Box) -> Iterator[subprocess.Popen[str]]:
    """Start another process that holds the lock of a block until it is ended."""
    command = [sys.executable, "-c", HOLD, str(folder / ".blocks.lock"), str(box)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """Calls that take the place of the pauses in which a lock is waited for; another pause is an error."""
    calls: list[Callable[[], object]] = []
    monkeypatch.setattr(locks, "time", SimpleNamespace(sleep=lambda seconds: calls.pop()()))
    return calls


def test_a_block_that_another_process_writes_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, waits: list[Callable[[], object]]
) -> None:
    disk = Disk()
    with holding(tmp_path, BOXES[3]) as other:

        def end_the_other() -> None:
            assert BOXES[3] not in disk.made
            other.communicate()

        waits.append(end_the_other)
        assert run(disk, tmp_path) == BOXES
    row = f"a block from {BOXES[0]} to {BOXES[-1]}"  # whose locks are taken together
    assert f"{row} is being written by another process" in caplog.text
    assert (waits, other.returncode) == ([], 0)


def test_a_killed_process_leaves_no_lock(tmp_path: Path, waits: list[Callable[[], object]]) -> None:
    with holding(tmp_path, BOXES[3]) as other:
        other.kill()
        other.wait()
        assert run(Disk(), tmp_path) == BOXES


def test_other_blocks_are_not_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, waits: list[Callable[[], object]]
) -> None:
    with holding(tmp_path, Box((9, 9, 9), (10, 10, 10))):
        assert run(Disk(), tmp_path) == BOXES
    assert "being written" not in caplog.text


def test_a_full_disk_is_told_with_what_is_free_and_what_is_needed(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "disk.zarr")

    def full(box: Box) -> BlockOutput:
        if box == BOXES[2]:
            raise RuntimeError("a library's words") from OSError(errno.ENOSPC, "No space left on device")
        return disk.work(box)

    with pytest.raises(
        DiskFullError, match=r"No space left on device; [\d.]+ MB are free, and the \d block\(s\) .* take about"
    ):
        run(disk, tmp_path, full)
    assert BOXES[2] in run(disk, tmp_path)


def test_before_the_first_block_what_a_full_disk_needs_is_told_by_the_largest_block(tmp_path: Path) -> None:
    """Two blocks of a byte per voxel, of which the larger has 10^8."""
    boxes = [Box((0, 0, 0), (100, 1000, 1000)), Box((100, 0, 0), (101, 1, 1))]

    def full(box: Box) -> BlockOutput:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFullError, match=r"the 2 block\(s\) that this job has yet to write take about 200.0 MB"):
        run_blocks("test", boxes, full, [Disk(tmp_path / "a")], receipt=tmp_path / "0-of-1.json", fingerprint="now")


def test_the_answer_does_not_depend_on_the_threads(tmp_path: Path) -> None:
    receipts = []
    for threads in (1, 4):
        run(Disk(), tmp_path / str(threads), threads=threads)
        receipts.append((tmp_path / str(threads) / "0-of-1.json").read_text())
    assert receipts[0] == receipts[1]
