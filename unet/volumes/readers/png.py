"""Read sections stored as PNG.

Grey of 1, 2 and 4 bits is stretched to 0..255. A grey palette is read as its grey values. Labels may be colours, or
indices into a table of colours.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import imagecodecs
import numpy as np

from unet.geometry.box import Box
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.tiff_axes import TAKE_ONE, TO_GREY
from unet.volumes.readers.tiff_pages import Section

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, PALETTE = 0, 3
SAMPLES = {2: 3, 6: 4}
"""Samples of a pixel of RGB, and of RGB with alpha."""
MAX_TABLE = 768
"""Bytes of the largest table of colours."""
COLOURS = {2: "RGB", PALETTE: "palette", 4: "grey with alpha", 6: "RGB with alpha"}
MAX_RATIO = 1032
"""Bytes that a packed byte of deflate can become at most."""
TAIL = 4096
"""Bytes at the end of a file in which the end of the image is looked for."""


def png_section(path: Path) -> Section:
    """Return the header of a PNG, after checking that it is not truncated.

    Raises
    ------
    SourceError
        If it is cut short, or grey with transparency.
    """
    with read_errors(path, "PNG"), path.open("rb") as file:
        rows, columns, bits, colour = _header(file, path)
        palette = _palette(file) if colour == PALETTE else None
        file.seek(max(0, path.stat().st_size - TAIL))
        if b"IEND" not in file.read():
            raise SourceError(f"{path}: cut short, a PNG of {path.stat().st_size} bytes without its end; copy it again")
    refusal = None
    if palette is not None or colour not in (GREY, PALETTE):
        refusal = f"{path}: {COLOURS.get(colour, colour)} PNG and not grey; {TO_GREY}"
    if colour not in (GREY, PALETTE, *SAMPLES):
        raise SourceError(refusal)
    remarks: tuple[str, ...] = ()
    if palette is not None:
        remarks = ("the stored numbers of its table of colours are the ids, not the colours that viewers show",)
    elif colour == PALETTE:
        remarks = ("grey values of its palette, instead of the stored indices",)
    elif bits < 8:
        remarks = (f"{bits} bits, whose values 0 to {2**bits - 1} are read as 0 to 255",)
    return Section(
        (rows, columns), np.dtype("uint16" if bits == 16 else "uint8"), remarks=remarks, decoded=(rows, columns),
        channels=SAMPLES.get(colour, 1), colours=refusal and (f"{refusal}; {TAKE_ONE}" if palette is None else refusal),
        palette=palette,
    )  # fmt: skip


def png_crop(path: Path, box: Box) -> np.ndarray:
    """Return the pixels of a box ``(y, x)`` of a PNG, colours first; of a coloured palette the stored indices.

    A PNG is compressed as a whole, so all of it is decoded.
    """
    with read_errors(path, "PNG"), path.open("rb") as file:
        _, _, bits, colour = _header(file, path)
        palette = _palette(file) if colour == PALETTE else None
        file.seek(0)
        content = file.read()
        image = imagecodecs.png_decode(content if palette is None else _as_grey(content))
    if palette is not None:
        image //= np.uint8(255 // (2**bits - 1))
    elif colour == PALETTE and image.ndim == 3:
        image = image[..., 0]  # grey, which is decoded to red, green and blue
    if (image.shape[2] if image.ndim == 3 else 1) != SAMPLES.get(colour, 1):
        raise SourceError(f"{path}: decodes to shape {image.shape}, not to {SAMPLES.get(colour, 1)} samples; {TO_GREY}")
    return image[box.slices] if image.ndim == 2 else np.moveaxis(image[box.slices], -1, 0)


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


def _palette(file: BinaryIO) -> bytes | None:
    """Return the table of colours: red, green and blue of each; None if all are grey, and none is transparent."""
    table = b""
    for kind, at, length in _chunks(file):
        if kind in (b"PLTE", b"tRNS"):
            file.seek(at)
            table += file.read(min(length, MAX_TABLE))
            if kind == b"tRNS":
                return table
    colours = np.frombuffer(table, np.uint8)
    is_grey = colours.size and colours.size % 3 == 0 and (colours.reshape(-1, 3) == colours[::3, None]).all()
    return None if is_grey else table


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of each chunk before the pixels, the byte at which its content begins, and the bytes of it."""
    at = len(SIGNATURE)
    file.seek(at)
    while len(head := file.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
        length = int.from_bytes(head[:4])
        yield head[4:], at + 8, length
        at += 12 + length
        file.seek(at)


def _as_grey(content: bytes) -> bytes:
    """Return a PNG whose indices into a table of colours are grey values, since no decoder gives the indices."""
    kept, at = [SIGNATURE], len(SIGNATURE)
    header = content[12:25] + bytes((GREY,)) + content[26:29]  # IHDR with another kind of colour
    while at < len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4])
        kind = content[at + 4 : at + 8]
        if kind == b"IHDR":
            kept.append(content[at : at + 4] + header + zlib.crc32(header).to_bytes(4))
        elif kind in (b"IDAT", b"IEND"):
            kept.append(content[at:end])
        at = end
    return b"".join(kept)
