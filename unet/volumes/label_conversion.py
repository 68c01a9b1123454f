"""Read labels as people have them, in the one form that the workflow computes with.

1. `ColourIds`: colours become numbers, one per colour.
2. `LabelValues`: whole numbers of any dtype become ids; the values that mean "not annotated" become one number.
3. `Unlabelled`: voxels that the files do not hold become the same number.
4. `class_indices`: the values of `interior` and `classes` become class indices, in rule `ingest`.

```
files           -1   0   7.0  (beyond the file)       ignore_id: -1
labels   4294967295  0   7    4294967295              uint32, see `not_annotated_id`
classes        255   0   1    255                     uint8, see `UNLABELLED`
```

Steps 1 and 2 see single voxels, so any box has the values of the whole volume.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from unet.config.label_kinds import (
    IGNORE,
    UNLABELLED,
    AnnotationError,
    class_map,
    grey_levels,
    interior_classes,
    not_annotated_id,
)
from unet.config.volumes import VolumeConfig
from unet.geometry.box import Box
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.source import Source
from unet.volumes.readers.views import View

Use = Literal["ids", "classes", "segmentation"]
COLOURS = {3: "RGB", 4: "RGBA"}


class ColourIds(View):
    """One number per colour: red x 65536 + green x 256 + blue. Black, and what is transparent, is 0."""

    def __init__(self, below: Source) -> None:
        super().__init__(below, channels=1)
        self.dtype = np.dtype("uint32")
        add_remark(
            self,
            f"{below.address}: {COLOURS[below.channels]} colours are read as one id per colour, red x 65536 + green x "
            "256 + blue; black is 0"
            + ("; what is transparent is 0, too" if below.channels == 4 else "")
            + ". Colours that were blended at edges would be ids of their own. `channels: [0]` reads red alone",
        )

    def box_below(self, box: Box) -> Box:
        """Return the same box."""
        return box

    def _read(self, box: Box) -> np.ndarray:
        samples = self.below.read(box).astype(np.uint32)
        colours = (samples[0] << 16) | (samples[1] << 8) | samples[2]
        return colours if len(samples) == 3 else np.where(samples[3] == 0, np.uint32(0), colours)


class LabelValues(View):
    """Labels as ids of an unsigned dtype, in which the largest number means that nobody annotated the voxel.

    Parameters
    ----------
    below : Source
        Labels of one channel, as they are stored.
    not_annotated : sequence of int
        Stored values that mean that nobody annotated the voxel.
    used_as : str
        `ids` of labels, `classes` (of which negative values are values like others), or ids of a `segmentation`.
    """

    def __init__(self, below: Source, not_annotated: Sequence[int] = (), used_as: Use = "ids") -> None:
        super().__init__(below)
        self._not_annotated, self._used_as = tuple(not_annotated), used_as
        self._stored = below.dtype
        self.dtype = label_dtype(self._stored, used_as)
        if self._stored.kind == "f":
            add_remark(
                self,
                f"{self.address}: labels of {self._stored.name} are read as ids, since they have to be whole numbers",
            )
        self._tell_values_that_cannot_occur()

    def box_below(self, box: Box) -> Box:
        """Return the same box."""
        return box

    def check(self, box: Box) -> None:
        """Check the headers of the sections of a box; any of them may be compressed by JPEG."""
        super().check(box)
        _refuse_lossy(self)

    def probe(self, box: Box) -> None:
        """Read the first voxels of a box, and convert them."""
        Source.probe(self, box)

    def _read(self, box: Box) -> np.ndarray:
        stored = self.below.read(box)
        if stored.dtype.kind == "f":
            self._refuse_fractions(stored, box)
        ignored = np.zeros(stored.shape, bool)
        for value in self._not_annotated:
            ignored |= stored == value  # exact for any integer dtype
        if stored.dtype.kind != "u" and self._used_as != "classes":
            self._refuse_negative(stored, ignored, box)
        ids = stored.astype(self.dtype)
        if np.iinfo(self.dtype).max == _largest(stored.dtype):
            self._refuse_reserved(ids, ignored, box)
        ids[ignored] = not_annotated_id(self.dtype)
        return ids

    def _refuse_fractions(self, stored: np.ndarray, box: Box) -> None:
        wrong = stored != np.rint(stored)
        if wrong.any():
            value, place = self._first(wrong, stored, box)
            raise AnnotationError(
                f"{self.address}: value {value:g} at {place}, but labels are whole numbers ({int(wrong.sum()):,} "
                f"voxels of box {box} are not): these are rather probabilities or interpolated ids; give the ids"
            )
        exact = 2 ** (np.finfo(stored.dtype).nmant + 1)
        wrong = np.abs(stored) > exact
        if wrong.any():
            value, place = self._first(wrong, stored, box)
            raise AnnotationError(
                f"{self.address}: id {value:.0f} at {place}, but {stored.dtype.name} holds each whole number only up "
                f"to {exact}: larger ids are rounded, so that two cells may have become one; write the ids as uint64"
            )

    def _refuse_negative(self, stored: np.ndarray, ignored: np.ndarray, box: Box) -> None:
        wrong = (stored < 0) & ~ignored
        if wrong.any():
            _, place = self._first(wrong, stored, box)
            values, counts = np.unique(stored[wrong], return_counts=True)
            found = ", ".join(f"{v:.0f} ({n:,} times)" for v, n in zip(values[:5], counts[:5], strict=True))
            raise AnnotationError(
                f"{self.address}: negative labels in box {box}: {found}; the first at {place}. If they mean that "
                f"nobody annotated the voxel, {self._advice([int(v) for v in values[:5]])}; else correct the file",
                [int(v) for v in values],
            )

    def _refuse_reserved(self, ids: np.ndarray, ignored: np.ndarray, box: Box) -> None:
        """Refuse an id that would be taken for "not annotated", although nobody said so."""
        reserved = not_annotated_id(self.dtype)
        wrong = (ids == reserved) & ~ignored
        if wrong.any():
            _, place = self._first(wrong, ids, box)
            raise AnnotationError(
                f"{self.address}: value {reserved} at {place}, {int(wrong.sum()):,} times in box {box}. It stands for "
                f"voxels that nobody annotated: if it means that here, {self._advice([reserved])}; else give these "
                "voxels another id",
                [reserved],
            )

    def _advice(self, values: Sequence[int]) -> str:
        """Return what the user has to write where values mean "not annotated"."""
        if self._used_as == "segmentation":
            return "write 0 there, which says nothing about a voxel"
        if self._used_as == "classes":
            return f"list {', '.join(map(str, values))} in `class_values` under `{IGNORE}`"
        every = [*self._not_annotated, *values]
        return f"write `ignore_id: {every[0] if len(every) == 1 else every}` at this volume"

    def _first(self, wrong: np.ndarray, values: np.ndarray, box: Box) -> tuple[float, str]:
        at = np.unravel_index(int(wrong.argmax()), wrong.shape)
        z, y, x = (int(i) + lo for i, lo in zip(at, box.start, strict=True))
        return values[at], f"(z, y, x) = ({z}, {y}, {x}) ({self.section_name(z)})"

    def _tell_values_that_cannot_occur(self) -> None:
        """Tell listed values that the stored dtype cannot hold, such as -1 in an unsigned one."""
        if self._stored.kind == "f":
            return
        low, high = int(np.iinfo(self._stored).min), int(np.iinfo(self._stored).max)
        for value in self._not_annotated:
            if not low <= value <= high:
                became = f"; stored as {self._stored.name}, {value} has become {value % (high + 1)}"
                add_remark(
                    self,
                    f'{self.address}: {value} is to mean "not annotated", but labels of {self._stored.name} cannot '
                    f"hold it{became if value < 0 and self._stored.kind == 'u' else ''}",
                )


def _largest(dtype: np.dtype) -> int:
    return int(np.iinfo(dtype).max) if dtype.kind in "iu" else 0


class Unlabelled(View):
    """Labels in which the voxels that the files do not hold have the number for "not annotated"."""

    def box_below(self, box: Box) -> Box:
        """Return the same box."""
        return box

    def _read(self, box: Box) -> np.ndarray:
        values, held = self.below.read(box), self.below.covers(box)
        if held is not None:
            values[~held] = not_annotated_id(self.dtype)
        return values


def label_dtype(stored: np.dtype, used_as: Use = "ids") -> np.dtype:
    """Return the dtype of the ids of labels. It follows from the stored dtype, so all blocks have the same one.

    >>> [label_dtype(np.dtype(one)).name for one in ("uint8", "int32", "int64", "float32", "float64")]
    ['uint32', 'uint32', 'uint64', 'uint32', 'uint64']
    """
    if used_as == "classes" and stored.kind in "if":
        return np.dtype("int64")
    return np.dtype("uint64" if stored.itemsize == 8 else "uint32")


def add_remark(source: Source, remark: str) -> None:
    """Add a remark to a source, unless it has the same remark."""
    if remark not in source.remarks:
        source.remarks.append(remark)


def label_values(source: Source, volume: VolumeConfig) -> Source:
    """Return the labels of one source of a volume with the values that its stores hold; not yet placed in the volume.

    Raises
    ------
    SourceError
        If the source has several channels that are no colours.
    """
    ids = one_value_per_voxel(source)
    if volume.label_kind == "classes":
        return LabelValues(ids, volume.grey_values_of_class.get(IGNORE, []), "classes")
    return LabelValues(ids, volume.not_annotated_values)


def one_value_per_voxel(source: Source) -> Source:
    """Return a source of one channel: as it is, or colours as one number each.

    Raises
    ------
    SourceError
        If the source has several channels that are no colours, or if its compression has changed the values.
    """
    _refuse_lossy(source)
    if source.channels == 1:
        return source
    if source.channels in COLOURS and source.dtype == np.uint8:
        return ColourIds(source)
    raise SourceError(
        f"{source.address}: {source.channels} channels of {source.dtype.name}, but labels and masks have one value per "
        "voxel; choose one with `channels: [0]` at this source"
    )


def _refuse_lossy(source: Source) -> None:
    if source.lossy is not None:
        raise SourceError(
            f"{source.address}: compressed by {source.lossy}, which changes values: ids and edges are not those that "
            "were drawn. Save the labels once more from the program in which they were drawn, as PNG, or as TIFF "
            f"(LZW or Deflate); a conversion of these files would keep the errors of {source.lossy}"
        )


def class_indices(values: np.ndarray, volume: VolumeConfig, where: str) -> np.ndarray:
    """Return the class index of each voxel of labels of kind `interior` or `classes`; 255 where nobody annotated.

    Parameters
    ----------
    values : numpy.ndarray
        ``(z, y, x)``, integers, see `LabelValues`.
    volume : VolumeConfig
        Says what the values mean.
    where : str
        The file and the box, for messages.

    Raises
    ------
    AnnotationError
        If a value is not allowed; see `interior_classes` and `class_map`.
    """
    known = values != not_annotated_id(values.dtype)
    classes = np.full(values.shape, UNLABELLED, np.uint8)
    if volume.label_kind == "interior":
        classes[known] = interior_classes(values[known], where)
    else:
        classes[known] = class_map(values[known], volume.grey_values_of_class, where)
    return classes


def grey_level_counts(values: np.ndarray, where: str) -> dict[str, int]:
    """Return the voxels of each value of `interior` labels, without voxels that nobody annotated.

    Two blocks may hold one allowed value each, but together one too many. The values of all blocks are compared later.
    """
    annotated = values[values != not_annotated_id(values.dtype)]
    return {str(level): int(np.count_nonzero(annotated == level)) for level in grey_levels(annotated, where)}
