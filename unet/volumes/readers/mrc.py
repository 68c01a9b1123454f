"""Read MRC. Voxels are mapped from the disk."""

from pathlib import Path

import numpy as np

from unet.config.source import SourceConfig
from unet.volumes.readers.axes import axis_order
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.formats import Format
from unet.volumes.readers.mrc_header import FOUR_BITS, read_header
from unet.volumes.readers.source import ArraySource

SUFFIXES = (".mrc", ".rec", ".map", ".st", ".ali")
COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZ": "bunzip2", b"\xfd7": "unxz", b"\x28\xb5": "unzstd"}
"""Programs that unpack a file, by its first two bytes."""


class MrcSource(ArraySource):
    """An MRC file. The voxel size follows from the cell in Angstrom (0 = unknown); voxels are mapped from the disk."""

    format_name = "MRC"
    parallel_reads = True

    def __init__(self, given: SourceConfig, path: Path) -> None:
        with read_errors(path, "MRC"):
            _refuse_compressed(path)
            self._header = header = read_header(path)
        if len(header.stored) == 4 and given.axes is None:
            raise SourceError(
                f"{given.path}: holds {header.stored[0]} volumes of {header.stored[1]} sections (space group 401); "
                f"choose one, counted from 0, as in `raw: {{path: {given.path}, axes: c{''.join(header.names[1:])}, "
                "channels: [0]}`"
            )
        order = axis_order(header.stored, header.names, given.path, "maps, mapr and mapc of the header", given.axes)
        super().__init__(
            given.path,
            [path],
            order,
            np.float32 if header.dtype.str[1:] == "f2" else header.dtype,
            voxel_size_nm=header.voxel_size_nm,
            voxel_size_from="the cell in the header",
            where=path,
            remarks=header.remarks,
        )

    def _read_stored(self, selection: tuple[slice, ...]) -> np.ndarray:
        stored, begin = self._header.stored, self._header.begin
        if self._header.mode != FOUR_BITS:
            return np.memmap(self.files[0], self._header.dtype, "r", begin, stored)[selection]
        packed = np.memmap(self.files[0], "u1", "r", begin, (*stored[:-1], (stored[-1] + 1) // 2))
        *rest, x = selection
        pairs = packed[(*rest, slice(x.start // 2, (x.stop + 1) // 2))]
        voxels = np.stack([pairs & 15, pairs >> 4], -1).reshape(*pairs.shape[:-1], -1)  # the low bits come first
        return voxels[..., x.start % 2 : x.start % 2 + x.stop - x.start]


def is_mrc(path: Path) -> bool:
    """Return whether a file of another ending is MRC by the word in its header, or compressed MRC by its name."""
    if not path.is_file():
        return False
    if path.with_suffix("").suffix.lower() in SUFFIXES:
        return path.suffix.lower() in (".gz", ".bz2", ".xz", ".zst")
    with path.open("rb") as file:
        return file.read(212)[208:] == b"MAP "


def _refuse_compressed(path: Path) -> None:
    with path.open("rb") as file:
        program = COMPRESSED.get(file.read(2))
    if program and (path.suffix.lower() not in SUFFIXES or not _has_word(path)):
        raise SourceError(f"{path}: a compressed file, from which no box can be read; unpack it: {program} '{path}'")


def _has_word(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(211)[208:] == b"MAP"


FORMAT = Format(
    name="MRC",
    suffixes=SUFFIXES,
    open=lambda given, path, inner: MrcSource(given, Path(path)),
    recognises=is_mrc,
    axes="mapc, mapr, maps",
    dtypes="modes 0, 1, 2, 6, 12 (float16, read as float32) and 101 (4 bits)",
    voxel_size="cell and sampling, in Angstrom",
    writers="mrcfile",
)
