"""Distances up to a limit, which a block with a halo of that limit knows as well as the whole volume."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

CACHE_BYTES = 2**19
"""Of what is worked on at a time."""


def capped_distance(
    target: NDArray[np.bool_], cap: float, steps: Mapping[int, int], parts: int = 1
) -> NDArray[np.float32]:
    """Euclidean distance to the nearest voxel of a set, or `cap` where that is less.

    Along one axis after the other, ``d^2(x) = min_k d^2(x + k) + (step k)^2``, for shifts up to the cap alone. Squares
    are integers, so a number does not depend on where the array was cut, `cap` and more from its faces.

    Parameters
    ----------
    target : array of any shape
    cap : the longest distance, in the unit of the result
    steps : axis -> edge of a voxel along it, in parts of the unit; along other axes nothing is near
    parts : of the unit

    Returns
    -------
    float32 array of the same shape

    >>> capped_distance(np.array([0, 0, 0, 1], bool), 2.5, {0: 1}).tolist()
    [2.5, 2.0, 1.0, 0.0]
    >>> capped_distance(np.array([0, 1], bool), 9, {0: 24}, parts=16).tolist()
    [1.5, 0.0]
    """
    longest = int(cap * parts)
    far = (longest + 1) ** 2
    integer = np.int16 if 2 * far < 2**15 else np.int32  # short distances: half the memory to go through
    squared = np.where(target, integer(0), integer(far))
    for axis, step in steps.items():
        for part in _in_cache(squared, axis):
            part[...] = _along(part, axis, step, longest)
    distance = np.sqrt(squared, dtype=np.float32) / np.float32(parts)
    return np.minimum(distance, np.float32(cap))


def _along(squared: NDArray[Any], axis: int, step: int, longest: int) -> NDArray[Any]:
    """The squared distances when steps along one more axis are allowed."""
    line, found = np.moveaxis(squared, axis, 0), squared.copy()
    nearest, farther = np.moveaxis(found, axis, 0), np.empty_like(line)
    for k in range(1, min(longest // step, len(line) - 1) + 1):
        np.add(line, squared.dtype.type((step * k) ** 2), out=farther)
        np.minimum(nearest[k:], farther[:-k], out=nearest[k:])
        np.minimum(nearest[:-k], farther[k:], out=nearest[:-k])
    return found


def _in_cache(values: NDArray[Any], axis: int) -> Iterator[NDArray[Any]]:
    """Parts with whole lines along an axis that are small enough to stay in the processor's caches."""
    cut = 1 if axis == 0 else 0
    if values.ndim <= cut:
        yield values
        return
    along_cut = np.moveaxis(values, cut, 0)
    count = max(1, CACHE_BYTES * len(along_cut) // max(values.nbytes, 1))
    for lo in range(0, len(along_cut), count):
        yield np.moveaxis(along_cut[lo : lo + count], 0, cut)
