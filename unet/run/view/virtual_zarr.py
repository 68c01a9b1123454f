"""Present arrays that are computed or read on demand as a Zarr v3 store with OME metadata, for the server.

Segmentations of others lie in any format that a source reads, and errors lie nowhere. A chunk is read or computed when
the viewer asks for it, and sent uncompressed. There is one level: voxels are shown as they are.
"""

import json
import re
from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.geometry.box import Box, Index
from unet.run.view.server import Content, Mount
from unet.storage.ngff import ImageSpec, ngff_metadata

CHUNK_KEY = re.compile(r"0/c/(\d+)/(\d+)/(\d+)")
UNSIGNED = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint64"}
"""Types of ids by their bytes; a viewer of segmentations takes unsigned ids alone."""


def virtual_labels(
    name: str,
    shape: Index,
    dtype: np.dtype[Any],
    chunk: Index,
    voxel_size_nm: tuple[float, ...],
    offset_nm: tuple[float, ...],
    read: Callable[[Box], NDArray[Any]],
) -> Mount:
    """Return the store of an array of ids as a mount of the server.

    Parameters
    ----------
    name : str
        Name of the image.
    shape, chunk : Index
        Voxels of the array and of a chunk, `(z, y, x)`.
    dtype : numpy.dtype
        Type of the ids that `read` returns; they are sent unsigned.
    voxel_size_nm, offset_nm : tuple of float
        Size of a voxel and position of the first one, `(z, y, x)` in nm.
    read : callable
        Return the ids of a box inside the array, `(z, y, x)`. It is called by one thread at a time.
    """
    sent, lock = UNSIGNED[np.dtype(dtype).itemsize], Lock()
    spec = ImageSpec(name, shape, sent, chunk, chunk, voxel_size_nm, offset_nm, kind="label", pyramid=False)
    files = {
        "zarr.json": _json({"zarr_format": 3, "node_type": "group", "attributes": {"ome": ngff_metadata(spec)}}),
        "0/zarr.json": _json(_array_metadata(spec)),
    }

    def chunk_of(box: Box) -> bytes:
        values = np.zeros(chunk, sent)
        inside = box.clipped(shape)
        with lock:
            values[inside.relative_to(box.start).slices] = read(inside)
        return values.astype(np.dtype(sent).newbyteorder("<"), copy=False).tobytes()

    def find(key: str) -> Content | None:
        if key in files:
            return Content.of_bytes(files[key])
        match = CHUNK_KEY.fullmatch(key)
        if match is None:
            return None
        start = tuple(int(i) * c for i, c in zip(match.groups(), chunk, strict=True))
        box = Box(start, tuple(lo + c for lo, c in zip(start, chunk, strict=True)))
        return Content.of_bytes(chunk_of(box)) if box.clipped(shape).size else None

    return find


def _array_metadata(spec: ImageSpec) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(spec.shape),
        "data_type": spec.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(spec.chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "dimension_names": spec.axes,
        "attributes": {},
    }


def _json(values: dict[str, Any]) -> bytes:
    return json.dumps(values).encode()
