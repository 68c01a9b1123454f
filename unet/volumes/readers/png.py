"""Read sections stored as PNG. Grey of 1, 2 and 4 bits is stretched to 0..255; a palette has to be grey."""

import os
import struct
from pathlib import Path
from typing import BinaryIO

import imagecodecs
import numpy as np

from unet.geometry.box import Box
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.tiff import TO_GREY
from unet.volumes.readers.tiff_pages import Section

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, PALETTE = 0, 3
COLOURS = {2: "RGB", PALETTE: "palette", 4: "grey with alpha", 6: "RGB with alpha"}
MAX_RATIO = 1032
"""Bytes that a packed byte of deflate can become at most."""
TAIL = 4096
"""Bytes at the end of a file in which the end of the image is looked for."""


def png_section(path: Path) -> Section:
    """Return the header of a PNG, after checking that it is grey and not truncated."""
    with read_errors(path, "PNG"), path.open("rb") as file:
        rows, columns, bits, colour = _header(file, path)
        is_grey = colour == GREY or (colour == PALETTE and _palette_is_grey(file))
        file.seek(max(0, path.stat().st_size - TAIL))
        if b"IEND" not in file.read():
            raise SourceError(f"{path}: cut short, a PNG of {path.stat().st_size} bytes without its end; copy it again")
    if not is_grey:
        raise SourceError(f"{path}: {COLOURS.get(colour, colour)} PNG and not grey; {TO_GREY}")
    dtype = np.dtype("uint16" if bits == 16 else "uint8")
    told: tuple[str, ...] = ()
    if colour == PALETTE:
        told = ("grey values of its palette, instead of the stored indices",)
    elif bits < 8:
        told = (f"{bits} bits, whose values 0 to {2**bits - 1} are read as 0 to 255",)
    return Section((rows, columns), dtype, remarks=told, decoded_whole=True)


def png_crop(path: Path, box: Box) -> np.ndarray:
    """Return the pixels of a box ``(y, x)`` of a grey PNG. A PNG is compressed as a whole, so all of it is decoded."""
    with read_errors(path, "PNG"):
        image = imagecodecs.png_decode(path.read_bytes())
    if image.ndim == 3 and image.shape[2] == 3 and (image == image[..., :1]).all():
        image = image[..., 0]  # a palette, which is decoded to red, green and blue
    if image.ndim != 2:
        raise SourceError(f"{path}: decodes to shape {image.shape}, not to one grey channel; {TO_GREY}")
    return image[box.slices]


def _header(file: BinaryIO, path: Path) -> tuple[int, int, int, int]:
    """Return rows, columns, bits per sample and colour type."""
    head = file.read(26)
    if head[:8] != SIGNATURE or head[12:16] != b"IHDR":
        raise SourceError(f"{path}: begins with {head[:8]!r} and not as a PNG; copy or export it again")
    columns, rows, bits, colour = struct.unpack(">IIBB", head[16:26])
    size = os.fstat(file.fileno()).st_size
    if rows * columns * bits > 8 * MAX_RATIO * size:
        raise SourceError(
            f"{path}: {rows} x {columns} pixels cannot be packed into {size} bytes; the header is damaged, copy or "
            "export it again"
        )
    return rows, columns, bits, colour


def _palette_is_grey(file: BinaryIO) -> bool:
    """Return whether red, green and blue of all colours of the palette are equal, and none is transparent."""
    file.seek(8)
    is_grey = False
    while len(head := file.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
        length = int.from_bytes(head[:4])
        if head[4:] == b"PLTE":
            colours = np.frombuffer(file.read(min(length, 768)), np.uint8)
            is_grey = colours.size % 3 == 0 and bool((colours.reshape(-1, 3) == colours[::3, None]).all())
            file.seek(4, 1)
        elif head[4:] == b"tRNS":
            return False
        else:
            file.seek(length + 4, 1)
    return is_grey
