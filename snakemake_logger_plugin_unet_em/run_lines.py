"""Turn Snakemake's log records into lines for people; every warning and error of Snakemake is kept.

```
13:15:41 7 jobs: 2 survey, evaluate, 2 merge, report
13:15:41 survey train ...
13:15:44 [ 1/6] survey train, 3 s
13:15:44 headers are read: 24 jobs, were 7
```
"""

import builtins
import re
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from logging import WARNING, LogRecord
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_unet_em.command_line import TARGETS
from snakemake_logger_plugin_unet_em.time_left import StartedJob, TimeLeft, duration

DEFAULT_TARGET = "all"
"""The rule that only collects the results of others; its job does nothing and is not counted."""
LONGEST_REASON = 200
"""Characters of the reason for a job; the rest is cut."""
UNINFORMATIVE = re.compile(
    r"Assuming unrestricted shared file|Building DAG of jobs|Using shell|Conda environments: ignored|"
    r"Select jobs to execute|Execute \d+ jobs|"
    r"Complete log\(s\):|Elapsed time:|Shutting down, this might|"
    r"Reasons:|Some jobs were triggered by provenance|This was a dry-run|"
    r"SLURM run ID|Cleaning up SLURM log files"
)
"""Beginnings of Snakemake's messages that say nothing about results; they are not shown."""

JOB_FAILED, RUN_FAILED = "Exiting because a job execution failed", "At least one job did not complete successfully."
"""Snakemake's messages after a failed job; the job's own line has said it already."""
NO_TARGET = "Target rules may not contain wildcards"
IGNORED_EVENTS = (LogEvent.JOB_STARTED, LogEvent.RESOURCES_INFO, LogEvent.WORKFLOW_STARTED, LogEvent.SHELLCMD)


class RunLines:
    """Turn Snakemake's records into lines, in the order of the records.

    Parameters
    ----------
    is_dry_run
        List the jobs only, each with the reason why it would run.

    Attributes
    ----------
    rules
        Names of the workflow's rules, once they are known.
    time_left
        Estimate of the time that is left.
    """

    def __init__(self, is_dry_run: bool = False) -> None:
        self.is_dry_run = is_dry_run
        self.time_left = TimeLeft()
        self.rules: Sequence[str] = ()
        self._jobs: dict[int, StartedJob] = {}
        self._ended: list[StartedJob] = []
        self._total: int | None = None
        self._without_work = 0
        self._has_failed = False
        self._statuses: dict[str, list[str]] = defaultdict(list)
        self._events: dict[LogEvent | None, Callable[[Any], Iterator[str]]] = {
            LogEvent.JOB_INFO: self._on_job_info,
            LogEvent.JOB_FINISHED: self._on_job_finished,
            LogEvent.PROGRESS: self._on_progress,
            LogEvent.JOB_ERROR: self._on_job_error,
            LogEvent.RUN_INFO: self._on_run_info,
            LogEvent.ERROR: self._on_error,
            **dict.fromkeys(IGNORED_EVENTS, lambda record: iter(())),
        }

    def lines_of(self, record: LogRecord) -> list[str]:
        """Return the lines for a record; none if the record says nothing new."""
        handler = self._events.get(getattr(record, "event", None), self._on_message)
        return list(handler(record))

    def _on_run_info(self, record: Any) -> Iterator[str]:
        """Yield the number of jobs per rule; pass on the table that Snakemake prints at the end of a dry run."""
        is_first, self._total = self._total is None, record.stats["total"]
        if self.is_dry_run and not is_first:
            yield record.getMessage()
        elif self.is_dry_run:
            return
        elif is_first:
            self._without_work = record.stats.get(DEFAULT_TARGET, 0)
            jobs = {rule: n for rule, n in record.stats.items() if rule not in ("total", DEFAULT_TARGET)}
            if not jobs:
                yield "Nothing to be done (all requested files are present and up to date)."
                return
            listed = ", ".join(rule if n == 1 else f"{n} {rule}" for rule, n in jobs.items())
            yield f"{_time(record)} {_count(sum(jobs.values()))}: {listed}"

    def _on_job_info(self, record: Any) -> Iterator[str]:
        """Remember the started job, and yield its name; in a dry run also the reason why it would run."""
        name = " ".join([record.rule_name, *map(str, (record.wildcards or {}).values())])
        self._jobs[record.jobid] = StartedJob(record.jobid, record.rule_name, name, record.created)
        if record.rule_name == DEFAULT_TARGET:
            return
        if self.is_dry_run:
            yield f"{name}: {_shorten_reason(record.reason)}"
        else:
            yield f"{_time(record)} {name} ..."

    def _on_job_finished(self, record: Any) -> Iterator[str]:
        """Remember the finished job; its line follows with the next progress event, which knows the total."""
        job = self._jobs.pop(record.job_id, None)
        if job is not None:
            self._ended.append(job)
        yield from ()

    def _on_progress(self, record: Any) -> Iterator[str]:
        """Yield a line for each job that has finished since the last progress event."""
        # with --until the record counts all jobs behind the target, too, of which some do not run
        total = min(record.total, self._total or record.total) - self._without_work
        done = min(record.done, total)
        for job in self._ended:
            if job.rule != DEFAULT_TARGET:
                took = record.created - job.start
                left = self.time_left.message_after(job, took, record.created, self._jobs.values())
                yield f"{_time(record)} [{done:>{len(str(total))}}/{total}] {job.name}: {duration(took)}{left}"
        self._ended.clear()

    def _on_job_error(self, record: Any) -> Iterator[str]:
        """Yield the name of the failed job, how it ended, and its log file; the job itself has said why."""
        self._has_failed = True
        job = self._jobs.pop(record.jobid, None)
        name = job.name if job is not None else record.rule_name
        status = self._statuses[record.rule_name].pop(0) if self._statuses[record.rule_name] else None
        how = [text for text in (record.rule_msg, status) if text]
        after = [f"after {duration(record.created - job.start)}"] if job is not None else []
        logs = [f"log: {path}" for path in record.log]
        yield f"{_time(record)} {name} failed {', '.join([*after, *how, *logs])}"
        if record.aux:  # it ran on another machine, so the terminal has not shown its error
            yield from _last_error(Path(record.log[0])) if record.log else ()

    def _on_error(self, record: Any) -> Iterator[str]:
        """Yield the message of an exception without its line in the Snakefile; of a defect all of the text."""
        text = record.getMessage()
        ended = re.match(r"RuleException:\nCalledProcessError.*\n.*\.(\w+)\.py' (.*)", text)
        if ended is not None:
            self._statuses[ended[1]].extend(_ending_signal(ended[2]))
        elif not (self._has_failed and RUN_FAILED in text):
            yield _user_message(text, record.exception, self.rules)

    def _on_message(self, record: LogRecord) -> Iterator[str]:
        """Yield any other message, unless it says nothing about results."""
        text = record.getMessage()
        restarted = re.match(r"Trying to restart job (\d+)\.", text)
        submitted = re.match(r"Job (\d+) has been submitted with SLURM jobid (\S+)", text)
        if submitted is not None and int(submitted[1]) in self._jobs:
            yield f"{_time(record)} {self._jobs[int(submitted[1])].name}: SLURM job {submitted[2]}"
        elif restarted is not None:
            yield f"{_time(record)} it is tried again"
        elif text not in ("", "None") and not (record.levelno < WARNING and UNINFORMATIVE.match(text)):
            yield from () if self._has_failed and JOB_FAILED in text else [text.strip("\n")]


def _user_message(text: str, exception: str, rules: Sequence[str] = ()) -> str:
    """Return an exception as Snakemake prints it, cut to what a user can act on.

    >>> _user_message('WorkflowError in file "a", line 3:\\nkey: wrong\\n  File "a", line 3, in f', "WorkflowError")
    'key: wrong'
    """
    kind = getattr(builtins, exception, None)
    if exception == "MissingRuleException":
        return _unknown_target(text, rules)
    if exception == "ProtectedOutputException":
        return _protected_outputs(text)
    if NO_TARGET in text:
        return f"A rule that makes a file of each volume is no target: {_targets()}; to stop at a rule add --until RULE"
    if isinstance(kind, type) and issubclass(kind, OSError):
        return _file_error(text, exception)
    lines = [line for line in text.splitlines() if not re.match(r'  File ".*", line \d+, in ', line)]
    if exception.endswith("WorkflowError") or exception == "InputFunctionException":
        lines = lines[1:] if re.match(rf"{exception}( in .*)?:$", lines[0]) else lines
        lines = [line for line in lines if line.strip() not in ("Traceback:", "Error:")]
        return "\n".join(lines)
    return text


def _unknown_target(text: str, rules: Sequence[str]) -> str:
    """Return the message for an unknown target, or an unknown rule in an option, with the closest known name.

    >>> _unknown_target("No rule to produce trian (if you use ...", ["train"])[:46]
    'trian: nothing makes this; did you mean train?'
    """
    found = re.search(r"No rule to produce (.*?) \(if you use", text)
    target = found[1] if found is not None else text
    close = get_close_matches(target, [*TARGETS, *rules], n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    return f"{target}: nothing makes this; {meant}{_targets()}"


def _targets() -> str:
    return (
        f"ask for one of {', '.join(TARGETS)}, or for a file below the folder of the results, as "
        "results/receipts/survey/NAME.json"
    )


def _protected_outputs(text: str) -> str:
    """Return the message for results of an earlier run that are write-protected.

    >>> _protected_outputs("affected files:\\n  r/a.json\\n  r/b.json")
    'r/a.json and 1 more must not be written; chmod -R u+w the folder of the results, or name another folder'
    """
    first, *others = text.partition("affected files:")[2].split() or ["results of an earlier run"]
    more = f" and {len(others)} more" if others else ""
    return f"{first}{more} must not be written; chmod -R u+w the folder of the results, or name another folder"


def _file_error(text: str, exception: str) -> str:
    """Return the system's message about a file, with advice if Snakemake keeps something for itself there."""
    said = [line for line in text.splitlines() if line.startswith((f"{exception}: ", "[Errno"))]
    if not said:
        return text
    if "sourcecache.py" in text:
        return (
            f"{said[-1]}\nSnakemake keeps copies of sources in the home folder, unless XDG_CACHE_HOME names another: "
            "export XDG_CACHE_HOME=/a/folder/that/can/be/written"
        )
    if "/.snakemake" in said[-1]:
        return (
            f"{said[-1]}\nSnakemake keeps its records in the working directory: start it in a folder that can be "
            "written, or name one by --directory"
        )
    return f"{said[-1]}\n(all of it is in the newest file of .snakemake/log)"


def _last_error(log: Path) -> list[str]:
    """Return the last error line of a job's log, as a list of one line or none."""
    said = re.findall(r"^[\d:]{8} ERROR .+$", log.read_text(errors="replace"), re.MULTILINE) if log.exists() else []
    return said[-1:]


def _ending_signal(ended: str) -> list[str]:
    """Return the signal that ended a job, from its exit status or from the name that Python gives; else nothing.

    >>> _ending_signal("returned non-zero exit status 1."), _ending_signal("returned non-zero exit status 137.")
    ([], ['ended by SIGKILL, as where memory runs out'])
    """
    status = re.search(r"exit status (\d+)", ended)
    number = int(status[1]) - 128 if status is not None else 0
    named = re.search(r"Signals\.(\w+)", ended)
    if named is None and number not in {one.value for one in signal.Signals}:
        return []
    name = named[1] if named is not None else signal.Signals(number).name
    return [f"ended by {name}{', as where memory runs out' if name == 'SIGKILL' else ''}"]


def _shorten_reason(reason: str) -> str:
    """Return the reason why a job would run, with only the first file of each list.

    >>> _shorten_reason("Missing output files: a.json, b.json, c.json; Code has changed since last execution")
    'Missing output files: a.json and 2 more; Code has changed since last execution'
    """
    parts = []
    for part in reason.split("; "):
        first, *others = part.split(", ") if " files: " in part or "another job: " in part else [part]
        parts.append(f"{first} and {len(others)} more" if others else first)
    text = "; ".join(parts)
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."


def _count(jobs: int) -> str:
    return "1 job" if jobs == 1 else f"{jobs} jobs"


def _time(record: LogRecord) -> str:
    return time.strftime("%H:%M:%S", time.localtime(record.created))
