"""Find the dataset that an address means in an HDF5 file, or say which datasets there are."""

from collections.abc import Iterator
from contextlib import suppress

import h5py

from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.hdf5_attributes import attribute
from unet.volumes.readers.hdf5_layouts import is_finest_level

MIN_EDGE = 8
"""Shortest second longest axis of a dataset that is taken for an image, if nobody names one."""
MAX_LISTED, MAX_VISITED = 20, 10_000
"""Largest numbers of datasets in a message, and of objects that are looked at."""
MAX_DEPTH = 3
"""Largest number of files that links lead through."""


def find_dataset(file: h5py.File, inner: str | None, address: str) -> tuple[str, str | None]:
    """Return the path of the dataset that is meant, and a remark if it was chosen because it is the only image.

    Raises
    ------
    SourceError
        If there is no such dataset, if there are several images to choose from, or if it holds no numbers.
    """
    found = _get(file, inner) if inner else file
    if isinstance(found, h5py.Dataset):
        _refuse_no_image(found, address)
        return str(inner), None
    if not isinstance(found, h5py.Group):
        raise SourceError(f"{address}: no dataset {inner}{_lost_link(file, str(inner))}; {_advice(file)}")
    prefix = f"{inner.strip('/')}/" if inner else ""
    images = [name for name, dataset in _datasets(found) if _is_image(dataset) and is_finest_level(prefix + name)]
    if len(images) != 1:
        which = f"which dataset of {inner}?" if inner else "which dataset?"
        several = f"{len(images)} of them may be images" if images else "none of them is an image"
        raise SourceError(f"{address}: {which} {several}; {_advice(file)}")
    name = f"/{prefix}{images[0]}"
    return name, f"{address}: read is {name}, the only image of the file"


def _datasets(group: h5py.Group, depth: int = 0) -> Iterator[tuple[str, h5py.Dataset]]:
    """Return all datasets below a group, also behind links to other files. Links inside the file are other names."""
    names: list[str] = []
    links: list[str] = []

    def visit(name: str) -> bool | None:
        names.append(name)
        return True if len(names) >= MAX_VISITED else None

    def visit_link(name: str, link: object) -> None:
        if isinstance(link, h5py.ExternalLink):
            links.append(name)

    group.visit(visit)
    group.visititems_links(visit_link)
    for name in [*names, *links[:MAX_VISITED]]:
        found = _get(group, name)
        if isinstance(found, h5py.Dataset):
            yield name, found
        elif isinstance(found, h5py.Group) and name in links and depth < MAX_DEPTH:
            yield from ((f"{name}/{below}", dataset) for below, dataset in _datasets(found, depth + 1))


def _get(group: h5py.Group, name: str) -> object:
    """Return what a name means; None if nothing is there, or if it is a link that leads nowhere."""
    try:
        return group.get(name)
    except (OSError, RuntimeError, KeyError, ValueError):
        return None


def _lost_link(file: h5py.File, inner: str) -> str:
    """Return the link on the way to a dataset that leads nowhere, for a message."""
    parts = inner.strip("/").split("/")
    for i in range(1, len(parts) + 1):
        name = "/".join(parts[:i])
        with suppress(OSError, RuntimeError, KeyError, ValueError):
            link = file.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink) and _get(file, name) is None:
                return f", since /{name} is a link to {link.path} of {link.filename}, which cannot be opened"
            if isinstance(link, h5py.SoftLink) and _get(file, name) is None:
                return f", since /{name} is a link to {link.path}, which is not there"
    return ""


def _advice(file: h5py.File) -> str:
    found = [f"/{name} {dataset.shape}" for name, dataset in _datasets(file)]
    if not found:
        return "the file holds none that is whole"
    more = f" and {len(found) - MAX_LISTED} more" if len(found) > MAX_LISTED else ""
    return f"write file.h5:/path, the file holds: {', '.join(found[:MAX_LISTED])}{more}"


def _is_image(dataset: h5py.Dataset) -> bool:
    """Return whether a dataset may be an image: numbers, with two axes that are not short."""
    try:
        lengths = sorted(dataset.shape or ())
        is_text = attribute(dataset, "MATLAB_class") == "char"
        return dataset.dtype.kind in "biuf" and len(lengths) >= 2 and lengths[-2] >= MIN_EDGE and not is_text
    except (OSError, TypeError, ValueError, RuntimeError):
        return False


def _refuse_no_image(dataset: h5py.Dataset, address: str) -> None:
    """Raise an error if a dataset has no axes, or if its elements are no numbers."""
    if dataset.shape is None or dataset.ndim < 2:
        what = "is empty" if dataset.shape is None else f"has a shape of {dataset.shape}"
        raise SourceError(f"{address}: the dataset {what}, and an image has at least two axes; {_advice(dataset.file)}")
    if dataset.dtype.kind not in "biufc":
        fields = f" with the fields {', '.join(dataset.dtype.names)}" if dataset.dtype.names else ""
        raise SourceError(
            f"{address}: its elements are {'records' if fields else 'no numbers'}{fields} ({dataset.dtype}); "
            f"write the intensities or ids into a dataset of their own. {_advice(dataset.file)}"
        )
