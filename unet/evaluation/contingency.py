"""The overlap of two segmentations: sparse contingency tables that add over blocks, and the scores that they give.

Every score here is a function of the counts ``n_ij``, the voxels with true id i and predicted id j. Counts of disjoint
blocks add. A volume of any size is therefore scored block by block, and the score does not depend on the blocks:

    table = sum((contingency(truth[b], segmentation[b]) for b in blocks), Contingency.empty())

Voxels of true id 0 are ignored throughout. In the formulas, ``a_i = sum_j n_ij``, ``b_j = sum_i n_ij`` and
``n = sum n_ij``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from unet.geometry.run_length_encoding import run_starts

Ids = NDArray[np.uint64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Contingency:
    """A contingency table: the non-zero ``n_ij``, sorted by true id, then by predicted id.

    ``a + b`` is the table of two blocks together.

    Parameters
    ----------
    truth, segmentation : uint64 array (pairs,)
        The ids i and j of each pair that occurs; i is never 0, j may be 0.
    count : int64 array (pairs,)
        Voxels of each pair, at least 1.
    """

    truth: Ids
    segmentation: Ids
    count: Counts

    @classmethod
    def empty(cls) -> Self:
        """Return the table of no voxels, to start a sum from."""
        return cls(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.count)

    @property
    def voxels(self) -> int:
        """n, the voxels counted."""
        return int(self.count.sum())

    def __add__(self, other: "Contingency") -> "Contingency":
        return _counted(
            np.concatenate([self.truth, other.truth]),
            np.concatenate([self.segmentation, other.segmentation]),
            np.concatenate([self.count, other.count]),
        )

    def relabelled(self, lut: NDArray) -> "Contingency":
        """Return the table for the segmentation ``lut[id]``; ids with one value in `lut` become one segment."""
        return _counted(self.truth, lut[self.segmentation].astype(np.uint64), self.count)

    @property
    def truth_sizes(self) -> Counts:
        """``a_i``: voxels of each true segment."""
        return _counted(self.truth, np.zeros_like(self.truth), self.count).count

    @property
    def segment_sizes(self) -> Counts:
        """``b_j``: voxels of each predicted segment, id 0 included, where the true id is not 0."""
        return _counted(self.segmentation, np.zeros_like(self.truth), self.count).count

    @property
    def without_background(self) -> "Contingency":
        """The pairs whose predicted id is not 0."""
        keep = self.segmentation != 0
        return Contingency(self.truth[keep], self.segmentation[keep], self.count[keep])


def contingency(truth: NDArray, segmentation: NDArray) -> Contingency:
    """Count the voxels of every pair of true and predicted id; true id 0 is ignored.

    Neighbouring voxels mostly share both ids. Runs along the last axis are counted first, and only the runs are sorted.
    The cost is a few passes over the arrays, and a sort of about a hundredth of their voxels.

    Parameters
    ----------
    truth, segmentation : int arrays of one shape
        Ids up to 64 bits, not negative.

    Raises
    ------
    ValueError
        If the shapes differ, the arrays are not of integers, or an id is negative.

    Examples
    --------
    >>> table = contingency(np.array([1, 1, 2, 0]), np.array([5, 5, 5, 5]))
    >>> table.truth.tolist(), table.segmentation.tolist(), table.count.tolist()
    ([1, 2], [5, 5], [2, 1])
    """
    if truth.shape != segmentation.shape:
        raise ValueError(f"truth {truth.shape} and segmentation {segmentation.shape} must have the same shape")
    true_ids, predicted_ids = _raveled_ids(truth), _raveled_ids(segmentation)
    start = run_starts(true_ids, predicted_ids)
    length = np.diff(start, append=true_ids.size)
    keep = true_ids[start] != 0
    start = start[keep]
    return _counted(true_ids[start].astype(np.uint64), predicted_ids[start].astype(np.uint64), length[keep])


def _raveled_ids(ids: NDArray) -> NDArray:
    """Return the ids as one line; refuse ids that are not integers or are negative."""
    if ids.dtype.kind not in "ui":
        raise ValueError(f"segment ids must be integers, not {ids.dtype}")
    if ids.dtype.kind == "i" and ids.min(initial=0) < 0:
        raise ValueError(f"segment ids must not be negative, found {ids.min()}")
    return ids.ravel()


def _counted(truth: Ids, segmentation: Ids, count: Counts) -> Contingency:
    """Return the table of these counts: sorted by pair of ids, with equal pairs summed."""
    order = np.lexsort((segmentation, truth))
    truth, segmentation, count = truth[order], segmentation[order], count[order]
    start = run_starts(truth, segmentation)
    total = np.add.reduceat(count, start) if start.size else count
    return Contingency(truth[start], segmentation[start], total)


def rand_f_score(table: Contingency) -> float:
    """Return the Rand F-score, 0 to 1 (equal): the F-score of "these two voxels belong together".

    This is ``V_rand`` of the ISBI 2012 challenge:

    ``2 sum n_ij^2 / (sum a_i^2 + sum b_j^2)``, j over the predicted ids other than 0. A voxel of
    predicted id 0 is a segment of its own: it adds 1 to ``sum n_ij^2`` and to ``sum b_j^2``.

    Raises
    ------
    ValueError
        If the table is empty: no voxel of the truth is labelled.

    References
    ----------
    Arganda-Carreras et al. 2015, doi:10.3389/fnana.2015.00142.

    Examples
    --------
    >>> merged = contingency(np.array([1, 1, 2, 2]), np.array([7, 7, 7, 7]))
    >>> rand_f_score(merged)  # 2 (4 + 4) / (4 + 4 + 16)
    0.6666666666666666
    """
    _require_voxels(table)
    assigned = table.without_background
    alone = table.voxels - assigned.voxels
    together = _sum_of_squares(assigned.count) + alone
    separate = _sum_of_squares(table.truth_sizes) + _sum_of_squares(assigned.segment_sizes) + alone
    return 2 * together / separate


def adapted_rand_error(table: Contingency) -> float:
    """Return the adapted Rand error of CREMI and SNEMI3D, ``1 - rand_f_score``: 0 (equal) to 1.

    For a voxel of predicted id 0 the CREMI script adds ``1/N`` instead of 1, N = voxels of the volume. This changes the
    error by at most ``2 / (mean size of a true segment)``, and by nothing where no predicted id is 0.
    `skimage.metrics.adapted_rand_error` counts pairs of *different* voxels (``n_ij^2 - n_ij`` for ``n_ij^2``), and
    treats predicted id 0 as one ordinary segment.

    Raises
    ------
    ValueError
        If the table is empty: no voxel of the truth is labelled.
    """
    return 1 - rand_f_score(table)


def _sum_of_squares(counts: Counts) -> float:
    """Return the sum of squares in floating point: the squares of 64-bit counts overflow 64 bits."""
    return float(np.square(counts.astype(np.float64)).sum())


def variation_of_information(table: Contingency) -> tuple[float, float]:
    """Return the variation of information as (split, merge), in bits: 0 for equal segmentations.

    ``split = H(segmentation | truth)`` grows as true segments are split, ``merge = H(truth | segmentation)`` as they
    are merged; ``H(S|T) = -sum n_ij / n log2(n_ij / a_i)``. Predicted id 0 is one ordinary segment. CREMI's script and
    `skimage.metrics.variation_of_information` (with true id 0 ignored) do the same, and use log2 too.

    Raises
    ------
    ValueError
        If the table is empty: no voxel of the truth is labelled.

    References
    ----------
    Meila 2007, doi:10.1016/j.jmva.2006.11.013.

    Examples
    --------
    >>> variation_of_information(contingency(np.array([1, 1, 1, 1]), np.array([1, 1, 2, 2])))
    (1.0, 0.0)
    """
    _require_voxels(table)
    joint = entropy(table.count, table.voxels)
    split = joint - entropy(table.truth_sizes, table.voxels)
    merge = joint - entropy(table.segment_sizes, table.voxels)
    return max(0.0, split), max(0.0, merge)


def entropy(counts: Counts, total: int) -> float:
    """Return ``-sum p log2 p`` in bits, with ``p = counts / total``; every count is at least 1.

    >>> entropy(np.array([2, 2]), 4)
    1.0
    """
    p = counts / total
    return float(-(p * np.log2(p)).sum())


def _require_voxels(table: Contingency) -> None:
    """Refuse an empty table."""
    if table.count.size == 0:
        raise ValueError(
            "nothing to score: no voxel has a true id other than 0; check the labels and the box that is evaluated"
        )


def merge_errors(table: Contingency) -> int:
    """Count the true segments that the segmentation merges with another one.

    A true segment is assigned to the predicted segment (id 0 excluded) that contains more than half of its voxels,
    ``n_ij > a_i / 2``. A predicted segment with m true segments counts ``m - 1`` errors.

    >>> merge_errors(contingency(np.array([1, 1, 2, 2, 3, 3]), np.array([4, 4, 4, 4, 4, 5])))
    1
    """
    return _count_beyond_first(table.segmentation, 2 * table.count > _size_of_each_pair(table.truth, table.count))


def split_errors(table: Contingency) -> int:
    """Count the splits of true segments in the segmentation: `merge_errors` with the roles exchanged.

    A predicted segment is assigned to the true segment that contains more than half of its labelled voxels,
    ``n_ij > b_j / 2``. A true segment with m predicted segments counts ``m - 1`` errors.

    >>> split_errors(contingency(np.array([1, 1, 1, 1, 2]), np.array([4, 4, 5, 6, 6])))
    1
    """
    found = table.without_background
    return _count_beyond_first(found.truth, 2 * found.count > _size_of_each_pair(found.segmentation, found.count))


def _size_of_each_pair(ids: Ids, count: Counts) -> Counts:
    """Return, for each pair, the voxels of the whole segment that the pair belongs to."""
    _, inverse = np.unique(ids, return_inverse=True)
    return np.bincount(inverse, weights=count)[inverse].astype(np.int64)


def _count_beyond_first(ids: Ids, assigned: NDArray[np.bool_]) -> int:
    """Count the assigned pairs beyond the first of each id; pairs with id 0 do not count."""
    chosen = ids[assigned & (ids != 0)]
    return len(chosen) - len(np.unique(chosen))


def foreground_counts(truth: NDArray, predicted: NDArray) -> Counts:
    """Count the voxels of the intersection and of the union of two foregrounds (non-zero or True), int64 ``(2,)``.

    The counts of disjoint blocks add; `foreground_iou` turns them into the score.

    >>> foreground_counts(np.array([1, 1, 0]), np.array([0, 1, 1])).tolist()
    [1, 3]
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"truth {truth.shape} and prediction {predicted.shape} must have the same shape")
    one, other = truth != 0, predicted != 0
    return np.array([np.count_nonzero(one & other), np.count_nonzero(one | other)], np.int64)


def foreground_iou(counts: Counts | Sequence[int]) -> float:
    """Return the intersection over union of the foregrounds, 0 to 1; 1 if both are empty.

    >>> foreground_iou([1, 4])
    0.25
    """
    intersection, union = (int(count) for count in counts)
    return intersection / union if union else 1.0
