"""Decode chunks of an HDF5 dataset beside each other. HDF5 itself decodes one chunk at a time in a process.

1. HDF5 returns the bytes of a chunk as they are stored. Only that waits for HDF5's lock.
2. The chunk is decoded here, without the lock, if it is compressed by gzip, with shuffled bytes or without.
3. HDF5 decodes every other chunk itself: one of another filter, or one that is not stored.
"""

from itertools import product

import h5py
import imagecodecs
import numpy as np

from unet.geometry.box import Box, Index

GZIP, SHUFFLE = 1, 2
"""Numbers of HDF5's own filters, H5Z_FILTER_DEFLATE and H5Z_FILTER_SHUFFLE in its header H5Zpublic.h."""
DECODED_HERE = ([GZIP], [SHUFFLE, GZIP])
MAX_CHUNK = 2**28
"""Bytes of a decoded chunk up to which it is decoded here: several are at once."""


def can_decode(dataset: h5py.Dataset) -> bool:
    """Return whether the chunks of a dataset are compressed in a way that is decoded here."""
    created = dataset.id.get_create_plist()
    filters = [created.get_filter(number)[0] for number in range(created.get_nfilters())]
    if dataset.chunks is None or dataset.is_virtual or filters not in DECODED_HERE:
        return False
    return int(np.prod(dataset.chunks)) * dataset.dtype.itemsize <= MAX_CHUNK


def read_chunks(dataset: h5py.Dataset, selection: tuple[slice, ...]) -> np.ndarray:
    """Return a selection of a dataset for which `can_decode` holds. Several threads may read at once.

    Raises
    ------
    OSError, RuntimeError, ValueError
        If a chunk is damaged.
    """
    wanted = Box(tuple(part.start for part in selection), tuple(part.stop for part in selection))
    values = np.empty(wanted.shape, dataset.dtype)
    touched = (range(lo // c, -(-hi // c)) for lo, hi, c in zip(wanted.start, wanted.stop, dataset.chunks, strict=True))
    for index in product(*touched):
        start = tuple(i * c for i, c in zip(index, dataset.chunks, strict=True))
        part = Box.of_shape(dataset.chunks).shifted(start).intersected(wanted)
        chunk = _decoded_chunk(dataset, start)
        into = part.relative_to(wanted.start).slices
        values[into] = dataset[part.slices] if chunk is None else chunk[part.relative_to(start).slices]
    return values


def _decoded_chunk(dataset: h5py.Dataset, start: Index) -> np.ndarray | None:
    """Return a chunk; None if HDF5 has to decode it."""
    if dataset.id.get_chunk_info_by_coord(start).byte_offset is None:
        return None
    skipped, content = dataset.id.read_direct_chunk(start)
    if skipped:  # filters that were left out for this chunk
        return None
    size = int(np.prod(dataset.chunks)) * dataset.dtype.itemsize
    decoded = np.frombuffer(imagecodecs.zlib_decode(content, out=size), np.uint8)
    if decoded.size != size:
        raise ValueError(f"the chunk at {start} has {decoded.size} bytes, not {size}")
    if dataset.shuffle and dataset.dtype.itemsize > 1:
        decoded = np.ascontiguousarray(decoded.reshape(dataset.dtype.itemsize, -1).T)
    return decoded.view(dataset.dtype).reshape(dataset.chunks)
