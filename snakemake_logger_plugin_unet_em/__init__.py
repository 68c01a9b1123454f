"""What the terminal shows of a run: a line when a job starts, one when it has ended, and what is wrong.

Snakemake finds this package by its name, and uses it where a profile says `logger: unet-em`. `--verbose` brings
Snakemake's own words back, and so does a profile without that line. Snakemake's log file holds them in any case.
"""

import sys
from logging import LogRecord
from typing import TextIO

from snakemake.exceptions import CliException
from snakemake_interface_logger_plugins.base import LogHandlerBase

from snakemake_logger_plugin_unet_em.command_line import problem_of
from snakemake_logger_plugin_unet_em.run_lines import RunLines

RED, PLAIN, FROM_THE_LEFT = "\033[31m", "\033[0m", "\r\033[K"


class LogHandler(LogHandlerBase):
    """Writes the lines of `RunLines`."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = False  # Snakemake's, which knows --quiet
    has_formatter = False  # Snakemake's, for --verbose
    needs_rulegraph = False

    def __post_init__(self) -> None:
        problem = problem_of(sys.argv[1:])
        if problem is not None:
            raise CliException(problem)
        self.run_lines = RunLines(is_dry_run=self.common_settings.dryrun)

    @property
    def _is_asked_for_all(self) -> bool:
        return self.common_settings.verbose or self.common_settings.debug_dag

    def emit(self, record: LogRecord) -> None:
        """Write what there is to say of an event."""
        try:
            lines = [self.format(record)] if self._is_asked_for_all else self.run_lines.of(record)
            stream = sys.stdout if self.common_settings.stdout else sys.stderr
            for line in lines:
                stream.write(f"{self._decorated(line, record, stream)}\n")
            stream.flush()
        except Exception:
            self.handleError(record)

    def _decorated(self, line: str, record: LogRecord, stream: TextIO) -> str:
        """On a terminal: red if it is an error, and over the bar that a job may have drawn."""
        if self.common_settings.nocolor or not stream.isatty():
            return line
        is_error = record.levelname in ("ERROR", "CRITICAL")
        return f"{FROM_THE_LEFT}{RED}{line}{PLAIN}" if is_error else f"{FROM_THE_LEFT}{line}"
