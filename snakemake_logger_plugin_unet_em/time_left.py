"""Estimate the time that is left of a run from the times of its finished jobs."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from unet.jobs.progress import clock_time

REPORT_INTERVAL_S = 10.0
"""Seconds between two estimates. Each one counts all jobs, which takes longer the more jobs there are."""


@dataclass(frozen=True)
class StartedJob:
    """A job that Snakemake has started; `start` is a time in seconds."""

    number: int
    rule: str
    name: str
    start: float


class TimeLeft:
    """Estimate the time that is left: sum over rules of (mean time per job) x (jobs left), over the jobs at once.

    The jobs of a rule are block ranges of equal size, so their mean is a good estimate. A rule without a finished job
    does not count, and the estimate is then a lower bound. There is no estimate if more than half of the jobs that are
    left belong to such rules.
    """

    def __init__(self) -> None:
        self.jobs_left: Callable[[], Mapping[int, str] | None] = lambda: None
        """Return the rule of each unfinished job by its number; None if that is unknown."""
        self._finished: set[int] = set()
        self._took: dict[str, list[float]] = defaultdict(list)
        self._first_start: float | None = None
        self._last_report = float("-inf")

    def message_after(self, job: StartedJob, took: float, now: float, running: Iterable[StartedJob]) -> str:
        """Count a finished job that took `took` seconds, and return the end of its line; empty without an estimate.

        >>> rest = TimeLeft()
        >>> rest.jobs_left = lambda: {2: "predict", 3: "predict", 4: "predict", 5: "report"}
        >>> rest.message_after(StartedJob(1, "predict", "predict all", 0.0), 20.0, 20.0, [])
        '; more than 1:00 left'
        """
        self._took[job.rule].append(took)
        self._finished.add(job.number)
        self._first_start = job.start if self._first_start is None else min(self._first_start, job.start)
        if now - self._last_report < REPORT_INTERVAL_S:
            return ""
        jobs = self.jobs_left() or {}
        # Snakemake removes a job from its list a moment after it has reported the job as finished.
        left = Counter(rule for number, rule in jobs.items() if number not in self._finished)
        known = sum(number for rule, number in left.items() if rule in self._took)
        if 2 * known < left.total() or not left:
            return ""
        self._last_report = now
        seconds = self._seconds(left, now, running)
        return f"; {'about' if known == left.total() else 'more than'} {duration(seconds)} left"

    def _seconds(self, left: Mapping[str, int], now: float, running: Iterable[StartedJob]) -> float:
        mean = {rule: sum(took) / len(took) for rule, took in self._took.items()}
        work = sum(mean.get(rule, 0.0) * jobs for rule, jobs in left.items())
        begun = sum(min(now - job.start, mean.get(job.rule, 0.0)) for job in running)
        elapsed = now - (self._first_start or 0.0)
        at_once = max(1.0, sum(map(sum, self._took.values())) / elapsed) if elapsed > 0 else 1.0
        return max(0.0, work - begun) / at_once


def duration(seconds: float) -> str:
    """Return a duration as text: seconds below a minute, else as `clock_time`.

    >>> duration(3.21), duration(74)
    ('3.2 s', '1:14')
    """
    return f"{seconds:.1f} s" if seconds < 59.95 else clock_time(seconds)
