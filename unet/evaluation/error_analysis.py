"""The errors of a segmentation: the wrong voxels, the objects that contain most of them, and their positions.

Every object has a best partner: the object of the other segmentation that shares most voxels with it. A voxel whose
predicted object is not the best partner of its true object has been *split* off. A voxel whose true object is not the
best partner of its predicted object has been *merged* with others. Both follow from the contingency table by a look-up.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.evaluation.contingency import Contingency
from unet.geometry.box import Box

SPLIT, MERGE = 1, 2
"""Bits of `error_map`."""


@dataclass
class ErroneousObject:
    """An object with wrong voxels.

    Attributes
    ----------
    kind : ``split``: a true object that several predicted ones share; ``merge``: a predicted one over several true ones
    object_id, best_partner : ids of the object and of its best partner
    size, wrong_voxels : scored voxels of the object, and those of them outside the best partner
    partners : number of objects that share voxels with it
    sections : section -> (wrong voxels in the section, sum of their y, sum of their x), see `locate`
    """

    kind: str
    object_id: int
    best_partner: int
    size: int
    wrong_voxels: int
    partners: int
    sections: dict[int, NDArray[np.int64]] = field(default_factory=dict)

    @property
    def centre(self) -> tuple[int, int, int]:
        """``(z, y, x)``: the section with the most wrong voxels, and the mean position of those voxels."""
        z, (count, y, x) = max(self.sections.items(), key=lambda item: (item[1][0], -item[0]))
        return z, int(y // count), int(x // count)

    def locate(self, truth: NDArray, segmentation: NDArray, box: Box) -> None:
        """Add the wrong voxels of a block, ``(z, y, x)`` ids of the voxels of `box`, to `sections`."""
        own, other = (truth, segmentation) if self.kind == "split" else (segmentation, truth)
        wrong = np.nonzero((own == self.object_id) & (other != self.best_partner) & (other != 0))
        for z in np.unique(wrong[0]):
            y, x = (wrong[axis][wrong[0] == z] + box.start[axis] for axis in (1, 2))
            found = np.array([len(y), y.sum(), x.sum()], np.int64)
            section = int(z) + box.start[0]
            self.sections[section] = self.sections.get(section, np.zeros(3, np.int64)) + found


def worst_objects(table: Contingency, count: int) -> list[ErroneousObject]:
    """Return the objects with the most voxels outside their best partner, splits and merges together, worst first.

    >>> from unet.evaluation.contingency import contingency
    >>> [worst] = worst_objects(contingency(np.array([1, 1, 1, 2]), np.array([5, 5, 6, 7])), count=1)
    >>> worst.kind, worst.object_id, worst.best_partner, worst.wrong_voxels, worst.partners
    ('split', 1, 5, 1, 2)
    """
    pairs = table.without_background
    splits = _worst_of_kind("split", pairs.truth, pairs.segmentation, pairs.count, count)
    merges = _worst_of_kind("merge", pairs.segmentation, pairs.truth, pairs.count, count)
    return sorted([*splits, *merges], key=lambda one: (-one.wrong_voxels, one.kind, one.object_id))[:count]


def _worst_of_kind(
    kind: str, ids: NDArray[np.uint64], others: NDArray[np.uint64], counts: NDArray[np.int64], most: int
) -> Iterable[ErroneousObject]:
    """Yield the objects among `ids` with the most wrong voxels, at most `most`."""
    known, best, largest = _best_partners(ids, others, counts)
    of = np.searchsorted(known, ids)
    size = np.bincount(of, weights=counts, minlength=len(known)).astype(np.int64)
    partners = np.bincount(of, minlength=len(known))
    for i in np.argsort(largest - size, kind="stable")[:most]:
        if size[i] > largest[i]:
            wrong = int(size[i] - largest[i])
            yield ErroneousObject(kind, int(known[i]), int(best[i]), int(size[i]), wrong, int(partners[i]))


def _best_partners(
    ids: NDArray[np.uint64], others: NDArray[np.uint64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]]:
    """Return each id, the partner with the most common voxels (the lower id of equals), and the number of these."""
    order = np.lexsort((others, -counts, ids))
    known, first = np.unique(ids[order], return_index=True)
    return known, others[order][first], counts[order][first]


class ErrorFinder:
    """Find the wrong voxels of any part of a volume by the contingency table of the whole volume.

    >>> from unet.evaluation.contingency import contingency
    >>> truth, found = np.array([1, 1, 1, 2, 2, 2]), np.array([5, 5, 6, 7, 7, 7])
    >>> ErrorFinder(contingency(truth, found)).errors(truth, found).tolist()
    [0, 0, 1, 0, 0, 0]
    """

    def __init__(self, table: Contingency) -> None:
        pairs = table.without_background
        self._splits = _best_partners(pairs.truth, pairs.segmentation, pairs.count)[:2]
        self._merges = _best_partners(pairs.segmentation, pairs.truth, pairs.count)[:2]

    def errors(self, truth: NDArray, segmentation: NDArray) -> NDArray[np.uint8]:
        """Return the errors of each voxel: bit `SPLIT`, bit `MERGE`; 0 where right, or where either id is 0.

        Parameters
        ----------
        truth, segmentation : ids, of one shape
        """
        wrong = np.zeros(truth.shape, np.uint8)
        for bit, own, other, (known, best) in (
            (SPLIT, truth, segmentation, self._splits),
            (MERGE, segmentation, truth, self._merges),
        ):
            if len(known):
                index = np.minimum(np.searchsorted(known, own), len(known) - 1)
                wrong[(known[index] == own) & (other != 0) & (best[index] != other)] |= bit
        return wrong


def error_map(truth: NDArray, segmentation: NDArray, table: Contingency) -> NDArray[np.uint8]:
    """Return the errors of each voxel, as `ErrorFinder` finds them by the table of the whole volume."""
    return ErrorFinder(table).errors(truth, segmentation)


class SectionErrorFinder:
    """Find the wrong voxels where each predicted object lies in one section, and a true id is another object in each.

    The section of a voxel is that of its predicted object, so that voxels of coarser levels have one as well.

    Parameters
    ----------
    table : pairs of true and predicted ids of the whole volume
    ids, sections : predicted ids in rising order, and the section of each

    >>> from unet.evaluation.contingency import contingency
    >>> truth, found = np.array([[1, 1, 2], [1, 1, 1]]), np.array([[5, 5, 5], [6, 7, 7]])
    >>> finder = SectionErrorFinder(contingency(truth, found), np.array([5, 6, 7]), np.array([0, 1, 1]))
    >>> finder.errors(truth, found).tolist()
    [[0, 0, 2], [1, 0, 0]]
    """

    def __init__(self, table: Contingency, ids: NDArray[Any], sections: NDArray[Any]) -> None:
        self._ids, self._sections = ids, sections.astype(np.uint64)
        self._truth = np.unique(table.truth)
        keyed = self._keyed(table.truth, table.segmentation)
        self._finder = ErrorFinder(Contingency(keyed, table.segmentation, table.count))

    def errors(self, truth: NDArray[Any], segmentation: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the errors of each voxel, see `ErrorFinder.errors`."""
        return self._finder.errors(self._keyed(truth, segmentation), segmentation)

    def _keyed(self, truth: NDArray[Any], segmentation: NDArray[Any]) -> NDArray[np.uint64]:
        """Return true ids that no two sections share; 0 where either id is 0 or not in the table."""
        if not len(self._truth) or not len(self._ids):
            return np.zeros(truth.shape, np.uint64)
        number = np.minimum(np.searchsorted(self._truth, truth), len(self._truth) - 1)
        at = np.minimum(np.searchsorted(self._ids, segmentation), len(self._ids) - 1)
        known = (self._truth[number] == truth) & (self._ids[at] == segmentation)
        keyed = number.astype(np.uint64) + np.uint64(1) + self._sections[at] * np.uint64(len(self._truth))
        return np.where(known, keyed, np.uint64(0))


def matched_ids(table: Contingency) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the predicted ids in rising order, and the true id of which each covers most voxels (the lower of equals).

    >>> from unet.evaluation.contingency import contingency
    >>> [ids.tolist() for ids in matched_ids(contingency(np.array([1, 2, 2, 3]), np.array([5, 5, 5, 9])))]
    [[5, 9], [2, 3]]
    """
    pairs = table.without_background
    known, best, _ = _best_partners(pairs.segmentation, pairs.truth, pairs.count)
    return known, best
