"""Read N5, whose axes are stored in the opposite order of Zarr's: x, y, z. It is read by tensorstore.

```
volume.n5/attributes.json                 {"n5": "2.5.0"}
volume.n5/em/attributes.json              multiscales, scales, pixelResolution      (may be absent)
volume.n5/em/s0/attributes.json           dimensions [x, y, z], blockSize, dataType, compression
volume.n5/em/s0/2/1/0                     block of x index 2, y index 1, z index 0
```
"""

import json
from collections.abc import Mapping
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import numpy as np

from unet.config.source import SourceConfig
from unet.storage.backends import Backend, backend_of
from unet.storage.chunk_files import ChunkFiles
from unet.storage.local_folder import links_of
from unet.storage.ngff import Coordinates
from unet.storage.object_storage import CannotList
from unet.volumes.readers.array_attributes import placement
from unet.volumes.readers.axes import axis_order
from unet.volumes.readers.chunked import ChunkedSource
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.formats import Format
from unet.volumes.readers.tensorstore_arrays import key_value_store, open_array, read_array
from unet.volumes.voxel_size import stated_voxel_size

ATTRIBUTES = "attributes.json"
DTYPES = {f"{kind}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64)} | {"float32", "float64"}
COMPRESSIONS = ("raw", "gzip", "bzip2", "xz", "blosc", "zstd")
"""What tensorstore decompresses."""
MAX_SEEN = 100_000
"""Files that are looked at to list the datasets of a container, for a message."""
Attributes = dict[str, Any]


class N5Source(ChunkedSource):
    """A dataset of an N5 container, or the finest level of a group s0, s1 ..."""

    format_name = "N5"
    parallel_reads = True
    stored_in = "blocks"

    def __init__(self, given: SourceConfig, where: Path | str, inner: str | None) -> None:
        address = given.path
        root, path = _container(where, (inner or "").strip("/"))
        self.backend: Backend = backend_of(root)
        with read_errors(root, "N5"):
            path, attributes, remarks = _dataset(self.backend, path, address)
        self._root, self._path, self._metadata = root, path, _array_metadata(attributes, address)
        self._dimensions, self._block = (tuple(self._metadata[key]) for key in ("dimensions", "blockSize"))
        links = links_of(where) if isinstance(where, Path) else []
        self.metadata_states = [*links, *_states(self.backend, path)]
        names, origin = _names(attributes, self._dimensions, address, given.axes is not None)
        order = axis_order(self._dimensions, names, address, origin, given.axes)
        above = _attributes(self.backend, _parent(path)) or {}
        first = _attributes(self.backend, f"{_parent(path)}/s0".strip("/")) or {}
        found, voxel_size_from = placement(_with_group(attributes, above, first, path), order.names, address)
        scale = stated_voxel_size(order.by_axis(found.scale_nm), address)
        if voxel_size_from.endswith("resolution") and scale and max(scale[1:]) >= 2 * scale[0]:
            # Somebody wrote z, y, x: no sections are thinner than half a pixel.
            found = Coordinates(
                remark=f"{voxel_size_from} is not used: in N5 it is x, y, z, and z would be {scale[0]:g} nm beside "
                f"{scale[2]:g} nm of x"
            )
            scale = None
        super().__init__(
            address,
            [root / state[0] for state in _states(self.backend, path)] if isinstance(root, Path) else [],
            order,
            self._metadata["dataType"],
            voxel_size_nm=scale,
            offset_nm=order.by_axis(found.translation_nm) if scale else None,
            voxel_size_from=voxel_size_from,
            remarks=[*remarks, *([f"{address}: {found.remark}"] if found.remark else [])],
            where=root,
        )
        self.decode_in(order.chunk(self._block))
        with read_errors(root, "N5"):
            self._array()

    @property
    def chunk_files(self) -> ChunkFiles:
        """Return the files of the blocks."""
        return ChunkFiles(self.backend, self._path, self._dimensions, self._block, _block_key)

    def _read_stored(self, selection: tuple[slice, ...]) -> np.ndarray:
        return read_array(self._array(), self._root, selection)

    def _array(self) -> Any:
        spec = {
            "driver": "n5",
            "kvstore": key_value_store(self._root, self._path),
            "metadata": self._metadata,
            "assume_metadata": True,
        }
        return open_array(spec, self._root, "N5")


def _block_key(index: tuple[int, ...]) -> str:
    return "/".join(map(str, index))


def _container(where: Path | str, path: str) -> tuple[Path | str, str]:
    """Return the container of which a folder is a part, and the path in it: (a.n5, em/s0) for a.n5/em/s0."""
    parts = str(where).rstrip("/").split("/")
    ends = [i for i, part in enumerate(parts[:-1]) if part.lower().endswith(".n5")]
    if isinstance(where, Path) and not ends:
        known = (i for i in range(1, len(parts) - 1) if (Path("/".join(parts[: i + 1])) / ATTRIBUTES).is_file())
        ends = list(islice(known, 1))
    if not ends:
        return where, path
    root, below = "/".join(parts[: ends[0] + 1]), "/".join(parts[ends[0] + 1 :])
    return (Path(root) if isinstance(where, Path) else root), f"{below}/{path}".strip("/")


def _attributes(backend: Backend, path: str) -> Attributes | None:
    """Return the attributes of a group or dataset; None if it has none."""
    key = f"{path}/{ATTRIBUTES}".lstrip("/")
    content = backend.read(key)
    if content is None:
        return None
    try:
        found = json.loads(content)
    except ValueError as error:
        raise SourceError(f"{backend}/{key}: is no JSON, it is damaged or cut short ({error}); copy it again") from None
    return found if isinstance(found, dict) else {}


def _states(backend: Backend, path: str) -> list[list[Any]]:
    folders = ["", *accumulate(f"{name}/" for name in path.split("/") if name)]
    states = ((f"{folder}{ATTRIBUTES}", backend.state(f"{folder}{ATTRIBUTES}")) for folder in folders)
    return [[key, *state] for key, state in states if state is not None]


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _dataset(backend: Backend, path: str, address: str) -> tuple[str, Attributes, list[str]]:
    """Return path and attributes of a dataset, of the finest level if the path is of a group, and remarks."""
    attributes = _attributes(backend, path)
    if attributes is not None and "dimensions" in attributes:
        return path, attributes, _remark_of_level(backend, path, address)
    finest = f"{path}/s0".lstrip("/")
    level = _attributes(backend, finest)
    if level is not None and "dimensions" in level:
        return finest, level, [f"{address}: /{path} is a pyramid; its finest level, /{finest}, is read"]
    listed = ", ".join(_datasets(backend)) or "none that is known"
    missing = f"no dataset /{path}" if path else "which dataset?"
    raise SourceError(f"{address}: {missing}; write volume.n5:/path, the container holds: {listed}")


def _remark_of_level(backend: Backend, path: str, address: str) -> list[str]:
    above, _, name = path.rpartition("/")
    if name == "s0" or not (name.startswith("s") and name[1:].isdigit()):
        return []
    finest = f"{above}/s0".lstrip("/")
    if _attributes(backend, finest) is None:
        return []
    return [f"{address}: level {name} is read, which has coarser voxels than the finest, /{finest}"]


def _datasets(backend: Backend) -> list[str]:
    found = []
    try:
        keys = [key for key, _ in islice(backend.listing(), MAX_SEEN)]
    except CannotList:
        return []
    for key in keys:
        if key.endswith(ATTRIBUTES):
            path = key.removesuffix(ATTRIBUTES).rstrip("/")
            attributes = _attributes(backend, path) or {}
            if "dimensions" in attributes:
                found.append(f"/{path} {tuple(attributes['dimensions'])} (x, y, z)")
    return sorted(found)


def _array_metadata(attributes: Attributes, address: str) -> Attributes:
    """Return what tensorstore has to know of a dataset, and refuse what it cannot read."""
    compression = attributes.get("compression", attributes.get("compressionType", "raw"))
    compression = compression if isinstance(compression, Mapping) else {"type": str(compression)}
    dtype, kind = attributes.get("dataType"), str(compression.get("type"))
    if attributes.get("isLabelMultiset"):
        raise SourceError(
            f"{address}: is a multiset of labels of Paintera, several ids per voxel; export the ids as uint64"
        )
    if dtype not in DTYPES:
        raise SourceError(
            f"{address}: dataType {dtype} is not supported; convert it to one of {', '.join(sorted(DTYPES))}"
        )
    if kind not in COMPRESSIONS:
        raise SourceError(
            f"{address}: compression {kind} is not read; write the dataset again with one of {', '.join(COMPRESSIONS)}"
        )
    dimensions, block = attributes["dimensions"], attributes.get("blockSize")
    lengths = [*dimensions, *block] if isinstance(dimensions, list) and isinstance(block, list) else []
    if not lengths or len(lengths) != 2 * len(dimensions) or not all(isinstance(n, int) and n > 0 for n in lengths):
        raise SourceError(f"{address}: dimensions {dimensions} and blockSize {block} in {ATTRIBUTES} do not fit")
    return {"dimensions": dimensions, "blockSize": block, "dataType": dtype, "compression": dict(compression)}


def _names(
    attributes: Attributes, dimensions: tuple[int, ...], address: str, is_configured: bool
) -> tuple[list[str] | None, str]:
    """Return the names of the axes in the order of `dimensions`, and where they are from."""
    count = len(dimensions)
    given, transform = attributes.get("axes"), attributes.get("transform")
    if isinstance(given, list) and len(given) == count and all(isinstance(name, str) and name for name in given):
        return given, "the attribute axes"
    if isinstance(transform, Mapping) and isinstance(transform.get("axes"), list) and len(transform["axes"]) == count:
        listed = [str(axis).lower() for axis in transform["axes"]]
        names = listed if transform.get("order") == "F" else listed[::-1]
        if "order" not in transform and "z" in names and names.index("x") > names.index("z") and not is_configured:
            raise SourceError(
                f"{address}: dimensions {dimensions} are x, y, z in N5, but the axes of the attribute transform, "
                f"{', '.join(listed)}, are in the order of numpy. They would be {', '.join(names)} then; write `axes: "
                "xyz` at this source if the first of the dimensions is x, else `axes: zyx`"
            )
        return names, "the attribute transform"
    long = [i for i, n in enumerate(dimensions) if n > 1]
    if count > 3:
        named = dict(zip(long, "xyz", strict=True)) if len(long) == 3 else dict(enumerate("xyz"))
        return [named.get(i, "?") for i in range(count)], "the order of N5"
    return list("xyz")[:count], "the order of N5"


def _with_group(attributes: Attributes, above: Attributes, finest: Attributes, path: str) -> Attributes:
    """Return the attributes that place a dataset, some of which its group holds for all levels."""
    found = dict(attributes)
    name = path.rpartition("/")[2]
    for image in above.get("multiscales") or []:
        for one in image.get("datasets") or [] if isinstance(image, Mapping) else []:
            if isinstance(one, Mapping) and one.get("path") == name and "transform" in one:
                found.setdefault("transform", one["transform"])
    whole = above.get("pixelResolution", above.get("resolution"))
    base = finest.get("pixelResolution", whole)
    if "pixelResolution" not in found and "resolution" not in found and whole is not None:
        found["pixelResolution"] = whole
    factors = found.get("downsamplingFactors")
    if isinstance(factors, list) and found.get("pixelResolution", base) == base and base is not None:
        values = base.get("dimensions") if isinstance(base, Mapping) else base
        if (
            isinstance(values, list)
            and len(values) == len(factors)
            and all(isinstance(f, int | float) for f in factors)
        ):
            unit = base.get("unit") if isinstance(base, Mapping) else None
            edges = [n * f for n, f in zip(values, factors, strict=True)]
            found["pixelResolution"] = {"dimensions": edges, "unit": unit}
    return found


def is_n5(where: Path | str, inner: str | None = None) -> bool:
    """Return whether a folder or an address holds attributes of N5."""
    root, path = _container(where, (inner or "").strip("/"))
    if str(root).lower().endswith(".n5"):
        return True
    backend = backend_of(root)
    for folder in ("", path):
        try:
            found = _attributes(backend, folder) or {}
        except SourceError:
            return True
        if found.keys() & {"n5", "dimensions", "multiscales"}:
            return True
    return False


FORMAT = Format(
    name="N5",
    suffixes=(".n5",),
    open=N5Source,
    recognises=lambda path: path.is_dir() and is_n5(path),
    recognises_address=is_n5,
    has_inner=True,
    is_folder=True,
    package="tensorstore",
    axes="x, y, z; attributes axes, transform",
    voxel_size="attributes transform, pixelResolution, resolution",
    writers="tensorstore",
)
