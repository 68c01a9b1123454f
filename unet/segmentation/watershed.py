"""Watershed fragments of a volume of any size, the same to the voxel whatever the blocks.

Flooding from seeds is not local: where two floods meet depends on everything between them. Here every voxel climbs
instead, from neighbour to neighbour, up a height map that is a function of the voxel's surroundings alone; voxels that
reach the same summit are one fragment. Summits are the seeds, valleys the borders, and what a voxel does depends on a
window of known size (`WatershedParameters.margin`): blocks read with this halo give the very links of the whole volume.

1. `height_map`: foreground is where the probability exceeds the threshold. A foreground voxel's height is its distance
   to the background, at most `reach`, and up to `certainty` px more the paler it is, smoothed: cells are parted where
   they are narrow, and where a membrane is faint, but seen. A background voxel's height is minus its distance to the
   foreground, so that membranes are shared out to the nearest cell, and a little more where it is paler: of two cells
   equally near the one whose side of the membrane is paler is nearer. Farther than `grow` there is nothing.
2. `steepest_ascent`: link every voxel with the neighbour to which the way up is steepest. A voxel without a higher
   neighbour is a summit, and is linked with all neighbours of its own height: a plateau is one summit. Foreground is
   made low for this: the way into it from the background is the steeper the shorter it is, whatever lies behind.
3. `watershed_block`: the trees of links in and some way around a block are its fragments, in it and in one plane beyond
   its upper faces. Each link lies within one of these grown blocks. Neighbours that have both labelled the plane say
   which fragments are one: `fragments.join_blocks` joins them.

```
foreground     # # # # . . # # # . . . . .
height         2 2 2 1-1-1 1 2 1-1-2-3 . .     reach 2, grow 3, without smoothing
climbs         = = = < < > > ^ < < < < . .     to the left, to the right; = plateau, ^ summit
fragment       1 1 1 1 1 2 2 2 2 2 2 2 . .     at the volume's faces and a block's nothing is excluded
```

Neighbours are the 8 of the section, or the 26 of the volume. Distances are Euclidean, in px of the section, and exact:
squares are integers, in units of 1/16 px where the voxels are no cubes.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from unet.config.segment import SegmentConfig
from unet.geometry.box import Box, Index
from unet.geometry.distance_transform import capped_distance
from unet.segmentation.components import (
    BlockComponents,
    Connectivity,
    at_rim,
    face,
    first_and_size,
    in_scan_order,
    in_volume,
)
from unet.segmentation.steepest_ascent import NOWHERE, label_basins

TRUNCATE = 3.0
"""Radius of the smoothing's support, in its standard deviations."""
LOW = np.float32(2**-10)
"""Of the foreground's heights when they are climbed: for a voxel of the background it is nearness alone that counts."""
CONFIDENT = np.float32(0.9)
"""px by which the palest background is raised. Towards the foreground the distance falls by 0.92 px or more from a
voxel to one of its neighbours, so with less than that no background voxel is a summit."""
PARTS = 16
"""Parts of a px that distances are measured in, where voxels are no cubes."""


@dataclass(frozen=True)
class WatershedParameters:
    """How the height map is made.

    Attributes
    ----------
    reach : distance to the background above which all count as equally far (px)
    smoothing : standard deviation of the Gaussian that the foreground's heights are smoothed with (px)
    grow : how far fragments extend into the background (px)
    connectivity : ``section``: each section by itself; ``volume``: in 3-D
    voxel_size_nm : edges of a voxel ``(z, y, x)``; only their ratios count
    certainty : by how much the palest foreground is higher than the darkest (px)
    """

    reach: float
    smoothing: float
    grow: float
    connectivity: Connectivity
    voxel_size_nm: tuple[float, ...] = (1.0, 1.0, 1.0)
    certainty: float = 0.0

    @classmethod
    def of(cls, segment: SegmentConfig, voxel_size_nm: tuple[float, ...]) -> "WatershedParameters":
        """As the configuration says."""
        lengths = segment.watershed
        return cls(
            lengths.max_distance_px,
            lengths.smoothing_px,
            lengths.expand_px,
            segment.connectivity,
            voxel_size_nm,
            lengths.confidence_weight_px,
        )

    @property
    def axes(self) -> tuple[int, ...]:
        """Axes along which fragments extend."""
        return (1, 2) if self.connectivity == "section" else (0, 1, 2)

    @property
    def steps(self) -> dict[int, int]:
        """Edge of a voxel along each of these axes, in parts of a px; 1 where all are equal."""
        parts = {
            axis: max(1, round(PARTS * self.voxel_size_nm[axis] / min(self.voxel_size_nm[1:]))) for axis in self.axes
        }
        return dict.fromkeys(parts, 1) if len(set(parts.values())) == 1 else parts

    @property
    def parts(self) -> int:
        """Parts of a px."""
        return 1 if set(self.steps.values()) == {1} else PARTS

    @property
    def edges(self) -> dict[int, float]:
        """Edge of a voxel along each of these axes (px)."""
        return {axis: step / self.parts for axis, step in self.steps.items()}

    @property
    def ahead(self) -> Index:
        """Voxels around a block in which links are followed, along ``(z, y, x)``.

        An ascent that leaves what is looked at ends there. Voxels side by side may leave it side by side: each would
        be a fragment of its own, to be joined over blocks. It takes about `reach` px to a plateau, and some more to a
        summit: on fib25 so much leaves 1.4 times the fragments that twice as much does.
        """
        return self._voxels(self.reach + 4 * self.smoothing)

    @property
    def margin(self) -> Index:
        """Voxels around that a voxel's link depends on, along ``(z, y, x)``.

        >>> WatershedParameters(reach=10, smoothing=2, grow=3, connectivity="section").margin
        (0, 17, 17)
        """
        px = max(self.reach + ceil(TRUNCATE * self.smoothing), self.grow)
        return tuple(n + 1 if axis in self.axes else 0 for axis, n in enumerate(self._voxels(px)))

    @property
    def halo(self) -> Index:
        """Voxels around a block that are read to label it; see `window_of`."""
        return tuple(a + m + (a > 0) for a, m in zip(self.ahead, self.margin, strict=True))

    def _voxels(self, px: float) -> Index:
        return tuple(ceil(px * self.parts / self.steps[axis]) if axis in self.axes else 0 for axis in range(3))


def height_map(
    foreground: NDArray[np.bool_], relief: WatershedParameters, confidence: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """The height of every voxel (pass 1).

    Parameters
    ----------
    foreground : (z, y, x); what lies beyond the array counts as neither foreground nor background
    relief : how heights are made
    confidence : the same shape, 0 to 1 in the background and 1 to 2 in the foreground, which raise both
        (`segmentation.confidence`); None = nothing is raised

    Returns
    -------
    (z, y, x) float32, px: positive in the foreground, down to ``-grow`` in the background, ``-inf`` beyond that

    >>> row = np.array([[[1, 1, 1, 0, 0, 0]]], bool)
    >>> height_map(row, WatershedParameters(reach=2, smoothing=0, grow=2, connectivity="section")).tolist()
    [[[2.0, 2.0, 1.0, -1.0, -2.0, -inf]]]
    """
    inside = capped_distance(~foreground, relief.reach, relief.steps, relief.parts)
    if relief.certainty and confidence is not None:
        inside += np.float32(relief.certainty) * np.maximum(confidence - 1, 0)
    for axis, step in relief.steps.items() if relief.smoothing else ():
        sigma = relief.smoothing * relief.parts / step
        radius = ceil(TRUNCATE * sigma)
        inside = gaussian_filter1d(inside, sigma, axis=axis, mode="nearest", radius=radius)
    outside = capped_distance(foreground, relief.grow + 1, relief.steps, relief.parts)
    below = -outside if confidence is None else CONFIDENT * np.minimum(confidence, 1) - outside
    return np.where(foreground, inside, np.where(outside > relief.grow, NOWHERE, below))


def window_of(box: Box, volume_shape: Index, relief: WatershedParameters) -> tuple[Box, Box]:
    """A block with the plane it shares with each neighbour behind it, and what has to be read to label it.

    >>> relief = WatershedParameters(reach=1, smoothing=0, grow=1, connectivity="section")
    >>> grown, read = window_of(Box((0, 8, 0), (1, 12, 4)), (1, 24, 4), relief)
    >>> print(grown, read)
    0:1,8:13,0:4 0:1,5:16,0:4
    """
    shared = tuple(int(axis in relief.axes) for axis in range(3))
    grown = Box(box.start, tuple(hi + n for hi, n in zip(box.stop, shared, strict=True))).clipped(volume_shape)
    return grown, grown.grown(relief.ahead).grown(relief.margin).clipped(volume_shape)


def watershed_block(
    foreground: NDArray[np.bool_],
    box: Box,
    volume_shape: Index,
    relief: WatershedParameters,
    tissue: NDArray[np.bool_] | None = None,
    confidence: NDArray[np.float32] | None = None,
) -> BlockComponents:
    """Label the fragments of one block (pass 3).

    Parameters
    ----------
    foreground : (z, y, x) of the box to be read, see `window_of`
    box : where the block lies in the volume
    volume_shape : (z, y, x) voxels of the whole volume
    relief : how heights are made
    tissue : the same shape as `foreground`, False where there is to be no fragment; None = tissue everywhere
    confidence : the same shape, see `height_map`

    Returns
    -------
    BlockComponents
        Labels of the block; its table also lists fragments that have voxels in the shared planes alone, of size 0.

    Raises
    ------
    ValueError
        If the array is not of the shape to be read.
    """
    grown, read = window_of(box, volume_shape, relief)
    if foreground.shape != read.shape:
        raise ValueError(f"foreground of shape {foreground.shape} for {read}, to be read for block {box}")
    height = height_map(foreground, relief, confidence)
    np.multiply(height, LOW, out=height, where=foreground)
    if tissue is not None:
        height = np.where(tissue, height, NOWHERE)
    wide = grown.grown(relief.ahead).clipped(volume_shape)
    trees = label_basins(_with_ring(height, wide, read, relief), relief.edges)
    labels = in_scan_order(np.ascontiguousarray(trees[grown.relative_to(wide.start).slices]))
    own = np.ascontiguousarray(labels[box.relative_to(grown.start).slices])
    count = int(labels.max(initial=0))
    first = in_volume(first_and_size(labels, count)[0], grown, volume_shape)
    size = np.bincount(own.ravel(), minlength=count + 1)[1:]
    faces = {axis: (face(labels, axis, 0), face(labels, axis, -1)) for axis in relief.axes}
    rim = at_rim(faces, count, box, volume_shape)
    return BlockComponents(box, first, size, np.ones(count, np.uint8), rim, faces, own)


def _with_ring(height: NDArray[np.float32], wide: Box, read: Box, relief: WatershedParameters) -> NDArray[np.float32]:
    """The heights of a box and of the voxels around it, ``-inf`` beyond the volume."""
    ring = wide.grown(tuple(int(axis in relief.axes) for axis in range(3)))
    inside = ring.intersected(read)
    beyond = [(a - lo, hi - b) for lo, hi, a, b in zip(ring.start, ring.stop, inside.start, inside.stop, strict=True)]
    return np.pad(height[inside.relative_to(read.start).slices], beyond, constant_values=NOWHERE)
