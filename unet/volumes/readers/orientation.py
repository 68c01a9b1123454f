"""Tell where the axes of an array lie in space, by a direction vector per axis, as NRRD and NIfTI store them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

PARALLEL = 1e-4
"""Largest share of a direction vector that lies across the axis of space to which it is parallel."""


@dataclass(frozen=True)
class Orientation:
    """The axes of an array in space.

    Attributes
    ----------
    names : tuple of str
        Axis of space, x, y or z, to which each axis of the array is parallel; x, y, z in turn if one is oblique.
    edges, offset : tuple of float, or None
        Length of a step along each axis, and position of the first voxel on the axis, in the unit of the file.
    remarks : list of str
        What the user has to know, as sentences without the address.
    """

    names: tuple[str, ...]
    edges: tuple[float, ...]
    offset: tuple[float, ...] | None
    remarks: list[str] = field(default_factory=list)


def orientation(directions: Sequence[Sequence[float]], origin: Sequence[float] | None) -> Orientation:
    """Return the orientation of an array.

    >>> orientation([(0, 0, 40), (0, 4, 0), (4, 0, 0)], (1, 2, 3)).names
    ('z', 'y', 'x')
    >>> orientation([(-4, 0), (0, 4)], None).remarks
    ['x runs in the opposite direction by the header; it is read as stored: `flip: [x]` turns it']

    Parameters
    ----------
    directions : sequence of vectors
        Step `(x, y, z)`, or `(x, y)`, in space from one voxel to the next along each axis.
    origin : sequence of float, or None
        Place `(x, y, z)` of the first voxel.
    """
    steps = np.asarray(directions, float)
    edges = np.linalg.norm(steps, axis=1)
    along = [int(i) for i in np.abs(steps).argmax(axis=1)]
    across = np.array([np.linalg.norm(np.delete(step, i)) for step, i in zip(steps, along, strict=True)])
    usual, lengths = tuple("xyz"[: len(steps)]), tuple(float(edge) for edge in edges)
    if len(set(along)) < len(along) or not np.all(across <= PARALLEL * edges):
        remark = "its axes are oblique in space by the header; they are read as stored, x first"
        return Orientation(usual, lengths, None, [remark])
    names, remarks = tuple("xyz"[i] for i in along), []
    signs = [1.0 if step[i] > 0 else -1.0 for step, i in zip(steps, along, strict=True)]
    if turned := sorted(name for name, sign in zip(names, signs, strict=True) if sign < 0):
        axes = ", ".join(turned)
        remarks.append(
            f"{' and '.join(turned)} {'run' if turned[1:] else 'runs'} in the opposite direction by the header; it is "
            f"read as stored: `flip: [{axes}]` turns it"
        )
    if names != usual:
        remarks.append(
            f"its axes are stored as {', '.join(names)} (the fastest first) by the directions in the header, and read "
            f"so; `axes: {''.join(usual)}` overrules them"
        )
    place = None
    if origin is not None and np.all(np.isfinite(origin)):
        place = tuple(sign * float(origin[i]) + 0.0 for sign, i in zip(signs, along, strict=True))
    return Orientation(names, lengths, place, remarks)
