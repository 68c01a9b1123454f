"""A disk and a process that fail while a job writes: killed, full, or closed to writing, after some number of units.

A unit is a byte that reaches the file system, or one operation on names: open to write, rename, link, remove, make a
folder. Files are written through Python alone, so what is on disk after `kill` is what a SIGKILL leaves: bytes that
Python still buffers are lost, and a write may be cut in the middle.
"""

import builtins
import errno
import io
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

KINDS = ("kill", "full", "denied")
OPERATIONS = ("replace", "rename", "link", "unlink", "remove", "mkdir", "rmdir")
NEEDS_ROOM = ("mkdir",)
"""Operations that need room on a disk; a full disk still renames and removes."""


@dataclass(frozen=True)
class Fault:
    """A fault that happens to a process.

    Attributes
    ----------
    kind : `kill` ends it by SIGKILL; from then on `full` raises ENOSPC and `denied` EACCES at every write.
    after : units until it happens.
    below : for `full` and `denied` the folder that it concerns; others stay as they are.
    """

    kind: str
    after: int
    below: str = "/"


class Disk:
    """Counts what this process writes, and lets the fault happen."""

    def __init__(self, fault: Fault | None, below: str) -> None:
        self.units, self._fault, self._below, self._lock = 0, fault, below, threading.Lock()

    def concerns(self, path: Any) -> bool:
        """Return whether units of a file count: those of the results, not of caches elsewhere."""
        if isinstance(path, int):
            return False
        return _is_below(path, self._below)

    def spend(self, units: int, path: Any, needs_room: bool = True) -> int:
        """Count units; return how many of them still work, or let the fault happen."""
        with self._lock:
            left = self._fault.after - self.units if self._fault else units
            self.units += units
        if self._fault is None or units <= left:
            return units
        if self._fault.kind == "kill":
            return max(left, 0)
        if not _is_below(path, self._fault.below):
            return units
        if self._fault.kind == "full":
            return max(left, 0) if needs_room else units
        return 0

    def fail(self, path: Any, name_known: bool) -> None:
        """Do what the fault does."""
        assert self._fault is not None
        if self._fault.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        number = errno.ENOSPC if self._fault.kind == "full" else errno.EACCES
        # As the system does it: an error of `write` does not name the file, an error of `open` does.
        raise (
            OSError(number, os.strerror(number), os.fsdecode(path))
            if name_known
            else OSError(number, os.strerror(number))
        )

    def operate(self, path: Any, needs_room: bool = True) -> None:
        """Count one operation on a name."""
        if self.concerns(path) and self.spend(1, path, needs_room) == 0:
            self.fail(path, name_known=True)


def _is_below(path: Any, folder: str) -> bool:
    return os.path.abspath(os.fsdecode(path)).startswith(f"{folder.rstrip('/')}/")


def install(fault: Fault | None, below: str) -> Disk:
    """Let everything that this process writes from now on go through a failing disk. There is no way back."""
    disk = Disk(fault, below)
    real_open = io.open

    class CountedFile(io.FileIO):
        def write(self, content: Any) -> int:  # type: ignore[override]
            view = memoryview(content).cast("B")
            works = disk.spend(len(view), self.name)
            written = super().write(view[:works]) if works else 0
            if works < len(view):
                disk.fail(self.name, name_known=False)
            return written

    def counted_open(file: Any, mode: str = "r", buffering: int = -1, *more: Any, **named: Any) -> Any:
        if not set(mode) & set("wax+") or not disk.concerns(file):
            return real_open(file, mode, buffering, *more, **named)
        disk.operate(file)
        raw = CountedFile(file, mode.replace("b", "").replace("t", ""))
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        encoding = named.get("encoding") or (more[0] if more else None) or "utf-8"
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding=encoding)

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *more: Any, **named: Any) -> Any:
            if named.get("dir_fd") is None:
                disk.operate(path, name in NEEDS_ROOM)
            return real(path, *more, **named)

        return call

    io.open = builtins.open = counted_open  # type: ignore[assignment]
    for name in OPERATIONS:
        setattr(os, name, counted(name, getattr(os, name)))
    # Otherwise numpy writes to the file's descriptor itself.
    np.lib._format_impl.isfileobj = lambda file: False  # type: ignore[attr-defined]
    return disk
