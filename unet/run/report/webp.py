"""Pictures as WebP: a tenth of the size of PNG for micrographs."""

import base64
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

LOSSY_QUALITY, LOSSLESS_EFFORT = 30, 2
"""Quality of WebP with a loss (0 to 100), and effort of its compression without (0 to 6)."""


def as_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return values in [0, 1] as bytes; those beyond are cut off."""
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def webp_uri(image: NDArray[np.float64]) -> str:
    """Return an image `(y, x)` or `(y, x, 3)` in [0, 1] as WebP, with a loss, in a `data:` URI."""
    return webp_data(webp_bytes(as_bytes(image), lossy=True))


def webp_data(content: bytes) -> str:
    """Return the content of a WebP file as a `data:` URI."""
    return "data:image/webp;base64," + base64.b64encode(content).decode()


def webp_bytes(pixels: NDArray[np.uint8], lossy: bool = False) -> bytes:
    """Return the content of a WebP file: grey values `(y, x)` with a loss, colours `(y, x, 3 or 4)` as asked."""
    if pixels.ndim == 2:
        pixels, lossy = np.repeat(pixels[..., None], 3, axis=2), True
    level, method = (LOSSY_QUALITY, 4) if lossy else (None, LOSSLESS_EFFORT)
    contiguous = np.ascontiguousarray(pixels)
    return bytes(imagecodecs.webp_encode(contiguous, level=level, lossless=not lossy, method=method))
