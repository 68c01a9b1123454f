"""Read Zarr v2, Zarr v3 and OME-Zarr. The state of a source is the state of its metadata and of its chunks' files."""

import json
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.storage.address import AddressError
from unet.storage.chunk_files import ChunkFiles
from unet.storage.foreign_images import open_foreign
from unet.storage.foreign_zarr import ForeignArray, foreign_backend
from unet.storage.local_folder import links_of
from unet.storage.zarr_store import StoreError
from unet.volumes.readers.array_attributes import packing_remark, placement
from unet.volumes.readers.axes import AxisOrder, axis_order
from unet.volumes.readers.chunked import ChunkedSource
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.formats import Format
from unet.volumes.readers.source import Nm
from unet.volumes.readers.wkw_files import PROPERTIES, Layer
from unet.volumes.voxel_size import stated_voxel_size


class ZarrSource(ChunkedSource):
    """A Zarr array, or a level of an OME-Zarr image of one time point, in a folder, a zip archive or at an address."""

    format_name = "Zarr"
    parallel_reads = True

    def __init__(self, given: SourceConfig, where: Path | str, inner: str | None) -> None:
        address = given.path
        root, path = _whole_store(where, (inner or "").strip("/"))
        before = _metadata_states(root, path)
        self._array = _open_zarr(root, path)
        of_array = _metadata_states(root, self._array.path)
        links = links_of(where) if isinstance(where, Path) else []
        self.metadata_states = [
            *links,
            *before,
            *(state for state in of_array if state[0] not in {one[0] for one in before}),
        ]
        self.fill_value, self.backend = self._array.fill_value, self._array.backend
        self.stored_in = "shards" if self._array.is_sharded else "chunks"
        if 0 in self._array.array.chunks:
            raise SourceError(f"{address}: its chunks have the shape {self._array.array.chunks}; correct the metadata")
        if self._array.contradiction and given.axes is None:
            raise SourceError(
                f"{address}: {self._array.contradiction}; correct the metadata, or write `axes` at this source"
            )
        order = axis_order(self._array.shape, self._array.axes, address, self._array.axes_from, given.axes)
        size, offset, origin, remarks = _place(self._array, order, address)
        super().__init__(
            address,
            _files(root, before),
            order,
            self._array.dtype,
            voxel_size_nm=size,
            offset_nm=offset,
            voxel_size_from=origin,
            remarks=[*self._array.remarks, *remarks, *_beyond_bounding_box(root, self._array.path, order, address)],
        )
        self.decode_in(order.chunk(self._array.array.chunks))

    @property
    def chunk_files(self) -> ChunkFiles:
        """Return the files of the chunks, or of the shards."""
        return self._array.chunk_files

    def missing_in_shards(
        self, selection: tuple[slice, ...], stored: Sequence[tuple[str, int]]
    ) -> tuple[int, int, int]:
        """Count the chunks of a selection that shards lack, by the index of each shard."""
        with read_errors(str(self.backend), "Zarr"):
            return self._array.missing_in_shards(selection, stored)

    def _read(self, box: Box) -> np.ndarray:
        try:
            return super()._read(box)
        except SourceError as error:
            if damaged := self._array.damaged_file(self.order.selection(box)):
                raise SourceError(f"{error}. The chunk's file is {damaged}") from error
            raise

    def _read_stored(self, selection: tuple[slice, ...]) -> np.ndarray:
        return self._array.read(selection)


def _open_zarr(root: Path | str, path: str) -> ForeignArray:
    with read_errors(root, "Zarr"):
        try:
            return open_foreign(str(root), path)
        except StoreError as error:
            raise SourceError(str(error)) from error
        except ValueError as error:
            if damaged := _damaged_metadata(root, path):
                raise SourceError(f"{damaged}: is no JSON, it is damaged or cut short; copy it again") from error
            raise


def _place(array: ForeignArray, order: AxisOrder, address: str) -> tuple[Nm | None, Nm | None, str, tuple[str, ...]]:
    """Return voxel size and offset (z, y, x) in nm, where they are from, and remarks."""
    scale, translation, origin = array.scale_nm, array.translation_nm, "the scale of OME-Zarr"
    told = [packing_remark(array.attributes)]
    if scale is None:
        found, origin = placement(array.attributes, order.names, address)
        scale, translation = found.scale_nm, found.translation_nm
        told.append(found.remark)
    size = stated_voxel_size(order.by_axis(scale), address)
    remarks = tuple(f"{address}: {remark}" for remark in told if remark)
    return size, order.by_axis(translation) if size else None, origin, remarks


def _beyond_bounding_box(root: Path | str, path: str, order: AxisOrder, address: str) -> tuple[str, ...]:
    """Return a remark if a layer of WEBKNOSSOS fills a part of its array, which begins at voxel 0 in any case."""
    folder = Path(root, path)
    properties = folder.parent.parent / PROPERTIES
    if not isinstance(root, Path) or not properties.is_file():
        return ()
    box = Layer.of(properties, folder).box
    if box is None:
        return ()
    begin, lengths = box[0][::-1], box[1][::-1]
    crop = [[a, min(a + length, n)] for a, length, n in zip(begin, lengths, order.shape, strict=True)]
    if crop == [[0, n] for n in order.shape] or any(a >= b for a, b in crop):
        return ()
    return (
        f"{address}: its shape is {order.shape}, but the bounding box of the layer is {crop} (z, y, x), and nothing is "
        f"stored beyond it; write `crop: {crop}` at this volume",
    )


def _whole_store(where: Path | str, path: str) -> tuple[Path | str, str]:
    """Return the store of which a folder is a part, and the path in it: (a.zarr, 0/1) for a.zarr/0/1.

    A level of an image has no axes and no voxel size of its own: the groups above it have.
    """
    with suppress(AddressError):  # some servers refuse to say that an object is not there
        while True:
            text = str(where).rstrip("/")
            above, _, name = text.rpartition("/")
            if (
                not above
                or above.endswith(("/", ":"))
                or not _is_group(Path(above) if isinstance(where, Path) else above)
            ):
                break
            where, path = (Path(above) if isinstance(where, Path) else above), f"{name}/{path}".rstrip("/")
    return where, path


def _is_group(where: Path | str) -> bool:
    backend = foreign_backend(where)
    if backend.size(".zgroup") is not None:
        return True
    with suppress(ValueError):
        return json.loads(backend.read("zarr.json") or b"{}").get("node_type") == "group"
    return False


def _files(root: Path | str, metadata: list[list[Any]]) -> list[Path]:
    if not isinstance(root, Path):
        return []
    return [root] if root.is_file() else [root / key for key, *_ in metadata]


METADATA = ("zarr.json", ".zmetadata", ".zgroup", ".zarray", ".zattrs")


def is_zarr(where: Path | str, inner: str | None = None) -> bool:
    """Return whether a folder or an address holds metadata of Zarr."""
    return bool(_metadata_states(where, inner or ""))


def _metadata_states(where: Path | str, *paths: str) -> list[list[Any]]:
    """Return key and state of each metadata file of a store, of paths inside it, and of all groups above the paths."""
    backend = foreign_backend(where)
    states = ((key, backend.state(key)) for key in _metadata_keys(*paths))
    return [[key, *state] for key, state in states if state is not None]


def _damaged_metadata(where: Path | str, path: str) -> str | None:
    """Return the first metadata file on the way to a path that is no JSON."""
    backend = foreign_backend(where)
    for key, *_ in _metadata_states(where, path):
        try:
            json.loads(backend.read(key) or b"")
        except ValueError:
            return f"{backend}/{key}"
    return None


def _metadata_keys(*paths: str) -> list[str]:
    names = [[f"{name}/" for name in path.split("/") if name] for path in paths]
    folders = dict.fromkeys(folder for below in names for folder in ("", *accumulate(below)))
    return [f"{folder}{name}" for folder in folders for name in METADATA]


FORMAT = Format(
    name="Zarr and OME-Zarr",
    suffixes=(".zarr", ".ozx", ".zarr.zip"),
    open=ZarrSource,
    recognises=lambda path: (path.is_dir() or zipfile.is_zipfile(path)) and is_zarr(path),
    recognises_address=is_zarr,
    has_inner=True,
    is_folder=True,
    axes="multiscales, dimension_names, _ARRAY_DIMENSIONS",
    voxel_size="scale of OME-Zarr; attributes resolution, voxel_size, transform",
    writers="zarr, ome-zarr, ngff-zarr",
)
