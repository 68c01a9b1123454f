"""When a training is lost: its losses have jumped, most of them and not just a few.

```
loss  |                         .  .    RECENT steps: their mean above factor, and their median above
      |      .                 . .. .   the root of factor, times what was usual
      |            .          .
      | .. .. ..... ... ... ..          BEFORE steps: USUAL of them are below the usual loss
      +------------------------------> step
```

Patches differ: where the foreground is rare, most losses are near 0 and a few are a thousand times higher. One such
loss lifts the mean of the recent ones, so the mean alone says nothing. The median alone says nothing where nearly half
of the patches hold foreground. Together they do: a mean of `factor` times the usual one leaves such losses a share of
less than one in ten before. That they are half of 40 then has a probability of P(B(40, 1/10) >= 20) < 1e-9. The usual
losses leave out the highest ones, so that an earlier outlier does not hide a jump.

A state is kept only while all is as usual: no recent loss is near `factor` times any of the usual ones.
"""

from collections.abc import Sequence
from math import fsum, sqrt
from statistics import median

RECENT_STEPS, BASELINE_STEPS = 40, 200
LOSSES_KEPT = RECENT_STEPS + BASELINE_STEPS
"""Losses that have to be remembered."""
BASELINE_SHARE = 0.95


def baseline_losses(losses: Sequence[float]) -> list[float]:
    """The `BASELINE_STEPS` losses before the last `RECENT_STEPS` without the highest ones, in order; none while there are too few.

    >>> baseline_losses([9.0, *[0.5] * 39, *[2.0] * 40]) == [0.5] * 38, baseline_losses([0.5] * 79)
    (True, [])
    """
    before = losses[-LOSSES_KEPT:-RECENT_STEPS]
    return sorted(before)[: int(BASELINE_SHARE * len(before))] if len(before) >= RECENT_STEPS else []


def loss_ratio(losses: Sequence[float]) -> float:
    """How many times the usual losses the recent ones are, as mean and, squared, as median, whichever is less.

    >>> loss_ratio([0.5] * 60 + [20.0] * 40), loss_ratio([0.5] * 60 + [1e9] + [0.5] * 39), loss_ratio([0.5] * 60)
    (40.0, 1.0, 1.0)
    """
    usual, recent = baseline_losses(losses), losses[-RECENT_STEPS:]
    if not usual:
        return 1.0
    by_mean = fsum(recent) / RECENT_STEPS / max(fsum(usual) / len(usual), 1e-12)
    by_median = median(recent) / max(median(usual), 1e-12)
    return min(by_mean, by_median**2)


def has_diverged(losses: Sequence[float], factor: float | None) -> bool:
    """Whether the losses have jumped by more than `factor`; never if that is None."""
    return factor is not None and loss_ratio(losses) > factor


def is_stable(losses: Sequence[float], factor: float | None) -> bool:
    """Whether the state after these losses may replace the last one on disk."""
    usual = baseline_losses(losses)
    return factor is None or not usual or max(losses[-RECENT_STEPS:]) <= sqrt(factor) * usual[-1]
