"""Read an array that lies in one piece in a file. It is mapped from the disk, or is compressed as a whole.

A compressed array is decompressed once per process, into a temporary file that has no name, and mapped from there:

```
a.nrrd   header | gzip stream           temporary file   byte skip | voxels
                  ^ stream                                           ^ begin
a.nii.gz gzip stream                    temporary file   header    | voxels
         ^ stream = 0                                                ^ begin
```
"""

import bz2
import gzip
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock
from typing import IO, Any, Literal

import numpy as np

from unet.geometry.box import Index
from unet.storage.local_folder import FileState, file_state
from unet.volumes.readers.errors import SourceError

Codec = Literal["gzip", "bzip2"]
OPEN: dict[str, Callable[..., Any]] = {"gzip": gzip.open, "bzip2": bz2.open}
LARGEST_RATIO: dict[str, int] = {"gzip": 1032, "bzip2": 1_200_000}
"""Largest ratio of compression: https://zlib.net/zlib_tech.html; bzip2 packs 46 MB of one value into 46 bytes."""
PIECE = 1 << 20
"""Bytes that are decompressed at once."""
_DECOMPRESSING = Lock()


@dataclass(frozen=True)
class FlatArray:
    """An array of which all elements follow each other in a file.

    Attributes
    ----------
    path : Path
        File with the elements.
    begin : int
        Byte of the first element, counted after decompression.
    shape : tuple of int
        Lengths of the axes.
    dtype : numpy.dtype
        Type of the elements, in the byte order of the file.
    order : str
        F if the first axis is the fastest, C if the last is.
    codec : str or None
        How the file is compressed from the byte `stream` on; None if it is not.
    """

    path: Path
    begin: int
    shape: Index
    dtype: np.dtype
    order: Literal["C", "F"] = "F"
    codec: Codec | None = None
    stream: int = 0

    @property
    def end(self) -> int:
        """Return the byte after the last element, counted after decompression."""
        return self.begin + prod(self.shape) * self.dtype.itemsize

    def check(self) -> None:
        """Raise an error if the file is too small for the array, without decompressing it.

        Raises
        ------
        SourceError
            If a length is negative, or if the file is too small.
        """
        if min(self.shape, default=0) < 0 or self.begin < 0:
            raise SourceError(
                f"{self.path}: the header says shape {self.shape} from byte {self.begin} on, and nothing of it can be "
                "negative; copy or export it again"
            )
        size = self.path.stat().st_size
        largest = size if self.codec is None else LARGEST_RATIO[self.codec] * max(0, size - self.stream)
        if self.end > largest:
            packed = f", compressed by {self.codec}" if self.codec else ""
            raise SourceError(
                f"{self.path}: cut short, {size} bytes{packed}, but the header of {self.shape} {self.dtype.name} needs "
                f"{self.end}; copy or export it again"
            )

    def surplus(self) -> str | None:
        """Return a remark if an uncompressed file is longer than its header says."""
        size = self.path.stat().st_size
        if self.codec is not None or size <= self.end + 1:  # some writers end with a line break
            return None
        return (
            f"{self.path}: {size - self.end} bytes follow the {self.shape} voxels of its header, and are not read; "
            "look whether the sizes in the header are right"
        )

    def read(self, selection: tuple[slice, ...]) -> np.ndarray:
        """Return a part of the array.

        Raises
        ------
        SourceError
            As `check`: a map of a file that has become shorter would end the process.
        """
        self.check()
        if self.codec is None:
            return np.memmap(self.path, self.dtype, "r", self.begin, self.shape, self.order)[selection]
        with _DECOMPRESSING:
            whole = _decompressed(self.path, self.codec, self.stream, self.end, file_state(self.path))
        return np.ndarray(self.shape, self.dtype, whole, self.begin, order=self.order)[selection]


@lru_cache(maxsize=4)
def _decompressed(path: Path, codec: Codec, stream: int, end: int, state: FileState) -> np.memmap:
    """Return the first bytes of a decompressed stream, in a temporary file. `state` differs between versions of it."""
    with path.open("rb") as packed, TemporaryFile() as file:
        packed.seek(stream)
        with OPEN[codec](packed) as unpacked:
            _copy(unpacked, file, end)
        file.flush()
        return np.memmap(file, np.uint8, "r", 0, (end,))


def _copy(unpacked: IO[bytes], file: IO[bytes], end: int) -> None:
    """Copy bytes up to `end`, and no more, however many follow. Read on at the end: the checksum stands there."""
    left = end
    while left:
        piece = unpacked.read(min(PIECE, left))
        if not piece:
            raise EOFError(f"cut short, {left} of {end} bytes are missing after decompression")
        left -= file.write(piece)
    unpacked.read(1)
