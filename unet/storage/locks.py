"""Locks between processes, on one machine or on several that share a file system, and between threads.

Between processes they are POSIX record locks: byte by byte, known to NFS, and gone with the process that holds them.
Threads of one process share those, so what one holder at a time may do (`locked`, `blocks_locked`, `try_lock`) is
locked within the process as well. `lock_shared` and `lock_exclusive` are of the process as a whole.
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

log = logging.getLogger(__name__)

WAIT_SECONDS = 0.5
"""Between two looks whether a lock has become free."""
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""Answers of file systems that have no locks."""
_GUARD = threading.Lock()
"""Of the three tables below."""
_OPEN: dict[Path, IO[bytes]] = {}
"""One handle a file and process: closing any handle of a file would drop all of the process's locks on it."""
_OF_THREADS: WeakValueDictionary[tuple[Path, int], threading.Lock] = WeakValueDictionary()
"""What keeps the threads of this process apart, as long as one of them holds it or waits for it."""
_WARNED: set[Path] = set()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, alone among all processes and threads; waits for it."""
    with _alone(path, 0, path.name):
        yield


@contextmanager
def blocks_locked(path: Path, boxes: Iterable[Box]) -> Iterator[None]:
    """Hold the locks of some blocks, each a byte of one file; waits for those that somebody else holds.

    A block has the same byte however the volume is shared out between jobs, so that those of another sharding are
    noticed as well. All lock in scan order and thus never wait in a circle.
    """
    with ExitStack() as held:
        for box in sorted(boxes):
            held.enter_context(_alone(path, _byte_of(box), f"block {box}"))
        yield


def try_lock(path: Path) -> Callable[[], None] | None:
    """Take the lock of a file, alone among all processes and threads: what releases it; None where it is taken."""
    return _try_alone(path, 0)


def lock_shared(path: Path) -> None:
    """Hold a lock with other processes until this one ends, or `lock_exclusive`s it."""
    _wait_for(lambda: _try_lock_byte(path, fcntl.LOCK_SH, 0), path.name)


def lock_exclusive(path: Path) -> None:
    """Wait until no other process shares a lock any more, and hold it alone."""
    _wait_for(lambda: _try_lock_byte(path, fcntl.LOCK_EX, 0), path.name)


@contextmanager
def _alone(path: Path, byte: int, what: str) -> Iterator[None]:
    release = _wait_for(lambda: _try_alone(path, byte), what)
    try:
        yield
    finally:
        release()


def _try_alone(path: Path, byte: int) -> Callable[[], None] | None:
    with _GUARD:
        of_threads = _OF_THREADS.setdefault((path.absolute(), byte), threading.Lock())
    if not of_threads.acquire(blocking=False):
        return None
    release = None
    try:
        release = _try_lock_byte(path, fcntl.LOCK_EX, byte)
    finally:
        if release is None:
            of_threads.release()
    return release and _both(release, of_threads.release)


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def release() -> None:
        try:
            first()
        finally:
            second()

    return release


def _wait_for(attempt: Callable[[], Callable[[], None] | None], what: str) -> Callable[[], None]:
    """Try until it succeeds; what releases the lock."""
    told = False
    while (release := attempt()) is None:
        if not told:
            log.warning(
                "%s is being written by another process: another run on these results, or a job that an earlier run "
                "left behind (on a cluster, scancel it); waiting until it ends",
                what,
            )
        told = True
        time.sleep(WAIT_SECONDS)
    return release


def _try_lock_byte(path: Path, mode: int, byte: int) -> Callable[[], None] | None:
    """Lock a byte of a file for this process: what releases it; None where another process holds it."""
    file = _opened(path)
    try:
        fcntl.lockf(file, mode | fcntl.LOCK_NB, 1, byte)
    except OSError as error:
        if error.errno in WITHOUT_LOCKS:
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
        if error.errno not in WITHOUT_LOCKS:
            raise


def _opened(path: Path) -> IO[bytes]:
    path = path.absolute()
    with _GUARD:
        known = _OPEN.get(path)
        if known is None or not _is_still(known, path):  # results may have been removed and made anew
            path.parent.mkdir(parents=True, exist_ok=True)
            known = _OPEN[path] = path.open("a+b")
        return known


def _is_still(file: IO[bytes], path: Path) -> bool:
    """Whether an open file is the one of that name, and not one that was removed."""
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


def _byte_of(box: Box) -> int:
    return 1 + int.from_bytes(blake2b(str(box).encode(), digest_size=7).digest(), "little")
