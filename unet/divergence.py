"""When a training is lost: its loss is no number any more, or has jumped up and stays there.

```
loss  |                      ........   RECENT steps, their mean
      |                     .
      | ....                .
      |     ................            BEFORE steps, their median
      +------------------------------> step
```

Single patches are hard or easy, so one high loss means nothing: the mean of `RECENT` steps is compared with the median
of the `BEFORE` ones. A state is worth keeping only while their ratio is well below what stops the training.
"""

from collections.abc import Sequence
from math import inf, isfinite, sqrt
from statistics import fmean, median

RECENT, BEFORE = 20, 200
MEMORY = RECENT + BEFORE
"""Losses that have to be remembered."""


def jump(losses: Sequence[float]) -> float:
    """Ratio of the mean of the last `RECENT` losses to the median of those before; 1 while there are too few.

    >>> jump([0.5] * 60 + [2.0] * 20), jump([0.5] * 30)
    (4.0, 1.0)
    """
    before = losses[-MEMORY:-RECENT]
    if len(before) < 2 * RECENT:
        return 1.0
    recent = fmean(losses[-RECENT:])
    return recent / max(median(before), 1e-12) if isfinite(recent) else inf


def is_lost(losses: Sequence[float], factor: float | None) -> bool:
    """Whether the losses have jumped by more than `factor`; never if that is None."""
    return factor is not None and jump(losses) > factor


def is_good(losses: Sequence[float], factor: float | None) -> bool:
    """Whether the state after these losses may replace the last one on disk."""
    return factor is None or jump(losses) <= sqrt(factor)
