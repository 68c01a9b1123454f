"""Read neuroglancer precomputed: raw, JPEG, PNG and compressed_segmentation, by tensorstore.

```
em/info                                  JSON: data_type, num_channels, scales (key, size, resolution, chunk_sizes ...)
em/8_8_40/0-64_64-128_0-16               chunk of x 0 to 64, y 64 to 128, z 0 to 16, of the scale of that key
em/8_8_40/3.shard                        many chunks, if the scale has `sharding`
```
"""

import json
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from unet.config.source import SourceConfig
from unet.storage.backends import backend_of
from unet.storage.local_folder import links_of
from unet.volumes.readers.axes import axis_order
from unet.volumes.readers.chunked import ChunkedSource, FilesOfChunks
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.formats import Format
from unet.volumes.readers.precomputed_files import ScaleFiles, ShardFiles, decompressed, suffix_of
from unet.volumes.readers.tensorstore_arrays import key_value_store, open_array, read_array
from unet.volumes.voxel_size import stated_voxel_size

ENCODINGS = ("raw", "jpeg", "png", "compressed_segmentation")
"""What tensorstore decodes."""
AXES = ("x", "y", "z", "c")
Info = dict[str, Any]


class PrecomputedSource(ChunkedSource):
    """A scale of a precomputed volume in a folder or at an address; by default the finest."""

    format_name = "neuroglancer precomputed"
    parallel_reads = True

    def __init__(self, given: SourceConfig, where: Path | str, inner: str | None) -> None:
        address, name = given.path, (inner or "").strip("/")
        where, name = _volume(where, name)
        self.backend = backend_of(where)
        self._where = where
        with read_errors(where, self.format_name):
            info = _info(where)
            scales = _scales(info, address)
            index = _chosen(scales, name, address)
            self._scale, self._index = scales[index], index
            _refuse_unreadable(self._scale, address)
            size = tuple(int(n) for n in self._scale["size"])
            self._dimensions = (*size, int(info.get("num_channels", 1)))
            resolution = [float(n) for n in self._scale["resolution"]]
            begin = [n * edge for n, edge in zip(self._scale.get("voxel_offset", (0, 0, 0)), resolution, strict=True)]
        state = self.backend.state("info")
        links = links_of(where) if isinstance(where, Path) else []
        self.metadata_states = [*links, ["info", *(state or ())]]
        self._suffix = "" if self._scale.get("sharding") else suffix_of(where, self._scale, address)
        self.stored_in = "shards" if self._scale.get("sharding") else "chunks"
        order = axis_order(self._dimensions, AXES, address, "the format", given.axes)
        voxel_size = stated_voxel_size(order.by_axis([*resolution, 1.0]), address)
        super().__init__(
            address,
            [where / "info"] if isinstance(where, Path) else [],
            order,
            str(info["data_type"]),
            voxel_size_nm=voxel_size,
            offset_nm=order.by_axis([*begin, 0.0]) if voxel_size else None,
            voxel_size_from="resolution in info",
            remarks=_remarks(scales, index, address),
            where=where,
        )
        self.decode_in(order.chunk((*self._scale["chunk_sizes"][0], self._dimensions[3])))
        self.lossy = "JPEG" if self._scale["encoding"] == "jpeg" else None
        with read_errors(where, self.format_name):
            self._array()

    @property
    def chunk_files(self) -> FilesOfChunks:
        """Return the files of the chunks, or of the shards."""
        if self._scale.get("sharding"):
            return ShardFiles(self.backend, self._scale, self._dimensions)
        return ScaleFiles(self.backend, self._scale, self._dimensions, self._suffix)

    def missing_in_shards(
        self, selection: tuple[slice, ...], stored: Sequence[tuple[str, int]]
    ) -> tuple[int, int, int]:
        """Count the chunks of a selection that shards lack, by the indices of the shards."""
        files = self.chunk_files
        if not isinstance(files, ShardFiles):
            return 0, 0, 0
        with read_errors(self._where, self.format_name):
            return files.missing(selection, stored)

    def _read_stored(self, selection: tuple[slice, ...]) -> np.ndarray:
        if self._suffix:
            return self._read_compressed(selection)
        return read_array(self._array(), self._where, selection)

    def _read_compressed(self, selection: tuple[slice, ...]) -> np.ndarray:
        """Read chunks whose files are compressed once more, as CloudVolume writes them to a folder."""
        import tensorstore

        context = tensorstore.Context()
        memory = tensorstore.KvStore.open("memory://", context=context).result()
        memory.write("info", self.backend.read("info")).result()
        files = ScaleFiles(self.backend, self._scale, self._dimensions, self._suffix)
        limit = 2 * prod(files.chunk) * self.dtype.itemsize + 2**20
        for key, _ in files.selections(selection):
            if (content := self.backend.read(key)) is not None:
                plain = decompressed(content, limit, f"{self.backend}/{key}")
                memory.write(key.removesuffix(self._suffix), plain).result()
        spec = {"driver": "neuroglancer_precomputed", "kvstore": "memory://", "scale_index": self._index}
        array = tensorstore.open(spec, context=context, open=True, read=True).result()
        return read_array(array, self._where, selection)

    def _array(self) -> Any:
        store = key_value_store(self._where, "")
        spec = {"driver": "neuroglancer_precomputed", "kvstore": store, "scale_index": self._index}
        return open_array(spec, self._where, self.format_name, str(self.metadata_states))


def _volume(where: Path | str, name: str) -> tuple[Path | str, str]:
    """Return the volume of which a folder is a scale, and the scale's key: (em, 8_8_40) for em/8_8_40."""
    above, _, last = str(where).rstrip("/").rpartition("/")
    if name or not isinstance(where, Path) or (where / "info").is_file() or not (Path(above) / "info").is_file():
        return where, name
    return Path(above), last


def _info(where: Path | str) -> Info:
    backend = backend_of(where)
    content = backend.read("info")
    if content is None:
        raise SourceError(f"{where}: there is no file info in it, so it is no precomputed volume; correct the path")
    try:
        found = json.loads(content)
    except ValueError as error:
        raise SourceError(f"{where}/info: is no JSON, it is damaged or cut short ({error}); copy it again") from None
    return found if isinstance(found, dict) else {}


def _scales(info: Info, address: str) -> list[Info]:
    scales = info.get("scales")
    if not isinstance(scales, list) or not scales:
        kind = info.get("@type", "info without scales")
        raise SourceError(
            f"{address}: {kind} is no volume, but meshes, skeletons or annotations; name the folder of the image or of "
            "the segmentation"
        )
    return scales


def _chosen(scales: list[Info], name: str, address: str) -> int:
    """Return the index of the scale that an address names by its index or its key; by default of the finest."""
    if not name:
        return min(range(len(scales)), key=lambda i: prod(float(n) for n in scales[i]["resolution"]))
    keys = [str(one["key"]) for one in scales]
    if name in keys:
        return keys.index(name)
    if name.isdigit() and int(name) < len(scales):
        return int(name)
    listed = ", ".join(
        f"{i}: {key} {tuple(one['size'])}" for i, (key, one) in enumerate(zip(keys, scales, strict=True))
    )
    raise SourceError(
        f"{address}: there is no scale {name}; write path:1 or path:key, the scales are {listed} (x, y, z)"
    )


def _remarks(scales: list[Info], index: int, address: str) -> list[str]:
    finest = _chosen(scales, "", address)
    if index == finest:
        return []
    return [
        f"{address}: scale {scales[index]['key']} is read, which has coarser voxels than the finest, "
        f"{scales[finest]['key']}"
    ]


def _refuse_unreadable(scale: Info, address: str) -> None:
    for name in ("key", "size", "resolution", "chunk_sizes"):
        if name not in scale:
            raise SourceError(
                f"{address}: the scale {scale.get('key', '')} in info has no {name}; copy or write it again"
            )
    if scale.get("encoding") not in ENCODINGS:
        raise SourceError(
            f"{address}: encoding {scale.get('encoding')} is not read; write the volume again with one of "
            f"{', '.join(ENCODINGS)}"
        )
    if ".." in str(scale["key"]).split("/") or str(scale["key"]).startswith("/"):
        raise SourceError(
            f"{address}: the key {scale['key']} of a scale leaves the folder of the volume; name the volume in which "
            "the scale lies"
        )


def is_precomputed(where: Path | str, inner: str | None = None) -> bool:
    """Return whether a folder or an address holds the info of a precomputed volume, or is a scale of one."""
    place, _ = _volume(where, (inner or "").strip("/"))
    content = backend_of(place).read("info")
    return content is not None and content.lstrip()[:1] == b"{"


FORMAT = Format(
    name="neuroglancer precomputed",
    suffixes=(".precomputed",),
    open=PrecomputedSource,
    recognises=lambda path: path.is_dir() and is_precomputed(path),
    recognises_address=is_precomputed,
    has_inner=True,
    is_folder=True,
    package="tensorstore",
    axes="x, y, z, c, by the format",
    voxel_size="resolution of info, in nm",
    writers="tensorstore",
)
