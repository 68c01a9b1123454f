"""Read a dataset of an HDF5 file. External links and virtual datasets may name further files."""

from contextlib import suppress
from functools import cached_property
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py.h5z import filter_avail

from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.volumes.readers.axes import axis_order
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.formats import Format
from unet.volumes.readers.hdf5_chunks import can_decode, read_chunks
from unet.volumes.readers.source import ArraySource, MissingChunks, Nm


def _three(values: Any) -> Nm | None:
    """Return three numbers of an attribute as a tuple; None if there are not three."""
    found = tuple(float(v) for v in np.ravel(values)) if values is not None else ()
    return found if len(found) == 3 else None


class Hdf5Source(ArraySource):
    """A dataset of an HDF5 file with the attributes of CREMI: `resolution` and `offset` in nm, (z, y, x)."""

    format_name = "HDF5"
    parallel_reads = True

    def __init__(self, given: SourceConfig, path: Path, inner: str | None) -> None:
        self._path, address = path, given.path
        with read_errors(path, "HDF5"), h5py.File(path, "r") as file:
            self._inner = _dataset_name(file, inner, address)
            dataset = file[self._inner]
            _require_filters(dataset, address)
            voxel_size_nm, offset_nm = _three(dataset.attrs.get("resolution")), _three(dataset.attrs.get("offset"))
            if voxel_size_nm is not None and min(voxel_size_nm) <= 0:
                raise SourceError(f"{address}: attribute resolution is {voxel_size_nm} nm; it has to be positive")
            order = axis_order(dataset.shape, None, address, configured=given.axes)
            files = [path, *_files_beside(dataset, path)]
            super().__init__(
                address,
                files,
                order,
                dataset.dtype,
                voxel_size_nm=voxel_size_nm,
                offset_nm=offset_nm,
                voxel_size_from="the attribute resolution",
                where=path,
            )
            self._decoded_here = can_decode(dataset)
            self._set_sections_together(dataset)

    def _set_sections_together(self, dataset: h5py.Dataset) -> None:
        """Note that compressed chunks of about the size of a section are decoded for each block that touches them."""
        if dataset.id.get_create_plist().get_nfilters():
            chunk = dict(zip(self.order.names, dataset.chunks, strict=True))
            depth, *sides = (chunk.get(axis, 1) for axis in "zyx")
            self.whole_sections = any(2 * side > n > 1 for side, n in zip(sides, self.shape[1:], strict=True))
            self.sections_together = depth

    def missing_chunks(self, box: Box) -> list[MissingChunks]:
        """Count the chunks of a box that were never written; a dataset without chunks misses none."""
        with read_errors(self._path, "HDF5"), h5py.File(self._path, "r") as file:
            dataset = file[self._inner]
            if dataset.chunks is None:
                return []
            axes = zip(self.order.selection(box), dataset.shape, dataset.chunks, strict=True)
            touched = [range(s.start // c, -(-s.stop // c)) for s, n, c in axes]
            stored = 0

            def count(chunk: Any) -> None:
                nonlocal stored
                index = (offset // c for offset, c in zip(chunk.chunk_offset, dataset.chunks, strict=True))
                stored += all(i in indices for i, indices in zip(index, touched, strict=True))

            dataset.id.chunk_iter(count)
            whole = prod(map(len, touched))
            return [MissingChunks(self.address, whole - stored, whole, dataset.fillvalue.item())]

    @cached_property
    def _dataset(self) -> h5py.Dataset:
        """The dataset of the file, which is opened once by a process that reads voxels."""
        return h5py.File(self._path, "r")[self._inner]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the open dataset, which another process has to open for itself."""
        return {name: value for name, value in self.__dict__.items() if name != "_dataset"}

    def _read_stored(self, selection: tuple[slice, ...]) -> np.ndarray:
        return read_chunks(self._dataset, selection) if self._decoded_here else self._dataset[selection]


def _files_beside(dataset: h5py.Dataset, path: Path) -> list[Path]:
    """Return the other files with voxels: behind an external link, of a virtual dataset, or of external storage."""
    real = Path(dataset.file.filename)
    sources = [source.file_name for source in dataset.virtual_sources()] if dataset.is_virtual else []
    sources += [name for name, *_ in dataset.external or ()]
    others = [real.parent / name for name in dict.fromkeys(sources) if name != "."]
    if missing := [str(other) for other in others if not other.is_file()]:
        raise SourceError(
            f"{path}: its voxels lie in {len(others)} other files, of which {len(missing)} are missing, the first is "
            f"{missing[0]}; copy them as well"
        )
    return [other for other in (real, *others) if other.absolute() != path.absolute()]


def _require_filters(dataset: h5py.Dataset, address: str) -> None:
    """Raise an error if the voxels are compressed by a filter that is not installed. The header names the filter."""
    created = dataset.id.get_create_plist()
    filters = {number: name.decode() for number, _, _, name in map(created.get_filter, range(created.get_nfilters()))}
    if not all(map(filter_avail, filters)):
        with suppress(ImportError):
            import_module("hdf5plugin")  # makes its filters known to HDF5
    missing = [f"{number} ({name or 'without a name'})" for number, name in filters.items() if not filter_avail(number)]
    if missing:
        raise SourceError(
            f"{address}: compressed by HDF5 filter {', '.join(missing)}, which is not installed; pip install "
            "hdf5plugin, or write the file again with gzip (h5repack -f GZIP=1)"
        )


def _dataset_name(file: h5py.File, inner: str | None, address: str) -> str:
    if inner and isinstance(file.get(inner), h5py.Dataset):
        return inner
    found: list[str] = []
    file.visititems(lambda n, o: found.append(f"/{n} {o.shape}") if isinstance(o, h5py.Dataset) else None)
    missing = f"no dataset {inner}" if inner else "which dataset?"
    advice = (
        f"write file.h5:/path, the file holds: {', '.join(found)}" if found else "the file holds none that is whole"
    )
    raise SourceError(f"{address}: {missing}; {advice}")


FORMAT = Format(
    name="HDF5",
    suffixes=(".h5", ".hdf5", ".hdf"),
    open=lambda given, path, inner: Hdf5Source(given, Path(path), inner),
    has_inner=True,
    voxel_size="attribute resolution (z, y, x) in nm",
    writers="h5py",
)
