"""Locks between threads, and between processes on one machine or on several that share a file system.

Between processes they are POSIX record locks. They lock single bytes of a file, work on NFS, and end with the process
that holds them. All threads of a process share a record lock, so `locked`, `blocks_locked` and `try_lock` also take a
lock between threads. `lock_shared` and `lock_exclusive` lock for the process as a whole.
"""

import errno
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import IO
from weakref import WeakValueDictionary

from unet.geometry.box import Box
from unet.storage.error_causes import NO_LOCKS

log = logging.getLogger(__name__)

POLL_S = 0.5
"""Seconds between two attempts to take a lock."""
_GUARD = threading.Lock()
"""Guards the three tables below."""
_OPEN_FILES: dict[Path, IO[bytes]] = {}
"""One handle per lock file, kept open: closing any handle of a file drops all locks of the process on that file."""
_THREAD_LOCKS: WeakValueDictionary[tuple[Path, int], threading.Lock] = WeakValueDictionary()
"""Locks between the threads of this process by file and byte, kept while a thread holds the lock or waits for it."""
_WARNED: set[Path] = set()
"""Lock files for which a warning was logged that their file system has no locks."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock of a file, and hold it against all other processes and threads."""
    with _lock_byte(path, 0, path.name):
        yield


@contextmanager
def blocks_locked(path: Path, boxes: Iterable[Box]) -> Iterator[None]:
    """Wait for the locks of blocks, each of which is a byte of one file, and hold them.

    A block's byte does not depend on the block ranges, so jobs with other block ranges are kept out as well. All jobs
    lock in scan order, which excludes deadlocks.
    """
    with ExitStack() as held:
        for box in sorted(boxes):
            held.enter_context(_lock_byte(path, _byte_of_block(box), f"block {box}"))
        yield


def try_lock(path: Path) -> Callable[[], None] | None:
    """Take the lock of a file without waiting, and return the function that releases it; None if the lock is taken."""
    return _try_lock_byte(path, 0)


def lock_shared(path: Path) -> None:
    """Hold a lock together with other processes, until this process ends or calls `lock_exclusive`."""
    _wait_for(lambda: _try_record_lock(path, fcntl.LOCK_SH, 0), path.name)


def lock_exclusive(path: Path) -> None:
    """Wait until no other process holds a shared lock, and hold the lock alone. `lock_shared` shares it again."""
    _wait_for(lambda: _try_record_lock(path, fcntl.LOCK_EX, 0), path.name)


@contextmanager
def _lock_byte(path: Path, byte: int, what: str) -> Iterator[None]:
    release = _wait_for(lambda: _try_lock_byte(path, byte), what)
    try:
        yield
    finally:
        release()


def _try_lock_byte(path: Path, byte: int) -> Callable[[], None] | None:
    """Lock a byte of a file against all threads and processes, and return the function that releases it."""
    with _GUARD:
        thread_lock = _THREAD_LOCKS.setdefault((path.absolute(), byte), threading.Lock())
    if not thread_lock.acquire(blocking=False):
        return None
    release = None
    try:
        release = _try_record_lock(path, fcntl.LOCK_EX, byte)
    finally:
        if release is None:
            thread_lock.release()
    return release and _both(release, thread_lock.release)


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def release() -> None:
        try:
            first()
        finally:
            second()

    return release


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


def _try_record_lock(path: Path, mode: int, byte: int) -> Callable[[], None] | None:
    """Lock a byte of a file for this process, and return the function that releases it; None if it is taken."""
    file = _open_lock_file(path)
    try:
        fcntl.lockf(file, mode | fcntl.LOCK_NB, 1, byte)
    except OSError as error:
        if error.errno in NO_LOCKS:
            _warn_without_locks(path)
        elif error.errno in (errno.EAGAIN, errno.EACCES):
            return None
        else:
            raise
    return lambda: _unlock(file, byte)


def _unlock(file: IO[bytes], byte: int) -> None:
    try:
        fcntl.lockf(file, fcntl.LOCK_UN, 1, byte)
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


def _byte_of_block(box: Box) -> int:
    return 1 + int.from_bytes(blake2b(str(box).encode(), digest_size=7).digest(), "little")
