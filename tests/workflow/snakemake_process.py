"""Snakemake as a process of its own, forked from one that has imported Snakemake and its libraries.

Two thirds of a start of Snakemake are imports of libraries, which are the same in each of the two hundred starts of
these tests. Nothing of this project is imported before the fork: each process reads package, plugins and Snakefile
anew. The process leads a session of its own, so that it can be killed with all of its jobs.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import mkstemp

LIBRARIES = ["snakemake.cli", "snakemake_executor_plugin_slurm", "pydantic", "yaml", "h5py", "tifffile", "zarr"]
FORKS = multiprocessing.get_context("forkserver")


class SnakemakeProcess:
    """A run of Snakemake, with the methods of `subprocess.Popen` that tests use.

    Parameters
    ----------
    words : sequence of str
        The command line after `snakemake`.
    folder : Path
        Where it is started.
    root : Path
        The repository whose package it imports.
    environment : mapping
        All environment variables.
    output : Path, optional
        File to which it appends what it says; without one `communicate` returns that.
    """

    def __init__(
        self, words: Sequence[str], folder: Path, root: Path, environment: Mapping[str, str], output: Path | None = None
    ) -> None:
        self._own = None if output else _empty_file()
        FORKS.set_forkserver_preload(LIBRARIES)
        arguments = (list(words), str(folder), str(root), dict(environment), str(output or self._own))
        self._process = FORKS.Process(target=_run, args=arguments)
        self._process.start()
        self.pid = int(self._process.pid or 0)
        while self._process.is_alive() and not _leads_session(self.pid):
            time.sleep(0.001)

    @property
    def returncode(self) -> int | None:
        """Exit status, or the negative number of a signal; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; return the exit status."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("snakemake", timeout or 0)
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """Wait for its end; return what it has said."""
        self.wait(timeout)
        if self._own is None:
            return "", None
        said = self._own.read_text()
        self._own.unlink()
        return said, None

    def kill(self) -> None:
        """End it, but none of its jobs."""
        os.kill(self.pid, signal.SIGKILL)


def _empty_file() -> Path:
    handle, name = mkstemp(prefix="snakemake-", suffix=".txt")
    os.close(handle)
    return Path(name)


def _leads_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


def _run(words: list[str], folder: str, root: str, environment: dict[str, str], output: str) -> None:
    """Do what `python -m snakemake` does, in the forked process, started in a folder with an environment."""
    os.setsid()
    # tests that a shell runs in the background inherit that Ctrl-C is ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    with open(output, "ab", buffering=0) as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    here = str(Path(__file__).parents[2])
    sys.path[:] = [folder, root, *(place for place in sys.path if place not in ("", here))]
    sys.argv[:] = ["snakemake", *words]
    from snakemake.cli import main

    main(words)
