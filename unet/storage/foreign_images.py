"""Find the array that a path in a Zarr store of another program means: bare arrays, and OME-Zarr 0.1 to 0.5.

A path in a store may name an array, a level of an image, or a group that holds exactly one image:

```
store.zarr            multiscales                  its finest level
store.zarr:/1         a level of the image above   that level, with its own scale, and a remark
store.zarr            bioformats2raw.layout        the only image in it; several are refused with a list
store.zarr            plate, well, labels          the only image in it; several are refused with a list
```

Axes are named by the multiscales, by `dimension_names` (Zarr v3) or by `_ARRAY_DIMENSIONS` (xarray).
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import zarr
from zarr.abc.store import Store
from zarr.errors import BaseZarrError, NodeTypeValidationError
from zarr.storage import WrapperStore, ZipStore

from unet.storage.address import is_address
from unet.storage.foreign_zarr import ForeignArray, ForeignBackend, foreign_backend
from unet.storage.ngff import Coordinates, axis_names, coordinates_nm, multiscales_of, ome_attributes
from unet.storage.zarr_store import StoreError, zarr_store_of
from unet.storage.zip_archive import ZipArchive

NO_NAMES = re.compile(r"(phony_)?dim_?\d+|axis_?\d+|d\d+", re.IGNORECASE)
"""Names that libraries give to axes that nobody has named."""
VERSION_AS_TEXT = re.compile(rb'("zarr_format"\s*:\s*)"2"')
MAX_LISTED = 24
"""Images and arrays that a message lists."""


def open_foreign(where: str, inner: str | None = None) -> ForeignArray:
    """Open an array, a level of an image, or the finest level of the only image of a group.

    Parameters
    ----------
    where
        Folder, zip archive or address of the store.
    inner
        Path of the array or group in the store; by default its root.

    Raises
    ------
    StoreError
        If there is no such array or image, or there are several images. The message lists what the store holds.
    """
    backend = foreign_backend(where)
    with backend.translate_errors():
        store = _store_of(backend)
        node = _node(store, (inner or "").strip("/"))
        if node is None:
            raise StoreError(f"{where}: no Zarr array or group {inner or '/'}; {_advice(where, store)}")
        if isinstance(node, zarr.Array):
            return _array_with_names(node, backend, store)
        return _finest(where, node, backend, store)


class _VersionAsNumber(WrapperStore[Store]):
    """A store whose groups say the version of Zarr as a number; WEBKNOSSOS writes text, which zarr-python refuses."""

    async def get(self, key: str, *details: Any, **more: Any) -> Any:
        """Return the content of a file, with the version of a group as a number."""
        found = await super().get(key, *details, **more)
        if found is None or key.rpartition("/")[2] != ".zgroup":
            return found
        return type(found).from_bytes(VERSION_AS_TEXT.sub(rb"\g<1>2", found.to_bytes()))


def _store_of(backend: ForeignBackend) -> Store:
    if isinstance(backend, ZipArchive):
        return _VersionAsNumber(ZipStore(backend.path, mode="r", read_only=True))
    return _VersionAsNumber(zarr_store_of(backend, read_only=True))


def _node(store: Store, path: str) -> zarr.Array | zarr.Group | None:
    """Return the array or group of a path; None if there is none. Consolidated metadata, which age, are not used."""
    with suppress(FileNotFoundError, NodeTypeValidationError):
        return zarr.open_array(store, mode="r", path=path)
    with suppress(FileNotFoundError):
        return zarr.open_group(store, mode="r", path=path, use_consolidated=False)
    return None


def _advice(where: str, store: Store) -> str:
    if is_address(where) and _node(store, "") is None:
        return "there is no zarr.json, .zarray or .zgroup at this address; correct the address"
    listed = _listed(store)
    if not listed:
        return "it holds no array; copy it again"
    return f"write {Path(where).name}:/path, the store holds: {', '.join(listed)}"


def _listed(store: Store) -> list[str]:
    root = _node(store, "")
    found: list[str] = []
    with suppress(NotImplementedError, OSError, BaseZarrError):
        for text in _images_and_arrays(root) if root is not None else ():
            if len(found) == MAX_LISTED:
                return [*found, "and more"]
            found.append(text)
    return found


def _images_and_arrays(node: zarr.Array | zarr.Group) -> Iterator[str]:
    """Yield path and shape of each image, and of each array that is no level of an image."""
    if isinstance(node, zarr.Array):
        yield f"/{node.path} {tuple(node.shape)}"
        return
    levels: set[str] = set()
    for image in multiscales_of(dict(node.attrs)):
        paths = [str(one.get("path")) for one in image["datasets"]]
        finest = node.get(paths[0])
        levels |= {path.partition("/")[0] for path in paths}
        yield f"/{node.path} {tuple(finest.shape) if isinstance(finest, zarr.Array) else 'without its finest level'}"
    for name, member in sorted(node.members(), key=lambda pair: _by_number(pair[0])):
        if name not in levels:
            yield from _images_and_arrays(member)


def _by_number(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (10**9, name)


def _array_with_names(array: zarr.Array, backend: ForeignBackend, store: Store) -> ForeignArray:
    """Return an array with the metadata of the image of which it is a level, or with its own names of axes."""
    parts = array.path.split("/") if array.path else []
    for depth in reversed(range(len(parts))):
        above, below = _node(store, "/".join(parts[:depth])), "/".join(parts[depth:])
        for image in multiscales_of(dict(above.attrs)) if isinstance(above, zarr.Group) else []:
            for dataset in image["datasets"]:
                if str(dataset.get("path")).strip("/") == below:
                    return _level(array, backend, image, dataset)
    names, origin = _own_names(array)
    return ForeignArray(array, backend, names, origin)


def _level(
    array: zarr.Array, backend: ForeignBackend, image: Mapping[str, Any], dataset: Mapping[str, Any]
) -> ForeignArray:
    """Return an array as a level of a multiscale image, with the scale and translation of that level."""
    found: Coordinates = coordinates_nm(image, dataset, array.ndim)
    remarks = [f"{backend}: {found.remark}"] if found.remark else []
    level, count = image["datasets"].index(dataset), len(image["datasets"])
    finest = _of_smallest_voxels(image, array.ndim).get("path")
    if dataset.get("path") != finest:
        remarks.append(
            f"{backend}: level {dataset['path']} is read, number {level + 1} of {count}, which has coarser voxels than "
            f"the finest, {finest}"
        )
    names, origin = axis_names(image, array.ndim), "the multiscales of OME-Zarr"
    own, where = _own_names(array)
    contradiction = None
    if names is None:
        names, origin = own, where
    if names is not None and len(names) != array.ndim:
        raise StoreError(
            f"{backend}: the multiscales name {len(names)} axes ({', '.join(names)}), but the array /{array.path} has "
            f"shape {tuple(array.shape)}; correct the metadata"
        )
    if own and names and [n.lower() for n in own] != [n.lower() for n in names] and image.get("axes"):
        contradiction = f"axes {', '.join(names)} by {origin}, but {', '.join(own)} by {where}"
    return ForeignArray(
        array, backend, names, origin, found.scale_nm, found.translation_nm, tuple(remarks), contradiction
    )


def _of_smallest_voxels(image: Mapping[str, Any], axes: int) -> Mapping[str, Any]:
    """Return the level with the smallest voxels; the first where a level has no scale."""
    levels = image["datasets"]
    sizes = [coordinates_nm(image, one, axes).scale_nm for one in levels]
    known = [prod(size) for size in sizes if size is not None and all(edge > 0 for edge in size)]
    return levels[known.index(min(known))] if len(known) == len(levels) else levels[0]


def _own_names(array: zarr.Array) -> tuple[list[str] | None, str]:
    """Return the names of the axes that an array's own metadata give, and where; None if they give none."""
    given: Any = getattr(array.metadata, "dimension_names", None)
    attributes = dict(array.attrs)
    xarray, funlib = attributes.get("_ARRAY_DIMENSIONS"), attributes.get("axis_names")
    candidates = ((given, "dimension_names"), (xarray, "_ARRAY_DIMENSIONS"), (funlib, "the attribute axis_names"))
    for names, origin in candidates:
        listed = [str(name or "?").rstrip("^") for name in names] if isinstance(names, list | tuple) else []
        if len(listed) == array.ndim and not all(name == "?" or NO_NAMES.fullmatch(name) for name in listed):
            return listed, origin
    return None, ""


def _finest(where: str, group: zarr.Group, backend: ForeignBackend, store: Store) -> ForeignArray:
    """Return the finest level of the only image of a group."""
    images, place = multiscales_of(dict(group.attrs)), f"/{group.path}".rstrip("/")
    if len(images) > 1:
        listed = [f"{one.get('name') or 'without a name'}: {place}/{one['datasets'][0]['path']}" for one in images]
        raise StoreError(f"{where}: {place or 'its root'} holds {len(images)} images; name one: {', '.join(listed)}")
    if images:
        return _finest_level(where, group, backend, images[0])
    inside = _images_inside(group)
    if not inside:
        raise StoreError(
            f"{where}: {place or 'its root'} is a group without OME-Zarr metadata, so it is not known which array is "
            f"meant; {_advice(where, store)}"
        )
    if len(inside) == 1:
        path, member = inside[0]
        found = _finest(where, member, backend, store)
        return (
            found
            if _metadata_of(group).get("bioformats2raw.layout")
            else _with_remark(found, f"{where}: {place}/{path} is read")
        )
    shapes = [f"{place}/{path} {_shape_of(member)}" for path, member in inside[:MAX_LISTED]]
    more = f" and {len(inside) - MAX_LISTED} more" if len(inside) > MAX_LISTED else ""
    raise StoreError(
        f"{where}: {place or 'its root'} holds {len(inside)} images, and a source is one of them; write "
        f"{Path(where).name}:/path, one of: {', '.join(shapes)}{more}"
    )


def _with_remark(found: ForeignArray, remark: str) -> ForeignArray:
    return replace(found, remarks=(*found.remarks, remark))


def _finest_level(where: str, group: zarr.Group, backend: ForeignBackend, image: Mapping[str, Any]) -> ForeignArray:
    """Return the level of an image with the most voxels, which by the specification is the first."""
    levels = [(dataset, _level_array(where, group, str(dataset.get("path")))) for dataset in image["datasets"]]
    gone = [str(dataset.get("path")) for dataset, array in levels if array is None]
    if gone and gone[0] == str(levels[0][0].get("path")):
        raise StoreError(
            f"{where}: its metadata name the levels {', '.join(str(one.get('path')) for one, _ in levels)}, of which "
            f"{', '.join(gone)} are missing; copy it again, or name a level that is there"
        )
    there = [(dataset, array) for dataset, array in levels if array is not None]
    dataset, array = max(there, key=lambda pair: prod(pair[1].shape))
    found = _level(array, backend, image, dataset)
    if dataset is not image["datasets"][0]:
        return _with_remark(found, f"{where}: the first level is not the largest; {dataset['path']} is read")
    return found


def _level_array(where: str, group: zarr.Group, path: str) -> zarr.Array | None:
    try:
        found = group.get(path)
    except ValueError as error:
        raise StoreError(
            f"{where}: the metadata of {group.path}/{path} are damaged or cut short ({error}); copy them again"
        ) from error
    return found if isinstance(found, zarr.Array) else None


def _images_inside(group: zarr.Group) -> list[tuple[str, zarr.Group]]:
    """Return path and group of the images of a bioformats2raw layout, a plate, a well or a group of labels."""
    said = _metadata_of(group)
    if said.get("bioformats2raw.layout"):
        names = _series_names(group)
    elif isinstance(said.get("plate"), Mapping):
        listed = said["plate"].get("wells")
        wells = [str(one.get("path")) for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []
        names = [f"{well}/{image}" for well in wells for image in _images_of_well(group.get(well))]
    elif isinstance(said.get("well"), Mapping):
        names = _images_of_well(group)
    elif isinstance(said.get("labels"), list):
        names = [str(name) for name in said["labels"]]
    else:
        return []
    found = [(name, group.get(name)) for name in names]
    return [(name, member) for name, member in found if isinstance(member, zarr.Group)]


def _series_names(group: zarr.Group) -> list[str]:
    """Return the names of the images of a bioformats2raw layout: those that the group OME lists, or 0, 1, 2 ..."""
    series = _metadata_of(group.get("OME")).get("series")
    if isinstance(series, list) and series:
        return [str(name) for name in series]
    names: list[str] = []
    while isinstance(group.get(str(len(names))), zarr.Group):
        names.append(str(len(names)))
    return names


def _images_of_well(well: Any) -> list[str]:
    said = _metadata_of(well).get("well")
    return [str(image.get("path")) for image in said.get("images", [])] if isinstance(said, Mapping) else []


def _metadata_of(node: Any) -> Mapping[str, Any]:
    """Return what a group says of OME-Zarr; nothing if it is no group."""
    return ome_attributes(dict(node.attrs)) if isinstance(node, zarr.Group) else {}


def _shape_of(group: zarr.Group) -> str:
    images = multiscales_of(dict(group.attrs))
    finest = group.get(str(images[0]["datasets"][0].get("path"))) if images else None
    return str(tuple(finest.shape)) if isinstance(finest, zarr.Array) else "(not an image)"
