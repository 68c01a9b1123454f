"""Locks between threads, and between processes on one machine or on several that share a file system.

Between processes they are POSIX record locks. They lock bytes of a file, work on NFS, and end with the process that
holds them. All threads of a process share a record lock, so `locked`, `blocks_locked` and `try_lock` also note the
bytes that a thread holds. `lock_shared` and `lock_exclusive` lock for the process as a whole.
"""

import errno
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import IO

from unet.geometry.box import Box, Index
from unet.storage.error_causes import NO_LOCKS

log = logging.getLogger(__name__)

Span = tuple[int, int]
"""Bytes of a file: the first one, and how many."""
POLL_S = 0.5
"""Seconds between two attempts to take a lock."""
AXIS_BITS = 21
"""Bits per axis of the byte that stands for a voxel in a file of locks; z has one less."""
DRAWN = 1 << 62
"""Byte behind those that stand for voxels: from here on each byte stands for a block that is beyond these bits."""
_GUARD = threading.Lock()
"""Guards the tables below."""
_OPEN_FILES: dict[Path, IO[bytes]] = {}
"""One handle per lock file, kept open: closing any handle of a file drops all locks of the process on that file."""
_HELD: set[tuple[Path, Span]] = set()
"""Bytes of files that threads of this process hold."""
_WARNED: set[Path] = set()
"""Lock files for which a warning was logged that their file system has no locks."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock of a file, and hold it against all other processes and threads."""
    with _lock_bytes(path, [(0, 1)], path.name):
        yield


@contextmanager
def blocks_locked(path: Path, boxes: Iterable[Box]) -> Iterator[None]:
    """Wait for the locks of blocks that follow each other in the scan order of their grid, and hold them.

    Bytes of one file stand for the blocks. They do not depend on the block ranges, so jobs with other block ranges are
    kept out as well.
    """
    ordered = sorted(boxes)
    if not ordered:
        yield
        return
    what = f"block {ordered[0]}" if len(ordered) == 1 else f"a block from {ordered[0]} to {ordered[-1]}"
    with _lock_bytes(path, _bytes_of_blocks(ordered), what):
        yield


def try_lock(path: Path) -> Callable[[], None] | None:
    """Take the lock of a file without waiting, and return the function that releases it; None if the lock is taken."""
    return _try_lock_bytes(path, [(0, 1)])


def lock_shared(path: Path) -> None:
    """Hold a lock together with other processes, until this process ends or calls `lock_exclusive`."""
    _wait_for(lambda: _try_record_lock(path, fcntl.LOCK_SH, (0, 1)), path.name)


def lock_exclusive(path: Path) -> None:
    """Wait until no other process holds a shared lock, and hold the lock alone. `lock_shared` shares it again."""
    _wait_for(lambda: _try_record_lock(path, fcntl.LOCK_EX, (0, 1)), path.name)


@contextmanager
def _lock_bytes(path: Path, spans: Sequence[Span], what: str) -> Iterator[None]:
    release = _wait_for(lambda: _try_lock_bytes(path, spans), what)
    try:
        yield
    finally:
        release()


def _try_lock_bytes(path: Path, spans: Sequence[Span]) -> Callable[[], None] | None:
    """Lock spans of bytes against all threads and processes, and return the function that releases them; None if a
    byte is taken."""
    path = path.absolute()
    with ExitStack() as held:
        for span in spans:
            if not _take_in_process(path, span):
                return None
            held.callback(_HELD.discard, (path, span))
            release = _try_record_lock(path, fcntl.LOCK_EX, span)
            if release is None:
                return None
            held.callback(release)
        return held.pop_all().close


def _take_in_process(path: Path, span: Span) -> bool:
    """Note that a thread of this process holds bytes of a file; False if another thread holds one of them."""
    with _GUARD:
        is_free = not any(other == path and _overlap(span, bytes_held) for other, bytes_held in _HELD)
        if is_free:
            _HELD.add((path, span))
        return is_free


def _overlap(a: Span, b: Span) -> bool:
    return max(a[0], b[0]) < min(sum(a), sum(b))


def _wait_for(attempt: Callable[[], Callable[[], None] | None], what: str) -> Callable[[], None]:
    """Repeat an attempt until it succeeds, and return the function that releases the lock."""
    is_logged = False
    while (release := attempt()) is None:
        if not is_logged:
            log.warning(
                "%s is being written by another process: another run on these results, or a job that an earlier run "
                "left behind (on a cluster, scancel it); waiting until it ends",
                what,
            )
        is_logged = True
        time.sleep(POLL_S)
    return release


def _try_record_lock(path: Path, mode: int, span: Span) -> Callable[[], None] | None:
    """Lock bytes of a file for this process, and return the function that releases them; None if they are taken."""
    file, (first, number) = _open_lock_file(path), span
    try:
        fcntl.lockf(file, mode | fcntl.LOCK_NB, number, first)
    except OSError as error:
        if error.errno in NO_LOCKS:
            _warn_without_locks(path)
        elif error.errno in (errno.EAGAIN, errno.EACCES):
            return None
        else:
            raise
    return lambda: _unlock(file, span)


def _unlock(file: IO[bytes], span: Span) -> None:
    first, number = span
    try:
        fcntl.lockf(file, fcntl.LOCK_UN, number, first)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


def _open_lock_file(path: Path) -> IO[bytes]:
    path = path.absolute()
    with _GUARD:
        file = _OPEN_FILES.get(path)
        if file is None or not _is_file_of(file, path):  # the results folder may have been removed and created anew
            path.parent.mkdir(parents=True, exist_ok=True)
            file = _OPEN_FILES[path] = path.open("a+b")
        return file


def _is_file_of(file: IO[bytes], path: Path) -> bool:
    """Tell whether an open file still has this path, as opposed to a file that was removed."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _warn_without_locks(path: Path) -> None:
    with _GUARD:
        is_new = path not in _WARNED
        _WARNED.add(path)
    if is_new:
        log.warning("%s: this file system has no locks; let no second run work on these results", path)


def _bytes_of_blocks(boxes: Sequence[Box]) -> list[Span]:
    """Return the bytes that stand for blocks that follow each other in scan order: from the first voxel of the first
    block to the first row of the last one, with what lies between.

    So a job holds one lock, whatever the number of its blocks: a kernel looks through all locks of a file at each call.
    A block beyond 2^20 sections, or 2^21 voxels along y or x, has one byte of its own, drawn by a hash.
    """
    near = [box for box in boxes if not _is_far(box)]
    spans = [(_drawn_position(box), 1) for box in boxes if _is_far(box)]
    if near:
        begin, (*row, _), (*_, end) = _position(near[0].start), near[-1].start, near[-1].stop
        spans.append((begin, _position((*row, end)) - begin))
    return list(dict.fromkeys(spans))


def _is_far(box: Box) -> bool:
    z, y, x = box.stop
    return z >= 1 << (AXIS_BITS - 1) or max(y, x) >= 1 << AXIS_BITS


def _drawn_position(box: Box) -> int:
    return DRAWN + int.from_bytes(blake2b(str(box).encode(), digest_size=7).digest(), "little")


def _position(voxel: Index) -> int:
    """Return the byte that stands for a voxel: bytes are in scan order."""
    z, y, x = voxel
    return ((z << AXIS_BITS | y) << AXIS_BITS) + x
