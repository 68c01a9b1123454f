"""Scores of a whole volume, added up over blocks and sections: what `evaluate` and `sweep` report."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from unet.config.label_kinds import UNLABELLED
from unet.evaluation.contingency import foreground_counts, foreground_iou
from unet.evaluation.object_metrics import ObjectScores

ROOM_FOR_IDS = np.uint64(2**44)
"""Ids below this leave room for the section's number in 64 bits."""


class EvaluationError(ValueError):
    """Labels and results cannot be compared."""


def section_cells(labels: NDArray[Any], ignore_id: int | None = None) -> NDArray[Any]:
    """The true cells of one section: the 4-connected pieces of each id, as the ISBI script takes them.

    Parameters
    ----------
    labels
        Ids `(1, y, x)`; 0 = membrane or not annotated.
    ignore_id
        Another id that means not annotated.

    Returns
    -------
    uint array `(1, y, x)`, 1, 2, ... and 0 where nothing counts.

    >>> section_cells(np.array([[[7, 0, 7], [7, 3, 3]]])).tolist()
    [[[1, 0, 2], [1, 3, 3]]]
    """
    known = labels if not ignore_id else np.where(labels == ignore_id, 0, labels)
    cells: NDArray[Any] = cc3d.connected_components(np.ascontiguousarray(known[0]), connectivity=4)[None]
    return cells


def mean_scores(
    rows: Sequence[Sequence[dict[str, float]]], weights: Sequence[int] | None = None
) -> list[dict[str, float]]:
    """Mean over sections (or volumes, weighted by their sections) of the scores at each threshold.

    >>> one, other = {"threshold": 0.5, "v_rand": 0.8, "v_info": 1.0}, {"threshold": 0.5, "v_rand": 1.0, "v_info": 1.0}
    >>> mean_scores([[one], [other]])
    [{'threshold': 0.5, 'v_rand': 0.9, 'v_info': 1.0}]
    """
    share = np.ones(len(rows)) if weights is None else np.asarray(weights, dtype=float)
    kept = [(row, w) for row, w in zip(rows, share, strict=True) if w > 0]
    if not kept:
        raise EvaluationError("no section with labels: there is no threshold to choose; check the labels and sections")
    means = []
    for at_threshold in zip(*(row for row, _ in kept), strict=True):
        values = {
            key: float(np.average([score[key] for score in at_threshold], weights=[w for _, w in kept]))
            for key in ("v_rand", "v_info")
        }
        means.append({"threshold": at_threshold[0]["threshold"], **values})
    return means


def best(scores: Sequence[dict[str, float]], thresholds: Sequence[float] | None = None) -> dict[str, float]:
    """The threshold with the highest V_rand, among `thresholds` where given; the lowest of equals."""
    candidates = [s for s in scores if thresholds is None or s["threshold"] in thresholds]
    return max(candidates, key=lambda score: (score["v_rand"], -score["threshold"]))


def least_voi(volumes: Sequence[Sequence[dict[str, float]]], voxels: Sequence[int]) -> dict[str, float]:
    """The threshold with the least mean VOI of volumes, weighted by their labelled voxels; the lowest of equals.

    >>> least_voi([[{"threshold": 0.2, "voi": 3.0}, {"threshold": 0.4, "voi": 1.0}]], [100])
    {'threshold': 0.4, 'voi': 1.0}
    """
    labelled = [(rows, n) for rows, n in zip(volumes, voxels, strict=True) if n > 0]
    if not labelled:
        raise EvaluationError("no labelled voxel: there is no threshold to choose; check the labels")
    weights = [n for _, n in labelled]
    means = [
        {"threshold": at[0]["threshold"], "voi": float(np.average([row["voi"] for row in at], weights=weights))}
        for at in zip(*(rows for rows, _ in labelled), strict=True)
    ]
    return min(means, key=lambda row: (row["voi"], row["threshold"]))


@dataclass
class Comparison:
    """Counts that compare truth and result, added block by block; the scores do not depend on the blocks.

    Parameters
    ----------
    classes
        Number of classes K.
    per_section
        Whether an id of the truth counts as another object in each section, as it must for sections segmented alone.
    """

    classes: int
    per_section: bool
    confusion: NDArray[np.int64] = field(init=False)
    foreground: NDArray[np.int64] = field(init=False)
    objects: ObjectScores = field(init=False, default_factory=ObjectScores.empty)
    numbers: dict[int, int] = field(init=False, default_factory=lambda: {0: 0})

    def __post_init__(self) -> None:
        self.confusion = np.zeros((self.classes, self.classes), np.int64)
        self.foreground = np.zeros(2, np.int64)

    def add(
        self,
        target: NDArray[np.uint8],
        predicted: NDArray[np.uint8],
        labels: NDArray[Any],
        segmentation: NDArray[Any],
        near: NDArray[np.bool_],
        first_section: int,
        foreground_class: int,
    ) -> None:
        """Add a block; all arrays `(z, y, x)`: class targets (255 = unlabelled) and predictions, true and found ids,
        and where true borders are near (see `unet.evaluation.object_metrics.near_borders`)."""
        known = target != UNLABELLED
        pairs = target[known].astype(np.int64) * self.classes + predicted[known]
        self.confusion += np.bincount(pairs, minlength=self.classes**2).reshape(self.classes, self.classes)
        self.foreground += foreground_counts((target == foreground_class) & known, (segmentation > 0) & known)
        truth = self._ids_by_section(labels, first_section) if self.per_section else labels
        self.objects.add(truth, segmentation, near, known)

    def _ids_by_section(self, labels: NDArray[Any], first_section: int) -> NDArray[np.uint64]:
        """Ids that no two sections share: the section's number is above those of the ids."""
        ids = self._small(labels) if labels.dtype.itemsize == 8 else labels
        section = np.arange(first_section, first_section + len(labels), dtype=np.uint64)[:, None, None]
        return np.where(labels > 0, ids.astype(np.uint64) + section * ROOM_FOR_IDS, np.uint64(0))

    def _small(self, labels: NDArray[Any]) -> NDArray[np.uint64]:
        """Ids of 64 bits leave no room for the section: each gets a number when it is first seen. No score sees it."""
        found, place = np.unique(labels, return_inverse=True)
        numbers = [self.numbers.setdefault(one, len(self.numbers)) for one in found.tolist()]
        return np.array(numbers, np.uint64)[place].reshape(labels.shape)

    def scores(self) -> dict[str, Any]:
        """Pixel error, IoU of every class, foreground IoU, and the scores of objects; None where nothing counts."""
        right, total = np.diag(self.confusion), int(self.confusion.sum())
        union = self.confusion.sum(0) + self.confusion.sum(1) - right
        iou = [float(r / u) if u else None for r, u in zip(right, union, strict=True)]
        present = [value for value in iou if value is not None]
        return {
            "pixel_error": float(1 - right.sum() / total) if total else None,
            "foreground_iou": foreground_iou(self.foreground),
            "class_iou": iou,
            "mean_iou": float(np.mean(present)) if present else None,
            **self.objects.scores(),
        }


def predicted_classes(stored: NDArray[Any]) -> NDArray[np.uint8]:
    """The most probable class of every voxel from stored probabilities `(c, z, y, x)`.

    One channel is the second of two classes, present where its probability is above one half.

    >>> predicted_classes(np.array([[[[127, 128]]]], np.uint8)).tolist()
    [[[0, 1]]]
    """
    if len(stored) > 1:
        return np.argmax(stored, axis=0).astype(np.uint8)
    half = 127 if stored.dtype == np.uint8 else 0.5
    return (stored[0] > half).astype(np.uint8)
