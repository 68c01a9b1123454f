"""Find the order of the axes, the voxel size and the offset of an HDF5 dataset by the attributes of many writers.

HDF5 itself has no such attributes. Each writer has a convention of its own:

```
axistags, axis_units           vigra and ilastik: JSON with a name, a resolution and a unit per axis
dimension labels and scales    HDF5, netCDF4 and xarray: a name and the coordinates per axis
axes, axis_order, ...          NeXus, napari and others: names
resolution, offset             CREMI: (z, y, x) in nm, unless `units` says otherwise
element_size_um                ilastik, PlantSeg, Fiji: (z, y, x) in micrometre
```
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

from unet.storage.length_units import nm_per_unit
from unet.volumes.readers.axes import SYNONYMS, AxisOrder, axis_order
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.source import Nm
from unet.volumes.voxel_size import TOLERANCE, differ, is_placeholder, stated_voxel_size

SIZES = {
    "resolution": "nm",
    "voxel_size": "nm",
    "pixel_size": "nm",
    "resolution_nm": "nm",
    "voxel_size_nm": "nm",
    "element_size_um": "um",
    "voxel_size_um": "um",
}
"""Attributes with the voxel size (z, y, x), and their unit unless another attribute names it."""
NAMES = ("_ARRAY_DIMENSIONS", "axes", "axis_order", "axis_names", "dimension_order")
"""Attributes that name the axes, by one text or by a list."""


@dataclass
class Stated:
    """Place and size of voxels, as a file states them.

    Attributes
    ----------
    voxel_size_nm, offset_nm : tuple of float, or None
        (z, y, x) in nm; None if the file does not say it.
    origin : str
        Where the voxel size is from.
    remarks : list of str
        What could not be used, and why.
    """

    voxel_size_nm: Nm | None = None
    offset_nm: Nm | None = None
    origin: str = "the file"
    remarks: list[str] = field(default_factory=list)


def attribute(thing: h5py.Group | h5py.Dataset, name: str) -> Any:
    """Return an attribute with texts as str; None if it is absent, empty or of a type that cannot be read."""
    try:
        value = thing.attrs.get(name)
    except (OSError, TypeError, ValueError, KeyError, RuntimeError):
        return None
    return None if isinstance(value, h5py.Empty) else _decoded(value)


def order_of(dataset: h5py.Dataset, shape: Sequence[int], address: str, configured: str | None) -> AxisOrder:
    """Return the order of the axes: as the user names them, else as the file does.

    Parameters
    ----------
    dataset : h5py.Dataset
        Dataset whose attributes name the axes.
    shape : sequence of int
        Lengths of the axes, which may be shorter than the lengths that are stored.
    configured : str or None
        Key `axes` of the source.

    Raises
    ------
    SourceError
        If an axis cannot be used, or if two attributes name the axes differently.
    """
    if configured is not None:
        return axis_order(shape, None, address, configured=configured)
    named = [(origin, names) for origin, names in _named_axes(dataset) if len(names) == len(shape)]
    letters = {origin: {_letter(name) for name in names} for origin, names in named}
    usable = (
        [one for one in named if {"y", "x"} <= letters[one[0]]]
        or [one for one in named if one[0] == "the attribute axistags"]
        or [one for one in named if {"z", "y", "x"} & letters[one[0]]]
    )
    if not usable:
        return axis_order(shape, None, address)
    orders = [axis_order(shape, names, address, origin) for origin, names in usable]
    for other in orders[1:]:
        if _long(other) != _long(orders[0]):
            raise SourceError(
                f"{address}: the axes are {''.join(orders[0].names)} by {orders[0].origin}, but "
                f"{''.join(other.names)} by {other.origin}, of lengths {tuple(shape)}; write the right ones as `axes` "
                "at this source"
            )
    return orders[0]


def stated_placement(dataset: h5py.Dataset, order: AxisOrder, address: str) -> Stated:
    """Return voxel size and offset by the attributes of a dataset and by the coordinates of its axes.

    Two attributes that differ are of no use: which of them is right, the user has to say.

    Raises
    ------
    SourceError
        If an edge of a voxel is negative.
    """
    found = Stated()
    sizes = _sizes_by_attributes(dataset, order, address, found)
    sizes += [("the attribute axistags", _size_by_axistags(dataset, order, address, found))]
    sizes += [("the coordinates of its axes", _size_by_coordinates(dataset, order))]
    known = [(origin, nm) for origin, nm in ((o, stated_voxel_size(nm, address)) for o, nm in sizes) if nm]
    known = [one for one in known if not is_placeholder(one[1])] or known
    if any(differ(known[0][1], nm) for _, nm in known[1:]):
        both = ", but ".join(f"{nm} nm by {origin}" for origin, nm in known)
        found.remarks.append(f"{address}: voxels of {both} (z, y, x): none of them is used; set `voxel_size_nm`")
    elif known:
        found.origin, found.voxel_size_nm = known[0]
    found.offset_nm = _offset(dataset, address, found)
    return found


def names_its_axes(dataset: h5py.Dataset) -> bool:
    """Return whether a dataset names its axes by any convention."""
    return bool(_named_axes(dataset))


def _named_axes(dataset: h5py.Dataset) -> list[tuple[str, list[str]]]:
    """Return the names of the axes by each convention that a dataset follows."""
    tags = _axistags(dataset)
    scales = [dataset.dims[i][0] if len(dataset.dims[i]) else None for i in range(dataset.ndim)]
    found = [
        ("the attribute axistags", [str(axis.get("key", "")) for axis in tags]),
        ("the labels of its dimensions", [dim.label for dim in dataset.dims]),
        ("its dimension scales", [(scale.name or "").rpartition("/")[2] if scale else "" for scale in scales]),
        *((f"the attribute {name}", _names(attribute(dataset, name))) for name in NAMES),
        ("the attribute axes of its group", _names(_axes_of_nexus(dataset))),
    ]
    return [(origin, names) for origin, names in found if any(names)]


def _axes_of_nexus(dataset: h5py.Dataset) -> Any:
    """Return the attribute axes of a group whose attribute signal names this dataset, as NeXus has it."""
    group = dataset.parent
    is_signal = attribute(group, "signal") == dataset.name.rpartition("/")[2]
    return attribute(group, "axes") if is_signal else None


def _axistags(dataset: h5py.Dataset) -> list[dict[str, Any]]:
    try:
        axes = json.loads(attribute(dataset, "axistags") or "{}")["axes"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    return axes if isinstance(axes, list) and all(isinstance(axis, dict) for axis in axes) else []


def _names(value: Any) -> list[str]:
    """Return the names of axes that an attribute holds: a list, or one text such as `zyx`, `z, y, x` or `["z", ..]`.

    >>> _names("zyx"), _names('["z", "y", "x"]'), _names("Z, Y, X")
    (['z', 'y', 'x'], ['z', 'y', 'x'], ['Z', 'Y', 'X'])
    """
    if not isinstance(value, str):
        return [one if isinstance(one, str) else "" for one in value] if isinstance(value, list) else []
    words = re.findall(r"\w+", value)
    return list(words[0]) if len(words) == 1 else words


def _sizes_by_attributes(
    dataset: h5py.Dataset, order: AxisOrder, address: str, found: Stated
) -> list[tuple[str, Nm | None]]:
    sizes: list[tuple[str, Nm | None]] = []
    for name, unit in SIZES.items():
        value = attribute(dataset, name)
        if value is None:
            continue
        edges, factors = _three(value), _factors(dataset, name, unit)
        if edges is None or factors is None:
            why = "has no three numbers (z, y, x)" if edges is None else "is in a unit that is no length"
            found.remarks.append(f"{address}: the attribute {name} is {value} and {why}; it is not used")
            continue
        sizes.append((f"the attribute {name}", tuple(e * f for e, f in zip(edges, factors, strict=True))))
        spatial = "".join(axis for axis in order.names if axis in "zyx")
        if spatial not in ("zyx", "yx") and len(set(edges)) > 1:
            found.remarks.append(
                f"{address}: the attribute {name}, {value}, is read as (z, y, x), although the axes are stored as "
                f"{spatial}; set `voxel_size_nm` if it is not"
            )
    return sizes


def _factors(dataset: h5py.Dataset, name: str, unit: str) -> list[float] | None:
    """Return nm per unit of each of three numbers; None if some unit is no length."""
    beside = (f"{name}_units", f"{name}_unit", *(() if name.endswith(("_nm", "_um")) else ("units", "unit")))
    said = next((value for value in (attribute(dataset, key) for key in beside) if value is not None), unit)
    units = said if isinstance(said, list) else [said]
    factors = [nm_per_unit(str(one)) for one in units]
    if any(factor is None for factor in factors) or len(factors) not in (1, 3):
        return None
    return [factor for factor in factors if factor is not None] * (3 // len(factors))


def _size_by_axistags(dataset: h5py.Dataset, order: AxisOrder, address: str, found: Stated) -> Nm | None:
    """Return the voxel size by vigra's resolution per axis; vigra has no unit, ilastik writes one beside."""
    tags = _axistags(dataset)
    if len(tags) != len(order.names):
        return None
    try:
        units = json.loads(attribute(dataset, "axis_units") or "{}")
        steps = [float(axis.get("resolution") or 0) for axis in tags]
        said = [axis.get("unit") or units.get(axis.get("key")) for axis in tags]
    except (ValueError, TypeError, AttributeError):
        return None
    edges = order.by_axis(steps)
    if edges is None or not all(edges):
        return None
    factors = order.by_axis([nm_per_unit(str(unit)) or 0.0 for unit in said])
    if factors is None or not all(factors):
        found.remarks.append(
            f"{address}: the attribute axistags has a resolution of {edges} (z, y, x) without a unit of length; it is "
            "not used"
        )
        return None
    return tuple(e * f for e, f in zip(edges, factors, strict=True))


def _size_by_coordinates(dataset: h5py.Dataset, order: AxisOrder) -> Nm | None:
    """Return the voxel size by the coordinates of each axis, as netCDF4 and NeXus store them with their units."""
    nexus = _names(_axes_of_nexus(dataset))
    steps = [0.0] * len(order.names)
    for i, name in enumerate(order.names):
        scale = dataset.dims[i][0] if len(dataset.dims[i]) else None
        if scale is None and len(nexus) == len(order.names):
            scale = dataset.parent.get(nexus[i]) if nexus[i] else None
        if name not in "zyx" or not isinstance(scale, h5py.Dataset) or scale.shape != (order.stored[i],):
            continue
        factor = nm_per_unit(str(attribute(scale, "units")))
        if factor is not None and scale.dtype.kind in "iuf":
            steps[i] = factor * _step(scale)
    return order.by_axis(steps)


def _step(scale: h5py.Dataset) -> float:
    """Return the distance of neighbouring coordinates; 0 if it is not the same along the axis."""
    if len(scale) < 2:
        return 0.0
    first, second, last = (float(scale[i]) for i in (0, 1, len(scale) - 1))
    mean = (last - first) / (len(scale) - 1)
    return mean if abs(second - first - mean) <= TOLERANCE * abs(mean) else 0.0


def _offset(dataset: h5py.Dataset, address: str, found: Stated) -> Nm | None:
    """Return the position of the centre of the first voxel, as CREMI has it: (z, y, x) in nm, or in `units`."""
    value = attribute(dataset, "offset")
    if value is None:
        return None
    place, factors = _three(value), _factors(dataset, "offset", "nm")
    if place is None or factors is None:
        found.remarks.append(
            f"{address}: the attribute offset is {value}, and not three numbers (z, y, x) in nm; it is not used"
        )
        return None
    return tuple(p * f for p, f in zip(place, factors, strict=True))


def _three(value: Any) -> Nm | None:
    """Return three finite numbers of an attribute as a tuple; None if there are not three."""
    try:
        found = tuple(float(v) for v in np.ravel(np.asarray(value, float)))
    except (ValueError, TypeError):
        return None
    return found if len(found) == 3 and all(np.isfinite(found)) else None


def _long(order: AxisOrder) -> list[str]:
    return [name for name, n in zip(order.names, order.stored, strict=True) if n > 1]


def _letter(name: str) -> str:
    return SYNONYMS.get(name.strip().lower(), name.strip().lower())


def _decoded(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.ndarray):
        return _decoded(value.tolist())
    if isinstance(value, np.generic):
        return _decoded(value.item())
    return [_decoded(one) for one in value] if isinstance(value, list | tuple) else value
