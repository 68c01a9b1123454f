"""Find the step of a series of numbers, and what is missing in it.

```
1, 2, 3, 4              step 1                     complete
10, 20, 30, 50          step 10, 40 is missing     gaps
9.95, 10.01, 10.04      steps of about 0.05        drifting, as measured depths do
3, 17, 120              no step                    irregular
```
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from math import gcd

Number = int | Decimal

COMPLETE, GAPS, DRIFTING, IRREGULAR = range(4)
"""How evenly numbers step, from the best."""
SHARE_OF_LATTICE = 0.5
"""Numbers with a common step are a series if at least this share of them is there."""
DRIFT = 0.2
"""Measured numbers drift if each step is as long as whole steps, but for this share of a step."""
DRIFT_OF_WHOLE = 0.1
"""The same of whole numbers."""
MEASURED_FROM, RESOLUTIONS = 1000, 20
"""Whole numbers are measured, and may drift, only from this value and this step on."""
NAMED_GAPS = 8
"""Gaps that a message names."""


@dataclass(frozen=True)
class Stepping:
    """Steps of a series of numbers.

    Attributes
    ----------
    quality : int
        `COMPLETE`, `GAPS`, `DRIFTING` or `IRREGULAR`.
    step : int, Decimal or None
        Common step; None of a single number.
    gaps : str or None
        Which numbers are missing, for a message.
    shortest, longest : int, Decimal or None
        Shortest and longest difference of neighbours.
    """

    quality: int
    step: Number | None
    gaps: str | None = None
    shortest: Number | None = None
    longest: Number | None = None

    @property
    def is_lattice(self) -> bool:
        """Return whether all numbers are whole steps apart, and most of them are there."""
        return self.quality in (COMPLETE, GAPS)

    @property
    def is_drifting(self) -> bool:
        """Return whether the steps are about as long as each other."""
        return self.quality == DRIFTING

    def remarks(self, name: str, folder: str) -> Iterator[str]:
        """Yield what the user has to know about the steps of a number in the names."""
        if self.is_drifting:
            yield (
                f"{folder}: {name} steps by {self.shortest} to {self.longest}; the sections are read as if they were "
                "equally thick, and a missing one shows only as a step of twice the length"
            )
        elif self.step is not None and self.step != 1 and isinstance(self.step, int) and self.gaps is None:
            yield f"{folder}: {name} counts in steps of {self.step}; the sections are read as neighbours"


@lru_cache(maxsize=256)
def stepping_of(values: tuple[Number, ...]) -> Stepping:
    """Return how numbers that all differ step; their order does not matter.

    >>> stepping_of((10, 20, 30, 50)).gaps, stepping_of((12, 13, 14, 17)).gaps, stepping_of((5, 10, 15)).gaps
    ('40', '15 to 16', None)
    """
    ordered = sorted(set(values))
    steps: list[Number] = [b - a for a, b in pairwise(ordered)]
    if not steps:
        return Stepping(COMPLETE, None)
    shortest, longest, is_whole = min(steps), max(steps), isinstance(ordered[0], int)
    if len(steps) == 1:  # two numbers do not tell a step
        if not is_whole:
            return Stepping(GAPS, shortest, None, shortest, longest)
        step: Number = 1
    elif all(one % shortest == 0 for one in steps):
        step = shortest
    else:
        drifting = _drifting(ordered, steps, is_whole)
        if drifting is not None:
            return drifting
        step = _common_step(steps)
    gaps = _gaps(ordered, step)
    count = (ordered[-1] - ordered[0]) / step + 1
    quality = COMPLETE if gaps is None else GAPS if len(ordered) >= SHARE_OF_LATTICE * float(count) else IRREGULAR
    if quality == IRREGULAR and float(count) > 1000 * len(ordered):
        gaps = f"to tell which: steps of {shortest} to {longest} are no series"
    return Stepping(quality, step, gaps, shortest, longest)


def _drifting(ordered: Sequence[Number], steps: Sequence[Number], is_whole: bool) -> Stepping | None:
    """Return the steps of measured numbers, which are about as long as each other; None if they are not."""
    median = sorted(steps)[len(steps) // 2]
    counts = [max(1, round(float(one / median))) for one in steps]
    if is_whole and (median < RESOLUTIONS or all(-MEASURED_FROM < value < MEASURED_FROM for value in ordered)):
        return None
    share = DRIFT_OF_WHOLE if is_whole else DRIFT
    if any(abs(float(one / median) - count) > share for one, count in zip(steps, counts, strict=True)):
        return None
    counted = zip(pairwise(ordered), counts, strict=True)
    wide = [f"{count - 1} between {a} and {b}" for (a, b), count in counted if count > 1]
    return Stepping(DRIFTING, median, _some(wide) if wide else None, min(steps), max(steps))


def _common_step(steps: Sequence[Number]) -> Number:
    """Return the largest number of which all steps are multiples."""
    if all(isinstance(one, int) for one in steps):
        return gcd(*(int(one) for one in steps))
    finest = min(int(Decimal(one).as_tuple().exponent) for one in steps)
    unit = Decimal(1).scaleb(finest)
    return gcd(*(int(one / unit) for one in steps)) * unit


def _gaps(ordered: Sequence[Number], step: Number) -> str | None:
    """Return which numbers are missing between numbers that are multiples of a step apart."""
    wide = [(a + step, b - step) for a, b in pairwise(ordered) if b - a > step]
    return _some([str(a) if a == b else f"{a} to {b}" for a, b in wide]) if wide else None


def _some(named: Sequence[str]) -> str:
    more = len(named) - NAMED_GAPS
    return ", ".join(named[:NAMED_GAPS]) + (f" and {more} more" if more > 0 else "")
