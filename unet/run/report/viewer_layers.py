"""The layers of the report's viewer: raw, probability, segmentation, truth and errors of a volume, as pictures.

An object of the segmentation has the colour of the true object of which it covers most voxels. The pieces of a split
object therefore look alike, and a line is drawn between them. An object without a true one has a colour of its own.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.config.label_kinds import not_annotated_id
from unet.evaluation.contingency import Contingency, contingency
from unet.evaluation.error_analysis import ErrorFinder, SectionErrorFinder, matched_ids
from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.geometry.offsets import affinity_offsets, is_nearest
from unet.run.report.pictures import ERROR_COLOURS, label_boundary, label_colours
from unet.run.report.tiles import TileLevel
from unet.run.report.webp import as_bytes
from unet.segmentation.foreground import as_probability, channel_of
from unet.storage.zarr_store import Image
from unet.volumes.volume import Volume

COUNTED_PIXELS = 2**26
"""Pixels of the level on which the errors of sections are counted, at most."""
CONTRAST_PX, CONTRAST_SECTIONS = 512, 5
"""Side and number of the crops from which the contrast of a volume is taken."""
LINE = 0.45
"""Brightness of the line between two objects of one colour."""


class VolumeLayers:
    """The layers of one volume.

    Parameters
    ----------
    volume : a volume that is segmented
    levels : its levels, see `unet.run.report.tiles.tile_levels`
    main_class : class whose probability is drawn; None = the last
    scored : whether there is a truth to compare with
    overlap : table of true and predicted ids of the whole volume; None if each object lies in one section
    """

    def __init__(
        self,
        volume: Volume,
        levels: list[TileLevel],
        main_class: str | None,
        scored: bool,
        overlap: Contingency | None = None,
    ) -> None:
        stores = {"raw": "raw", "probability": "probability", "segmentation": "segmentation", "truth": "labels"}
        names = list(stores) if scored else list(stores)[:3]
        self.names = [*names, "errors"] if scored else names
        self._stores = {name: volume.image(stores[name]) for name in names}
        self._draw: dict[str, Callable[[TileLevel, Box], NDArray[np.uint8]]] = {
            **{"raw": self._raw, "probability": self._probability, "segmentation": self._segmentation},
            **{"truth": self._truth, "errors": self._errors},
        }
        self._levels, self._main_class, self._scored, self._overlap = levels, main_class, scored, overlap

    def pictures(self, layer: str, level: TileLevel, box: Box) -> NDArray[np.uint8]:
        """Return a box of pixels of a layer, see `unet.run.report.tiles.Layers`."""
        return self._draw[layer](level, box)

    def _raw(self, level: TileLevel, box: Box) -> NDArray[np.uint8]:
        low, high = self._contrast
        grey = (read_level(self._stores["raw"], level, box)[0].astype(np.float32) - low) / max(high - low, 1e-12)
        return as_bytes(grey)

    def _probability(self, level: TileLevel, box: Box) -> NDArray[np.uint8]:
        return as_bytes(
            as_probability(read_level(self._stores["probability"], level, box)[self._channels]).mean(axis=0)
        )

    def _segmentation(self, level: TileLevel, box: Box) -> NDArray[np.uint8]:
        ids = self._ids("segmentation", level, box)
        return object_colours(ids, matched(ids, *self._matches))

    def _truth(self, level: TileLevel, box: Box) -> NDArray[np.uint8]:
        ids = self._ids("truth", level, box)
        return object_colours(ids, ids)

    def _errors(self, level: TileLevel, box: Box) -> NDArray[np.uint8]:
        truth, segmentation = (self._ids(name, level, box) for name in ("truth", "segmentation"))
        return error_colours(self._finder.errors(truth, segmentation))

    def _ids(self, name: str, level: TileLevel, box: Box) -> NDArray[Any]:
        """Return ids, with 0 where nobody annotated."""
        ids = read_level(self._stores[name], level, box)[0]
        return np.where(ids == not_annotated_id(ids.dtype), 0, ids) if name == "truth" else ids

    @cached_property
    def _contrast(self) -> tuple[float, float]:
        """Return the grey values that are drawn black and white: the 0.5th and the 99.5th percentile of some crops."""
        image = self._stores["raw"]
        depth, *sides = image.shape
        start = [max(0, (n - CONTRAST_PX) // 2) for n in sides]
        crops = []
        for z in np.unique(np.linspace(0, depth - 1, CONTRAST_SECTIONS).astype(int)).tolist():
            box = Box((z, *start), (z + 1, *(lo + CONTRAST_PX for lo in start))).clipped(image.shape)
            crops.append(_with_channels(image.read(box))[0].ravel())
        low, high = np.percentile(np.concatenate(crops), [0.5, 99.5])
        return float(low), float(high)

    @cached_property
    def _channels(self) -> list[int]:
        """Return the channels whose mean is drawn: a class, or the nearest affinities."""
        channels = self._stores["probability"].spec.channels
        offsets = affinity_offsets(channels)
        if offsets is None:
            return [channel_of(self._main_class, channels)]
        return [i for i, offset in enumerate(offsets) if is_nearest(offset)]

    @cached_property
    def _matches(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        return matched_ids(self._table) if self._scored else (np.zeros(0, np.uint64), np.zeros(0, np.uint64))

    @property
    def _table(self) -> Contingency:
        return self._sections[0] if self._overlap is None else self._overlap

    @cached_property
    def _finder(self) -> ErrorFinder | SectionErrorFinder:
        return SectionErrorFinder(*self._sections) if self._overlap is None else ErrorFinder(self._overlap)

    @cached_property
    def _sections(self) -> tuple[Contingency, NDArray[Any], NDArray[Any]]:
        """Count pairs of ids on the finest level that is not too large; return them, and the section of each object."""
        level = next((one for one in self._levels if one.pixels <= COUNTED_PIXELS), self._levels[-1])
        table, section_of = Contingency.empty(), dict[int, int]()
        for box in Grid(level.shape, (1, *level.shape[1:])).boxes():
            truth, segmentation = (self._ids(name, level, box) for name in ("truth", "segmentation"))
            table += (found := contingency(truth, segmentation))
            section_of |= dict.fromkeys(np.unique(found.segmentation).tolist(), box.start[0])
        ids = sorted(section_of)
        return table, np.array(ids, np.uint64), np.array([section_of[one] for one in ids], np.uint64)


def read_level(image: Image, level: TileLevel, box: Box) -> NDArray[Any]:
    """Return the voxels of a box of pixels, ``(channels, z, y, x)``; a section at a time where sections are skipped."""
    wanted = level.voxels(box)
    z, y, x = level.stride
    stored = tuple(-(-n // f) for n, f in zip(image.shape, image.spec.factors[level.level], strict=True))
    if z == 1:
        return _with_channels(image.read(wanted.clipped(stored), level.level))[..., ::y, ::x]
    sections = (
        Box((at, *wanted.start[1:]), (at + 1, *wanted.stop[1:])) for at in range(wanted.start[0], wanted.stop[0], z)
    )
    read = [_with_channels(image.read(one.clipped(stored), level.level)) for one in sections]
    return np.concatenate(read, axis=1)[..., ::y, ::x]


def _with_channels(values: NDArray[Any]) -> NDArray[Any]:
    return values if values.ndim == 4 else values[None]


def matched(ids: NDArray[Any], known: NDArray[Any], partners: NDArray[Any]) -> NDArray[Any]:
    """Return the partner of each id, and the id itself where it has none.

    >>> matched(np.array([5, 6, 0]), np.array([5, 9]), np.array([2, 3])).tolist()
    [2, 6, 0]
    """
    if not len(known):
        return ids
    at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return np.where(known[at] == ids, partners[at], ids)


def object_colours(ids: NDArray[Any], coloured_as: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the colours of objects as RGBA ``(z, y, x, 4)``; nothing is drawn where the id is 0.

    Parameters
    ----------
    ids : (z, y, x), 0 = none
    coloured_as : (z, y, x) ids that give the colours, such as those of matched true objects
    """
    names, index = np.unique(coloured_as, return_inverse=True)
    palette = np.zeros((len(names), 4), np.uint8)
    palette[:, :3], palette[:, 3] = as_bytes(label_colours(names)), 255
    colours = palette[index.reshape(ids.shape)]
    lines = _boundaries(ids) & ~_boundaries(coloured_as)
    colours[lines, :3] = (colours[lines, :3] * LINE).astype(np.uint8)
    colours[ids == 0] = 0
    return colours


def _boundaries(ids: NDArray[Any]) -> NDArray[np.bool_]:
    return np.stack([label_boundary(section) for section in ids])


def error_colours(errors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the bits of `unet.evaluation.error_analysis.error_map` as RGBA ``(..., 4)``; nothing where it is right."""
    palette = np.zeros((len(ERROR_COLOURS), 4), np.uint8)
    palette[1:, :3], palette[1:, 3] = as_bytes(ERROR_COLOURS[1:]), 255
    return palette[errors]
