"""Count intensities in bins, so that blocks add up to the volume and sums over the volume are exact.

1. Every intensity has one of 65,536 bins. uint8 and uint16 are their own bins; int8 and int16 are shifted by 32768.
2. The bin of a float32 is its upper 16 bits: sign, exponent and 7 bits of the mantissa. Bits are inverted where the
   sign is negative, so that bins sort as the intensities do.
3. The lower 16 bits l of a float32 are summed per bin. An intensity is +-(H + l) 2^(e - 150), where H and e follow from
   the bin. Over the n voxels of a bin the sums

       sum |x| = 2^(e - 150) (n H + sum l)   and   sum x^2 = 2^(2e - 300) (n H^2 + 2 H sum l + sum l^2)

   are therefore exact, whatever the offset. Percentiles of float32 are exact to the width of a bin, 1/128 of the value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import DTypeLike, NDArray

BINS = 65_536
SIGN = 0x8000
PIECE = 1 << 20
"""Voxels counted at a time: sums of that many l^2 < 2^32 are exact in the float64 of numpy.bincount."""
ALLOWED = [np.dtype(name) for name in ("uint8", "int8", "uint16", "int16", "float32")]
FLOAT_UNIT = Fraction(1, 2**149)
"""Unit of which every float32 is a whole multiple."""


def bins(values: np.ndarray) -> np.ndarray:
    """Return the bin of every intensity as uint16. Bins have the order of the intensities.

    >>> bins(np.array([-32768, 0, 1], np.int16)).tolist()
    [0, 32768, 32769]
    >>> bins(np.array([-1.0, 0.0, 1.0], np.float32)).tolist()
    [16511, 32768, 49024]

    Raises
    ------
    ValueError
        If the dtype is not counted, or a float32 is NaN or infinite.
    """
    if values.dtype in (np.uint8, np.uint16):
        return values.astype(np.uint16)
    if values.dtype in (np.int8, np.int16):
        return values.astype(np.int16).view(np.uint16) ^ np.uint16(SIGN)
    if values.dtype != np.float32:
        raise ValueError(f"intensities of dtype {values.dtype}; allowed are {', '.join(map(str, ALLOWED))}")
    upper = (_bits(values) >> 16).astype(np.uint16)
    if (upper & 0x7F80 == 0x7F80).any():
        raise ValueError("intensities are NaN or infinite; replace them")
    return np.where(upper & SIGN, ~upper, upper | SIGN).astype(np.uint16)


def _bits(values: np.ndarray) -> NDArray[np.uint32]:
    return np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)


def histogram(values: np.ndarray, where: np.ndarray | None = None) -> NDArray[np.int64]:
    """Return the number of voxels in each bin; for float32 also the sums of their lower bits.

    For blocks A and B without a common voxel, ``histogram(A) + histogram(B)`` is the histogram of both together.

    Parameters
    ----------
    values : numpy.ndarray
        Intensities of any shape; uint8, int8, uint16, int16 or finite float32.
    where : numpy.ndarray, optional
        Mask of the same shape. Only voxels where it is not 0 are counted.

    Returns
    -------
    numpy.ndarray
        int64, `(1, 65536)`: voxels. For float32 `(4, 65536)`: voxels, sum of l, and the sum of l^2 in two rows, its
        lower 32 bits and the rest, so that no sum overflows.
    """
    if where is not None:
        if where.shape != values.shape:
            raise ValueError(f"mask of shape {where.shape} for intensities of shape {values.shape}")
        values = values[where != 0]
    flat = values.reshape(-1)
    counts = np.zeros((rows_of(values.dtype), BINS), np.int64)
    if flat.dtype.itemsize == 1:
        every = np.arange(256, dtype=np.uint8)
        counts[0, bins(every.view(flat.dtype))] = _count_bytes(np.ascontiguousarray(flat).view(np.uint8))
        return counts
    for start in range(0, flat.size, PIECE):
        piece = flat[start : start + PIECE]
        under = bins(piece)
        counts[0] += np.bincount(under, minlength=BINS)
        if len(counts) > 1:
            low = (_bits(piece) & 0xFFFF).astype(np.float64)
            squares = np.bincount(under, low * low, minlength=BINS).astype(np.int64)
            counts[1] += np.bincount(under, low, minlength=BINS).astype(np.int64)
            counts[2] += squares & 0xFFFFFFFF
            counts[3] += squares >> 32
    return counts


def _count_bytes(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return how often each of the 256 values occurs. Two bytes are counted at a time, which halves the work."""
    counts = np.bincount(values[values.size // 2 * 2 :], minlength=256)
    for start in range(0, values.size // 2 * 2, PIECE):
        pairs = values[start : min(start + PIECE, values.size // 2 * 2)].view(np.uint16)
        of_pairs = np.bincount(pairs, minlength=BINS).reshape(256, 256)
        counts += of_pairs.sum(axis=0) + of_pairs.sum(axis=1)
    return counts


def has_value(values: np.ndarray, some: Sequence[float]) -> NDArray[np.bool_]:
    """Return where intensities lie in the bin of one of the values `some`.

    >>> has_value(np.array([0, 7, 9], np.uint8), [0, 9]).tolist()
    [True, False, True]
    """
    return np.isin(bins(values), bins(np.array(some, values.dtype)))


def rows_of(dtype: DTypeLike) -> int:
    """Return the number of rows of a histogram of a dtype."""
    return 4 if np.dtype(dtype) == np.float32 else 1


@dataclass(frozen=True)
class BinSums:
    """Exact sums per occupied bin: voxels, sum of x in units of `unit`, and sum of x^2 in units of `unit` squared."""

    bins: list[int]
    count: list[int]
    first: list[int]
    second: list[int]
    unit: Fraction

    @classmethod
    def of(cls, counts: NDArray[np.int64], dtype: DTypeLike) -> "BinSums":
        """Return the sums of a histogram of a dtype."""
        kind = np.dtype(dtype)
        if kind not in ALLOWED:
            raise ValueError(f"intensities of dtype {kind}; allowed are {', '.join(map(str, ALLOWED))}")
        occurring = np.flatnonzero(counts[0])
        columns = counts[:, occurring].T.tolist()
        offset = SIGN if kind in (np.int8, np.int16) else 0
        one, unit = (_float_sums, FLOAT_UNIT) if kind == np.float32 else (_integer_sums, Fraction(1))
        sums = [one(number - offset, *column) for number, column in zip(occurring.tolist(), columns, strict=True)]
        return cls(occurring.tolist(), [c[0] for c in columns], [a for a, _ in sums], [b for _, b in sums], unit)

    @property
    def mean(self) -> Fraction:
        """Return the exact mean of all voxels."""
        return self.unit * sum(self.first) / sum(self.count)

    @property
    def variance(self) -> Fraction:
        """Return the exact variance of all voxels: the mean of x^2 minus the square of the mean."""
        return self.unit**2 * sum(self.second) / sum(self.count) - self.mean**2

    def value(self, number: int) -> float:
        """Return the intensity of an occupied bin, by its number; for float32 the mean of the voxels in the bin."""
        return float(self.unit * self.first[number] / self.count[number])

    def percentile(self, percent: float) -> int:
        """Return the number of the lowest occupied bin up to which at least `percent` % of the voxels lie."""
        rank = max(1, -(-Fraction(percent) * sum(self.count) // 100))  # rounded up, exactly
        return int(np.searchsorted(np.cumsum(self.count), int(rank)))


def _integer_sums(value: int, count: int) -> tuple[int, int]:
    return value * count, value * value * count


def _float_sums(number: int, count: int, low: int, squares: int, squares_above: int) -> tuple[int, int]:
    """Apply the formulas at the top in `FLOAT_UNIT`. Exponent 0 has the unit of exponent 1 and no hidden bit."""
    bits = number ^ SIGN if number & SIGN else ~number & 0xFFFF
    exponent = bits >> 7 & 0xFF
    high, shift = (bits & 0x7F | (0x80 if exponent else 0)) << 16, max(exponent, 1) - 1
    first = (count * high + low) << shift
    second = (count * high * high + 2 * high * low + squares + (squares_above << 32)) << 2 * shift
    return (first if number & SIGN else -first), second
