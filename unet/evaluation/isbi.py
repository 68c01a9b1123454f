"""The scores of the ISBI 2012 challenge, as its scripts compute them: V_rand, V_info; pixel, Rand and warping error.

1. The cells of the ground truth are the 4-connected components of its interior, not thinned.
2. The proposal is binarised at a threshold and its background thinned to lines 1 px wide, label 0.
3. Both are compared where the ground truth is not 0; a pixel there on a predicted line is a segment of its own.
4. The scores of a threshold are means over the sections; a volume's score is the best over the thresholds.

Ground truth of instance ids enters at step 3. The result is 0 to 1, 1 = equal.

References
----------
Arganda-Carreras et al. 2015, doi:10.3389/fnana.2015.00142.
"""

from collections.abc import Sequence
from math import log2

import cc3d
import numpy as np
from numpy.typing import NDArray

from unet.evaluation.contingency import Contingency, contingency, entropy, rand_f_score
from unet.evaluation.warping import topological_errors, warping_error

STEPS = tuple(tenth / 10 for tenth in range(1, 10))
"""The challenge's thresholds: 0.1, 0.2, ... 0.9."""

FINE = tuple(sorted({*STEPS, *(percent / 100 for percent in (*range(50, 90, 5), *range(90, 99, 2)))}))
"""`STEPS`, and finer where membranes close: 0.5, 0.55, ... 0.9, 0.92, ... 0.98."""

LINE = -1
"""A pixel that belongs to no cell and is not to be filled."""


def ground_truth_cells(interior: NDArray) -> NDArray[np.unsignedinteger]:
    """Number the 4-connected components of the interior.

    Parameters
    ----------
    interior : bool array (y, x)
        True inside cells; non-zero counts as True.

    Returns
    -------
    unsigned int array (y, x)
        1, 2, ... for the cells, 0 for membrane.

    Examples
    --------
    >>> ground_truth_cells(np.array([[1, 0], [0, 1]])).tolist()
    [[1, 0], [0, 2]]
    """
    return cc3d.connected_components(np.ascontiguousarray(interior != 0), connectivity=4)


def proposal(probability: NDArray, threshold: float) -> NDArray[np.int32]:
    """Segment a section: threshold, then flood the background until lines 1 px wide remain.

    A watershed of the inverse of ``probability > threshold``, with the 4-neighbourhood: its 4-connected components grow
    at equal speed over the background, and a pixel that two of them reach stays 0. Lines are never flooded through, as
    they are by `skimage.segmentation.watershed` with ``watershed_line``, which leaves false lines beside true ones.

    Parameters
    ----------
    probability : float array (y, x)
        Of the cell interior, 0 to 1.
    threshold : float
        0 to 1.

    Returns
    -------
    int32 array (y, x)
        1, 2, ... for the cells, 0 on the lines; all 0 if nothing exceeds the threshold.

    Examples
    --------
    >>> proposal(np.array([[0.9, 0.9, 0.1, 0.1, 0.1, 0.9]]), 0.5).tolist()
    [[1, 1, 1, 0, 2, 2]]
    """
    cells = ground_truth_cells(probability > threshold)
    width = cells.shape[1] + 2
    grown = np.pad(cells.astype(np.int32), 1, constant_values=LINE).ravel()
    sides = np.array([-width, -1, 1, width])
    ring = np.flatnonzero(grown == 0)
    ring = ring[(grown[ring[:, None] + sides] > 0).any(axis=1)]
    while ring.size:
        # Two 4-neighbours differ in colour on a chessboard, so that to fill one colour at once is to fill it pixel by
        # pixel in any order: no two cells meet unseen.
        black = (ring // width + ring % width) % 2 == 0
        for half in (ring[black], ring[~black]):
            grown[half] = _cell_or_line(grown[half[:, None] + sides])
        beyond = (ring[grown[ring] > 0][:, None] + sides).ravel()
        ring = np.unique(beyond[grown[beyond] == 0])
    return np.maximum(grown, 0).reshape(-1, width)[1:-1, 1:-1]


def _cell_or_line(sides: NDArray[np.int32]) -> NDArray[np.int32]:
    """The only cell at the four sides ``(pixels, 4)`` of each pixel, `LINE` where there are several."""
    highest = sides.max(axis=1)
    lowest = np.where(sides > 0, sides, highest[:, None]).min(axis=1)
    return np.where(lowest == highest, highest, LINE)


def v_rand_v_info(truth: NDArray, segmentation: NDArray) -> tuple[float, float]:
    """Rand and information-theoretic F-scores of a segmentation, restricted to the foreground of the truth.

    With ``p_ij`` the fraction of the pixels of ``truth != 0`` that have true id i and predicted id j, ``a_i`` and
    ``b_j`` its sums over j and over i, and each pixel of predicted id 0 as a segment of its own:

    ``V_rand = 2 sum p_ij^2 / (sum a_i^2 + sum b_j^2)``, ``V_info = 2 I / (H(a) + H(b))``, with the mutual information
    ``I = H(a) + H(b) - H(p)``. If both are one and the same single segment (no entropy), ``V_info = 1``.

    Parameters
    ----------
    truth, segmentation : int arrays of one shape
        Segment ids; 0 of the truth is ignored, 0 of the segmentation is a line.

    Returns
    -------
    (float, float)
        V_rand and V_info, 0 to 1, 1 = equal.

    Raises
    ------
    ValueError
        If no pixel of the truth is labelled.

    Examples
    --------
    >>> v_rand_v_info(np.array([1, 1, 2, 2]), np.array([1, 1, 1, 1]))
    (0.6666666666666666, 0.0)
    """
    table = contingency(truth, segmentation)
    return rand_f_score(table), _v_info(table)


def _v_info(table: Contingency) -> float:
    """V_info of a table; m pixels on lines, each of probability 1/n, add ``m/n log2 n`` to H(b) and to H(p)."""
    n, assigned = table.voxels, table.assigned
    lines = (n - assigned.voxels) / n * log2(n)
    of_truth = entropy(table.truth_sizes, n)
    of_segments = entropy(assigned.segment_sizes, n) + lines
    joint = entropy(assigned.count, n) + lines
    if of_truth + of_segments == 0:
        return 1.0
    return max(0.0, 2 * (of_truth + of_segments - joint) / (of_truth + of_segments))


def pixel_error(probability: NDArray, interior: NDArray, threshold: float = 0.5) -> float:
    """Fraction of the pixels whose binarised probability differs from the interior, 0 to 1.

    >>> pixel_error(np.array([0.9, 0.2, 0.6, 0.1]), np.array([1, 1, 1, 0]))
    0.25
    """
    return float(np.mean((probability > threshold) != (interior != 0)))


def rand_error(probability: NDArray, cells: NDArray, threshold: float) -> float:
    """Rand error of the U-Net paper's table: 1 - F-score of pixel pairs, without thinning; 0 (equal) to 1.

    The cells of the proposal are the 4-connected components of ``probability > threshold``; its other pixels are
    segments of their own. Pixels of true id 0 are ignored.

    >>> rand_error(np.array([[0.9, 0.9, 0.9, 0.9]]), np.array([[1, 1, 2, 2]]), 0.5)
    0.33333333333333337
    """
    return 1 - rand_f_score(contingency(cells, ground_truth_cells(probability > threshold)))


def section_errors(
    probability: NDArray, cells: NDArray, interior: NDArray, threshold: float
) -> dict[str, float] | None:
    """Rand error and warping error of one section at one threshold, as in the table of the U-Net paper.

    Parameters
    ----------
    probability : float array (y, x)
        Of the cell interior.
    cells : int array (y, x)
        True cells, 0 is ignored.
    interior : bool array (y, x)
        True inside cells, with the membranes between them.
    threshold : float
        0 to 1.

    Returns
    -------
    dict or None
        ``rand_error``; ``warping_error``, share of pixels; ``warping_splits_and_mergers``, clusters over pixels, which
        is what the challenge's table gives. None if no pixel is labelled.
    """
    if not cells.any():
        return None
    found = probability > threshold
    splits, mergers = topological_errors(interior, found)
    return {
        "rand_error": rand_error(probability, cells, threshold),
        "warping_error": warping_error(interior, found),
        "warping_splits_and_mergers": (splits + mergers) / found.size,
    }


def sweep(probability: NDArray, cells: NDArray, thresholds: Sequence[float]) -> list[dict[str, float]]:
    """Mean V_rand and V_info over the sections of a volume, at each threshold.

    Parameters
    ----------
    probability : float array (z, y, x)
        Of the cell interior, 0 to 1.
    cells : int array (z, y, x)
        True cells of each section (`ground_truth_cells`) or instance ids; 0 is ignored. Sections without any
        labelled pixel are left out of the means.
    thresholds : sequence of float
        For instance `STEPS` or `FINE`.

    Returns
    -------
    list of dict
        ``{"threshold", "v_rand", "v_info"}`` of each threshold, in the order given. The score of the volume is the
        maximum of either.

    Raises
    ------
    ValueError
        If the shapes differ, or no pixel at all is labelled.
    """
    if probability.shape != cells.shape:
        raise ValueError(f"probability {probability.shape} and cells {cells.shape} must have the same shape")
    sections = [z for z, truth in enumerate(cells) if truth.any()]
    if not sections:
        raise ValueError("nothing to score: no pixel has a true cell id; check the labels and the sections evaluated")
    rows = []
    for threshold in thresholds:
        scores = [v_rand_v_info(cells[z], proposal(probability[z], threshold)) for z in sections]
        v_rand, v_info = np.mean(scores, axis=0).tolist()
        rows.append({"threshold": threshold, "v_rand": v_rand, "v_info": v_info})
    return rows
