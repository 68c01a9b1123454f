"""Copy the levels of a store, box by box, to files of another format.

The levels of the pyramid are copied as they are, so that nothing is down-sampled again. A box is a file of the other
format. It is read, written and recorded by itself: memory does not grow with the volume, and a kill costs a few boxes.
"""

import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unet.geometry.box import Box, Index
from unet.geometry.grid import Grid
from unet.jobs.blockwise import BlockOutput, Store, run_blocks
from unet.storage.digests import bytes_digest
from unet.storage.files import read_json, write_json
from unet.storage.ngff import ImageSpec
from unet.storage.zarr_store import Image

NO_FILE = "0" * 32
"""Digest of a box whose voxels are all 0, where a format stores nothing for them."""


class WriterError(ValueError):
    """A store cannot be written in a format; the message says why, and what can be."""


class LevelWriter(Store, Protocol):
    """A level of a store in another format. Boxes are `(z, y, x)` in voxels of the level."""

    def boxes(self) -> Iterator[Box]:
        """Yield the box of each file."""

    def write(self, box: Box, values: NDArray[Any]) -> None:
        """Write the voxels of a box, `(z, y, x)` or `(c, z, y, x)`."""


def level_shape(spec: ImageSpec, level: int) -> Index:
    """Return the voxels `(z, y, x)` of a level of the pyramid."""
    return tuple(-(-n // f) for n, f in zip(spec.shape, spec.factors[level], strict=True))


def boxes_of_files(shape: Index, file: Index) -> Iterator[Box]:
    """Yield the boxes of files of so many voxels, `(z, y, x)`, in scan order."""
    yield from Grid(shape, file).boxes()


def copy_levels(
    rule: str,
    image: Image,
    levels: Sequence[LevelWriter],
    journal: Path,
    fingerprint: str,
    threads: int,
) -> None:
    """Copy every level of a store that is not copied yet.

    Parameters
    ----------
    rule : str
        Name of the rule, for the progress.
    levels : sequence of LevelWriter
        A writer per level of the store's pyramid, the finest first.
    journal : Path
        Folder of the receipts and journals of the levels, a folder each, since levels have boxes in common. It lies
        beside what is written, so that both are removed together.
    fingerprint : str
        Hash of what the voxels depend on. A box that was written with another one is written again.
    threads : int
        Boxes that are copied at once; each takes the memory of a few copies of its voxels.
    """
    for level, writer in enumerate(levels):
        work = partial(_copy, image, level, writer)
        boxes, receipt = list(writer.boxes()), journal / f"level-{level}" / "all.json"
        run_blocks(rule, boxes, work, [writer], receipt=receipt, fingerprint=fingerprint, threads=threads)


def begin_export(target: Path, journal: Path, fingerprint: str) -> None:
    """Remove an earlier export of other voxels, whose shape or type may be another one.

    Parameters
    ----------
    target : Path
        Folder that the export writes.
    journal : Path
        Folder of its journals, as for `copy_levels`.
    fingerprint : str
        Hash of what the voxels depend on.
    """
    marker = journal / "fingerprint.json"
    if not marker.exists() or read_json(marker) != fingerprint:
        shutil.rmtree(target, ignore_errors=True)
        shutil.rmtree(journal, ignore_errors=True)
        write_json(marker, fingerprint)


def _copy(image: Image, level: int, writer: LevelWriter, box: Box) -> BlockOutput:
    writer.write(box, image.read(box, level))
    return writer.digest(box) or NO_FILE, {}


def file_digest(path: Path) -> str:
    """Return the digest of a file; `NO_FILE` where there is none."""
    return bytes_digest(path.read_bytes()) if path.exists() else NO_FILE


def file_size(path: Path) -> int:
    """Return the bytes of a file; 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def in_c_order(values: NDArray[Any]) -> NDArray[Any]:
    """Return an image `(z, y, x)` or `(c, z, y, x)` with a first axis of channels, in C order."""
    return np.ascontiguousarray(values if values.ndim == 4 else values[None])
