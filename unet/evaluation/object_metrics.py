"""Scores of objects over a whole volume, from tables that are added block by block: Rand, VOI, CREMI, precision.

Each block adds to three tables: truth against segmentation; the same without the voxels near a true border, as CREMI
scores; and the voxels of every predicted object, for the average precision. Nothing else is kept of a block.
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
"""Voxels this near to a border between two true ids are not scored by CREMI, in the section."""


def near_borders(labels: NDArray[Any], distance_px: float) -> NDArray[np.bool_]:
    """Voxels within a distance of a border between two ids in their section, as CREMI ignores them.

    A border pixel has a 4-neighbour of another id, 0 included; the distance to the nearest one counts in the section.

    Parameters
    ----------
    labels : (z, y, x) true ids
    distance_px : Euclidean, at least 0

    Returns
    -------
    (z, y, x) bool; depends on ``ceil(distance_px) + 1`` pixels around

    References
    ----------
    https://github.com/cremi/cremi_python, ``cremi/evaluation/border_mask.py``.

    >>> near_borders(np.array([[[1, 1, 1, 2, 2, 2, 2]]]), 1).astype(int).tolist()
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
    """Counts of blocks added up; see the module."""

    table: Contingency
    inside: Contingency
    found: Contingency

    @classmethod
    def empty(cls) -> "ObjectScores":
        """No block yet."""
        return cls(Contingency.empty(), Contingency.empty(), Contingency.empty())

    def add(
        self, truth: NDArray[Any], segmentation: NDArray[Any], near: NDArray[np.bool_], known: NDArray[np.bool_]
    ) -> None:
        """Add a block.

        Parameters
        ----------
        truth, segmentation : (z, y, x) ids; true id 0 is not scored
        near : where the truth is near a border, see `near_borders`
        known : where a predicted object counts: false ones are such only where somebody has looked
        """
        table = contingency(truth, segmentation)
        self.table += table
        self.inside += contingency(np.where(near, 0, truth), segmentation)
        self.found += contingency(known.astype(np.uint8), segmentation)

    def scores(self) -> dict[str, float | int | None]:
        """All scores by name, None where nothing is labelled."""
        precision = self._precision()
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
            "true_objects": len(np.unique(self.table.truth)),
            "objects": len(self.found.assigned.segmentation),
            **precision,
        }
        for prefix, table in (("", self.table), ("cremi_", self.inside)):
            if table.voxels:
                error, (split, merge) = adapted_rand_error(table), variation_of_information(table)
                found |= {f"{prefix}adapted_rand_error": error}
                found |= {f"{prefix}voi_split": split, f"{prefix}voi_merge": merge}
        if self.table.voxels:
            found |= {"split_errors": split_errors(self.table), "merge_errors": merge_errors(self.table)}
        if self.inside.voxels:
            found["cremi_score"] = cremi_score(self.inside)
        return found

    def _precision(self) -> dict[str, float | None]:
        if not self.table.voxels:
            return {"average_precision_50": None, "mean_average_precision": None}
        each = [average_precision(self.table, self.found, threshold) for threshold in THRESHOLDS]
        return {"average_precision_50": each[0], "mean_average_precision": float(np.mean(each))}


def cremi_score(table: Contingency) -> float:
    """Geometric mean of the total variation of information and the adapted Rand error, 0 = equal.

    ``sqrt((VOI split + VOI merge) * ARAND)`` over voxels off the borders: https://cremi.org/metrics.

    >>> round(cremi_score(contingency(np.array([1, 1, 2, 2]), np.array([7, 7, 7, 7]))) ** 2, 4)  # 1 bit, error 1/3
    0.3333
    """
    return sqrt(sum(variation_of_information(table)) * adapted_rand_error(table))
