"""The pictures of the report: sections as WebP or PNG, with ids in colour over the raw grey values."""

import base64
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
from matplotlib.colors import hsv_to_rgb
from numpy.typing import NDArray

from unet.run.report.webp import as_bytes, webp_uri

ERROR_COLOURS = np.array([[0, 0, 0], [1.0, 0.55, 0.0], [0.15, 0.45, 1.0], [0.85, 0.2, 0.85]])
"""Colours by the bits of `unet.evaluation.error_analysis.error_map`: right, split, merged, both."""


class Picture(NamedTuple):
    """A picture: its caption, and its PNG or WebP as a ``data:`` URI."""

    caption: str
    uri: str


def contact_row(raw: NDArray[Any], segmentation: NDArray[Any], fragments: NDArray[Any], id_: int) -> list[Picture]:
    """Return pictures of a contact within an object: raw, the object in white outline over its fragments, all objects.

    Parameters
    ----------
    raw, segmentation, fragments : (y, x) grey values, ids of objects, ids of fragments
    id_ : id of the object
    """
    grey, inside = stretch_contrast(raw), segmentation == id_
    picture = overlay(grey, np.where(inside, fragments, 0))
    picture[inside & label_boundary(inside)] = 1.0
    named = [("fragments of the object", picture), ("segmentation", overlay(grey, segmentation))]
    return [Picture("raw", webp_uri(grey)), *(Picture(name, webp_uri(drawn)) for name, drawn in named)]


def overlay(grey: NDArray[np.float64], ids: NDArray[Any]) -> NDArray[np.float64]:
    """Return a grey picture with the ids in colour, their boundary in full colour; ``(y, x, 3)`` in [0, 1]."""
    opacity = np.where(label_boundary(ids), 1.0, 0.4) * (ids > 0)
    mixed: NDArray[np.float64] = grey[..., None] + opacity[..., None] * (label_colours(ids) - grey[..., None])
    return mixed


def label_colours(ids: NDArray[Any]) -> NDArray[np.float64]:
    """Return one bright colour per id, from a hash of the id alone: RGB in [0, 1], ``(*ids.shape, 3)``.

    >>> bool((label_colours(np.array([7])) == label_colours(np.array([1, 7]))[1]).all())
    True
    """
    mixed = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # the finaliser of splitmix64
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    hue, saturation, value = ((mixed >> np.uint64(shift) & np.uint64(0xFFFF)) / 0xFFFF for shift in (0, 16, 32))
    return np.asarray(hsv_to_rgb(np.stack([hue, 0.6 + 0.4 * saturation, 0.75 + 0.25 * value], axis=-1)))


def label_boundary(ids: NDArray[Any]) -> NDArray[np.bool_]:
    """Return True for pixels with another id beside, above or below them."""
    padded = np.pad(ids, 1, mode="edge")
    beside = (padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1])
    return np.logical_or.reduce([ids != other for other in beside])


def png_uri(image: NDArray[np.float64]) -> str:
    """Return an image (y, x) or (y, x, 3) in [0, 1] as PNG in a ``data:`` URI."""
    return "data:image/png;base64," + base64.b64encode(png_bytes(image)).decode()


def png_bytes(image: NDArray[np.float64]) -> bytes:
    """Return an image (y, x) or (y, x, 3) in [0, 1] as the content of a PNG file."""
    return bytes(imagecodecs.png_encode(as_bytes(image), level=9))


def stretch_contrast(raw: NDArray[Any]) -> NDArray[np.float64]:
    """Return grey values in [0, 1], from the 0.5th percentile to the 99.5th."""
    low, high = np.percentile(raw, [0.5, 99.5])
    return np.clip((raw - low) / max(high - low, 1e-12), 0, 1)


def block_mean(image: NDArray[Any], factor: int) -> NDArray[np.float64]:
    """Return the mean over squares of ``factor`` pixels; incomplete squares at the far sides are left out."""
    y, x = (n // factor for n in image.shape)
    cut = image[: y * factor, : x * factor].astype(float)
    return np.asarray(cut.reshape(y, factor, x, factor).mean(axis=(1, 3)))


def block_centre(ids: NDArray[Any], factor: int) -> NDArray[Any]:
    """Return the id at the centre of the squares of `block_mean`."""
    y, x = (n // factor for n in ids.shape)
    middle = factor // 2
    return ids[middle::factor, middle::factor][:y, :x]
