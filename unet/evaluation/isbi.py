"""The scores of the ISBI 2012 challenge, as its scripts compute them: V_rand, V_info; pixel, Rand and warping error.

1. The cells of the ground truth are the 4-connected components of its interior, not thinned.
2. `threshold_and_thin`: the probability is binarised at a threshold. The background is thinned to lines 1 px wide,
   label 0.
3. `v_rand_v_info`: both are compared where the ground truth is not 0. A pixel there on a predicted line is a segment of
   its own.
4. `sweep_thresholds`: the scores of a threshold are means over the sections. The score of a volume is the best over the
   thresholds.

Ground truth of instance ids enters at step 3. V_rand and V_info are 0 to 1, 1 = equal.

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

CHALLENGE_THRESHOLDS = tuple(tenth / 10 for tenth in range(1, 10))
"""The challenge's thresholds: 0.1, 0.2, ... 0.9."""

FINE_THRESHOLDS = tuple(
    sorted({*CHALLENGE_THRESHOLDS, *(percent / 100 for percent in (*range(50, 90, 5), *range(90, 99, 2)))})
)
"""`CHALLENGE_THRESHOLDS`, and finer steps where membranes close: 0.5, 0.55, ... 0.9, 0.92, ... 0.98."""

LINE = -1
"""Label of a pixel that belongs to no cell and is not to be filled."""


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


def threshold_and_thin(probability: NDArray, threshold: float) -> NDArray[np.int32]:
    """Segment a section: threshold it, then flood the background until lines 1 px wide remain.

    This is a watershed of the inverse of ``probability > threshold`` with the 4-neighbourhood. The 4-connected
    components grow at equal speed over the background. A pixel that two of them reach stays 0. Lines are never flooded
    through; `skimage.segmentation.watershed` with ``watershed_line`` does so, and leaves false lines beside true ones.

    Parameters
    ----------
    probability : float array (y, x)
        Probability of the cell interior, 0 to 1.
    threshold : float
        0 to 1.

    Returns
    -------
    int32 array (y, x)
        1, 2, ... for the cells, 0 on the lines; all 0 if nothing exceeds the threshold.

    Examples
    --------
    >>> threshold_and_thin(np.array([[0.9, 0.9, 0.1, 0.1, 0.1, 0.9]]), 0.5).tolist()
    [[1, 1, 1, 0, 2, 2]]
    """
    cells = ground_truth_cells(probability > threshold)
    width = cells.shape[1] + 2
    grown = np.pad(cells.astype(np.int32), 1, constant_values=LINE).ravel()
    sides = np.array([-width, -1, 1, width])
    ring = np.flatnonzero(grown == 0)
    ring = ring[(grown[ring[:, None] + sides] > 0).any(axis=1)]
    while ring.size:
        # 4-neighbours have different colours on a chessboard. Pixels of one colour do not affect each other, so they
        # can be filled at once, with the result of any order; no two cells meet unseen.
        black = (ring // width + ring % width) % 2 == 0
        for half in (ring[black], ring[~black]):
            grown[half] = _cell_or_line(grown[half[:, None] + sides])
        beyond = (ring[grown[ring] > 0][:, None] + sides).ravel()
        ring = np.unique(beyond[grown[beyond] == 0])
    return np.maximum(grown, 0).reshape(-1, width)[1:-1, 1:-1]


def _cell_or_line(sides: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the only cell at the four sides ``(pixels, 4)`` of each pixel, `LINE` where there are several."""
    highest = sides.max(axis=1)
    lowest = np.where(sides > 0, sides, highest[:, None]).min(axis=1)
    return np.where(lowest == highest, highest, LINE)


def v_rand_v_info(truth: NDArray, segmentation: NDArray) -> tuple[float, float]:
    """Return the Rand and the information-theoretic F-score of a segmentation, over the foreground of the truth.

    ``p_ij`` is the fraction of the pixels of ``truth != 0`` that have true id i and predicted id j; ``a_i`` and ``b_j``
    are its sums over j and over i. Each pixel of predicted id 0 is a segment of its own. Then

    ``V_rand = 2 sum p_ij^2 / (sum a_i^2 + sum b_j^2)``, ``V_info = 2 I / (H(a) + H(b))``. The mutual information is
    ``I = H(a) + H(b) - H(p)``. If both are one single segment (no entropy), ``V_info = 1``.

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
    """Return V_info of a table; m pixels on lines, each of probability 1/n, add ``m/n log2 n`` to H(b) and to H(p)."""
    n, assigned = table.voxels, table.without_background
    lines = (n - assigned.voxels) / n * log2(n)
    of_truth = entropy(table.truth_sizes, n)
    of_segments = entropy(assigned.segment_sizes, n) + lines
    joint = entropy(assigned.count, n) + lines
    if of_truth + of_segments == 0:
        return 1.0
    return max(0.0, 2 * (of_truth + of_segments - joint) / (of_truth + of_segments))


def pixel_error(probability: NDArray, interior: NDArray, threshold: float = 0.5) -> float:
    """Return the fraction of the pixels, 0 to 1, whose binarised probability differs from the interior.

    >>> pixel_error(np.array([0.9, 0.2, 0.6, 0.1]), np.array([1, 1, 1, 0]))
    0.25
    """
    return float(np.mean((probability > threshold) != (interior != 0)))


def rand_error(probability: NDArray, cells: NDArray, threshold: float) -> float:
    """Return the Rand error of the U-Net paper's table, 0 (equal) to 1: 1 - F-score of pixel pairs, without thinning.

    The predicted cells are the 4-connected components of ``probability > threshold``. Every other pixel is a segment of
    its own. Pixels of true id 0 are ignored.

    >>> rand_error(np.array([[0.9, 0.9, 0.9, 0.9]]), np.array([[1, 1, 2, 2]]), 0.5)
    0.33333333333333337
    """
    return 1 - rand_f_score(contingency(cells, ground_truth_cells(probability > threshold)))


def section_errors(
    probability: NDArray, cells: NDArray, interior: NDArray, threshold: float
) -> dict[str, float] | None:
    """Return the Rand error and the warping error of one section at one threshold, as in the U-Net paper's table.

    Parameters
    ----------
    probability : float array (y, x)
        Probability of the cell interior, 0 to 1.
    cells : int array (y, x)
        Ids of the true cells; 0 is ignored.
    interior : bool array (y, x)
        True inside cells, with the membranes between them.
    threshold : float
        0 to 1.

    Returns
    -------
    dict or None
        ``rand_error``; ``warping_error``, share of pixels; ``warping_splits_and_mergers``, clusters over pixels, as in
        the challenge's table. None if no pixel is labelled.
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


def sweep_thresholds(probability: NDArray, cells: NDArray, thresholds: Sequence[float]) -> list[dict[str, float]]:
    """Return the mean V_rand and V_info over the sections of a volume, at each threshold.

    Parameters
    ----------
    probability : float array (z, y, x)
        Probability of the cell interior, 0 to 1.
    cells : int array (z, y, x)
        True cells of each section (`ground_truth_cells`) or instance ids; 0 is ignored. The means leave out sections
        without a labelled pixel.
    thresholds : sequence of float
        For example `CHALLENGE_THRESHOLDS` or `FINE_THRESHOLDS`.

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
        scores = [v_rand_v_info(cells[z], threshold_and_thin(probability[z], threshold)) for z in sections]
        v_rand, v_info = np.mean(scores, axis=0).tolist()
        rows.append({"threshold": threshold, "v_rand": v_rand, "v_info": v_info})
    return rows
