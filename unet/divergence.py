"""When a training is lost: its losses have jumped above what they were, and most of them stay there.

```
loss  |                       . ......  RECENT steps: more than half of them above the limit
      |- - - - - - - - - - - - - - - -  limit = factor * usual
      |      .
      | .. . .. ... .. .... .           BEFORE steps: USUAL of them are below `usual`
      +------------------------------> step
```

Patches differ: where the foreground is rare, most losses are near 0 and a few are a thousand times higher. So neither a
mean nor a median tells divergence from a hard patch, but the share of high losses does. In a steady training a loss is
above the 95th percentile once in 20 steps, however the losses are distributed; that 11 of 20 are has a probability of
C(20, 11) * 0.05^11 < 1e-9. After a jump that stays it takes 11 steps.
"""

from collections.abc import Sequence
from math import sqrt
from statistics import quantiles

RECENT, BEFORE = 20, 200
MEMORY = RECENT + BEFORE
"""Losses that have to be remembered."""
USUAL = 95
"""Percent of the earlier losses that are below the usual one."""


def usual_loss(losses: Sequence[float]) -> float | None:
    """What 95 % of the `BEFORE` losses before the last `RECENT` are below; None while there are too few.

    >>> usual_loss([0.5] * 60 + [2.0] * 20), usual_loss([0.5] * 30)
    (0.5, None)
    """
    before = losses[-MEMORY:-RECENT]
    if len(before) < 2 * RECENT:
        return None
    return quantiles(before, n=100, method="inclusive")[USUAL - 1]


def high_losses(losses: Sequence[float], factor: float) -> int:
    """How many of the last `RECENT` losses are above `factor` times the usual one; 0 while that is not known.

    >>> high_losses([0.5] * 60 + [2.0] * 5 + [0.5] * 15, factor=3)
    5
    """
    usual = usual_loss(losses)
    if usual is None:
        return 0
    return sum(not loss <= factor * max(usual, 1e-12) for loss in losses[-RECENT:])  # NaN is above everything


def is_lost(losses: Sequence[float], factor: float | None) -> bool:
    """Whether most of the last `RECENT` losses are above `factor` times the usual one; never if it is None."""
    return factor is not None and high_losses(losses, factor) > RECENT // 2


def is_good(losses: Sequence[float], factor: float | None) -> bool:
    """Whether the state after these losses may replace the last one on disk: none is near what would be too high."""
    return factor is None or high_losses(losses, sqrt(factor)) == 0
