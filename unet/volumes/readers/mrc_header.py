"""Read the header of an MRC file, also where its machine stamp or the word MAP is not what the standard has.

```
bytes 0 .. 1023     header: nx, ny, nz, mode, cell, mapc, mapr, maps, nsymbt, IMOD's flags, MAP, machine stamp, ...
        nsymbt      extended header of the microscope or program, which is not read
        nx ny nz    voxels
```

The standard: https://www.ccpem.ac.uk/mrc_format/mrc2014.php; flags of IMOD: https://bio3d.colorado.edu/imod/doc/mrc_format.txt.
"""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np

from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.source import Nm
from unet.volumes.voxel_size import stated_voxel_size

SIZE = 1024
"""Bytes of the header without the extended header."""
FOUR_BITS = 101
DTYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2", FOUR_BITS: "u1"}
"""Type of the voxels by mode. In mode 101 a byte has two voxels."""
REFUSED = {
    3: "complex integers: a Fourier transform",
    4: "complex numbers: a Fourier transform",
    16: "RGB colours, which have to become one grey channel (in IMOD: clip snr)",
}
"""Modes that hold no grey values."""
ORDERS: tuple[Literal["<", ">"], ...] = ("<", ">")
STAMPS: dict[bytes, Literal["<", ">"]] = {b"\x44\x44": "<", b"\x44\x41": "<", b"\x11\x11": ">"}
"""Byte order by the first bytes of the machine stamp."""
IMOD_STAMP = 1146047817
"""The letters IMOD in the header. Bit 0 of the flags after them says whether bytes are signed."""
SIGNED, PACKED = 1, 16
"""Flags of IMOD: bytes of mode 0 are signed; bytes of mode 0 hold two voxels."""
VOLUME_STACKS = range(401, 631)
"""Space groups that mean several volumes in one file, each of mz sections."""


@dataclass(frozen=True)
class MrcHeader:
    """Header of an MRC file.

    Attributes
    ----------
    stored : tuple of int
        Lengths of the stored axes, the slowest first; several volumes come first.
    dtype : numpy.dtype
        Type of the voxels in the byte order of the file.
    mode : int
        Mode of the standard.
    begin : int
        First byte of the voxels.
    names : tuple of str
        Names of the stored axes: z, y and x, and t for several volumes.
    voxel_size_nm : tuple of float, or None
        (z, y, x) in nm.
    remarks : tuple of str
        What is not as the standard has it, and how it was read.
    """

    stored: tuple[int, ...]
    dtype: np.dtype
    mode: int
    begin: int
    names: tuple[str, ...]
    voxel_size_nm: Nm | None
    remarks: tuple[str, ...]


def read_header(path: Path) -> MrcHeader:
    """Return the header of an MRC file.

    Raises
    ------
    SourceError
        If the file is cut short, or if it holds something else than grey values.
    ValueError, EOFError
        If it is no MRC file, or if it ends inside the header.
    """
    with path.open("rb") as file:
        content = file.read(SIZE)
    if len(content) < SIZE:
        raise EOFError(f"header cut short, {len(content)} of {SIZE} bytes")
    size = path.stat().st_size
    order, remarks = _byte_order(content, size, path)
    header = _parsed(content)[order]
    _refuse_what_is_no_image(header, path)
    shape = int(header["nz"]), int(header["ny"]), int(header["nx"])
    begin = _begin(header, size, path, remarks)
    names = _names(header, path)
    dtype = np.dtype(DTYPES[int(header["mode"])]).newbyteorder(order)
    if header["mode"] == 0:
        dtype = _type_of_bytes(header, path, remarks)
    volumes = shape[0] // int(header["mz"]) if int(header["ispg"]) in VOLUME_STACKS and header["mz"] > 0 else 1
    if volumes > 1:
        shape, names = (volumes, shape[0] // volumes, *shape[1:]), ("t", *names)  # type: ignore[assignment]
    size_nm = stated_voxel_size(_voxel_size(header), str(path))
    return MrcHeader(shape, dtype, int(header["mode"]), begin, names, size_nm, tuple(remarks))


def bytes_of_voxels(shape: tuple[int, ...], mode: int) -> int:
    """Return the bytes that voxels take. In mode 101 each row begins with a byte of its own.

    >>> bytes_of_voxels((2, 3, 5), 1), bytes_of_voxels((2, 3, 5), 101)
    (60, 18)
    """
    row = (shape[-1] + 1) // 2 if mode == FOUR_BITS else shape[-1] * np.dtype(DTYPES[mode]).itemsize
    return prod(shape[:-1]) * row


def _parsed(content: bytes) -> dict[Literal["<", ">"], Any]:
    """Return the header in both byte orders."""
    from mrcfile.dtypes import HEADER_DTYPE

    return {order: np.frombuffer(content, HEADER_DTYPE.newbyteorder(order))[0] for order in ORDERS}


def _byte_order(content: bytes, size: int, path: Path) -> tuple[Literal["<", ">"], list[str]]:
    """Return the byte order that the machine stamp names, else the one in which header and file size agree."""
    orders = _parsed(content)
    named = STAMPS.get(content[212:214])
    has_map = content[208:211] == b"MAP"
    if named and has_map and _is_plausible(orders[named]):
        return named, []
    fits = [order for order, header in orders.items() if _is_plausible(header) and _fits(header, size, not has_map)]
    if len(fits) == 1:
        wrong = [] if has_map else ["the word MAP is missing"]
        if named != fits[0]:
            wrong.append(f"the machine stamp is {content[212:216].hex(' ')}")
        byte_order = "little" if fits[0] == "<" else "big"
        return fits[0], [
            f"{path}: {' and '.join(wrong)}; it is read as {byte_order}-endian, in which header and file size agree"
        ]
    if not has_map:
        raise ValueError("Map ID string not found, and the size of the file is not the one of the header")
    order = named or "<"
    sizes = tuple(int(orders[order][name]) for name in ("nz", "ny", "nx"))
    if orders[order]["mode"] in DTYPES and min(sizes) <= 0:
        raise SourceError(f"{path}: sizes (nz, ny, nx) are {sizes}; the header is damaged: export the file again")
    if _is_plausible(orders[order]):
        return order, []
    _refuse_what_is_no_image(orders[order], path)
    raise ValueError(f"sizes {sizes} and mode {orders[order]['mode']} in the header of a file of {size} bytes")


def _is_plausible(header: Any) -> bool:
    """Return whether the mode is known and all sizes are positive."""
    return int(header["mode"]) in DTYPES and min(int(header[name]) for name in ("nx", "ny", "nz")) > 0


def _fits(header: Any, size: int, exactly: bool) -> bool:
    """Return whether the voxels of a header fill the file, with or without its extended header."""
    voxels = bytes_of_voxels(tuple(int(header[name]) for name in ("nz", "ny", "nx")), int(header["mode"]))
    ends = [SIZE + voxels + extended for extended in {0, int(header["nsymbt"])} if extended >= 0]
    return size in ends if exactly else min(ends) <= size


def _refuse_what_is_no_image(header: Any, path: Path) -> None:
    mode = int(header["mode"])
    if mode in REFUSED:
        raise SourceError(f"{path}: mode {mode} of MRC, {REFUSED[mode]}; convert it to grey values, mode 0, 1, 2 or 6")
    if mode not in DTYPES:
        raise SourceError(
            f"{path}: mode {mode} of MRC is not known; convert it to one of {', '.join(map(str, DTYPES))}"
        )
    if mode == 0 and _is_imod(header) and _flags(header) & PACKED:
        raise SourceError(f"{path}: two voxels per byte in mode 0, an old way of IMOD; convert it to mode 101 or 0")


def _begin(header: Any, size: int, path: Path, remarks: list[str]) -> int:
    """Return the first byte of the voxels. Tell where nsymbt, the length of the extended header, cannot be right."""
    shape, extended = tuple(int(header[name]) for name in ("nz", "ny", "nx")), int(header["nsymbt"])
    voxels = bytes_of_voxels(shape, int(header["mode"]))
    begin = SIZE + max(0, extended)
    if size == SIZE + voxels != begin + voxels or extended < 0:
        remarks.append(
            f"{path}: nsymbt says that the extended header has {extended} bytes, but header and voxels alone fill the "
            f"file; the voxels are read from byte {SIZE} on"
        )
        begin = SIZE
    if size < begin + voxels:
        raise SourceError(
            f"{path}: cut short, {size} bytes, but the header of {shape} voxels of mode {int(header['mode'])} needs "
            f"{begin + voxels}; copy or export it again"
        )
    if size > begin + voxels:
        remarks.append(
            f"{path}: {size - begin - voxels} bytes longer than its header of {shape} voxels says; the voxels are read "
            f"from byte {begin} on. Look at the first section: if it is shifted, nsymbt of the header is wrong"
        )
    return begin


def _names(header: Any, path: Path) -> tuple[str, ...]:
    """Return the names of the axes, sections first: 1 = x, 2 = y, 3 = z; 0 in old files means the usual order."""
    axes = [int(header["maps"]) or 3, int(header["mapr"]) or 2, int(header["mapc"]) or 1]
    if sorted(axes) != [1, 2, 3]:
        raise SourceError(f"{path}: axes (maps, mapr, mapc) are {tuple(axes)}; they have to be 1, 2 and 3 in any order")
    return tuple("?xyz"[axis] for axis in axes)


def _type_of_bytes(header: Any, path: Path, remarks: list[str]) -> np.dtype:
    """Return the type of mode 0: signed by the standard. IMOD wrote unsigned bytes unless a flag is set."""
    if _is_imod(header):
        return np.dtype("i1" if _flags(header) & SIGNED else "u1")
    low, high = float(header["dmin"]), float(header["dmax"])
    unsigned = 0 <= low < high and 127 < high <= 255
    why = (
        f"since the header has a minimum of {low:g} and a maximum of {high:g}"
        if unsigned
        else "as the standard says; where a picture shows black beside white instead of grey, they are unsigned: write "
        "0 and 255 as dmin and dmax into the header, or convert the file to mode 6"
    )
    remarks.append(
        f"{path}: bytes of mode 0 are read as {'unsigned, 0 to 255' if unsigned else 'signed, -128 to 127'}, {why}"
    )
    return np.dtype("u1" if unsigned else "i1")


def _is_imod(header: Any) -> bool:
    """Return whether the header has the letters IMOD, in either byte order."""
    stamp = header["extra2"].tobytes()[40:44]
    return IMOD_STAMP in (int.from_bytes(stamp, "little"), int.from_bytes(stamp, "big"))


def _flags(header: Any) -> int:
    extra = header["extra2"].tobytes()
    little = int.from_bytes(extra[40:44], "little") == IMOD_STAMP
    return int.from_bytes(extra[44:48], "little" if little else "big")


def _voxel_size(header: Any) -> tuple[float, ...] | None:
    """Return the voxel size (z, y, x) in nm by the cell in Angstrom; None if the number of samples is 0."""
    samples = [int(header[name]) for name in ("mz", "my", "mx")]
    if min(samples) <= 0:
        return None
    return tuple(float(header["cella"][axis]) / n / 10 for axis, n in zip("zyx", samples, strict=True))
