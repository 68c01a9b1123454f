"""Run scripts as processes of their own, forked from one that has imported all libraries, and let them fail.

    python -m tests.scripts.job_server     # reads one JSON object a line, answers with one JSON object a line

A start of Python with PyTorch takes seconds, a fork some hundredths of a second. The server itself runs no job, so no
thread and no lock is inherited.
"""

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import traceback
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace
from typing import Any, NamedTuple

from tests.scripts.faults import Fault, install

ROOT = Path(__file__).parents[2]
LIBRARIES = ("distributed", "distributed.http.scheduler", "torch", "torch.fx.experimental.symbolic_shapes", "zarr")
"""What jobs import late; the scripts import the rest."""
PATIENCE_S = 240
"""Seconds after which a job counts as hanging; it is ended by SIGALRM."""
DEFECT = 70
"""Exit status of a job that ended by an exception."""


class Ended(NamedTuple):
    """The end of a job: exit status or negative number of a signal, units that it wrote, and what it said."""

    status: int
    units: int
    said: str


class JobServer:
    """The server, seen from the test."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.scripts.job_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | environment | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )

    def run(self, *jobs: dict[str, Any]) -> list[Ended]:
        """Run jobs at the same time, each as `start` describes it; return how each ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(jobs, default=str) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the server of jobs has ended"
        return [Ended(*one) for one in json.loads(answer)]

    def close(self) -> None:
        """End the server."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def start(job: dict[str, Any], said: Path) -> int:
    """Fork a process that runs a job; return its number.

    `job` names the `script`, its `arguments`, the `log`, the `results` whose files count, and perhaps a `fault`.
    """
    said.unlink(missing_ok=True)
    child = os.fork()
    if child:
        return child
    status, disk = DEFECT, None
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no job outlives the server
        signal.alarm(PATIENCE_S)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        null = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, null), (1, handle), (2, handle)):
            os.dup2(source, target)
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        disk = install(Fault(**job["fault"]) if job.get("fault") else None, job["results"])
        if job.get("preparation"):
            exec(job["preparation"], {})
        status = _run(job)
    except BaseException:
        traceback.print_exc()
    finally:
        said.with_suffix(".units").open("w").write(str(disk.units if disk else 0))
        sys.stderr.flush()
        os._exit(status)


def _run(job: dict[str, Any]) -> int:
    from tests.scripts.conftest import main_of
    from unet.jobs.script import run_script

    named = SimpleNamespace(input={}, output={}, params=job["arguments"], log=[job["log"]], threads=1)
    try:
        run_script(main_of(job["script"]), named)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def _end(child: int, said: Path) -> Ended:
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    units = said.with_suffix(".units")
    count = units.read_text() if units.exists() else ""
    text = said.read_text(errors="replace") if said.exists() else ""
    for path in (units, said):
        path.unlink(missing_ok=True)
    return Ended(status, int(count or 0), text)


def main() -> None:
    """Answer requests until the other side closes."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    for library in LIBRARIES:
        import_module(library)
    import_module("torch").set_num_threads(1)
    from tests.scripts.conftest import SCRIPTS, main_of

    for path in SCRIPTS.glob("*.py"):
        main_of(path.stem)
    said = Path(mkdtemp(prefix="said-"))  # on another disk than the results, which may be full
    for line in sys.stdin:
        jobs = json.loads(line)
        places = [said / f"{number}.txt" for number in range(len(jobs))]
        running = [(start(job, place), place) for job, place in zip(jobs, places, strict=True)]
        print(json.dumps([_end(*one) for one in running]), flush=True)


if __name__ == "__main__":
    main()
