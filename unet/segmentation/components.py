"""Connected components of one block: its fragments, which `fragments` joins over all blocks.

Voxels of one class that touch are one fragment; different classes never join. With `background` the pieces of the
background are fragments too, of class 0, so that an object can be given the pieces that it encloses.
"""

from dataclasses import dataclass
from typing import Any, Literal

import cc3d
import numpy as np
from numpy.typing import NDArray

from unet.config.label_kinds import UNLABELLED
from unet.geometry.box import Box, Index
from unet.geometry.run_length_encoding import run_length_encode
from unet.segmentation.fragments import BlockTable

Connectivity = Literal["section", "volume"]
"""``section``: 4-connected within each section (z), never across; ``volume``: 6-connected in 3-D."""

Labelled = tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64]]
"""Labels of a box in scan order, the first voxel of each in the box, and its voxels in the block."""

AXES: dict[Connectivity, tuple[int, ...]] = {"section": (1, 2), "volume": (0, 1, 2)}


@dataclass(frozen=True)
class BlockComponents(BlockTable):
    """The table of a block, and its ``labels``: (z, y, x) uint32, local ids 1..n, 0 = background."""

    labels: NDArray[np.uint32]


def label_block(
    values: NDArray[Any], box: Box, volume_shape: Index, connectivity: Connectivity, background: bool = False
) -> BlockComponents:
    """Label the connected components of one block (pass 1 of `fragments`); voxels of different values never join.

    Parameters
    ----------
    values : (z, y, x) bool or uint8; False, 0 and 255 (unlabelled) are background
    box : the block's voxels in the volume
    volume_shape : (z, y, x) voxels of the whole volume
    connectivity : ``section`` or ``volume``
    background : label the background too, as class 0

    Raises
    ------
    ValueError
        If the array, the box and the volume do not fit each other, or the connectivity is unknown.
    TypeError
        If the values are neither bool nor uint8.

    Examples
    --------
    >>> foreground = np.array([[[True, False], [False, True]]])
    >>> found = label_block(foreground, Box((0, 0, 2), (1, 2, 4)), (1, 2, 4), "section")
    >>> found.labels.tolist(), found.first_voxel.tolist(), found.size.tolist()
    ([[[1, 0], [0, 2]]], [2, 7], [1, 1])
    """
    _check_block(values, box, volume_shape, connectivity)
    classes = _classes(values)
    labelled = classes + np.uint8(1) if background else classes
    labels, count = label_sections(labelled, 4) if connectivity == "section" else label_volume(labelled, 6)
    first, size = first_voxel_and_size(labels, count, labelled)
    faces = {axis: (face_runs(labels, axis, 0), face_runs(labels, axis, -1)) for axis in AXES[connectivity]}
    first_voxel, class_value = volume_index(first, box, volume_shape), classes.reshape(-1)[first]
    at_border = labels_at_border(faces, count, box, volume_shape)
    return BlockComponents(box, first_voxel, size, class_value, at_border, faces, labels)


def _check_block(values: NDArray[Any], box: Box, volume_shape: Index, connectivity: Connectivity) -> None:
    """Refuse arguments of `label_block` that do not fit each other."""
    if connectivity not in AXES:
        raise ValueError(f"connectivity {connectivity!r} is not one of {', '.join(AXES)}")
    if values.shape != box.shape or len(volume_shape) != 3 or box.size == 0:
        raise ValueError(f"values of shape {values.shape} for block {box} of a volume of shape {volume_shape}")
    if not Box.of_shape(volume_shape).contains(box):
        raise ValueError(f"block {box} is not inside the volume of shape {volume_shape}")
    if values.dtype not in (np.bool_, np.uint8):
        raise TypeError(f"values of dtype {values.dtype}; components need bool or uint8 class values")


def _classes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the class values, with 0 for unlabelled voxels too."""
    classes = np.ascontiguousarray(values).view(np.uint8)
    return np.where(classes == UNLABELLED, np.uint8(0), classes) if values.dtype == np.uint8 else classes


def label_volume(values: NDArray[Any], connectivity: Literal[6, 26]) -> tuple[NDArray[np.uint32], int]:
    """Label the connected voxels of one value 1..n, and return n too; 0 is background."""
    labels, count = cc3d.connected_components(values, connectivity=connectivity, return_N=True, out_dtype=np.uint32)
    return labels.astype(np.uint32, copy=False), count


def label_sections(values: NDArray[Any], connectivity: Literal[4, 8]) -> tuple[NDArray[np.uint32], int]:
    """Label the connected voxels of one value within each section, 1..n through all sections, and return n too.

    0 is background. Section by section is as fast as one call over sections kept apart, in half the memory.
    """
    labels, count = np.empty(values.shape, np.uint32), 0
    for section, out in zip(values, labels, strict=True):
        own, found = cc3d.connected_components(section, connectivity=connectivity, return_N=True, out_dtype=np.uint32)
        np.add(own, np.uint32(count), out=out)
        out *= section > 0
        count += found
    return labels, count


def first_voxel_and_size(
    labels: NDArray[np.uint32], count: int, classes: NDArray[np.uint8] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first voxel, as index in the array, and the size in voxels of each label 1..count.

    Both follow from the runs of equal labels along the rows. Where labels change within a row `classes` change too. To
    compare the classes is faster: they have a quarter of the bytes.
    """
    flat, along = labels.reshape(-1), (labels if classes is None else classes).reshape(-1)
    change = np.empty(flat.size, bool)
    np.not_equal(along[1:], along[:-1], out=change[1:])
    change[:: labels.shape[-1]] = True  # a row begins
    start = np.flatnonzero(change)
    label = flat[start]
    size, first = np.zeros(count + 1, np.int64), np.full(count + 1, flat.size)
    np.add.at(size, label, np.diff(start, append=flat.size))
    np.minimum.at(first, label, start)
    return first[1:], size[1:]


def renumber_in_scan_order(labels: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Renumber the labels that occur 1, 2, ... by their first voxels in scan order; 0 stays 0.

    >>> renumber_in_scan_order(np.array([[0, 7], [1, 7]], np.uint32)).tolist()
    [[0, 1], [2, 1]]
    """
    count = int(labels.max(initial=0))
    first, size = first_voxel_and_size(labels, count)
    order = np.argsort(first)[: np.count_nonzero(size)]
    rank = np.zeros(count + 1, np.uint32)
    rank[1 + order] = np.arange(1, len(order) + 1, dtype=np.uint32)
    return rank[labels]


def volume_index(index: NDArray[np.int64], box: Box, volume_shape: Index) -> NDArray[np.int64]:
    """Return linear indices within a block as linear indices within the whole volume."""
    voxel = np.unravel_index(index, box.shape)
    return np.ravel_multi_index([v + lo for v, lo in zip(voxel, box.start, strict=True)], volume_shape)


def face_runs(labels: NDArray[np.uint32], axis: int, position: int) -> NDArray[np.uint32]:
    """Return the plane of a block at a position along an axis, as `runs`."""
    return run_length_encode(np.moveaxis(labels, axis, 0)[position])


def labels_at_border(
    faces: dict[int, tuple[NDArray[np.uint32], NDArray[np.uint32]]], count: int, box: Box, volume_shape: Index
) -> NDArray[np.bool_]:
    """Return (count,) True for the labels 1..count on those of a block's faces that are faces of the volume."""
    at_border = np.zeros(count + 1, bool)
    for axis, (low, high) in faces.items():
        if box.start[axis] == 0:
            at_border[low[:, 0]] = True
        if box.stop[axis] == volume_shape[axis]:
            at_border[high[:, 0]] = True
    return at_border[1:]
