"""The bridge between a rule and its script: typed arguments, a log file, and errors that people can read.

A script is `def main(...)` with typed arguments and, at its end, `run(main, globals().get("snakemake"))`. Under
Snakemake the arguments are the rule's named inputs, outputs and params, and `threads`; from a shell one JSON object:

    python scripts/threshold.py '{"sweeps": ["a.json"], "receipt": "b.json"}'

Beside its log a job leaves this object, so that it can be run again by itself:

    python scripts/threshold.py "$(cat results/logs/threshold/all.json)"

and at its end what it used, in `all.usage`: Snakemake looks at a job every half a minute only. A job that did not end
well leaves `all.error`, which says why; the run repeats it at its end.
"""

import inspect
import json
import linecache
import logging
import re
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, validate_call

from unet.receipts import write_atomically, write_json

KILLED = "ended without a message: it was killed or interrupted, for instance because memory was short"


class Terminated(BaseException):
    """SIGTERM arrived: finish what is in flight, leave a state that a rerun continues."""


def run(main: Callable[..., None], snakemake: Any = None) -> None:
    """Call `main` with checked arguments, logging to the rule's log file and to stderr.

    Bad input (errors that this package raises, or the system about files) ends with one readable line and exit
    status 1; a defect of the program ends with a traceback, in the log as well.
    """
    arguments = _from_snakemake(main, snakemake) if snakemake is not None else json.loads(sys.argv[1])
    path = Path(snakemake.log[0]) if snakemake is not None and snakemake.log else None
    if path is not None:
        write_atomically(path.with_suffix(".json"), json.dumps(arguments, default=str).encode())
    _start_log(path)
    _note_failure(path, KILLED)
    signal.signal(signal.SIGTERM, _terminate)
    log = logging.getLogger(f"unet.{Path(inspect.getfile(main)).stem}")
    try:
        validate_call(config=ConfigDict(arbitrary_types_allowed=True))(main)(**arguments)
    except Terminated:
        log.error(stopped := "stopped by SIGTERM; what is finished is recorded, run again to continue")
        _note_failure(path, stopped)
        sys.exit(143)
    except (ValueError, OSError, RuntimeError) as error:
        _note_failure(path, str(error) if _is_for_people(error) else _defect(error))
        log.debug("", exc_info=True)
        if not _is_for_people(error):
            log.exception("failed")
            raise
        log.error("%s", error)
        sys.exit(1)
    except Exception as error:
        _note_failure(path, _defect(error))
        log.exception("failed")
        raise
    if path is not None:
        path.with_suffix(".error").unlink(missing_ok=True)
        write_atomically(path.with_suffix(".usage"), json.dumps(_used()).encode())


def _note_failure(log: Path | None, message: str) -> None:
    """Say beside the log why the job did not end well; as long as it runs, that it was killed."""
    if log is not None:
        with suppress(OSError):  # where nothing can be written the message itself says so
            write_json(log.with_suffix(".error"), {"message": message})


def _defect(error: Exception) -> str:
    """What is said of an error that is no message for people."""
    return f"a defect of the program, {type(error).__name__}: {error}"


def _used() -> dict[str, float]:
    """Processor seconds of the job with its children that ended, and the most memory that it held itself, in MB."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    status = Path("/proc/self/status")  # ru_maxrss begins with what the parent holds
    peak = re.search(r"VmHWM:\s*(\d+) kB", status.read_text() if status.exists() else "")
    return {"processor_seconds": round(seconds, 2), "peak_mb": round(int(peak[1]) / 1024, 1) if peak else 0.0}


def _is_for_people(error: Exception) -> bool:
    """Whether the package raised it, with a message of its own, or the system, about files and space.

    What a library raises, or Python itself, is a defect of the program, even below a frame of the package.
    """
    if isinstance(error, OSError) or type(error).__module__.startswith("unet."):
        return True
    frame, line = list(traceback.walk_tb(error.__traceback__))[-1]
    ours = str(frame.f_globals.get("__name__", "")).startswith("unet.")
    return ours and linecache.getline(frame.f_code.co_filename, line).lstrip().startswith("raise ")


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
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, mode="w"))
    layout = "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(level=logging.INFO, format=layout, datefmt="%H:%M:%S", handlers=handlers, force=True)


def _terminate(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # SLURM sends it twice, itself and by way of srun
    raise Terminated("SIGTERM received")
