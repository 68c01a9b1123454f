"""Guess from sampled sections whether a source holds intensities or labels, and of which kind labels are.

1. `looks_like`    Labels are flat: neighbouring pixels have one value. Imaged grey values have noise.
2. `guess_labels`  Two values are membrane and interior. Ids in one piece each are instances. A few values in many
                   pieces each are classes.

A guess says why. The user overrules it by a key of the configuration.
"""

from dataclasses import dataclass, field
from typing import Literal

import cc3d
import numpy as np
from numpy.typing import NDArray

from unet.volumes.readers.source import RAW_DTYPES

FLAT = 0.6
"""Share of neighbouring pixels with one value from which labels are flat. The most frequent value does not count."""
FEW_VALUES = 16
"""Largest number of values that are called few."""
MAX_CLASSES = 64
"""Largest number of grey values that are written out as classes."""
ONE_PIECE = 0.6
"""Share of the ids that are in one piece in a section, from which ids are instances."""
MIN_PIECES = 4
"""Mean number of pieces per section from which a value is no single object, as in `unet.training.label_check`."""
TOUCHING = 0.5
"""Share of the borders between different values at which two ids touch, from which 0 is no membrane."""

Role = Literal["raw", "labels", "mask"]
Kind = Literal["instances", "interior", "classes"]


@dataclass(frozen=True)
class LabelGuess:
    """The guessed meaning of labels.

    Attributes
    ----------
    kind : str
        `label_kind` of the configuration.
    why : str
        What the kind follows from.
    class_values : dict
        Grey value by class name, for kind `classes`.
    ignore_id : int, or None
        Id of voxels that are not annotated, for kind `instances`.
    foreground : float
        Share of the sampled voxels that are not background.
    warnings : tuple of str
        What the user has to look at.
    """

    kind: Kind
    why: str
    class_values: dict[str, int] = field(default_factory=dict)
    ignore_id: int | None = None
    foreground: float = 1.0
    warnings: tuple[str, ...] = ()


class NotLabelsError(ValueError):
    """Values that are no labels; the message says what they are instead."""


def looks_like(values: NDArray) -> tuple[Role, str]:
    """Return whether sampled sections look like intensities or like labels, and why.

    Parameters
    ----------
    values : numpy.ndarray
        ``(section, y, x)``.

    >>> looks_like(np.arange(8, dtype=np.uint32).reshape(1, 2, 4))
    ('labels', 'uint32 is a type of ids')
    """
    if values.dtype.name not in RAW_DTYPES:
        return "labels", f"{values.dtype.name} is a type of ids"
    distinct = len(np.unique(values))
    if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
        return "raw", "its values have fractions"
    if distinct <= FEW_VALUES:
        return "labels", f"it has {distinct} different value{'s' * (distinct != 1)}"
    share = flat_share(values)
    if share >= FLAT:
        return "labels", f"{share:.0%} of neighbouring pixels have one value"
    return "raw", f"{distinct} different values, and only {share:.0%} of neighbouring pixels have one value"


def flat_share(values: NDArray) -> float:
    """Return the share of pixels with the value of the pixel before, without pairs of the most frequent value.

    >>> flat_share(np.array([[[0, 0, 0, 5, 5, 5]]]))
    0.6666666666666666
    """
    found, counts = np.unique(values, return_counts=True)
    most = found[np.argmax(counts)]
    one, other = values[..., 1:], values[..., :-1]
    counted = (one != most) | (other != most)
    return float(np.mean((one == other)[counted])) if counted.any() else 1.0


def guess_labels(values: NDArray) -> LabelGuess:
    """Guess the kind of labels from sampled sections.

    Parameters
    ----------
    values : numpy.ndarray
        ``(section, y, x)``; sections without an annotation are left out by the caller.

    Raises
    ------
    NotLabelsError
        If the values have fractions, or are all the same.
    """
    if values.dtype.kind == "f":
        if not np.array_equal(values, np.rint(values)):
            raise NotLabelsError("its values have fractions, as probabilities do: threshold it first")
        values = values.astype(np.int64)
    greys, counts = np.unique(values, return_counts=True)
    shares = {int(grey): int(n) / values.size for grey, n in zip(greys, counts, strict=True)}
    if len(shares) == 1:
        raise NotLabelsError(f"all sampled voxels are {next(iter(shares))}: nothing is annotated there")
    if len(shares) == 2:
        return _of_two_values(values, shares)
    pieces = pieces_per_section(values)
    single = float(np.mean([n <= 1.5 for grey, n in pieces.items() if grey != 0]))
    many = sum(n >= MIN_PIECES for grey, n in pieces.items() if grey != 0)
    if len(shares) <= FEW_VALUES and (many >= 1 and single < ONE_PIECE):
        return _as_classes(values, shares, pieces)
    if single >= ONE_PIECE or len(shares) > MAX_CLASSES:
        return _as_instances(values, shares, single)
    return _as_classes(values, shares, pieces)


def _of_two_values(values: NDArray, shares: dict[int, float]) -> LabelGuess:
    low, high = sorted(shares)
    pieces = pieces_per_section(values, connectivity=4)  # a thin membrane separates its neighbours along diagonals, too
    inverted = shares[high] < 0.5 and pieces[low] - pieces[high] >= MIN_PIECES
    if low == 0 and not inverted:
        few = "" if pieces[high] > 1.5 else "; it is one piece in each section, as a mask is"
        warnings = (f"every section has one object only{few}: is it a mask (--mask)?",) if few else ()
        why = f"two values, 0 ({shares[0]:.0%}) and {high} in {pieces[high]:.0f} pieces per section"
        return LabelGuess("interior", why, foreground=shares[high], warnings=warnings)
    membrane, interior = (high, low) if inverted else (low, high)
    why = f"two values, and {membrane} divides {interior} into {pieces[interior]:.0f} pieces per section"
    if not inverted:
        why = f"two values, {low} and {high}, of which neither is 0"
    return LabelGuess(
        "classes", why, {"membrane": membrane, "interior": interior}, foreground=shares[interior], warnings=()
    )


def _as_instances(values: NDArray, shares: dict[int, float], single: float) -> LabelGuess:
    ids = [grey for grey in shares if grey != 0]
    why = f"{len(ids):,} ids in the sample, {single:.0%} of them in one piece per section"
    warnings = []
    if min(ids) < 0:
        warnings.append(f"the smallest id is {min(ids)}: an id is not negative; say what it means")
    ignore = None
    touching = touching_share(values)
    if 0 in shares and touching >= TOUCHING:
        ignore = 0
        why += f"; ids touch at {touching:.0%} of their borders, so 0 ({shares[0]:.1%}) is no membrane"
    top = int(np.iinfo(values.dtype).max) if values.dtype.kind in "iu" else 0
    if ignore is None and top > 127 and shares.get(top, 0) and values.dtype.itemsize > 1:
        ignore = top
        why += f"; {top} is the largest number of {values.dtype.name}"
    return LabelGuess("instances", why, {}, ignore, 1 - shares.get(0, 0.0), tuple(warnings))


def _as_classes(values: NDArray, shares: dict[int, float], pieces: dict[int, float]) -> LabelGuess:
    """Return classes in the order background, others, most frequent: the last class makes the objects."""
    last = max(shares, key=lambda grey: shares[grey])
    if last == 0:
        last = max((grey for grey in shares if grey), key=lambda grey: shares[grey])
    order = [*(grey for grey in sorted(shares) if grey != last), last]
    why = f"{len(shares)} values, most of them in many pieces per section ({_few(pieces)})"
    warning = "the names of the classes are not in the file: rename them, and put values of one meaning into one list"
    names = {f"value_{grey}" if grey >= 0 else f"minus_{-grey}": grey for grey in order}
    return LabelGuess("classes", why, names, foreground=shares[last], warnings=(warning,))


def _few(pieces: dict[int, float], shown: int = 4) -> str:
    listed = [f"{grey}: {n:.0f}" for grey, n in list(pieces.items())[:shown]]
    return ", ".join(listed) + (" ..." if len(pieces) > shown else "")


def pieces_per_section(values: NDArray, connectivity: Literal[4, 8] = 8) -> dict[int, float]:
    """Return the mean number of connected pieces of each value, over the sections that hold the value.

    >>> pieces_per_section(np.array([[[7, 0, 7], [7, 0, 7]]], np.uint8))
    {0: 1.0, 7: 2.0}
    """
    greys, dense = np.unique(values, return_inverse=True)
    numbered = dense.reshape(values.shape).astype(np.uint32) + 1
    pieces, present = np.zeros(len(greys), np.int64), np.zeros(len(greys), np.int64)
    for section in numbered:
        components, count = cc3d.connected_components(section, connectivity=connectivity, return_N=True)
        owner = np.zeros(count + 1, np.int64)
        owner[components.ravel()] = section.ravel()
        of_grey = np.bincount(owner[1:] - 1, minlength=len(greys))
        pieces += of_grey
        present += of_grey > 0
    means = pieces / np.maximum(present, 1)
    return {int(grey): float(mean) for grey, mean in zip(greys, means, strict=True)}


def touching_share(values: NDArray) -> float:
    """Return the share of the borders between values at which two ids touch, with no 0 between them.

    >>> touching_share(np.array([[[1, 1, 2, 2, 0, 3]]]))
    0.3333333333333333
    """
    borders = touching = 0
    for one, other in (
        (values[..., 1:], values[..., :-1]),
        (values[..., 1:, :], values[..., :-1, :]),
    ):
        differ = one != other
        borders += int(differ.sum())
        touching += int((differ & (one != 0) & (other != 0)).sum())
    return touching / borders if borders else 0.0
