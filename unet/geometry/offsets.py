"""The offsets of affinities: pairs of voxels, their default set, and their names as channels.

The affinity of a voxel p at the offset d is the probability that the voxels p and p + d belong to one object. It is
stored at p. The affinity at -d is the affinity at d of another voxel, so the first component that is not 0 is positive.
"""

import re
from collections.abc import Sequence

Offset = tuple[int, int, int]
"""Offset `(z, y, x)` in voxels from the first voxel of a pair to the second."""

ISOTROPIC_BELOW = 2.0
"""Ratio of the longest to the shortest side of a voxel below which voxels count as isotropic."""
ISOTROPIC_OFFSETS: tuple[Offset, ...] = (
    *((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    *((3, 0, 0), (0, 3, 0), (0, 0, 3)),
    *((9, 0, 0), (0, 9, 0), (0, 0, 9)),
)
"""Nearest neighbours along z, y and x, then pairs 3 and 9 voxels apart."""
ANISOTROPIC_OFFSETS: tuple[Offset, ...] = (
    *((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    *((2, 0, 0), (0, 3, 0), (0, 0, 3)),
    *((0, 9, 0), (0, 0, 9), (0, 27, 0), (0, 0, 27)),
)
"""Nearest neighbours, then two sections apart, and 3, 9 and 27 pixels apart within the section."""

_NAME = re.compile(r"^(?:z([+-]\d+))?(?:y([+-]\d+))?(?:x([+-]\d+))?$")


def default_offsets(voxel_size_nm: Sequence[float]) -> tuple[Offset, ...]:
    """Return the default offsets for voxels of `voxel_size_nm` `(z, y, x)` in nm.

    >>> default_offsets((10, 10, 10))[:4]
    ((1, 0, 0), (0, 1, 0), (0, 0, 1), (3, 0, 0))
    >>> default_offsets((50, 4, 4))[3:6]
    ((2, 0, 0), (0, 3, 0), (0, 0, 3))
    """
    return ISOTROPIC_OFFSETS if is_isotropic(voxel_size_nm) else ANISOTROPIC_OFFSETS


def is_isotropic(voxel_size_nm: Sequence[float]) -> bool:
    """Return whether voxels count as isotropic: no side is twice as long as another.

    >>> is_isotropic((10, 8, 8)), is_isotropic((40, 4, 4))
    (True, False)
    """
    return max(voxel_size_nm) < ISOTROPIC_BELOW * min(voxel_size_nm)


def is_nearest(offset: Offset) -> bool:
    """Return whether the two voxels of an offset share a face.

    >>> is_nearest((0, 1, 0)), is_nearest((0, 1, 1)), is_nearest((0, 3, 0))
    (True, False, False)
    """
    return sum(map(abs, offset)) == 1


def offset_name(offset: Offset) -> str:
    """Return the name of the channel that holds the affinities of an offset.

    >>> offset_name((0, 0, 9)), offset_name((1, -2, 0))
    ('x+9', 'z+1y-2')
    """
    return "".join(f"{axis}{n:+d}" for axis, n in zip("zyx", offset, strict=True) if n)


def offset_of_name(name: str) -> Offset:
    """Return the offset `(z, y, x)` in voxels of a channel's name.

    Raises
    ------
    ValueError
        If the name is not that of an offset.

    >>> offset_of_name("z+1y-2")
    (1, -2, 0)
    """
    found = _NAME.match(name)
    if not found or not name:
        raise ValueError(f"channel {name!r} is not an affinity: expected an offset in voxels such as 'z+1' or 'x+9'")
    z, y, x = (int(n or 0) for n in found.groups())
    return z, y, x


def affinity_offsets(channels: Sequence[str]) -> list[Offset] | None:
    """Return the offset of each channel, or None if the channels are classes.

    >>> affinity_offsets(["z+1", "y+1"]), affinity_offsets(["membrane", "interior"])
    ([(1, 0, 0), (0, 1, 0)], None)
    """
    if not channels or not all(name and _NAME.match(name) for name in channels):
        return None
    return [offset_of_name(name) for name in channels]


def offsets_in_voxels(
    offsets: Sequence[Sequence[float]] | str, unit: str, voxel_size_nm: Sequence[float]
) -> tuple[Offset, ...]:
    """Return offsets `(z, y, x)` in whole voxels.

    Parameters
    ----------
    offsets : offsets in `unit`, or "auto" for `default_offsets`
    unit : "voxel" or "nm"; a component in nm is rounded to whole voxels, at least one
    voxel_size_nm : size `(z, y, x)` of a voxel in nm

    Raises
    ------
    ValueError
        If an offset is not whole, is 0, points backwards or occurs twice, or there are none.

    >>> offsets_in_voxels([(50, 0, 0), (0, 12, 0), (0, 0, 1)], "nm", (50, 4, 4))
    ((1, 0, 0), (0, 3, 0), (0, 0, 1))
    """
    if isinstance(offsets, str):
        return default_offsets(voxel_size_nm)
    found: list[Offset] = []
    for offset in offsets:
        voxels = [_whole_voxels(n, size, unit) for n, size in zip(offset, voxel_size_nm, strict=True)]
        z, y, x = voxels
        first = next((n for n in voxels if n), 0)
        if first <= 0:
            raise ValueError(
                f"offset {tuple(offset)}: the first number that is not 0 has to be positive, since a pair of voxels is "
                "stored once"
            )
        if (z, y, x) in found:
            raise ValueError(f"offset {tuple(offset)} occurs twice: it is {(z, y, x)} in voxels, as one before it")
        found.append((z, y, x))
    if not found:
        raise ValueError("offsets is empty: name at least the nearest neighbours, or write auto")
    return tuple(found)


def _whole_voxels(n: float, size_nm: float, unit: str) -> int:
    if unit == "nm":
        return 0 if n == 0 else int(max(1, round(abs(n) / size_nm))) * (1 if n > 0 else -1)
    if n != int(n):
        raise ValueError(f"an offset of {n:g} voxels is not whole; write whole numbers, or offset_unit: nm")
    return int(n)
