"""Layers of the report's viewer out of arrays, for tests."""

from collections.abc import Mapping

import numpy as np

from unet.geometry.box import Box, Index
from unet.run.report.tiles import TileLevel


class ArrayLayers:
    """Layers out of arrays of grey values ``(z, y, x)`` or RGBA ``(z, y, x, 4)``; coarser levels skip voxels."""

    def __init__(self, **arrays: np.ndarray) -> None:
        self.arrays: Mapping[str, np.ndarray] = arrays
        self.names = list(arrays)

    def pictures(self, layer: str, level: TileLevel, box: Box) -> np.ndarray:
        """Return pictures as `unet.run.report.tiles.Layers` says."""
        z, y, x = level.factor
        return self.arrays[layer][::z, ::y, ::x][box.slices]


def noise(shape: Index, seed: int = 0) -> np.ndarray:
    """Opaque colours that do not compress."""
    colours = np.random.default_rng(seed).integers(0, 256, (*shape, 4), np.uint8)
    colours[..., 3] = 255
    return colours
