"""Euclidean distance transform up to a limit: a block with a halo of that limit gets the result of the volume."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

CACHE_BYTES = 2**19
"""Bytes that are processed at a time; they fit into a core's cache."""


def capped_distance(
    target: NDArray[np.bool_], cap: float, steps: Mapping[int, int], parts: int = 1
) -> NDArray[np.float32]:
    """Return the Euclidean distance to the nearest voxel of a set, at most `cap`.

    Along one axis after the other, ``d^2(x) = min_k d^2(x + k) + (step k)^2``, only for shifts up to the cap. Squares
    are integers. A voxel at least `cap` from the faces therefore gets the same number wherever the array was cut.

    Parameters
    ----------
    target : array of any shape
        True at the voxels of the set.
    cap : float
        Largest distance, in the unit of the result.
    steps : mapping
        Axis to the edge of a voxel along it, in units of ``1 / parts``. Other axes are not searched.
    parts : int
        Number by which the unit of the result is divided, so that the steps are integers.

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
    integer = np.int16 if 2 * far < 2**15 else np.int32  # int16 halves the memory traffic
    squared = np.where(target, integer(0), integer(far))
    for axis, step in steps.items():
        for part in _in_cache(squared, axis):
            part[...] = _along(part, axis, step, longest)
    distance = np.sqrt(squared, dtype=np.float32) / np.float32(parts)
    return np.minimum(distance, np.float32(cap))


def _along(squared: NDArray[Any], axis: int, step: int, longest: int) -> NDArray[Any]:
    """Return the squared distances when steps along one more axis are allowed."""
    line, found = np.moveaxis(squared, axis, 0), squared.copy()
    nearest, farther = np.moveaxis(found, axis, 0), np.empty_like(line)
    for k in range(1, min(longest // step, len(line) - 1) + 1):
        np.add(line, squared.dtype.type((step * k) ** 2), out=farther)
        np.minimum(nearest[k:], farther[:-k], out=nearest[k:])
        np.minimum(nearest[:-k], farther[k:], out=nearest[:-k])
    return found


def _in_cache(values: NDArray[Any], axis: int) -> Iterator[NDArray[Any]]:
    """Yield views with whole lines along an axis, small enough to stay in the processor's caches."""
    cut = 1 if axis == 0 else 0
    if values.ndim <= cut:
        yield values
        return
    along_cut = np.moveaxis(values, cut, 0)
    count = max(1, CACHE_BYTES * len(along_cut) // max(values.nbytes, 1))
    for lo in range(0, len(along_cut), count):
        yield np.moveaxis(along_cut[lo : lo + count], 0, cut)
