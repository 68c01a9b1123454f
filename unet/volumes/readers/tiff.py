"""Read TIFF: stacks of one page per section, ImageJ stacks of one page, and single sections.

Values are read as they are stored. Colour tables (which ImageJ saves with labels) and the flag that 0 is white are
ignored. Images of 1 bit are read as 0 and 255.
"""

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from unet.geometry.box import Box, Index
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.formats import Format
from unet.volumes.readers.source import Nm, Source, supported_dtype

NM_PER_UNIT = {
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1.0),
    **dict.fromkeys(("um", "µm", "μm", r"\u00b5m", "micron", "microns", "micrometer", "micrometre"), 1e3),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e6),
    **dict.fromkeys(("å", "a", "angstrom", "ångström"), 0.1),
}
PLAUSIBLE_NM = (0.01, 1e6)
TO_GREY = "convert it to one grey channel; for labels, one grey value per class (`class_values`) or per instance"


@dataclass(frozen=True)
class Section:
    """Header of one section: shape ``(y, x)`` in pixels, dtype, and the volume's voxel size if the file gives it.

    `decoded_whole` says whether a part of the section cannot be decoded for itself.
    """

    shape: Index
    dtype: np.dtype
    voxel_size_nm: Nm | None = None
    decoded_whole: bool = False

    def __str__(self) -> str:
        return f"{self.shape[0]} x {self.shape[1]} pixels of {self.dtype.name}"


def refuse_difference(section: Section, where: str, first: Section, first_where: str) -> None:
    """Raise where a section differs from the first in size or dtype."""
    if (section.shape, section.dtype) != (first.shape, first.dtype):
        raise SourceError(
            f"{where}: {section} (y, x), but {first_where}: {first}; every section of a volume has the same size and "
            "dtype: crop, pad or convert"
        )


@contextmanager
def opened_tiff(path: Path) -> Iterator[tifffile.TiffFile]:
    """Open a TIFF, after checking that it has a page and that its list of pages is complete."""
    with read_errors(path, "TIFF"), tifffile.TiffFile(path) as tiff:
        pages = len(tiff.pages)
        if pages == 0 or _next_page_offset(tiff) != 0:
            raise SourceError(f"{path}: cut short, its list of pages breaks off after {pages}; copy or export it again")
        yield tiff


def _page(tiff: tifffile.TiffFile, z: int) -> tifffile.TiffPage:
    """Return a page with all its tags."""
    page = tiff.pages[z]
    assert isinstance(page, tifffile.TiffPage)  # frames, which share tags, come on demand only
    return page


def _next_page_offset(tiff: tifffile.TiffFile) -> int:
    """Return the offset of the page after the last: 0 in a complete file. tifffile drops truncated pages silently."""
    kind, file = tiff.tiff, tiff.filehandle
    offset = tiff.pages[-1].offset
    file.seek(offset)
    (tags,) = struct.unpack(kind.tagnoformat, file.read(kind.tagnosize))
    file.seek(offset + kind.tagnosize + tags * kind.tagsize)
    return struct.unpack(kind.offsetformat, file.read(kind.offsetsize))[0]


def _page_section(page: tifffile.TiffPage, where: str) -> Section:
    """Return the header of one page, after checking that all its strips or tiles lie inside the file."""
    if page.samplesperpixel != 1 or page.photometric not in (0, 1, 3) or len(page.shape) != 2:
        kind = getattr(page.photometric, "name", page.photometric)
        raise SourceError(f"{where}: {kind} image of shape {page.shape} and not grey; {TO_GREY}")
    if page.dtype is None:
        raise SourceError(f"{where}: samples of {page.bitspersample} bits are not supported; convert to 8 or 16 bits")
    size = page.parent.filehandle.size
    end = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
    if end > size:
        raise SourceError(f"{where}: cut short, pixels reach byte {end} of a file of {size}; copy or export it again")
    # compressed strips are as wide as the section
    decoded_whole = page.compression != 1 and page.chunks[-1] >= page.shape[-1]
    return Section(tuple(page.shape), supported_dtype(page.dtype, where), decoded_whole=decoded_whole)


def _read_page(page: tifffile.TiffPage, box: Box) -> np.ndarray:
    """Return the pixels ``(y, x)`` of a box. Only the strips or tiles that the box touches are read."""
    if page.is_final:
        return _mapped(page, page.dataoffsets[0], page.shape)[box.slices]
    out = np.zeros(box.shape, page.dtype)
    touched = (range(lo // c, -(-hi // c)) for lo, hi, c in zip(box.start, box.stop, page.chunks, strict=True))
    for row, column in product(*touched):
        tile = _read_segment(page, row * page.chunked[1] + column)
        start = (row * page.chunks[0], column * page.chunks[1])
        common = Box.of_shape(tile.shape).shifted(start).intersected(box)
        out[common.relative_to(box.start).slices] = tile[common.relative_to(start).slices]
    return out if page.dtype != np.bool_ else out * np.uint8(255)


def _read_segment(page: tifffile.TiffPage, index: int) -> np.ndarray:
    """Return one decoded strip or tile, ``(y, x)``."""
    file = page.parent.filehandle
    file.seek(page.dataoffsets[index])
    encoded = file.read(page.databytecounts[index])
    tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader} if page.compression in (6, 7) else {}
    data, _, (_, rows, columns, _) = page.decode(encoded or None, index, **tables)
    return np.full((rows, columns), page.nodata) if data is None else data.reshape(data.shape[1:3])


def _mapped(page: tifffile.TiffPage, offset: int, shape: Sequence[int]) -> np.ndarray:
    """Return uncompressed pixels, mapped from the disk."""
    dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
    return np.memmap(page.parent.filehandle.path, dtype, "r", offset, tuple(shape))


def tiff_section(path: Path) -> Section:
    """Return the header of a TIFF of one page."""
    with opened_tiff(path) as tiff:
        count, _ = _sections(tiff, path)
        if count != 1:
            raise SourceError(
                f"{path}: {count} pages, but a file of a directory of sections has 1 page; give the stack itself as "
                "the address, or split it"
            )
        section = _page_section(_page(tiff, 0), str(path))
        return replace(section, voxel_size_nm=tiff_voxel_size_nm(tiff))


def tiff_crop(path: Path, box: Box) -> np.ndarray:
    """Return the pixels of a box ``(y, x)`` of a TIFF of one page."""
    with opened_tiff(path) as tiff:
        return _read_page(_page(tiff, 0), box)


class TiffStack(Source):
    """A TIFF or BigTIFF of one page per section, or an ImageJ stack of one page that holds all sections."""

    parallel_reads = True

    def __init__(self, address: str, path: Path) -> None:
        self._path = path
        with opened_tiff(path) as tiff:
            self._first = _page_section(_page(tiff, 0), f"{path}, page 0")
            count, self._begin = _sections(tiff, path)
            shape = (count, *self._first.shape)
            super().__init__(address, [path], shape, self._first.dtype, tiff_voxel_size_nm(tiff))
            self.whole_sections = self._first.decoded_whole

    def section_name(self, z: int) -> str:
        """Return the file and the page of a section."""
        return f"{self._path}, page {z} (the first is 0)"

    def check(self, box: Box) -> None:
        """Check that the pages of a box have the size and dtype of the first, and that their pixels lie in the file."""
        with opened_tiff(self._path) as tiff:
            for z in range(box.start[0], min(box.stop[0], len(tiff.pages))):
                self._checked(tiff, z)

    def _read(self, box: Box) -> np.ndarray:
        in_section = Box(box.start[1:], box.stop[1:])
        with opened_tiff(self._path) as tiff:
            if self._begin is not None:
                return _mapped(_page(tiff, 0), self._begin, self.shape)[box.slices]
            out = np.empty(box.shape, self.dtype)
            for i, z in enumerate(range(box.start[0], box.stop[0])):
                page = self._checked(tiff, z)
                with read_errors(self.section_name(z), "TIFF"):
                    out[i] = _read_page(page, in_section)
            return out

    def _checked(self, tiff: tifffile.TiffFile, z: int) -> tifffile.TiffPage:
        page, where = _page(tiff, z), self.section_name(z)
        refuse_difference(_page_section(page, where), where, self._first, "page 0")
        return page


def _sections(tiff: tifffile.TiffFile, path: Path) -> tuple[int, int | None]:
    """Return the number of sections, and the byte where they begin if all lie uncompressed in one piece, else None."""
    series, page = tiff.series[0], _page(tiff, 0)
    long = {axis: n for axis, n in zip(series.axes, series.shape, strict=True) if axis not in "YX" and n > 1}
    if len(long) > 1 or "C" in long:
        raise SourceError(f"{path}: axes {series.axes} of lengths {series.shape}; export one channel and time point")
    if len(tiff.series) > 1 or series.dataoffset is None or not page.is_final:
        return len(tiff.pages), None
    end = series.dataoffset + series.nbytes
    if end > tiff.filehandle.size:
        raise SourceError(
            f"{path}: cut short, {series.shape} pixels of {series.dtype} reach byte {end} of a file of "
            f"{tiff.filehandle.size}; copy or export it again"
        )
    return prod(long.values()), series.dataoffset


def tiff_voxel_size_nm(tiff: tifffile.TiffFile) -> Nm | None:
    """Return ``(z, y, x)`` in nm from OME-XML or ImageJ metadata; None if one of the three is absent or implausible."""
    found = _ome_voxel_size_nm(tiff.ome_metadata) if tiff.is_ome else _imagej_voxel_size_nm(tiff)
    low, high = PLAUSIBLE_NM
    return found if found and all(low <= n <= high for n in found) else None


def _ome_voxel_size_nm(xml: str | None) -> Nm | None:
    """Return the PhysicalSize of the first image in nm. The default unit is micrometre (OME-XML 2016-06)."""
    pixels = next((e for e in ElementTree.fromstring(xml or "<none/>").iter() if e.tag.endswith("}Pixels")), None)
    if pixels is None:
        return None
    sizes = [float(pixels.get(f"PhysicalSize{axis}", 0)) for axis in "ZYX"]
    units = [NM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm").lower(), 0.0) for axis in "ZYX"]
    return tuple(size * unit for size, unit in zip(sizes, units, strict=True))


def _imagej_voxel_size_nm(tiff: tifffile.TiffFile) -> Nm | None:
    """Return the voxel size from `spacing` between sections and from the resolution tags, in pixels per `unit`."""
    metadata: dict[str, Any] = tiff.imagej_metadata or {}
    unit = NM_PER_UNIT.get(str(metadata.get("unit", "")).lower())
    tags = _page(tiff, 0).tags
    rationals = [tags[name].value for name in ("YResolution", "XResolution") if name in tags]
    if unit is None or "spacing" not in metadata or len(rationals) != 2 or 0 in np.ravel(rationals):
        return None
    y, x = (denominator / numerator for numerator, denominator in rationals)
    return float(metadata["spacing"]) * unit, y * unit, x * unit


FORMAT = Format(
    name="TIFF",
    suffixes=(".tif", ".tiff"),
    open=lambda given, path, inner: TiffStack(given.path, Path(path)),
    axes="ImageJ, OME-XML",
    voxel_size="OME-XML; ImageJ spacing and unit",
    writers="tifffile",
)
