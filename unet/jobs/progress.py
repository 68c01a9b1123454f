"""Progress of long work, with rate and time left: a bar on a terminal, plain lines in a log."""

import logging
import sys
import time
from collections.abc import Callable

FIRST_LINE_S = 5.0
LINE_EVERY_S = 30.0
BAR_WIDTH = 24

log = logging.getLogger(__name__)


class Progress:
    """Count `unit`s up to `total`, and show the rate and the time left.

    Parameters
    ----------
    title
        Name of the work.
    total, unit
        Amount of work and its unit, e.g. voxels.
    done
        Amount that an earlier, killed run has finished; it does not count towards the rate.
    all_jobs
        For one of several jobs: the total of all jobs, and a function that returns the amount that all have finished.
    clock
        Function that returns the time in seconds.
    """

    def __init__(
        self,
        title: str,
        total: float,
        unit: str,
        done: float = 0.0,
        all_jobs: tuple[float, Callable[[], float]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.title, self.total, self.unit = title, total, unit
        self._clock, self._start, self._first = clock, clock(), done
        self._done, self._next_line = done, FIRST_LINE_S
        self._all_jobs = all_jobs
        self._first_all_jobs = all_jobs[1]() if all_jobs else 0.0
        if done:
            log.info("%s: %s of %s %s were done before", title, _short(done), _short(total), unit)

    def advance(self, amount: float) -> None:
        """Add `amount` to what is done; log a line if one is due, and draw the bar on a terminal."""
        self._done += amount
        elapsed = self._clock() - self._start
        if elapsed >= self._next_line or self._done >= self.total:
            self._next_line = elapsed + LINE_EVERY_S
            log.info("%s", self.line() + self._line_of_all_jobs())
        if sys.stderr.isatty():
            self._draw_bar()

    def line(self) -> str:
        """Return the state as text, e.g. `predict: 3.1M of 12M voxels (26 %), 410k voxels/s, 0:22 left`."""
        return f"{self.title}: {self._amount(self._done, self.total, self._first)}"

    def _line_of_all_jobs(self) -> str:
        if self._all_jobs is None or self._all_jobs[0] == self.total:
            return ""
        total, done = self._all_jobs
        return f"; all jobs: {self._amount(done(), total, self._first_all_jobs)}"

    def _amount(self, done: float, total: float, first: float) -> str:
        """Return as text how much is done, the rate since `first`, and the time left."""
        elapsed = max(self._clock() - self._start, 1e-9)
        rate = (done - first) / elapsed
        left = (total - done) / rate if rate > 0 else float("inf")
        share = 100 * done / total if total else 100
        amount = f"{_short(done)} of {_short(total)} {self.unit} ({share:.0f} %)"
        return f"{amount}, {_short(rate)} {self.unit}/s, {clock_time(left)} left"

    def _draw_bar(self) -> None:
        filled = round(BAR_WIDTH * self._done / self.total) if self.total else BAR_WIDTH
        end = "\n" if self._done >= self.total else ""
        sys.stderr.write(f"\r[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {self.line()}\033[K{end}")
        sys.stderr.flush()


def _short(value: float) -> str:
    """Return a number with three digits at most and the letter of its power of 1,000.

    >>> [_short(v) for v in (0.5, 12, 4096, 16_777_216, 2.5e9)]
    ['0.5', '12', '4.1k', '16.8M', '2.5G']
    """
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.1f}{letter}".replace(".0", "")
    return f"{value:.3g}"


def clock_time(seconds: float) -> str:
    """Return a duration as minutes and seconds, or as hours, minutes and seconds.

    >>> clock_time(62), clock_time(3700), clock_time(float("inf"))
    ('1:02', '1:01:40', '?')
    """
    if seconds == float("inf"):
        return "?"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
