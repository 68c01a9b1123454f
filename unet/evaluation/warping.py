"""Warping error: differences from the truth that displacing its borders cannot explain (Jain et al. 2010).

The truth is warped towards the segmentation, pixel by pixel, but only at *simple* points: pixels whose flip changes
neither the number of cells nor of holes. Pixels that still differ are errors of topology, and their share of all pixels
is the warping error. A border that is merely displaced, by no more than its own width, costs nothing.

1. A pixel is simple if its 8 neighbours contain exactly one piece of cell and one piece of membrane that touch it.
   Cells are 4-connected and membranes 8-connected. `SIMPLE` holds the answer for all 256 neighbourhoods.
2. `warp_truth`: pixels of every second row and column have no neighbours in common. All of these that are simple and
   differ from the segmentation are flipped at once. The four subfields take turns until no pixel flips.
3. `topological_errors`: count the clusters of pixels that still differ and either split a cell or merge two cells.

```
truth   # # . # #     segmentation   # # # . #     warped truth   # # # . #     the membrane has moved: no error
        # # . # #                    # # # . #                    # # # . #
```

References
----------
Jain et al. 2010, "Boundary Learning by Optimization with Topological Constraints", doi:10.1109/CVPR.2010.5539950.
"""

from itertools import product
from typing import Literal

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

AROUND = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2))
"""Row and column of the 8 neighbours in a 3 x 3 array, in the order of the bits of a neighbourhood."""


def _is_simple(neighbourhood: int) -> bool:
    """Return True if a pixel with this neighbourhood is simple (pass 1)."""
    window = np.zeros((3, 3), bool)
    for bit, place in enumerate(AROUND):
        window[place] = neighbourhood >> bit & 1
    cells, _ = label(window)
    beside = {int(cells[place]) for place in ((0, 1), (1, 0), (1, 2), (2, 1))} - {0}
    outside = ~window
    outside[1, 1] = False
    return len(beside) == 1 and label(outside, np.ones((3, 3)))[1] == 1


SIMPLE = np.array([_is_simple(n) for n in range(256)])
"""True where a pixel with this neighbourhood (bits of `AROUND` set where there is cell) can flip."""


def warp_truth(truth: NDArray, segmentation: NDArray) -> NDArray[np.bool_]:
    """Warp the truth as near to the segmentation as its topology allows (pass 2); every flip brings it nearer.

    Parameters
    ----------
    truth, segmentation : bool arrays (y, x)
        True inside cells. Pixels beyond the section are membrane.

    Returns
    -------
    bool array (y, x)

    >>> warp_truth(np.array([[1, 0, 1, 1]] * 3), np.array([[1, 1, 0, 1]] * 3)).astype(int).tolist()
    [[1, 1, 0, 1], [1, 1, 0, 1], [1, 1, 0, 1]]
    """
    if truth.shape != segmentation.shape or truth.ndim != 2:
        raise ValueError(
            f"truth {truth.shape} and segmentation {segmentation.shape} must be sections of one shape (y, x)"
        )
    now, wanted = np.pad(truth != 0, 1), segmentation != 0
    inner = now[1:-1, 1:-1]
    flipped = True
    while flipped:
        flipped = False
        for y, x in product((0, 1), repeat=2):
            flip = (SIMPLE[_neighbourhoods(now)] & (inner != wanted))[y::2, x::2]
            inner[y::2, x::2] ^= flip
            flipped |= bool(flip.any())
    return inner.copy()


def _neighbourhoods(padded: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the bits of `AROUND` for every pixel of a section that is padded by one pixel."""
    height, width = padded.shape[0] - 2, padded.shape[1] - 2
    bits = np.zeros((height, width), np.uint8)
    for bit, (y, x) in enumerate(AROUND):
        bits |= padded[y : y + height, x : x + width].astype(np.uint8) << np.uint8(bit)
    return bits


def warping_error(truth: NDArray, segmentation: NDArray) -> float:
    """Return the share of pixels that differ between segmentation and warped truth, 0 (same topology) to 1.

    Parameters
    ----------
    truth, segmentation : bool arrays (y, x)
        True inside cells.

    >>> warping_error(np.array([[1, 1, 0, 1]]), np.array([[1, 1, 1, 1]]))  # one pixel merges two cells
    0.25
    """
    return float(np.mean(warp_truth(truth, segmentation) != (segmentation != 0)))


def topological_errors(truth: NDArray, segmentation: NDArray) -> tuple[int, int]:
    """Count splits and mergers: clusters of pixels that differ after warping and split a cell, or merge two (pass 3).

    Their sum over the number of pixels is the warping error of the ISBI 2012 table: a line that splits a cell counts
    once, however long the line is. A cluster that is membrane in the segmentation is 8-connected. It is a split if it
    touches two cells of the segmentation. A cluster that is cell in the segmentation is 4-connected. It is a merger if
    it touches two cells of the warped truth.

    Returns
    -------
    (splits, mergers)

    >>> topological_errors(np.array([[1, 1, 0, 1]]), np.array([[1, 1, 1, 1]]))
    (0, 1)
    """
    moved, found = warp_truth(truth, segmentation), segmentation != 0
    splits = _clusters_between_cells(moved & ~found, found, 8)
    mergers = _clusters_between_cells(found & ~moved, moved, 4)
    return splits, mergers


def _clusters_between_cells(differing: NDArray[np.bool_], cells: NDArray[np.bool_], connectivity: Literal[4, 8]) -> int:
    """Count the clusters of pixels with 4-neighbours in two cells or more."""
    clusters = np.pad(cc3d.connected_components(np.ascontiguousarray(differing), connectivity=connectivity), 1)
    beside = np.pad(cc3d.connected_components(np.ascontiguousarray(cells), connectivity=4), 1)
    pairs = []
    for axis, step in product((0, 1), (-1, 1)):
        other = np.roll(beside, step, axis)
        touch = (clusters > 0) & (other > 0)
        pairs.append(np.stack([clusters[touch], other[touch]], axis=1))
    unique = np.unique(np.concatenate(pairs), axis=0)
    return int((np.bincount(unique[:, 0]) > 1).sum()) if len(unique) else 0
