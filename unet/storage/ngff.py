"""Specification of an image, and its OME-NGFF metadata: https://ngff.openmicroscopy.org/0.5/."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from unet.geometry.box import Index
from unet.geometry.grid import Grid
from unet.geometry.pyramid import pyramid_factors

NGFF_VERSION = "0.5"
NM_PER_UNIT = {
    "angstrom": 0.1,
    "nanometer": 1.0,
    "nm": 1.0,
    "micrometer": 1e3,
    "um": 1e3,
    "millimeter": 1e6,
    "mm": 1e6,
    "meter": 1e9,
}

MIN_VOXEL_NM, MAX_VOXEL_NM = 0.5, 10_000.0
"""Edges of a voxel (nm), from the finest electron micrographs to coarse light microscopy. A number outside this range
is in another unit."""


def implausible_voxel_size(voxel_size_nm: Sequence[float]) -> str | None:
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


def _edges(voxel_size_nm: Sequence[float]) -> str:
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


def multiscales_of(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the first multiscale image in a group's attributes, NGFF 0.5 or older; empty if there is none."""
    found = attributes.get("ome", attributes).get("multiscales", [])
    return found[0] if found else {}


def coordinates_nm(
    multiscales: dict[str, Any], dataset: dict[str, Any], ndim: int
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return scale and translation of a dataset in nm; None, None if there is no scale or a unit is unknown.

    The transformations of the multiscale image are applied after those of the dataset.
    """
    scale, translation, has_scale = np.ones(ndim), np.zeros(ndim), False
    for transform in (
        *dataset.get("coordinateTransformations", []),
        *multiscales.get("coordinateTransformations", []),
    ):
        if transform["type"] == "scale":
            factor = np.asarray(transform["scale"], dtype=float)
            scale, translation, has_scale = scale * factor, translation * factor, True
        elif transform["type"] == "translation":
            translation = translation + np.asarray(transform["translation"], dtype=float)
    units = [axis.get("unit") if isinstance(axis, dict) else None for axis in multiscales.get("axes", [])]
    spatial = [a for a in multiscales.get("axes", []) if isinstance(a, dict) and a.get("type") == "space"]
    if not has_scale or not spatial or any(a.get("unit") not in NM_PER_UNIT for a in spatial):
        return None, None
    to_nm = np.asarray([NM_PER_UNIT.get(unit or "", 1.0) for unit in units])
    return _floats(scale * to_nm), _floats(translation * to_nm)


def _floats(values: Sequence[float] | np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
