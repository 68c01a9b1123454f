"""Define `Source`, the interface of all readers.

A source takes its shape, dtype and voxel size from headers, and reads only the voxels that a box needs:

```
open_source("a.h5:/volumes/raw")   header: shape (z, y, x), dtype, voxel size
        |
      check(box)                   headers of the sections of a box; still no voxels
        |
      probe(box)                   a few voxels of a box, to see whether they can be decoded
        |
      read(box)                    the voxels of a box, in the machine's byte order, all finite
```
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from unet.geometry.box import Box, Index
from unet.storage.local_folder import file_state, links_of
from unet.volumes.readers.axes import AxisOrder
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.section_names import Number

RAW_DTYPES = ("uint8", "int8", "uint16", "int16", "float32")
DTYPES = (*RAW_DTYPES, "uint32", "int32", "uint64", "int64", "float64")

PROBED = (1, 64, 64)
"""Voxels that `Source.probe` reads."""

Nm = tuple[float, ...]


@dataclass(frozen=True)
class MissingChunks:
    """Chunks of a source that are not stored, and are read as the fill value.

    Attributes
    ----------
    address : str
        Address of the source.
    missing, count : int
        Number of chunks that are not stored, and number of all chunks.
    fill_value : int or float
        Value as which missing chunks are read.
    kind : str
        Counted unit: chunks, or shards of a sharded array.
    """

    address: str
    missing: int
    count: int
    fill_value: float
    kind: str = "chunks"

    def __str__(self) -> str:
        counts = f"{self.missing:,} of {self.count:,} {self.kind}"
        return f"{self.address}: {counts} are not stored; they read as {self.fill_value:g}"


class Source(ABC):
    """A volume in files of the user, which is read box by box.

    Attributes
    ----------
    address : str
        Path, with the dataset inside as in ``file.h5:/volumes/raw``.
    shape : tuple of int
        ``(z, y, x)`` in voxels; an image of one section is ``(1, y, x)``.
    dtype : numpy.dtype
        One of `DTYPES`, in the machine's byte order; see `supported_dtype`.
    voxel_size_nm, offset_nm : tuple of float, or None
        ``(z, y, x)`` in nm, if the file gives them.
    pixel_nm : tuple of float, or None
        ``(y, x)`` in nm of a file that knows the size of a pixel, and not how thick a section is.
    channels : int
        Number of intensities per voxel.
    files : list of Path
        Files whose changes matter.
    axes_from, voxel_size_from : str
        Where the order of the axes, and the voxel size, are from.
    remarks : list of str
        What the user has to know about how the files are read. `check` may add to it; `survey` logs them as warnings.
    numbers : tuple of int or Decimal, or None
        Number of each section in its file name; None where sections have no names.
    chunk : Box or None
        The first of the chunks, of which each can only be decoded as a whole; the others lie side by side with it. None
        where a box costs no more than its own voxels. Set by `decode_in`.
    parallel_reads : bool
        Whether several threads may call `read` at once. Set it where the library allows that, or each call opens the
        file anew.
    colours : str or None
        Refusal of a source whose channels are colours, or whose voxels are numbers of colours, and that nobody called
        so; None otherwise. Labels alone are read from it.
    refuses_not_finite : bool
        Whether `read` refuses NaN and infinity.
    lossy : str or None
        Compression that has changed the values, such as JPEG; None where the voxels are those that were saved.
    """

    numbers: tuple[Number, ...] | None = None
    chunk: Box | None = None
    pixel_nm: Nm | None = None
    parallel_reads = False
    colours: str | None = None
    lossy: str | None = None
    refuses_not_finite = True

    def __init__(
        self,
        address: str,
        files: Sequence[Path],
        shape: Sequence[int],
        dtype: DTypeLike,
        voxel_size_nm: Nm | None = None,
        offset_nm: Nm | None = None,
        channels: int = 1,
        axes_from: str = "the format",
        voxel_size_from: str = "the file",
        remarks: Iterable[str] = (),
    ) -> None:
        self.address = address
        self.files = list(files)
        self.shape: Index = tuple(int(n) for n in shape)
        self.dtype = supported_dtype(dtype, address)
        self.voxel_size_nm = voxel_size_nm
        self.offset_nm = offset_nm
        self.channels = channels
        self.axes_from, self.voxel_size_from = axes_from, voxel_size_from
        self.remarks = list(remarks)
        if 0 in self.shape:
            raise SourceError(f"{address}: holds no voxels, its shape is {self.shape}")

    def read(self, box: Box) -> np.ndarray:
        """Return the voxels of a box.

        Parameters
        ----------
        box : Box
            ``(z, y, x)`` in voxels, inside the volume.

        Returns
        -------
        numpy.ndarray
            A new array of ``box.shape`` and `dtype` in the machine's byte order; several channels come first.

        Raises
        ------
        SourceError
            If the box exceeds the volume, if a file cannot be read, or if an intensity is NaN or infinite.
        """
        if not all(0 <= a <= b <= n for a, b, n in zip(box.start, box.stop, self.shape, strict=True)):
            raise SourceError(f"{self.address}: box {box} is not inside the volume of shape {self.shape}")
        stored = self._read(box)
        is_ours = stored.flags.writeable and not isinstance(stored, np.memmap)
        copy = None if is_ours else True  # None: copy only if byte order or layout require it
        values = np.array(stored, dtype=self.dtype, order="C", copy=copy)
        if self.dtype.kind == "f" and self.refuses_not_finite:
            self._refuse_not_finite(values, box)
        return values

    def decode_in(self, chunk: Index, before: Index = (0, 0, 0)) -> None:
        """Say that voxels can only be decoded by chunks of a shape `(z, y, x)`.

        Parameters
        ----------
        chunk : tuple of int
            Shape of a chunk in voxels.
        before : tuple of int
            Voxels of the first chunk that lie before voxel 0 of the source.
        """
        shape = tuple(min(c, n + b) for c, n, b in zip(chunk, self.shape, before, strict=True))
        self.chunk = Box.of_shape(shape).relative_to(before)

    def keep_not_finite(self) -> None:
        """Return NaN and infinity from now on, for a source above this one that replaces or refuses them."""
        self.refuses_not_finite = False

    def files_of(self, box: Box) -> list[Path]:
        """Return the files that the voxels of a box come from."""
        return [path for path in self.files if path.is_file()]

    def state(self, box: Box) -> list[list[Any]]:
        """Return the state of the files that a box comes from, as JSON. Voxels read under another state are stale.

        The state is name, bytes and time (ns) of each file. If the address is a link, its target belongs to the state.
        """
        return [*links_of(self.files[0]), *([path.name, *file_state(path)] for path in self.files_of(box))]

    def listed(self, box: Box) -> Iterable[list[Any]]:
        """Return the content of `state` in any order. For a volume one listing is faster than a query per file."""
        return self.state(box)

    def missing_chunks(self, box: Box) -> list[MissingChunks]:
        """Count the chunks of a box that are not stored. The list is empty for formats without chunks.

        Raises
        ------
        CannotList
            If a server does not list its content.
        """
        return []

    def probe(self, box: Box) -> None:
        """Read a few voxels at the beginning of a box, so that what cannot be decoded is found before all is read.

        Raises
        ------
        SourceError
            As `read`.
        """
        few = Box(box.start, tuple(min(lo + n, hi) for lo, n, hi in zip(box.start, PROBED, box.stop, strict=True)))
        if few.size:
            self.read(few)

    def covers(self, box: Box) -> np.ndarray | None:
        """Return which voxels `(z, y, x)` of a box the files hold, as bool; None if they hold all of them."""
        return None

    def check(self, box: Box) -> None:  # noqa: B027 - formats with one header have nothing left to check
        """Check the headers of the sections of a box without reading voxels.

        Raises
        ------
        SourceError
            If a section is truncated, or differs from the first in size or dtype.
        """

    def refuse_gaps(self) -> None:  # noqa: B027 - only sections with numbers may have gaps
        """Raise where numbers are missing between those of the sections. Labels may have gaps, intensities may not.

        Raises
        ------
        SourceError
            If a number is missing.
        """

    def section_name(self, z: int) -> str:
        """Return the name of section ``z``, for messages."""
        return f"{self.address}, section {z} (the first is 0)"

    @abstractmethod
    def _read(self, box: Box) -> np.ndarray:
        """Return the voxels of a box inside the volume, in the byte order in which they are stored."""

    def _refuse_not_finite(self, values: np.ndarray, box: Box) -> None:
        bad = ~np.isfinite(values)
        if bad.any():
            at = np.unravel_index(int(bad.argmax()), values.shape)
            z, y, x = (int(i) + lo for i, lo in zip(at[-3:], box.start, strict=True))
            raise SourceError(
                f"{self.section_name(z)}: intensity {values[at]} at (z, y, x) = ({z}, {y}, {x}), "
                f"{int(bad.sum())} not finite in box {box}; replace them before ingest, by 0 where nothing was "
                "imaged, leave these voxels out with `mask`, or the section with `sections`"
            )


def pixel_remark(where: str, pixel_nm: Nm, origin: str) -> str:
    """Return what the user has to know about a file that states the size `(y, x)` of a pixel alone."""
    y, x = pixel_nm
    return f"{where}: pixels of {y:g} x {x:g} nm (y, x) by {origin}, which does not say how thick sections are"


def supported_dtype(dtype: DTypeLike, where: str) -> np.dtype:
    """Return the dtype as which a stored one is read, in the machine's byte order.

    A bool is read as uint8, and a float16 as float32, which holds each of its values. Any other dtype has to be in
    `DTYPES`.
    """
    found = np.dtype(dtype)
    if found == np.bool_:
        return np.dtype("uint8")
    if found == np.float16:
        return np.dtype("float32")
    if found.name not in DTYPES:
        raise SourceError(f"{where}: dtype {found.name} is not supported; convert to one of {', '.join(DTYPES)}")
    return found.newbyteorder("=")


class ArraySource(Source):
    """A source that is one stored array of any number of axes, whose order `AxisOrder` knows.

    A reader of such a format reads the header, calls this constructor, and defines `_read_stored`.

    Attributes
    ----------
    format_name : str
        Name of the format, for messages.
    where : Path or str
        File or folder that is read, for messages.
    """

    format_name: str

    def __init__(self, address: str, files: Sequence[Path], order: AxisOrder, dtype: DTypeLike, **known: Any) -> None:
        self.order = order
        self.where: Path | str = known.pop("where", address)
        remarks = [*known.pop("remarks", ()), *([order.remark] if order.remark else [])]
        super().__init__(
            address,
            files,
            order.shape,
            dtype,
            channels=order.channels,
            axes_from=order.origin,
            remarks=remarks,
            **known,
        )

    def _read(self, box: Box) -> np.ndarray:
        with read_errors(self.where, self.format_name, box):
            return self.order.arranged(self._read_stored(self.order.selection(box)))

    @abstractmethod
    def _read_stored(self, selection: tuple[slice, ...]) -> np.ndarray:
        """Return a selection of the stored array, with the axes as they are stored."""
