"""Recognise the format of a file by its first bytes, where its ending names none or another one."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HEAD = 1024
"""Bytes at the beginning of a file that are looked at."""


@dataclass(frozen=True)
class Signature:
    """Bytes by which the files of a format begin.

    Attributes
    ----------
    name : str
        Name of the format.
    suffix : str
        Ending of its files.
    bytes_at : tuple of (int, bytes)
        Bytes of the file at an offset. All of them have to be there.
    instead : str
        What to do, where no reader knows the format.
    """

    name: str
    suffix: str
    bytes_at: tuple[tuple[int, bytes], ...]
    instead: str = "convert it, to TIFF for one"

    def fits(self, head: bytes) -> bool:
        """Return whether the beginning of a file has these bytes."""
        return all(head[at : at + len(part)] == part for at, part in self.bytes_at)


def _signature(name: str, suffix: str, first: bytes, at: int = 0, *more: tuple[int, bytes], **known: str) -> Signature:
    return Signature(name, suffix, ((at, first), *more), **known)


TO_OME_ZARR = "convert it to OME-Zarr with bioformats2raw, or open it in Fiji (Bio-Formats) and save it as TIFF"
TO_TIFF = "open it in Fiji and save it as TIFF"
BESIDE_XML = "name the file or folder beside it: a.h5:/t00000/s00/0/cells, or a.n5:/setup0/timepoint0"
UNPACK_ZIP = "unpack it; of a .npz of NumPy, give one of the .npy files that it holds"
DOWNLOAD = "the download has failed: fetch the file itself"
SIGNATURES = (
    _signature("PNG", ".png", b"\x89PNG\r\n\x1a\n"),
    _signature("JPEG", ".jpg", b"\xff\xd8\xff"),
    _signature("TIFF", ".tif", b"II*\0"),
    _signature("TIFF", ".tif", b"MM\0*"),
    _signature("BigTIFF", ".tif", b"II+\0"),
    _signature("BigTIFF", ".tif", b"MM\0+"),
    _signature("HDF5", ".h5", b"\x89HDF\r\n\x1a\n"),
    _signature("HDF5", ".h5", b"\x89HDF\r\n\x1a\n", 512),  # after the user block of MATLAB
    _signature("NRRD", ".nrrd", b"NRRD000"),
    _signature("NIfTI", ".nii", b"n+1\0", 344),
    _signature("NIfTI", ".nii", b"n+2\0\r\n\x1a\n", 4),
    _signature("NIfTI", ".hdr", b"ni1\0", 344),
    _signature("NIfTI", ".hdr", b"ni2\0\r\n\x1a\n", 4),
    _signature("MRC", ".mrc", b"MAP ", 208),
    _signature("MRC", ".mrc", b"MAP\0", 208),
    _signature("DM3", ".dm3", b"\0\0\0\3", 0, (8, b"\0\0\0\1")),
    _signature("DM4", ".dm4", b"\0\0\0\4", 0, (12, b"\0\0\0\1")),
    _signature("wkw", ".wkw", b"WKW"),
    _signature("gzip", ".gz", b"\x1f\x8b\x08", instead="unpack it with gunzip"),
    _signature("bzip2", ".bz2", b"BZh", 0, (4, b"1AY&SY"), instead="unpack it with bunzip2"),
    _signature("zip", ".zip", b"PK\3\4", instead=UNPACK_ZIP),
    _signature("xz", ".xz", b"\xfd7zXZ\0", instead="unpack it with unxz"),
    _signature("JPEG 2000", ".jp2", b"\0\0\0\x0cjP  ", instead=TO_OME_ZARR),
    _signature("BMP", ".bmp", b"BM", 0, (6, b"\0\0\0\0"), instead=TO_TIFF),
    _signature("GIF", ".gif", b"GIF8", instead=TO_TIFF),
    _signature("NumPy", ".npy", b"\x93NUMPY"),
    _signature("MATLAB", ".mat", b"MATLAB 5.0 MAT-file"),
    _signature("Zeiss CZI", ".czi", b"ZISRAWFILE", instead=TO_OME_ZARR),
    _signature("Leica LIF", ".lif", b"\x70\0\0\0", 0, (8, b"\x2a"), instead=TO_OME_ZARR),
    _signature("Nikon ND2", ".nd2", b"\xda\xce\xbe\x0a", instead=TO_OME_ZARR),
    _signature("TIA SER", ".ser", b"II\x97\x01"),
    _signature("DICOM", ".dcm", b"DICM", 128, instead="convert it to NIfTI with dcm2niix"),
    _signature(
        "MetaImage", ".mha", b"ObjectType", instead="save it as NIfTI (SimpleITK, ITK-SNAP), which keeps its units"
    ),
    _signature("an index of BigDataViewer", ".xml", b"<SpimData", instead=BESIDE_XML),
    _signature("an index of BigDataViewer", ".xml", b"<SpimData", 39, (0, b"<?xml"), instead=BESIDE_XML),
    _signature("PDF", ".pdf", b"%PDF"),
    _signature("a web page", ".html", b"<!DOCTYPE html", instead=DOWNLOAD),
    _signature("a web page", ".html", b"<!doctype html", instead=DOWNLOAD),
    _signature("a web page", ".html", b"<html", instead=DOWNLOAD),
    _signature("a pointer of Git LFS", ".txt", b"version https://git-lfs", instead="fetch the file with git lfs pull"),
)
"""Signatures of formats that are read, and of those for which they are mistaken. The first that fits counts."""


def signature_of(path: Path) -> Signature | None:
    """Return the signature of a file; None if it is a folder, is unreadable or has no known signature."""
    with suppress(OSError), path.open("rb") as file:
        head = file.read(HEAD)
        return next((one for one in SIGNATURES if one.fits(head)), None)
    return None


def is_another(found: Signature, suffixes: Sequence[str]) -> bool:
    """Return whether a signature belongs to none of the endings of a format."""
    return not any(suffix.endswith(found.suffix) for suffix in suffixes)


def remedy(found: Signature, known: Sequence[str]) -> str:
    """Return what to do with a file that has another ending than its signature, given all endings that are read."""
    is_read = any(suffix.endswith(found.suffix) for suffix in known)
    return f"give it the ending {found.suffix}" if is_read and "unpack" not in found.instead else found.instead
