"""Scores of a whole volume, from counts that add over blocks and sections (rules `evaluate` and `threshold_sweep`)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from unet.config.label_kinds import UNLABELLED
from unet.evaluation.contingency import foreground_counts, foreground_iou
from unet.evaluation.object_metrics import ObjectScores

SECTION_STRIDE = np.uint64(2**44)
"""Difference between equal ids of neighbouring sections; ids below it leave 20 of 64 bits for the section's number."""


class EvaluationError(ValueError):
    """Labels and results that cannot be compared."""


def section_cells(labels: NDArray[Any]) -> NDArray[Any]:
    """Return the true cells of one section: the 4-connected components of each id, as in the ISBI script.

    Parameters
    ----------
    labels : int array (1, y, x)
        True ids, see `unet.volumes.volume.Volume.true_ids`; 0 = membrane or not annotated.

    Returns
    -------
    uint array (1, y, x)
        Cells 1, 2, ...; 0 where nothing is scored.

    >>> section_cells(np.array([[[7, 0, 7], [7, 3, 3]]])).tolist()
    [[[1, 0, 2], [1, 3, 3]]]
    """
    cells: NDArray[Any] = cc3d.connected_components(np.ascontiguousarray(labels[0]), connectivity=4)[None]
    return cells


def mean_scores(
    rows: Sequence[Sequence[dict[str, float]]], weights: Sequence[int] | None = None
) -> list[dict[str, float]]:
    """Return the mean scores at each threshold, over sections, or over volumes weighted by their labelled sections.

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


def joined_over_sections(ids: NDArray[Any], sizes: NDArray[Any]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return labels and their voxels in all sections, from objects that no two sections share.

    >>> from_section_0, from_section_2 = 7, 7 + 2 * int(SECTION_STRIDE)
    >>> joined_over_sections(np.array([from_section_0, from_section_2], np.uint64), np.array([4, 5]))
    (array([7], dtype=uint64), array([9]))
    """
    labels, index = np.unique(ids % SECTION_STRIDE, return_inverse=True)
    joined = np.zeros(len(labels), np.int64)
    np.add.at(joined, index, sizes)
    return labels, joined


def best_threshold_by_v_rand(
    scores: Sequence[dict[str, float]], thresholds: Sequence[float] | None = None
) -> dict[str, float]:
    """Return the row with the highest V_rand, among `thresholds` if given; of equal rows the lowest threshold."""
    candidates = [s for s in scores if thresholds is None or s["threshold"] in thresholds]
    return max(candidates, key=lambda score: (score["v_rand"], -score["threshold"]))


@dataclass
class VolumeScores:
    """Counts that compare truth and result, added block by block; the scores do not depend on the blocks.

    Parameters
    ----------
    classes : int
        Number of classes K.
    per_section : bool
        True if a true id is another object in each section, as it must be where sections are segmented one by one.

    Attributes
    ----------
    confusion : (K, K) int64
        Voxels by true and predicted class.
    foreground : (2,) int64
        Voxels of the intersection and of the union of the two foregrounds.
    objects : ObjectScores
        Tables of true and predicted ids.
    compact_ids : dict
        Small number of each 64-bit true id, in the order in which the ids are met.
    """

    classes: int
    per_section: bool
    confusion: NDArray[np.int64] = field(init=False)
    foreground: NDArray[np.int64] = field(init=False)
    objects: ObjectScores = field(init=False, default_factory=ObjectScores.empty)
    compact_ids: dict[int, int] = field(init=False, default_factory=lambda: {0: 0})

    def __post_init__(self) -> None:
        self.confusion = np.zeros((self.classes, self.classes), np.int64)
        self.foreground = np.zeros(2, np.int64)

    def add(
        self,
        target: NDArray[np.uint8],
        predicted: NDArray[np.uint8],
        labels: NDArray[Any],
        segmentation: NDArray[Any],
        near_border: NDArray[np.bool_],
        first_section: int,
        foreground_class: int,
    ) -> None:
        """Add a block; all arrays are `(z, y, x)`.

        Parameters
        ----------
        target, predicted : true and predicted class of each voxel; target 255 = unlabelled
        labels, segmentation : true and predicted ids
        near_border : see `unet.evaluation.object_metrics.border_mask`
        first_section : section of the volume that is the block's first
        foreground_class : class whose voxels are the true foreground
        """
        annotated = target != UNLABELLED
        pairs = target[annotated].astype(np.int64) * self.classes + predicted[annotated]
        self.confusion += np.bincount(pairs, minlength=self.classes**2).reshape(self.classes, self.classes)
        self.foreground += foreground_counts((target == foreground_class) & annotated, (segmentation > 0) & annotated)
        self.objects.add(self.true_objects(labels, first_section), segmentation, near_border, annotated)

    def true_objects(self, labels: NDArray[Any], first_section: int) -> NDArray[Any]:
        """Return the ids that are scored: those of the labels, or ids that no two sections share.

        Where sections are scored alone, an object has the id ``label + section * SECTION_STRIDE``.

        Parameters
        ----------
        labels : (z, y, x) true ids
        first_section : section of the volume that is the first one of `labels`
        """
        if not self.per_section:
            return labels
        ids = self._compact(labels) if labels.dtype.itemsize == 8 else labels
        section = np.arange(first_section, first_section + len(labels), dtype=np.uint64)[:, None, None]
        return np.where(labels > 0, ids.astype(np.uint64) + section * SECTION_STRIDE, np.uint64(0))

    def label_of(self, true_object: int) -> int:
        """Return the id in the labels of an object of `true_objects`.

        >>> scores = VolumeScores(2, per_section=True)
        >>> scores.label_of(int(scores.true_objects(np.array([[[0, 7]]], np.uint8), first_section=3).max()))
        7
        """
        if not self.per_section:
            return true_object
        label = true_object % int(SECTION_STRIDE)
        labels = list(self.compact_ids)  # in the order of their numbers; empty but for 0 where nothing was compacted
        return labels[label] if len(labels) > 1 else label

    def _compact(self, labels: NDArray[Any]) -> NDArray[np.uint64]:
        """Return a small number for each 64-bit id, since such ids may leave no room for the section's number.

        No score depends on the numbers.
        """
        found, index = np.unique(labels, return_inverse=True)
        numbers = [self.compact_ids.setdefault(one, len(self.compact_ids)) for one in found.tolist()]
        return np.array(numbers, np.uint64)[index].reshape(labels.shape)

    def scores(self) -> dict[str, Any]:
        """Return pixel error, IoU per class, foreground IoU and the scores of objects; None where no voxel counts."""
        correct, total = np.diag(self.confusion), int(self.confusion.sum())
        union = self.confusion.sum(0) + self.confusion.sum(1) - correct
        iou = [float(c / u) if u else None for c, u in zip(correct, union, strict=True)]
        present = [value for value in iou if value is not None]
        return {
            "pixel_error": float(1 - correct.sum() / total) if total else None,
            "foreground_iou": foreground_iou(self.foreground),
            "class_iou": iou,
            "mean_iou": float(np.mean(present)) if present else None,
            **self.objects.scores(),
        }


def predicted_classes(stored: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the most probable class of every voxel, from stored probabilities `(c, z, y, x)`.

    A single channel is class 1 of two, where its probability is above one half.

    >>> predicted_classes(np.array([[[[127, 128]]]], np.uint8)).tolist()
    [[[0, 1]]]
    """
    if len(stored) > 1:
        return np.argmax(stored, axis=0).astype(np.uint8)
    half = 127 if stored.dtype == np.uint8 else 0.5
    return (stored[0] > half).astype(np.uint8)
