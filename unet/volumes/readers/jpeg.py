"""Read sections stored as JPEG: grey or colours of 8 bits, baseline or progressive."""

from pathlib import Path
from typing import BinaryIO

import imagecodecs
import numpy as np

from unet.geometry.box import Box
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.exif_orientation import orientation_of_exif, turned_remark
from unet.volumes.readers.tiff_axes import NO_LABELS, TO_GREY
from unet.volumes.readers.tiff_pages import Section

START_OF_IMAGE, END_OF_IMAGE, START_OF_SCAN = b"\xff\xd8", b"\xff\xd9", 0xDA
READ_FRAMES = (0xC0, 0xC1, 0xC2)
"""Baseline, extended and progressive frames. Lossless and arithmetic ones are not read."""
RGB = 3
EXIF_SEGMENT, EXIF = 0xE1, b"Exif\0\0"
FRAMES = tuple(set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC})
TAIL = 4096
"""Bytes at the end of a file in which the end of the image is looked for."""


def jpeg_section(path: Path) -> Section:
    """Return the header of a JPEG, after checking that it is not truncated."""
    with read_errors(path, "JPEG"), path.open("rb") as file:
        orientation = _exif_orientation(file, path)
        frame, rows, columns, bits, samples = _frame(file, path)
        scan = _start_of_scan(file, path)
        size = path.stat().st_size
        file.seek(max(scan, size - TAIL))
        if END_OF_IMAGE not in file.read():
            raise SourceError(f"{path}: cut short, a JPEG of {size} bytes without its end; copy it again")
    refusal = None if samples == 1 else f"{path}: JPEG of {samples} colours and not grey; {TO_GREY}"
    if samples not in (1, RGB):
        raise SourceError(refusal)
    if bits != 8 or frame not in READ_FRAMES:
        kind = f"{bits} bits" if bits != 8 else "a lossless or arithmetic coding"
        raise SourceError(f"{path}: JPEG of {kind} is not read; convert it to TIFF or PNG")
    return Section(
        (rows, columns), np.dtype("uint8"), decoded=(rows, columns), channels=samples,
        colours=refusal and f"{refusal}; {NO_LABELS}", lossy="JPEG", orientation=orientation,
        remarks=tuple(turned_remark(orientation)),
    )  # fmt: skip


def jpeg_crop(path: Path, box: Box) -> np.ndarray:
    """Return the pixels of a box ``(y, x)`` of a JPEG, colours first. All of a JPEG is decoded for any box."""
    section = jpeg_section(path)
    expected = section.shape if section.channels == 1 else (*section.shape, section.channels)
    with read_errors(path, "JPEG"):
        image = imagecodecs.jpeg_decode(path.read_bytes())
    if image.shape != expected:  # the decoder returns an empty image where it finds no pixels
        raise SourceError(f"{path}: decodes to shape {image.shape}, not to {expected}; copy or export it again")
    return image[box.slices] if image.ndim == 2 else np.moveaxis(image[box.slices], -1, 0)


def _frame(file: BinaryIO, path: Path) -> tuple[int, int, int, int, int]:
    """Return kind of frame, rows, columns, bits per sample and samples per pixel."""
    _begin(file, path)
    while True:
        marker, length = _segment(file, path)
        if marker in FRAMES:
            head = file.read(6)
            file.seek(length - 6, 1)
            return marker, int.from_bytes(head[1:3]), int.from_bytes(head[3:5]), head[0], head[5]
        file.seek(length, 1)


def _begin(file: BinaryIO, path: Path) -> None:
    """Go to the first segment."""
    file.seek(0)
    begin = file.read(2)
    if begin != START_OF_IMAGE:
        raise SourceError(f"{path}: begins with {begin!r} and not as a JPEG; copy or export it again")


def _exif_orientation(file: BinaryIO, path: Path) -> int:
    """Return the orientation that EXIF gives before the first frame; 1 if there is none that can be read."""
    _begin(file, path)
    while True:
        marker, length = _segment(file, path)
        if marker in FRAMES:
            return 1
        content = file.read(length)
        if marker == EXIF_SEGMENT and content.startswith(EXIF):
            return orientation_of_exif(content[len(EXIF) :])


def _start_of_scan(file: BinaryIO, path: Path) -> int:
    """Return the byte after the header of the first scan."""
    while True:
        marker, length = _segment(file, path)
        file.seek(length, 1)
        if marker == START_OF_SCAN:
            return file.tell()


def _segment(file: BinaryIO, path: Path) -> tuple[int, int]:
    """Return the marker and the bytes of the next segment."""
    byte = file.read(1)
    while byte == b"\xff":  # markers may be padded
        byte = file.read(1)
        if byte not in (b"\xff", b""):
            length = int.from_bytes(file.read(2)) - 2
            if length >= 0:
                return byte[0], length
            break
    raise SourceError(f"{path}: cut short or damaged, a JPEG without a whole header; copy or export it again")
