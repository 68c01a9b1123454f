"""Guess from sampled sections whether a source holds intensities or labels, and of which kind labels are.

1. `looks_like`    Labels are flat: neighbouring pixels have one value. Imaged grey values have noise.
2. `guess_labels`  Two values are membrane and interior, if one of them divides the other. Ids in one piece each are
                   instances. A few values in many pieces each are classes. Values of voxels that nobody annotated are
                   left out.

A guess says why. The user overrules it by a key of the configuration.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import cc3d
import numpy as np
from numpy.typing import NDArray

from unet.config.label_kinds import IGNORE
from unet.volumes.readers.source import RAW_DTYPES

FLAT = 0.6
"""Share of neighbouring pixels with one value from which labels are flat. The most frequent value does not count."""
NOISY = 0.4
"""The same share below which several values, or numbers of a type of ids, are imaged grey values."""
TWO_VALUES, ONE_VALUE = 0.8, 0.05
"""Share of black and white from which other values are what JPEG makes of the edges of labels, and of each of both."""
TOO_FEW, FEW_VALUES = 8, 16
"""Largest number of values that no image has, and largest number of values that are called few."""
MAX_CLASSES = 64
"""Largest number of grey values that are written out as classes."""
ONE_PIECE = 0.6
"""Share of the ids that are in one piece in a section, from which ids are instances."""
MIN_PIECES = 4
"""Mean number of pieces per section from which a value is no single object, as in `unet.training.label_check`."""
SINGLE = 1.5
"""Mean number of pieces per section up to which a value is in one piece."""
BLENDED = 0.3
"""Share of colours that are only at edges, from which they are blended."""
MOSTLY = 0.5
"""Share of the voxels from which 0 may mean that nobody annotated them."""
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
    not_annotated : tuple of int
        Values of voxels that are not annotated.
    foreground : float
        Share of the sampled voxels that are not background.
    warnings : tuple of str
        What the user has to look at.
    """

    kind: Kind
    why: str
    class_values: dict[str, int] = field(default_factory=dict)
    not_annotated: tuple[int, ...] = ()
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
    if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
        return "raw", "its values have fractions"
    distinct, share = len(np.unique(values)), flat_share(values)
    grey = f"{distinct} different values, and only {share:.0%} of neighbouring pixels have one value"
    if values.dtype.name in RAW_DTYPES and distinct > TOO_FEW and is_black_and_white(values):
        return "labels", "nearly all of its values are black or white"
    if distinct > TOO_FEW and share < NOISY:
        return "raw", grey
    if values.dtype.name not in RAW_DTYPES:
        return "labels", f"{values.dtype.name} is a type of ids"
    if distinct <= FEW_VALUES:
        return "labels", f"it has {distinct} different value{'s' * (distinct != 1)}"
    if share >= FLAT:
        return "labels", f"{share:.0%} of neighbouring pixels have one value"
    return "raw", grey


def is_black_and_white(values: NDArray) -> bool:
    """Return whether nearly all values are in the lowest and the highest tenth of their range.

    >>> is_black_and_white(np.array([0, 3, 250, 255])), is_black_and_white(np.array([0, 9, 90, 128, 255]))
    (True, False)
    """
    low, high = float(values.min()), float(values.max())
    tenth = (high - low) / 10
    black, white = float(np.mean(values <= low + tenth)), float(np.mean(values >= high - tenth))
    return min(black, white) >= ONE_VALUE and black + white >= TWO_VALUES


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


def guess_labels(values: NDArray, not_annotated: Sequence[int] = (), colours: bool = False) -> LabelGuess:
    """Guess the kind of labels from sampled sections.

    Parameters
    ----------
    values : numpy.ndarray
        ``(section, y, x)``; sections without an annotation are left out by the caller.
    not_annotated : sequence of int
        Values of voxels that nobody annotated.
    colours : bool
        Whether each value is a colour.

    Raises
    ------
    NotLabelsError
        If the values have fractions, or are all the same. If colours are blended at edges.
    """
    if values.dtype.kind == "f":
        if not np.array_equal(values, np.rint(values)):
            raise NotLabelsError("its values have fractions, as probabilities do: threshold it first")
        values = values.astype(np.int64)
    greys, counts = np.unique(values, return_counts=True)
    known = {int(grey): int(n) for grey, n in zip(greys, counts, strict=True) if int(grey) not in not_annotated}
    ignored = tuple(int(grey) for grey in greys if int(grey) not in known)
    shares = {grey: count / sum(known.values()) for grey, count in known.items()}
    if len(shares) < 2:
        raise NotLabelsError(f"all sampled voxels are {next(iter(shares), ignored)}: nothing is annotated there")
    if colours and (thin := thin_share(values)) > BLENDED:
        raise NotLabelsError(
            f"{thin:.0%} of its {len(greys)} colours are nowhere wider than 2 px, as where colours are blended at "
            "edges: save the annotation without smoothing (anti-aliasing), or give the ids themselves"
        )
    if len(shares) == 2:
        return replace(_of_two_values(values, shares), not_annotated=ignored)
    pieces = {grey: n for grey, n in pieces_per_section(values).items() if grey in known}
    single = float(np.mean([n <= SINGLE for grey, n in pieces.items() if grey != 0]))
    many = sum(n >= MIN_PIECES for grey, n in pieces.items() if grey != 0)
    is_classes = len(shares) <= FEW_VALUES and many >= 1 and single < ONE_PIECE
    if not is_classes and (single >= ONE_PIECE or len(shares) > MAX_CLASSES):
        return _as_instances(values, shares, single, ignored)
    return replace(_as_classes(shares, pieces), not_annotated=ignored)


def _of_two_values(values: NDArray, shares: dict[int, float]) -> LabelGuess:
    low, high = sorted(shares)
    pieces = pieces_per_section(values, connectivity=4)  # a thin membrane separates its neighbours along diagonals, too
    inverted = shares[high] < 0.5 and pieces[low] - pieces[high] >= MIN_PIECES
    if low == 0 and not inverted:
        few = "" if pieces[high] > SINGLE else "; it is one piece in each section, as a mask is"
        warnings = (f"every section has one object only{few}: is it a mask (--mask)?",) if few else ()
        why = f"two values, 0 ({shares[0]:.0%}) and {high} in {_pieces(pieces[high])} per section"
        return LabelGuess("interior", why, foreground=shares[high], warnings=warnings)
    if max(pieces[low], pieces[high]) <= SINGLE:
        doubt = f"{low} and {high} are taken as two cells; if one of them is membrane, set label_kind: classes"
        return LabelGuess("instances", f"two ids, {low} and {high}, each in one piece per section", warnings=(doubt,))
    membrane, interior = (high, low) if pieces[low] > pieces[high] else (low, high)
    why = f"two values, and {membrane} divides {interior} into {_pieces(pieces[interior])} per section"
    doubt = (
        f"{membrane} is taken as membrane, and {interior} as interior; exchange them in class_values if that is wrong"
    )
    is_clear = pieces[interior] - pieces[membrane] >= MIN_PIECES
    return LabelGuess(
        "classes",
        why,
        {"membrane": membrane, "interior": interior},
        foreground=shares[interior],
        warnings=() if is_clear else (doubt,),
    )


def _pieces(mean: float) -> str:
    """Return a mean number of pieces for a sentence.

    >>> _pieces(1.2), _pieces(11.0)
    ('1 piece', '11 pieces')
    """
    return f"{mean:.0f} piece{'s' * (round(mean) != 1)}"


def _as_instances(values: NDArray, shares: dict[int, float], single: float, ignored: tuple[int, ...]) -> LabelGuess:
    ids = [grey for grey in shares if grey != 0]
    why = f"{len(ids):,} ids in the sample, {single:.0%} of them in one piece per section"
    warnings = []
    if single < ONE_PIECE:
        warnings.append(f"only {single:.0%} of its values are in one piece per section: are they ids?")
    touching = touching_share(values, ignored)
    if 0 in shares and touching >= TOUCHING:
        ignored = (*ignored, 0)
        why += f"; ids touch at {touching:.0%} of their borders, so 0 ({shares[0]:.1%}) is no membrane"
    top = int(np.iinfo(values.dtype).max) if values.dtype.kind in "iu" else 0
    if not ignored and top > 127 and shares.get(top, 0) and values.dtype.itemsize > 1:
        ignored = (top,)
        why += f"; {top} is the largest number of {values.dtype.name}"
    return LabelGuess("instances", why, {}, ignored, 1 - shares.get(0, 0.0), tuple(warnings))


def _as_classes(shares: dict[int, float], pieces: dict[int, float]) -> LabelGuess:
    """Return classes in the order background, others, most frequent: the last class makes the objects."""
    last = max(shares, key=lambda grey: shares[grey])
    if last == 0:
        last = max((grey for grey in shares if grey), key=lambda grey: shares[grey])
    order = [*(grey for grey in sorted(shares) if grey != last), last]
    why = f"{len(shares)} values, and several of them in more than one piece per section ({_few(pieces)})"
    warnings = [
        "the names of the classes are not in the file: rename them, and put values of one meaning into one list"
    ]
    if shares.get(0, 0) >= MOSTLY:
        warnings.append(f"0 fills {shares[0]:.0%}: if nobody annotated these voxels, rename value_0 to {IGNORE}")
    warnings += [
        f"{grey} is in one piece per section: if nobody annotated these voxels, rename value_{grey} to {IGNORE}"
        for grey, n in pieces.items()
        if grey > 0 and n <= SINGLE and max(pieces.values()) >= MIN_PIECES
    ]
    names = {f"value_{grey}" if grey >= 0 else f"minus_{-grey}": grey for grey in order}
    return LabelGuess("classes", why, names, foreground=shares[last], warnings=tuple(warnings))


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


def thin_share(values: NDArray) -> float:
    """Return the share of the values that no pixel has together with its four neighbours.

    >>> thin_share(np.repeat([[[1, 1, 1, 5, 6, 2, 2, 2]]], 3, axis=1))
    0.5
    """
    middle = values[:, 1:-1, 1:-1]
    around = (values[:, :-2, 1:-1], values[:, 2:, 1:-1], values[:, 1:-1, :-2], values[:, 1:-1, 2:])
    wide = np.all([middle == other for other in around], axis=0)
    return 1 - len(np.unique(middle[wide])) / len(np.unique(values))


def touching_share(values: NDArray, not_annotated: Sequence[int] = ()) -> float:
    """Return the share of the borders between values at which two ids touch, with no 0 between them.

    >>> touching_share(np.array([[[1, 1, 2, 2, 0, 3]]]))
    0.3333333333333333
    """
    borders = touching = 0
    known = np.ones(values.shape, bool)
    for value in not_annotated:
        known &= values != value
    for ahead, behind in ((np.s_[..., 1:], np.s_[..., :-1]), (np.s_[..., 1:, :], np.s_[..., :-1, :])):
        one, other = values[ahead], values[behind]
        differ = (one != other) & known[ahead] & known[behind]
        borders += int(differ.sum())
        touching += int((differ & (one != 0) & (other != 0)).sum())
    return touching / borders if borders else 0.0
