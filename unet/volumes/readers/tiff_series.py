"""Find the images in a TIFF, and where the planes of one of them lie.

1. The list of pages is followed to its end; one that breaks off or runs in a circle is refused.
2. A file that describes its images (tifffile's shape, OME-XML, ImageJ, Micro-Manager, LSM, NDTiff ...) is read as
   tifffile understands the description. A description that does not fit the pages is refused: tifffile would show
   what is missing as 0.
3. The pages of any other file are the sections of one image, if all have the same size and dtype.
4. Several images are refused with a list. `file.tif:1` chooses one. Smaller copies (pyramid levels) are no images.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from unet.geometry.box import Index
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.tiff_claims import check_claims, missing_planes, shaped_metadata
from unet.volumes.readers.tiff_pages import COPY_AGAIN, is_mapped, long_axes, page_at, page_offsets

NAMES = {
    "shaped": "the description of tifffile",
    "ome": "OME-XML",
    "imagej": "ImageJ's description",
    "mmstack": "Micro-Manager's index",
    "ndtiff": "NDTiff.index",
    "lsm": "the tags of Zeiss LSM",
}
"""Descriptions whose files are never read as mere lists of pages."""
DESCRIBED = (*NAMES, "fluoview", "stk", "sis", "svs", "scn", "qpi", "ndpi", "bif", "avs", "eer", "philips", "scanimage")
BY_OFFSET = ("shaped", "ome", "imagej", "mmstack", "uniform", "generic", "sis")
"""Kinds of series of tifffile whose planes are pages that begin at a known byte of a file."""


@dataclass(frozen=True, eq=False)
class StoredSeries:
    """One image of a TIFF.

    Attributes
    ----------
    kind : str
        Who describes it, in the words of tifffile; "pages" if it is a list of pages without a description.
    letters, shape : str and tuple of int
        tifffile's letter and the length of each axis longer than 1, and of y and x.
    full : tuple of int
        Lengths of all axes that the description names.
    kept : tuple of int
        Those of `full` that `shape` keeps.
    files : tuple of Path
        Files that hold its planes, the opened one first.
    planes : numpy.ndarray
        (file, first byte, page) of each plane, in the order of the axes before those of a page.
    begin : int or None
        Byte at which all its voxels begin, if they lie uncompressed in one piece.
    number, count : int
        Number of the image in the file, and number of all images.
    by_tifffile : bool
        Whether its planes are no pages of their own, so that tifffile has to read them whole.
    remarks : tuple of str
        What the user has to know about how it is read, without the name of the file.
    """

    kind: str
    letters: str
    shape: Index
    full: Index
    kept: Index
    files: tuple[Path, ...]
    planes: np.ndarray
    page_axes: int
    begin: int | None = None
    number: int = 0
    count: int = 1
    by_tifffile: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def outer(self) -> Index:
        """Return the lengths of the axes before those of a page."""
        return self.shape[: len(self.shape) - self.page_axes]

    def __str__(self) -> str:
        return f"axes {self.letters} of lengths {self.shape}"


class Mismatch(Exception):
    """A description that does not fit the pages of its file."""


def find_series(tiff: tifffile.TiffFile, path: Path, number: int | None, axes: str | None) -> StoredSeries:
    """Return one image of a file: the only one, or the one with a number.

    Parameters
    ----------
    number : int or None
        Number in the address, counted from 0.
    axes : str or None
        `axes` of the user. With them, a file whose description does not fit is read as a list of pages.

    Raises
    ------
    SourceError
        If there are several images and no number, if a plane is missing, or if description and pages do not fit.
    """
    offsets = page_offsets(tiff, str(path))
    kind = next((kind for kind in DESCRIBED if getattr(tiff, f"is_{kind}", False)), None)
    if kind is None or (kind == "shaped" and _written_one_by_one(tiff, offsets)):
        return _of_pages(tiff, path, offsets, number)
    try:
        return _described(tiff, path, offsets, number, kind)
    except Mismatch as unfit:
        if axes is None:
            raise SourceError(
                f"{path}: {NAMES.get(kind, kind)} and the pages of the file do not fit: {unfit}; copy or export it "
                "again, or, to read the pages in their order as sections, write `axes: zyx` at this source"
            ) from unfit
        told = f"its description does not fit its pages ({unfit}): the pages are read in their order, as `axes` says"
        found = _of_pages(tiff, path, offsets, number)
        return replace(found, remarks=(*found.remarks, told))


# -- files that describe their images ----------------------------------------------------------------------------------


def _described(
    tiff: tifffile.TiffFile, path: Path, offsets: Sequence[int], number: int | None, kind: str
) -> StoredSeries:
    """Return the image that a description describes, after checking that it fits the pages."""
    if problem := check_claims(tiff, path):
        raise Mismatch(problem)
    with _complaints(tiff) as complaints:
        found = list(tiff.series)
    if kind == "imagej" and len(offsets) == 1:
        _check_imagej_end(tiff)
    if complaints and not _absent(found):
        raise Mismatch(complaints[0])
    if not found or (kind in NAMES and found[0].kind in ("uniform", "generic") and len(offsets) > 1):
        raise Mismatch("it names no image that is here")
    chosen = _chosen(path, number, [_description(series) for series in found])
    if lost := _absent([found[chosen]]):
        raise SourceError(
            f"{path}: image {chosen} misses {lost} of its {len(found[chosen])} planes{missing_planes(tiff, path)}; "
            "bring all files of the set into one folder, under their old names"
        )
    if number is None and found[0].kind == "ome" and not found[0].is_multifile:
        _refuse_unnamed_pages(found, offsets)
    return replace(_stored(tiff, path, found[chosen], offsets), number=chosen, count=len(found))


def _written_one_by_one(tiff: tifffile.TiffFile, offsets: Sequence[int]) -> bool:
    """Return whether each page has a description of its own by tifffile, as in a loop over sections."""
    pages = [page_at(tiff, offsets[i], i) for i in _some(len(offsets))]
    told = [shaped_metadata(page) for page in pages]
    return len(pages) > 1 and all(prod(shape) == prod(page.shape) for shape, page in zip(told, pages, strict=True))


def _some(count: int) -> list[int]:
    """Return the numbers of the pages that are looked at before one is asked for."""
    return sorted({0, 1, count // 2, count - 2, count - 1} & set(range(count)))


def _absent(found: Sequence[tifffile.TiffPageSeries]) -> int:
    """Return the number of planes that are named, and that no file holds."""
    pages = ((series.kind, page) for series in found for page in series._pages)
    return sum(page is None or (kind == "mmstack" and not page.offset) for kind, page in pages)


def _refuse_unnamed_pages(found: Sequence[tifffile.TiffPageSeries], offsets: Sequence[int]) -> None:
    named = {page.offset for series in found for page in series._pages if page is not None}
    unnamed = [i for i, offset in enumerate(offsets) if offset not in named]
    if unnamed and len(found[0]._pages) == len(named):
        raise Mismatch(
            f"the file has {len(offsets)} pages, and OME-XML names {len(named)} of them, not page {unnamed[0]}"
        )


def _stored(
    tiff: tifffile.TiffFile, path: Path, series: tifffile.TiffPageSeries, offsets: Sequence[int]
) -> StoredSeries:
    """Return where the planes of a series of tifffile lie."""
    page = series.keyframe
    full, letters = tuple(map(int, series.get_shape(False))), series.get_axes(False)
    if series.kind == "imagej":
        full, letters = _imagej_shape(tiff, series, full, letters, len(offsets))
    # tifffile calls an axis of length 1 X, although there is another X
    letters = "".join("Q" if letter in letters[i + 1 :] else letter for i, letter in enumerate(letters))
    kept = [i for i, n in enumerate(full) if n != 1 or letters[i] in "YX"]
    shape, letters = tuple(full[i] for i in kept), "".join(letters[i] for i in kept)
    in_page = [page.shape[i] for i in long_axes(page)]
    begin = None if series.is_multifile else series.dataoffset
    planes = prod(shape) // max(1, prod(page.shape))
    if begin is None and series.kind == "imagej" and len(offsets) == 1 and planes > 1 and is_mapped(page):
        begin = page.dataoffsets[0]
    if begin is not None and series.kind == "shaped" and 1 < len(offsets) < planes and len(series._pages) == 1:
        raise Mismatch(f"it says {shape}, but there are {len(offsets)} pages of {page.shape}")
    if begin is not None and is_mapped(page):
        _check_end(path, tiff, begin, shape, series.dtype)
        found: list[Any] = [page]
    else:
        begin, found = None, list(series._pages)
        if shape[len(shape) - len(in_page) :] != tuple(in_page) or planes != len(found):
            raise Mismatch(f"it says {shape}, but there are {len(found)} planes of {page.shape}")
    if getattr(series, "transform", None) is not None:
        raise SourceError(f"{path}: a {series.kind} file whose values have to be transformed; export it as plain TIFF")
    where = {page.parent.filehandle.path: None for page in found}
    files = [str(path), *(name for name in where if Path(name).resolve() != path.resolve())]
    number_of = {name: files.index(name) if name in files else 0 for name in where}
    table = [(number_of[one.parent.filehandle.path], one.offset or 0, _page_number(one)) for one in found]
    axes = len(in_page) if begin is None else 2
    return StoredSeries(
        series.kind, letters, shape, full, tuple(kept), tuple(map(Path, files)), np.array(table, np.int64), axes, begin,
        by_tifffile=begin is None and series.kind not in BY_OFFSET,
    )  # fmt: skip


def _page_number(page: Any) -> int:
    index = page.index
    return int(index[0] if isinstance(index, tuple) else index)


def _check_end(path: Path, tiff: tifffile.TiffFile, begin: int, shape: Index, dtype: np.dtype) -> None:
    end, size = begin + prod(shape) * dtype.itemsize, tiff.filehandle.size
    if end > size:
        raise SourceError(
            f"{path}: cut short, {shape} pixels of {dtype} reach byte {end} of a file of {size}; {COPY_AGAIN}"
        )


def _check_imagej_end(tiff: tifffile.TiffFile) -> None:
    """Raise if the images that ImageJ counts, all behind the only page, reach beyond the end of the file."""
    images, page = int((tiff.imagej_metadata or {}).get("images", 1)), tiff.pages.first
    if images > 1 and is_mapped(page):
        end, size = page.dataoffsets[0] + images * page.nbytes, tiff.filehandle.size
        if end > size:
            raise Mismatch(f"cut short, {images} images of {page.shape} reach byte {end} of a file of {size}")


def _imagej_shape(
    tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries, full: Index, letters: str, pages: int
) -> tuple[Index, str]:
    """Return the shape and axes by ImageJ, which counts images, and their dimensions, one by one."""
    images = int((tiff.imagej_metadata or {}).get("images", 1))
    planes = prod(full) // max(1, prod(series.keyframe.shape))
    if planes == 1 == pages < images and is_mapped(series.keyframe):
        return (images, *full), f"I{letters}"  # a plain stack, as ImageJ wrote it before it knew hyperstacks
    colours = series.keyframe.samplesperpixel
    if images > 1 and images not in (planes, planes * colours):
        raise Mismatch(f"it says {images} images, and sizes for {planes}")
    if pages not in (1, planes):
        raise Mismatch(f"it says {planes} images, but there are {pages} pages")
    return full, letters


# -- files that are lists of pages -------------------------------------------------------------------------------------


def _of_pages(tiff: tifffile.TiffFile, path: Path, offsets: Sequence[int], number: int | None) -> StoredSeries:
    """Return the pages of a file as one image. Only some are looked at here; `check` looks at those of a box."""
    count = len(offsets)
    groups = _groups(tiff, offsets, _some(count))
    if len(groups) > 1:
        groups = _groups(tiff, offsets, range(count))
        whole = {key: pages for key, pages in groups.items() if not key[-1]}  # without the smaller copies of an image
        groups = whole or groups
    else:
        groups = {key: list(range(count)) for key in groups}
    told = [f"{len(pages)} pages, {key[3]}" + _first_of(pages, count) for key, pages in groups.items()]
    chosen = _chosen(path, number, told)
    pages = list(groups.values())[chosen]
    page = page_at(tiff, offsets[pages[0]], pages[0])
    full, letters = (len(pages), *page.shape), f"I{page.axes}"
    kept = [i for i, n in enumerate(full) if n != 1 or letters[i] in "YX"]
    shape = tuple(full[i] for i in kept)
    table = np.array([(0, offsets[i], i) for i in pages], np.int64)
    left_out = count - len(pages)
    remarks = (f"{left_out} of {count} pages are smaller copies, and are left out",) if left_out else ()
    return StoredSeries(
        "pages", "".join(letters[i] for i in kept), shape, full, tuple(kept), (path,), table, len(long_axes(page)),
        number=chosen, count=len(groups), remarks=remarks if number is None else (),
    )  # fmt: skip


def _groups(tiff: tifffile.TiffFile, offsets: Sequence[int], numbers: Sequence[int]) -> dict[tuple, list[int]]:
    """Return the numbers of pages by what they hold: shape, axes, dtype, these as text, and whether they are a copy."""
    groups: dict[tuple, list[int]] = {}
    for i in numbers:
        page = page_at(tiff, offsets[i], i)
        dtype = getattr(page.dtype, "name", f"{page.bitspersample} bits")
        told = f"{' x '.join(map(str, page.shape))} pixels of {dtype}"
        groups.setdefault((page.shape, page.axes, dtype, told, bool(page.is_reduced)), []).append(i)
    return groups


def _first_of(pages: Sequence[int], count: int) -> str:
    return "" if len(pages) == count else f" (the first is page {pages[0]})"


# -- several images ----------------------------------------------------------------------------------------------------


def _description(series: tifffile.TiffPageSeries) -> str:
    name = f"{series.name!r}, " if series.name else ""
    return f"{name}axes {series.axes} of lengths {series.shape}, {series.dtype}"


def _chosen(path: Path, number: int | None, told: Sequence[str]) -> int:
    """Return the number of the image that is read; raise if it has to be chosen, or is not there."""
    if number is None and len(told) == 1:
        return 0
    if number is not None and 0 <= number < len(told):
        return number
    listed = "; ".join(f"{i}: {one}" for i, one in enumerate(told[:20]))
    more = f" and {len(told) - 20} more" if len(told) > 20 else ""
    problem = f"it holds {len(told)} images" if number is None else f"there is no image {number} in it"
    raise SourceError(
        f"{path}: {problem}, counted from 0: {listed}{more}; choose one, as in `{path.name}:{len(told) - 1}`"
    )


@contextmanager
def _complaints(tiff: tifffile.TiffFile) -> Iterator[list[str]]:
    """Collect what tifffile says about a description that does not fit its file, and then reads all the same."""
    found: list[str] = []
    logger = logging.getLogger("tifffile")
    handler = logging.Handler(logging.WARNING)
    begin = f"{tiff!r} "
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    before, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
        found[:] = [
            text.removeprefix(begin).replace(". Missing data are zeroed", "") for text in found if begin in text
        ]
