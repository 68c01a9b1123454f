"""Run the script of a rule: typed arguments, a log file, and readable errors.

A script defines `main(...)` with typed arguments, and ends with `run_script(main, globals().get("snakemake"))`. Under
Snakemake the arguments are the rule's named inputs, outputs and params, and `threads`. From a shell they are one JSON
object:

    python scripts/choose_threshold.py '{"sweeps": ["a.json"], "receipt": "b.json"}'

A job writes this object beside its log, so that the job can be run again by itself:

    python scripts/choose_threshold.py "$(cat results/logs/choose_threshold/all.json)"

At its end a job writes its processor time and peak memory to `all.usage`, because Snakemake measures only every half
minute. A job that fails writes the reason to `all.error`; the run repeats it at its end.
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
"""System error numbers of a full disk or quota; these errors are clear without a file's name."""
SIGTERM_RESEND_S = 0.1
"""Seconds after which a SIGTERM that was dropped is sent again."""


class Terminated(BaseException):
    """SIGTERM has arrived. Finish what is in flight, and leave a state that the next run can continue."""


def run_script(main: Callable[..., None], snakemake: Any = None) -> None:
    """Call `main` with validated arguments, and log to the rule's log file and to stderr.

    Bad input ends with one readable line and exit status 1: an error that this package raises, or a system error about
    a file. A defect of the program ends with a traceback. The log file has the traceback of every error.
    """
    arguments = _from_snakemake(main, snakemake) if snakemake is not None else _from_shell(main)
    path = Path(snakemake.log[0]) if snakemake is not None and snakemake.log else None
    _start_log(path)
    _write_failure(path, KILLED)
    _handle_sigterm()
    log = logging.getLogger(f"unet.{Path(inspect.getfile(main)).stem}")
    try:
        if path is not None:
            write_atomically(path.with_suffix(".json"), json.dumps(arguments, default=str).encode())
        validate_call(config=ConfigDict(arbitrary_types_allowed=True))(main)(**arguments)
        if path is not None:
            write_atomically(path.with_suffix(".usage"), json.dumps(_resource_usage()).encode())
            path.with_suffix(".error").unlink(missing_ok=True)
    except Terminated:
        log.error(stopped := "stopped by SIGTERM; what is finished is recorded, run again to continue")
        _write_failure(path, stopped)
        sys.exit(143)
    except Exception as error:
        log.debug("where it was raised:", exc_info=True)  # shown in the log file only
        _write_failure(path, _user_message(error) if _is_user_error(error) else _defect_message(error))
        if not _is_user_error(error):
            log.error("failed, by a defect of the program: %r", error)
            raise
        for line in _user_message(error).splitlines():
            log.error("%s", line)
        sys.exit(1)


def _write_failure(log: Path | None, message: str) -> None:
    """Write beside the log why the job has failed. While the job runs, the file says that it was killed."""
    if log is not None:
        with suppress(OSError):  # if nothing can be written, the job's own message says so
            write_json(log.with_suffix(".error"), {"message": without_secrets(message)})


def _defect_message(error: Exception) -> str:
    """Return the message for a defect of the program."""
    return f"a defect of the program, {type(error).__name__}: {error}"


def _user_message(error: Exception) -> str:
    """Return the message of an error; to a system error add the file's name and what to do."""
    if type(error).__module__.startswith("unet.") or not isinstance(error, OSError) or error.errno is None:
        return str(error)
    place = f"{error.filename}: " if error.filename is not None else ""
    if error.errno in NO_SPACE:
        return (
            f"{place}{error.strerror}; free some there, or begin in another folder (results). `snakemake plan` says "
            "how much a run needs; what is finished is kept, run again to continue"
        )
    return f"{place}{error.strerror}; {cause_of(error).advice}"


def _resource_usage() -> dict[str, float]:
    """Return the processor time (s) of this process and its ended children, and this process's peak memory (MB)."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    return {"processor_seconds": round(seconds, 2), "peak_mb": round(_peak_bytes(own.ru_maxrss) / 2**20, 1)}


def _peak_bytes(maxrss: int) -> int:
    """Return the peak memory of this process in bytes; on Linux `maxrss` starts with the memory of the parent."""
    status = Path("/proc/self/status")
    peak = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    if peak:
        return int(peak[1]) * 1024
    return maxrss if sys.platform == "darwin" else maxrss * 1024


def _is_user_error(error: Exception) -> bool:
    """Tell whether the user can act on an error, as opposed to a defect of the program.

    The user can act on two kinds of errors: those that this package raises with a message of its own, and system errors
    about files or space. Any other error of a library or of Python is a defect, even if this package has called the
    library. So is a library's system error without a file's name, because its cause is not clear.
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
    """Return the arguments of a script that was started in a shell; if they are wrong, print the usage and exit."""
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
    """Return a text that says how to start the script in a shell."""
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
        arguments.update({name: _as_plain_list(value) for name, value in named.items()})
    arguments["threads"] = snakemake.threads
    wanted = inspect.signature(main).parameters
    return {name: value for name, value in arguments.items() if name in wanted}


def _as_plain_list(value: Any) -> Any:
    """Return Snakemake's lists of named items as plain lists."""
    return [_as_plain_list(item) for item in value] if isinstance(value, list | tuple) else value


def _start_log(path: Path | None) -> None:
    """Log to stderr from level INFO on, and to a file all messages of the package, also those for debugging.

    Where the file cannot be written, such as on a full disk, stderr says the same.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    handlers[0].setLevel(logging.INFO)
    if path is not None:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(_LogFile(path, mode="w"))
    logging.getLogger("unet").setLevel(logging.DEBUG)  # libraries stay at INFO
    for handler in handlers:
        handler.setFormatter(_SecretFreeFormatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)


class _LogFile(logging.FileHandler):
    """A log file. Lines that cannot be written are dropped, without a traceback for each of them."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Close the file, on a full disk without the lines that are still in memory."""
        with suppress(OSError):
            super().close()


class _SecretFreeFormatter(logging.Formatter):
    """Remove secrets from lines and tracebacks, since libraries quote their arguments in their errors."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


def _handle_sigterm() -> None:
    """Let SIGTERM raise `Terminated`, also during a finaliser, in which Python drops exceptions."""
    before = sys.unraisablehook

    def hook(dropped: Any) -> None:
        if isinstance(dropped.exc_value, Terminated):
            _handle_sigterm()
            Timer(SIGTERM_RESEND_S, os.kill, (os.getpid(), signal.SIGTERM)).start()  # once the finaliser has ended
        else:
            before(dropped)

    sys.unraisablehook = hook
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # SLURM sends it twice, itself and through srun
    raise Terminated("SIGTERM received")
