"""The pictures of the augmentation page: grey values with the borders of the targets, of a patch or of a stack.

```
patch as the network takes it             stack of sections, for changes of single sections
+----------------------+                  +-------------------+
|  raw, input          |                  | section 0         |
|  +----------------+  |                  | section 1         |  z
|  | with borders   |  |                  |   ...             |
|  | of the targets |  |                  | cut along x       |
|  +----------------+  |                  +-------------------+
+----------------------+
```
"""

import numpy as np

from unet.run.report.pictures import label_boundary
from unet.training.augmentation import Warp

MIN_WIDTH = 480
"""px along x up to which a smaller picture is enlarged, by a whole factor, so that lines stay thin."""

MAGNIFICATION = 3
"""Factor by which `magnified` enlarges the middle of a picture."""

GREY_RANGE = 3.0
"""Standard deviations from the mean at which all pictures are black and white: grey values are comparable."""

SQUARES = 8
"""Squares of the volume along a picture, between the green lines."""

BORDER, FRAME, GRID = (1.0, 0.55, 0.0), (0.2, 0.75, 1.0), (0.35, 1.0, 0.35)
"""Colours (RGB) of target borders, of the frame around the targets, and of lines of the volume."""


def patch_picture(raw: np.ndarray, targets: np.ndarray, lines: np.ndarray | None = None) -> np.ndarray:
    """Draw a section `(y, x)` of raw, with the borders of its smaller targets in the middle and a frame around them.

    `lines` holds a number per pixel; green lines are drawn where it changes. Returns RGB `(y, x, 3)` in [0, 1].
    """
    factor = _enlargement(raw.shape[1])
    picture = _grey(enlarged(raw, factor))
    if lines is not None:
        picture[label_boundary(enlarged(lines, factor))] = GRID
    margins = [factor * ((n - m) // 2) for n, m in zip(raw.shape, targets.shape, strict=True)]
    inner = tuple(slice(k, k + factor * m) for k, m in zip(margins, targets.shape, strict=True))
    picture[inner][label_boundary(enlarged(targets, factor))] = BORDER  # a view
    if min(margins) > 0:
        covered = np.zeros(picture.shape[:2], bool)
        covered[inner] = True
        picture[label_boundary(covered)] = FRAME
    return picture


def stack_picture(raw: np.ndarray, targets: np.ndarray, lines: np.ndarray | None = None) -> np.ndarray:
    """Draw sections `(z, x)` below each other, each so thick that the picture is 3/4 as high as wide.

    Parameters and result are those of `patch_picture`.
    """
    factor = _enlargement(raw.shape[1])
    picture = _grey(np.repeat(raw, factor, axis=1))
    for labels, colour in ((targets, BORDER), (lines, GRID)):
        if labels is not None:
            ids = np.repeat(labels, factor, axis=1)
            picture[np.concatenate([label_boundary(section[None]) for section in ids])] = colour
    thickness = max(1, round(picture.shape[1] * 3 / 4 / len(picture)))
    return np.repeat(picture, thickness, axis=0)


def magnified(picture: np.ndarray) -> np.ndarray:
    """Return the middle of a picture, enlarged to the size of the whole."""
    height, width = (n // MAGNIFICATION for n in picture.shape[:2])
    return enlarged(picture[height : 2 * height, width : 2 * width], MAGNIFICATION)


def enlarged(picture: np.ndarray, factor: int) -> np.ndarray:
    """Return the picture with every pixel as a square of `factor` pixels."""
    return np.repeat(np.repeat(picture, factor, axis=0), factor, axis=1)


def patch_squares(positions: np.ndarray) -> np.ndarray:
    """Return the kind, 0 to 3, of the volume's square that each pixel `(y, x)` comes from; adjacent squares differ.

    `positions` are the coordinates `(2, y, x)` in px from which the pixels are taken.
    """
    y, x = np.floor(positions * SQUARES / max(positions.shape[1:])).astype(np.int64) % 2
    return 2 * y + x


def stack_stripes(warp: Warp, sections: int, row: int) -> np.ndarray:
    """Return the number of the volume's stripe that each pixel `(z, x)` of a row comes from."""
    shifts = np.zeros((sections, 2)) if warp.shifts is None else warp.shifts
    columns = warp.positions[1, row] + shifts[:, 1:]
    return np.floor(columns * SQUARES / columns.shape[1]).astype(np.int64)


def _enlargement(width: int) -> int:
    """Return the factor by which a picture of this width is enlarged."""
    return max(1, MIN_WIDTH // width)


def _grey(raw: np.ndarray) -> np.ndarray:
    """Return grey values in standard deviations from the mean as RGB in [0, 1]."""
    shade = np.clip((raw.astype(np.float64) + GREY_RANGE) / (2 * GREY_RANGE), 0, 1)
    return np.repeat(shade[..., None], 3, axis=-1)
