"""When a training is lost: its losses have jumped, and nearly all of them stay high.

```
loss  |                        .......  RECENT steps: MOST of them above factor * the median before
      |      .                .
      |            .
      | .. .. ..... ... ... ..          BEFORE steps: their median, and what USUAL of them are below
      +------------------------------> step
```

Patches differ: where the foreground is rare, most losses are near 0 and a few are a thousand times higher. So a mean
says nothing, and neither does one loss. In a steady training a loss is above the median once in two steps, however the
losses are distributed, so that MOST of the recent ones are has a probability of P(B(40, 1/2) >= 36) = 1e-7. After a
jump that stays it takes 36 steps.

A state is kept only while all is as usual: no recent loss is near `factor` times what USUAL of the earlier are below.
"""

from collections.abc import Sequence
from math import sqrt
from statistics import median, quantiles

RECENT, BEFORE = 40, 200
MEMORY = RECENT + BEFORE
"""Losses that have to be remembered."""
MOST = 36
"""Of the recent losses: nine in ten."""
USUAL = 95
"""Percent."""


def median_before(losses: Sequence[float]) -> float | None:
    """Median of the `BEFORE` losses before the last `RECENT`; None while there are too few.

    >>> median_before([0.5] * 60 + [2.0] * 40), median_before([0.5] * 60)
    (0.5, None)
    """
    before = losses[-MEMORY:-RECENT]
    return median(before) if len(before) >= RECENT else None


def is_lost(losses: Sequence[float], factor: float | None) -> bool:
    """Whether most of the recent losses are above `factor` times the median before; never if the factor is None."""
    usual = median_before(losses)
    return factor is not None and usual is not None and _above(losses, factor * usual) >= MOST


def is_good(losses: Sequence[float], factor: float | None) -> bool:
    """Whether the state after these losses may replace the last one on disk."""
    if factor is None or median_before(losses) is None:
        return True
    usual = quantiles(losses[-MEMORY:-RECENT], n=100, method="inclusive")[USUAL - 1]
    return _above(losses, sqrt(factor) * usual) == 0


def _above(losses: Sequence[float], limit: float) -> int:
    """How many of the recent losses are above a limit; what is no number is above every limit."""
    return sum(not loss <= max(limit, 1e-12) for loss in losses[-RECENT:])
