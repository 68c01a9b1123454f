"""Locks between processes and between threads end with their holder; file systems without locks are tolerated."""

import errno
import fcntl
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.jobs.blockwise import BlockRangeJob
from unet.jobs.devices import acquire_devices
from unet.storage import locks
from unet.storage.locks import blocks_locked, lock_exclusive, lock_shared, locked, try_lock
from unet.storage.ngff import ImageSpec
from unet.storage.zarr_store import create_image, open_image

BOX, OTHER = Box((0, 0, 0), (1, 4, 4)), Box((1, 0, 0), (2, 4, 4))
ASK = """
import fcntl, sys
file = open(sys.argv[1], "a+b")
try:
    fcntl.lockf(file, getattr(fcntl, sys.argv[2]) | fcntl.LOCK_NB, int(sys.argv[4]), int(sys.argv[3]))
    print("free")
except BlockingIOError:
    print("taken")
"""
HOLD = """
import sys
from pathlib import Path
from unet.storage import locks
from unet.geometry.box import Box

path = Path(sys.argv[2])
if sys.argv[1] == "blocks":
    held = locks.blocks_locked(path, [Box.parse(sys.argv[3])])
    held.__enter__()
else:
    getattr(locks, sys.argv[1])(path)
print("held", flush=True)
sys.stdin.read()
"""
IMAGE = """
import sys
from pathlib import Path
from unet.storage.ngff import ImageSpec
from unet.storage.zarr_store import create_image

create_image(Path(sys.argv[1]), ImageSpec(**eval(sys.argv[2])))
print("held", flush=True)
sys.stdin.read()
"""
SPEC = {
    "name": "a", "shape": (2, 8, 8), "dtype": "uint8", "chunk": (1, 4, 4), "block": (2, 8, 8),
    "voxel_size_nm": (1, 1, 1)
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "POLL_S", 0.01)


def asked(path: Path, mode: str = "LOCK_EX", span: tuple[int, int] = (0, 1)) -> str:
    """Return what another process finds: `free` or `taken`."""
    command = [sys.executable, "-c", ASK, str(path), mode, *map(str, span)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def asked_of_block(path: Path, box: Box) -> str:
    """Return what another process finds for a block."""
    (span,) = locks._bytes_of_blocks([box])
    return asked(path, span=span)


class Elsewhere:
    """Another process that runs this code, and then waits until the test ends it."""

    def __init__(self, code: str, *arguments: str) -> None:
        command = [sys.executable, "-c", code, *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "held\n"

    def end(self) -> None:
        """End the process."""
        self._process.communicate()
        assert self._process.returncode == 0


@contextmanager
def waiting(work: Callable[[], object]) -> Iterator[threading.Event]:
    """Let a thread wait in `work` for a lock within the context; yield the event that is set at its end."""
    told, done = threading.Event(), threading.Event()

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "is being written by another process" in record.getMessage():
                told.set()

    def run() -> None:
        work()
        done.set()

    handler, thread = Told(), threading.Thread(target=run)
    locks.log.addHandler(handler)
    thread.start()
    try:
        assert told.wait(60), "nobody waits"
        assert not done.is_set()
        yield done
        thread.join(60)
        assert done.is_set()
    finally:
        locks.log.removeHandler(handler)


# Between processes


FAR = 1 << 21
"""Voxels along an axis beyond which the byte of a block is drawn."""
blocks_of_a_grid = st.tuples(*3 * [st.one_of(st.integers(0, 9), st.integers(FAR // 4 - 3, FAR // 4 + 3))]).map(
    lambda index: Box(tuple(4 * n for n in index), tuple(4 * n + 4 for n in index))
)


@given(blocks_of_a_grid, blocks_of_a_grid)
@example(Box((0, 0, FAR - 8), (4, 4, FAR - 4)), Box((0, 4, 0), (4, 8, 4)))
def test_two_blocks_share_no_byte(one: Box, other: Box) -> None:
    ((first, number),), ((start, length),) = locks._bytes_of_blocks([one]), locks._bytes_of_blocks([other])
    assert one == other or first + number <= start or start + length <= first
    assert first >= 0
    assert first + number < 2**63  # a position in a file


shapes = st.tuples(*3 * [st.integers(1, 4)])


@given(shapes, shapes, shapes, st.data())
def test_block_ranges_share_a_byte_if_they_share_a_block(
    shape: tuple[int, ...], block: tuple[int, ...], far: tuple[int, ...], data: st.DataObject
) -> None:
    """Also where an axis ends within the volume: some blocks have one byte in common, others one each."""
    origin = tuple(FAR - n if n % 2 else 0 for n in far)
    boxes = [box.shifted(origin) for box in Grid(shape, block).boxes()]
    cut = st.lists(st.integers(0, len(boxes)), min_size=2, max_size=2).map(sorted)
    (a, b), (c, d) = data.draw(cut), data.draw(cut)
    taken = [set[int](), set[int]()]
    for which, (begin, end) in enumerate([(a, b), (c, d)]):
        for first, number in locks._bytes_of_blocks(boxes[begin:end]):
            taken[which] |= {first, first + number - 1} | {
                byte for box in boxes for byte, _ in locks._bytes_of_blocks([box]) if first <= byte < first + number
            }
    assert bool(taken[0] & taken[1]) == (max(a, c) < min(b, d))


def test_the_blocks_of_a_job_are_one_lock_of_the_kernel(tmp_path: Path) -> None:
    """A kernel looks through all locks of a file at each call: 100,000 of them took a job many minutes to start."""
    path, grid = tmp_path / "lock", Grid((4, 8, 40), (4, 4, 4))
    with blocks_locked(path, grid.boxes()):
        inode = f":{path.stat().st_ino} "
        assert sum(inode in line for line in Path("/proc/locks").read_text().splitlines()) == 1
        assert {asked_of_block(path, box) for box in grid.boxes()} == {"taken"}
    assert {asked_of_block(path, box) for box in grid.boxes()} == {"free"}


def test_a_job_of_near_and_far_blocks_does_not_wait_for_itself(tmp_path: Path) -> None:
    """The bytes of near blocks, with what lies between, once held those that were drawn for far ones."""
    near = [Box((z, 0, 0), (z + 4, 4, 4)) for z in (0, FAR // 4)]
    far = [Box((4 * n, 0, FAR), (4 * n + 4, 4, FAR + 4)) for n in range(64)]
    spans = sorted(locks._bytes_of_blocks(sorted([*near, *far])))
    assert len(spans) == 65
    assert all(first + number <= start for (first, number), (start, _) in pairwise(spans))
    with blocks_locked(tmp_path / "lock", [*near, *far]):
        assert {asked_of_block(tmp_path / "lock", box) for box in (near[1], far[5])} == {"taken"}


def test_a_job_without_blocks_locks_nothing(tmp_path: Path) -> None:
    with blocks_locked(tmp_path / "lock", []):
        assert not (tmp_path / "lock").exists()


def test_those_who_share_keep_out_who_wants_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "writers"
    lock_shared(path)
    assert (asked(path, "LOCK_SH"), asked(path, "LOCK_EX")) == ("free", "taken")
    lock_exclusive(path)
    assert (asked(path, "LOCK_SH"), asked(path, "LOCK_EX")) == ("taken", "taken")
    lock_shared(path)
    assert asked(path, "LOCK_SH") == "free"


def test_who_takes_over_waits_until_the_last_other_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "writers"
    lock_shared(path)
    other = Elsewhere(HOLD, "lock_shared", str(path))
    with waiting(lambda: lock_exclusive(path)):
        other.end()
    assert asked(path, "LOCK_SH") == "taken"


def test_a_block_is_waited_for_and_others_are_not(tmp_path: Path) -> None:
    path = tmp_path / ".blocks.lock"

    def lock_both() -> None:
        with blocks_locked(path, [OTHER, BOX]):
            assert {asked_of_block(path, box) for box in (BOX, OTHER)} == {"taken"}

    other = Elsewhere(HOLD, "blocks", str(path), str(BOX))
    with blocks_locked(path, [OTHER]):
        assert asked_of_block(path, OTHER) == "taken"
    with waiting(lock_both):
        other.end()


@pytest.mark.parametrize("fails", [False, True])
def test_locks_are_released_with_their_context(tmp_path: Path, fails: bool) -> None:
    path, file = tmp_path / ".blocks.lock", tmp_path / "file.lock"
    try:
        with blocks_locked(path, [BOX, OTHER]), locked(file):
            assert [asked(file), asked_of_block(path, BOX), asked_of_block(path, OTHER)] == ["taken"] * 3
            if fails:
                raise ValueError("a bad block")
    except ValueError:
        pass
    assert [asked(file), asked_of_block(path, BOX), asked_of_block(path, OTHER)] == ["free"] * 3


def test_what_is_tried_is_taken_or_not_at_once(tmp_path: Path) -> None:
    path = tmp_path / "device.lock"
    release = try_lock(path)
    assert release is not None
    assert asked(path) == "taken"
    assert try_lock(path) is None
    release()
    assert asked(path) == "free"
    other = Elsewhere(HOLD, "try_lock", str(path))
    assert try_lock(path) is None
    other.end()


def test_a_block_range_whose_start_fails_releases_its_blocks(tmp_path: Path) -> None:
    class Broken:
        path, dtype = tmp_path / "s.zarr", np.dtype("uint8")

        def digest(self, box: Box) -> str:
            raise OSError("a broken disk")

        def size(self, box: Box) -> int:
            return 0

    line = '{"box":"0:1,0:4,0:4","fingerprint":"f","digest":"d","figures":{},"revision":1}\n'
    (tmp_path / "0-of-1.jsonl").write_text(line)
    job = BlockRangeJob("rule", [BOX], [Broken()], receipt=tmp_path / "0-of-1.json", fingerprint="f")
    with pytest.raises(OSError, match="a broken disk"), job:
        pass
    assert asked_of_block(tmp_path / ".blocks.lock", BOX) == "free"


@pytest.mark.parametrize("anew", [False, True], ids=["removed", "removed, and made anew by another process"])
def test_results_that_were_removed_have_locks_again(tmp_path: Path, anew: bool) -> None:
    path = tmp_path / "results" / ".writers"
    lock_shared(path)
    path.unlink()
    if anew:
        (tmp_path / "results" / "other").touch()  # takes the number of the removed file, where numbers are used again
        path.touch()
    lock_shared(path)
    assert asked(path) == "taken"
    with blocks_locked(path, [BOX]):
        assert asked_of_block(path, BOX) == "taken"


def test_a_store_is_not_replaced_under_another_writer(tmp_path: Path) -> None:
    where = tmp_path / "a.zarr"
    other = ImageSpec(**{**SPEC, "dtype": "uint16"})
    writer = Elsewhere(IMAGE, str(where), repr(SPEC))
    create_image(where, ImageSpec(**SPEC))  # the same is opened at once
    with waiting(lambda: create_image(where, other)):
        assert open_image(where).spec == ImageSpec(**SPEC)
        writer.end()
    assert open_image(where).spec == other


# Between threads


def test_threads_that_open_a_file_at_once_keep_its_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second handle of the file would drop the locks of the first when it is closed."""
    opened: list[Path] = []
    real = Path.open

    def counting(path: Path, *arguments: str) -> object:
        opened.append(path)
        return real(path, *arguments)

    monkeypatch.setattr(Path, "open", counting)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for number in range(50):
            path, begin = tmp_path / f"{number}.lock", threading.Barrier(8)
            threads = [threading.Thread(target=lambda p=path, b=begin: (b.wait(), lock_shared(p))) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert opened.count(path) == 1
    finally:
        sys.setswitchinterval(before)
    assert asked(path) == "taken"


@pytest.mark.parametrize("lock", [locked, lambda path: blocks_locked(path, [OTHER, BOX])], ids=["file", "blocks"])
def test_threads_are_kept_apart_like_processes(
    tmp_path: Path, lock: Callable[[Path], AbstractContextManager[None]]
) -> None:
    path = tmp_path / ".blocks.lock"

    def work() -> None:
        with lock(path):
            assert asked_of_block(path, BOX) == "taken" or asked(path) == "taken"

    held = lock(path)
    held.__enter__()
    with waiting(work):
        held.__exit__(None, None, None)
    assert (asked(path), asked_of_block(path, BOX)) == ("free", "free")


@pytest.mark.parametrize("together", [[BOX, OTHER], [OTHER, BOX]], ids=["first one first", "last one first"])
def test_threads_lock_different_blocks_at_once(tmp_path: Path, together: list[Box]) -> None:
    path, done = tmp_path / ".blocks.lock", threading.Event()

    def work() -> None:
        with blocks_locked(path, together[1:]):
            done.set()

    with blocks_locked(path, together[:1]):
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        assert done.wait(60)
    thread.join(60)


# Where there are no locks


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_told_once_and_worked_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    def none(*_: object) -> None:
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "lockf", none)
    monkeypatch.setattr(fcntl, "flock", none)
    path = tmp_path / ".lock"
    for _ in range(2):
        with locked(path), blocks_locked(tmp_path / ".blocks.lock", [BOX, OTHER]):
            lock_shared(path)
            lock_exclusive(path)
            assert try_lock(path) is None, "threads are kept apart all the same"
    for file in (".lock", ".blocks.lock"):
        assert caplog.text.count(f"/{file}: this file system has no locks; let no second run work on these") == 1
    create_image(tmp_path / "a.zarr", ImageSpec(**SPEC))
    assert create_image(tmp_path / "a.zarr", ImageSpec(**SPEC)).spec == ImageSpec(**SPEC)
    with acquire_devices(tmp_path, ["0", "1"], timeout=0) as first, acquire_devices(tmp_path, ["0", "1"]) as second:
        assert (first, second) == (["0"], ["1"])


def test_other_errors_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "lockf", broken)
    with pytest.raises(OSError, match="Input/output error"), locked(tmp_path / ".lock"):
        pass
    monkeypatch.undo()
    with locked(tmp_path / ".lock"):
        pass
