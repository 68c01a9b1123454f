"""How often each grey value occurs, counted so that blocks add up to the volume, and sums over it are exact.

uint8 and uint16 are their own keys; int8 and int16 are shifted by 32768. The key of a float32 is its upper 16 bits:
sign, exponent and 7 bits of the mantissa, with the sign folded so that keys sort as the values do. Its lower 16 bits
l are summed beside the counts: a value is +-(H + l) 2^(e - 150), with H and e of the key, so over the n voxels of a key

    sum |x| = 2^(e - 150) (n H + sum l)   and   sum x^2 = 2^(2e - 300) (n H^2 + 2 H sum l + sum l^2)

are exact, whatever the offset. Only the order of float values is known no better than their keys tell, within 1/128.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import DTypeLike, NDArray

BINS = 65_536
SIGN = 0x8000
PIECE = 1 << 20
"""Voxels counted at a time: sums of so many l^2 < 2^32 are exact in the float64 of numpy.bincount."""
ALLOWED = [np.dtype(name) for name in ("uint8", "int8", "uint16", "int16", "float32")]
FLOAT_UNIT = Fraction(1, 2**149)
"""Of which every float32 is a whole multiple."""


def bins(values: np.ndarray) -> np.ndarray:
    """The key of every grey value, as uint16, in the order of the values.

    >>> bins(np.array([-32768, 0, 1], np.int16)).tolist()
    [0, 32768, 32769]
    >>> bins(np.array([-1.0, 0.0, 1.0], np.float32)).tolist()
    [16511, 32768, 49024]

    Raises
    ------
    ValueError
        If the dtype has no keys, or a float32 is NaN or infinite.
    """
    if values.dtype in (np.uint8, np.uint16):
        return values.astype(np.uint16)
    if values.dtype in (np.int8, np.int16):
        return values.astype(np.int16).view(np.uint16) ^ np.uint16(SIGN)
    if values.dtype != np.float32:
        raise ValueError(f"grey values of dtype {values.dtype}; allowed are {', '.join(map(str, ALLOWED))}")
    upper = (_bits(values) >> 16).astype(np.uint16)
    if (upper & 0x7F80 == 0x7F80).any():
        raise ValueError("grey values are NaN or infinite; replace them")
    return np.where(upper & SIGN, ~upper, upper | SIGN).astype(np.uint16)


def _bits(values: np.ndarray) -> NDArray[np.uint32]:
    return np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)


def histogram(values: np.ndarray, where: np.ndarray | None = None) -> NDArray[np.int64]:
    """How many voxels have each key; for float32 also the sums of their lower bits.

    For blocks A and B that share no voxel, ``histogram(A) + histogram(B)`` is that of both together.

    Parameters
    ----------
    values : numpy.ndarray
        Any shape; uint8, int8, uint16, int16 or finite float32.
    where : numpy.ndarray, optional
        Of the same shape; only voxels where it is not 0 are counted.

    Returns
    -------
    numpy.ndarray
        int64, `(1, 65536)`: voxels; of float32 `(4, 65536)`: voxels, sum of l, and sum of l^2 as its lower 32 bits and
        the rest, so that nothing overflows.
    """
    if where is not None:
        if where.shape != values.shape:
            raise ValueError(f"mask of shape {where.shape} for grey values of shape {values.shape}")
        values = values[where != 0]
    flat = values.reshape(-1)
    counts = np.zeros((rows_of(values.dtype), BINS), np.int64)
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


def has_value(values: np.ndarray, some: Sequence[float]) -> NDArray[np.bool_]:
    """Where grey values have the key of one of `some`.

    >>> has_value(np.array([0, 7, 9], np.uint8), [0, 9]).tolist()
    [True, False, True]
    """
    return np.isin(bins(values), bins(np.array(some, values.dtype)))


def rows_of(dtype: DTypeLike) -> int:
    """Rows of a histogram of grey values of some dtype."""
    return 4 if np.dtype(dtype) == np.float32 else 1


@dataclass(frozen=True)
class BinSums:
    """What a histogram says of each key that occurs, in integers: voxels, sum of x by `unit`, of x^2 by its square."""

    bins: list[int]
    count: list[int]
    first: list[int]
    second: list[int]
    unit: Fraction

    @classmethod
    def of(cls, counts: NDArray[np.int64], dtype: DTypeLike) -> "BinSums":
        """Of a histogram of grey values of some dtype."""
        kind = np.dtype(dtype)
        if kind not in ALLOWED:
            raise ValueError(f"grey values of dtype {kind}; allowed are {', '.join(map(str, ALLOWED))}")
        occurring = np.flatnonzero(counts[0])
        columns = counts[:, occurring].T.tolist()
        offset = SIGN if kind in (np.int8, np.int16) else 0
        one, unit = (_float_sums, FLOAT_UNIT) if kind == np.float32 else (_integer_sums, Fraction(1))
        sums = [one(key - offset, *column) for key, column in zip(occurring.tolist(), columns, strict=True)]
        return cls(occurring.tolist(), [c[0] for c in columns], [a for a, _ in sums], [b for _, b in sums], unit)

    @property
    def mean(self) -> Fraction:
        """Of all voxels, exact."""
        return self.unit * sum(self.first) / sum(self.count)

    @property
    def variance(self) -> Fraction:
        """Of all voxels, exact: mean of x^2 less the square of the mean."""
        return self.unit**2 * sum(self.second) / sum(self.count) - self.mean**2

    def value(self, number: int) -> float:
        """Of the key of that number among those that occur; for float32 the mean of the voxels that share it."""
        return float(self.unit * self.first[number] / self.count[number])

    def percentile(self, percent: float) -> int:
        """The number of the key of the smallest value that at least `percent` % of the voxels do not exceed."""
        rank = max(1, -(-Fraction(percent) * sum(self.count) // 100))  # rounded up, exactly
        return int(np.searchsorted(np.cumsum(self.count), int(rank)))


def _integer_sums(value: int, count: int) -> tuple[int, int]:
    return value * count, value * value * count


def _float_sums(key: int, count: int, low: int, squares: int, squares_above: int) -> tuple[int, int]:
    """By the formulas at the top, in `FLOAT_UNIT`; exponent 0 has the unit of exponent 1, and no hidden bit."""
    bits = key ^ SIGN if key & SIGN else ~key & 0xFFFF
    exponent = bits >> 7 & 0xFF
    high, shift = (bits & 0x7F | (0x80 if exponent else 0)) << 16, max(exponent, 1) - 1
    first = (count * high + low) << shift
    second = (count * high * high + 2 * high * low + squares + (squares_above << 32)) << 2 * shift
    return (first if key & SIGN else -first), second
