"""Lines on the terminal for Snakemake's events; no warning and no error is left out."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from snakemake.exceptions import WorkflowError, format_exception_to_string
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_unet_em.run_lines import RunLines
from snakemake_logger_plugin_unet_em.time_left import StartedJob, TimeLeft

ROOT = Path(__file__).parents[2]


def said(lines: RunLines, event: LogEvent | None = None, text: str = "", at: float = 0.0, **values: Any) -> list[str]:
    """Return the lines of one event, without the time of day."""
    level = logging.ERROR if event in (LogEvent.ERROR, LogEvent.JOB_ERROR) else values.pop("level", logging.INFO)
    record = logging.makeLogRecord({"levelno": level, "msg": text, "created": at, "event": event, **values})
    return [line[9:] if line[2:3] == ":" == line[5:6] else line for line in lines.lines_of(record)]


def starts(lines: RunLines, number: int, rule: str, at: float = 0.0, **wildcards: str) -> Any:
    values = {"jobid": number, "rule_name": rule, "wildcards": wildcards}
    return said(lines, LogEvent.JOB_INFO, at=at, reason="Missing output files: a, b", **values)


def ends(lines: RunLines, number: int, done: int, total: int, at: float) -> list[str]:
    first = said(lines, LogEvent.JOB_FINISHED, at=at, job_id=number)
    return first + said(lines, LogEvent.PROGRESS, at=at, done=done, total=total)


def fails(lines: RunLines, number: int, rule: str, at: float, log: str, **aux: Any) -> list[str]:
    values = {"jobid": number, "rule_name": rule, "rule_msg": None, "log": [log], "aux": aux}
    return said(lines, LogEvent.JOB_ERROR, at=at, **values)


def test_a_job_has_two_lines() -> None:
    lines = RunLines()
    stats = {"survey": 1, "merge": 2, "all": 1, "total": 4}
    assert said(lines, LogEvent.RUN_INFO, "Job stats: ...", stats=stats) == ["3 jobs: survey, 2 merge"]
    assert starts(lines, 1, "survey", volume="em") == ["survey em ..."]
    assert ends(lines, 1, done=1, total=4, at=3.2) == ["[1/3] survey em: 3.2 s"]
    assert starts(lines, 2, "predict", at=4.0, volume="em", block_range="0-of-2") == ["predict em 0-of-2 ..."]
    assert ends(lines, 2, done=2, total=4, at=78.0) == ["[2/3] predict em 0-of-2: 1:14"]
    assert starts(lines, 3, "all", at=80.0) == []
    assert ends(lines, 3, done=3, total=4, at=81.0) == []


def test_jobs_behind_the_last_one_that_is_asked_for_do_not_count() -> None:
    """Snakemake's progress counts these jobs with `--until`."""
    lines = RunLines()
    assert said(lines, LogEvent.RUN_INFO, "", stats={"survey": 1, "ingest": 1, "total": 2}) == [
        "2 jobs: survey, ingest"
    ]
    starts(lines, 1, "survey", volume="em")
    assert ends(lines, 1, done=1, total=9, at=1.0) == ["[1/2] survey em: 1.0 s"]


def test_a_run_without_a_job_says_so() -> None:
    said_first = said(RunLines(), LogEvent.RUN_INFO, "", stats={"total": 0})
    assert said_first == ["Nothing to be done (all requested files are present and up to date)."]


def test_a_dry_run_says_which_jobs_and_why_and_keeps_the_table() -> None:
    lines = RunLines(is_dry_run=True)
    stats = {"survey": 1, "total": 1}
    assert said(lines, LogEvent.RUN_INFO, "the table", stats=stats) == []
    assert starts(lines, 1, "survey", volume="em") == ["survey em: Missing output files: a and 1 more"]
    table = said(lines, LogEvent.RUN_INFO, "the table", stats=stats)
    assert table == ["the table"]


def test_a_failed_job_is_one_line_with_its_log_and_what_ended_it() -> None:
    lines = RunLines()
    for number, status in ((1, "returned non-zero exit status 1."), (2, "died with <Signals.SIGKILL: 9>.")):
        starts(lines, number, "ingest", volume=f"v{number}")
        command = f"Command 'python .snakemake/scripts/tmp123.ingest.py' {status}"
        text = f'RuleException:\nCalledProcessError in file "ingest.smk", line 3:\n{command}'
        assert said(lines, LogEvent.ERROR, text, exception="RuleException") == []
        how = "" if number == 1 else "ended by SIGKILL, as where memory runs out, "
        assert fails(lines, number, "ingest", at=2.0, log=f"{number}.log") == [
            f"ingest v{number} failed after 2.0 s, {how}log: {number}.log"
        ]
    assert said(lines, None, "Exiting because a job execution failed. Look above", level=logging.ERROR) == []
    last = "WorkflowError:\nAt least one job did not complete successfully."
    assert said(lines, LogEvent.ERROR, last, exception="WorkflowError") == []
    assert said(RunLines(), LogEvent.ERROR, last, exception="WorkflowError") != []


def test_a_job_that_failed_elsewhere_brings_its_sentence(tmp_path: Path) -> None:
    log = tmp_path / "torn.log"
    log.write_text("12:00:00 INFO begin\n12:00:01 ERROR torn.tif: cut short\nTraceback ...\n")
    lines = RunLines()
    starts(lines, 1, "survey", volume="torn")
    failure, sentence = fails(lines, 1, "survey", at=1.0, log=str(log), external_jobid="77")
    assert failure == f"survey torn failed after 1.0 s, log: {log}"
    assert sentence == "torn.tif: cut short" or sentence.endswith("ERROR torn.tif: cut short")


def test_errors_of_the_workflow_are_told_in_full_without_their_place() -> None:
    text = format_exception_to_string(WorkflowError("key: wrong\nother: wrong too"), {})
    assert said(RunLines(), LogEvent.ERROR, text, exception="WorkflowError") == ["key: wrong\nother: wrong too"]


@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR])
def test_no_warning_or_error_is_left_out(level: int) -> None:
    for text in ("Building DAG of jobs...", "Something unheard of"):
        assert said(RunLines(), None, text, level=level) == [text]


def test_a_defect_keeps_its_traceback_but_the_system_speaks_in_a_sentence() -> None:
    lines = RunLines()
    for kind, message in (("KeyError", "'a'"), ("PermissionError", "[Errno 13] Permission denied: 'x'")):
        text = f'Traceback (most recent call last):\n  File "a.py", line 1, in f\n{kind}: {message}'
        (shown,) = said(lines, LogEvent.ERROR, text, exception=kind)
        assert ("Traceback" in shown) == (kind == "KeyError")
        assert f"{kind}: {message}" in shown


def test_a_working_directory_that_cannot_be_written_is_told_with_what_to_do() -> None:
    text = "OSError: [Errno 30] Read-only file system: '/data/.snakemake'"
    [line] = said(RunLines(), LogEvent.ERROR, text, exception="OSError")
    assert line.startswith(f"{text}\nSnakemake keeps its records in the working directory: start it in a folder that")


def test_news_of_the_workflow_itself_and_of_slurm_pass() -> None:
    lines = RunLines()
    assert said(lines, None, "report  results/report.html") == ["report  results/report.html"]
    assert said(lines, None, "Select jobs to execute...") == []
    starts(lines, 7, "train")
    text = "Job 7 has been submitted with SLURM jobid 4711 (log: a.log)."
    assert said(lines, None, text) == ["train: SLURM job 4711"]


def test_time_left_is_the_mean_of_each_rule_over_what_runs_at_once() -> None:
    """Two jobs of 10 s at once, four left: 20 s; of a rule that nobody knows yet, at least that."""
    rest = TimeLeft()
    left = dict.fromkeys(range(2, 7), "predict")
    rest.jobs_left = lambda: left
    assert rest.message_after(StartedJob(1, "predict", "predict a", 0.0), 10.0, 10.0, []) == "; about 50.0 s left"
    assert rest.message_after(StartedJob(2, "predict", "predict b", 0.0), 10.0, 10.0, []) == ""  # just said
    left |= {7: "report"}
    running = [StartedJob(3, "predict", "predict c", 15.0)]
    assert (
        rest.message_after(StartedJob(8, "predict", "predict d", 10.0), 10.0, 20.0, running)
        == "; more than 23.3 s left"
    )
    left |= dict.fromkeys(range(20, 30), "report")
    assert rest.message_after(StartedJob(4, "predict", "predict e", 30.0), 10.0, 40.0, running) == ""


def test_snakemake_finds_the_plugin_where_the_package_is_found() -> None:
    """Ask for it as a profile does, from any folder; an editable install has to put the root into `sys.path`."""
    found = "from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry as R; print(*R().plugins)"
    ran = subprocess.run(
        [sys.executable, "-c", found], cwd="/", env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert "unet-em" in ran.stdout.split(), ran.stderr
