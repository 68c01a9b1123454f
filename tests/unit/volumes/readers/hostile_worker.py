"""A process that reads what it is told and says how that ended: `refused`, `read`, or what should never be.

Its memory is limited to what it has after a start, and a bit: who reads more than a file can hold, runs out of it. A
crash or a hang of a library in C ends this process, not the tests.
"""

import json
import os
import resource
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[4]
MEMORY = 768 << 20
"""Bytes that may be allocated beside what the libraries take."""
SECONDS = 10
"""Time in which an example has to end, on a busy machine."""
CORNER = (4, 64, 64)
"""Voxels that are read at both ends of the volume: its declared size may be anything."""


class Hang(BaseException):
    """An example takes too long. No `except Exception` of a reader stops it."""


def outcome(address: str) -> str:
    """Open a source, look at all its headers and files, and read both ends of it."""
    from unet.geometry.box import Box
    from unet.volumes.readers.errors import SourceError
    from unet.volumes.readers.open import open_source

    try:
        source = open_source(address)
        whole = Box.of_shape(source.shape)
        source.check(whole)
        source.missing_chunks(whole)
        for _ in source.listed(whole):
            pass
        ends = [min(n, most) for n, most in zip(source.shape, CORNER, strict=True)]
        for box in (Box((0, 0, 0), ends), Box([n - e for n, e in zip(source.shape, ends, strict=True)], source.shape)):
            assert source.read(box).shape[-3:] == tuple(ends)
    except SourceError as error:
        causes: list[BaseException | None] = [error]
        while causes[-1] is not None:
            causes.append(causes[-1].__cause__ or causes[-1].__context__)
        return "memory" if any(isinstance(one, MemoryError) for one in causes) else f"refused: {error}"
    except Hang:
        return "hang"
    except MemoryError:
        return "memory"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "read"


def too_long(*_: Any) -> None:
    """Answer to the alarm."""
    raise Hang


def serve() -> None:
    """Answer one line with one line. What libraries print goes elsewhere."""
    answers, sys.stdout = sys.stdout, sys.stderr
    signal.signal(signal.SIGALRM, too_long)
    for warm_up in json.loads(sys.stdin.readline()):
        first = outcome(warm_up)
        assert first == "read", (warm_up, first)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        signal.alarm(SECONDS)
        found = outcome(json.loads(line))
        signal.alarm(0)
        print(json.dumps(found), file=answers, flush=True)


class Reader:
    """The process, started again whenever it has ended."""

    def __init__(self, warm_up: list[str]) -> None:
        self._warm_up, self._process = warm_up, self._start(warm_up)

    @staticmethod
    def _start(warm_up: list[str]) -> subprocess.Popen[str]:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen([sys.executable, __file__], env=environment, text=True, **pipes)
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps(warm_up), file=process.stdin, flush=True)
        assert process.stdout.readline().strip() == "ready"
        return process

    def outcome(self, address: str) -> str:
        """Return how reading a source ends: also `crash`, and `hang`."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps(address), file=process.stdin, flush=True)
        answers = select.poll()  # unlike `select`, for any number of open files
        answers.register(process.stdout, select.POLLIN)
        answered = answers.poll(6 * SECONDS * 1000)
        line = process.stdout.readline() if answered else ""
        if line:
            return str(json.loads(line))
        self.close()
        self._process = self._start(self._warm_up)
        return f"crash: {process.returncode}" if answered else "hang"

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


def bad(outcome: str) -> bool:
    """Return whether reading has ended as it never should."""
    return not outcome.startswith(("read", "refused: "))


if __name__ == "__main__":
    serve()
