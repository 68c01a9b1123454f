"""Read TIFF: one image of a stack or of a set of files, and single sections.

Values are read as they are stored, and images of 1 bit as 0 and 255. Where viewers show other values (0 is white, a
table of colours, few bits), a remark says so. Uncompressed voxels are mapped from the disk.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import lru_cache
from math import isfinite, prod
from pathlib import Path

import numpy as np
import tifffile

from unet.config.source import SourceConfig
from unet.geometry.box import Box, Index
from unet.storage.local_folder import FileState, file_state
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.exif_orientation import ORIENTATION
from unet.volumes.readers.formats import Format
from unet.volumes.readers.source import ArraySource, MissingChunks, pixel_remark
from unet.volumes.readers.tiff_axes import channel_remarks, colours_of, order_of_axes
from unet.volumes.readers.tiff_claims import companion_xml
from unet.volumes.readers.tiff_metadata import SIGNED, stated_size, value_calibration
from unet.volumes.readers.tiff_pages import (
    JPEG,
    Section,
    absent_segments,
    decoded_together,
    is_mapped,
    long_axes,
    mapped,
    page_at,
    page_section,
    read_page,
    refuse_difference,
    segment_kind,
)
from unet.volumes.readers.tiff_series import find_series

MANY_FILES = 4096
"""Headers of section files that are kept."""


@contextmanager
def opened_tiff(path: Path) -> Iterator[tifffile.TiffFile]:
    """Open a TIFF, with the OME-XML of its companion file if it names one."""
    with read_errors(path, "TIFF"), ExitStack() as stack:
        tiff = stack.enter_context(tifffile.TiffFile(path))
        try:
            first = tiff.pages.first
        except IndexError:
            raise SourceError(f"{path}: cut short, it has no page; copy or export it again") from None
        if xml := first.is_ome and companion_xml(tiff, path):
            tiff = stack.enter_context(tifffile.TiffFile(path, omexml=xml))
        yield tiff


def tiff_section(path: Path) -> Section:
    """Return the header of a TIFF of one section."""
    stack = _one_section(path)
    first, decoded = stack.first, stack.chunk.shape[1:] if stack.chunk else None
    return Section(
        stack.shape[1:], stack.dtype, stack.voxel_size_nm, first.zero_is_white, first.remarks, decoded,
        stack.channels, stack.colours, lossy=stack.lossy, orientation=first.orientation,
        pixel_nm=stack.pixel_nm, size_from=stack.voxel_size_from,
    )  # fmt: skip


def tiff_crop(path: Path, box: Box) -> np.ndarray:
    """Return the pixels of a box ``(y, x)`` of a TIFF of one section, colours first."""
    return _one_section(path)._read(Box((0, *box.start), (1, *box.stop)))[..., 0, :, :]


def _one_section(path: Path) -> "TiffStack":
    with read_errors(path, "TIFF"):
        state = path.stat()
    return _section_of_state(path, state.st_size, state.st_mtime_ns)


@lru_cache(MANY_FILES)
def _section_of_state(path: Path, size: int, time_ns: int) -> "TiffStack":
    """Return the source of a file of one section. It is kept, since every block of a layer needs it again."""
    stack = TiffStack(SourceConfig(path=str(path)), path)
    if stack.shape[0] != 1 or (stack.channels != 1 and stack.colours is None):
        held = f"{stack.shape[0]} pages" if stack.channels == 1 else f"{stack.channels} channels"
        raise SourceError(
            f"{path}: {held}, but a file of a directory of sections has 1 page; give the stack itself as the address, "
            "or split it"
        )
    return stack


class TiffStack(ArraySource):
    """One image of a TIFF or BigTIFF, or of a set of OME-TIFF or Micro-Manager files.

    Attributes
    ----------
    series : StoredSeries
        Where its planes lie.
    first : Section
        Header of its first plane, of which `shape` has the axes of a page.
    """

    format_name = "TIFF"
    parallel_reads = True

    def __init__(self, given: SourceConfig, path: Path, inner: str | None = None) -> None:
        self._path = path
        self._complete: set[int] = set()  # planes that `check` found to have all strips or tiles
        self._in_one_piece: dict[int, tuple[FileState, np.dtype, int, Index]] = {}  # planes that were read
        with opened_tiff(path) as tiff:
            self.series = series = find_series(tiff, path, _series_number(inner, given.path), given.axes)
            with ExitStack() as stack:
                files = _OpenFiles(series.files, stack, tiff)
                page = self._page(files, 0) if not series.by_tifffile else tiff.series[series.number].keyframe
                self.first = page_section(page, self.plane_name(0), of_lists=not series.by_tifffile)
            colours = colours_of(page, series, given.path) if given.axes is None else None
            order = order_of_axes(series, given)
            size = stated_size(tiff, series.number, series.count)
            of_page = series.shape[len(series.outer) :] if series.by_tifffile else decoded_together(page)
            calibration = value_calibration(tiff)
        self._is_signed = calibration == SIGNED and self.first.dtype == np.uint16
        known = size.voxel_size(str(path)) if size else None
        remarks = [
            f"{path}: {remark}"
            for remark in (*series.remarks, *self.first.remarks, *([] if colours else channel_remarks(series, order)))
        ]
        if calibration is not None:
            remarks.append(f"{path}: {_calibration_remark(calibration, self._is_signed)}")
        pixel = size.pixel_nm if size and known is None else None
        if size and pixel is not None:
            remarks.append(pixel_remark(str(path), pixel, size.origin))
        super().__init__(
            given.path,
            series.files,
            order,
            np.int16 if self._is_signed else self.first.dtype,
            voxel_size_nm=known,
            voxel_size_from=size.origin if size and (known or pixel) else "the file",
            remarks=remarks,
            where=path,
        )
        self.colours, self.lossy, self.pixel_nm = colours, self.first.lossy, pixel
        if of_page is not None and series.begin is None:
            self.decode_in(order.chunk((*(1 for _ in series.outer), *of_page)))

    def plane_name(self, plane: int) -> str:
        """Return the file and the page of a plane, for messages."""
        file, _, page = self.series.planes[plane if self.series.begin is None else 0]
        return f"{self.series.files[file]}, page {page if self.series.begin is None else plane} (the first is 0)"

    def section_name(self, z: int) -> str:
        """Return the file and the page of a section."""
        box = Box((z, 0, 0), (z + 1, 1, 1))
        return self.plane_name(next(self._planes(self.order.selection(box)), (0, ()))[0])

    def check(self, box: Box) -> None:
        """Check that the pages of a box are like the first, and that their strips or tiles lie in the file."""
        if self.series.begin is None and not self.series.by_tifffile:
            with read_errors(self._path, "TIFF"), self._files() as files:
                for plane, _ in self._planes(self.order.selection(box)):
                    page = self._checked(files, plane)
                    if all(page.databytecounts):
                        self._complete.add(plane)
                    if page.compression in JPEG:
                        self.lossy = "JPEG"

    def missing_chunks(self, box: Box) -> list[MissingChunks]:
        """Count the strips or tiles of a box that were never written, as in sparse files of GDAL."""
        if self.series.begin is not None or self.series.by_tifffile:
            return []
        selection = self.order.selection(box)
        if all(plane in self._complete for plane, _ in self._planes(selection)):
            return []
        with read_errors(self._path, "TIFF"), self._files() as files:
            pages = (self._page(files, plane) for plane, _ in self._planes(selection))
            counted = [absent_segments(page, self._in_page(selection)) for page in pages]
            page = self._page(files, 0)
            missing, count = (sum(numbers) for numbers in zip(*counted, strict=True))
            return [MissingChunks(self.address, missing, count, float(page.nodata), segment_kind(page))]

    def _read(self, box: Box) -> np.ndarray:
        values = super()._read(box)
        return (values.astype("=u2") ^ np.uint16(1 << 15)).view(np.int16) if self._is_signed else values

    def _read_stored(self, selection: tuple[slice, ...]) -> np.ndarray:
        series = self.series
        with self._files() as files:
            if series.by_tifffile:
                return self._read_by_tifffile(selection)
            out = np.empty([s.stop - s.start for s in selection], self.dtype)
            if series.begin is not None:
                # plane by plane, since the system maps more than is read, and counts it as memory of the process
                first, shape = self._page(files, 0), series.shape[len(series.outer) :]
                size = prod(shape) * np.dtype(first.dtype).itemsize
                for plane, at in self._planes(selection):
                    out[at] = mapped(first, series.begin + plane * size, shape)[self._in_page(selection)]
                return out
            planes = list(self._planes(selection))
            for plane, at in planes:
                with read_errors(self.plane_name(plane), "TIFF"):
                    if len(planes) == 1:  # a copy would take a tenth of the time of decoding
                        return self._read_plane(files, plane, self._in_page(selection)).reshape(out.shape)
                    out[at] = self._read_plane(files, plane, self._in_page(selection))
            return out

    def _read_plane(self, files: "_OpenFiles", plane: int, selection: tuple[slice, ...]) -> np.ndarray:
        """Return a selection of a plane. Where uncompressed pixels lie is kept as long as the file does not change.

        To find it takes tifffile longer than to copy the pixels of a block.
        """
        path = self.series.files[int(self.series.planes[plane][0])]
        known, state = self._in_one_piece.get(plane), file_state(path)
        if known is not None and known[0] == state:
            return np.memmap(path, known[1], "r", *known[2:])[selection]
        page = self._checked(files, plane)
        if is_mapped(page) and long_axes(page) == list(range(len(page.shape))):
            dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
            self._in_one_piece[plane] = state, dtype, page.dataoffsets[0], page.shape
        return read_page(page, selection)

    def _read_by_tifffile(self, selection: tuple[slice, ...]) -> np.ndarray:
        """Return a selection of a format whose planes tifffile alone knows to find. It decodes whole planes."""
        out = np.empty([s.stop - s.start for s in selection], self.dtype)
        with opened_tiff(self._path) as tiff:
            found = tiff.series[self.series.number]
            for plane, at in self._planes(selection):
                page = found[plane]
                if page is None:
                    raise SourceError(f"{self.plane_name(plane)}: is missing in the file; copy or export it again")
                handle = page.parent.filehandle
                closed = handle.closed
                if closed:
                    handle.open()
                shape = self.series.shape[len(self.series.outer) :]
                out[at] = page.asarray().reshape(shape)[self._in_page(selection)]
                if closed:
                    handle.close()
        return out

    def _planes(self, selection: Sequence[slice]) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yield the planes of a selection, each with its position in the selection."""
        outer = self.series.outer
        ranges = [range(s.start, s.stop) for s in selection[: len(outer)]]
        for at in np.ndindex(*map(len, ranges)):
            index = [r[i] for r, i in zip(ranges, at, strict=True)]
            yield int(np.ravel_multi_index(index, outer)) if outer else 0, at

    def _in_page(self, selection: Sequence[slice]) -> tuple[slice, ...]:
        return tuple(selection[len(self.series.outer) :])

    @contextmanager
    def _files(self) -> Iterator["_OpenFiles"]:
        """Keep the files open that are read from."""
        with ExitStack() as stack:
            yield _OpenFiles(self.series.files, stack)

    def _page(self, files: "_OpenFiles", plane: int) -> tifffile.TiffPage:
        file, offset, number = map(int, self.series.planes[plane])
        return page_at(files.opened(file), offset, number)

    def _checked(self, files: "_OpenFiles", plane: int) -> tifffile.TiffPage:
        page, where = self._page(files, plane), self.plane_name(plane)
        section = page_section(page, where)
        if ORIENTATION not in page.tags:  # some writers give it to the first page alone
            section = replace(section, orientation=self.first.orientation)
        refuse_difference(section, where, self.first, f"page {self.series.planes[0][2]}")
        return page


def _calibration_remark(calibration: tuple[float, float], is_signed: bool) -> str:
    """Return what a user has to know of values that ImageJ shows otherwise than they are stored."""
    if is_signed:
        return "ImageJ's description says that its values are signed: 32768 is subtracted from the stored ones"
    c0, c1 = calibration
    shown = f"{c0:g} + {c1:g} x the stored values" if isfinite(c1) else "values by a curve"
    return f"ImageJ's description says to show {shown}; the stored ones are read"


class _OpenFiles:
    """The files of a series, each opened when it is first asked for, and closed with a stack."""

    def __init__(self, paths: Sequence[Path], stack: ExitStack, first: tifffile.TiffFile | None = None) -> None:
        self._paths, self._stack = paths, stack
        self._open = {0: first} if first is not None else {}

    def opened(self, number: int) -> tifffile.TiffFile:
        if number not in self._open:
            self._open[number] = self._stack.enter_context(tifffile.TiffFile(self._paths[number]))
        return self._open[number]


def _series_number(inner: str | None, address: str) -> int | None:
    """Return the number of an image in an address such as `file.ome.tif:1`; None if there is none."""
    if inner is not None and not inner.isdecimal():
        raise SourceError(
            f"{address}: in a TIFF only the number of an image can be named, as in `file.ome.tif:1` (the first is 0): "
            f"there is no {inner} inside; leave out :{inner}"
        )
    return None if inner is None else int(inner)


FORMAT = Format(
    name="TIFF",
    suffixes=(".tif", ".tiff"),
    open=lambda given, path, inner: TiffStack(given, Path(path), inner),
    has_inner=True,
    axes="OME-XML, ImageJ, Micro-Manager, tifffile; else the pages are sections",
    voxel_size="OME-XML; ImageJ spacing and unit; Micro-Manager; Zeiss LSM",
    writers="tifffile",
)
