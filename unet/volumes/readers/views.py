"""Show the voxels of a source in another way: some channels, flipped, cropped, placed in a larger volume, coarser.

Each view is a `Source` over another one. It maps a box of its own voxels to the box of the source below:

```
raw.tif (40, 900, 900)  ->  Flipped, y  ->  Cropped 10:20,0:512,0:512  ->  Downsampled (1, 2, 2)  =  (10, 256, 256)
```
"""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from unet.geometry.box import Box, Index
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.source import MissingChunks, Nm, Source

AXES = "zyx"


class View(Source):
    """A source over another one. Files, states and headers are the files, states and headers of the source below."""

    def __init__(
        self,
        below: Source,
        shape: Sequence[int] | None = None,
        voxel_size_nm: Nm | None = None,
        offset_nm: Nm | None = None,
        channels: int | None = None,
    ) -> None:
        self.below = below
        super().__init__(
            below.address,
            below.files,
            below.shape if shape is None else shape,
            below.dtype,
            voxel_size_nm or below.voxel_size_nm,
            offset_nm or below.offset_nm,
            below.channels if channels is None else channels,
            axes_from=below.axes_from,
            voxel_size_from=below.voxel_size_from,
        )
        self.remarks = below.remarks  # the same list, since `check` of the source below adds to it
        self.chunk = below.chunk and self._chunk_above(below.chunk)
        self.parallel_reads, self.lossy, self.pixel_nm = below.parallel_reads, below.lossy, below.pixel_nm
        self.numbers = below.numbers if self.shape[0] == below.shape[0] else None

    def keep_not_finite(self) -> None:
        """Return NaN and infinity from now on."""
        super().keep_not_finite()
        self.below.keep_not_finite()

    def _chunk_above(self, chunk: Box) -> Box:
        """Return the voxels of a chunk of the source below."""
        return chunk

    @abstractmethod
    def box_below(self, box: Box) -> Box:
        """Return the box of the source below that holds the voxels of a box; it may be empty."""

    def files_of(self, box: Box) -> list[Path]:
        """Return the files that the voxels of a box come from."""
        return self.below.files_of(self.box_below(box))

    def state(self, box: Box) -> list[list[Any]]:
        """Return the state of the files of a box, see `Source.state`."""
        return self.below.state(self.box_below(box))

    def listed(self, box: Box) -> Iterable[list[Any]]:
        """Return the content of `state` in any order."""
        return self.below.listed(self.box_below(box))

    def missing_chunks(self, box: Box) -> list[MissingChunks]:
        """Count the chunks of a box that are not stored."""
        return self.below.missing_chunks(self.box_below(box))

    def probe(self, box: Box) -> None:
        """Read a few voxels at the beginning of a box."""
        self.below.probe(self.box_below(box))

    def check(self, box: Box) -> None:
        """Check the headers of the sections of a box."""
        self.below.check(self.box_below(box))
        self.lossy = self.below.lossy

    def covers(self, box: Box) -> np.ndarray | None:
        """Return which voxels of a box the files hold; None if they hold all of them."""
        return self.below.covers(self.box_below(box))

    def refuse_gaps(self) -> None:
        """Raise where numbers are missing between those of the sections."""
        self.below.refuse_gaps()

    def section_name(self, z: int) -> str:
        """Return the name of section ``z``, for messages."""
        below = self.box_below(Box((z, 0, 0), (z + 1, *self.shape[1:])))
        return self.below.section_name(below.start[0])

    def _read(self, box: Box) -> np.ndarray:
        return self.below.read(self.box_below(box))


class SelectedChannels(View):
    """Some channels of a source, in the order given."""

    def __init__(self, below: Source, channels: Sequence[int]) -> None:
        wrong = [c for c in channels if not 0 <= c < below.channels]
        if wrong:
            raise SourceError(
                f"{below.address}: `channels: {list(channels)}`, but it has {below.channels} channel"
                f"{'s' if below.channels > 1 else ''}, counted from 0; choose 0 to {below.channels - 1}"
            )
        self._selected = list(channels)
        super().__init__(below, channels=len(channels))

    def box_below(self, box: Box) -> Box:
        """Return the same box."""
        return box

    def _read(self, box: Box) -> np.ndarray:
        values = self.below.read(box).reshape(self.below.channels, *box.shape)[self._selected]
        return values if self.channels > 1 else values[0]


class Flipped(View):
    """A source with some axes in the opposite direction."""

    def __init__(self, below: Source, axes: Sequence[str]) -> None:
        self._flipped = tuple(axis in axes for axis in AXES)
        super().__init__(below)
        if self.numbers is not None and "z" in axes:
            self.numbers = self.numbers[::-1]

    def flips(self, axis: str) -> bool:
        """Return whether an axis runs in the opposite direction."""
        return self._flipped[AXES.index(axis)]

    def box_below(self, box: Box) -> Box:
        """Return the box counted from the other end of each flipped axis."""
        ends = zip(box.start, box.stop, self.shape, self._flipped, strict=True)
        pairs = [(n - hi, n - lo) if flipped else (lo, hi) for lo, hi, n, flipped in ends]
        return Box(tuple(lo for lo, _ in pairs), tuple(hi for _, hi in pairs))

    def _chunk_above(self, chunk: Box) -> Box:
        return self.box_below(chunk)  # turned twice is not turned

    def covers(self, box: Box) -> np.ndarray | None:
        """Return which voxels of a box the files hold; None if they hold all of them."""
        found = super().covers(box)
        return None if found is None else self._turned(found)

    def _read(self, box: Box) -> np.ndarray:
        return self._turned(super()._read(box))

    def _turned(self, values: np.ndarray) -> np.ndarray:
        step = tuple(slice(None, None, -1) if flipped else slice(None) for flipped in self._flipped)
        return values[(..., *step)]


class Cropped(View):
    """A box of a source as a source of its own."""

    def __init__(self, below: Source, crop: Box) -> None:
        if not all(0 <= a < b <= n for a, b, n in zip(crop.start, crop.stop, below.shape, strict=True)):
            raise SourceError(
                f"{below.address}: the box {crop} (z, y, x) is not inside its shape {below.shape}; correct "
                "`sections` or `crop`"
            )
        self._crop = crop
        offset = below.offset_nm
        if below.voxel_size_nm is not None:
            begin = zip(offset or (0.0, 0.0, 0.0), crop.start, below.voxel_size_nm, strict=True)
            offset = tuple(nm + start * edge for nm, start, edge in begin)
        super().__init__(below, crop.shape, offset_nm=offset)
        if below.numbers is not None:
            self.numbers = below.numbers[crop.start[0] : crop.stop[0]]

    def box_below(self, box: Box) -> Box:
        """Return the box shifted by the beginning of the crop."""
        return box.shifted(self._crop.start)

    def _chunk_above(self, chunk: Box) -> Box:
        return chunk.relative_to(self._crop.start)


class Placed(View):
    """A source that holds a part of a larger volume. Voxels outside are 0, and `covers` says where they are."""

    def __init__(self, below: Source, at: Index, shape: Index) -> None:
        inside = Box((0,) * 3, below.shape).shifted(at)
        if not all(a >= 0 and b <= n for a, b, n in zip(inside.start, inside.stop, shape, strict=True)):
            raise SourceError(
                f"{below.address}: shape {below.shape} at voxel {tuple(at)} (z, y, x) reaches beyond the volume of "
                f"shape {shape}; correct its `offset`, or crop it"
            )
        self._inside = inside
        super().__init__(below, shape)

    @property
    def inside(self) -> Box:
        """Return the box of the larger volume that the source holds."""
        return self._inside

    def box_below(self, box: Box) -> Box:
        """Return the part of a box that the source holds, in its own voxels."""
        return box.intersected(self._inside).relative_to(self._inside.start)

    def _chunk_above(self, chunk: Box) -> Box:
        return chunk.shifted(self._inside.start)

    def covers(self, box: Box) -> np.ndarray | None:
        """Return which voxels of a box the source holds; None if it holds all of them."""
        if self._inside.contains(box):
            return super().covers(box)
        found = np.zeros(box.shape, bool)
        part = box.intersected(self._inside)
        if part.size:
            below = super().covers(box)
            found[part.relative_to(box.start).slices] = True if below is None else below
        return found

    def _read(self, box: Box) -> np.ndarray:
        part = box.intersected(self._inside)
        values = np.zeros((self.channels, *box.shape), self.dtype)
        if part.size:
            values[(slice(None), *part.relative_to(box.start).slices)] = super()._read(box)
        return values if self.channels > 1 else values[0]


class Downsampled(View):
    """A source with coarser voxels: the mean of intensities, or the most frequent of labels (the smallest of several).

    Voxels at the far faces that do not fill a coarse voxel are left out. The offset is the position of the first coarse
    voxel's centre, as in the levels of a pyramid.
    """

    def __init__(self, below: Source, factors: Index, method: str) -> None:
        shape = tuple(n // f for n, f in zip(below.shape, factors, strict=True))
        if 0 in shape:
            raise SourceError(
                f"{below.address}: shape {below.shape} has no whole voxel left with `downsample: {list(factors)}`; "
                "choose smaller factors"
            )
        self._factors, self._method = factors, method
        voxel_size, offset = below.voxel_size_nm, below.offset_nm
        if voxel_size is not None:
            steps = list(zip(offset or (0.0, 0.0, 0.0), voxel_size, factors, strict=True))
            offset = tuple(nm + (f - 1) / 2 * edge for nm, edge, f in steps)
            voxel_size = tuple(edge * f for _, edge, f in steps)
        super().__init__(below, shape, voxel_size, offset)
        self.pixel_nm = below.pixel_nm and tuple(e * f for e, f in zip(below.pixel_nm, factors[1:], strict=True))

    def box_below(self, box: Box) -> Box:
        """Return the box of the finer voxels."""
        start, stop = (tuple(n * f for n, f in zip(end, self._factors, strict=True)) for end in (box.start, box.stop))
        return Box(start, stop)

    def _chunk_above(self, chunk: Box) -> Box:
        """Return the coarse voxels of a chunk; if it holds no whole number of them, borders are decoded again."""
        start = tuple(lo // f for lo, f in zip(chunk.start, self._factors, strict=True))
        shape = tuple(max(1, c // f) for c, f in zip(chunk.shape, self._factors, strict=True))
        return Box.of_shape(shape).shifted(start)

    def covers(self, box: Box) -> np.ndarray | None:
        """Return which coarse voxels consist only of voxels that the files hold; None if all do."""
        found = super().covers(box)
        return None if found is None else np.asarray(self._grouped(found).all(axis=-1))

    def _read(self, box: Box) -> np.ndarray:
        fine = super()._read(box)
        groups = self._grouped(fine)
        return most_frequent(groups) if self._method == "mode" else mean_as(groups, self.dtype)

    def _grouped(self, fine: np.ndarray) -> np.ndarray:
        """Return the finer voxels of each coarse voxel along a last axis."""
        lead, shape, f = fine.shape[:-3], fine.shape[-3:], self._factors
        split = fine.reshape(*lead, shape[0] // f[0], f[0], shape[1] // f[1], f[1], shape[2] // f[2], f[2])
        n = len(lead)
        moved = np.moveaxis(split, (n + 1, n + 3, n + 5), (-3, -2, -1))
        return moved.reshape(*moved.shape[:-3], prod(f))


def mean_as(groups: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the mean over the last axis in a dtype; for integers rounded to the nearest, halves to the even one.

    >>> mean_as(np.array([[1, 2], [2, 3], [7, 7]], np.uint8), np.dtype("uint8"))
    array([2, 2, 7], dtype=uint8)
    """
    mean = groups.mean(axis=-1, dtype=np.float64)
    return (np.rint(mean) if dtype.kind in "iu" else mean).astype(dtype)


def most_frequent(groups: np.ndarray) -> np.ndarray:
    """Return the most frequent value along the last axis; the smallest of several.

    >>> most_frequent(np.array([[1, 2, 2, 9], [9, 9, 1, 1]]))
    array([2, 1])
    """
    ordered = np.sort(groups, axis=-1)
    best, count, run = ordered[..., 0].copy(), np.ones(ordered.shape[:-1], int), np.ones(ordered.shape[:-1], int)
    for i in range(1, ordered.shape[-1]):
        run = np.where(ordered[..., i] == ordered[..., i - 1], run + 1, 1)
        better = run > count
        best[better], count[better] = ordered[..., i][better], run[better]
    return best


class ZeroOutsideMask(View):
    """Intensities whose NaN and infinity outside a mask read as 0. Inside the mask they are refused.

    Parameters
    ----------
    below : Source
        Intensities.
    mask : Source
        Mask of the same voxels; 0 is outside.
    """

    def __init__(self, below: Source, mask: Source) -> None:
        below.keep_not_finite()
        self._mask = mask
        super().__init__(below)

    def box_below(self, box: Box) -> Box:
        """Return the same box."""
        return box

    def _read(self, box: Box) -> np.ndarray:
        values = self.below.read(box)
        wrong = ~np.isfinite(values)
        if wrong.any():
            values[wrong & (self._mask.read(box) == 0)] = 0
        return values
