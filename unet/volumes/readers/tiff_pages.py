"""Read the pages of a TIFF: their headers, and only the strips or tiles that a box touches.

tifffile sees a page as an array of five axes, `page.shaped`:

```
(planes of samples, depth, rows, columns, samples of a pixel)     of most pages (1, 1, rows, columns, 1)
```

`page.axes` names those longer than 1: S (samples, first or last), Z (depth), Y, X. A strip or tile that was never
written has no bytes. It reads as the fill value, and is counted by `absent_segments`.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
import tifffile

from unet.geometry.box import Box, Index
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.exif_orientation import ORIENTATION, TURNED, turned_remark
from unet.volumes.readers.source import Nm, supported_dtype

COPY_AGAIN = "copy or export it again"
JPEG = (6, 7, 33007, 34892)
"""Kinds of JPEG. It changes values, and strips or tiles share tables that the header holds."""
MAX_TAGS = 4096
"""Most tags of a page. tifffile takes a page with more for damaged."""
MAX_RATIO, SMALL_BYTES = 100_000, 1 << 26
"""Most bytes of pixels per stored byte of a strip of more than 64 MiB. Blank images compress to about 1/30,000."""


@dataclass(frozen=True)
class Section:
    """Header of one section: shape ``(y, x)`` in pixels, dtype, and the volume's voxel size if the file gives it.

    Attributes
    ----------
    zero_is_white : bool
        Whether viewers show the value 0 as white (PhotometricInterpretation 0), so that all they show is a negative.
    remarks : tuple of str
        What the user has to know about how the values are read, without the name of the file.
    decoded : tuple of int, or None
        Pixels `(y, x)` that can only be decoded together, such as a strip; None where a box costs its own pixels alone.
    channels : int
        Samples of a pixel.
    colours : str or None
        Why the section is no image of intensities, if its samples are colours or numbers of colours.
    palette : bytes or None
        Table of colours of which the pixels are numbers.
    lossy : str or None
        Compression that has changed the values.
    orientation : int
        Orientation by TIFF and EXIF, 1 to 8: how viewers turn what is stored. With 1 they show it as it is.
    pixel_nm : tuple of float, or None
        Size ``(y, x)`` of a pixel, if the file does not say how thick the section is.
    size_from : str
        Where the size is from.
    """

    shape: Index
    dtype: np.dtype
    voxel_size_nm: Nm | None = None
    zero_is_white: bool = False
    remarks: tuple[str, ...] = ()
    decoded: Index | None = None
    channels: int = 1
    colours: str | None = None
    palette: bytes | None = None
    lossy: str | None = None
    orientation: int = 1
    pixel_nm: Nm | None = None
    size_from: str = "the file"

    def __str__(self) -> str:
        samples = f", {self.channels} samples each" if self.channels > 1 else ""
        return f"{' x '.join(map(str, self.shape))} pixels of {self.dtype.name}{samples}"


def refuse_difference(section: Section, where: str, first: Section, first_where: str) -> None:
    """Raise where a section differs from the first in size, dtype, orientation, or in the value that is white."""
    if (section.shape, section.dtype, section.channels) != (first.shape, first.dtype, first.channels):
        raise SourceError(
            f"{where}: {section} (y, x), but {first_where}: {first}; every section of a volume has the same size and "
            "dtype: crop, pad or convert"
        )
    if section.palette != first.palette:
        raise SourceError(
            f"{where}: another table of colours than {first_where}, so that one number means two colours; save all "
            "sections with one table, or as RGB"
        )
    if section.zero_is_white != first.zero_is_white:
        raise SourceError(
            f"{where}: {_white(section)}, but {first_where}: {_white(first)}; some sections are negatives of the "
            "others: save all with the same PhotometricInterpretation (Fiji: Edit > Invert, and Image > Lookup "
            "Tables > Invert LUT)"
        )
    if section.orientation != first.orientation:
        raise SourceError(
            f"{where}: orientation {section.orientation}, but {first_where}: {first.orientation}; viewers turn or "
            "mirror some sections and not the others: turn their pixels instead (ImageMagick: mogrify -auto-orient), "
            "or remove the tag"
        )


def _white(section: Section) -> str:
    return f"PhotometricInterpretation {'0, 0 is white' if section.zero_is_white else '1, 0 is black'}"


def page_offsets(tiff: tifffile.TiffFile, where: str) -> list[int]:
    """Return the byte at which each page of the main list begins.

    tifffile drops the pages of a list that breaks off, and can follow a circle for ever.

    Raises
    ------
    SourceError
        If the list is empty, breaks off, or runs in a circle.
    """
    kind, file = tiff.tiff, tiff.filehandle
    offsets: dict[int, int] = {}
    at = 8 if kind.is_bigtiff else 4
    while (offset := _number(file, at, kind.offsetformat)) != 0:
        if offset in offsets:
            raise SourceError(
                f"{where}: damaged, its list of pages runs in a circle, from page {len(offsets) - 1} to page "
                f"{offsets[offset]}; {COPY_AGAIN}"
            )
        tags = _number(file, offset, kind.tagnoformat) if offset is not None else None
        if offset is None or tags is None or not 0 < tags <= MAX_TAGS:
            raise SourceError(f"{where}: cut short, its list of pages breaks off after {len(offsets)}; {COPY_AGAIN}")
        offsets[offset] = len(offsets)
        at = offset + kind.tagnosize + tags * kind.tagsize
    if not offsets:
        raise SourceError(f"{where}: a TIFF without a page; {COPY_AGAIN}")
    return list(offsets)


def _number(file: tifffile.FileHandle, at: int, form: str) -> int | None:
    """Return a whole number that is stored at a byte; None beyond the end of the file."""
    size = struct.calcsize(form)
    if at + size > file.size:
        return None
    file.seek(at)
    return int(struct.unpack(form, file.read(size))[0])


def page_at(tiff: tifffile.TiffFile, offset: int, number: int) -> tifffile.TiffPage:
    """Return the page that begins at a byte, with all its tags."""
    if tiff.pages.first.offset == offset:
        return tiff.pages.first
    tiff.filehandle.seek(offset)
    return tifffile.TiffPage(tiff, number)


def page_section(page: tifffile.TiffPage, where: str, of_lists: bool = True) -> Section:
    """Return the header of a page, after checking that the file can hold its pixels.

    With ``of_lists=False`` the lists of strips and tiles are not checked, since they mean something else.

    Raises
    ------
    SourceError
        If the dtype is not supported, or if strips or tiles are missing in the header or reach beyond the file.
    """
    if page.dtype is None:
        raise SourceError(
            f"{where}: samples of {page.bitspersample} bits (SampleFormat {page.sampleformat}) are not supported; "
            "convert to 8 or 16 bits"
        )
    dtype = supported_dtype(page.dtype, where)
    if min(page.shaped) < 1:
        raise SourceError(f"{where}: an image of {page.imagewidth} x {page.imagelength} pixels; {COPY_AGAIN}")
    if of_lists:
        _check_segments(page, where)
    lossy = "JPEG" if page.compression in JPEG else None
    return Section(
        page.shape, dtype, zero_is_white=_is_zero_white(page), remarks=tuple(_remarks(page)), lossy=lossy,
        orientation=_orientation(page),
    )  # fmt: skip


def _check_segments(page: tifffile.TiffPage, where: str) -> None:
    """Raise if strips or tiles are missing in the header, or reach beyond the end of the file."""
    wanted, found = prod(_grid(page)), min(len(page.dataoffsets), len(page.databytecounts))
    if wanted != found:
        raise SourceError(f"{where}: damaged, it lists {found} of its {wanted} {segment_kind(page)}; {COPY_AGAIN}")
    stored = [(at, n) for at, n in zip(page.dataoffsets, page.databytecounts, strict=False) if n]
    end = max(map(sum, stored), default=0)
    if is_mapped(page):
        end = max(end, page.dataoffsets[0] + page.nbytes)
    size = page.parent.filehandle.size
    if end > size:
        raise SourceError(f"{where}: cut short, pixels reach byte {end} of a file of {size}; {COPY_AGAIN}")
    if stored and (min(at for at, _ in stored) < 8 or min(n for _, n in stored) < 0):
        raise SourceError(f"{where}: damaged, pixels begin in the header of the file; {COPY_AGAIN}")
    decoded, least = _decoded_bytes(page), min((n for _, n in stored), default=0)
    if stored and decoded > max(SMALL_BYTES, MAX_RATIO * least):
        raise SourceError(f"{where}: damaged, {least} stored bytes cannot hold {decoded} bytes of pixels; {COPY_AGAIN}")
    if page.compression == 1 and not page.is_tiled and len(stored) == wanted:
        bits = page.imagewidth * page.shaped[-1] * _bits(page)
        needed = page.shaped[0] * page.shaped[1] * page.imagelength * -(-bits // 8)
        held = sum(n for _, n in stored)
        if held < needed < 2**32:  # 32 bits do not hold the number of bytes of a larger strip
            raise SourceError(f"{where}: cut short, {held} bytes of pixels of {needed}; {COPY_AGAIN}")


def _decoded_bytes(page: tifffile.TiffPage) -> int:
    """Return the bytes of a decoded strip or tile."""
    return prod(_chunk(page)) * page.shaped[-1] * np.dtype(page.dtype).itemsize


def _bits(page: tifffile.TiffPage) -> int:
    return int(np.max(page.bitspersample))


def _remarks(page: tifffile.TiffPage) -> Iterator[str]:
    """Yield what a user has to know who sees the page in a viewer."""
    if _is_zero_white(page):
        yield (
            "0 is white (PhotometricInterpretation 0): the stored values are read, of which viewers show the negative. "
            "Where 255 should be bright, invert the values and the lookup table"
        )
    if page.photometric == 3 and not _is_grey_ramp(page.colormap):
        yield "has a table of colours: the stored numbers are read, not the colours or greys that viewers show"
    if page.dtype != np.bool_ and _bits(page) < 8:
        yield f"samples of {_bits(page)} bits: the values 0 to {2 ** _bits(page) - 1} are read as they are stored"
    yield from turned_remark(_orientation(page))


def _orientation(page: tifffile.TiffPage) -> int:
    stored = page.tags.valueof(ORIENTATION, default=1)
    return stored if isinstance(stored, int) and stored in TURNED else 1


def _is_zero_white(page: tifffile.TiffPage) -> bool:
    """Return whether the page says that 0 is white. tifffile takes a page that says nothing for one that does."""
    return page.photometric == 0 and 262 in page.tags


def _is_grey_ramp(table: np.ndarray | None) -> bool:
    """Return whether a table of colours shows every value as grey, and larger values brighter."""
    if table is None or np.ndim(table) != 2:
        return True
    return bool((table == table[0]).all() and (np.diff(table[0].astype(np.int64)) > 0).all())


def segment_kind(page: tifffile.TiffPage) -> str:
    """Return what the page consists of, for messages."""
    return "tiles" if page.is_tiled else "strips"


def is_mapped(page: tifffile.TiffPage) -> bool:
    """Return whether the pixels lie uncompressed in one piece."""
    return bool(page.is_final and page.dataoffsets[0] and page.databytecounts[0])


def decoded_together(page: tifffile.TiffPage) -> Index | None:
    """Return the shape of a strip or tile along the long axes of a page; None where pixels lie uncompressed."""
    if is_mapped(page):
        return None
    sides = dict(zip("ZYX", _chunk(page)[1:], strict=True))
    return tuple(sides.get(page.axes[i], page.shape[i]) for i in long_axes(page))


def read_page(page: tifffile.TiffPage, selection: Sequence[slice]) -> np.ndarray:
    """Return a selection of the long axes of a page. Only strips or tiles that it touches are read.

    Long axes are y, x, and those longer than 1. Bits become 0 and 255.
    """
    lengths = [s.stop - s.start for s in selection]
    if is_mapped(page):
        return mapped(page, page.dataoffsets[0], page.shape)[_all_axes(page, selection)].reshape(lengths)
    box = _in_five_axes(page, selection)
    out: np.ndarray | None = None
    for number, tile in _segments(page, box):
        if page.databytecounts[number]:
            values = _read_segment(page, number)[None]
            _refuse_short(page, number, tile, values.shape)
            if tile.contains(box):  # one strip, or one tile, holds all of it: no copy is needed
                out = values[box.relative_to(tile.start).slices]
                break
            out = np.full(box.shape, page.nodata, page.dtype) if out is None else out
            common = Box.of_shape(values.shape).shifted(tile.start).intersected(box)
            out[common.relative_to(box.start).slices] = values[common.relative_to(tile.start).slices]
    out = (np.full(box.shape, page.nodata, page.dtype) if out is None else out).reshape(lengths)
    return out if page.dtype != np.bool_ else out * np.uint8(255)


def absent_segments(page: tifffile.TiffPage, selection: Sequence[slice]) -> tuple[int, int]:
    """Return the number of strips or tiles of a selection that were never written, and the number of all of them."""
    numbers = [number for number, _ in _segments(page, _in_five_axes(page, selection))]
    return sum(not page.databytecounts[number] for number in numbers), len(numbers)


def mapped(page: tifffile.TiffPage, offset: int, shape: Sequence[int]) -> np.ndarray:
    """Return uncompressed pixels, mapped from the disk."""
    dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
    return np.memmap(page.parent.filehandle.path, dtype, "r", offset, tuple(shape))


def long_axes(page: tifffile.TiffPage) -> list[int]:
    """Return which axes of a page are y, x, or longer than 1."""
    return [i for i, (n, axis) in enumerate(zip(page.shape, page.axes, strict=True)) if n != 1 or axis in "YX"]


def _all_axes(page: tifffile.TiffPage, selection: Sequence[slice]) -> tuple[slice, ...]:
    """Return a selection of the long axes as one of all axes of a page."""
    of_axis = dict(zip(long_axes(page), selection, strict=True))
    return tuple(of_axis.get(i, slice(0, 1)) for i in range(len(page.shape)))


def _in_five_axes(page: tifffile.TiffPage, selection: Sequence[slice]) -> Box:
    """Return a selection of the axes that `page.axes` names as a box of the five axes of `page.shaped`."""
    named, one = dict(zip(page.axes, _all_axes(page, selection), strict=True)), slice(0, 1)
    planes, samples = (named["S"], one) if page.axes[0] == "S" else (one, named.get("S", one))
    five = (planes, named.get("Z", one), named["Y"], named["X"], samples)
    return Box(tuple(s.start for s in five), tuple(s.stop for s in five))


def _chunk(page: tifffile.TiffPage) -> Index:
    """Return the size of a strip or tile along the first four axes."""
    if page.is_tiled:
        return 1, max(1, page.tiledepth), max(1, page.tilelength), max(1, page.tilewidth)
    return 1, 1, max(1, page.rowsperstrip), page.imagewidth


def _grid(page: tifffile.TiffPage) -> Index:
    """Return the number of strips or tiles along the first four axes."""
    return tuple(-(-n // c) for n, c in zip(page.shaped[:4], _chunk(page), strict=True))


def _segments(page: tifffile.TiffPage, box: Box) -> Iterator[tuple[int, Box]]:
    """Yield number and position (in five axes, inside the image) of each strip or tile that a box touches."""
    chunk, grid = _chunk(page), _grid(page)
    spans = list(zip(box.start, box.stop, chunk, strict=False))
    for at in product(*(range(lo // c, -(-hi // c)) for lo, hi, c in spans)):
        start = tuple(i * c for i, c in zip(at, chunk, strict=True))
        stop = tuple(min(lo + c, n) for lo, c, n in zip(start, chunk, page.shaped, strict=False))
        yield int(np.ravel_multi_index(at, grid)), Box((*start, 0), (*stop, page.shaped[-1]))


def _read_segment(page: tifffile.TiffPage, number: int) -> np.ndarray:
    """Return one decoded strip or tile, (depth, rows, columns, samples)."""
    count, file = page.databytecounts[number], page.parent.filehandle
    file.seek(page.dataoffsets[number])
    encoded = file.read(count)
    tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader} if page.compression in JPEG else {}
    values: Any = page.decode(encoded, number, **tables)[0]
    return values


def _refuse_short(page: tifffile.TiffPage, number: int, tile: Box, shape: Index) -> None:
    """Raise if a strip or tile decodes to fewer pixels than the image has there. tifffile reads the rest as 0."""
    if any(n < wanted for n, wanted in zip(shape, tile.shape, strict=True)):
        raise SourceError(
            f"{page.parent.filehandle.path}, page {page.index}: cut short, {segment_kind(page)[:-1]} {number} holds "
            f"{shape[2]} x {shape[3]} of {tile.shape[2]} x {tile.shape[3]} pixels (y, x); {COPY_AGAIN}"
        )
