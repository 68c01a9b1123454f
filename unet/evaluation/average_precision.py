"""Average precision: how many objects are found, at what agreement (for compact objects such as nuclei).

A true and a predicted object match at the threshold t if their intersection over union exceeds t. Each may match one
other: from t = 0.5 on that is so by itself, since two objects that share more than half of their union can neither of
them do so with a third. With TP matches, FP predicted objects and FN true ones without a match,
``AP(t) = TP / (TP + FP + FN)``: one minus the share of errors, 1 = all found and nothing else.

Everything follows from the overlap table, so a volume is scored block by block.

References
----------
Caicedo et al. 2019, doi:10.1038/s41592-019-0612-7 (Data Science Bowl 2018); Schmidt et al. 2018 (StarDist),
doi:10.1007/978-3-030-00934-2_30, whose ``accuracy`` it is.
"""

import numpy as np

from unet.evaluation.contingency import Contingency

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""0.5, 0.55, ... 0.95."""


def average_precision(table: Contingency, found: Contingency, threshold: float) -> float:
    """``TP / (TP + FP + FN)`` at one threshold of the intersection over union, 0 to 1.

    Parameters
    ----------
    table
        Overlaps of true and predicted ids; id 0 of either is background.
    found
        Voxels of each predicted id in all that is scored, also where the truth is background: a table whose truth is 1
        throughout.
    threshold
        At least 0.5; two objects match if their intersection over union is larger.

    Raises
    ------
    ValueError
        If the threshold is below 0.5, where matches would have to be chosen, or there is no object at all.

    Examples
    --------
    >>> from unet.evaluation.contingency import contingency
    >>> truth, predicted = np.array([1, 1, 1, 2, 0]), np.array([7, 7, 7, 0, 9])
    >>> table, found = contingency(truth, predicted), contingency(np.ones(5, int), predicted)
    >>> average_precision(table, found, 0.5)  # one match of two true and two predicted objects
    0.3333333333333333
    """
    if threshold < 0.5:
        raise ValueError(f"threshold {threshold}: an object can have several matches below 0.5")
    pairs, predicted = table.assigned, found.assigned
    true_ids, size = np.unique(table.truth), table.truth_sizes
    objects = len(true_ids) + len(predicted.segmentation)
    if objects == 0:
        raise ValueError("nothing to score: there is neither a true nor a predicted object")
    of_true = size[np.searchsorted(true_ids, pairs.truth)]
    of_predicted = predicted.count[np.searchsorted(predicted.segmentation, pairs.segmentation)]
    matches = int((pairs.count > threshold * (of_true + of_predicted - pairs.count)).sum())
    return matches / (objects - matches)
