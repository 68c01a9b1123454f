"""Open the image files of a volume as a `Source`, and check that sources fit each other."""

from collections.abc import Sequence
from pathlib import Path

from unet.storage.address import is_address, split_url
from unet.storage.ngff import implausible_voxel_size
from unet.volumes.readers.channels import ChannelStack
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.hdf5 import Hdf5Source
from unet.volumes.readers.section_files import PNG_SUFFIXES, TIFF_SUFFIXES, SectionFiles
from unet.volumes.readers.source import RAW_DTYPES, MrcSource, Nm, Source
from unet.volumes.readers.tiff import TiffStack
from unet.volumes.readers.zarr import ZarrSource, is_zarr

__all__ = [
    "Source",
    "SourceError",
    "check_aligned",
    "check_annotation",
    "check_raw",
    "check_sections",
    "open_raw",
    "open_source",
    "resolve_voxel_size",
]

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
MRC_SUFFIXES = (".mrc", ".rec", ".map", ".st", ".ali")
TOLERANCE = 0.01
"""Largest difference between two voxel sizes or places, as a share of a voxel's edge."""


def open_source(address: str) -> Source:
    """Open the source at an address. Only the first header is read; `Source.check` reads the header of every section.

    Parameters
    ----------
    address : str
        A directory of TIFF or PNG sections; a TIFF, BigTIFF, PNG or MRC file; ``file.h5:/dataset``; a Zarr array or
        OME-Zarr image (v2, v3), with ``store.zarr:/path`` for an array inside. Zarr may also be given by an address
        such as ``s3://bucket/store.zarr``.

    Raises
    ------
    SourceError
        If there is no such file or dataset, if its format or dtype is not supported, if it is truncated, or if the
        numbers of a series of sections have gaps.
    """
    if is_address(address):
        return ZarrSource(address, *split_url(address))
    path, inner = split_address(address)
    if not path.exists():
        raise SourceError(f"{address}: there is no {path}{_nearest(path)}; correct the path in the configuration")
    suffix = path.suffix.lower()
    if suffix in HDF5_SUFFIXES:
        return Hdf5Source(address, path, inner)
    if suffix == ".zarr" or (path.is_dir() and is_zarr(path)):
        return ZarrSource(address, path, inner)
    if inner:
        raise SourceError(
            f"{address}: {path} is neither HDF5 nor Zarr, there is no {inner} inside it; leave out :{inner}"
        )
    if path.is_dir():
        return SectionFiles.in_directory(address, path)
    if suffix in TIFF_SUFFIXES:
        return TiffStack(address, path)
    if suffix in PNG_SUFFIXES:
        return SectionFiles(address, [path], [path])
    if suffix in MRC_SUFFIXES:
        return MrcSource(address, path)
    known = (*TIFF_SUFFIXES, *PNG_SUFFIXES, *HDF5_SUFFIXES, *MRC_SUFFIXES, ".zarr")
    ending = f"files ending in {suffix!r}" if suffix else "files without an ending"
    raise SourceError(
        f"{address}: {ending} are not known; supported are {', '.join(known)}: rename the file if it is one of these, "
        "else convert it, to TIFF for one"
    )


def open_raw(addresses: str | Sequence[str]) -> Source:
    """Open the intensities of a volume: one address, or several addresses whose channels follow each other.

    Raises
    ------
    SourceError
        As `open_source`; also if the sources do not lie on the same voxels, or differ in dtype.
    """
    sources = [open_source(address) for address in ([addresses] if isinstance(addresses, str) else addresses)]
    first, *others = sources
    for other in others:
        check_aligned(first, other)
        if other.dtype != first.dtype:
            raise SourceError(
                f"{other.address}: dtype {other.dtype.name}, but {first.address} has {first.dtype.name}; all "
                "channels of a volume have one dtype: convert one of them"
            )
    return ChannelStack(sources) if others else first


def split_address(address: str) -> tuple[Path, str | None]:
    """Return the file of an address, and the path inside the file, or None.

    >>> split_address("a.h5:/volumes/raw")
    (PosixPath('a.h5'), '/volumes/raw')
    >>> split_address("sections")
    (PosixPath('sections'), None)
    """
    path, colon, inner = address.rpartition(":")
    if not colon or Path(address).exists():
        return Path(address), None
    return Path(path), "/" + inner.strip("/")


def _nearest(path: Path) -> str:
    """Return the closest parent folder that exists, for a message."""
    found = next((p for p in path.absolute().parents if p.is_dir()), None)
    return f" (the folder {found} is there)" if found else ""


def check_annotation(
    raw: Source, labels: Source, sections: tuple[int, int] | None = None, voxel_size_nm: Nm | None = None
) -> None:
    """Check that an annotation or a mask lies on the voxels of the raw volume and has one channel.

    Raises
    ------
    SourceError
        As `check_aligned`; also if there are several channels, or if the voxel size is not `voxel_size_nm`.
    """
    check_aligned(raw, labels, sections)
    if voxel_size_nm and labels.voxel_size_nm:
        resolve_voxel_size(voxel_size_nm, labels.voxel_size_nm, labels.address, other="the volume's voxel_size_nm")
    if labels.channels != 1:
        raise SourceError(
            f"{labels.address}: {labels.channels} channels, but labels and masks have one value per voxel: extract one"
        )


def check_raw(raw: Source) -> None:
    """Refuse a dtype that is not supported for intensities."""
    if raw.dtype.name not in RAW_DTYPES:
        raise SourceError(
            f"{raw.address}: dtype {raw.dtype.name} is not supported for intensities; convert to one of "
            f"{', '.join(RAW_DTYPES)}"
        )


def check_sections(source: Source, sections: tuple[int, int] | None) -> tuple[int, int]:
    """Return the half-open range of sections to use; all sections if no range is given.

    Raises
    ------
    SourceError
        If the range is empty or exceeds the volume.
    """
    first, stop = sections or (0, source.shape[0])
    if not 0 <= first < stop <= source.shape[0]:
        raise SourceError(
            f"{source.address}: sections [{first}, {stop}] are not inside its {source.shape[0]} sections; choose "
            f"0 <= first < stop <= {source.shape[0]}"
        )
    return first, stop


def check_aligned(raw: Source, labels: Source, sections: tuple[int, int] | None = None) -> None:
    """Check that labels, a mask or another channel lie on the voxels of the raw volume.

    Raises
    ------
    SourceError
        If shapes differ, if voxel sizes or offsets that both know differ, or if `sections` exceed the volume.
    """
    if raw.shape != labels.shape:
        raise SourceError(
            f"{labels.address}: shape {labels.shape}, but {raw.address} has shape {raw.shape} (z, y, x); both need the "
            "same voxels: crop or pad one of them"
        )
    check_sections(raw, sections)
    if raw.voxel_size_nm and labels.voxel_size_nm:
        resolve_voxel_size(raw.voxel_size_nm, labels.voxel_size_nm, labels.address, other=raw.address)
    if raw.offset_nm and labels.offset_nm and not _close(raw.offset_nm, labels.offset_nm, raw.voxel_size_nm):
        raise SourceError(
            f"{labels.address}: offset {labels.offset_nm} nm, but {raw.address} has {raw.offset_nm} nm (z, y, x); "
            "crop both to the same place"
        )


def _close(one: Nm, other: Nm, voxel_size_nm: Nm | None) -> bool:
    """Return whether two places differ by at most `TOLERANCE` of a voxel; an unknown voxel counts as 1 nm."""
    edges = voxel_size_nm or (1.0,) * len(one)
    return all(abs(a - b) <= TOLERANCE * edge for a, b, edge in zip(one, other, edges, strict=True))


def resolve_voxel_size(
    config_nm: Nm | None, file_nm: Nm | None, where: str, other: str = "the configuration"
) -> tuple[float, float, float]:
    """Return the voxel size ``(z, y, x)`` in nm: the size in the configuration, else the size in the file.

    >>> resolve_voxel_size(None, (50.0, 4.0, 4.0), "a.h5:/raw")
    (50.0, 4.0, 4.0)

    Raises
    ------
    SourceError
        If neither gives a size, if the two differ by more than 1 %, or if the size is implausible for a microscope.
    """
    known = config_nm or file_nm
    if known is None:
        raise SourceError(f"{where}: does not say how large a voxel is; set `voxel_size_nm: [z, y, x]` of this volume")
    if config_nm and file_nm and any(abs(a - b) > TOLERANCE * b for a, b in zip(config_nm, file_nm, strict=True)):
        raise SourceError(
            f"{where}: voxels of {_nm(file_nm)} nm, but {other} says {_nm(config_nm)} nm (z, y, x); correct "
            "`voxel_size_nm`, or the file"
        )
    if problem := implausible_voxel_size(known):
        raise SourceError(f"{where}: the file's voxel size of {problem}: correct the unit in the file")
    z, y, x = (float(n) for n in known)
    return z, y, x


def _nm(values: Nm) -> str:
    return "(" + ", ".join(f"{v:g}" for v in values) + ")"
