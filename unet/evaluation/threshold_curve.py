"""Choose the threshold of the agglomeration from the VOI at several thresholds.

1. `ThresholdCurve.smoothed`: the mean over a threshold and its two neighbours. At a single threshold, one join of two
   large objects may be right by luck. It moves the VOI by more than all other settings, and is no reason to choose the
   threshold.
2. `ThresholdCurve.best`: the threshold with the least of these means. The flat part around it says how certain the
   choice is.

```
VOI    .    .              . the scores      one good threshold between two bad ones is not chosen
         .      . . .        flat part       three good ones beside each other are
           .         .
threshold 0.1 ...  0.5
```

`choose_agglomeration_threshold` takes the best of one curve, `choose_decoder` the best of many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLAT_BITS = 0.05
"""VOI above the chosen one, in bits, up to which neighbouring thresholds count as equally good."""


@dataclass(frozen=True, eq=False)
class ThresholdCurve:
    """The scores at several thresholds.

    Attributes
    ----------
    thresholds : (thresholds,) floats in increasing order
    voi : (thresholds,) float64, VOI in bits
    adapted_rand_error : (thresholds,) float64
    """

    thresholds: Sequence[float]
    voi: NDArray[np.float64]
    adapted_rand_error: NDArray[np.float64]

    @property
    def smoothed(self) -> NDArray[np.float64]:
        """Return the mean VOI over each threshold and its two neighbours; infinite at both ends, which have one
        neighbour.

                With fewer than three thresholds it is the VOI itself.

        >>> ThresholdCurve([0.1, 0.2, 0.3, 0.4], np.array([3.0, 0, 3, 0]), np.zeros(4)).smoothed.tolist()
        [inf, 2.0, 1.0, inf]
        """
        if len(self.voi) < 3:
            return self.voi
        inner = (self.voi[:-2] + self.voi[1:-1] + self.voi[2:]) / 3
        return np.concatenate([[np.inf], inner, [np.inf]])

    @property
    def best(self) -> int:
        """Return the index of the threshold with the least smoothed VOI; of equals the one in the middle."""
        equals = np.flatnonzero(self.smoothed == self.smoothed.min())
        return int(equals[(len(equals) - 1) // 2])

    @property
    def flat(self) -> tuple[float, float]:
        """Return the lowest and highest threshold around the best one with a VOI at most `FLAT_BITS` above its own."""
        near = self.voi <= self.voi[self.best] + FLAT_BITS
        first = last = self.best
        while first > 0 and near[first - 1]:
            first -= 1
        while last + 1 < len(near) and near[last + 1]:
            last += 1
        return self.thresholds[first], self.thresholds[last]

    @property
    def beyond(self) -> bool:
        """Return whether an end of the list, which is never chosen, has a lower VOI than the threshold beside it."""
        ends = ((1, 0), (len(self.voi) - 2, -1))
        return any(self.best == beside and self.voi[end] < self.voi[beside] for beside, end in ends)

    def row(self) -> dict[str, Any]:
        """Return the best threshold and the curve, as plain values."""
        best = self.best
        return {
            "threshold": self.thresholds[best],
            "voi": float(self.voi[best]),
            "smoothed_voi": float(self.smoothed[best]),
            "adapted_rand_error": float(self.adapted_rand_error[best]),
            "flat": list(self.flat),
            "curve": self.voi.tolist(),
        }


def threshold_curve(rows: Sequence[Mapping[str, Any]]) -> ThresholdCurve:
    """Return the curve of rows with `threshold`, `voi_split`, `voi_merge` and `adapted_rand_error`."""
    voi = np.array([row["voi_split"] + row["voi_merge"] for row in rows])
    errors = np.array([row["adapted_rand_error"] for row in rows])
    return ThresholdCurve([row["threshold"] for row in rows], voi, errors)
