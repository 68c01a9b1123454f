"""Read a dataset of an HDF5 file. External links and virtual datasets may name further files."""

from pathlib import Path

import h5py
import numpy as np

from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.volumes.readers.array_attributes import packing_remark
from unet.volumes.readers.axes import axis_order
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.formats import Format
from unet.volumes.readers.hdf5_attributes import Stated, order_of, stated_placement
from unet.volumes.readers.hdf5_datasets import find_dataset
from unet.volumes.readers.hdf5_layouts import Layout, layout_of
from unet.volumes.readers.hdf5_storage import OpenDataset, missing_chunks_of, require_filters, require_stored
from unet.volumes.readers.hdf5_virtual import VirtualSources, files_beside
from unet.volumes.readers.source import ArraySource, MissingChunks
from unet.volumes.voxel_size import stated_voxel_size

SIGNATURE = b"\x89HDF\r\n\x1a\n"
USER_BLOCK = 512
"""Bytes before the signature in files of MATLAB."""


class Hdf5Source(ArraySource):
    """A dataset of an HDF5 file. The file stays open from the first read on, in each process of its own."""

    format_name = "HDF5"
    parallel_reads = True

    def __init__(self, given: SourceConfig, path: Path, inner: str | None) -> None:
        self._path = path
        with read_errors(path, "HDF5"):
            _refuse_old_matlab(path)
            with h5py.File(path, "r") as file:
                self._inner, chosen = find_dataset(file, inner, given.path)
                dataset = file[self._inner]
                require_filters(dataset, given.path)
                require_stored(dataset, given.path)
                self._virtual = VirtualSources(dataset, given.path) if dataset.is_virtual else None
                self._beside = files_beside(dataset, path)
                self._fill_value, chunks = dataset.fillvalue, dataset.chunks
                dataset_filters = dataset.id.get_create_plist().get_nfilters()
                layout = layout_of(dataset, self._inner, path, given)
                stated = self._describe(dataset, layout, given)
                remarks = [chosen, *layout.remarks, *stated.remarks, *_far_files(given.path, path, self._all_beside)]
                if packed := packing_remark(dict(dataset.attrs)):
                    remarks.append(f"{given.path}: {packed}")
        self._stored_dtype = layout.dtype
        self._file = OpenDataset(path, self._inner, [path, *self._beside])
        super().__init__(
            given.path,
            [path, *self._all_beside],
            self.order,
            np.float32 if layout.dtype.str[1:] == "f2" else layout.dtype,
            voxel_size_nm=stated.voxel_size_nm,
            offset_nm=stated.offset_nm,
            voxel_size_from=stated.origin,
            where=path,
            remarks=[remark for remark in remarks if remark],
        )
        if chunks and dataset_filters:
            self.decode_in(self.order.chunk(chunks))

    def files_of(self, box: Box) -> list[Path]:
        """Return the files that the voxels of a box come from."""
        virtual = self._virtual.files(self.order.selection(box)) if self._virtual else []
        needed = {*self._beside, *virtual}
        return [self._path, *(path for path in self._all_beside if path in needed and path.is_file())]

    def check(self, box: Box) -> None:
        """Check that the sources of a virtual dataset are there and can hold the voxels of a box."""
        if self._virtual:
            self._virtual.require(self.order.selection(box))

    def missing_chunks(self, box: Box) -> list[MissingChunks]:
        """Count the chunks of a box that were never written; of a virtual dataset the voxels without a source."""
        with read_errors(self.where, "HDF5"), h5py.File(self.where, "r") as file:
            selection = self.order.selection(box)
            if self._virtual:
                self._virtual.require(selection)
                missing, count = self._virtual.missing(selection)
            else:
                missing, count = missing_chunks_of(file[self._inner], selection)
        kind = "voxels" if self._virtual else "chunks"
        return [MissingChunks(self.address, missing, count, self._fill_value.item(), kind)] if count else []

    @property
    def _all_beside(self) -> list[Path]:
        """Return the other files with voxels."""
        found = dict.fromkeys([*self._beside, *(self._virtual.files() if self._virtual else [])])
        return [path for path in found if path.absolute() != self._path.absolute()]

    def _describe(self, dataset: h5py.Dataset, layout: Layout, given: SourceConfig) -> Stated:
        """Find the order of the axes; return voxel size and offset."""
        if layout.names and given.axes is None:
            self.order = axis_order(layout.shape, layout.names, given.path, "the layout of the file")
        else:
            self.order = order_of(dataset, layout.shape, given.path, given.axes)
        stated = stated_placement(dataset, self.order, given.path)
        if size := stated_voxel_size(layout.voxel_size_nm, given.path):
            stated.voxel_size_nm, stated.origin = size, layout.origin
        return stated

    def _read_stored(self, selection: tuple[slice, ...]) -> np.ndarray:
        if self._virtual:
            self._virtual.require(selection)
        values = self._file.read(selection)
        return values if values.dtype == self._stored_dtype else values.view(self._stored_dtype)


def is_hdf5(path: Path) -> bool:
    """Return whether a file is HDF5 by its signature, at its begin or after the user block of MATLAB."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        begin = file.read(USER_BLOCK + len(SIGNATURE))
    return begin.startswith(SIGNATURE) or begin[USER_BLOCK:] == SIGNATURE


def _refuse_old_matlab(path: Path) -> None:
    if path.suffix.lower() == ".mat" and not is_hdf5(path) and path.stat().st_size:
        raise SourceError(
            f"{path}: a .mat file that is no HDF5, as MATLAB writes without -v7.3; save it again in MATLAB with "
            "save(name, 'variable', '-v7.3'), or write TIFF"
        )


def _far_files(address: str, path: Path, others: list[Path]) -> list[str]:
    """Return a remark if voxels come from files outside the folder of the file."""
    folder = path.resolve().parent
    far = [other for other in others if not other.resolve().is_relative_to(folder)]
    return [f"{address}: its voxels lie in files of other folders, such as {far[0]}"] if far else []


FORMAT = Format(
    name="HDF5",
    suffixes=(".h5", ".hdf5", ".hdf", ".he5", ".nc", ".ilp", ".ims", ".mat", ".emd"),
    open=lambda given, path, inner: Hdf5Source(given, Path(path), inner),
    recognises=is_hdf5,
    has_inner=True,
    axes="axistags, dimension labels and scales, the attributes _ARRAY_DIMENSIONS and axes, else z, y, x",
    voxel_size="resolution in nm, element_size_um, axistags, coordinates of the axes, BigDataViewer's XML, Imaris",
    writers="h5py, hdf5plugin",
)
