"""How long the rest of a run takes, by what its jobs have taken so far."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from unet.jobs.progress import clock_time

SAID_EVERY_S = 10.0
"""Counting the jobs takes time that grows with their number."""


@dataclass(frozen=True)
class StartedJob:
    """A job that Snakemake has started, at a time in seconds."""

    number: int
    rule: str
    name: str
    start: float
    reads_headers: bool = False


class TimeLeft:
    """The mean time of each rule's finished jobs, times the jobs of it that are left, shared by as many as run at once.

    Block ranges of a volume are of one size, so their mean foretells well. A rule of which no job has finished is not
    counted: the time is then a lower bound, and nothing is said where more than half of the jobs are of such rules.
    """

    def __init__(self) -> None:
        self.jobs_left: Callable[[], Mapping[int, str] | None] = lambda: None
        """The rule of each job that has not finished, by its number; None where that is not known."""
        self._finished: set[int] = set()
        self._took: dict[str, list[float]] = defaultdict(list)
        self._first_start: float | None = None
        self._said = float("-inf")

    def after(self, job: StartedJob, took: float, now: float, running: Iterable[StartedJob]) -> str:
        """What there is to say when a job has finished that took some seconds; not at every job.

        >>> rest = TimeLeft()
        >>> rest.jobs_left = lambda: {2: "predict", 3: "predict", 4: "predict", 5: "report"}
        >>> rest.after(StartedJob(1, "predict", "predict all", 0.0), 20.0, 20.0, [])
        '; more than 1:00 left'
        """
        self._took[job.rule].append(took)
        self._finished.add(job.number)
        self._first_start = job.start if self._first_start is None else min(self._first_start, job.start)
        if now - self._said < SAID_EVERY_S:
            return ""
        jobs = self.jobs_left() or {}
        # Snakemake takes a job off its list a moment after it has said that it is finished.
        left = Counter(rule for number, rule in jobs.items() if number not in self._finished)
        known = sum(number for rule, number in left.items() if rule in self._took)
        if 2 * known < left.total() or not left:
            return ""
        self._said = now
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
    """
    >>> duration(3.21), duration(74)
    ('3.2 s', '1:14')
    """
    return f"{seconds:.1f} s" if seconds < 59.95 else clock_time(seconds)
