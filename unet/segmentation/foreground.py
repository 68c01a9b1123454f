"""From stored probabilities to foreground: the channel that makes instances, and the exact meaning of the threshold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unet.geometry.box import Box, Index
from unet.geometry.offsets import affinity_offsets
from unet.segmentation.affinities import interior, interior_read_box

if TYPE_CHECKING:
    from unet.storage.zarr_store import Image


class UnknownClass(ValueError):
    """`segment.foreground` names a class that the network does not have."""


def channel_of(name: str | None, channels: Sequence[str]) -> int:
    """Return the index of the channel whose probability makes instances; None = the last.

    >>> channel_of(None, ["interior"]), channel_of("b", ["a", "b", "c"])
    (0, 1)

    Raises
    ------
    UnknownClass
        If no channel has that name.
    """
    if name is None:
        return len(channels) - 1
    if name not in channels:
        raise UnknownClass(f"segment.foreground: {name!r} is not one of the network's classes {list(channels)}")
    return list(channels).index(name)


def foreground_read_box(box: Box, channels: Sequence[str], axes: Sequence[int]) -> Box:
    """Return the box of a probability store that `read_foreground` of a box reads."""
    return box if affinity_offsets(channels) is None else interior_read_box(box, axes)


def read_foreground(image: "Image", box: Box, name: str | None, axes: Sequence[int]) -> NDArray[Any]:
    """Read the store `probability` and return the probability that makes instances, as `foreground_probability`."""
    stored = image.read(foreground_read_box(box, image.spec.channels, axes))
    return foreground_probability(stored, image.spec.channels, box, image.shape, name, axes)


def foreground_probability(
    stored: NDArray[Any], channels: Sequence[str], box: Box, shape: Index, name: str | None, axes: Sequence[int]
) -> NDArray[Any]:
    """Return the probability that makes instances: that of a class, or the interior that affinities give.

    Parameters
    ----------
    stored : (channels, z, y, x) uint8 (p x 255) or float32, the voxels of `foreground_read_box`
    channels : names of the channels
    box : voxels whose probability is returned
    shape : shape of the volume
    name : class; None = the last. Affinities have no classes
    axes : axes along which voxels are neighbours, see `unet.segmentation.affinities.interior`

    Returns
    -------
    (z, y, x) of the type of `stored`

    Raises
    ------
    UnknownClass
        If no channel has that name.
    """
    offsets = affinity_offsets(channels)
    if offsets is None:
        return stored[channel_of(name, channels)]
    if name is not None:
        raise UnknownClass(f"segment.foreground: {name!r} is a class, but the network gives affinities: remove it")
    return interior(stored, box, shape, offsets, axes)


def as_probability(stored: np.ndarray) -> np.ndarray:
    """Return probabilities in [0, 1] as float32, from uint8 (p x 255) or float32 of any shape."""
    return stored.astype(np.float32) / 255 if stored.dtype == np.uint8 else stored


def foreground(stored: np.ndarray, threshold: float) -> np.ndarray:
    """Return True where the probability is above `threshold`: ``>`` as in the ISBI 2012 script, not ``>=``.

    >>> foreground(np.array([127, 128], np.uint8), 0.5).tolist()
    [False, True]
    """
    # uint8 is compared in integers: no rounding of a product can move the threshold.
    return stored > np.floor(threshold * 255) if stored.dtype == np.uint8 else stored > threshold


def class_values(stored: np.ndarray, threshold: float) -> np.ndarray:
    """Return the class of each voxel: 1, 2, ... for the most probable class if above `threshold`, else 0.

    Parameters
    ----------
    stored
        Probabilities `(classes, z, y, x)`, uint8 or float32.

    >>> class_values(np.array([[[[200, 90]]], [[[10, 110]]]], np.uint8), 0.4).tolist()
    [[[1, 2]]]
    """
    if len(stored) > 254:
        raise ValueError(f"segment.foreground names {len(stored)} classes; at most 254")
    above = foreground(stored.max(axis=0), threshold)
    return np.where(above, stored.argmax(axis=0) + 1, 0).astype(np.uint8)


def confidence(stored: np.ndarray, threshold: float) -> np.ndarray:
    """Return the probability on a scale where 1 is the threshold: 0 to 1 below, 1 to 2 from there to certainty.

    ``min(p / threshold, 1) + max(p - threshold, 0) / (1 - threshold)``; a threshold of 0 counts as 1/255 below.

    Parameters
    ----------
    stored
        Probabilities of any shape, uint8 (p x 255) or float32.

    Returns
    -------
    float32 of the same shape, 0 to 2; above 1 in the `foreground`.

    >>> confidence(np.array([0, 51, 102, 255], np.uint8), 0.4).tolist()
    [0.0, 0.5, 1.0, 2.0]
    """
    if stored.dtype == np.uint8:
        return confidence(np.arange(256, dtype=np.float32) / 255, threshold).take(stored)
    below, above = np.float32(max(threshold, 1 / 255)), np.float32(1 - threshold)
    return np.minimum(stored / below, 1) + np.maximum(stored - np.float32(threshold), 0) / above


@dataclass(frozen=True)
class LevelConfidence:
    """The `confidence` of every voxel of a uint8 probability, in a quarter of the memory.

    Attributes
    ----------
    levels : (z, y, x) uint8, p x 255
    of_level : (256,) float32, confidence of each level
    """

    levels: NDArray[np.uint8]
    of_level: NDArray[np.float32]

    def of_voxels(self) -> NDArray[np.float32]:
        """Return the confidence of every voxel."""
        return self.of_level.take(self.levels)


def compact_confidence(stored: np.ndarray, threshold: float) -> NDArray[np.float32] | LevelConfidence:
    """Return the `confidence`, for uint8 as the levels and the confidence of each."""
    if stored.dtype != np.uint8:
        return confidence(stored, threshold)
    return LevelConfidence(stored, confidence(np.arange(256, dtype=np.uint8), threshold))


def boundary_levels(stored: np.ndarray) -> np.ndarray:
    """Return the probability of a membrane x 255 as uint8, from the stored probability of the interior.

    >>> boundary_levels(np.array([0, 250], np.uint8)).tolist(), boundary_levels(np.array([1, 0.2], np.float32)).tolist()
    ([255, 5], [0, 204])
    """
    levels = stored if stored.dtype == np.uint8 else np.rint(stored * 255).astype(np.uint8)
    return np.uint8(255) - levels
