"""Judge and reconcile the voxel sizes that files and the configuration give, all (z, y, x) in nm."""

from collections.abc import Sequence

from unet.storage.ngff import implausible_voxel_size
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.source import Nm

TOLERANCE = 0.01
"""Largest difference between two voxel sizes or positions, as a share of a voxel's edge."""
PLACEHOLDERS_NM = (0.1, 1.0, 1e3, 1e6)
"""Edges that writers store when nobody remarks them one: 1 of Angstrom, nanometre, micrometre or millimetre."""
SMALLEST_NM, LARGEST_NM = 1e-3, 1e6
"""Edges between which a size may be true. A size beyond has a wrong unit, such as 4 m for 4 nm."""
SQUARE = 1.2
"""Ratio of the edges of a pixel up to which it passes for a square. Sections are imaged with square pixels."""
UNKNOWN = "does not say how large a voxel is"


def stated_voxel_size(edges_nm: Sequence[float] | None, where: str) -> Nm | None:
    """Return the voxel size that a file states; None if it states none: an edge is 0, or not a number.

    Raises
    ------
    SourceError
        If an edge is negative.
    """
    if edges_nm is None or not all(edge == edge and abs(edge) != float("inf") for edge in edges_nm):
        return None
    if any(edge < 0 for edge in edges_nm):
        raise SourceError(
            f"{where}: the file states a voxel size of {_nm(edges_nm)} nm (z, y, x), and an edge cannot be negative; "
            "correct the file. If the axis runs in the opposite direction, store the size without its sign, and write "
            "`flip` at this source"
        )
    return tuple(float(edge) for edge in edges_nm) if all(edges_nm) else None


def is_placeholder(edges_nm: Sequence[float]) -> bool:
    """Return whether a voxel size looks like one that nobody has set: equal edges of one unit.

    >>> is_placeholder((0.1, 0.1, 0.1)), is_placeholder((8.0, 8.0, 8.0))
    (True, False)
    """
    first = edges_nm[0]
    return any(abs(first - unit) < 1e-6 * unit for unit in PLACEHOLDERS_NM) and all(e == first for e in edges_nm)


def is_impossible(edges_nm: Sequence[float]) -> bool:
    """Return whether no microscope has voxels of this size, because the file names a wrong unit.

    >>> is_impossible((5e10, 4e9, 4e9)), is_impossible((0.05, 0.004, 0.004))
    (True, False)
    """
    return not all(SMALLEST_NM < edge < LARGEST_NM for edge in edges_nm)


def resolve_voxel_size(
    config_nm: Nm | None,
    file_nm: Nm | None,
    where: str,
    other: str = "the configuration",
    overrule: bool = False,
    remarks: Sequence[str] = (),
) -> tuple[tuple[float, float, float], str | None]:
    """Return the voxel size ``(z, y, x)`` in nm, and a remark for the user or None.

    >>> resolve_voxel_size(None, (50.0, 4.0, 4.0), "a.h5:/raw")
    ((50.0, 4.0, 4.0), None)

    The size of the configuration counts if the file has none, a placeholder or an impossible one, or with `overrule`.

    Parameters
    ----------
    remarks : sequence of str
        Why the file states no size, for the error.

    Raises
    ------
    SourceError
        If neither gives a possible size, or if the two differ by more than 1 % and the file's may be true.
    """
    wrong_unit = file_nm is not None and is_impossible(file_nm)
    if config_nm is None and (file_nm is None or wrong_unit):
        said = f"states voxels of {_nm(file_nm)} nm, which no microscope has" if file_nm else UNKNOWN
        because = f". {'; '.join(remarks)}" if remarks else ""
        raise SourceError(f"{where}: {said}; set `voxel_size_nm: [z, y, x]` of this volume{because}")
    known, remark = config_nm or file_nm, None
    assert known is not None
    if config_nm and file_nm and differ(config_nm, file_nm):
        if not overrule and not is_placeholder(file_nm) and not wrong_unit:
            raise SourceError(
                f"{where}: voxels of {_nm(file_nm)} nm, but {other} says {_nm(config_nm)} nm (z, y, x); correct "
                "`voxel_size_nm` or the file, or, if the file is wrong, set `voxel_size_from: configuration`"
            )
        unknown = "is one that no microscope has" if wrong_unit else "is a placeholder that nobody has set"
        why = "as `voxel_size_from` says" if overrule else f"the file's {unknown}"
        remark = f"{where}: voxels of {_nm(file_nm)} nm in the file, {_nm(config_nm)} nm (z, y, x) by {other}: {why}"
    elif not config_nm and file_nm and (problem := _doubt(file_nm)):
        remark = f"{where}: the file's voxel size of {problem}; set `voxel_size_nm` of this volume if it is wrong"
    z, y, x = (float(n) for n in known)
    return (z, y, x), remark


def _doubt(edges_nm: Nm) -> str | None:
    """Return what is doubtful about the voxel size of a file, in words that follow "a voxel size of"; else None.

    >>> _doubt((50.0, 4.0, 4.0))
    >>> _doubt((4.0, 4.0, 50.0))
    '(4, 4, 50) nm has pixels of 4 x 50 nm (y, x), which are no squares, as where z and x are exchanged'
    """
    z, y, x = edges_nm
    if is_placeholder(edges_nm):
        return f"{_nm(edges_nm)} nm is one that writers store where nobody has set it"
    if problem := implausible_voxel_size(edges_nm):
        return problem
    if max(x, y) > SQUARE * min(x, y):
        exchanged = ", as where z and x are exchanged" if abs(z - y) < TOLERANCE * y else ""
        return f"{_nm(edges_nm)} nm has pixels of {y:g} x {x:g} nm (y, x), which are no squares{exchanged}"
    return None


def pixel_differs(config_nm: Nm, pixel_nm: Nm | None, where: str, origin: str) -> str | None:
    """Return a remark if a file knows the size `(y, x)` of a pixel alone, and the configuration gives another one.

    >>> pixel_differs((50.0, 4.0, 4.0), (8.0, 8.0), "a.tif", "the FEI tags")
    'a.tif: pixels of (8, 8) nm by the FEI tags, but of (4, 4) nm (y, x) by the configuration; look which is right'
    >>> pixel_differs((50.0, 8.0, 8.0), (8.0, 8.0), "a.tif", "the FEI tags")
    """
    if pixel_nm is None or not differ(config_nm[1:], pixel_nm):
        return None
    return (
        f"{where}: pixels of {_nm(pixel_nm)} nm by {origin}, but of {_nm(config_nm[1:])} nm (y, x) by the "
        "configuration; look which is right"
    )


def differ(one: Nm, other: Nm) -> bool:
    """Return whether two voxel sizes differ by more than `TOLERANCE`."""
    return any(abs(a - b) > TOLERANCE * b for a, b in zip(one, other, strict=True))


def _nm(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{v:g}" for v in values) + ")"
