"""Read volumes of one file per section: TIFF, PNG or JPEG, in a folder or chosen by a pattern of file names."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import numpy as np

from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.storage.file_patterns import is_pattern, matching_files
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.formats import Format
from unet.volumes.readers.jpeg import jpeg_crop, jpeg_section
from unet.volumes.readers.png import png_crop, png_section
from unet.volumes.readers.section_order import SectionOrder, section_order
from unet.volumes.readers.source import Source, pixel_remark
from unet.volumes.readers.tiff import tiff_crop, tiff_section
from unet.volumes.readers.tiff_pages import Section, refuse_difference

TIFF_SUFFIXES = (".tif", ".tiff")
PNG_SUFFIXES = (".png",)
JPEG_SUFFIXES = (".jpg", ".jpeg")
_OTHER_IMAGES = """avi bmp czi dcm dm3 dm4 emd exr gif h5 hdf hdf5 ims img jp2 j2k jpx lif lsm mrc nd2 nii npy nrrd raw
    rec ser st svs vsi webp"""
OTHER_IMAGES = frozenset(f".{ending}" for ending in _OTHER_IMAGES.split())
"""Endings of images that are no sections. A folder with as many of them as of sections is refused."""
UNSEEN = ("thumbs.db", "desktop.ini")
"""Files of Windows that its users do not see."""
MAX_LISTED = 3
"""Sections of which a message says what is wrong; others are counted."""
PIXEL_TOLERANCE = 0.01
"""Share by which pixel sizes of sections may differ."""


@dataclass(frozen=True)
class SectionFormat:
    """A format of section files.

    Attributes
    ----------
    name : str
        Name of the format.
    header, crop : callable
        Return the header of a file, and the pixels of a box ``(y, x)``.
    """

    name: str
    header: Callable[[Path], Section]
    crop: Callable[[Path, Box], np.ndarray]


TIFF = SectionFormat("TIFF", tiff_section, tiff_crop)
PNG = SectionFormat("PNG", png_section, png_crop)
JPEG = SectionFormat("JPEG", jpeg_section, jpeg_crop)
READERS: dict[str, SectionFormat] = {
    **dict.fromkeys(TIFF_SUFFIXES, TIFF),
    **dict.fromkeys(PNG_SUFFIXES, PNG),
    **dict.fromkeys(JPEG_SUFFIXES, JPEG),
}


class SectionFiles(Source):
    """A volume of one file per section, in the order of the numbers in the file names.

    Attributes
    ----------
    numbers : tuple of int or Decimal
        Number in the file name, by section.
    gaps : str or None
        Numbers that are missing between them.
    """

    parallel_reads = True

    def __init__(self, address: str, folder: Path, order: SectionOrder, watched: Sequence[Path]) -> None:
        self._sections = [folder / name for name in order.names]
        self._format = READERS[self._sections[0].suffix.lower()]
        self._first = self._format.header(self._sections[0])
        shape = (len(self._sections), *self._first.shape)
        remarks = [*order.remarks, *(f"{self._sections[0]}: {remark}" for remark in self._first.remarks)]
        if self._first.pixel_nm is not None:
            remarks.append(pixel_remark(str(self._sections[0]), self._first.pixel_nm, self._first.size_from))
        super().__init__(
            address, watched, shape, self._first.dtype, self._first.voxel_size_nm, axes_from="one file per section",
            remarks=remarks, channels=self._first.channels, voxel_size_from=self._first.size_from,
        )  # fmt: skip
        self.colours, self.lossy, self.pixel_nm = self._first.colours, self._first.lossy, self._first.pixel_nm
        self.numbers = order.numbers
        self.gaps = order.gaps
        if self._first.decoded is not None:
            self.decode_in((1, *self._first.decoded))
        self._folder, self._known_remarks = folder, {*self._first.remarks}

    def refuse_gaps(self) -> None:
        """Raise an error if numbers are missing between those of the sections."""
        if self.gaps is not None:
            first, last = self._sections[0].name, self._sections[-1].name
            raise SourceError(
                f"{self._folder}: {len(self._sections)} sections from {first} to {last}, of which numbers {self.gaps} "
                "are missing; add them (a lost section: a copy of its neighbour), or number the files anew"
            )

    def section_name(self, z: int) -> str:
        """Return the file and the number of a section."""
        return f"{self._sections[z]} (section {z}, the first is 0)"

    def files_of(self, box: Box) -> list[Path]:
        """Return the files of the sections of a box."""
        return self._sections[box.start[0] : box.stop[0]]

    def check(self, box: Box) -> None:
        """Check that the files of a box have the size, dtype and meaning of grey values of the first.

        Raises
        ------
        SourceError
            If some do not: with what is wrong with the first of them, and the number of all.
        """
        problems: dict[str, SourceError] = {}
        for z in range(box.start[0], box.stop[0]):
            try:
                section = self._checked(z)
            except SourceError as error:
                problems[self._sections[z].name] = error
                continue
            self._add_remarks(section, z)
            self.lossy = self.lossy or section.lossy
        if problems:
            others = [str(one) for one in problems.values()][1:MAX_LISTED]
            more = len(problems) - MAX_LISTED
            names = [*problems][MAX_LISTED:]
            rest = [f"and {more} more of its sections, from {names[0]} to {names[-1]}"] if more > 0 else []
            raise SourceError("; ".join([str(next(iter(problems.values()))), *others, *rest]))

    def _checked(self, z: int) -> Section:
        section = self._format.header(self._sections[z])
        refuse_difference(section, str(self._sections[z]), self._first, str(self._sections[0]))
        return section

    def _add_remarks(self, section: Section, z: int) -> None:
        """Add a remark on a section to `remarks`, unless another section has the same."""
        remarks = list(section.remarks)
        ours = section.voxel_size_nm or section.pixel_nm or ()
        theirs = self._first.voxel_size_nm or self._first.pixel_nm or ()
        if len(ours) == len(theirs) and any(
            abs(a - b) > PIXEL_TOLERANCE * b for a, b in zip(ours, theirs, strict=True)
        ):
            axes = ", ".join("zyx"[-len(ours) :])
            remarks.append(
                f"voxel size {ours} nm, but that of {self._sections[0]}, {theirs} nm ({axes}), is used; "
                "are the sections of one magnification?"
            )
        self.remarks += [f"{self._sections[z]}: {remark}" for remark in remarks if remark not in self._known_remarks]
        self._known_remarks.update(remarks)

    def _read(self, box: Box) -> np.ndarray:
        in_section = Box(box.start[1:], box.stop[1:])
        out = np.empty((self.channels, *box.shape), self.dtype)
        for i, z in enumerate(range(box.start[0], box.stop[0])):
            self._checked(z)
            out[:, i] = self._format.crop(self._sections[z], in_section)
        return out if self.channels > 1 else out[0]


def open_folder(address: str, folder: Path) -> SectionFiles:
    """Return the source of all sections of a folder.

    Raises
    ------
    SourceError
        If there is no section file, if formats are mixed, or if the names are not those of one series.
    """
    with read_errors(folder, "folder of sections"):
        entries = _visible(folder)
    sections = [entry for entry in entries if entry.suffix in READERS]
    rest = [entry for entry in entries if entry.suffix not in READERS]
    if not sections:
        raise SourceError(
            f"{folder}: holds no section, a file ending in {', '.join(READERS)}, but {_held(entries)}; "
            f"{_instead(folder, entries)}"
        )
    _refuse_several_formats(sections, rest, folder)
    order = section_order([entry.name for entry in sections], str(folder))
    if rest:
        left = f"{folder}: {len(sections)} sections are read; not read: {_counted(rest)}"
        order = SectionOrder(order.names, order.numbers, order.gaps, (*order.remarks, left))
    return SectionFiles(address, folder, order, [folder, *(folder / name for name in order.names)])


def open_pattern(address: str, pattern: Path) -> SectionFiles:
    """Return the source of the sections that fit a pattern of file names.

    Raises
    ------
    SourceError
        As `open_folder`; also if no file fits.
    """
    folder = pattern.parent
    with read_errors(folder, "folder of sections"):
        entries = _visible(folder)
    fitting = {path.name for path in matching_files(pattern)}
    sections = [entry for entry in entries if entry.name in fitting and not entry.is_folder]
    if not sections:
        raise SourceError(
            f"{address}: no file fits {pattern.name}; {folder} holds {_held(entries)}; correct the pattern"
        )
    unread = [entry for entry in sections if entry.suffix not in READERS]
    if unread:
        raise SourceError(
            f"{address}: {unread[0].name} fits, but sections end in {', '.join(READERS)}; convert the images, or "
            "choose another pattern"
        )
    _refuse_several_formats(sections, [], folder)
    order = section_order([entry.name for entry in sections], str(folder))
    return SectionFiles(address, folder, order, [folder, *(folder / name for name in order.names)])


def open_file(address: str, path: Path) -> SectionFiles:
    """Return the source of one image, a volume of one section."""
    order = section_order([path.name], str(path.parent))
    return SectionFiles(address, path.parent, order, [path])


@dataclass(frozen=True)
class _Entry:
    """A file or folder in a folder of sections."""

    name: str
    is_folder: bool

    @property
    def suffix(self) -> str:
        """Return the ending of the name, in lower case."""
        return Path(self.name).suffix.lower()


def _visible(folder: Path) -> list[_Entry]:
    """Return what a folder holds, without hidden files, by name."""
    with os.scandir(folder) as entries:
        seen = [e for e in entries if not e.name.startswith(".") and e.name.lower() not in UNSEEN]
        return sorted((_Entry(entry.name, _is_folder(entry)) for entry in seen), key=attrgetter("name"))


def _is_folder(entry: os.DirEntry) -> bool:
    with suppress(OSError):  # links in a circle
        return entry.is_dir()
    return False


def _refuse_several_formats(sections: Sequence[_Entry], rest: Sequence[_Entry], folder: Path) -> None:
    """Raise if section files are of several formats, or if as many images of other formats are in the folder."""
    kinds = {READERS[entry.suffix].name for entry in sections}
    others = [entry for entry in rest if entry.suffix in OTHER_IMAGES]
    if len(kinds) == 1 and len(others) < len(sections):
        return
    pattern = f"*{Counter(Path(entry.name).suffix for entry in sections).most_common(1)[0][0]}"
    unread = f"; not read are {_counted(others)}" if others else ""
    raise SourceError(
        f"{folder}: mixes images of several formats, {_counted(sections)}{unread}; choose files by a pattern as the "
        f"path, such as {folder / pattern}, or move the others away"
    )


def _instead(folder: Path, entries: Sequence[_Entry]) -> str:
    """Return what to do with a folder without sections, of which other folders may hold them."""
    inner = [entry.name for entry in entries if entry.is_folder and _holds_sections(folder / entry.name)]
    if not inner:
        return "convert the images, or name the folder with the sections"
    advice = f"name the folder with the sections, such as {folder / inner[0]}"
    if len(inner) == 1:
        return advice
    return (
        f"{advice}; if each of these {len(inner)} folders holds one section, put links to all sections into one folder"
    )


def _holds_sections(folder: Path) -> bool:
    with suppress(OSError):
        return any(entry.suffix in READERS for entry in _visible(folder))
    return False


def _held(entries: Sequence[_Entry]) -> str:
    if not entries:
        return "nothing"
    more = f" and {len(entries) - 1} more ({_counted(entries)})" if entries[1:] else ""
    return f"{entries[0].name}{more}"


def _counted(entries: Iterable[_Entry]) -> str:
    """Return how many files there are of each ending."""
    endings = Counter("in folders" if one.is_folder else one.suffix or "without an ending" for one in entries)
    return ", ".join(f"{count} {ending}" for ending, count in endings.most_common())


def _open(given: SourceConfig, path: Path | str, inner: str | None) -> Source:
    path = Path(path)
    if is_pattern(path):
        return open_pattern(given.path, path)
    return open_folder(given.path, path) if path.is_dir() else open_file(given.path, path)


FORMAT = Format(
    name="Folder of sections, PNG, JPEG",
    suffixes=(*PNG_SUFFIXES, *JPEG_SUFFIXES),
    open=_open,
    recognises=lambda path: path.is_dir(),
    axes="the numbers in the file names",
    dtypes="TIFF as TIFF; PNG of 1 to 16 bits; JPEG of 8 bits",
    voxel_size="TIFF sections: as TIFF",
    writers="tifffile, imagecodecs, imageio",
)
