"""Run-length encoding: the starts of runs of equal values, and a plane of labels as labels and lengths."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def run_starts(*lines: NDArray[Any]) -> NDArray[np.intp]:
    """Return the indices at which any of several lines of equal length changes, and 0 for the first run.

    >>> run_starts(np.array([7, 7, 2, 2]), np.array([1, 1, 1, 3])).tolist(), run_starts(np.array([])).tolist()
    ([0, 2, 3], [])
    """
    change = np.zeros(lines[0].size, bool)
    change[:1] = True
    for line in lines:
        change[1:] |= line[1:] != line[:-1]
    return np.flatnonzero(change)


def run_length_encode(plane: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return label and length of every run of equal labels in C order, which takes a small fraction of the bytes.

    Returns
    -------
    (runs, 2) uint32, label and length

    >>> run_length_encode(np.array([[7, 7], [7, 2]], np.uint32)).tolist()
    [[7, 3], [2, 1]]
    """
    flat = plane.reshape(-1)
    start = run_starts(flat)
    return np.stack([flat[start], np.diff(start, append=flat.size).astype(np.uint32)], axis=1)
