"""Check what the description of a TIFF claims, before tifffile makes lists as long as it says."""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from math import prod
from pathlib import Path
from xml.etree import ElementTree

import tifffile

from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.tiff_metadata import local_name

PLANE_BYTES = 16
"""A plane needs at least this many bytes of a file."""


def companion_xml(tiff: tifffile.TiffFile, path: Path) -> str | None:
    """Return the OME-XML of the companion file that a file of a set names; None if the file does without.

    Raises
    ------
    SourceError
        If the companion file is not there.
    """
    if "BinaryOnly" not in (tiff.ome_metadata or ""):
        return None
    element = next((element for element in _root(tiff) if local_name(element) == "BinaryOnly"), None)
    if element is None:
        return None
    name = element.get("MetadataFile", "")
    companion = path.parent / name
    if _is_beside(name) and companion.is_file():
        return companion.read_text(encoding="utf-8")
    raise SourceError(
        f"{path}: one file of a set, which {name or 'another file'} describes, and that is not in its folder; bring "
        "all files of the set into one folder, under their old names"
    )


def check_claims(tiff: tifffile.TiffFile, path: Path) -> str | None:
    """Return what in a description cannot be true, because the files are too small for it; None if nothing is found."""
    for claims in (_ome_claims, _micromanager_claims, _ndtiff_claims):
        if problem := claims(tiff, path):
            return problem
    return None


def shaped_metadata(page: tifffile.TiffPage) -> list[int]:
    """Return the shape that tifffile described in a page; [0] if there is none."""
    with suppress(ValueError, TypeError, KeyError, IndexError):
        texts = [text for text in (page.description, page.description1) if text.startswith('{"shape"')]
        return [int(n) for n in json.loads(texts[0])["shape"]]
    return [0]


def missing_planes(tiff: tifffile.TiffFile, path: Path) -> str:
    """Return the files of a set that are not there, for a message."""
    names = [name for name in _file_names(_root(tiff)) if not (path.parent / name).is_file()]
    return (
        f": {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''} are not there"
        if names
        else ""
    )


def _root(tiff: tifffile.TiffFile) -> ElementTree.Element:
    try:
        return ElementTree.fromstring((tiff.ome_metadata if tiff.is_ome else None) or "<none/>")
    except ElementTree.ParseError:
        return ElementTree.Element("none")


def _ome_claims(tiff: tifffile.TiffFile, path: Path) -> str | None:
    """Return a number of OME-XML that is larger than the files allow, or a file name that leaves the folder."""
    root = _root(tiff)
    names = _file_names(root)
    if wrong := next((name for name in names if not _is_beside(name)), None):
        return f"it names the file {wrong!r}, which is not in the same folder"
    limit = _most_planes(tiff, [path.parent / name for name in names])
    for element in root.iter():
        name = local_name(element)
        if name == "Pixels":
            sizes = {axis: _whole(element.get(f"Size{axis}")) for axis in "XYZCT"}
            if min(sizes.values()) < 1 or prod(sizes[axis] for axis in "ZCT") > PLANE_BYTES * limit:
                return f"it says {', '.join(f'Size{axis}={n}' for axis, n in sizes.items())}"
        elif name == "TiffData":
            numbers = {key: _whole(value) for key, value in element.attrib.items()}
            if wrong := next((key for key, n in numbers.items() if not 0 <= n <= limit), None):
                return f"it says {wrong}={element.get(wrong)} of a TiffData"
        elif name.startswith("Along") and "Start" in element.attrib and not _few_steps(element, limit):
            return f"it says {dict(element.attrib)} of {name}"
    return None


def _few_steps(element: ElementTree.Element, limit: int) -> bool:
    with suppress(ValueError, ZeroDivisionError):
        start, stop, step = (float(element.get(key, 1)) for key in ("Start", "End", "Step"))
        return 0 <= (stop - start) / step <= limit
    return False


def _micromanager_claims(tiff: tifffile.TiffFile, path: Path) -> str | None:
    """Return the sizes of Micro-Manager's summary that are larger than the files of the folder allow."""
    metadata = (tiff.micromanager_metadata or {}) if tiff.is_micromanager else {}
    summary, index = metadata.get("Summary"), metadata.get("IndexMap")
    if not isinstance(summary, dict):
        return None
    sizes = {key: _whole(str(summary.get(key, 1))) for key in ("Channels", "Slices", "Frames", "Positions")}
    if index is not None and len(index):  # its columns are channel, slice, frame, position and place in the file
        found = zip(sizes, index[:, :4].max(axis=0).tolist(), strict=True)
        sizes = {key: max(sizes[key], last + 1) if sizes[key] >= 0 else -1 for key, last in found}
    limit = _most_planes(tiff, path.parent.glob("*.tif"))
    if min(sizes.values()) < 0 or prod(max(1, n) for n in sizes.values()) > limit:
        return f"it says {', '.join(f'{n} {key}' for key, n in sizes.items())}"
    return None


def _ndtiff_claims(tiff: tifffile.TiffFile, path: Path) -> str | None:
    """Return what in NDTiff.index is larger than the files of the folder allow, or a file name that leaves the folder.

    tifffile makes a list of all combinations of the indices, present or not.
    """
    index = path.parent / "NDTiff.index"
    if not (tiff.is_ndtiff and index.is_file()):
        return None
    least: dict[str, int] = {}
    most: dict[str, int] = {}
    for axes, name, *_ in tifffile.tifffile.read_ndtiff_index(index):
        if not _is_beside(name):
            return f"it names the file {name!r}, which is not in the same folder"
        for axis, place in axes.items() if isinstance(axes, dict) else ():
            if isinstance(place, int):
                least[axis], most[axis] = min(place, least.get(axis, place)), max(place, most.get(axis, place))
    limit = _most_planes(tiff, path.parent.glob("*.tif"))
    if prod(most[axis] - least[axis] + 1 for axis in most) > limit:
        return f"it says {', '.join(f'{axis} from {least[axis]} to {most[axis]}' for axis in most)}"
    return None


def _most_planes(tiff: tifffile.TiffFile, others: Iterator[Path] | list[Path]) -> int:
    """Return how many planes a file and others could hold at most."""
    sizes = [tiff.filehandle.size]
    for other in others:
        with suppress(OSError):
            sizes.append(other.stat().st_size)
    return sum(sizes) // PLANE_BYTES


def _file_names(root: ElementTree.Element) -> list[str]:
    names = (element.get("FileName") for element in root.iter() if local_name(element) == "UUID")
    return list(dict.fromkeys(name for name in names if name))


def _is_beside(name: str) -> bool:
    """Return whether a file name stays in its folder or below."""
    parts = Path(name.replace("\\", "/")).parts
    return bool(parts) and not os.path.isabs(name) and ".." not in parts


def _whole(text: str | None) -> int:
    with suppress(TypeError, ValueError):
        return int(text or "")
    return -1
