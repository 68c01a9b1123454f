"""Count one block: sums of objects, contacts, and the overlap with the truth. A file holds them."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.evaluation.contingency import Contingency, contingency
from unet.geometry.box import Box, Index
from unet.measurement.contacts import Contacts, block_contacts, sum_of_contacts
from unet.measurement.gathered_sums import gathered_sum
from unet.measurement.object_sums import ObjectSums, object_sums, sum_of_objects
from unet.segmentation.foreground import boundary_levels
from unet.storage.files import load_arrays, save_arrays


@dataclass(frozen=True, eq=False)
class Measures:
    """Counts of a block, or of the whole volume.

    Attributes
    ----------
    sums : sums over the voxels of every object
    contacts : contacts of every two ids
    overlap : contingency table of true ids plus 1 (1 = annotated background) and the objects
    """

    sums: ObjectSums
    contacts: Contacts
    overlap: Contingency


PARTS: dict[str, Any] = {"sums": ObjectSums, "contacts": Contacts, "overlap": Contingency}


def save_measures(path: Path, measures: Measures) -> None:
    """Write the counts of a block as one compressed ``npz`` that is there whole or not at all."""
    save_arrays(path, {f"{part}.{name}": one for part in PARTS for name, one in vars(getattr(measures, part)).items()})


def load_measures(path: Path) -> Measures:
    """Read the counts that `save_measures` wrote."""
    names = {part: [field.name for field in fields(kind)] for part, kind in PARTS.items()}
    arrays = load_arrays(path, *(f"{part}.{name}" for part in PARTS for name in names[part]))
    return Measures(**{p: kind(*(arrays[f"{p}.{name}"] for name in names[p])) for p, kind in PARTS.items()})


def sum_of_measures(paths: Iterable[Path]) -> Measures:
    """Return the counts of a volume from the files of its blocks, in three passes over them.

    Each pass holds the rows of one kind alone.
    """
    files = list(paths)
    sums = sum_of_objects(load_measures(path).sums for path in files)
    contacts = sum_of_contacts(load_measures(path).contacts for path in files)
    return Measures(sums, contacts, sum_of_overlaps(load_measures(path).overlap for path in files))


def sum_of_overlaps(parts: Iterable[Contingency]) -> Contingency:
    """Return the contingency table of several blocks together, in memory that is bounded by the number of pairs."""
    return gathered_sum(parts, _joined)


def _joined(parts: list[Contingency]) -> Contingency:
    parts = parts or [Contingency.empty()]
    columns = (np.concatenate([getattr(part, name) for part in parts]) for name in ("truth", "segmentation", "count"))
    return Contingency(*columns) + Contingency.empty()


def measure_block(
    ids: NDArray[np.unsignedinteger],
    box: Box,
    shape: Index,
    levels: NDArray[np.uint8] | None = None,
    labels: NDArray[np.unsignedinteger] | None = None,
) -> Measures:
    """Return the counts of a block.

    Parameters
    ----------
    ids : (z, y, x) ids of the block, and of one plane behind each upper face where the volume goes on; 0 = no object
    box : the block's voxels in the volume, without the planes behind
    shape : (z, y, x) voxels of the volume
    levels : the same shape as `ids`, probability of the objects' class x 255
    labels : (z, y, x) true ids of the block alone; the largest number of their type = not annotated
    """
    own = box.relative_to(box.start).slices
    inside = None if levels is None else np.ascontiguousarray(levels[own])
    boundary = None if levels is None else boundary_levels(levels)
    sums = object_sums(np.ascontiguousarray(ids[own]), box, shape, inside)
    overlap = Contingency.empty()
    if labels is not None:  # the largest number plus 1 is 0, which a contingency table ignores
        overlap = contingency(labels + labels.dtype.type(1), ids[own])
    return Measures(sums, block_contacts(ids, box.shape, boundary), overlap)


def read_ahead(box: Box, shape: Index) -> Box:
    """Return the box that is read for a block: one plane more behind each upper face, where the volume goes on.

    >>> print(read_ahead(Box((0, 0, 0), (2, 4, 4)), (2, 9, 9)))
    0:2,0:5,0:5
    """
    return Box(box.start, tuple(stop + 1 for stop in box.stop)).clipped(shape)
