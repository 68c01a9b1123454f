"""The wrong voxels of sections that are segmented alone: each section is compared by itself, once a chunk needs it."""

from collections.abc import Callable
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.evaluation.contingency import Contingency, contingency
from unet.evaluation.error_analysis import ErrorFinder
from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid

MAX_SECTIONS = 256
"""Sections whose tables are kept in memory."""
Read = Callable[[Box], NDArray[Any]]


class SectionErrors:
    """Find the wrong voxels of a volume in which objects lie in one section each, and true ids mean one section.

    No two sections share an object, so the table of a section is enough to find its errors.

    Parameters
    ----------
    shape, block : shape of the volume, and of the blocks in which a section is read, (z, y, x)
    truth, segmentation : return the ids of a box, 0 where there is none
    """

    def __init__(self, shape: Index, block: Index, truth: Read, segmentation: Read) -> None:
        self._pieces = Grid((1, *shape[1:]), (1, *block[1:]))
        self._truth, self._segmentation, self._one = truth, segmentation, Lock()
        self._finder = lru_cache(maxsize=MAX_SECTIONS)(self._compare)

    def errors(self, box: Box) -> NDArray[np.uint8]:
        """Return the errors of the voxels of a box, see `ErrorFinder.errors`."""
        truth, segmentation = self._truth(box), self._segmentation(box)
        found = np.zeros(truth.shape, np.uint8)
        for row, z in enumerate(range(box.start[0], box.stop[0])):
            with self._one:  # chunks of one section are asked for at once
                finder = self._finder(z)
            found[row] = finder.errors(truth[row], segmentation[row])
        return found

    def _compare(self, z: int) -> ErrorFinder:
        """Return the finder of one section."""
        table = Contingency.empty()
        for piece in self._pieces.boxes():
            box = Box((z, *piece.start[1:]), (z + 1, *piece.stop[1:]))
            table += contingency(self._truth(box), self._segmentation(box))
        return ErrorFinder(table)
