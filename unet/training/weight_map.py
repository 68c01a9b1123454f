"""Compute the weight map, equation 2 of the U-Net paper: the weight of each pixel in the loss.

``w = w_c + w0 exp(-(d1 + d2)^2 / (2 sigma^2))``: `w_c` balances the classes; `d1` and `d2` are a background pixel's
distances to the nearest and to the second-nearest cell. One distance transform per cell would cost cells x pixels.
Here the cost is about the same for any number of cells, and the result is exact:

1. In each row, every pixel finds the nearest labelled pixel and the nearest one of another cell (running maxima).
2. Row after row, up and down from the pixel, these candidates compete for the two nearest distinct cells.
3. A pixel is done as soon as no further row can hold a nearer cell; in EM sections most are done after a few rows.
   While many are not done, whole rows compete, without a branch or an index. The few that remain continue alone.

```
row y-1   . . . A A . . .      candidates of (y, x) from row y-1:  A at dx = 1,  B at dx = 3
row y     . . . . x . . .
row y+1   . B . . . . C C      from row y+1:                       C at dx = 2,  B at dx = 3
```

Two candidates per row are enough: of three cells in one row, the cell with the largest ``|dx|`` is farther than the
other two from every pixel of the column. This holds for any ``dy``, so this cell is never among the two nearest.

Where ``d1 + d2`` exceeds `cutoff_distance`, the term would be below ``1e-6 w0`` and is set to 0. A block with a halo
of ``ceil(cutoff_distance(sigma))`` pixels therefore gives the same weights as the whole section, bit for bit.
"""

from collections.abc import Sequence
from math import ceil, log, sqrt

import fastremap
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from unet.config.label_kinds import UNLABELLED

Keys = NDArray[np.signedinteger]
"""Packed ``(squared distance << bits) | cell``: the smaller key is the nearer cell."""

FEW_PIXELS_SHARE = 1 / 4
"""Share of unfinished pixels below which it is faster to select them than to continue with all pixels."""


def cutoff_distance(sigma: float) -> float:
    """Return the distance ``d1 + d2`` in px where the border term has fallen to ``1e-6 w0``: ``sigma sqrt(2 ln 1e6)``.

    >>> round(cutoff_distance(5), 2)
    26.28
    """
    return sigma * sqrt(2 * log(1e6))


def separation_border(labels: NDArray, width: int, axes: Sequence[int] = (-2, -1)) -> NDArray[np.bool_]:
    """Return the pixels that become background so that no two cells touch.

    A contact pixel belongs to a cell and has a 4-neighbour in its section that belongs to another cell. The border is
    the set of contact pixels, dilated ``width - 1`` times by the 4-neighbourhood, each time only within the same cell.
    These are the pixels whose path inside the cell to a contact pixel is shorter than ``width`` steps. So ``width``
    pixels are removed on each side of a contact, and the line is ``2 width`` wide. Contact with 0 draws nothing. A cell
    disappears where it is too thin for its contacts: up to ``width`` pixels beside one contact, up to ``2 width``
    between two. The pieces of a cell cut in two keep their id and stay one cell for `border_weight`.

    Parameters
    ----------
    labels : int array (y, x) or (z, y, x)
        Cell ids, 0 = background; each section by itself.
    width : int
        Pixels removed on each side of a contact; 0 removes none. The result depends on ``width`` pixels around.
    axes : sequence of int
        Axes along which pixels are neighbours, counted from the last (negative); y and x by default.

    Returns
    -------
    bool array of the same shape
        True where `labels` is to be set to 0.

    References
    ----------
    Ronneberger, Fischer, Brox 2015, section 3: "the separation border is computed using morphological operations".

    Examples
    --------
    >>> separation_border(np.array([[1, 1, 1, 2, 2, 0, 3]]), width=1).astype(int)
    array([[0, 0, 1, 1, 0, 0, 0]])
    """
    if width < 0:
        raise ValueError(f"the separation border must be 0 or more pixels wide, not {width}")
    border = np.zeros(labels.shape, bool)
    if width == 0:
        return border
    for one, other in _neighbours(labels.ndim, axes):
        a, b = labels[one], labels[other]
        contact = (a != b) & (a != 0) & (b != 0)
        border[one] |= contact
        border[other] |= contact
    for _ in range(width - 1):
        before = border.copy()
        for one, other in _neighbours(labels.ndim, axes):
            same = labels[one] == labels[other]
            border[one] |= before[other] & same
            border[other] |= before[one] & same
    return border


def _neighbours(ndim: int, axes: Sequence[int]) -> list[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Return index pairs of neighbouring pixels along each of `axes`."""

    def all_but(axis: int, part: slice) -> tuple[slice, ...]:
        return tuple(part if i == axis % ndim else slice(None) for i in range(ndim))

    return [(all_but(axis, slice(None, -1)), all_but(axis, slice(1, None))) for axis in axes]


def border_weight(labels: NDArray, w0: float, sigma: float) -> NDArray[np.float32]:
    """Return the border term of equation 2, ``w0 exp(-(d1 + d2)^2 / (2 sigma^2))``, of background; 0 inside cells.

    The distance from a pixel to a cell is the Euclidean distance between the centre of the pixel and that of the cell's
    nearest pixel: 1 for a background pixel side by side with the cell. `d1` and `d2` belong to two cells of different
    ids, never to two pixels of one cell. Only background gets the term: its purpose is that the network learns the gaps
    between cells. It is largest in the narrowest gaps, and 0 wherever there are fewer than two cells within
    `cutoff_distance(sigma)`.

    Parameters
    ----------
    labels : int array (y, x) or (z, y, x)
        Cell ids, 0 = background; each section by itself. Cells that touch should have been separated before.
    w0 : float
        Height of the term (paper: 10).
    sigma : float
        Its width in px (paper: 5).

    Returns
    -------
    float32 array of the same shape, ``0 <= term < w0``

    References
    ----------
    Ronneberger, Fischer, Brox 2015, equation 2.

    Examples
    --------
    A gap of two pixels: ``d1 + d2 = 1 + 2``.

    >>> border_weight(np.array([[1, 1, 0, 0, 2, 2]]), w0=10, sigma=5).round(2).tolist()
    [[0.0, 0.0, 8.350000381469727, 8.350000381469727, 0.0, 0.0]]
    """
    if labels.ndim == 2:
        return _section_border_weight(labels, w0, sigma)
    term = np.empty(labels.shape, np.float32)
    for z, section in enumerate(labels):
        term[z] = _section_border_weight(section, w0, sigma)
    return term


def _section_border_weight(labels: NDArray, w0: float, sigma: float) -> NDArray[np.float32]:
    """Return `border_weight` of one section."""
    cells, _ = fastremap.renumber(np.ascontiguousarray(labels))
    if cells.max(initial=0) < 2:
        return np.zeros(cells.shape, np.float32)
    cutoff = cutoff_distance(sigma)
    square1, square2 = _two_nearest_cells(cells, cutoff)
    distance = np.sqrt(square1) + np.sqrt(square2)
    value = w0 * np.exp(-(distance**2) / (2 * sigma**2))
    return (value * ((cells == 0) & (distance <= cutoff))).astype(np.float32)


def _two_nearest_cells(cells: NDArray, cutoff: float) -> tuple[Keys, Keys]:
    """Return squared distances (px^2) from every background pixel to the nearest and the second-nearest cell.

    The result is exact wherever the two distances add up to `cutoff` at most; elsewhere its sum exceeds `cutoff` too.
    Inside cells it has no meaning.
    """
    (height, width), radius, bits = cells.shape, int(cutoff), int(cells.max()).bit_length()
    small = max((radius + 1) ** 2 + 1, radius + 1 + width) << bits <= _far(np.int32)
    keys = _two_nearest_in_row(cells.astype(np.int32 if small else np.int64), radius, bits)
    rows = [np.pad(key, ((radius, radius), (0, 0)), constant_values=_far(key.dtype)).ravel() for key in keys]
    nearest, second = (key.ravel() for key in keys)
    every = np.arange(cells.size)
    pixels: slice | NDArray[np.intp] = slice(None)  # all; later the flat indices of the few that are left
    for dy in range(1, radius + 1):
        live = _can_improve(nearest[pixels], second[pixels], dy, cutoff, bits)
        if not live.any():
            break
        if np.count_nonzero(live) <= FEW_PIXELS_SHARE * cells.size:
            pixels = every[pixels][live]
        one, two = nearest[pixels], second[pixels]
        for y in (radius - dy, radius + dy):
            for row in rows:
                opposite = row[y * width : (y + height) * width]  # what lies dy above or below each pixel
                _compete(one, two, opposite[pixels] + (dy**2 << bits), bits)
        nearest[pixels], second[pixels] = one, two
    return nearest.reshape(cells.shape) >> bits, second.reshape(cells.shape) >> bits


def _far(dtype: DTypeLike) -> int:
    """Return a key beyond all others, to which the square of any `dy` can still be added."""
    return int(np.iinfo(dtype).max) >> 1


def _can_improve(nearest: Keys, second: Keys, dy: int, cutoff: float, bits: int) -> NDArray[np.bool_]:
    """Return the background pixels for which rows `dy` away can hold a nearer second cell within the cutoff."""
    live = (nearest >= 1 << bits) & (second >= (dy**2 + 1) << bits)
    if dy > cutoff - dy:
        live &= nearest < (ceil((cutoff - dy) ** 2) + 1) << bits
    return live


def _two_nearest_in_row(cells: Keys, radius: int, bits: int) -> tuple[Keys, Keys]:
    """Return keys of the nearest two distinct cells in each pixel's row; exact up to `radius`, beyond it elsewhere."""
    nearest, second = _last_two_cells(cells, radius, bits)
    for mirrored in _last_two_cells(cells[:, ::-1], radius, bits):
        _compete(nearest, second, mirrored[:, ::-1], bits)
    return nearest, second


def _last_two_cells(cells: Keys, radius: int, bits: int) -> tuple[Keys, Keys]:
    """Return keys of the last labelled pixel at or before each pixel of a row, and of the last one of another cell.

    With positions packed as ``(x << bits) | cell``, the running maximum along x is the last labelled pixel. The last
    one of another cell is the last labelled pixel whose successor belongs to another cell than itself. As x counts
    from ``radius + 1``, position 0 stands for none: it is farther than `radius` from every pixel.
    """
    x = np.arange(radius + 1, radius + 1 + cells.shape[1], dtype=cells.dtype)
    cell = (1 << bits) - 1
    last = np.maximum.accumulate(((x << bits) | cells) * (cells > 0), axis=1)
    before = np.pad(last[:, :-1], ((0, 0), (1, 0)))
    other = np.maximum.accumulate(before * ((before ^ last) & cell != 0), axis=1)

    def key(position: Keys) -> Keys:
        dx = np.minimum(x - (position >> bits), radius + 1)
        return (dx**2 << bits) | (position & cell)

    return key(last), key(other)


def _compete(nearest: Keys, second: Keys, candidate: Keys, bits: int) -> None:
    """Keep the two smallest keys of distinct cells, in place."""
    loser = np.maximum(nearest, candidate)
    same = (nearest ^ candidate) & ((1 << bits) - 1) == 0
    loser |= same.astype(loser.dtype) * _far(loser.dtype)  # the same cell never takes both slots
    np.minimum(second, loser, out=second)
    np.minimum(nearest, candidate, out=nearest)


def class_weights(counts: ArrayLike, balance: bool = True) -> NDArray[np.float64]:
    """Return the class term `w_c` of equation 2: inverse class frequency, with mean 1 over the training pixels.

    ``w_c = N / (K n_c)`` with `n_c` the pixels of class c, `N` their sum and `K` the number of classes that occur. So
    every class contributes equally to the loss, and the mean over the labelled pixels, ``sum n_c w_c / N``, is 1.

    Parameters
    ----------
    counts : int64 array (classes,)
        Labelled pixels of each class.
    balance : bool
        False gives 1 for every class.

    Returns
    -------
    float64 array (classes,)
        0 for a class that never occurs.

    Raises
    ------
    ValueError
        If a count is negative, or there is no labelled pixel at all.

    Examples
    --------
    >>> class_weights([10, 30]).round(4).tolist()
    [2.0, 0.6667]
    """
    pixels = np.asarray(counts, np.int64)
    if pixels.min(initial=0) < 0 or pixels.sum() == 0:
        raise ValueError(
            f"class weights need pixel counts >= 0 and at least one labelled pixel, got {pixels.tolist()}: "
            "check that the training volumes have labels in the chosen sections"
        )
    if not balance:
        return np.ones(pixels.size)
    occurs = pixels > 0
    inverse = np.divide(float(pixels.sum()), pixels, out=np.zeros(pixels.size), where=occurs)
    return inverse / np.count_nonzero(occurs)


def weight_map(
    targets: NDArray[np.uint8], cells: NDArray, class_weight: ArrayLike, w0: float, sigma: float
) -> NDArray[np.float32]:
    """Return equation 2: the class weight of each pixel's target plus the border term; 0 where unlabelled.

    Parameters
    ----------
    targets : uint8 array (y, x) or (z, y, x)
        Class index, 255 = unlabelled.
    cells : int array of the same shape
        Cell ids after removal of the `separation_border`, 0 = background.
    class_weight : float array (classes,)
        From `class_weights`.
    w0, sigma : float
        Height and width (px) of the border term; see `border_weight`.

    Returns
    -------
    float32 array of the same shape

    Raises
    ------
    ValueError
        If the shapes differ, or a target is neither a class with a weight nor 255.
    """
    if targets.shape != cells.shape:
        raise ValueError(f"targets {targets.shape} and cells {cells.shape} must have the same shape")
    weights = np.asarray(class_weight, np.float64)
    labelled = targets != UNLABELLED
    largest = int(targets.max(initial=0, where=labelled))
    if largest >= weights.size:
        raise ValueError(
            f"target {largest} has no class weight: there are {weights.size} classes, 0 to {weights.size - 1}"
        )
    of_target = np.zeros(UNLABELLED + 1)
    of_target[: weights.size] = weights
    return np.where(labelled, of_target[targets] + border_weight(cells, w0, sigma), 0).astype(np.float32)
