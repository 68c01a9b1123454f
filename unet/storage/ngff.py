"""Specification of an image, and its OME-NGFF metadata: https://ngff.openmicroscopy.org/0.5/."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

import numpy as np

from unet.geometry.box import Index
from unet.geometry.grid import Grid
from unet.geometry.pyramid import pyramid_factors
from unet.storage.length_units import nm_per_unit

NGFF_VERSION = "0.5"

MIN_VOXEL_NM, MAX_VOXEL_NM = 0.5, 10_000.0
"""Edges of a voxel (nm), from the finest electron micrographs to coarse light microscopy. A number outside this range
is in another unit."""


def implausible_voxel_size(voxel_size_nm: Sequence[float] | np.ndarray) -> str | None:
    """Return a message if no microscope has this voxel size (nm), with the unit that may be meant; else None.

    >>> implausible_voxel_size((0.05, 0.004, 0.004))
    '[0.05, 0.004, 0.004] nm is no voxel size (0.5 to 10,000 nm along each axis); if these are µm, it is [50, 4, 4] nm'
    >>> implausible_voxel_size((50, 4, 4))
    """
    if all(MIN_VOXEL_NM <= edge <= MAX_VOXEL_NM for edge in voxel_size_nm):
        return None
    problem = f"{_edges(voxel_size_nm)} nm is no voxel size (0.5 to 10,000 nm along each axis)"
    for unit, nm in (("µm", 1e3), ("mm", 1e6), ("m", 1e9)):
        meant = [edge * nm for edge in voxel_size_nm]
        if all(MIN_VOXEL_NM <= edge <= MAX_VOXEL_NM for edge in meant):
            return f"{problem}; if these are {unit}, it is {_edges(meant)} nm"
    return f"{problem}; give it as [z, y, x] in nm"


def _edges(voxel_size_nm: Sequence[float] | np.ndarray) -> str:
    return f"[{', '.join(f'{edge:g}' for edge in voxel_size_nm)}]"


@dataclass(frozen=True)
class ImageSpec:
    """Everything that describes an image, except its voxels.

    `shape`, `chunk` and `block` are `(z, y, x)` in voxels; `voxel_size_nm` and `offset_nm` are `(z, y, x)` in nm. With
    `channels` the arrays are `(c, z, y, x)`, and all channels of a block are in one file.
    """

    name: str
    shape: Index
    dtype: str
    chunk: Index
    block: Index
    voxel_size_nm: tuple[float, ...]
    offset_nm: tuple[float, ...] = (0.0, 0.0, 0.0)
    kind: Literal["image", "label"] = "image"
    channels: tuple[str, ...] = ()
    pyramid: bool = True

    @property
    def grid(self) -> Grid:
        """The blocks of the volume."""
        return Grid(self.shape, self.block)

    @property
    def factors(self) -> list[Index]:
        """Down-sampling factors of every level relative to level 0; the first are (1, 1, 1)."""
        if not self.pyramid:
            return [(1, 1, 1)]
        return pyramid_factors(self.shape, self.block, self.voxel_size_nm)

    @property
    def axes(self) -> list[str]:
        """Names of the arrays' axes."""
        return ["c", "z", "y", "x"] if self.channels else ["z", "y", "x"]


def ngff_metadata(spec: ImageSpec) -> dict[str, Any]:
    """Return the metadata of NGFF 0.5: multiscales, omero, image-label."""
    leading = [1.0] * (len(spec.axes) - 3)
    datasets = []
    for level, factor in enumerate(spec.factors):
        scale = [v * f for v, f in zip(spec.voxel_size_nm, factor, strict=True)]
        # The centre of a coarse voxel is the mean of the centres that it averages: (f - 1) / 2 voxels from the first.
        centre = [o + v * (f - 1) / 2 for o, v, f in zip(spec.offset_nm, spec.voxel_size_nm, factor, strict=True)]
        transforms = [
            {"type": "scale", "scale": leading + scale},
            {"type": "translation", "translation": [0.0] * len(leading) + centre},
        ]
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    metadata: dict[str, Any] = {
        "version": NGFF_VERSION,
        "multiscales": [
            {
                "name": spec.name,
                "type": "mode" if spec.kind == "label" else "mean",
                "axes": [_axis(name) for name in spec.axes],
                "datasets": datasets,
            }
        ],
    }
    if spec.kind == "label":
        metadata["image-label"] = {"source": {"image": "../raw.zarr"}}
    if spec.channels:
        metadata["omero"] = {"channels": [_channel(name, spec.dtype) for name in spec.channels]}
    return metadata


def _axis(name: str) -> dict[str, str]:
    return {"name": "c", "type": "channel"} if name == "c" else {"name": name, "type": "space", "unit": "nanometer"}


def _channel(name: str, dtype: str) -> dict[str, Any]:
    top = 1 if np.dtype(dtype).kind == "f" else int(np.iinfo(dtype).max)
    window = {"min": 0, "max": top, "start": 0, "end": top}
    return {"label": name, "color": "FFFFFF", "active": True, "window": window}


def ome_attributes(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a group's attributes say of OME-Zarr: since version 0.5 below the key `ome`."""
    ome = attributes.get("ome")
    return ome if isinstance(ome, Mapping) else attributes


def multiscales_of(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the multiscale images in a group's attributes, of any version of NGFF; empty if there are none."""
    found = ome_attributes(attributes).get("multiscales")
    listed = found if isinstance(found, list) else []
    return [one for one in listed if isinstance(one, dict) and _are_mappings(one.get("datasets"))]


def _are_mappings(listed: Any) -> TypeGuard[list[Mapping[str, Any]]]:
    return isinstance(listed, list) and bool(listed) and all(isinstance(one, Mapping) for one in listed)


def _axes_of(multiscales: Mapping[str, Any]) -> Any:
    """Return the axes of a multiscale image; since version 0.6 they belong to its first coordinate system."""
    systems = multiscales.get("coordinateSystems")
    return systems[0].get("axes") if _are_mappings(systems) else multiscales.get("axes")


def axis_names(multiscales: Mapping[str, Any], ndim: int) -> list[str] | None:
    """Return the names of the axes of a multiscale image; None if it names none.

    Versions 0.1 and 0.2 have no names: five axes are t, c, z, y and x.
    """
    axes = _axes_of(multiscales)
    if not axes:
        return list("tczyx") if ndim == 5 else None
    return [_axis_name(axis) for axis in axes]


def _axis_name(axis: Any) -> str:
    if not isinstance(axis, Mapping):
        return str(axis)
    return {"channel": "c", "time": "t"}.get(str(axis.get("type")), str(axis.get("name", "?")))


@dataclass(frozen=True)
class Coordinates:
    """Scale and translation of an array in nm, one number per axis; None if they are not known.

    `remark` says why they are not known, or which unit was assumed.
    """

    scale_nm: tuple[float, ...] | None = None
    translation_nm: tuple[float, ...] | None = None
    remark: str | None = None


def coordinates_nm(multiscales: Mapping[str, Any], dataset: Mapping[str, Any], ndim: int) -> Coordinates:
    """Return scale and translation of a dataset of a multiscale image.

    The transformations of the multiscale image are applied after those of the dataset. Without a unit, nm or µm is
    assumed, see `in_nm`.
    """
    try:
        found, finest = (_composed(multiscales, one, ndim) for one in (dataset, multiscales["datasets"][0]))
    except (KeyError, TypeError, ValueError) as error:
        return Coordinates(remark=f"coordinateTransformations are not used ({error}): the voxel size is not known")
    if found is None:
        return Coordinates()
    names = axis_names(multiscales, ndim) or ["?"] * ndim
    axes = _axes_of(multiscales) or [{}] * ndim
    if len(names) != ndim:
        return Coordinates(remark=f"{len(names)} axes are named, but the array has {ndim}: the voxel size is not known")
    units = [axis.get("unit") if isinstance(axis, Mapping) else None for axis in axes]
    spatial = [i for i, name in enumerate(names) if name.lower() in ("z", "y", "x")]
    if finest is not None and all(units[i] is None and finest[0][i] == 1 for i in spatial):
        return Coordinates()  # what writers store when nobody told them a voxel size
    return in_nm(found[0], found[1], units, spatial)


def _composed(
    multiscales: Mapping[str, Any], dataset: Mapping[str, Any], ndim: int
) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Return scale and translation of all transformations of a dataset; None if none is a scale or a translation."""
    scale, translation, given = np.ones(ndim), np.zeros(ndim), set()
    for transform in (
        *(dataset.get("coordinateTransformations") or []),
        *(multiscales.get("coordinateTransformations") or []),
    ):
        kind = transform["type"]
        if kind == "identity":
            continue
        if kind not in ("scale", "translation"):
            raise ValueError(f"one is of type {kind}")
        values = np.asarray(transform[kind], dtype=float)
        if values.shape != (ndim,):
            raise ValueError(f"a {kind} has {values.size} numbers, but the array has {ndim} axes")
        given.add(kind)
        if kind == "scale":
            scale, translation = scale * values, translation * values
        else:
            translation = translation + values
    return (scale, translation if "translation" in given else None) if "scale" in given else None


def in_nm(
    scale: Sequence[float] | np.ndarray,
    translation: Sequence[float] | np.ndarray | None,
    units: Sequence[str | None],
    spatial: Sequence[int],
) -> Coordinates:
    """Return scale and translation in nm, from one number and one unit per axis.

    If no axis has a unit, the scale is taken as nm, or as µm if only that is the size of a voxel.

    Parameters
    ----------
    spatial : sequence of int
        Axes in space; units and scales of other axes do not count.
    """
    edges = [float(scale[i]) for i in spatial]
    given = {i: units[i] for i in spatial}
    if not edges or all(edge == 0 or edge != edge for edge in edges):
        return Coordinates()
    remark = None
    if not any(given.values()):
        sizes = [np.abs(edges) * nm for nm in (1.0, 1e3)]
        assumed = next((i for i, size in enumerate(sizes) if implausible_voxel_size(size) is None), None)
        if assumed is None:
            return Coordinates(remark=f"the scale {_edges(edges)} has no unit: the voxel size is not known")
        unit = ("nanometer", "micrometer")[assumed]
        given = dict.fromkeys(spatial, unit)
        remark = f"the scale {_edges(edges)} has no unit; {unit} was assumed. Set `voxel_size_nm` if that is wrong"
    factors = {i: nm_per_unit(unit) for i, unit in given.items()}
    if None in factors.values():
        named = ", ".join(str(unit or "no unit") for unit in given.values())
        return Coordinates(remark=f"the scale {_edges(edges)} is in {named}: the voxel size is not known in nm")
    to_nm = np.asarray([factors.get(i) or 1.0 for i in range(len(units))])
    moved = None if translation is None else np.asarray(translation, dtype=float) * to_nm
    if moved is not None and not np.isfinite(moved).all():
        moved, remark = None, f"the translation {_edges(np.asarray(translation))} is not used; it is not finite"
    return Coordinates(
        _floats(np.asarray(scale, dtype=float) * to_nm), None if moved is None else _floats(moved), remark
    )


def _floats(values: Sequence[float] | np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
