"""Watershed fragments (supervoxels) of a volume of any size, identical to the voxel for every choice of blocks.

Flooding from seeds is not local: where two floods meet depends on everything between them. Here every voxel follows
the steepest ascent of a height map instead. Voxels that end at the same local maximum are one fragment: the maxima are
the seeds, the valleys are the borders. A height depends on the voxel's surroundings alone. The link of a voxel
therefore depends on a neighbourhood of known size (`WatershedParameters.link_halo`). A block that is read with this
halo has exactly the links of the whole volume.

1. `height_map`: foreground is where the probability exceeds the threshold.

   - foreground: ``smooth(min(distance to the background, max_distance) + confidence_weight * confidence)`` px. Basins
     end at narrow necks, and at faint membranes above the threshold.
   - background: minus the distance to the foreground, so that a membrane is shared out to the nearest cells. The
     confidence breaks ties: of two cells equally near the voxel joins the one whose side of the membrane has the higher
     interior probability. Beyond `expand_distance` px there is no fragment.
2. `steepest_ascent`: link every voxel to its steepest neighbour. A voxel without a higher neighbour is a local maximum.
   It is linked with all neighbours of its own height, so that a plateau is one maximum. The heights of the foreground
   are scaled down for this step: the slope from the background into it depends on the distance alone.
3. `watershed_block`: the fragments of a block are the connected trees of links. The links are computed on the block
   plus a halo. The labels are kept for the block and for one plane beyond its upper faces. Every link lies in at least
   one of these enlarged blocks. Neighbours have both labelled the shared plane; `fragments.join_blocks` joins the
   fragments that lie on each other there.

```
foreground     # # # # . . # # # . . . . .
height         2 2 2 1-1-1 1 2 1-1-2-3 . .     max_distance 2, expand_distance 3, without smoothing
links          = = = < < > > ^ < < < < . .     to the left, to the right; = plateau, ^ local maximum
fragment       1 1 1 1 1 2 2 2 2 2 2 2 . .     nothing is excluded at the faces of volume and blocks
```

Neighbours are the 8 of the section, or the 26 of the volume. Distances are Euclidean, in px of the section, and exact:
their squares are integers, in units of 1/16 px where the voxels are not cubes.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from unet.geometry.box import Box, Index
from unet.geometry.compiled import use_compiled
from unet.segmentation.components import (
    BlockComponents,
    Labelled,
    face_runs,
    first_voxel_and_size,
    labels_at_border,
    renumber_in_scan_order,
    volume_index,
)
from unet.segmentation.height_map import FOREGROUND_SCALE, Confidence, WatershedParameters, height_map
from unet.segmentation.steepest_ascent import NO_FRAGMENT, label_basins


def labelled_and_read_boxes(box: Box, volume_shape: Index, parameters: WatershedParameters) -> tuple[Box, Box]:
    """Return the box that a block labels, with the planes shared with the blocks behind, and the box it has to read.

    >>> parameters = WatershedParameters(max_distance=1, smoothing=0, expand_distance=1, connectivity="section")
    >>> labelled, read = labelled_and_read_boxes(Box((0, 8, 0), (1, 12, 4)), (1, 24, 4), parameters)
    >>> print(labelled, read)
    0:1,8:13,0:4 0:1,5:16,0:4
    """
    shared = tuple(int(axis in parameters.axes) for axis in range(3))
    labelled = Box(box.start, tuple(hi + n for hi, n in zip(box.stop, shared, strict=True))).clipped(volume_shape)
    return labelled, labelled.grown(parameters.ascent_halo).grown(parameters.link_halo).clipped(volume_shape)


def watershed_block(
    foreground: NDArray[np.bool_],
    box: Box,
    volume_shape: Index,
    parameters: WatershedParameters,
    tissue: NDArray[np.bool_] | None = None,
    confidence: Confidence | None = None,
) -> BlockComponents:
    """Label the fragments of one block (pass 3).

    Parameters
    ----------
    foreground : (z, y, x) bool of the box to be read, see `labelled_and_read_boxes`
    box : the block's voxels in the volume
    volume_shape : (z, y, x) voxels of the whole volume
    parameters : how heights are made
    tissue : the same shape as `foreground`, False where there is to be no fragment; None = tissue everywhere
    confidence : the same shape, see `height_map`

    Returns
    -------
    BlockComponents
        Labels of the block. The table also lists fragments with voxels in the shared planes alone, of size 0.

    Raises
    ------
    ValueError
        If the array is not of the shape to be read.
    """
    labelled, read = labelled_and_read_boxes(box, volume_shape, parameters)
    if foreground.shape != read.shape:
        raise ValueError(f"foreground of shape {foreground.shape} for {read}, to be read for block {box}")
    ascent = labelled.grown(parameters.ascent_halo).clipped(volume_shape)
    ring = ascent.grown(tuple(int(axis in parameters.axes) for axis in range(3)))
    heights_of, basins_of = heights, basins
    if use_compiled(foreground.size):
        from unet.segmentation import watershed_by_kernels as by_kernels

        if by_kernels.fits_bytes(parameters):
            heights_of, basins_of = by_kernels.heights, by_kernels.basins
    height = heights_of(foreground, read, ring, parameters, tissue, confidence)
    labels, first, size = basins_of(height, parameters.edge_px, labelled.relative_to(ascent.start), box.shape)
    own = np.ascontiguousarray(labels[box.relative_to(labelled.start).slices])
    first_voxel = volume_index(first, labelled, volume_shape)
    faces = {axis: (face_runs(labels, axis, 0), face_runs(labels, axis, -1)) for axis in parameters.axes}
    at_border = labels_at_border(faces, len(first), box, volume_shape)
    return BlockComponents(box, first_voxel, size, np.ones(len(first), np.uint8), at_border, faces, own)


def heights(
    foreground: NDArray[np.bool_],
    read: Box,
    wanted: Box,
    parameters: WatershedParameters,
    tissue: NDArray[np.bool_] | None = None,
    confidence: Confidence | None = None,
) -> NDArray[np.float32]:
    """Return the heights of a box as links are made of them, ``-inf`` beyond what was read.

    Parameters
    ----------
    foreground : (z, y, x) bool of the box that was read
    read, wanted : the box that was read, and that whose heights are returned
    parameters, tissue, confidence : see `watershed_block`
    """
    height = height_map(foreground, parameters, confidence)
    np.multiply(height, FOREGROUND_SCALE, out=height, where=foreground)
    if tissue is not None:
        height = np.where(tissue, height, NO_FRAGMENT)
    inside = wanted.intersected(read)
    beyond = [
        (a - lo, hi - b) for lo, hi, a, b in zip(wanted.start, wanted.stop, inside.start, inside.stop, strict=True)
    ]
    return np.pad(height[inside.relative_to(read.start).slices], beyond, constant_values=NO_FRAGMENT)


def basins(height: NDArray[np.float32], edge_px: Mapping[int, float], wanted: Box, own: Index) -> Labelled:
    """Label the basins of a box in scan order (pass 2).

    Parameters
    ----------
    height, edge_px : see `unet.segmentation.steepest_ascent.label_basins`
    wanted : box that is labelled, in the array without its outermost voxels
    own : the first voxels (z, y, x) of the box, whose sizes are counted
    """
    labels = renumber_in_scan_order(np.ascontiguousarray(label_basins(height, edge_px)[wanted.slices]))
    count = int(labels.max(initial=0))
    size = np.bincount(labels[Box.of_shape(own).slices].ravel(), minlength=count + 1)[1:]
    return labels, first_voxel_and_size(labels, count)[0], size
