"""Read Zarr v2, Zarr v3 and OME-Zarr. The state of a source is the state of its metadata and of its chunks' files."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.storage import zarr_store as store
from unet.storage.backends import CannotList, backend_of, links_of
from unet.volumes.readers.axes import axis_order
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.formats import Format
from unet.volumes.readers.source import ArraySource, MissingChunks


class ZarrSource(ArraySource):
    """A Zarr array, or the finest level of an OME-Zarr image of one time point, in a folder or at an address."""

    format_name = "Zarr"
    parallel_reads = True

    def __init__(self, given: SourceConfig, where: Path | str, inner: str | None) -> None:
        address = given.path
        before = _metadata_states(where, inner or "")
        self._array = _open_zarr(address, where, inner)
        of_array = _metadata_states(where, self._array.path)
        links = links_of(where) if isinstance(where, Path) else []
        self._metadata = [*links, *before, *(state for state in of_array if state[0] not in {one[0] for one in before})]
        order = axis_order(self._array.shape, self._array.axes, address, "the multiscales of OME-Zarr", given.axes)
        scale, translation = (order.by_axis(nm) for nm in (self._array.scale_nm, self._array.translation_nm))
        files = [where / key for key, *_ in before] if isinstance(where, Path) else []
        super().__init__(
            address,
            files,
            order,
            self._array.dtype,
            voxel_size_nm=scale,
            offset_nm=translation,
            voxel_size_from="the scale of OME-Zarr",
        )

    def state(self, box: Box) -> list[list[Any]]:
        """Return the states of the metadata, and of the chunks (of a sharded array: the shards) that a box touches.

        If a server does not list its content, the states of the metadata only.
        """
        with suppress(CannotList):
            states = self._array.chunk_files.states(self.order.selection(box))
            return [*self._metadata, *([key, *state] for key, state in states.items())]
        return self._metadata

    def listed(self, box: Box) -> Iterator[list[Any]]:
        """Yield the content of `state` in any order, from one listing of the store."""
        yield from self._metadata
        with suppress(CannotList):
            yield from ([key, *state] for key, state in self._array.chunk_files.listed(self.order.selection(box)))

    def missing_chunks(self, box: Box) -> list[MissingChunks]:
        """Count the chunks that a box touches and that are not stored."""
        selection, files = self.order.selection(box), self._array.chunk_files
        count, stored = files.count(selection), sum(1 for _ in files.listed(selection))
        kind = "shards" if self._array.is_sharded else "chunks"
        return [MissingChunks(self.address, count - stored, count, self._array.fill_value, kind)]

    def _read_stored(self, selection: tuple[slice, ...]) -> np.ndarray:
        return self._array.read(selection)


def _open_zarr(address: str, where: Path | str, inner: str | None) -> store.ForeignArray:
    with read_errors(where, "Zarr"):
        try:
            return store.open_foreign(str(where), inner)
        except store.StoreError as error:
            listed = ", ".join(store.list_foreign(str(where)))
            advice = (
                f"write store.zarr:/path, the store holds: {listed}" if listed else "it holds no array; copy it again"
            )
            raise SourceError(f"{error}; {advice}") from error


METADATA = ("zarr.json", ".zmetadata", ".zgroup", ".zarray", ".zattrs")


def is_zarr(where: Path | str, inner: str | None = None) -> bool:
    """Return whether a folder or an address holds metadata of Zarr."""
    return bool(_metadata_states(where, inner or ""))


def _metadata_states(where: Path | str, *paths: str) -> list[list[Any]]:
    """Return key and state of each metadata file of a store, of paths inside it, and of all groups above the paths."""
    backend = backend_of(where)
    states = ((key, backend.state(key)) for key in _metadata_keys(*paths))
    return [[key, *state] for key, state in states if state is not None]


def _metadata_keys(*paths: str) -> list[str]:
    names = [[f"{name}/" for name in path.split("/") if name] for path in paths]
    folders = dict.fromkeys(folder for below in names for folder in ("", *accumulate(below)))
    return [f"{folder}{name}" for folder in folders for name in METADATA]


FORMAT = Format(
    name="Zarr and OME-Zarr",
    suffixes=(".zarr",),
    open=ZarrSource,
    recognises=lambda path: path.is_dir() and is_zarr(path),
    has_inner=True,
    axes="multiscales",
    voxel_size="scale of OME-Zarr",
    writers="zarr, ome-zarr, ngff-zarr",
)
