"""Average precision: the share of objects found at a given overlap (for compact objects such as nuclei).

A true and a predicted object match at the threshold t if their intersection over union exceeds t. Each object may have
one match. From t = 0.5 on no object can have two: two objects that share more than half of their union cannot share
as much with a third. With TP matches, FP predicted objects and FN true objects without a match,
``AP(t) = TP / (TP + FP + FN)``: 1 = all objects found, and no others.

The score follows from the contingency table, so a volume is scored block by block.

References
----------
Caicedo et al. 2019, doi:10.1038/s41592-019-0612-7 (Data Science Bowl 2018); Schmidt et al. 2018 (StarDist),
doi:10.1007/978-3-030-00934-2_30, where this score is called ``accuracy``.
"""

import numpy as np

from unet.evaluation.contingency import Contingency

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""Thresholds of the mean average precision: 0.5, 0.55, ... 0.95."""


def average_precision(overlap: Contingency, predicted_sizes: Contingency, threshold: float) -> float:
    """Return ``TP / (TP + FP + FN)``, 0 to 1, at one threshold of the intersection over union.

    Parameters
    ----------
    overlap : Contingency
        Overlaps of true and predicted ids; id 0 of either is background.
    predicted_sizes : Contingency
        Voxels of each predicted id among all scored voxels, where the truth is background too: a table whose true id is
        1 everywhere.
    threshold : float
        At least 0.5; two objects match if their intersection over union is larger.

    Raises
    ------
    ValueError
        If the threshold is below 0.5, where matches would have to be chosen, or there is no object at all.

    Examples
    --------
    >>> from unet.evaluation.contingency import contingency
    >>> truth, predicted = np.array([1, 1, 1, 2, 0]), np.array([7, 7, 7, 0, 9])
    >>> overlap, sizes = contingency(truth, predicted), contingency(np.ones(5, int), predicted)
    >>> average_precision(overlap, sizes, 0.5)  # one match of two true and two predicted objects
    0.3333333333333333
    """
    if threshold < 0.5:
        raise ValueError(f"threshold {threshold}: an object can have several matches below 0.5")
    pairs, predicted = overlap.without_background, predicted_sizes.without_background
    true_ids, size = np.unique(overlap.truth), overlap.truth_sizes
    objects = len(true_ids) + len(predicted.segmentation)
    if objects == 0:
        raise ValueError("nothing to score: there is neither a true nor a predicted object")
    of_true = size[np.searchsorted(true_ids, pairs.truth)]
    of_predicted = predicted.count[np.searchsorted(predicted.segmentation, pairs.segmentation)]
    matches = int((pairs.count > threshold * (of_true + of_predicted - pairs.count)).sum())
    return matches / (objects - matches)
