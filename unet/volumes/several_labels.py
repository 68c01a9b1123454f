"""Read the labels of one volume from several files, which annotate different parts of it."""

from collections.abc import Sequence

import numpy as np

from unet.config.label_kinds import AnnotationError, not_annotated_id
from unet.geometry.box import Box
from unet.volumes.placement import Placement
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.several_sources import SeveralSources
from unet.volumes.readers.source import Source

BITS, BITS_OF_64 = 32, 60
"""Bits of the ids of one file, where all files have ids of at most 32 bits, and where one has ids of 64 bits."""


class SeveralLabels(SeveralSources):
    """Labels of several files in one volume. Equal ids of different files are different objects.

    The ids of file ``k``, counted from 0, are ``id + k * 2**32``; where a file has ids of 64 bits, ``id + k * 2**60``.
    Both follow from the headers, so any box has the ids of the whole volume.

    Parameters
    ----------
    placements : sequence of Placement
        The labels of each file in the volume, see `unet.volumes.label_conversion.LabelValues`.
    distinct : bool
        Whether the values are ids of objects; else equal values have one meaning in all files.
    """

    def __init__(self, placements: Sequence[Placement], distinct: bool) -> None:
        sources = [placement.source for placement in placements]
        _refuse_overlaps(placements)
        self._bits = BITS_OF_64 if any(source.dtype.itemsize == 8 for source in sources) else BITS
        self._distinct = distinct
        if distinct and len(placements) >= 2 ** (64 - self._bits):
            raise SourceError(
                f"{sources[0].address} and {len(placements) - 1} more files of labels with ids of 64 bits: at most "
                f"{2 ** (64 - self._bits) - 1} can be told apart; write the ids as uint32"
            )
        super().__init__(sources, np.dtype("uint64") if distinct else _common_dtype(sources))

    def covers(self, box: Box) -> np.ndarray | None:
        """Return which voxels of a box some file holds; None if all are held."""
        found = np.zeros(box.shape, bool)
        for source in self._sources:
            held = source.covers(box)
            if held is None:
                return None
            found |= held
        return None if found.all() else found

    def _read(self, box: Box) -> np.ndarray:
        values = np.zeros(box.shape, self.dtype)
        for number, source in enumerate(self._sources):
            held = source.covers(box)
            if held is None or held.any():
                own = self._own_values(number, source, box)
                values = own if held is None else np.where(held, own, values)
        return values

    def _own_values(self, number: int, source: Source, box: Box) -> np.ndarray:
        """Return the values of one file, which no other file has if they are ids."""
        stored = source.read(box)
        known = stored != not_annotated_id(stored.dtype)
        ids = stored.astype(self.dtype)
        if self._distinct:
            largest = int(ids.max(initial=0, where=known))
            if largest >= 2**self._bits:
                raise AnnotationError(
                    f"{source.address}: id {largest} in box {box}, but with several files of labels ids of 64 bits are "
                    f"below {2**self._bits}; give these objects smaller ids"
                )
            ids[known & (ids > 0)] += np.uint64(number << self._bits)
        ids[~known] = not_annotated_id(self.dtype)
        return ids


def _common_dtype(sources: Sequence[Source]) -> np.dtype:
    found: np.dtype = np.result_type(*(source.dtype for source in sources))
    if found.kind == "f":
        named = ", ".join(f"{source.address} of {source.dtype.name}" for source in sources)
        raise SourceError(f"{named}: no type holds the values of all; convert one of them")
    return found


def _refuse_overlaps(placements: Sequence[Placement]) -> None:
    """Refuse files that hold the same voxel, since nobody says which annotation counts."""
    for number, placement in enumerate(placements):
        for other in placements[:number]:
            for one in placement.boxes:
                common = next((both for box in other.boxes if (both := one.intersected(box)).size), None)
                if common is not None:
                    raise SourceError(
                        f"{other.source.address} and {placement.source.address} both hold labels of the voxels "
                        f"{common} (z, y, x) of raw; crop one of them, or correct its `offset`"
                    )
