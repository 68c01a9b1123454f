"""Write a box of a store as an OME-TIFF, section by section, for Fiji and others.

Sections are read in slabs as thick as a chunk, so that no chunk is decompressed twice, or as memory allows.
Fiji reads the voxel size from the OME description (Bio-Formats), and that of a pixel from the resolution too.
"""

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from unet.geometry.box import Box
from unet.storage.files import write_with
from unet.storage.zarr_store import Image
from unet.volumes.writers.levels import WriterError

SLAB_BYTES = 256 * 2**20
"""Bytes of sections that are read at once, unless one alone has more."""
CLASSIC_BYTES = 2**32 - 2**25
"""Bytes of voxels beyond which a TIFF needs offsets of 64 bits (BigTIFF)."""


def write_tiff(path: Path, image: Image, box: Box) -> None:
    """Write the voxels of a box as an OME-TIFF; the file is there whole or not at all.

    Ids of 64 bits are written with 32, because OME-TIFF has no type for them.

    Parameters
    ----------
    path : Path
        The file; its folder is created.
    box : Box
        Voxels inside the volume, `(z, y, x)`.

    Raises
    ------
    WriterError
        If the box is not inside the volume, or an id needs 64 bits.
    """
    if not box.size or box.clipped(image.shape) != box:
        raise WriterError(f"export_tiff.box: {box} is not inside {image.name} of {image.shape} voxels (z, y, x)")
    write_with(path, lambda file: _write(file, image, box))


def _write(file: IO[bytes], image: Image, box: Box) -> None:
    import tifffile

    spec, channels = image.spec, len(image.spec.channels)
    dtype = np.dtype(np.uint32) if image.dtype == np.uint64 else image.dtype
    depth, height, width = box.shape
    shape = (depth, channels, height, width) if channels else box.shape
    (z, y, x), unit = spec.voxel_size_nm, "nm"
    metadata: dict[str, Any] = {
        "axes": "ZCYX" if channels else "ZYX",
        **{f"PhysicalSize{axis}": size for axis, size in zip("XYZ", (x, y, z), strict=True)},
        **{f"PhysicalSize{axis}Unit": unit for axis in "XYZ"},
    }
    if channels:
        metadata["Channel"] = {"Name": list(spec.channels)}
    nm_per_cm = 1e7
    large = prod(shape) * dtype.itemsize > CLASSIC_BYTES
    with tifffile.TiffWriter(file, ome=True, bigtiff=large) as tiff:
        tiff.write(
            _sections(image, box, dtype),
            shape=shape,
            dtype=dtype,
            photometric="minisblack",
            compression="zlib",
            resolution=(nm_per_cm / x, nm_per_cm / y),
            resolutionunit="CENTIMETER",
            metadata=metadata,
        )


def _sections(image: Image, box: Box, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """Yield the sections of a box `(y, x)`, of each all channels."""
    section = max(1, len(image.spec.channels)) * prod(box.shape[1:]) * image.dtype.itemsize
    thick = max(1, min(image.spec.chunk[0], SLAB_BYTES // section))
    at = box.start[0]
    while at < box.stop[0]:
        end = min(box.stop[0], at - at % thick + thick)
        values = image.read(Box((at, *box.start[1:]), (end, *box.stop[1:])))
        values = values if values.ndim == 4 else values[None]
        for z in range(end - at):
            for channel in values[:, z]:
                yield _narrowed(channel, dtype, image, at + z)
        at = end


def _narrowed(values: NDArray[Any], dtype: np.dtype[Any], image: Image, section: int) -> NDArray[Any]:
    largest = values.max(initial=0) if values.dtype == np.uint64 else 0
    if largest > np.iinfo(np.uint32).max:
        raise WriterError(
            f"{image.name}: id {largest} in section {section} needs 64 bits, but a TIFF for Fiji holds 32; use "
            "`snakemake export_precomputed` or `export_webknossos`"
        )
    return np.ascontiguousarray(values, dtype)
