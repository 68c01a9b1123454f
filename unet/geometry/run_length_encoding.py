"""Runs of equal values along a line: where they start, and a plane of labels written as them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def run_starts(*lines: NDArray[Any]) -> NDArray[np.intp]:
    """Where one of several lines of one length changes, with their beginning.

    >>> run_starts(np.array([7, 7, 2, 2]), np.array([1, 1, 1, 3])).tolist(), run_starts(np.array([])).tolist()
    ([0, 2, 3], [])
    """
    change = np.zeros(lines[0].size, bool)
    change[:1] = True
    for line in lines:
        change[1:] |= line[1:] != line[:-1]
    return np.flatnonzero(change)


def run_length_encode(plane: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """A plane of labels as label and length of every run of equal labels in C order: a small fraction of its bytes.

    Returns
    -------
    (runs, 2) uint32

    >>> run_length_encode(np.array([[7, 7], [7, 2]], np.uint32)).tolist()
    [[7, 3], [2, 1]]
    """
    flat = plane.reshape(-1)
    start = run_starts(flat)
    return np.stack([flat[start], np.diff(start, append=flat.size).astype(np.uint32)], axis=1)
