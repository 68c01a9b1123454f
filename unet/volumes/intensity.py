"""Grey values of a whole volume, the same for any cut into blocks: counts are added up, statistics come last.

1. `unet.volumes.histogram`: every block counts its voxels under 65,536 keys, those in constant regions apart.
2. The counts are added: integers, so neither order nor cut matter.
3. `intensity_statistics`: mean, std and percentiles of the sum, each exact before it is rounded to float64; what fills
   constant regions is left out (`fill_bins`).
4. `Normalisation`: (x - centre) / scale, with the two numbers of each channel frozen for the whole volume.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from unet.config.normalisation import NormalisationConfig
from unet.volumes.histogram import BinSums, bins

LEAST_FILL = Fraction(1, 1000)
"""Of all voxels, in constant regions of one value: what is less changes no statistic that matters."""
MOST_ELSEWHERE = Fraction(1, 10)
"""Of the other voxels, with a value that fills constant regions: where there are more, the whole image is drawn."""
LEAST_BINS = 32
"""Between two percentiles of float data, for these to be known well enough."""


class IntensityError(ValueError):
    """Grey values that cannot be normalised as the configuration asks."""


@dataclass(frozen=True)
class IntensityStatistics:
    """Statistics of the grey values of a channel, in the unit of its dtype, and how it is normalised.

    All but `fill_values` and `left_out` (voxels) are of the voxels that were not left out. Minimum, maximum and
    percentiles of float32 are means of the voxels that share a key.
    """

    mean: float
    std: float
    minimum: float
    maximum: float
    p01: float
    p99: float
    count: int
    centre: float
    scale: float
    fill_values: tuple[float, ...] = ()
    left_out: int = 0


def fill_bins(elsewhere: NDArray[np.int64], constant: NDArray[np.int64]) -> NDArray[np.intp]:
    """Keys whose constant regions are no tissue: they hold a thousandth of the volume, and tissue has other values.

    In a drawn image without noise, cells are constant regions too, and voxels beside them have the same values. So
    nothing counts as a filling where more than a tenth of the voxels elsewhere have such a value.

    Parameters
    ----------
    elsewhere, constant : numpy.ndarray
        `histogram` of the voxels outside constant regions, and inside.
    """
    least = LEAST_FILL * int(elsewhere[0].sum() + constant[0].sum())
    found = np.flatnonzero(constant[0] >= max(1, float(least)))
    same = int(elsewhere[0, found].sum())
    return found if same <= MOST_ELSEWHERE * int(elsewhere[0].sum()) else found[:0]


def intensity_statistics(
    elsewhere: NDArray[np.int64],
    dtype: DTypeLike,
    constant: NDArray[np.int64] | None = None,
    rule: NormalisationConfig = NormalisationConfig(),  # noqa: B008
    channel: int = 0,
    masked: NDArray[np.int64] | None = None,
) -> IntensityStatistics:
    """Statistics of a channel: mean, std = sqrt(mean of (v - mean)^2), extremes, percentiles; centre and scale.

    BinSums are exact, so the result depends neither on the order nor on the cut of the additions. A percentile p is the
    smallest value that at least p % of the voxels do not exceed. Of a constant volume std is exactly 0.

    Parameters
    ----------
    elsewhere, constant : numpy.ndarray
        `histogram` of the voxels outside constant regions (`unet.volumes.constant_regions`), and inside.
    dtype : dtype
        Of the grey values that were counted.
    rule : NormalisationConfig
        What is left out, and which two numbers normalise.
    channel : int
        Which entry of lists in `rule`.
    masked : numpy.ndarray, optional
        `histogram` of constant regions outside the mask: it tells what fills them, and counts for nothing else.

    Raises
    ------
    IntensityError
        If no voxel is left, or the percentiles say too little.
    ValueError
        If the dtype has no keys.
    """
    constant = np.zeros_like(elsewhere) if constant is None else constant
    every = elsewhere + constant
    masked = np.zeros_like(elsewhere) if masked is None else masked
    fill, kept = _without_fill(elsewhere, constant, masked, dtype, rule)
    sums = BinSums.of(kept, dtype)
    if not sums.count:
        counted = int(every[0].sum())
        raise IntensityError(
            f"no voxel was counted: all {counted} have the value {rule.ignore_value:g} that is to be ignored; correct "
            "normalisation.ignore_value"
            if counted
            else "no voxel was counted: the mask is 0, or all sections are blank; correct `mask` or `sections`"
        )
    centre, scale = _numbers(rule, sums, dtype, channel)
    return IntensityStatistics(
        mean=float(sums.mean),
        std=sqrt(sums.variance),
        minimum=sums.value(0),
        maximum=sums.value(-1),
        p01=sums.value(sums.percentile(1)),
        p99=sums.value(sums.percentile(99)),
        count=sum(sums.count),
        centre=centre,
        scale=scale,
        fill_values=tuple(fill),
        left_out=int(every[0].sum()) - sum(sums.count),
    )


def _without_fill(
    elsewhere: NDArray[np.int64],
    constant: NDArray[np.int64],
    masked: NDArray[np.int64],
    dtype: DTypeLike,
    rule: NormalisationConfig,
) -> tuple[list[float], NDArray[np.int64]]:
    """The values that are no tissue, and the counts of what is left: all voxels of an ignored value are left out."""
    kept = elsewhere + constant
    if rule.ignore_value == "none":
        return [], kept
    if rule.ignore_value == "auto":
        found = fill_bins(elsewhere, constant + masked)
        fill, rest = np.zeros_like(constant), kept.copy()
        fill[:, found] = (constant + masked)[:, found]
        rest[:, found] = elsewhere[:, found]
        of_fill, of_rest = BinSums.of(fill, dtype), BinSums.of(rest, dtype)
        if not of_rest.count or of_rest.variance == 0:  # a blank volume with a speck: there is no tissue either
            return [], kept
        return [of_fill.value(number) for number in range(len(found))], rest
    value, kind = rule.ignore_value, np.dtype(dtype)
    if kind.kind != "f" and not (value.is_integer() and np.iinfo(kind).min <= value <= np.iinfo(kind).max):
        return [], kept  # no voxel can have it
    kept[:, bins(np.array([value], kind))] = 0
    return [value], kept


def _numbers(rule: NormalisationConfig, sums: BinSums, dtype: DTypeLike, channel: int) -> tuple[float, float]:
    """Centre and scale: as given, between two percentiles (which become -1 and 1), or mean and std."""
    if rule.mean is not None and rule.std is not None:
        return _of_channel(rule.mean, channel), _of_channel(rule.std, channel)
    if rule.percentiles is None:
        return float(sums.mean), sqrt(sums.variance)
    low, high = (sums.percentile(percent) for percent in rule.percentiles)
    first, last = sums.value(low), sums.value(high)
    if np.dtype(dtype).kind == "f" and sums.bins[high] - sums.bins[low] < LEAST_BINS:
        raise IntensityError(
            f"normalisation.percentiles: {list(rule.percentiles)} % of these float data are about {first:g} and "
            f"{last:g}, too close to each other to be known; leave percentiles out, or store the data as integers"
        )
    if first == last:
        raise IntensityError(
            f"normalisation.percentiles: {list(rule.percentiles)} % of the grey values are both {last:g}"
        )
    return (first + last) / 2, (last - first) / 2


def _of_channel(given: float | list[float], channel: int) -> float:
    if not isinstance(given, list):
        return given
    if channel >= len(given):
        raise IntensityError(f"normalisation.mean and std have {len(given)} numbers, but there is a channel {channel}")
    return given[channel]


@dataclass(frozen=True)
class Normalisation:
    """Grey values as the network sees them: (x - centre) / scale of each channel, with numbers of the whole volume.

    Where the scale is 0, of a constant channel, the divisor is 1: its voxels become 0 and nothing overflows. The result
    at a voxel depends on that voxel and the two numbers of its channel alone. It is computed in float32, as float data
    are stored: the centre is rounded by no more than half a step of theirs.

    >>> Normalisation((100.0,), (25.0,))(np.array([[100, 150]], np.uint8))
    array([[0., 2.]], dtype=float32)

    Parameters
    ----------
    centre, scale : tuple of float
        One value a channel, see `intensity_statistics`.
    fill_values : tuple of tuple of float
        Values that fill the blank regions of each channel (see `unet.volumes.raw_without_blanks`).
    """

    centre: tuple[float, ...]
    scale: tuple[float, ...]
    fill_values: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def of(cls, statistics: Sequence[Mapping[str, Any]]) -> "Normalisation":
        """From the statistics of each channel, as the receipt of `intensity_statistics` holds them."""
        centre, scale = (tuple(float(one[key]) for one in statistics) for key in ("centre", "scale"))
        return cls(centre, scale, tuple(tuple(one["fill_values"]) for one in statistics))

    @property
    def channels(self) -> int:
        """Grey values a voxel."""
        return len(self.centre)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Grey values `(c, ...)` of any dtype as float32."""
        centre, divisor = self.columns(values.shape)
        return (values.astype(np.float32) - centre) / divisor

    def columns(self, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Centre and divisor, float32 `(c, 1, ...)`, for grey values of shape `(c, ...)`.

        Raises
        ------
        ValueError
            If there are more or fewer channels than statistics.
        """
        if shape[0] != self.channels:
            raise ValueError(f"{shape[0]} channel(s) of grey values, but statistics of {self.channels}")
        column = (-1, *(1,) * (len(shape) - 1))
        centre, scale = (np.array(numbers, np.float32).reshape(column) for numbers in (self.centre, self.scale))
        return centre, np.where(scale == 0, np.float32(1), scale)
