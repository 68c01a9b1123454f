"""Progress of long work: a bar on a terminal, plain lines in a log, with rate and time left."""

import logging
import sys
import time
from collections.abc import Callable

FIRST_LINE_S = 5.0
LINE_EVERY_S = 30.0
BAR_WIDTH = 24

log = logging.getLogger(__name__)


class Progress:
    """Counts `unit`s up to `total` and says how fast and how long still.

    Parameters
    ----------
    title
        What is being done.
    total, unit
        How much there is of what, e.g. voxels.
    done
        How much an earlier, killed run has left; it does not count towards the rate.
    together
        Where this is one of several jobs: how much all of them have to do, and a function that tells how much is done.
    """

    def __init__(
        self,
        title: str,
        total: float,
        unit: str,
        done: float = 0.0,
        together: tuple[float, Callable[[], float]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.title, self.total, self.unit = title, total, unit
        self._clock, self._start, self._first = clock, clock(), done
        self._done, self._next_line = done, FIRST_LINE_S
        self._together = together
        self._first_together = together[1]() if together else 0.0
        if done:
            log.info("%s: %s of %s %s were done before", title, _short(done), _short(total), unit)

    def advance(self, amount: float) -> None:
        """Count `amount` more."""
        self._done += amount
        elapsed = self._clock() - self._start
        if elapsed >= self._next_line or self._done >= self.total:
            self._next_line = elapsed + LINE_EVERY_S
            log.info("%s", self.line() + self._line_of_all_jobs())
        if sys.stderr.isatty():
            self._draw_bar()

    def line(self) -> str:
        """The state in words, e.g. `predict: 3.1M of 12M voxels (26 %), 410k voxels/s, 0:22 left`."""
        return f"{self.title}: {self._amount(self._done, self.total, self._first)}"

    def _line_of_all_jobs(self) -> str:
        if self._together is None or self._together[0] == self.total:
            return ""
        whole, done = self._together
        return f"; all jobs: {self._amount(done(), whole, self._first_together)}"

    def _amount(self, done: float, total: float, first: float) -> str:
        """How much of what, the rate since `first`, and the time left."""
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
    """
    >>> [_short(v) for v in (0.5, 12, 4096, 16_777_216, 2.5e9)]
    ['0.5', '12', '4.1k', '16.8M', '2.5G']
    """
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.1f}{letter}".replace(".0", "")
    return f"{value:.3g}"


def clock_time(seconds: float) -> str:
    """
    >>> clock_time(62), clock_time(3700), clock_time(float("inf"))
    ('1:02', '1:01:40', '?')
    """
    if seconds == float("inf"):
        return "?"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
