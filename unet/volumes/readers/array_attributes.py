"""Read voxel size and offset from the attributes of an array that has no multiscales.

Three habits are known. Each names its axes, or has one order that its writers keep:

```
transform        {axes: [z, y, x], scale: [..], translate: [..], units: [nm, ..]}   OpenOrganelle
pixelResolution  {dimensions: [x, y, z], unit: nm}, or [x, y, z] alone              n5-viewer, OpenOrganelle
resolution       one number per axis as they are stored, with `offset` and `units`  CREMI, funlib (voxel_size), Paintera
```
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from unet.storage.ngff import Coordinates, in_nm

SPATIAL = "zyx"


def placement(attributes: Mapping[str, Any], names: Sequence[str], where: str) -> tuple[Coordinates, str]:
    """Return voxel size and offset in nm, one number per stored axis, and the attribute that gives them.

    Parameters
    ----------
    attributes : mapping
        Attributes of the array.
    names : sequence of str
        One letter per stored axis.
    where : str
        Address of the source, for messages.
    """
    for key, read in (("transform", _transform), ("pixelResolution", _pixel_resolution)):
        if (by_axis := read(attributes.get(key))) is not None:
            return _of_axes(by_axis, names), f"the attribute {key}"
    for key in ("voxel_size", "resolution"):
        if (values := _numbers(attributes.get(key), names)) is not None:
            offset = _numbers(attributes.get("offset"), names)
            units = _units(attributes.get("units"), names)
            spatial = [i for i, name in enumerate(names) if name in SPATIAL]
            return in_nm(values, offset, units, spatial), f"the attribute {key}"
    return Coordinates(), "the file"


def packing_remark(attributes: Mapping[str, Any]) -> str | None:
    """Return what the user has to know where attributes say that values are packed, by the conventions of netCDF.

    >>> packing_remark({"scale_factor": 0.5, "add_offset": 3.0})
    'scale_factor and add_offset say that values mean 0.5 x stored + 3; stored ones are read'
    """
    if not {"scale_factor", "add_offset"} & {*attributes}:
        return None
    found = [attributes.get(name, default) for name, default in (("scale_factor", 1.0), ("add_offset", 0.0))]
    with suppress(TypeError, ValueError):
        scale, offset = (float(value) for value in found)
        if (scale, offset) == (1.0, 0.0):
            return None
        return f"scale_factor and add_offset say that values mean {scale:g} x stored + {offset:g}; stored ones are read"
    return None


ByAxis = dict[str, tuple[float, float | None, str | None]]
"""Scale, translation and unit by the letter of the axis."""


def _transform(given: Any) -> ByAxis | None:
    if not isinstance(given, Mapping) or not all(isinstance(given.get(key), list) for key in ("axes", "scale")):
        return None
    count = len(given["axes"])
    units, moved = given.get("units") or [None] * count, given.get("translate") or [None] * count
    if not count == len(given["scale"]) == len(units) == len(moved):
        return None
    if not all(isinstance(n, int | float) for n in (*given["scale"], *(move or 0 for move in moved))):
        return None
    return {
        str(axis).lower(): (float(scale), None if move is None else float(move), unit)
        for axis, scale, move, unit in zip(given["axes"], given["scale"], moved, units, strict=True)
    }


def _pixel_resolution(given: Any) -> ByAxis | None:
    values, unit = (given.get("dimensions"), given.get("unit")) if isinstance(given, Mapping) else (given, None)
    if not isinstance(values, list) or len(values) < 3 or not all(isinstance(n, int | float) for n in values):
        return None
    return {axis: (float(n), None, unit) for axis, n in zip("xyz", values, strict=False)}


def _of_axes(by_axis: ByAxis, names: Sequence[str]) -> Coordinates:
    if not all(axis in by_axis for axis in SPATIAL if axis in names):
        return Coordinates()
    found = [by_axis.get(name, (1.0, 0.0, None)) for name in names]
    moved = None if any(move is None for _, move, _ in found) else [move or 0.0 for _, move, _ in found]
    spatial = [i for i, name in enumerate(names) if name in SPATIAL]
    return in_nm([scale for scale, _, _ in found], moved, [unit for _, _, unit in found], spatial)


def _numbers(given: Any, names: Sequence[str]) -> list[float] | None:
    """Return one number per stored axis; channels may be left out. None if the count does not fit."""
    if not isinstance(given, list | tuple) or not all(isinstance(n, int | float) for n in given):
        return None
    spatial = [i for i, name in enumerate(names) if name in SPATIAL]
    if len(given) == len(names):
        return [float(n) for n in given]
    if len(given) != len(spatial):
        return None
    values = [1.0] * len(names)
    for i, n in zip(spatial, given, strict=True):
        values[i] = float(n)
    return values


def _units(given: Any, names: Sequence[str]) -> list[str | None]:
    if isinstance(given, str):
        return [given] * len(names)
    if isinstance(given, list) and len(given) == len(names):
        return [str(one) if one else None for one in given]
    spatial = [i for i, name in enumerate(names) if name in SPATIAL]
    if isinstance(given, list) and len(given) == len(spatial):
        return [str(given[spatial.index(i)]) if i in spatial else None for i in range(len(names))]
    return [None] * len(names)
