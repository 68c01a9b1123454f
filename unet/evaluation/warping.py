"""Warping error: what of a segmentation differs from the truth by more than where its borders run (Jain et al. 2010).

The truth is warped towards the proposal, pixel by pixel, but only at *simple* points: pixels whose flip changes neither
the number of cells nor of holes. What still differs then are errors of topology, and their share of the pixels is the
error: borders that are merely displaced, by no more than their own width, cost nothing.

1. A pixel is simple if its 8 neighbours hold exactly one piece of cell and one of membrane that it touches; cells are
   4-connected and membranes 8-connected. `SIMPLE` holds the answer for all 256 neighbourhoods.
2. Pixels of every second row and column have no neighbours in common, so all simple ones of these that differ from the
   proposal are flipped at once; the four subfields take turns until nothing flips.
3. `topological_errors` counts the clusters of pixels that still differ and part a cell in two, or run two together.

```
truth      # # . # #      proposal   # # # . #      warped     # # # . #     the membrane has moved: no error
           # # . # #                 # # # . #                 # # # . #
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
"""Rows and columns of the 8 neighbours in a 3 x 3 window, in the order of the bits of a neighbourhood."""


def _is_simple(neighbourhood: int) -> bool:
    window = np.zeros((3, 3), bool)
    for bit, place in enumerate(AROUND):
        window[place] = neighbourhood >> bit & 1
    cells, _ = label(window)
    beside = {int(cells[place]) for place in ((0, 1), (1, 0), (1, 2), (2, 1))} - {0}
    outside = ~window
    outside[1, 1] = False
    return len(beside) == 1 and label(outside, np.ones((3, 3)))[1] == 1


SIMPLE = np.array([_is_simple(n) for n in range(256)])
"""Whether a pixel with this neighbourhood (bits of `AROUND` set where there is cell) can flip."""


def warped(truth: NDArray, proposal: NDArray) -> NDArray[np.bool_]:
    """The truth moved as near to the proposal as its topology allows, by steps each of which comes nearer.

    Parameters
    ----------
    truth, proposal : bool arrays (y, x)
        True inside cells. Beyond the section there is membrane.

    Returns
    -------
    bool array (y, x)

    >>> warped(np.array([[1, 0, 1, 1]] * 3), np.array([[1, 1, 0, 1]] * 3)).astype(int).tolist()
    [[1, 1, 0, 1], [1, 1, 0, 1], [1, 1, 0, 1]]
    """
    if truth.shape != proposal.shape or truth.ndim != 2:
        raise ValueError(f"truth {truth.shape} and proposal {proposal.shape} must be sections of one shape (y, x)")
    now, wanted = np.pad(truth != 0, 1), proposal != 0
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
    """The bits of `AROUND` for every pixel of a section that is padded by one pixel."""
    height, width = padded.shape[0] - 2, padded.shape[1] - 2
    bits = np.zeros((height, width), np.uint8)
    for bit, (y, x) in enumerate(AROUND):
        bits |= padded[y : y + height, x : x + width].astype(np.uint8) << np.uint8(bit)
    return bits


def warping_error(truth: NDArray, proposal: NDArray) -> float:
    """Share of the pixels that differ between the proposal and the truth warped towards it, 0 (same topology) to 1.

    Parameters
    ----------
    truth, proposal : bool arrays (y, x)
        True inside cells.

    >>> warping_error(np.array([[1, 1, 0, 1]]), np.array([[1, 1, 1, 1]]))  # one pixel runs two cells together
    0.25
    """
    return float(np.mean(warped(truth, proposal) != (proposal != 0)))


def topological_errors(truth: NDArray, proposal: NDArray) -> tuple[int, int]:
    """Splits and mergers: clusters of differing pixels that part a cell, or join two, after warping.

    Their sum over the pixels is the warping error of the ISBI 2012 table, where a line that parts a cell counts once,
    however long it is. A cluster is 8-connected where it is membrane in the proposal and 4-connected where it is cell;
    it splits if it touches two cells of the proposal, and merges if it touches two cells of the warped truth.

    Returns
    -------
    (splits, mergers)

    >>> topological_errors(np.array([[1, 1, 0, 1]]), np.array([[1, 1, 1, 1]]))
    (0, 1)
    """
    moved, found = warped(truth, proposal), proposal != 0
    splits = _between(moved & ~found, found, 8)
    mergers = _between(found & ~moved, moved, 4)
    return splits, mergers


def _between(differing: NDArray[np.bool_], cells: NDArray[np.bool_], connectivity: Literal[4, 8]) -> int:
    """Clusters of pixels with 4-neighbours in two cells or more."""
    clusters = np.pad(cc3d.connected_components(np.ascontiguousarray(differing), connectivity=connectivity), 1)
    beside = np.pad(cc3d.connected_components(np.ascontiguousarray(cells), connectivity=4), 1)
    pairs = []
    for axis, step in product((0, 1), (-1, 1)):
        other = np.roll(beside, step, axis)
        touch = (clusters > 0) & (other > 0)
        pairs.append(np.stack([clusters[touch], other[touch]], axis=1))
    unique = np.unique(np.concatenate(pairs), axis=0)
    return int((np.bincount(unique[:, 0]) > 1).sum()) if len(unique) else 0
