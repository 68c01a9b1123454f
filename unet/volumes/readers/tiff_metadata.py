"""Read voxel sizes from the metadata of TIFF: OME-XML, ImageJ, Micro-Manager, and the tags of electron microscopes.

Most files of one section know the size of a pixel, and not how thick the section is. Resolution tags alone (72 dpi) say
nothing about a specimen.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from unet.storage.length_units import nm_per_unit
from unet.volumes.readers.source import Nm
from unet.volumes.voxel_size import stated_voxel_size

CENTIMETRE_NM = 1e7
"""A unit of printed paper (72 dpi), which is no length of a voxel here."""
LARGEST_PIXEL_NM = 1e4
SHORT = ("µ", "μ", "u")
"""Names that microscopes give to the micrometre in TIFF."""


@dataclass(frozen=True)
class StatedSize:
    """Size of voxels, as a file states it.

    Attributes
    ----------
    edges_nm : tuple of float
        ``(z, y, x)`` in nm; NaN or 0 where the file says nothing.
    origin : str
        Where the file says it.
    """

    edges_nm: Nm
    origin: str

    def voxel_size(self, where: str) -> Nm | None:
        """Return the voxel size, or None if an edge is unknown; see `stated_voxel_size`."""
        return stated_voxel_size(self.edges_nm, where)

    @property
    def pixel_nm(self) -> Nm | None:
        """Return the size `(y, x)` of a pixel in nm if the file does not say how thick sections are, else None.

        Pixels of more than `LARGEST_PIXEL_NM` are those of a print (72 per inch).
        """
        z, y, x = self.edges_nm
        is_known = all(isfinite(edge) and 0 < edge < LARGEST_PIXEL_NM for edge in (y, x))
        return (y, x) if is_known and not z > 0 else None


def length_of(unit: object) -> float:
    """Return the length of a voxel's unit in nm; NaN for a unit that is no length, or a unit of paper.

    >>> [length_of(unit) for unit in ("nm", "Micron", "pixel", "cm")]
    [1.0, 1000.0, nan, nan]
    """
    text = str(unit).strip().lower()
    found = nm_per_unit("um" if text in SHORT else text)
    return nan if found in (None, CENTIMETRE_NM) else found


def stated_size(tiff: tifffile.TiffFile, number: int = 0, count: int = 1) -> StatedSize | None:
    """Return what a file says about the voxels of one of its series; None if it says nothing of any use."""
    for read in (_ome, _imagej, _micromanager, _fei, _zeiss, _lsm, _sis, _tvips, _gatan):
        with suppress(AttributeError, KeyError, IndexError, TypeError, ValueError, ElementTree.ParseError):
            found = read(tiff, number, count)
            if found is not None and any(isfinite(edge) and edge for edge in found.edges_nm):
                return found
    return None


SIGNED = (-32768.0, 1.0)
"""Calibration by which ImageJ stores signed values of 16 bits: as unsigned ones, 32768 too large."""


def value_calibration(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    """Return the numbers c0 and c1 of ImageJ, which shows c0 + c1 * stored; None where it shows the stored values.

    Of a calibration that is no straight line c1 is NaN.
    """
    with suppress(AttributeError, KeyError, TypeError, ValueError):
        metadata = tiff.imagej_metadata or {}
        if "cf" not in metadata or "c0" not in metadata:
            return None
        found = _number(metadata["c0"]), _number(metadata.get("c1", nan)) if metadata["cf"] == 0 else nan
        return None if found == (0.0, 1.0) else found
    return None


def pixels_elements(xml: str | None) -> list[ElementTree.Element]:
    """Return the elements `Pixels` of OME-XML, one per image."""
    return [element for element in ElementTree.fromstring(xml or "<none/>").iter() if local_name(element) == "Pixels"]


def local_name(element: ElementTree.Element) -> str:
    """Return the name of an element without its namespace."""
    return element.tag.rpartition("}")[2]


def _number(value: Any) -> float:
    """Return a number, NaN for what is none."""
    with suppress(TypeError, ValueError):
        return float(value)
    return nan


def _ome(tiff: tifffile.TiffFile, number: int, count: int) -> StatedSize | None:
    """Return the PhysicalSize of an image. The default unit is micrometre (OME-XML 2016-06)."""
    if not tiff.is_ome:
        return None
    pixels = pixels_elements(tiff.ome_metadata)
    if len(pixels) != count and count > 1:
        return None  # tifffile leaves out images that it cannot read, so the numbers do not tell which is meant
    one = pixels[number if len(pixels) == count else 0]
    edges = [
        _number(one.get(f"PhysicalSize{axis}", nan)) * length_of(one.get(f"PhysicalSize{axis}Unit", "µm"))
        for axis in "ZYX"
    ]
    return StatedSize(tuple(edges), "OME-XML")


def _imagej(tiff: tifffile.TiffFile, *_: int) -> StatedSize | None:
    """Return ImageJ's spacing between sections, and the resolution tags, in pixels per unit."""
    metadata = tiff.imagej_metadata
    if not metadata:
        return None
    unit = metadata.get("unit", "")
    z, y, x = (length_of(metadata.get(key, unit)) for key in ("zunit", "yunit", "unit"))
    across, down = _pixel_edges(tiff)
    return StatedSize((abs(_number(metadata.get("spacing", nan))) * z, down * y, across * x), "ImageJ's metadata")


def _pixel_edges(tiff: tifffile.TiffFile) -> tuple[float, float]:
    """Return (x, y) by the resolution tags, in the unit of the description; NaN where a tag is missing or 0."""
    edges = []
    for name in ("XResolution", "YResolution"):
        tag = tiff.pages.first.tags.get(name)
        numerator, denominator = np.ravel(tag.value)[:2] if tag is not None else (0, 1)
        edges.append(float(denominator) / float(numerator) if numerator else nan)
    return edges[0], edges[1]


def _micromanager(tiff: tifffile.TiffFile, *_: int) -> StatedSize | None:
    """Return PixelSizeUm and z-step_um of Micro-Manager's summary, or of the first plane."""
    known: dict[str, Any] = dict((tiff.micromanager_metadata or {}).get("Summary") or {})
    tag = tiff.pages.first.tags.get(51123)
    plane = tag.value if tag is not None and isinstance(tag.value, dict) else {}
    pixel = _number(known.get("PixelSize_um") or known.get("PixelSizeUm") or plane.get("PixelSizeUm"))
    step = _number(known.get("z-step_um") or known.get("ZStepUm") or nan)
    return StatedSize((abs(step) * 1e3, pixel * 1e3, pixel * 1e3), "Micro-Manager's metadata")


def _fei(tiff: tifffile.TiffFile, *_: int) -> StatedSize | None:
    """Return PixelWidth and PixelHeight of FEI and Thermo Fisher, in m."""
    if not tiff.is_fei:
        return None
    metadata: Any = tiff.fei_metadata
    sections = [metadata["Scan"], *(part for part in metadata.values() if isinstance(part, dict))]
    scan = next(part for part in sections if "PixelWidth" in part)
    return StatedSize((nan, _number(scan["PixelHeight"]) * 1e9, _number(scan["PixelWidth"]) * 1e9), "the FEI tags")


def _zeiss(tiff: tifffile.TiffFile, *_: int) -> StatedSize | None:
    """Return the Image Pixel Size of Zeiss SmartSEM, with its unit."""
    if not tiff.is_sem:
        return None
    metadata: Any = tiff.sem_metadata
    _, value, unit = metadata.get("ap_image_pixel_size") or metadata["ap_pixel_size"]
    pixel = _number(value) * length_of(unit)
    return StatedSize((nan, pixel, pixel), "the tags of Zeiss SmartSEM")


def _lsm(tiff: tifffile.TiffFile, *_: int) -> StatedSize | None:
    """Return the voxel size of a Zeiss LSM, in m."""
    if not tiff.is_lsm:
        return None
    metadata: Any = tiff.lsm_metadata
    return StatedSize(tuple(_number(metadata[f"VoxelSize{axis}"]) * 1e9 for axis in "ZYX"), "the tags of Zeiss LSM")


def _sis(tiff: tifffile.TiffFile, *_: int) -> StatedSize | None:
    """Return the pixel size of Olympus SIS (iTEM), in m."""
    metadata = tiff.sis_metadata if tiff.is_sis else None
    if not metadata:
        return None
    return StatedSize(
        (nan, _number(metadata["pixelsizey"]) * 1e9, _number(metadata["pixelsizex"]) * 1e9), "the tags of Olympus SIS"
    )


def _tvips(tiff: tifffile.TiffFile, *_: int) -> StatedSize | None:
    """Return the pixel size of TVIPS cameras, in nm."""
    if not tiff.is_tvips:
        return None
    metadata: Any = tiff.tvips_metadata
    return StatedSize((nan, _number(metadata["PixelSizeY"]), _number(metadata["PixelSizeX"])), "the tags of TVIPS")


def _gatan(tiff: tifffile.TiffFile, *_: int) -> StatedSize | None:
    """Return the pixel size of Gatan DigitalMicrograph: scales in tags 65009 to 65011, units in 65003 to 65005."""
    tags = tiff.pages.first.tags
    if 65009 not in tags or 65003 not in tags:
        return None
    edges = dict(zip("xyz", _gatan_edges(tags), strict=True))
    return StatedSize((edges["z"], edges["y"], edges["x"]), "the tags of Gatan DigitalMicrograph")


def _gatan_edges(tags: tifffile.TiffTags) -> Iterator[float]:
    for unit, scale in ((65003, 65009), (65004, 65010), (65005, 65011)):
        known = unit in tags and scale in tags
        yield _number(tags[scale].value) * length_of(tags[unit].value) if known else nan
