"""Compute intensity statistics of a whole volume, and normalise with them. The result is the same for any blocks.

1. `unet.volumes.histogram`: every block counts its voxels in 65,536 bins, voxels in constant regions separately.
2. The counts of all blocks are added. They are integers, so neither the order nor the cut into blocks matters.
3. `intensity_statistics`: mean, std and percentiles of the sum, each exact before it is rounded to float64. The values
   that fill constant regions are left out (`fill_bins`).
4. `Normalisation`: (x - centre) / scale, with two numbers per channel that are fixed for the whole volume.
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

MIN_FILL = Fraction(1, 1000)
"""Smallest share of all voxels, in constant regions of one value, for the value to be left out of the statistics."""
MAX_ELSEWHERE = Fraction(1, 10)
"""Largest share of the other voxels with such a value. With a larger share the image is drawn, not imaged."""
MIN_BINS = 32
"""Smallest number of bins between two percentiles of float data; a bin is 1/128 of a value wide."""

CROWD = 0.2
"""Share of the voxels, at an end of the intensities, from which they may be noise around the tissue."""
CROWD_WIDTH = 0.03
"""Half the width of such a crowd, as a share of the range from percentile 1 to percentile 99."""
FLATTENED = 0.6
"""Standard deviation, as a share of that range, from which voxels outside it flatten the contrast of all others."""


class IntensityError(ValueError):
    """The intensities cannot be normalised as the configuration asks."""


@dataclass(frozen=True)
class IntensityStatistics:
    """Intensity statistics of a channel, and the two numbers that normalise the channel.

    `fill_values` are the intensities that were left out, and `left_out` is the number of their voxels. All other
    fields describe the voxels that were kept. Minimum, maximum and percentiles of float32 are means over a bin.
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

    @property
    def is_flattened(self) -> bool:
        """Return whether a few voxels far from all others, such as a hot pixel, make the scale too large.

        Without the lowest and the highest 1 % of the voxels, the standard deviation is half their range at most.
        """
        return self.scale == self.std and self.std > FLATTENED * (self.p99 - self.p01)


def fill_bins(elsewhere: NDArray[np.int64], constant: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the bins that fill blank regions: in constant regions they hold at least a thousandth of all voxels.

    In a drawn image without noise, cells are constant regions as well, and many other voxels have the same values. No
    bin is returned if more than a tenth of the voxels outside constant regions lie in these bins.

    Parameters
    ----------
    elsewhere, constant : numpy.ndarray
        `histogram` of the voxels outside and inside of constant regions.
    """
    least = MIN_FILL * int(elsewhere[0].sum() + constant[0].sum())
    found = np.flatnonzero(constant[0] >= max(1, float(least)))
    same = int(elsewhere[0, found].sum())
    return found if same <= MAX_ELSEWHERE * int(elsewhere[0].sum()) else found[:0]


def intensity_statistics(
    elsewhere: NDArray[np.int64],
    dtype: DTypeLike,
    constant: NDArray[np.int64] | None = None,
    rule: NormalisationConfig = NormalisationConfig(),  # noqa: B008
    channel: int = 0,
    masked: NDArray[np.int64] | None = None,
) -> IntensityStatistics:
    """Return the statistics of a channel: mean, std = sqrt(mean of (v - mean)^2), extremes, percentiles, centre, scale.

    Sums are exact, so the result depends neither on the order of the additions nor on the blocks. Percentile p is the
    smallest value that at least p % of the voxels do not exceed. The std of a constant volume is exactly 0.

    Parameters
    ----------
    elsewhere, constant : numpy.ndarray
        `histogram` of the voxels outside and inside of constant regions (`unet.volumes.constant_regions`).
    dtype : dtype
        Type of the intensities that were counted.
    rule : NormalisationConfig
        Voxels to leave out, and the two numbers that normalise.
    channel : int
        Number of the channel, for lists in `rule`.
    masked : numpy.ndarray, optional
        `histogram` of constant regions outside the mask. They help to find fill values and count for nothing else.

    Raises
    ------
    IntensityError
        If no voxel is left, or if the two percentiles are equal.
    ValueError
        If the dtype is not counted.
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


def crowd_at_an_end(counts: NDArray[np.int64], dtype: DTypeLike) -> tuple[float, float, float] | None:
    """Find voxels that may be noise where nothing was imaged: many, at an end of the intensities, far from all others.

    A crowd lies within 3 % of the range around percentile 1 or 99, holds a fifth of the voxels, and ten times as many
    as the next 3 %. Voxels of one value are no crowd: they are clipped, or fill a constant region.

    Parameters
    ----------
    counts : numpy.ndarray
        `histogram` of the voxels that were counted.
    dtype : dtype
        Type of the intensities that were counted.

    Returns
    -------
    tuple of float or None
        Smallest and largest intensity of the crowd, and its share of the voxels (0 to 1); None if there is none.
    """
    sums = BinSums.of(counts, dtype)
    if not sums.count:
        return None
    shares = np.array(sums.count) / sum(sums.count)
    values = np.array([sums.value(number) for number in range(len(shares))])
    ends = values[sums.percentile(1)], values[sums.percentile(99)]
    width = CROWD_WIDTH * (ends[1] - ends[0])
    for end in ends:
        inside, beside = abs(values - end) <= width, abs(abs(values - end) - 1.5 * width) < 0.5 * width
        share = float(shares[inside].sum())
        if share >= CROWD and shares[beside].sum() <= share / 10 and shares[inside].max() < 0.95 * share:
            return float(values[inside].min()), float(values[inside].max()), share
    return None


def _without_fill(
    elsewhere: NDArray[np.int64],
    constant: NDArray[np.int64],
    masked: NDArray[np.int64],
    dtype: DTypeLike,
    rule: NormalisationConfig,
) -> tuple[list[float], NDArray[np.int64]]:
    """Return the values to leave out, and the counts without the voxels of these values."""
    kept = elsewhere + constant
    if rule.ignore_value == "none":
        return [], kept
    if rule.ignore_value == "auto":
        found = fill_bins(elsewhere, constant + masked)
        fill, rest = np.zeros_like(constant), kept.copy()
        fill[:, found] = (constant + masked)[:, found]
        rest[:, found] = elsewhere[:, found]
        of_fill, of_rest = BinSums.of(fill, dtype), BinSums.of(rest, dtype)
        if not of_rest.count or of_rest.variance == 0:  # a blank volume with a speck has no tissue
            return [], kept
        return [of_fill.value(number) for number in range(len(found))], rest
    value, kind = rule.ignore_value, np.dtype(dtype)
    if kind.kind != "f" and not (value.is_integer() and np.iinfo(kind).min <= value <= np.iinfo(kind).max):
        return [], kept  # no voxel can have this value
    kept[:, bins(np.array([value], kind))] = 0
    return [value], kept


def _numbers(rule: NormalisationConfig, sums: BinSums, dtype: DTypeLike, channel: int) -> tuple[float, float]:
    """Return centre and scale: as configured, from two percentiles (which become -1 and 1), or mean and std."""
    if rule.mean is not None and rule.std is not None:
        return _of_channel(rule.mean, channel), _of_channel(rule.std, channel)
    if rule.percentiles is None:
        return float(sums.mean), sqrt(sums.variance)
    low, high = (sums.percentile(percent) for percent in rule.percentiles)
    first, last = sums.value(low), sums.value(high)
    if np.dtype(dtype).kind == "f" and sums.bins[high] - sums.bins[low] < MIN_BINS:
        raise IntensityError(
            f"normalisation.percentiles: {list(rule.percentiles)} % of these float data are about {first:g} and "
            f"{last:g}, too close to each other to be known; leave percentiles out, or store the data as integers"
        )
    if first == last:
        raise IntensityError(
            f"normalisation.percentiles: {list(rule.percentiles)} % of the intensities are both {last:g}"
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
    """Normalisation of intensities: (x - centre) / scale for each channel, with two numbers of the whole volume.

    The result at a voxel depends on the voxel and the two numbers of its channel only. A constant channel has scale 0;
    the divisor is then 1, so its voxels become 0. The result is computed in float32. Float data are stored in float32
    as well, so the centre is rounded by at most half a step of the data.

    >>> Normalisation((100.0,), (25.0,))(np.array([[100, 150]], np.uint8))
    array([[0., 2.]], dtype=float32)

    Parameters
    ----------
    centre, scale : tuple of float
        One number per channel, see `intensity_statistics`.
    fill_values : tuple of tuple of float
        Values that fill the blank regions of each channel (see `unet.volumes.raw_without_blanks`).
    """

    centre: tuple[float, ...]
    scale: tuple[float, ...]
    fill_values: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def of(cls, statistics: Sequence[Mapping[str, Any]]) -> "Normalisation":
        """Return the normalisation by the statistics of each channel in the receipt of rule `intensity_statistics`."""
        centre, scale = (tuple(float(one[key]) for one in statistics) for key in ("centre", "scale"))
        return cls(centre, scale, tuple(tuple(one["fill_values"]) for one in statistics))

    @property
    def channels(self) -> int:
        """Return the number of intensities per voxel."""
        return len(self.centre)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return normalised intensities as float32 `(c, ...)`, from intensities of any dtype."""
        centre, divisor = self.columns(values.shape)
        return (values.astype(np.float32) - centre) / divisor

    def columns(self, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return centre and divisor, float32 `(c, 1, ...)`, for intensities of shape `(c, ...)`.

        Raises
        ------
        ValueError
            If the number of channels differs from the number of statistics.
        """
        if shape[0] != self.channels:
            raise ValueError(f"{shape[0]} channel(s) of intensities, but statistics of {self.channels}")
        column = (-1, *(1,) * (len(shape) - 1))
        centre, scale = (np.array(numbers, np.float32).reshape(column) for numbers in (self.centre, self.scale))
        return centre, np.where(scale == 0, np.float32(1), scale)
