"""Decode the cubes of KNOSSOS: 128 voxels per edge, x the fastest, then y.

```
.raw                      uint8, as they are
.jpg, .png                uint8, an image of 128**3 pixels, whose rows follow each other
.seg.sz, .seg.sz.zip      uint64, ids, packed by Snappy; .zip holds one such file
```
"""

from math import prod
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import imagecodecs
import numpy as np

from unet.geometry.box import Box
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.jpeg import jpeg_crop, jpeg_section
from unet.volumes.readers.png import png_crop, png_section

EDGE = 128
"""Edge of a cube in voxels."""
DTYPES = {".raw": "uint8", ".jpg": "uint8", ".png": "uint8", ".seg.sz.zip": "uint64", ".seg.sz": "uint64"}
"""Type of the voxels by the ending of the cubes."""
GREY, IDS = (".raw", ".jpg", ".png"), (".seg.sz.zip", ".seg.sz")


def decoded_cube(path: Path, ending: str) -> np.ndarray:
    """Return the voxels `(x, y, z)` of a cube.

    Raises
    ------
    SourceError
        If the file has not 128 x 128 x 128 voxels.
    """
    with read_errors(path, "KNOSSOS"):
        refuse_truncated_cube(path, ending)
        if ending == ".raw":
            return np.memmap(path, DTYPES[ending], "r", 0, (EDGE,) * 3, "F")
        if ending in GREY:
            header, crop = IMAGES[ending]
            voxels = crop(path, Box((0, 0), header(path).shape))
        else:
            packed = _only_member(path) if ending.endswith(".zip") else path.read_bytes()
            voxels = np.frombuffer(imagecodecs.snappy_decode(packed, out=8 * EDGE**3), "<u8")
        if voxels.size != EDGE**3:
            raise SourceError(f"{path}: {voxels.size} voxels, but a cube has {EDGE**3}; copy or export it again")
        return voxels.reshape((EDGE,) * 3, order="C").transpose()


IMAGES = {".jpg": (jpeg_section, jpeg_crop), ".png": (png_section, png_crop)}


def refuse_truncated_cube(path: Path, ending: str) -> None:
    """Raise an error if the size of a cube, or the header of its image, is not that of 128 x 128 x 128 voxels."""
    if ending == ".raw" and (size := path.stat().st_size) != EDGE**3:
        raise SourceError(
            f"{path}: {size} bytes, but a cube of {EDGE} x {EDGE} x {EDGE} uint8 has {EDGE**3}; copy or export it again"
        )
    if ending in IMAGES:
        section = IMAGES[ending][0](path)
        if prod(section.shape) != EDGE**3 or section.dtype != np.uint8 or section.channels != 1:
            raise SourceError(f"{path}: {section}, but a cube is {EDGE**3} grey pixels of uint8; export it again")


def _only_member(path: Path) -> bytes:
    """Return the only file in a zip archive, which has at most the bytes of a cube and of the worst packing."""
    try:
        with ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) != 1 or members[0].file_size > 10 * EDGE**3:
                found = f"{len(members)} files" if len(members) != 1 else f"a file of {members[0].file_size} bytes"
                raise SourceError(f"{path}: holds {found}, but a cube is one packed file; copy or export it again")
            with archive.open(members[0]) as file:
                return file.read(10 * EDGE**3)
    except BadZipFile as error:
        raise SourceError(f"{path}: cut short or damaged ({error}); copy or export it again") from None
