"""Sections that a training leaves out, so that thresholds are chosen where the network did not learn.

A network is surer of the sections that it learnt from than of any other. A threshold that fits their probabilities is
too high or too low for the rest of the volume.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from unet.geometry.box import Box, Index

MIN_SECTIONS = 4
"""Annotated sections from which some are held back. Of fewer sections every one is needed to learn from."""


class Store(Protocol):
    """A store of voxels, such as `unet.storage.zarr_store.Image`."""

    @property
    def shape(self) -> Index:
        """Shape `(z, y, x)` in voxels."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the voxels."""

    def read(self, box: Box) -> np.ndarray:
        """Return the voxels of a box `(z, y, x)`."""


def held_back_sections(annotated: Sequence[int], share: float) -> list[int]:
    """Return the sections that are held back: the last `share` of the annotated sections, at least one.

    The sections at one end are taken, since neighbouring sections look alike.

    Parameters
    ----------
    annotated : increasing numbers of the sections with labels
    share : share of the annotated sections, 0 to 1; 0 holds nothing back

    >>> held_back_sections(range(20), 0.15), held_back_sections([0, 7, 9, 30], 0.1), held_back_sections([0, 1, 2], 0.5)
    ([17, 18, 19], [30], [])
    """
    if share == 0 or len(annotated) < MIN_SECTIONS:
        return []
    return list(annotated)[-max(1, round(share * len(annotated))) :]


def only_sections(labels: np.ndarray, box: Box, sections: Sequence[int]) -> np.ndarray:
    """Return the labels `(z, y, x)` of a box with 0 outside of the given sections; all labels if there are none."""
    if not sections:
        return labels
    inside = np.isin(np.arange(box.start[0], box.stop[0]), sections)
    return np.where(inside[:, np.newaxis, np.newaxis], labels, labels.dtype.type(0))


class WithoutSections:
    """Targets or weights that say "not annotated" in some sections, whatever is stored there.

    Parameters
    ----------
    store : Store
        The targets or weights.
    sections : sequence of int
        Sections from which nothing is learnt.
    unlabelled : int
        Value of a voxel that is not annotated: 0 for weights.
    """

    def __init__(self, store: Store, sections: Sequence[int], unlabelled: int = 0) -> None:
        self._store, self._sections, self._unlabelled = store, sections, unlabelled
        self.shape, self.dtype = store.shape, store.dtype

    def read(self, box: Box) -> np.ndarray:
        """Return the values of a box `(z, y, x)`."""
        values = np.array(self._store.read(box))
        values[[z - box.start[0] for z in self._sections if box.start[0] <= z < box.stop[0]]] = self._unlabelled
        return values
