"""Check that an annotation can be what its configuration says, before anything is learnt from it.

1. `count_labels` counts a block: voxels of each class, annotated voxels of each section, voxels and pieces of each id.
2. `LabelCounts` of disjoint blocks add up. All counts are sums of integers, so the division into blocks has no effect.
3. `label_problems` judges the sum. What cannot be right is an error; what is merely unusual is a warning.

The pieces of an id are counted by its Euler characteristic, pieces minus holes, section by section. The characteristic
is a sum over pixels and three of their neighbours, so no component has to be followed across blocks:

```
pixels with the id - pairs side by side - pairs one below the other + squares of four
```

Cells of a mask are many pieces of one id. Membranes are few pieces with many holes, and divide the rest into many
pieces.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet.config.label_kinds import UNLABELLED
from unet.evaluation.contingency import Contingency, contingency

MIN_PIECES = 4
"""Mean pieces per section from which an id is no single object, and the background is a mesh."""
GREY_PIECE = 3
"""Mean pixels of a piece of an id below which the ids are grey values; a copy of EM data has 1.0 to 1.5."""
GREY_PIECES = 50
"""Mean pieces per section from which that is judged; an id has two pieces or more, since grey values recur."""
RARE_CLASS = 1e-3
"""Share of the annotated voxels below which a class is rare."""

NOT_ANNOTATED_SHARE = 0.05
"""Share of the labelled voxels from which the largest number of a dtype is no usual id."""
LARGEST_OF_DTYPES = {2**bits - 1 for bits in (8, 15, 16, 31, 32, 63)}
"""Numbers that often mean "not annotated"; that of the store's own dtype is refused before, if it is not listed."""

LabelKind = Literal["instances", "interior", "classes"]


class LabelError(ValueError):
    """Labels cannot be used for training or scoring; names the volume, the counts and what to do."""


class LabelProblem(NamedTuple):
    """A suspicious property of an annotation in one sentence, and whether it is an error that stops the run."""

    text: str
    is_error: bool


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
    """

    classes: NDArray[np.int64]
    sections: NDArray[np.int64]
    ids: Contingency
    background: int = 0

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
    targets: NDArray[np.uint8], ids: NDArray[Any], first_section: int, classes: int, sections: int
) -> LabelCounts:
    """Count the labels of a block, given with one more pixel behind it along y and x.

    Parameters
    ----------
    targets : uint8 array (z, y + 1, x + 1)
        Class of each voxel; 255 = not annotated, or beyond the volume.
    ids : unsigned array (z, y + 1, x + 1)
        Instance ids, 0 = none.
    first_section : int
        First section of the block.
    classes, sections : int
        Number of classes, and of sections in the volume.

    >>> ids = np.array([[[7, 7, 0, 7, 0], [7, 7, 0, 0, 0], [0, 0, 0, 0, 0]]])  # two pieces of id 7
    >>> targets = np.full(ids.shape, 255, np.uint8)
    >>> targets[:, :-1, :-1] = ids[:, :-1, :-1] > 0
    >>> counts = count_labels(targets, ids, 0, classes=2, sections=1)
    >>> counts.classes.tolist(), counts.sections.tolist(), counts.largest
    ([3, 5], [8], (7, 5, 2))
    """
    known = targets != UNLABELLED
    own, here = known[:, :-1, :-1], ids[:, :-1, :-1]
    own_sections = np.zeros(sections, np.int64)
    own_sections[first_section : first_section + len(own)] = np.count_nonzero(own, axis=(1, 2))
    pair = (here == ids[:, :-1, 1:]) & known[:, :-1, 1:]
    column = (here == ids[:, 1:, :-1]) & known[:, 1:, :-1]
    square = pair & column & (here == ids[:, 1:, 1:]) & known[:, 1:, 1:]
    adds = (3 + square.astype(np.int8)) - pair - column
    return LabelCounts(
        np.bincount(targets[:, :-1, :-1][own], minlength=classes).astype(np.int64),
        own_sections,
        contingency(np.where(own, here, 0), adds),
        int(np.sum(adds - 2, where=own & (here == 0), dtype=np.int64)),
    )


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


def label_problems(volume: str, counts: LabelCounts, kind: LabelKind, names: Sequence[str]) -> list[LabelProblem]:
    """List the problems of a volume's labels, the worst first; empty if the labels match their kind.

    Parameters
    ----------
    volume : str
        Name of the volume for the messages.
    counts : LabelCounts
        Counts of the whole volume.
    kind : str
        `label_kind` of the configuration.
    names : sequence of str
        Names of the classes; the first is background.
    """
    labels = f"volumes.{volume}.labels"
    if not counts.annotated:
        return [LabelProblem(f"{labels}: no voxel of {len(counts.sections)} sections is annotated; {_ELSEWHERE}", True)]
    if not counts.instances and kind == "classes":
        said = ", ".join(f"{n:,} {name}" for name, n in zip(names, counts.classes, strict=True))
        return [LabelProblem(f"{labels}: no voxel is of a class behind the first ({said}); {_ELSEWHERE}", True)]
    if not counts.instances:
        return [
            LabelProblem(
                f"{labels}: all {counts.annotated:,} annotated voxels are 0, no cell is drawn; {_ELSEWHERE}", True
            )
        ]
    if (grey := _grey_values(labels, counts, kind)) is not None:
        return [grey]
    found = [problem for problem in (_membranes(labels, counts, kind), _mask(labels, counts, kind)) if problem]
    if not found and (suspicious := _not_annotated(labels, counts, kind)):
        found.append(suspicious)
    if not found and kind == "instances" and counts.instances == 1:
        found.append(LabelProblem(f"{labels}: there is one instance only, id {counts.largest[0]}", False))
    return found + [
        LabelProblem(f"{labels}: class {name!r} has {n:,} of {counts.annotated:,} annotated voxels", False)
        for name, n in zip(names, counts.classes, strict=True)
        if 0 < n < RARE_CLASS * counts.annotated
    ]


_ELSEWHERE = "correct the file, or `sections`, `mask` and `ignore_id` of the volume"


def _grey_values(labels: str, counts: LabelCounts, kind: LabelKind) -> LabelProblem | None:
    """Detect grey values given as ids, such as a copy of the raw data: the pieces of an id are hardly a pixel each."""
    pieces, voxels = counts.euler, int(counts.ids.count.sum())
    if kind != "instances" or voxels >= GREY_PIECE * pieces:
        return None
    if pieces < max(GREY_PIECES * counts.annotated_sections, 2 * counts.instances):
        return None
    return LabelProblem(
        f"{labels}: with label_kind: instances every id is one cell, but {counts.instances:,} ids lie in "
        f"{pieces / counts.annotated_sections:,.0f} pieces per section of {voxels / pieces:.1f} pixels each, as grey "
        "values do. Is it the raw data, or a probability map? Name the file of the labels",
        True,
    )


def _membranes(labels: str, counts: LabelCounts, kind: LabelKind) -> LabelProblem | None:
    """Detect white membranes on black: the ids are the smaller part, a mesh that divides the rest into cells."""
    mesh, cells = (euler / counts.annotated_sections for euler in (counts.euler, counts.background))
    if kind == "classes" or counts.foreground >= 0.5 or cells - mesh < MIN_PIECES:
        return None
    return LabelProblem(
        f"{labels}: what is not 0 ({counts.foreground:.0%}) parts what is 0 into cells, as membranes do (pieces "
        f"less holes per section: {mesh:.0f} and {cells:.0f}); but with label_kind: {kind} membranes are 0 and cells "
        "are not: invert the file, or set `label_kind: classes` with "
        "`class_values: {membrane: <its value>, interior: 0}`",
        True,
    )


def _mask(labels: str, counts: LabelCounts, kind: LabelKind) -> LabelProblem | None:
    """Detect a mask given as instances: one id has most of the labelled voxels, in many pieces."""
    largest, size, euler = counts.largest
    pieces, share = euler / counts.annotated_sections, size / int(counts.ids.count.sum())
    if kind != "instances" or pieces < MIN_PIECES or share < 0.5:
        return None
    return LabelProblem(
        f"{labels}: with label_kind: instances every id is one cell, but id {largest} holds {share:.0%} of all that is "
        f"not 0, in {pieces:.0f} pieces per section ({counts.instances:,} in all). If 0 is membrane and each "
        "piece a cell, set `label_kind: interior`; if ids are classes, `label_kind: classes`",
        counts.foreground >= 0.5,
    )


def _not_annotated(labels: str, counts: LabelCounts, kind: LabelKind) -> LabelProblem | None:
    """Detect an id that rather means "not annotated": the largest of a dtype, alone above all others, and frequent."""
    ids, sizes = np.unique(counts.ids.truth), counts.ids.truth_sizes
    if kind != "instances" or len(ids) < 2 or int(ids[-1]) not in LARGEST_OF_DTYPES or int(ids[-2]) == int(ids[-1]) - 1:
        return None
    share = int(sizes[-1]) / int(sizes.sum())
    if share < NOT_ANNOTATED_SHARE:
        return None
    return LabelProblem(
        f"{labels}: id {ids[-1]}, the largest number of its type, holds {share:.0%} of all that is not 0, and the next "
        f"id is {ids[-2]}. Does it mean that nobody annotated these voxels? Then write `ignore_id: {ids[-1]}`",
        False,
    )


def require_every_class(of_volumes: Mapping[str, Sequence[int]], names: Sequence[str]) -> None:
    """Refuse training volumes without any voxel of a class, which the network could never learn.

    Parameters
    ----------
    of_volumes : mapping
        Voxels of each class in the targets, by volume.
    names : sequence of str
        Names of the classes.

    Raises
    ------
    LabelError
        If a class is missing; names the class, the counts of all classes, and what to do.

    >>> require_every_class({"a": [10, 0], "b": [0, 3]}, ["membrane", "interior"])
    """
    total = np.array(list(of_volumes.values()), np.int64).sum(axis=0).tolist()
    missing = [name for name, n in zip(names, total, strict=True) if n == 0]
    if not missing:
        return
    found = ", ".join(f"{n:,} {name}" for name, n in zip(names, total, strict=True))
    border = " Cells that touch without a membrane get one by `weights.separation_border: 1`."
    raise LabelError(
        f"train.volumes {list(of_volumes)}: no voxel to learn {' and '.join(missing)} from; annotated are {found}. "
        f"Annotate some, add a volume that has it, or correct `label_kind`, `class_values` or `sections`."
        f"{border if missing == [names[0]] else ''}"
    )


def require_objects(of_volumes: Mapping[str, Sequence[int]]) -> None:
    """Refuse training volumes without any object, whose affinities would all be 0. Background need not occur.

    Parameters
    ----------
    of_volumes : mapping
        Annotated voxels outside and inside of objects, by volume.

    Raises
    ------
    LabelError
        If no voxel is inside an object.

    >>> require_objects({"a": [0, 10], "b": [5, 0]})
    """
    outside, inside = np.array(list(of_volumes.values()), np.int64).sum(axis=0).tolist()
    if inside == 0:
        raise LabelError(
            f"train.volumes {list(of_volumes)}: no voxel belongs to an object ({outside:,} are background), so there "
            "are no affinities to learn. Annotate some objects, or correct `label_kind`, `ignore_id` or `sections`"
        )


def constant_channel_problems(volume: str, deviations: Sequence[float]) -> list[LabelProblem]:
    """List the channels whose grey values are the same everywhere.

    >>> [problem.is_error for problem in constant_channel_problems("a", [0.0, 3.5])]
    [False]
    >>> constant_channel_problems("a", [2.0])
    []
    """
    constant = [number for number, std in enumerate(deviations) if std == 0]
    if len(constant) == len(deviations):
        text = f"volumes.{volume}.raw: all grey values are equal, so there is nothing to see; correct the file"
        return [LabelProblem(f"{text}, or `sections` and `mask` of the volume", True)]
    return [
        LabelProblem(f"volumes.{volume}.raw: all grey values of channel {number} are equal", False)
        for number in constant
    ]
