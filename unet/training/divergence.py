"""Detect a diverged training: most of its losses have jumped, not just a few.

```
loss  |                         .  .    RECENT_STEPS: their mean exceeds factor times the mean of the baseline,
      |      .                 . .. .   and their median exceeds sqrt(factor) times the median of the baseline
      |            .          .
      | .. .. ..... ... ... ..          BASELINE_STEPS: the lowest BASELINE_SHARE of their losses are the baseline
      +------------------------------> step
```

Losses of patches differ. Where the foreground is rare, most losses are near 0 and a few are a thousand times higher.
One high loss lifts the mean of the recent losses, so the mean alone proves nothing. The median alone proves nothing
either, where nearly half of the patches hold foreground. Both together do: the mean is `factor` times the baseline only
if high losses had a share of less than one in ten before. That 20 of 40 recent losses are high then has a probability
of P(B(40, 1/10) >= 20) < 1e-9. The baseline leaves out the highest losses, so that an earlier outlier hides no jump.

A state is saved only while the training is stable: no recent loss is near `factor` times any loss of the baseline.
"""

from collections.abc import Callable, Sequence
from math import fsum, isfinite, sqrt
from statistics import median

from unet.config.train import TrainConfig

RECENT_STEPS, BASELINE_STEPS = 40, 200
MAX_STORED_LOSSES = RECENT_STEPS + BASELINE_STEPS
"""Number of losses that a training has to keep."""
BASELINE_SHARE = 0.95


class TrainingError(RuntimeError):
    """The training has diverged; the message says what to change, and which state is kept."""


def baseline_losses(losses: Sequence[float]) -> list[float]:
    """Return the baseline: the `BASELINE_STEPS` losses before the recent ones, sorted, without the highest.

    The baseline is empty while fewer than `RECENT_STEPS` losses precede the recent ones.

    >>> baseline_losses([9.0, *[0.5] * 39, *[2.0] * 40]) == [0.5] * 38, baseline_losses([0.5] * 79)
    (True, [])
    """
    before = losses[-MAX_STORED_LOSSES:-RECENT_STEPS]
    return sorted(before)[: int(BASELINE_SHARE * len(before))] if len(before) >= RECENT_STEPS else []


def loss_ratio(losses: Sequence[float]) -> float:
    """Return the ratio of recent to baseline losses: of the means, or squared of the medians, whichever is smaller.

    >>> loss_ratio([0.5] * 60 + [20.0] * 40), loss_ratio([0.5] * 60 + [1e9] + [0.5] * 39), loss_ratio([0.5] * 60)
    (40.0, 1.0, 1.0)
    """
    baseline, recent = baseline_losses(losses), losses[-RECENT_STEPS:]
    if not baseline:
        return 1.0
    by_mean = fsum(recent) / RECENT_STEPS / max(fsum(baseline) / len(baseline), 1e-12)
    by_median = median(recent) / max(median(baseline), 1e-12)
    return min(by_mean, by_median**2)


def has_diverged(losses: Sequence[float], factor: float | None) -> bool:
    """Return whether the losses have jumped by more than `factor`; a factor of None never diverges."""
    return factor is not None and loss_ratio(losses) > factor


def is_stable(losses: Sequence[float], factor: float | None) -> bool:
    """Return whether the state after these losses may replace the state on disk."""
    baseline = baseline_losses(losses)
    return factor is None or not baseline or max(losses[-RECENT_STEPS:]) <= sqrt(factor) * baseline[-1]


def require_finite(step: int, loss: float, norm: float, config: TrainConfig, kept_state: Callable[[], str]) -> None:
    """Raise a TrainingError if the loss of a step or the norm of its gradient is not finite."""
    if not (isfinite(loss) and isfinite(norm)):
        raise TrainingError(
            f"training diverged: loss {loss} and gradient norm {norm} at step {step}. {_advice(config)}. {kept_state()}"
        )


def require_stable(step: int, losses: Sequence[float], config: TrainConfig, kept_state: Callable[[], str]) -> None:
    """Raise a TrainingError if the losses up to a step have jumped; `kept_state` says which state is kept."""
    factor = config.spike_factor
    if factor is not None and has_diverged(losses, factor):
        raise TrainingError(
            f"training diverged: the last {RECENT_STEPS} losses, up to step {step}, are {loss_ratio(losses):.1f} "
            f"times what was usual before, and train.spike_factor allows {factor:g}. {_advice(config)}; or set "
            f"train.spike_factor to null, to train on whatever the losses are. {kept_state()}"
        )


def _advice(config: TrainConfig) -> str:
    rate, norm = config.learning_rate, config.clip_norm
    return f"Lower train.learning_rate (now {rate:g}) or set train.clip_norm (now {norm or 'null'})"
