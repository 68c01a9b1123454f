"""Open HDF5 datasets, and check that their voxels can be read: filters, other files, chunks that were never written.

HDF5 gives the fill value, mostly 0, for voxels that it does not find. So what is absent has to be found here.
"""

import os
import threading
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py.h5z import filter_avail

from unet.extras import is_installed, needs
from unet.storage.local_folder import file_state
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.hdf5_chunks import can_decode, read_chunks

MAX_CACHE = 256 * 2**20
"""Largest cache of decoded chunks, in bytes."""
MIN_CACHE = 2**20
MAX_CHUNK = 2**30
"""Largest decoded chunk, in bytes, in a file that is more than `MAX_RATIO` times smaller."""
MAX_RATIO = 2000

OPENING = threading.Lock()
"""Held while a file is opened: several threads may want its first voxels."""
Ranges = tuple[slice, ...]


class OpenDataset:
    """A dataset that is opened when it is first read, once per process, and again only if its files have changed.

    HDF5 keeps decoded chunks while a dataset is open. The cache grows to `MAX_CACHE`, or to one chunk.

    Parameters
    ----------
    path, inner : Path, str
        File, and dataset in the file.
    files : list of Path
        Files whose changes matter.
    """

    def __init__(self, path: Path, inner: str, files: list[Path]) -> None:
        self.path, self.inner, self.files = path, inner, files
        self._opened: tuple[Any, h5py.File, h5py.Dataset] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs, which opens the dataset itself."""
        return self.__dict__ | {"_opened": None}

    def get(self) -> h5py.Dataset:
        """Return the dataset."""
        state = (os.getpid(), [file_state(file) for file in self.files if file.is_file()])
        with OPENING:
            if self._opened is None or self._opened[0] != state:
                self.close()
                file = h5py.File(self.path, "r")
                dataset = opened_dataset(file, self.inner)
                require_filters(dataset, f"{self.path}:{self.inner}")
                self._opened = state, file, dataset
            return self._opened[2]

    def read(self, selection: Ranges) -> np.ndarray:
        """Return a selection of the dataset."""
        dataset = self.get()
        values: np.ndarray = read_chunks(dataset, selection) if can_decode(dataset) else dataset[selection]
        if self.get().external:
            self.close()  # HDF5 refuses to open it once more with another folder of external files
        return values

    def close(self) -> None:
        """Close the file. The next `get` opens it again."""
        if self._opened is not None and self._opened[0][0] == os.getpid():
            self._opened[1].close()
        self._opened = None


def opened_dataset(file: h5py.File, inner: str) -> h5py.Dataset:
    """Return a dataset with a cache for its chunks. External storage is found beside the file."""
    dataset = file[inner]
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    if dataset.external:
        access.set_efile_prefix(b"${ORIGIN}")
    if dataset.chunks:
        size = prod(dataset.chunks) * dataset.dtype.itemsize
        chunks = prod(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
        count = max(1, min(chunks, MAX_CACHE // max(1, size)))
        access.set_chunk_cache(100 * count + 1, max(MIN_CACHE, count * size), 1.0)
    if not (dataset.external or dataset.chunks):
        return dataset
    del dataset  # one that is open keeps its cache
    return h5py.Dataset(h5py.h5d.open(file.id, inner.encode(), access))


def require_filters(dataset: h5py.Dataset, address: str) -> None:
    """Raise an error if the voxels are compressed by a filter that is not installed. The header names the filter."""
    created = dataset.id.get_create_plist()
    filters = {number: name.decode() for number, _, _, name in map(created.get_filter, range(created.get_nfilters()))}
    if not all(map(filter_avail, filters)) and is_installed("hdf5plugin"):
        import_module("hdf5plugin")  # makes its filters known to HDF5
    missing = [f"{number} ({name or 'without a name'})" for number, name in filters.items() if not filter_avail(number)]
    if not missing:
        return
    remedy = "" if is_installed("hdf5plugin") else f"{needs('hdf5plugin')}. Or "
    raise SourceError(
        f"{address}: compressed by HDF5 filter {', '.join(missing)}, which is not installed; {remedy}"
        "write the file again with gzip where the filter is known (h5repack -f GZIP=1)"
    )


def require_stored(dataset: h5py.Dataset, address: str) -> None:
    """Raise an error if nothing of a dataset was ever written, or if its voxels lie outside the file."""
    if dataset.is_virtual:
        return
    if dataset.external:
        _require_external_files(dataset, address)
        return
    size, file = dataset.id.get_storage_size(), Path(dataset.file.filename)
    if size == 0:
        raise SourceError(
            f"{address}: none of its voxels was ever written, HDF5 would give {dataset.fillvalue} for all of them; "
            "write it again"
        )
    begin, end = dataset.id.get_offset(), file.stat().st_size
    if begin is not None and (begin + size > end or size < prod(dataset.shape) * dataset.dtype.itemsize):
        raise SourceError(
            f"{address}: cut short, its voxels take the bytes {begin} to {begin + size} of a file of {end}; copy or "
            "export it again"
        )
    chunk = prod(dataset.chunks or ()) * dataset.dtype.itemsize
    if chunk > max(MAX_CHUNK, MAX_RATIO * end):
        raise SourceError(
            f"{address}: damaged, one chunk would hold {chunk:,} bytes, in a file of {end:,}; export it again"
        )


def external_files(dataset: h5py.Dataset) -> list[tuple[Path, int, int]]:
    """Return file, first byte and number of bytes of each part of a dataset's external storage."""
    folder = Path(dataset.file.filename).parent
    return [(folder / name, int(offset), int(size)) for name, offset, size in dataset.external or ()]


def missing_chunks_of(dataset: h5py.Dataset, ranges: Ranges) -> tuple[int, int]:
    """Return how many chunks of a part of a dataset were never written, and how many it has."""
    if dataset.chunks is None:
        return 0, 0
    parts = zip(ranges, dataset.chunks, strict=True)
    touched = [range(s.start // c, -(-s.stop // c)) for s, c in parts]
    stored = 0

    def count(chunk: Any) -> None:
        nonlocal stored
        index = (offset // c for offset, c in zip(chunk.chunk_offset, dataset.chunks, strict=True))
        stored += all(i in indices for i, indices in zip(index, touched, strict=True))

    dataset.id.chunk_iter(count)
    whole = prod(map(len, touched))
    return whole - stored, whole


def _require_external_files(dataset: h5py.Dataset, address: str) -> None:
    """Raise an error if a file of external storage is missing or too short, for which HDF5 would give zeros.

    Any file can be external storage, also one that is no image. So none is read outside the folder of the HDF5 file.
    """
    left, folder = prod(dataset.shape) * dataset.dtype.itemsize, Path(dataset.file.filename).resolve().parent
    for file, offset, size in external_files(dataset):
        if not file.resolve().is_relative_to(folder):
            raise SourceError(
                f"{address}: its voxels are bytes of {file}, outside of the folder of the file; move that file beside "
                "it and name it without a folder, or copy the voxels into the file (h5repack -l CONTI)"
            )
        if not file.is_file():
            raise SourceError(f"{address}: its voxels lie in {file}, which is missing; copy it as well")
        wanted = min(left, size) if size != h5py.h5f.UNLIMITED else left
        if file.stat().st_size < offset + wanted:
            raise SourceError(
                f"{address}: its voxels lie in {file}, which is cut short: {file.stat().st_size} bytes, "
                f"{offset + wanted} are needed; copy it again"
            )
        left -= wanted
    if left > 0:
        raise SourceError(f"{address}: its external files lack {left} bytes of its voxels; export it again")
