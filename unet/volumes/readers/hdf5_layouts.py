"""Recognise layouts of HDF5 files whose conventions no attribute of the dataset names.

```
BigDataViewer   t00000/s00/0/cells      time point, setup (channel, angle, tile), level; 16 bits stored as if signed
Imaris          DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data      padded to whole chunks
Velox           Data/Image/8b2f...e4/Data         (y, x, frames), beside Metadata: JSON of each frame in a column
MATLAB          raw                     an array (y, x, z) of MATLAB is a dataset (z, x, y)
```
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np

from unet.config.source import SourceConfig
from unet.storage.length_units import nm_per_unit
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.hdf5_attributes import attribute, names_its_axes
from unet.volumes.readers.source import Nm

BIGDATAVIEWER = re.compile(r"/?t\d{5}/s(\d{2,})/(\d+)/cells")
IMARIS = re.compile(r"/?(DataSet(?:/ResolutionLevel \d+){1}/TimePoint \d+/Channel \d+)/Data")
VELOX = re.compile(r"/?Data/Image/[0-9a-f]{32}/Data")
MAX_JSON = 2**24
"""Largest metadata of a frame of Velox, in bytes."""
MAX_XML = 2**24
"""Largest XML file beside a BigDataViewer file, in bytes."""


@dataclass(frozen=True)
class Layout:
    """Description of a dataset by the layout of its file.

    Attributes
    ----------
    shape : tuple of int
        Lengths of the stored axes without padding.
    dtype : numpy.dtype
        Type that the stored bytes mean.
    voxel_size_nm : tuple of float, or None
        (z, y, x) in nm.
    origin : str
        Where the voxel size is from.
    names : str or None
        Names of the stored axes.
    remarks : tuple of str
        What the user has to know.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    voxel_size_nm: Nm | None = None
    origin: str = ""
    names: str | None = None
    remarks: tuple[str, ...] = ()


def layout_of(dataset: h5py.Dataset, inner: str, path: Path, given: SourceConfig) -> Layout:
    """Return what the layout of a file says about a dataset of it.

    Raises
    ------
    SourceError
        If MATLAB wrote it, and the user does not say in which order its axes are.
    """
    if found := BIGDATAVIEWER.fullmatch(inner):
        return _bigdataviewer(dataset, path, given.path, int(found[1]), int(found[2]))
    if found := IMARIS.fullmatch(inner):
        return _imaris(dataset, dataset.file, found[1], given.path)
    if VELOX.fullmatch(inner) and dataset.ndim == 3:
        return _velox(dataset, given.path)
    _refuse_reversed_axes(dataset, path, given)
    return Layout(dataset.shape, dataset.dtype)


def is_finest_level(name: str) -> bool:
    """Return whether a dataset is no coarser copy of another one, and no preview.

    >>> is_finest_level("t00000/s00/0/cells"), is_finest_level("t00000/s00/1/cells"), is_finest_level("raw")
    (True, False, True)
    """
    if name.startswith(("Thumbnail/", "DataSetInfo/")):
        return False
    found = BIGDATAVIEWER.fullmatch(name)
    return (found is None or found[2] == "0") and re.match(r"DataSet/ResolutionLevel [1-9]", name) is None


def _bigdataviewer(dataset: h5py.Dataset, path: Path, address: str, setup: int, level: int) -> Layout:
    group = dataset.file.get(f"s{setup:02d}")
    places = [dataset, dataset.parent, dataset.parent.parent, *([group] if isinstance(group, h5py.Group) else [])]
    said = next((str(value) for value in (attribute(place, "dataType") for place in places) if value), None)
    dtype, remarks = dataset.dtype, []
    if dtype == np.int16 and said not in ("int16", "short"):
        dtype = np.dtype("u2").newbyteorder(dtype.byteorder)
        remarks.append(
            f"{address}: BigDataViewer stores grey values of uint16 in signed datasets; they are read as uint16, "
            "0 to 65535. If they are signed, copy the dataset to another path"
        )
    factors = _level_factors(group, level)
    xml = path.with_suffix(".xml")
    size = _setup_size(xml, setup) if factors else None
    if size is None or factors is None:
        return Layout(dataset.shape, dtype, names="zyx", remarks=tuple(remarks))
    nm = tuple(edge * factor for edge, factor in zip(size, factors, strict=True))
    return Layout(dataset.shape, dtype, nm, f"<voxelSize> in {xml.name}", "zyx", tuple(remarks))


def _level_factors(group: h5py.Group | None, level: int) -> Nm | None:
    """Return how many voxels of the finest level a voxel of a level takes, (z, y, x); they are stored (x, y, z)."""
    stored = group.get("resolutions") if isinstance(group, h5py.Group) else None
    if not isinstance(stored, h5py.Dataset) or stored.ndim != 2 or stored.shape[1] != 3 or len(stored) <= level:
        return (1.0, 1.0, 1.0) if level == 0 else None
    return tuple(float(factor) for factor in stored[level][::-1])


def _setup_size(xml: Path, setup: int) -> Nm | None:
    """Return the voxel size (z, y, x) in nm of a setup in BigDataViewer's XML file; None if it has none."""
    try:
        content = xml.read_bytes() if xml.stat().st_size <= MAX_XML else b""
        if not content or b"<!" in re.sub(rb"<!--.*?-->", b"", content, flags=re.DOTALL):
            return None  # entities, which may grow without end
        for found in ElementTree.fromstring(content).iter("ViewSetup"):
            if int(found.findtext("id", "-1")) == setup:
                factor = nm_per_unit(found.findtext("voxelSize/unit", ""))
                x, y, z = (float(edge) for edge in found.findtext("voxelSize/size", "").split())
                return None if factor is None else (z * factor, y * factor, x * factor)
    except (OSError, ValueError, ElementTree.ParseError):
        return None
    return None


def _imaris(dataset: h5py.Dataset, file: h5py.File, channel: str, address: str) -> Layout:
    """Return the size of an Imaris image without padding, and its voxel size by the extent of the image."""
    true = [_number(attribute(dataset.parent, f"ImageSize{axis}")) for axis in "ZYX"]
    if dataset.ndim != 3 or not all(n is not None and 0 < n <= m for n, m in zip(true, dataset.shape, strict=False)):
        raise SourceError(
            f"{address}: Imaris pads its images, and ImageSizeZ, Y and X of {channel} are {true}, but {dataset.shape} "
            "are stored; export it again, as TIFF for one"
        )
    shape = tuple(int(n) for n in true if n is not None)
    info = file.get("DataSetInfo/Image")
    if not isinstance(info, h5py.Group):
        return Layout(shape, dataset.dtype, names="zyx")
    ends = [(_number(attribute(info, f"ExtMin{i}")), _number(attribute(info, f"ExtMax{i}"))) for i in (2, 1, 0)]
    factor = nm_per_unit(_text(attribute(info, "Unit")))
    if factor is None or any(a is None or b is None for a, b in ends):
        return Layout(shape, dataset.dtype, names="zyx")
    spans = [b - a for a, b in ends if a is not None and b is not None]
    size = tuple(span * factor / n for span, n in zip(spans, shape, strict=True))
    return Layout(shape, dataset.dtype, size, "the extent in DataSetInfo/Image", "zyx")


def _velox(dataset: h5py.Dataset, address: str) -> Layout:
    """Return the axes of an image of Thermo Fisher Velox. A remark gives the pixel size: the file has no thickness."""
    pixel = _velox_pixel_nm(dataset.parent.get("Metadata"))
    told = f"pixels of {pixel[0]:g} x {pixel[1]:g} nm (y, x) by Velox" if pixel else "no pixel size is known"
    remark = f"{address}: {told}, and no thickness of a section; set `voxel_size_nm` of this volume"
    return Layout(dataset.shape, dataset.dtype, names="yxt", remarks=(remark,))


def _velox_pixel_nm(metadata: object) -> tuple[float, float] | None:
    """Return height and width of a pixel in nm, from the JSON of the first frame."""
    if not isinstance(metadata, h5py.Dataset) or metadata.ndim != 2 or metadata.shape[0] > MAX_JSON:
        return None
    try:
        result = json.loads(metadata[:, 0].tobytes().rstrip(b"\0"))["BinaryResult"]
        units = [nm_per_unit(str(result[key])) for key in ("PixelUnitY", "PixelUnitX")]
        sizes = [float(result["PixelSize"][key]) for key in ("height", "width")]
        y, x = (size * unit for size, unit in zip(sizes, units, strict=True) if unit is not None)
    except (ValueError, KeyError, TypeError, OSError):
        return None
    return y, x


def _refuse_reversed_axes(dataset: h5py.Dataset, path: Path, given: SourceConfig) -> None:
    """Refuse what MATLAB wrote, or rather has written by a user block, unless the user names the axes."""
    if given.axes is not None:
        return
    with path.open("rb") as file:
        begin = file.read(6)
    lengths = f"the dataset has axes of lengths {dataset.shape}"
    advice = "if the array was (y, x, z) in MATLAB, write `axes: zxy` at this source; if it was (x, y, z), `axes: zyx`"
    if path.suffix.lower() == ".mat" or begin == b"MATLAB" or attribute(dataset, "MATLAB_class") is not None:
        raise SourceError(f"{given.path}: MATLAB stores the axes of an array in reverse, {lengths}; {advice}")
    if dataset.file.userblock_size and not names_its_axes(dataset):
        raise SourceError(
            f"{given.path}: the file has a user block, as MATLAB and Julia write, which store the axes of an array in "
            f"reverse, {lengths}; {advice}"
        )


def _number(value: object) -> float | None:
    """Return a number that Imaris stores as a list of characters."""
    try:
        return float(_text(value))
    except ValueError:
        return None


def _text(value: object) -> str:
    return "".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
