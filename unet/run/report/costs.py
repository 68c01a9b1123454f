"""The costs of a run: time and memory per rule, from the benchmark files of its jobs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RuleCost:
    """Time and memory of all jobs of a rule.

    Attributes
    ----------
    rule : name of the rule
    jobs : number of its jobs
    seconds, longest_seconds : wall-clock time of all jobs together, and of the longest one
    memory_mb : peak memory of the largest job; None where it was not measured
    time_share, memory_share : fraction, 0 to 1, of the largest value over the rules: the length of the bars
    """

    rule: str
    jobs: int
    seconds: float
    longest_seconds: float
    memory_mb: float | None
    time_share: float = 0.0
    memory_share: float = 0.0


def rule_costs(rows: Iterable[Mapping[str, Any]]) -> list[RuleCost]:
    """Return time (sum and longest job) and memory (maximum) of each rule, in the order of first appearance.

    Parameters
    ----------
    rows : one per job: ``rule`` and the columns of Snakemake's benchmark file, of which ``s`` (wall-clock seconds)
        and ``max_rss`` (MB) are read, as text or numbers; ``NA`` and ``-`` are missing values

    >>> [cost] = rule_costs([{"rule": "predict", "s": "2.5", "max_rss": "NA"}, {"rule": "predict", "s": 4}])
    >>> cost.jobs, cost.seconds, cost.longest_seconds, cost.memory_mb
    (2, 6.5, 4.0, None)
    """
    jobs: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        jobs.setdefault(str(row["rule"]), []).append(row)
    times = {rule: [_measured(row.get("s")) or 0.0 for row in own] for rule, own in jobs.items()}
    memory = {rule: max(_measured(row.get("max_rss")) or 0.0 for row in own) for rule, own in jobs.items()}
    most_time = max(map(sum, times.values()), default=0.0) or 1.0
    most_memory = max(memory.values(), default=0.0) or 1.0
    return [
        RuleCost(rule, len(s), sum(s), max(s), memory[rule] or None, sum(s) / most_time, memory[rule] / most_memory)
        for rule, s in times.items()
    ]


def _measured(value: Any) -> float | None:
    """Return a measured value as a number; None where it is missing."""
    return None if value in (None, "", "-", "NA") else float(value)
