"""Locks between processes, on one machine or on several that share a file system; they go with their holder.

They are POSIX record locks: byte by byte, known to NFS, and of the process, so that its threads share them.
"""

import errno
import fcntl
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import IO

from unet.geometry import Box

log = logging.getLogger(__name__)

WAIT_SECONDS = 0.5
"""Between two looks whether a lock has become free."""
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
_OPEN: dict[Path, IO[bytes]] = {}
"""One handle a file and process: closing any handle of a file would drop all of the process's locks on it."""


@contextmanager
def blocks_locked(path: Path, boxes: Iterable[Box]) -> Iterator[None]:
    """Hold the locks of some blocks, each a byte of one file; waits for those that another process holds.

    A block has the same byte however the volume is shared out between jobs, so that those of another sharding are
    noticed as well. All lock in scan order and thus never wait in a circle.
    """
    file, ordered = _opened(path), sorted(boxes)
    try:
        for box in ordered:
            _wait_for(file, fcntl.LOCK_EX, _byte_of(box), f"block {box}")
        yield
    finally:
        for box in ordered:
            _unlock(file, _byte_of(box))


def share(path: Path) -> None:
    """Hold a lock with others until this process ends, or `take_over`s it."""
    _wait_for(_opened(path), fcntl.LOCK_SH, 0, path.name)


def take_over(path: Path) -> None:
    """Wait until no other process shares a lock any more, and hold it alone."""
    _wait_for(_opened(path), fcntl.LOCK_EX, 0, path.name)


def _opened(path: Path) -> IO[bytes]:
    known = _OPEN.get(path)
    if known is None or not path.exists():  # results may have been removed and made anew
        path.parent.mkdir(parents=True, exist_ok=True)
        known = _OPEN[path] = path.open("a+b")
    return known


def _wait_for(file: IO[bytes], mode: int, byte: int, what: str) -> None:
    told = False
    while not _try_lock(file, mode, byte):
        if not told:
            log.warning(
                "%s is being written by another process: another run on these results, or a job that an earlier run "
                "left behind (on a cluster, scancel it); waiting until it ends",
                what,
            )
        told = True
        time.sleep(WAIT_SECONDS)


def _try_lock(file: IO[bytes], mode: int, byte: int) -> bool:
    try:
        fcntl.lockf(file, mode | fcntl.LOCK_NB, 1, byte)
    except OSError as error:
        if error.errno in WITHOUT_LOCKS:
            log.warning("%s: this file system has no locks; let no second run work on these results", file.name)
            return True
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    return True


def _unlock(file: IO[bytes], byte: int) -> None:
    try:
        fcntl.lockf(file, fcntl.LOCK_UN, 1, byte)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise


def _byte_of(box: Box) -> int:
    return 1 + int.from_bytes(blake2b(str(box).encode(), digest_size=7).digest(), "little")
