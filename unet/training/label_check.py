"""Judge whether an annotation can be what its configuration says, before anything is learnt from it.

`label_problems` judges the counts of a whole volume (`unet.training.label_counts`). What cannot be right is an error;
what is merely unusual is a warning. Cells of a mask are many pieces of one id. Membranes are few pieces with many
holes, and divide the rest into many pieces.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from unet.training.label_counts import LabelCounts, LabelKind

MIN_PIECES = 4
"""Mean pieces per section from which an id is no single object, the background is a mesh, and objects are many."""
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
MEMBRANE_NAMES = ("membrane", "border", "boundary")
"""Words in the name of a class that is a mesh between cells."""
DENSE = 0.5
"""Share of objects, where there are any, from which an annotation without any is not expected elsewhere."""
EMPTY_SHARE = 0.2
"""Share of the annotated voxels without any object around from which a dense annotation is no longer believed."""
MARGIN_PX = 16
"""Width in px of rows or columns without any object from which they count."""
CUT_IDS = {2**8 - 1: 8, 2**16 - 1: 16}
"""Largest ids of small types, and their bits."""
CUT_SHARE = 0.95
"""Share of a type's ids that occur if larger ids were cut to it."""
CUT_PIECES = 1.2
"""Mean pieces per section and id from which ids of a full type mean several cells each."""
_ELSEWHERE = "correct the file, or `sections`, `mask` and `ignore_id` of the volume"


class LabelError(ValueError):
    """Labels cannot be used for training or scoring; names the volume, the counts and what to do."""


class LabelProblem(NamedTuple):
    """A suspicious property of an annotation in one sentence, and whether it is an error that stops the run."""

    text: str
    is_error: bool


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
    judged = (_membranes(labels, counts, kind), _mask(labels, counts, kind), _exchanged(labels, counts, kind, names))
    found = [problem for problem in judged if problem]
    if not found:
        suspicious = (_not_annotated(labels, counts, kind), _cut_ids(labels, counts, kind), _empty(labels, counts))
        found += [problem for problem in suspicious if problem]
    if not found and kind == "instances" and counts.instances == 1:
        found.append(LabelProblem(f"{labels}: there is one instance only, id {counts.largest[0]}", False))
    return found + [
        LabelProblem(f"{labels}: class {name!r} has {n:,} of {counts.annotated:,} annotated voxels", False)
        for name, n in zip(names, counts.classes, strict=True)
        if 0 < n < RARE_CLASS * counts.annotated
    ]


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
        f"{labels}: the voxels that are not 0 ({counts.foreground:.0%}) divide the voxels of 0 into cells, as "
        f"membranes do (pieces less holes per section: {mesh:.0f} and {cells:.0f}); but with label_kind: {kind} "
        "membranes are 0 and cells are not: invert the file, or set `label_kind: classes` with "
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


def _exchanged(labels: str, counts: LabelCounts, kind: LabelKind, names: Sequence[str]) -> LabelProblem | None:
    """Detect two classes whose values are exchanged: what is called membrane is divided by the other class."""
    mesh, cells = (euler / counts.annotated_sections for euler in (counts.euler, counts.background))
    if kind != "classes" or len(names) != 2 or not any(word in names[0].lower() for word in MEMBRANE_NAMES):
        return None
    if counts.foreground >= 0.5 or cells - mesh < MIN_PIECES:
        return None
    return LabelProblem(
        f"{labels}: class {names[1]!r} ({counts.foreground:.0%}) divides class {names[0]!r} into cells, as membranes "
        f"do (pieces less holes per section: {mesh:.0f} and {cells:.0f}): are their values in `class_values` "
        "exchanged?",
        False,
    )


def _cut_ids(labels: str, counts: LabelCounts, kind: LabelKind) -> LabelProblem | None:
    """Detect ids that were cut to a smaller type: nearly all its numbers occur, and each means several cells."""
    ids = np.unique(counts.ids.truth)
    pieces = counts.euler / (max(1, counts.instances) * counts.annotated_sections)
    full = bool(len(ids)) and int(ids[-1]) in CUT_IDS and counts.instances >= CUT_SHARE * int(ids[-1])
    if kind != "instances" or not full or pieces < CUT_PIECES:
        return None
    return LabelProblem(
        f"{labels}: {counts.instances:,} of the {int(ids[-1]):,} ids that {CUT_IDS[int(ids[-1])]} bits can hold occur, "
        f"each in {pieces:.1f} pieces per section. Were larger ids cut to {CUT_IDS[int(ids[-1])]} bits, so that "
        "cells far apart share one? Save the labels with 32 bits",
        False,
    )


def _empty(labels: str, counts: LabelCounts) -> LabelProblem | None:
    """Detect sections, rows or columns where nobody annotated: all background, beside parts full of objects.

    A field inside one or a few large objects, such as a nucleus, may well have nothing beside it. So the run is stopped
    only for many pieces.
    """
    if counts.objects is None or counts.objects_within is None or counts.annotated_within is None:
        return None
    inside, around = counts.objects_within, counts.annotated_within
    without = (counts.objects == 0) & (counts.sections > 0)
    margins = [
        gap if gap >= MARGIN_PX else 0
        for axis in (1, 2)
        for gap in (inside.start[axis] - around.start[axis], around.stop[axis] - inside.stop[axis])
    ]
    height, width = around.shape[1:]
    kept = (1 - sum(margins[:2]) / height) * (1 - sum(margins[2:]) / width)
    annotated = int(counts.sections[~without].sum())
    share = 1 - annotated * kept / counts.annotated
    if share <= 0 or int(counts.objects.sum()) < DENSE * annotated * kept:
        return None
    pieces = counts.euler / int(np.count_nonzero(counts.objects))
    what = [f"{int(without.sum())} of {counts.annotated_sections} annotated sections"] if without.any() else []
    what += ["the margins of the sections"] if any(margins) else []
    return LabelProblem(
        f"{labels}: {' and '.join(what)} ({share:.0%} of what counts as annotated) hold no object at all, and box "
        f"{inside} (z, y, x) is full of them. If nobody annotated the rest, say so, or the network learns that nothing "
        "is there: give it a value of its own and name it in `ignore_id` (or `class_values: {ignore: ...}`), or choose "
        "what is annotated by `crop` or `mask`",
        share >= EMPTY_SHARE and pieces >= MIN_PIECES,
    )


def ignored_value_problems(volume: str, values: Sequence[int], complete: bool) -> list[LabelProblem]:
    """List a warning if values mean "not annotated" and yet all voxels are annotated, as after a mistyped value.

    >>> len(ignored_value_problems("a", [254], complete=True)), ignored_value_problems("a", [254], complete=False)
    (1, [])
    """
    if not values or not complete:
        return []
    given = ", ".join(map(str, values))
    text = f"volumes.{volume}.ignore_id is {given}, but no voxel of the labels has it; is it another value?"
    return [LabelProblem(text, False)]


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
    >>> constant_channel_problems("a", [2.0]), constant_channel_problems("a", [])
    ([], [])
    """
    constant = [number for number, std in enumerate(deviations) if std == 0]
    if constant and len(constant) == len(deviations):
        text = f"volumes.{volume}.raw: all grey values are equal, so it shows nothing; correct the file"
        return [LabelProblem(f"{text}, or `sections` and `mask` of the volume", True)]
    return [
        LabelProblem(f"volumes.{volume}.raw: all grey values of channel {number} are equal", False)
        for number in constant
    ]
