"""Grey values of a whole volume, the same for any cut into blocks: histograms are added up, statistics come last.

1. `histogram`: every block counts its voxels under 65,536 integer keys (`keys`).
2. The histograms are added: integers, so neither order nor cut matter.
3. `grey_values`: mean, std and percentiles of the sum, in exactly rounded float64.
4. `Normalisation`: (x - mean) / std, with the two numbers of each channel frozen for the whole volume.

uint8 and uint16 are their own keys; int8 and int16 are shifted by 32768. float32 is rounded to bfloat16, its upper 16
bits, with the sign folded so that keys sort as the values do; mean and std are then those of the rounded values, each
within 2^-9 of its own size. Grey values that vary by less than that around a large offset should be stored as integers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum, sqrt

import numpy as np
from numpy.typing import DTypeLike

KEYS = 65_536
SIGN = 0x8000
PIECE = 1 << 20  # voxels counted at a time: numpy.bincount makes int64 of its input


@dataclass(frozen=True)
class GreyValues:
    """Statistics of the grey values of a volume, in the unit of its dtype; of the rounded values for float32."""

    mean: float
    std: float
    minimum: float
    maximum: float
    p01: float
    p99: float
    count: int


def keys(values: np.ndarray) -> np.ndarray:
    """The key of every grey value, as uint16, in the order of the values.

    >>> keys(np.array([-32768, 0, 1], np.int16)).tolist()
    [0, 32768, 32769]
    >>> keys(np.array([-1.0, 0.0, 1.0], np.float32)).tolist()
    [16511, 32768, 49024]

    Raises
    ------
    ValueError
        If the dtype has no keys, or a float32 is NaN, infinite, or rounds to infinity.
    """
    if values.dtype in (np.uint8, np.uint16):
        return values.astype(np.uint16)
    if values.dtype in (np.int8, np.int16):
        return values.astype(np.int16).view(np.uint16) ^ np.uint16(SIGN)
    if values.dtype == np.float32:
        return _float_keys(values)
    raise ValueError(f"grey values of dtype {values.dtype}; allowed are uint8, int8, uint16, int16, float32")


def _float_keys(values: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    # to nearest, ties to even: add just under half of the last kept bit, and the kept bit itself
    rounded = (((bits.astype(np.uint64) + 0x7FFF) + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    if (rounded & 0x7F80 == 0x7F80).any():
        raise ValueError("grey values are NaN, infinite, or beyond bfloat16 (3.39e38); replace them")
    return np.where(rounded & SIGN, ~rounded, rounded | SIGN).astype(np.uint16)


def key_values(dtype: DTypeLike) -> np.ndarray:
    """The grey value of every key as float64, inverse of `keys`; NaN for keys that no value has."""
    every = np.arange(KEYS, dtype=np.uint16)
    kind = np.dtype(dtype)
    if kind in (np.uint8, np.uint16):
        return every.astype(np.float64)
    if kind in (np.int8, np.int16):
        return every.astype(np.float64) - SIGN
    if kind != np.float32:
        raise ValueError(f"grey values of dtype {kind}; allowed are uint8, int8, uint16, int16, float32")
    bits = np.where(every & SIGN, every ^ SIGN, ~every).astype(np.uint32) << 16
    with np.errstate(invalid="ignore"):  # of the keys that are NaN
        found = bits.view(np.float32).astype(np.float64)
    return np.where(np.isfinite(found), found, np.nan) + 0.0  # + 0.0 makes -0.0 into 0.0


def histogram(values: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """How many voxels have each key.

    For blocks A and B that share no voxel, ``histogram(A) + histogram(B)`` is that of both together.

    Parameters
    ----------
    values : numpy.ndarray
        Any shape; uint8, int8, uint16, int16 or finite float32.
    mask : numpy.ndarray, optional
        Of the same shape; only voxels where it is not 0 are counted.

    Returns
    -------
    numpy.ndarray
        int64, shape ``(65536,)``.
    """
    if mask is not None:
        if mask.shape != values.shape:
            raise ValueError(f"mask of shape {mask.shape} for grey values of shape {values.shape}")
        values = values[mask != 0]
    flat = values.reshape(-1)
    counts = np.zeros(KEYS, np.int64)
    for start in range(0, flat.size, PIECE):
        counts += np.bincount(keys(flat[start : start + PIECE]), minlength=KEYS)
    return counts


def to_sparse(counts: np.ndarray) -> dict[str, int]:
    """The keys that occur, as JSON holds them.

    >>> to_sparse(histogram(np.array([7, 7, 9], np.uint8)))
    {'7': 2, '9': 1}
    """
    return {str(key): int(counts[key]) for key in np.flatnonzero(counts)}


def from_sparse(sparse: Mapping[str, int]) -> np.ndarray:
    """Inverse of `to_sparse`: int64, shape ``(65536,)``."""
    counts = np.zeros(KEYS, np.int64)
    for key, count in sparse.items():
        if not 0 <= int(key) < KEYS or count < 0:
            raise ValueError(f"histogram entry {key}: {count}; keys are 0 to {KEYS - 1}, counts not negative")
        counts[int(key)] = count
    return counts


def grey_values(counts: np.ndarray, dtype: DTypeLike) -> GreyValues:
    """Statistics of a histogram: mean, std = sqrt(sum n (v - mean)^2 / sum n), extremes and percentiles.

    Value times count fits float64 (16 + 37 bits; 8 + 45 for float32) and `math.fsum` rounds a sum once, so the result
    depends neither on the order of the keys nor on the machine. A percentile p is the smallest value that at least
    p % of the voxels do not exceed. Of a constant volume std is exactly 0.

    Parameters
    ----------
    counts : numpy.ndarray
        Integer, shape ``(65536,)``, as from `histogram`.
    dtype : dtype
        Of the grey values that were counted.

    Raises
    ------
    ValueError
        If nothing was counted, or the dtype has no keys.
    """
    occurring = np.flatnonzero(counts)
    if occurring.size == 0:
        raise ValueError("no voxel was counted: the volume, or its mask, is empty")
    values, weights = key_values(dtype)[occurring].tolist(), counts[occurring].tolist()
    count = sum(weights)
    mean = fsum(v * n for v, n in zip(values, weights, strict=True)) / count
    variance = fsum((v - mean) ** 2 * n for v, n in zip(values, weights, strict=True)) / count
    return GreyValues(
        mean=mean,
        std=sqrt(variance),
        minimum=values[0],
        maximum=values[-1],
        p01=_percentile(1, values, weights),
        p99=_percentile(99, values, weights),
        count=count,
    )


def _percentile(percent: int, values: list[float], weights: list[int]) -> float:
    rank = -(-percent * sum(weights) // 100)  # rounded up, in integers
    return values[int(np.searchsorted(np.cumsum(weights), rank))]


@dataclass(frozen=True)
class Normalisation:
    """Grey values as the network sees them: (x - mean) / std of each channel, with numbers of the whole volume.

    Where std is 0, of a constant channel, the divisor is 1: its voxels become 0 and nothing overflows. The result at a
    voxel depends on that voxel and the two numbers of its channel alone.

    >>> Normalisation((100.0,), (25.0,))(np.array([[100, 150]], np.uint8))
    array([[0., 2.]], dtype=float32)

    Parameters
    ----------
    mean, std : tuple of float
        One value a channel, see `grey_values`.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, statistics: Sequence[Mapping[str, float]]) -> "Normalisation":
        """From the statistics of each channel, as the receipt of `grey_values` holds them."""
        return cls(tuple(float(one["mean"]) for one in statistics), tuple(float(one["std"]) for one in statistics))

    @property
    def channels(self) -> int:
        """Grey values a voxel."""
        return len(self.mean)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Grey values `(c, ...)` of any dtype as float32."""
        mean, divisor = self.columns(values.shape)
        return (values.astype(np.float32) - mean) / divisor

    def columns(self, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and divisor, float32 `(c, 1, ...)`, for grey values of shape `(c, ...)`.

        Raises
        ------
        ValueError
            If there are more or fewer channels than statistics.
        """
        if shape[0] != self.channels:
            raise ValueError(f"{shape[0]} channel(s) of grey values, but statistics of {self.channels}")
        column = (-1, *(1,) * (len(shape) - 1))
        mean, std = (np.array(numbers, np.float32).reshape(column) for numbers in (self.mean, self.std))
        return mean, np.where(std == 0, np.float32(1), std)
