"""Shared by tests of formats of other fields: a small volume with its voxel size, and how it is written and read."""

from pathlib import Path
from typing import Any

import numpy as np

from tests.unit.volumes.readers.writers import WRITERS, Stored
from unet.geometry.box import Box
from unet.volumes.readers.source import Source

SHAPE = (4, 6, 9)
VALUES = np.arange(4 * 6 * 9, dtype=np.uint8).reshape(SHAPE)
SIZE = (40.0, 5.0, 4.0)


def whole(source: Source) -> np.ndarray:
    """All voxels of a source."""
    return source.read(Box.of_shape(source.shape))


def written(folder: Path, name: str, values: np.ndarray = VALUES, **stored: Any) -> str:
    """Write a volume as a program of the field does; its address."""
    folder.mkdir(exist_ok=True)
    return WRITERS[name].write(folder, values, Stored(**stored))
