"""Interpret the grey values of an annotation: instance ids, membrane and interior, or classes.

Every function works voxel by voxel and keeps no state. The result for a block is thus the block of the result for the
whole volume.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import DTypeLike

UNLABELLED = 255
"""Class index of voxels that nobody annotated."""

IGNORE = "ignore"
"""Reserved class name: its grey values mean that nobody annotated the voxel."""
MEMBRANE, INTERIOR = 0, 1


def not_annotated_id(dtype: DTypeLike) -> int:
    """Return the one number that stands for "nobody annotated this voxel" in labels of a dtype: its largest.

    Files say it in many ways (-1, 0, 65535, a part of the volume). Inside this workflow there is this one.

    >>> not_annotated_id("uint32")
    4294967295
    """
    return int(np.iinfo(np.dtype(dtype)).max)


def interior_of_ids(ids: np.ndarray) -> np.ndarray:
    """Return 1 inside an object, 0 outside of all objects, and 255 where nobody annotated; uint8.

    >>> interior_of_ids(np.array([0, 7, 4294967295], np.uint32))
    array([  0,   1, 255], dtype=uint8)
    """
    return np.where(ids == not_annotated_id(ids.dtype), UNLABELLED, ids > 0).astype(np.uint8)


class AnnotationError(ValueError):
    """An annotation holds values that its `label_kind` does not allow.

    Attributes
    ----------
    not_annotated : tuple of int
        Those of the values that may mean that nobody annotated the voxel.
    """

    def __init__(self, message: str, not_annotated: Iterable[int] = ()) -> None:
        super().__init__(message)
        self.not_annotated = tuple(not_annotated)


def interior_classes(values: np.ndarray, where: str) -> np.ndarray:
    """Return the class index of a membrane annotation: 0 where the grey value is 0 (membrane), else 1 (interior).

    >>> interior_classes(np.array([0, 255, 255], np.uint8), "labels.tif")
    array([0, 1, 1], dtype=uint8)

    Parameters
    ----------
    values : numpy.ndarray
        ``(z, y, x)``, integer or bool, with at most one grey value other than 0.
    where : str
        The file, for messages.

    Returns
    -------
    numpy.ndarray
        uint8, 0 or 1.

    Raises
    ------
    AnnotationError
        If there are two grey values other than 0. Two blocks may hold one each; `check_interior_levels` compares
        the grey values of all blocks.
    """
    check_interior_levels(grey_levels(values, where), where)
    return (values != 0).astype(np.uint8)


def grey_levels(values: np.ndarray, where: str, at_most: int = 16) -> list[int]:
    """Return the smallest distinct grey values of an integer or bool array, `at_most` of them."""
    _refuse_float(values, where)
    return [int(v) for v in np.unique(values)[:at_most]]


def check_interior_levels(levels: Iterable[int], where: str) -> None:
    """Refuse two grey values other than 0 in an annotation of kind `interior`."""
    found = sorted(set(levels))
    if len([level for level in found if level != 0]) > 1:
        raise AnnotationError(
            f"{where}: grey values {', '.join(map(str, found))}, but label_kind `interior` allows 0 (membrane) and "
            "one other; threshold grey edges, or set `label_kind: classes` and list each value in `class_values`"
        )


def class_names(class_values: Mapping[str, int | list[int]]) -> list[str]:
    """Return the names of the classes in the order of their indices; the reserved name `ignore` is no class.

    >>> class_names({"membrane": [0, 32], "ignore": [159], "interior": [255]})
    ['membrane', 'interior']
    """
    return [name for name in class_values if name != IGNORE]


def class_map(values: np.ndarray, class_values: dict[str, list[int]], where: str) -> np.ndarray:
    """Return the class index of every voxel from its grey value; 255 for grey values listed under `ignore`.

    >>> class_map(np.array([0, 32, 159, 255]), {"membrane": [0, 32], "interior": [255], "ignore": [159]}, "a.png")
    array([  0,   0, 255,   1], dtype=uint8)

    Parameters
    ----------
    values : numpy.ndarray
        ``(z, y, x)``, integer or bool.
    class_values : dict
        Grey values by class name. The index of a class is its position, `ignore` not counted.
    where : str
        The file, for messages.

    Raises
    ------
    AnnotationError
        If a grey value is in no list or in two lists, or if there are over 255 classes. The message names unlisted
        grey values and how often each occurs.
    """
    _refuse_float(values, where)
    check_class_values(class_values)
    index = {name: i for i, name in enumerate(class_names(class_values))} | {IGNORE: UNLABELLED}
    classes = np.zeros(values.shape, np.uint8)
    known = np.zeros(values.shape, bool)
    for name, greys in class_values.items():
        for grey in greys:
            here = values == grey  # exact for any integer dtype; np.isin would compare as float64
            classes[here] = index[name]
            known |= here
    if not known.all():
        _refuse_unknown(values[~known], class_values, where)
    return classes


def check_class_values(class_values: Mapping[str, list[int]]) -> None:
    """Refuse over 255 classes, and a grey value that two classes list."""
    if not 1 <= len(class_names(class_values)) <= UNLABELLED:
        raise AnnotationError(
            f"class_values names {len(class_names(class_values))} classes; it has to be 1 to {UNLABELLED}"
        )
    owner: dict[int, str] = {}
    for name, greys in class_values.items():
        for grey in greys:
            if owner.setdefault(grey, name) != name:
                raise AnnotationError(
                    f"class_values: grey value {grey} is listed under {owner[grey]} and {name}; keep one"
                )


def _refuse_unknown(unknown: np.ndarray, class_values: dict[str, list[int]], where: str, named: int = 10) -> None:
    greys, counts = np.unique(unknown, return_counts=True)
    listed = ", ".join(f"{g} ({n} times)" for g, n in zip(greys[:named], counts[:named], strict=True))
    more = f" and {len(greys) - named} more" if len(greys) > named else ""
    raise AnnotationError(
        f"{where}: grey values {listed}{more} are in no list of class_values {class_values}; add each to a class, or "
        f"to `{IGNORE}` to leave it unlabelled"
    )


def _refuse_float(values: np.ndarray, where: str) -> None:
    if values.dtype.kind not in "iub":
        raise AnnotationError(
            f"{where}: labels of dtype {values.dtype.name}; allowed are integers: threshold or round first"
        )
