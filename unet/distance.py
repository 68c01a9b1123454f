"""Distances up to a limit, which a block with a halo of that limit knows as well as the whole volume."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


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
        line = np.moveaxis(squared, axis, 0)
        nearest = np.moveaxis(squared.copy(), axis, 0)
        for k in range(1, min(longest // step, len(line) - 1) + 1):
            away = integer((step * k) ** 2)
            np.minimum(nearest[k:], line[:-k] + away, out=nearest[k:])
            np.minimum(nearest[:-k], line[k:] + away, out=nearest[:-k])
        squared = np.moveaxis(nearest, 0, axis)
    distance = np.sqrt(squared, dtype=np.float32) / np.float32(parts)
    return np.minimum(distance, np.float32(cap))
