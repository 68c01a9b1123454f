"""Count the labels of a volume block by block: voxels of each class, of each section, and of each id with its pieces.

1. `count_labels` counts a block: voxels of each class, annotated voxels of each section, voxels and pieces of each id.
   It finds the boxes that enclose all annotated voxels, and all objects.
2. `LabelCounts` of disjoint blocks add up. Counts are sums of integers, and boxes enclose boxes, so the division into
   blocks has no effect.

The pieces of an id are counted by its Euler characteristic, pieces minus holes, section by section. The characteristic
is a sum over pixels and three of their neighbours, so no component has to be followed across blocks:

```
pixels with the id - pairs side by side - pairs one below the other + squares of four
```
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unet.config.label_kinds import UNLABELLED
from unet.evaluation.contingency import Contingency, contingency
from unet.geometry.box import Box, Index, enclosing

LabelKind = Literal["instances", "interior", "classes"]


@dataclass(frozen=True, eq=False)
class LabelCounts:
    """Label counts of a part of a volume. The sum of two counts is the count of both parts together.

    Parameters
    ----------
    classes : int64 array (classes,)
        Voxels of each class of the targets.
    sections : int64 array (z,)
        Annotated voxels of every section of the volume.
    ids : Contingency
        Voxels by id and by the voxel's term of the Euler characteristic plus 2, which is 1 to 3.
    background : int
        Euler characteristic of the annotated voxels without an id.
    objects : int64 array (z,) or None
        Voxels of every section outside the first class. None stands for none.
    annotated_within, objects_within : Box or None
        Smallest box of the volume with all annotated voxels, and with all those outside the first class. None if there
        are none.
    """

    classes: NDArray[np.int64]
    sections: NDArray[np.int64]
    ids: Contingency
    background: int = 0
    objects: NDArray[np.int64] | None = None
    annotated_within: Box | None = None
    objects_within: Box | None = None

    @classmethod
    def empty(cls, classes: int, sections: int) -> "LabelCounts":
        """Return the counts of no voxels, from which a sum starts."""
        return cls(np.zeros(classes, np.int64), np.zeros(sections, np.int64), Contingency.empty())

    def __add__(self, other: "LabelCounts") -> "LabelCounts":
        return LabelCounts(
            self.classes + other.classes,
            self.sections + other.sections,
            self.ids + other.ids,
            self.background + other.background,
            other.objects if self.objects is None else self.objects + (0 if other.objects is None else other.objects),
            _around(self.annotated_within, other.annotated_within),
            _around(self.objects_within, other.objects_within),
        )

    @property
    def annotated(self) -> int:
        """Voxels whose class is known."""
        return int(self.classes.sum())

    @property
    def annotated_sections(self) -> int:
        """Sections with an annotated voxel."""
        return int(np.count_nonzero(self.sections))

    @property
    def foreground(self) -> float:
        """Share of the annotated voxels outside the first class; 0 if no voxel is annotated."""
        return float(1 - self.classes[0] / self.annotated) if self.annotated else 0.0

    @property
    def instances(self) -> int:
        """Number of ids that occur, without 0."""
        return len(self.ids.truth_sizes)

    @property
    def euler(self) -> int:
        """Pieces minus holes of all ids, summed over all sections."""
        return _euler(self.ids)

    @property
    def largest(self) -> tuple[int, int, int]:
        """Id, voxels and Euler characteristic of the largest instance (lowest id of equals); zeros if there is none."""
        if not self.instances:
            return 0, 0, 0
        ids, sizes = np.unique(self.ids.truth), self.ids.truth_sizes
        largest = ids[np.argmax(sizes)]
        own = self.ids.truth == largest
        part = Contingency(self.ids.truth[own], self.ids.segmentation[own], self.ids.count[own])
        return int(largest), int(sizes.max()), _euler(part)


def count_labels(
    targets: NDArray[np.uint8], ids: NDArray[Any], start: Index, classes: int, sections: int
) -> LabelCounts:
    """Count the labels of a block, given with one more pixel behind it along y and x.

    Parameters
    ----------
    targets : uint8 array (z, y + 1, x + 1)
        Class of each voxel; 255 = not annotated, or beyond the volume.
    ids : unsigned array (z, y + 1, x + 1)
        Instance ids, 0 = none.
    start : tuple of int
        First voxel (z, y, x) of the block in the volume.
    classes, sections : int
        Number of classes, and of sections in the volume.

    >>> ids = np.array([[[7, 7, 0, 7, 0], [7, 7, 0, 0, 0], [0, 0, 0, 0, 0]]])  # two pieces of id 7
    >>> targets = np.full(ids.shape, 255, np.uint8)
    >>> targets[:, :-1, :-1] = ids[:, :-1, :-1] > 0
    >>> counts = count_labels(targets, ids, (0, 0, 0), classes=2, sections=1)
    >>> counts.classes.tolist(), counts.sections.tolist(), counts.largest, str(counts.objects_within)
    ([3, 5], [8], (7, 5, 2), '0:1,0:2,0:4')
    """
    known = targets != UNLABELLED
    own, here = known[:, :-1, :-1], ids[:, :-1, :-1]
    objects = own & (targets[:, :-1, :-1] > 0)
    own_sections, object_sections = np.zeros((2, sections), np.int64)
    own_sections[start[0] : start[0] + len(own)] = np.count_nonzero(own, axis=(1, 2))
    object_sections[start[0] : start[0] + len(own)] = np.count_nonzero(objects, axis=(1, 2))
    pair = (here == ids[:, :-1, 1:]) & known[:, :-1, 1:]
    column = (here == ids[:, 1:, :-1]) & known[:, 1:, :-1]
    square = pair & column & (here == ids[:, 1:, 1:]) & known[:, 1:, 1:]
    adds = (3 + square.astype(np.int8)) - pair - column
    return LabelCounts(
        np.bincount(targets[:, :-1, :-1][own], minlength=classes).astype(np.int64),
        own_sections,
        contingency(np.where(own, here, 0), adds),
        int(np.sum(adds - 2, where=own & (here == 0), dtype=np.int64)),
        object_sections,
        _box_of(own, start),
        _box_of(objects, start),
    )


def _box_of(where: NDArray[np.bool_], start: Index) -> Box | None:
    """Return the smallest box with all True voxels of a block that begins at `start`; None if there are none."""
    found = [np.flatnonzero(where.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    if not len(found[0]):
        return None
    z, y, x = ((int(one[0]), int(one[-1]) + 1) for one in found)
    return Box((z[0], y[0], x[0]), (z[1], y[1], x[1])).shifted(start)


def _around(*boxes: Box | None) -> Box | None:
    """Return the smallest box with all boxes; None if there are none."""
    there = [box for box in boxes if box is not None]
    return enclosing(there) if there else None


def _euler(table: Contingency) -> int:
    return int((table.count * (table.segmentation.astype(np.int64) - 2)).sum())


def summary_line(counts: LabelCounts, kind: LabelKind, names: Sequence[str], voxels: int) -> str:
    """Return the counts as one readable line.

    >>> counts = LabelCounts(np.array([14, 86]), np.array([50, 50, 0]), Contingency.empty())
    >>> summary_line(counts, "instances", ["membrane", "interior"], voxels=150)
    '14 % membrane, 86 % interior, 0 instances, 2 of 3 sections, 33 % of the voxels not annotated'
    """
    if not counts.annotated:
        return f"nothing annotated in {len(counts.sections)} sections"
    parts = [f"{_percent(n, counts.annotated)} {name}" for name, n in zip(names, counts.classes, strict=True)]
    what = "instance" if kind == "instances" else "object"
    parts.append(f"{counts.instances:,} {what}{'s' if counts.instances != 1 else ''}")
    parts.append(f"{counts.annotated_sections} of {len(counts.sections)} sections")
    if counts.annotated < voxels:
        parts.append(f"{_percent(voxels - counts.annotated, voxels)} of the voxels not annotated")
    return ", ".join(parts)


def _percent(part: int, whole: int) -> str:
    share = 100 * part / whole
    return f"{share:.0f} %" if share >= 1 or not share else f"{share:.2g} %"
