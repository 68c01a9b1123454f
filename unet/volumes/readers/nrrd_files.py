"""Read NRRD, with its voxels behind the header or in files beside it (.nhdr). The fastest axis comes first."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np

from unet.config.source import SourceConfig
from unet.geometry.box import Box, Index
from unet.storage.length_units import nm_per_unit
from unet.volumes.readers.axes import axis_order
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.flat_array import Codec, FlatArray
from unet.volumes.readers.flat_parts import FlatParts
from unet.volumes.readers.formats import Format
from unet.volumes.readers.nrrd_data_files import data_files
from unet.volumes.readers.orientation import orientation
from unet.volumes.readers.source import ArraySource, Nm
from unet.volumes.readers.tiff_axes import TAKE_ONE, TO_GREY
from unet.volumes.voxel_size import stated_voxel_size

LONGEST_HEADER = 1 << 20
"""Bytes in which the empty line after the header is looked for."""
LAST_FIELD = re.compile(r"data ?file:\s*LIST\b")
"""Field after which only names of files follow."""
CODECS: dict[str, Codec | None] = {
    "raw": None,
    **dict.fromkeys(("gzip", "gz"), "gzip"),
    "bzip2": "bzip2",
    "bz2": "bzip2",
}
DTYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
"""Type of the voxels by its name in the header: https://teem.sourceforge.net/nrrd/format.html#type"""
IN_SPACE = ("domain", "space")
"""Kinds of axes that are x, y or z."""

NO_CHANNELS = ("list", "none", "???")
"""Kinds of axes that may be anything: layers of a segmentation, time points, channels."""


class NrrdSource(ArraySource):
    """An NRRD file; the voxel size follows from `space directions`, or from `spacings`, if the header has units."""

    format_name = "NRRD"

    def __init__(self, given: SourceConfig, path: Path) -> None:
        with read_errors(path, "NRRD"):
            header, length, listed = _header(path)
            sizes = _sizes(header, path)
            self._array = _array(header, length, listed, sizes, path)
            self._array.check()
            space, colours = _space(header, sizes, path), _colours(header)
        order = axis_order(sizes, space.names, given.path, "kinds and directions of the header", given.axes)
        size, offset = order.by_axis(space.edges_nm), order.by_axis(space.offset_nm)
        remarks = [f"{given.path}: {remark}" for remark in space.remarks]
        super().__init__(
            given.path,
            list(dict.fromkeys((path, *self._array.paths))),
            order,
            self._array.dtype,
            voxel_size_nm=stated_voxel_size(size, given.path),
            offset_nm=offset,
            voxel_size_from="space directions or spacings of the header",
            remarks=[*remarks, *filter(None, [self._array.surplus()])],
            where=path,
        )
        if colours is not None and given.axes is None:
            self.colours = (
                f"{given.path}: the values of a voxel are {colours} by the kinds of the header, and not grey; "
                f"{TO_GREY}; {TAKE_ONE}"
            )
        if len(self._array.parts) > 1 and self._array.parts[0].codec is not None:
            self.decode_in(order.chunk(self._array.part_shape))

    def files_of(self, box: Box) -> list[Path]:
        """Return the header, and the files that the voxels of a box come from."""
        return list(dict.fromkeys((self.files[0], *self._array.files_of(self.order.selection(box)))))

    def check(self, box: Box) -> None:
        """Check that the files of a box can hold its voxels."""
        with read_errors(self.where, "NRRD"):
            self._array.check(self.order.selection(box))

    def _read_stored(self, selection: tuple[slice, ...]) -> np.ndarray:
        return self._array.read(selection)


def _header(path: Path) -> tuple[dict[str, Any], int, list[str]]:
    """Return the fields of the header, its bytes, and the lines behind `data file: LIST`, which ends it.

    pynrrd drops the µ of µm, so that the text is decoded here.
    """
    import nrrd  # type: ignore[import-untyped]

    with path.open("rb") as file:
        content = file.read(LONGEST_HEADER)
    end = re.search(rb"\r?\n\r?\n", content)
    head = content[: end.end()] if end else content
    try:
        text = head.decode()
    except UnicodeDecodeError:
        text = head.decode("latin-1")
    lines = text.splitlines()
    detached = re.search(r"^data ?file:", text, re.MULTILINE)
    ends = (i + 1 for i, line in enumerate(lines) if LAST_FIELD.match(line))
    last = next(ends, len(lines))
    if not end and (not detached or len(content) == LONGEST_HEADER):
        raise EOFError("truncated, no empty line ends the header")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(nrrd.read_header([*lines[:last], ""])), len(head), lines[last:]


def _sizes(header: dict[str, Any], path: Path) -> Index:
    for name in ("dimension", "type", "encoding", "sizes"):
        if name not in header:
            raise SourceError(f"{path}: the header has no `{name}`; export it again")
    sizes = tuple(int(n) for n in np.atleast_1d(header["sizes"]))
    if len(sizes) != header["dimension"]:
        raise SourceError(
            f"{path}: the header says dimension {header['dimension']} and sizes {sizes}; correct the header"
        )
    return sizes


def _array(header: dict[str, Any], length: int, listed: list[str], sizes: Index, path: Path) -> FlatParts:
    """Return where the voxels lie."""
    encoding = header["encoding"].lower()
    if encoding not in CODECS:
        raise SourceError(
            f"{path}: encoding {header['encoding']} is not supported; write it again as raw or gzip "
            f"(`unu save -f nrrd -e raw`)"
        )
    if header["type"] not in DTYPES:
        raise SourceError(f"{path}: type {header['type']} is not supported; convert it to one of {', '.join(DTYPES)}")
    dtype = np.dtype(DTYPES[header["type"]])
    if dtype.itemsize > 1 and header.get("endian") not in ("little", "big"):
        raise SourceError(f"{path}: endian is {header.get('endian')}, not little or big; correct the header")
    dtype = dtype.newbyteorder(">" if header.get("endian") == "big" else "<")
    beside = header.get("data file", header.get("datafile"))
    files, held = ([path], sizes) if beside is None else data_files(path, beside.strip(), listed, sizes)
    lines, skip = (int(header.get(f"{what} skip", header.get(f"{what}skip", 0))) for what in ("line", "byte"))
    if lines or (skip and skip != -1 and CODECS[encoding] is None and skip < 0):
        raise SourceError(f"{path}: line skip {lines} and byte skip {skip} are not supported; write it again as raw")
    begin, codec = (length if beside is None else 0), CODECS[encoding]
    if codec is not None and skip < 0:
        raise SourceError(f"{path}: byte skip {skip} is not supported with encoding {encoding}; write it again as raw")
    return FlatParts(tuple(_part(file, held, dtype, begin, skip, codec) for file in files), sizes)


def _part(file: Path, shape: Index, dtype: np.dtype, begin: int, skip: int, codec: Codec | None) -> FlatArray:
    """Return where voxels lie in a file: behind a header and `skip` bytes; -1 means at the end."""
    if codec is not None:
        return FlatArray(file, skip, shape, dtype, codec=codec, stream=begin)
    at = file.stat().st_size - prod(map(int, shape)) * dtype.itemsize if skip == -1 else begin + skip
    return FlatArray(file, at, shape, dtype)


@dataclass(frozen=True)
class Space:
    """Axes by the header, the fastest first; lengths of an axis that is not in space are NaN."""

    names: list[str] | None
    edges_nm: Nm | None
    offset_nm: Nm | None
    remarks: list[str]


def _space(header: dict[str, Any], sizes: Index, path: Path) -> Space:
    """Return names, steps and origins of the axes."""
    kinds = [kind.lower() for kind in header.get("kinds", ["???"] * len(sizes))]
    directions = header.get("space directions")
    vectors = None if directions is None else [None if v is None or np.isnan(v).any() else v for v in directions]
    for what, listed in (("kinds", kinds), ("space directions", vectors)):
        if listed is not None and len(listed) != len(sizes):
            raise SourceError(f"{path}: {len(listed)} {what}, but sizes {sizes}; correct the header")
    if vectors is not None:
        spatial = [i for i, vector in enumerate(vectors) if vector is not None]
    elif "kinds" in header:
        spatial = [i for i, kind in enumerate(kinds) if kind in (*IN_SPACE, "???", "none")]
    else:
        spatial = list(range(len(sizes)))
    if not 2 <= len(spatial) <= 3:
        return Space([*"xyz", *"?" * (len(sizes) - 3)] if len(sizes) > 3 else None, None, None, [])
    if vectors is None:
        return _from_spacings(header, kinds, spatial)
    origin = header.get("space origin")
    found = orientation([vector for vector in vectors if vector is not None], origin)
    units = [nm_per_unit(unit) for unit in header.get("space units", [])]
    by_axis = dict(zip("xyz", units, strict=False))
    nm = [by_axis.get(name) for name in found.names]
    edges, remarks = _in_nm(found.edges, nm, "`space units`")
    offset = _in_nm(found.offset, nm, "")[0] if found.offset and header.get("space origin") is not None else None
    names = _named(kinds, spatial, found.names)
    spread = [_spread(values, spatial, len(sizes)) for values in (edges, offset)]
    return Space(names, spread[0], spread[1], [*found.remarks, *remarks])


def _colours(header: dict[str, Any]) -> str | None:
    """Return the kind of an axis that counts colours, such as RGB-color; None if there is none."""
    return next((kind for kind in header.get("kinds", []) if kind.lower().endswith("-color")), None)


def _from_spacings(header: dict[str, Any], kinds: list[str], spatial: list[int]) -> Space:
    spacings = header.get("spacings")
    names = _named(kinds, spatial, tuple("xyz"[: len(spatial)]))
    if spacings is None or len(spacings) != len(kinds):
        return Space(names, None, None, [])
    texts = header.get("units") or header.get("space units") or []
    units = dict(zip(spatial if len(texts) == len(spatial) else range(len(kinds)), texts, strict=False))
    edges, remarks = _in_nm([spacings[i] for i in spatial], [nm_per_unit(units.get(i, "")) for i in spatial], "`units`")
    return Space(names, _spread(edges, spatial, len(kinds)), None, remarks)


def _named(kinds: list[str], spatial: list[int], in_space: tuple[str, ...]) -> list[str]:
    """Return the names of all axes. What is not in space is time, the values of a voxel, or has no meaning here."""
    other = ["t" if kind == "time" else "?" if kind in NO_CHANNELS else "c" for kind in kinds]
    return [in_space[spatial.index(i)] if i in spatial else other[i] for i in range(len(kinds))]


def _in_nm(values: Sequence[float], nm: list[float | None], name: str) -> tuple[Nm | None, list[str]]:
    """Return lengths in nm; None and a remark if the header has no units. No unit is guessed."""
    numbers = [float(value) for value in values]
    if not all(np.isfinite(numbers)):
        return None, []
    if any(unit is None for unit in nm):
        told = ", ".join(f"{value:g}" for value in numbers)
        return None, [
            f"the header gives steps of ({told}) without {name} that are lengths, so the voxel size is not known; set "
            "`voxel_size_nm` of this volume"
        ]
    return tuple(value * cast(float, unit) for value, unit in zip(numbers, nm, strict=True)), []


def _spread(values: Nm | None, spatial: list[int], count: int) -> Nm | None:
    """Return one value per stored axis, NaN for axes that are not in space."""
    found = dict(zip(spatial, values, strict=True)) if values is not None else {}
    return tuple(found.get(i, float("nan")) for i in range(count)) if found else None


FORMAT = Format(
    name="NRRD",
    suffixes=(".nrrd", ".nhdr"),
    open=lambda given, path, inner: NrrdSource(given, Path(path)),
    package="pynrrd",
    axes="kinds and space directions; the fastest axis is x",
    dtypes="integers of 8 to 64 bits, float32; raw, gzip or bzip2; one file or several",
    voxel_size="space directions or spacings, with their units",
    writers="pynrrd",
)
