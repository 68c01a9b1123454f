"""Read volumes of one file per section, TIFF or PNG. PNG of 1, 2 and 4 bits is stretched to 0..255."""

import re
import struct
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import imagecodecs
import numpy as np

from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.formats import Format
from unet.volumes.readers.source import Source
from unet.volumes.readers.tiff import TO_GREY, Section, refuse_difference, tiff_crop, tiff_section

TIFF_SUFFIXES = (".tif", ".tiff")
PNG_SUFFIXES = (".png",)
PNG_COLOURS = {2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}


def png_section(path: Path) -> Section:
    """Return the header of a PNG, after checking that it is grey and not truncated."""
    with read_errors(path, "PNG"), path.open("rb") as file:
        head = file.read(26)
        if head[:8] != b"\x89PNG\r\n\x1a\n" or head[12:16] != b"IHDR":
            raise SourceError(f"{path}: begins with {head[:8]!r} and not as a PNG; copy or export it again")
        columns, rows, bits, colour = struct.unpack(">IIBB", head[16:26])
        file.seek(max(0, path.stat().st_size - 4096))
        if b"IEND" not in file.read():
            raise SourceError(f"{path}: cut short, a PNG of {path.stat().st_size} bytes without its end; copy it again")
    if colour != 0:
        raise SourceError(f"{path}: {PNG_COLOURS.get(colour, colour)} PNG and not grey; {TO_GREY}")
    return Section((rows, columns), np.dtype("uint16" if bits == 16 else "uint8"), decoded_whole=True)


def png_crop(path: Path, box: Box) -> np.ndarray:
    """Return the pixels of a box ``(y, x)`` of a grey PNG. A PNG is compressed as a whole, so all of it is decoded."""
    with read_errors(path, "PNG"):
        image = imagecodecs.png_decode(path.read_bytes())
    if image.ndim != 2:
        raise SourceError(f"{path}: decodes to shape {image.shape}, not to one grey channel; {TO_GREY}")
    return image[box.slices]


Reader = tuple[Callable[[Path], Section], Callable[[Path, Box], np.ndarray]]
READERS: dict[str, Reader] = {
    **dict.fromkeys(TIFF_SUFFIXES, (tiff_section, tiff_crop)),
    **dict.fromkeys(PNG_SUFFIXES, (png_section, png_crop)),
}


class SectionFiles(Source):
    """A volume of one TIFF or PNG file per section, in the order of the numbers in the file names."""

    parallel_reads = True

    def __init__(self, address: str, sections: Sequence[Path], watched: Sequence[Path]) -> None:
        self._sections = list(sections)
        self._header, self._crop = READERS[self._sections[0].suffix.lower()]
        self._first = self._header(self._sections[0])
        shape = (len(self._sections), *self._first.shape)
        super().__init__(address, watched, shape, self._first.dtype, self._first.voxel_size_nm)
        self.whole_sections = self._first.decoded_whole

    @classmethod
    def in_directory(cls, address: str, directory: Path) -> "SectionFiles":
        """Return the source of all section files in a directory."""
        sections = section_paths(directory)
        return cls(address, sections, [directory, *sections])

    def section_name(self, z: int) -> str:
        """Return the file and the number of a section."""
        return f"{self._sections[z]} (section {z}, the first is 0)"

    def files_of(self, box: Box) -> list[Path]:
        """Return the files of the sections of a box."""
        return self._sections[box.start[0] : box.stop[0]]

    def check(self, box: Box) -> None:
        """Check that the files of a box have the size and dtype of the first."""
        for z in range(box.start[0], box.stop[0]):
            self._checked(z)

    def _checked(self, z: int) -> Path:
        path = self._sections[z]
        refuse_difference(self._header(path), str(path), self._first, str(self._sections[0]))
        return path

    def _read(self, box: Box) -> np.ndarray:
        in_section = Box(box.start[1:], box.stop[1:])
        out = np.empty(box.shape, self.dtype)
        for i, z in enumerate(range(box.start[0], box.stop[0])):
            out[i] = self._crop(self._checked(z), in_section)
        return out


def section_paths(directory: Path) -> list[Path]:
    """Return the section files of a directory in the order of their numbers (2 before 10), without hidden files.

    Raises
    ------
    SourceError
        If there is no section file, if TIFF and PNG are mixed, if names differ in more than numbers, or if numbers are
        missing.
    """
    visible = [p for p in directory.iterdir() if p.suffix.lower() in READERS and not p.name.startswith(".")]
    if not visible:
        others = sorted(p.name for p in directory.iterdir())
        held = f"{others[0]}{f' and {len(others) - 1} more' if others[1:] else ''}" if others else "nothing"
        raise SourceError(
            f"{directory}: holds no section, a file ending in {', '.join(READERS)}, but {held}; convert the images, or "
            "name the folder with the sections"
        )
    kinds = {READERS[p.suffix.lower()]: p.name for p in sorted(visible, reverse=True)}
    if len(kinds) > 1:
        raise SourceError(f"{directory}: mixes TIFF and PNG, {' and '.join(sorted(kinds.values()))}; keep one of them")
    ordered = sorted(visible, key=lambda p: (_numbers(p), p.name))
    _refuse_gaps(ordered, directory)
    return ordered


def _numbers(path: Path) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", path.stem)]


def _refuse_gaps(ordered: Sequence[Path], directory: Path) -> None:
    """Raise an error if the files are no series. Gaps are looked for only if the names differ in one number."""
    for path in ordered:
        if re.sub(r"\d+", "0", path.stem) != re.sub(r"\d+", "0", ordered[0].stem):
            raise SourceError(
                f"{directory}: {path.name} and {ordered[0].name} are not of one series; the names of sections differ "
                "in numbers only: move or rename one"
            )
    for one, other in pairwise(ordered):
        if _numbers(one) == _numbers(other):
            raise SourceError(f"{directory}: {one.name} and {other.name} have the same number; keep one of them")
    varying = [set(column) for column in zip(*map(_numbers, ordered), strict=True)]
    varying = [numbers for numbers in varying if len(numbers) > 1]
    if len(varying) == 1:
        _refuse_missing(varying[0], ordered, directory)


def _refuse_missing(numbers: set[int], ordered: Sequence[Path], directory: Path) -> None:
    gaps = [range(a + 1, b) for a, b in pairwise(sorted(numbers)) if b - a > 1]
    if gaps:
        named = ", ".join(str(g[0]) if len(g) == 1 else f"{g[0]} to {g[-1]}" for g in gaps)
        raise SourceError(
            f"{directory}: {len(ordered)} sections from {ordered[0].name} to {ordered[-1].name}, of which numbers "
            f"{named} are missing; add them (a lost section: a copy of its neighbour), or number the files anew"
        )


def is_pattern(path: Path) -> bool:
    """Return whether a path is a pattern of file names, such as `sections/*_c0.tif`."""
    return bool(set("*?[") & set(path.name))


def _open(given: SourceConfig, path: Path | str, inner: str | None) -> Source:
    path = Path(path)
    if path.is_dir():
        return SectionFiles.in_directory(given.path, path)
    return SectionFiles(given.path, [path], [path])


FORMAT = Format(
    name="Folder of sections, PNG",
    suffixes=PNG_SUFFIXES,
    open=_open,
    recognises=lambda path: path.is_dir(),
    axes="the numbers in the file names",
    voxel_size="TIFF sections: as TIFF",
    writers="tifffile, imagecodecs",
)
