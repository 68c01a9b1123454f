"""The bridge between a rule and its script: typed arguments, a log file, and errors that people can read.

A script is `def main(...)` with typed arguments and, at its end, `run_script(main, globals().get("snakemake"))`. Under
Snakemake the arguments are the rule's named inputs, outputs and params, and `threads`; from a shell one JSON object:

    python scripts/choose_threshold.py '{"sweeps": ["a.json"], "receipt": "b.json"}'

Beside its log a job leaves this object, so that it can be run again by itself:

    python scripts/choose_threshold.py "$(cat results/logs/choose_threshold/all.json)"

and at its end what it used, in `all.usage`: Snakemake looks at a job every half a minute only. A job that did not end
well leaves `all.error`, which says why; the run repeats it at its end.
"""

import errno
import inspect
import json
import linecache
import logging
import os
import re
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import Any

from pydantic import ConfigDict, validate_call

from unet.jobs.privacy import without_secrets
from unet.storage.error_causes import cause_of
from unet.storage.files import write_atomically, write_json

KILLED = "ended without a message: it was killed or interrupted, for instance because memory was short"

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the system's errors that say enough without a file's name."""
AGAIN_SECONDS = 0.1
"""After which a SIGTERM that was dropped is sent again."""


class Terminated(BaseException):
    """SIGTERM arrived: finish what is in flight, leave a state that a rerun continues."""


def run_script(main: Callable[..., None], snakemake: Any = None) -> None:
    """Call `main` with checked arguments, logging to the rule's log file and to stderr.

    Bad input (errors that this package raises, or the system about files) ends with one readable line and exit
    status 1; a defect of the program ends with a traceback. The log file has the traceback of every error.
    """
    arguments = _from_snakemake(main, snakemake) if snakemake is not None else _from_shell(main)
    path = Path(snakemake.log[0]) if snakemake is not None and snakemake.log else None
    if path is not None:
        write_atomically(path.with_suffix(".json"), json.dumps(arguments, default=str).encode())
    _start_log(path)
    _note_failure(path, KILLED)
    _answer_sigterm()
    log = logging.getLogger(f"unet.{Path(inspect.getfile(main)).stem}")
    try:
        validate_call(config=ConfigDict(arbitrary_types_allowed=True))(main)(**arguments)
    except Terminated:
        log.error(stopped := "stopped by SIGTERM; what is finished is recorded, run again to continue")
        _note_failure(path, stopped)
        sys.exit(143)
    except Exception as error:
        log.debug("where it was raised:", exc_info=True)  # in the log file alone
        _note_failure(path, _in_words(error) if _is_for_people(error) else _defect(error))
        if not _is_for_people(error):
            log.error("failed, by a defect of the program: %r", error)
            raise
        log.error("%s", _in_words(error))
        sys.exit(1)
    if path is not None:
        path.with_suffix(".error").unlink(missing_ok=True)
        write_atomically(path.with_suffix(".usage"), json.dumps(_used()).encode())


def _note_failure(log: Path | None, message: str) -> None:
    """Say beside the log why the job did not end well; as long as it runs, that it was killed."""
    if log is not None:
        with suppress(OSError):  # where nothing can be written the message itself says so
            write_json(log.with_suffix(".error"), {"message": without_secrets(message)})


def _defect(error: Exception) -> str:
    """What is said of an error that is no message for people."""
    return f"a defect of the program, {type(error).__name__}: {error}"


def _in_words(error: Exception) -> str:
    """What is wrong, where, and what to do, also where it is the system that speaks."""
    if type(error).__module__.startswith("unet.") or not isinstance(error, OSError) or error.errno is None:
        return str(error)
    place = f"{error.filename}: " if error.filename is not None else ""
    if error.errno in NO_SPACE:
        return (
            f"{place}{error.strerror}; free some there, or begin in another folder (results). `snakemake plan` says "
            "how much a run needs; what is finished is kept, run again to continue"
        )
    return f"{place}{error.strerror}; {cause_of(error).advice}"


def _used() -> dict[str, float]:
    """Processor seconds of the job with its children that ended, and the most memory that it held itself, in MB."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    return {"processor_seconds": round(seconds, 2), "peak_mb": round(_peak_bytes(own.ru_maxrss) / 2**20, 1)}


def _peak_bytes(maxrss: int) -> int:
    """The most memory that this process held; on Linux `maxrss` begins with what its parent held."""
    status = Path("/proc/self/status")
    peak = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    if peak:
        return int(peak[1]) * 1024
    return maxrss if sys.platform == "darwin" else maxrss * 1024


def _is_for_people(error: Exception) -> bool:
    """Whether the package raised it, with a message of its own, or the system, about files and space.

    What a library raises, or Python itself, is a defect of the program, even below a frame of the package. So is an
    error of the system that a library raises without a file's name: nobody could tell what it is about.
    """
    if type(error).__module__.startswith("unet."):
        return True
    if isinstance(error, OSError) and (error.filename is not None or error.errno in NO_SPACE):
        return True
    frame, line = list(traceback.walk_tb(error.__traceback__))[-1]
    ours = str(frame.f_globals.get("__name__", "")).startswith("unet.")
    if isinstance(error, OSError):
        return ours
    raises = linecache.getline(frame.f_code.co_filename, line).lstrip().startswith("raise ")
    return ours and raises and isinstance(error, ValueError | RuntimeError)


def _from_shell(main: Callable[..., None]) -> dict[str, Any]:
    """The arguments of a script that a person starts; where they are wrong, its usage is told."""
    try:
        if len(sys.argv) != 2:
            raise ValueError(f"{len(sys.argv) - 1} arguments given, one is needed, in quotes")
        arguments = json.loads(sys.argv[1])
        if not isinstance(arguments, dict):
            raise ValueError(f"the argument has to be a JSON object, not {arguments!r}")
    except ValueError as error:
        print(f"{error}\n\n{_usage(main)}", file=sys.stderr)
        sys.exit(2)
    return arguments


def _usage(main: Callable[..., None]) -> str:
    """How a script is started from a shell."""
    path = Path(inspect.getfile(main))
    parameters = inspect.signature(main).parameters.values()
    about = (inspect.getdoc(inspect.getmodule(main)) or "").partition("\n")[0]
    return "\n".join(
        [
            f"usage: python scripts/{path.name} ARGUMENTS",
            *([f"       {about}"] if about else []),
            "",
            "ARGUMENTS is a JSON object of",
            *(f"  {str(parameter).replace('pathlib.', '')}" for parameter in parameters),
            "",
            "A job leaves its own beside its log, for instance:",
            f'  python scripts/{path.name} "$(cat results/logs/{path.stem}/all.json)"',
        ]
    )


def _from_snakemake(main: Callable[..., None], snakemake: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for named in (snakemake.input, snakemake.output, snakemake.params):
        arguments.update({name: _plain(value) for name, value in named.items()})
    arguments["threads"] = snakemake.threads
    wanted = inspect.signature(main).parameters
    return {name: value for name, value in arguments.items() if name in wanted}


def _plain(value: Any) -> Any:
    """Snakemake's lists of named items as plain lists."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _start_log(path: Path | None) -> None:
    """Log to stderr, and all that the package says, also for those who look for a fault, to a file."""
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    handlers[0].setLevel(logging.INFO)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, mode="w"))
    logging.getLogger("unet").setLevel(logging.DEBUG)  # libraries stay at INFO
    for handler in handlers:
        handler.setFormatter(_Discreet("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)


class _Discreet(logging.Formatter):
    """Lines and tracebacks without secrets: libraries put into their errors what they were given."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


def _answer_sigterm() -> None:
    """Let SIGTERM raise `Terminated`, also where it arrives inside a finaliser, in which Python drops exceptions."""
    before = sys.unraisablehook

    def hook(dropped: Any) -> None:
        if isinstance(dropped.exc_value, Terminated):
            _answer_sigterm()
            Timer(AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGTERM)).start()  # once the finaliser has ended
        else:
            before(dropped)

    sys.unraisablehook = hook
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # SLURM sends it twice, itself and by way of srun
    raise Terminated("SIGTERM received")
