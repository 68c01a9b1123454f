"""Scores of objects over a whole volume, from tables that add over blocks: Rand, VOI, CREMI, average precision.

Each block adds to three contingency tables, and nothing else of it is kept:

1. truth against segmentation,
2. the same without the voxels near a true border, as CREMI scores,
3. the voxels of every predicted object, for the average precision.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.evaluation.average_precision import THRESHOLDS, average_precision
from unet.evaluation.contingency import (
    Contingency,
    adapted_rand_error,
    contingency,
    merge_errors,
    split_errors,
    variation_of_information,
)
from unet.geometry.distance_transform import capped_distance

CREMI_BORDER_NM = 25.0
"""nm in the section: CREMI does not score voxels this near to a border between two true ids."""


def border_mask(labels: NDArray[Any], distance_px: float) -> NDArray[np.bool_]:
    """Return True for the voxels within a distance of a border between two ids, which CREMI ignores.

    A border pixel has a 4-neighbour of another id, 0 included. Distances are within the section.

    Parameters
    ----------
    labels : (z, y, x) true ids
    distance_px : Euclidean distance, at least 0

    Returns
    -------
    (z, y, x) bool; a value depends on ``ceil(distance_px) + 1`` pixels around it

    References
    ----------
    https://github.com/cremi/cremi_python, ``cremi/evaluation/border_mask.py``.

    >>> border_mask(np.array([[[1, 1, 1, 2, 2, 2, 2]]]), 1).astype(int).tolist()
    [[[0, 1, 1, 1, 1, 0, 0]]]
    """
    border = np.zeros(labels.shape, bool)
    for axis in (1, 2):
        line, marked = np.moveaxis(labels, axis, 0), np.moveaxis(border, axis, 0)
        differ = line[1:] != line[:-1]
        marked[1:] |= differ
        marked[:-1] |= differ
    return capped_distance(border, distance_px + 1, {1: 1, 2: 1}) <= distance_px


@dataclass
class ObjectScores:
    """The three tables of the blocks added so far, see the module.

    Attributes
    ----------
    overlap : truth against segmentation
    overlap_off_borders : the same without the voxels near a true border
    predicted_sizes : voxels of each predicted id, where somebody has annotated
    """

    overlap: Contingency
    overlap_off_borders: Contingency
    predicted_sizes: Contingency

    @classmethod
    def empty(cls) -> "ObjectScores":
        """Return the tables of no block."""
        return cls(Contingency.empty(), Contingency.empty(), Contingency.empty())

    def add(
        self,
        truth: NDArray[Any],
        segmentation: NDArray[Any],
        near_border: NDArray[np.bool_],
        annotated: NDArray[np.bool_],
    ) -> None:
        """Add a block.

        Parameters
        ----------
        truth, segmentation : (z, y, x) ids; true id 0 is not scored
        near_border : True where the truth is near a border, see `border_mask`
        annotated : True where somebody has annotated; a predicted object can be false only there
        """
        self.overlap += contingency(truth, segmentation)
        self.overlap_off_borders += contingency(np.where(near_border, 0, truth), segmentation)
        self.predicted_sizes += contingency(annotated.astype(np.uint8), segmentation)

    def scores(self) -> dict[str, float | int | None]:
        """Return all scores by name; None where no voxel is labelled."""
        precision = self._average_precisions()
        found: dict[str, float | int | None] = {
            "adapted_rand_error": None,
            "voi_split": None,
            "voi_merge": None,
            "split_errors": None,
            "merge_errors": None,
            "cremi_voi_split": None,
            "cremi_voi_merge": None,
            "cremi_adapted_rand_error": None,
            "cremi_score": None,
            "true_objects": len(np.unique(self.overlap.truth)),
            "objects": len(self.predicted_sizes.without_background.segmentation),
            **precision,
        }
        for prefix, table in (("", self.overlap), ("cremi_", self.overlap_off_borders)):
            if table.voxels:
                error, (split, merge) = adapted_rand_error(table), variation_of_information(table)
                found |= {f"{prefix}adapted_rand_error": error}
                found |= {f"{prefix}voi_split": split, f"{prefix}voi_merge": merge}
        if self.overlap.voxels:
            found |= {"split_errors": split_errors(self.overlap), "merge_errors": merge_errors(self.overlap)}
        if self.overlap_off_borders.voxels:
            found["cremi_score"] = cremi_score(self.overlap_off_borders)
        return found

    def _average_precisions(self) -> dict[str, float | None]:
        """Return the average precision at an IoU of 0.5, and its mean over `THRESHOLDS`."""
        if not self.overlap.voxels:
            return {"average_precision_50": None, "mean_average_precision": None}
        each = [average_precision(self.overlap, self.predicted_sizes, threshold) for threshold in THRESHOLDS]
        return {"average_precision_50": each[0], "mean_average_precision": float(np.mean(each))}


def cremi_score(table: Contingency) -> float:
    """Return the geometric mean of the total variation of information and the adapted Rand error, 0 = equal.

    ``sqrt((VOI split + VOI merge) * ARAND)``, over the voxels off the borders: https://cremi.org/metrics.

    >>> round(cremi_score(contingency(np.array([1, 1, 2, 2]), np.array([7, 7, 7, 7]))) ** 2, 4)  # 1 bit, error 1/3
    0.3333
    """
    return sqrt(sum(variation_of_information(table)) * adapted_rand_error(table))
