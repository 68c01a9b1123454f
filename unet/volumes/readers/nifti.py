"""Read NIfTI-1 and NIfTI-2, plain or compressed by gzip, of one file or of a pair. The fastest axis comes first.

```
volume.nii              header and voxels
volume.hdr, volume.img  a pair: header, and voxels; either of them may be named
```
"""

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from unet.config.source import SourceConfig
from unet.volumes.readers.axes import axis_order
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.flat_array import FlatArray
from unet.volumes.readers.formats import Format
from unet.volumes.readers.orientation import Orientation, orientation
from unet.volumes.readers.signatures import signature_of
from unet.volumes.readers.source import ArraySource, Nm
from unet.volumes.voxel_size import stated_voxel_size

NAMES = ("x", "y", "z", "t", "c", "?", "?")
"""Axes of NIfTI in their order; the fifth holds the values of a voxel."""
PAIRED = (".hdr", ".img", ".hdr.gz", ".img.gz")
"""Endings of files of a pair."""
SIZES = (348, 540)
"""Bytes of the headers of NIfTI-1 and NIfTI-2, which are also the first number in them."""
MAGIC_AT = {348: 344, 540: 4}
"""Byte of the magic string by the size of the header."""
ITK_TO_NIFTI = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Turns x and y. They run to the left and to the back in ITK and SimpleITK, and to the right and to the front here."""
NM_PER_UNIT = {"meter": 1e9, "mm": 1e6, "micron": 1e3}


class NiftiSource(ArraySource):
    """A NIfTI file; intensities with a slope or an intercept are read as float32 after both are applied."""

    format_name = "NIfTI"

    def __init__(self, given: SourceConfig, path: Path) -> None:
        with read_errors(path, "NIfTI"):
            head, data = _pair(path)
            header, packed = _header(head, _is_packed(head)), _is_packed(data)
            stored, dtype = tuple(int(n) for n in header.get_data_shape()), header.get_data_dtype()
            if dtype.fields:
                raise SourceError(f"{path}: its voxels are colours, {dtype.names}; convert it to one grey channel")
            begin = int(header.get_data_offset())
            self._array = FlatArray(data, begin, stored, dtype, codec="gzip" if packed else None)
            self._array.check()
            slope, intercept = header.get_slope_inter()
            found = _orientation(header, len(stored))
        self._scale = (1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept))
        names = [*found.names, *NAMES[3:]][: len(stored)] if len(stored) > 2 else list(found.names[: len(stored)])
        order = axis_order(stored, names, given.path, "the order of NIfTI", given.axes)
        nm = NM_PER_UNIT.get(header.get_xyzt_units()[0])
        size, offset = (order.by_axis(_in_nm(values, nm, len(stored))) for values in (found.edges, found.offset))
        super().__init__(
            given.path,
            list(dict.fromkeys((head, data))),
            order,
            np.float32 if self._is_scaled else dtype,
            voxel_size_nm=stated_voxel_size(size, given.path),
            offset_nm=offset,
            voxel_size_from="pixdim and xyzt_units of the header",
            remarks=[f"{given.path}: {remark}" for remark in (*found.remarks, *self._remarks(found, nm))],
            where=path,
        )

    @property
    def _is_scaled(self) -> bool:
        return self._scale != (1.0, 0.0)

    def _remarks(self, found: Orientation, nm: float | None) -> list[str]:
        remarks = [] if (surplus := self._array.surplus()) is None else [surplus]
        if self._is_scaled:
            slope, intercept = self._scale
            remarks.append(
                f"intensities are read as stored * {slope:g} + {intercept:g} in float32, as scl_slope and scl_inter say"
            )
        if nm is None and any(found.edges):
            edges = ", ".join(f"{edge:g}" for edge in found.edges)
            remarks.append(
                f"pixdim is ({edges}) (x, y, z), and xyzt_units names no unit, so the voxel size is not known; set "
                "`voxel_size_nm` of this volume"
            )
        return remarks

    def _read_stored(self, selection: tuple[slice, ...]) -> np.ndarray:
        values = self._array.read(selection)
        if not self._is_scaled:
            return values
        slope, intercept = self._scale
        return (values * slope + intercept).astype(np.float32)


def _header(path: Path, packed: bool) -> Any:
    """Return the header. nibabel would read extensions of any size that the header says as well."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    with gzip.open(path) if packed else path.open("rb") as file:
        block = file.read(max(SIZES))
    orders = {"little", "big"} if len(block) >= 4 else ()
    size = next((n for order in orders if (n := int.from_bytes(block[:4], order)) in SIZES), None)  # type: ignore[arg-type]
    if size is None:
        raise SourceError(f"{path}: does not begin with 348 or 540, so it is no NIfTI; give it the right ending")
    if len(block) < size:
        raise EOFError(f"cut short, {len(block)} bytes of a header of {size}")
    magic, is_pair = block[MAGIC_AT[size] :][:2], ".hdr" in path.suffixes
    if magic not in ((b"ni",) if is_pair else (b"n+", b"n\0")):
        what = "its voxels lie in another file (.img); name it with the ending .hdr" if magic == b"ni" else "no NIfTI"
        raise SourceError(f"{path}: {what}, or Analyze 7.5; save it as .nii or .nii.gz")
    return (Nifti1Header if size == SIZES[0] else Nifti2Header)(block[:size])


def _pair(path: Path) -> tuple[Path, Path]:
    """Return the files of header and voxels: one, or a pair with the endings .hdr and .img."""
    ending = next((ending for ending in PAIRED if path.name.lower().endswith(ending)), None)
    if ending is None:
        return path, path
    stem = path.name[: -len(ending)]
    found = []
    for kind in (".hdr", ".img"):
        names = [f"{stem}{kind}{packed}" for packed in ("", ".gz")]
        there = next((path.parent / name for name in names if (path.parent / name).is_file()), None)
        if there is None:
            raise SourceError(f"{path}: one file of a pair, of which {names[0]} is missing; copy it as well")
        found.append(there)
    return found[0], found[1]


def _is_packed(path: Path) -> bool:
    return (found := signature_of(path)) is not None and found.name == "gzip"


def _orientation(header: Any, axes: int) -> Orientation:
    """Return how the axes lie in space by the affine of sform or qform; as they are stored if neither is set."""
    edges = tuple(float(edge) for edge in header.get_zooms()[: min(axes, 3)])
    if axes < 3 or not (int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0):
        return Orientation(tuple("xyz"[: min(axes, 3)]), edges, None)
    affine = header.get_best_affine()
    if not np.isfinite(affine).all():
        return Orientation(tuple("xyz"), edges, None)
    if affine[0, 0] < 0 and affine[1, 1] < 0:  # ITK counts x and y the other way, so its plain images are stored so
        affine = ITK_TO_NIFTI @ affine
    found = orientation(affine[:3, :3].T, affine[:3, 3])
    if not np.allclose(found.edges, edges, rtol=1e-3):
        told = [", ".join(f"{edge:g}" for edge in one) for one in (edges, found.edges)]
        remark = f"pixdim is ({told[0]}), but the affine of the header has steps of ({told[1]}); pixdim is used"
        return Orientation(found.names, edges, None, [*found.remarks, remark])
    return Orientation(found.names, edges, found.offset, found.remarks)


def _in_nm(values: Nm | None, nm: float | None, axes: int) -> Nm | None:
    """Return one length in nm per stored axis, NaN for axes that are not in space; None without a unit."""
    if values is None or nm is None:
        return None
    return tuple([value * nm for value in values] + [float("nan")] * (axes - len(values)))


FORMAT = Format(
    name="NIfTI",
    suffixes=(".nii", ".nii.gz", *PAIRED),
    open=lambda given, path, inner: NiftiSource(given, Path(path)),
    recognises=lambda path: (found := signature_of(path)) is not None and found.name == "NIfTI",
    package="nibabel",
    axes="affine of the header; else the fastest axis is x",
    dtypes="integers of 8 to 64 bits, float32",
    voxel_size="pixdim and xyzt_units",
    writers="nibabel",
)
