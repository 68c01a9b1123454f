"""Logger plugin for Snakemake: one line when a job starts, one when a job ends, and readable errors.

Snakemake finds this package by its name, and uses it if a profile says `logger: unet-em`. With `--verbose`, or without
that line in the profile, the terminal shows Snakemake's own messages. Snakemake's log file has them in any case.
"""

import sys
from logging import LogRecord
from typing import TextIO

from snakemake.exceptions import CliException
from snakemake_interface_logger_plugins.base import LogHandlerBase

from snakemake_logger_plugin_unet_em.command_line import command_line_problem
from snakemake_logger_plugin_unet_em.options import refuse_wrong_options
from snakemake_logger_plugin_unet_em.run_lines import RunLines

# Snakemake imports this package just before it reads its options: no other code of ours runs that early.
refuse_wrong_options(sys.argv)

RED, RESET, ERASE_LINE = "\033[31m", "\033[0m", "\r\033[K"


class LogHandler(LogHandlerBase):
    """Write the lines of `RunLines` to the terminal."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = False  # Snakemake's, which knows --quiet
    has_formatter = False  # Snakemake's, for --verbose
    needs_rulegraph = False

    def __post_init__(self) -> None:
        problem = command_line_problem(sys.argv[1:])
        if problem is not None:
            raise CliException(problem)
        self.run_lines = RunLines(is_dry_run=self.common_settings.dryrun)

    @property
    def _is_verbose(self) -> bool:
        return self.common_settings.verbose or self.common_settings.debug_dag

    def emit(self, record: LogRecord) -> None:
        """Write the lines of an event."""
        try:
            lines = [self.format(record)] if self._is_verbose else self.run_lines.lines_of(record)
            stream = sys.stdout if self.common_settings.stdout else sys.stderr
            for line in lines:
                stream.write(f"{self._decorated(line, record, stream)}\n")
            stream.flush()
        except Exception:
            self.handleError(record)

    def _decorated(self, line: str, record: LogRecord, stream: TextIO) -> str:
        """Return a line for a terminal: it overwrites the progress bar of a job, and is red if it is an error."""
        if self.common_settings.nocolor or not stream.isatty():
            return line
        is_error = record.levelname in ("ERROR", "CRITICAL")
        return f"{ERASE_LINE}{RED}{line}{RESET}" if is_error else f"{ERASE_LINE}{line}"
