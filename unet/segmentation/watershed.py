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
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from unet.config.segment import SegmentConfig
from unet.geometry.box import Box, Index
from unet.geometry.compiled import use_compiled
from unet.geometry.distance_transform import capped_distance
from unet.segmentation.components import (
    BlockComponents,
    Connectivity,
    face_runs,
    first_voxel_and_size,
    labels_at_border,
    renumber_in_scan_order,
    volume_index,
)
from unet.segmentation.foreground import LevelConfidence
from unet.segmentation.steepest_ascent import NO_FRAGMENT, label_basins, step_lengths

TRUNCATE = 3.0
"""Radius of the Gaussian's support in standard deviations."""
FOREGROUND_SCALE = np.float32(2**-10)
"""Factor on the foreground's heights before links are made. A background voxel beside the foreground then sees nearly
equal heights there, so that the distance alone decides. A power of 2 rounds nothing."""
BACKGROUND_CONFIDENCE_PX = np.float32(0.9)
"""px that a confidence of 1 adds to the height of a background voxel. Towards the foreground the distance falls by at
least 0.92 px from a voxel to one of its neighbours. A smaller addition makes no background voxel a local maximum."""
UNITS_PER_PX = 16
"""Units per px in which distances are measured where voxels are not cubes."""


Confidence = NDArray[np.float32] | LevelConfidence
"""Confidence of every voxel, see `unet.segmentation.foreground.confidence`; or of the levels of a uint8 probability."""


@dataclass(frozen=True)
class WatershedParameters:
    """Parameters of the height map and of the neighbourhood.

    Attributes
    ----------
    max_distance : distance to the background (px) beyond which all foreground counts as equally far
    smoothing : standard deviation (px) of the Gaussian that smooths the foreground's heights
    expand_distance : distance (px) to which fragments extend into the background
    connectivity : ``section``: each section by itself; ``volume``: in 3-D
    voxel_size_nm : edges of a voxel ``(z, y, x)``; only their ratios count
    confidence_weight : height (px) that full confidence adds to the foreground
    """

    max_distance: float
    smoothing: float
    expand_distance: float
    connectivity: Connectivity
    voxel_size_nm: tuple[float, ...] = (1.0, 1.0, 1.0)
    confidence_weight: float = 0.0

    @classmethod
    def of(cls, segment: SegmentConfig, voxel_size_nm: tuple[float, ...]) -> "WatershedParameters":
        """Return the parameters that the configuration sets."""
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
    def edge_units(self) -> dict[int, int]:
        """Edge of a voxel along each of these axes, in units of ``1 / units_per_px`` px; 1 where all are equal."""
        units = {
            axis: max(1, round(UNITS_PER_PX * self.voxel_size_nm[axis] / min(self.voxel_size_nm[1:])))
            for axis in self.axes
        }
        return dict.fromkeys(units, 1) if len(set(units.values())) == 1 else units

    @property
    def units_per_px(self) -> int:
        """Units of length per px: 1 for cubes, else `UNITS_PER_PX`."""
        return 1 if set(self.edge_units.values()) == {1} else UNITS_PER_PX

    @property
    def edge_px(self) -> dict[int, float]:
        """Edge of a voxel along each of these axes (px)."""
        return {axis: units / self.units_per_px for axis, units in self.edge_units.items()}

    @property
    def ascent_halo(self) -> Index:
        """Voxels around a block, along ``(z, y, x)``, within which links are followed.

        An ascent that leaves this halo ends at its edge. Neighbouring voxels may leave it side by side: each would be a
        fragment of its own, to be joined over blocks. A plateau is about `max_distance` px away, and its maximum
        somewhat farther. On fib25 this halo leaves 1.4 times the fragments that a halo twice as wide leaves.
        """
        return self._voxels(self.max_distance + 4 * self.smoothing)

    @property
    def link_halo(self) -> Index:
        """Voxels around a voxel, along ``(z, y, x)``, on which its link depends.

        >>> WatershedParameters(max_distance=10, smoothing=2, expand_distance=3, connectivity="section").link_halo
        (0, 17, 17)
        """
        px = max(self.max_distance + ceil(TRUNCATE * self.smoothing), self.expand_distance)
        return tuple(n + 1 if axis in self.axes else 0 for axis, n in enumerate(self._voxels(px)))

    @property
    def halo(self) -> Index:
        """Voxels around a block that are read to label it; see `labelled_and_read_boxes`."""
        return tuple(a + m + (a > 0) for a, m in zip(self.ascent_halo, self.link_halo, strict=True))

    def _voxels(self, px: float) -> Index:
        units = self.units_per_px
        return tuple(ceil(px * units / self.edge_units[axis]) if axis in self.axes else 0 for axis in range(3))


def height_map(
    foreground: NDArray[np.bool_], parameters: WatershedParameters, confidence: Confidence | None = None
) -> NDArray[np.float32]:
    """Return the height of every voxel (pass 1).

    Parameters
    ----------
    foreground : (z, y, x) bool; voxels beyond the array count as neither foreground nor background
    parameters : how heights are made
    confidence : the same shape, 0 to 1 in the background and 1 to 2 in the foreground, see
        `unet.segmentation.foreground.confidence`; None = distances alone

    Returns
    -------
    (z, y, x) float32, px: positive in the foreground, down to ``-expand_distance`` in the background, ``-inf`` beyond

    >>> row = np.array([[[1, 1, 1, 0, 0, 0]]], bool)
    >>> parameters = WatershedParameters(max_distance=2, smoothing=0, expand_distance=2, connectivity="section")
    >>> height_map(row, parameters).tolist()
    [[[2.0, 2.0, 1.0, -1.0, -2.0, -inf]]]
    """
    edge_units, units_per_px = parameters.edge_units, parameters.units_per_px
    inside = capped_distance(~foreground, parameters.max_distance, edge_units, units_per_px)
    confidence = confidence.of_voxels() if isinstance(confidence, LevelConfidence) else confidence
    if parameters.confidence_weight and confidence is not None:
        inside += np.float32(parameters.confidence_weight) * np.maximum(confidence - 1, 0)
    for axis, units in edge_units.items() if parameters.smoothing else ():
        sigma = parameters.smoothing * units_per_px / units
        radius = ceil(TRUNCATE * sigma)
        inside = gaussian_filter1d(inside, sigma, axis=axis, mode="nearest", radius=radius)
    outside = capped_distance(foreground, parameters.expand_distance + 1, edge_units, units_per_px)
    below = -outside if confidence is None else BACKGROUND_CONFIDENCE_PX * np.minimum(confidence, 1) - outside
    return np.where(foreground, inside, np.where(outside > parameters.expand_distance, NO_FRAGMENT, below))


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
    label = _label_compiled if use_compiled(foreground.size) and _fits_bytes(parameters) else _label
    labels, first, size = label(foreground, box, labelled, ascent, read, parameters, tissue, confidence)
    own = np.ascontiguousarray(labels[box.relative_to(labelled.start).slices])
    first_voxel = volume_index(first, labelled, volume_shape)
    faces = {axis: (face_runs(labels, axis, 0), face_runs(labels, axis, -1)) for axis in parameters.axes}
    at_border = labels_at_border(faces, len(first), box, volume_shape)
    return BlockComponents(box, first_voxel, size, np.ones(len(first), np.uint8), at_border, faces, own)


Labelled = tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64]]
"""Labels of a box in scan order, the first voxel of each in the box, and its voxels in the block."""


def _label(
    foreground: NDArray[np.bool_],
    box: Box,
    labelled: Box,
    ascent: Box,
    read: Box,
    parameters: WatershedParameters,
    tissue: NDArray[np.bool_] | None,
    confidence: Confidence | None,
) -> Labelled:
    """Label a block within the links of the box `ascent`, in arrays of numpy."""
    height = height_map(foreground, parameters, confidence)
    np.multiply(height, FOREGROUND_SCALE, out=height, where=foreground)
    if tissue is not None:
        height = np.where(tissue, height, NO_FRAGMENT)
    basins = label_basins(_with_ring(height, ascent, read, parameters), parameters.edge_px)
    labels = renumber_in_scan_order(np.ascontiguousarray(basins[labelled.relative_to(ascent.start).slices]))
    count = int(labels.max(initial=0))
    own = labels[box.relative_to(labelled.start).slices]
    size = np.bincount(own.ravel(), minlength=count + 1)[1:]
    return labels, first_voxel_and_size(labels, count)[0], size


def _label_compiled(
    foreground: NDArray[np.bool_],
    box: Box,
    labelled: Box,
    ascent: Box,
    read: Box,
    parameters: WatershedParameters,
    tissue: NDArray[np.bool_] | None,
    confidence: Confidence | None,
) -> Labelled:
    """Label a block as `_label` does, to the bit, by the compiled kernels."""
    ring = tuple(int(axis in parameters.axes) for axis in range(3))
    height = compiled_heights(foreground, read, ascent.grown(ring), parameters, tissue, confidence)
    labels, first, size = basins_compiled(height, parameters.edge_px, labelled.relative_to(ascent.start), box.shape)
    return labels, first, size


def basins_compiled(height: NDArray[np.float32], edge_px: Mapping[int, float], wanted: Box, own: Index) -> Labelled:
    """Label the basins of a box in scan order, as `label_basins` and `renumber_in_scan_order` do.

    Parameters
    ----------
    height, edge_px : see `label_basins`
    wanted : box that is labelled, in the array without its outermost voxels
    own : the first voxels (z, y, x) of the box, whose sizes are counted
    """
    from unet.segmentation import compiled_watershed as kernels

    ring = (int(0 in edge_px), 1, 1)
    shape = tuple(n - 2 * r for n, r in zip(height.shape, ring, strict=True))
    links, parent = np.empty(shape, np.uint8), np.empty(prod(shape), np.int32)
    slopes = np.array([np.float32(1 / length) for length in step_lengths(edge_px)])
    (kernels.volume_links if ring[0] else kernels.section_links)(height, slopes, links)
    kernels.parents(links, parent)
    kernels.unite_levels(height, links, parent, ring)
    kernels.shorten(parent)
    labels = np.empty(wanted.shape, np.uint32)
    count = kernels.label_roots(links, parent, wanted.start, labels)
    return (labels, *kernels.first_voxels_and_sizes(labels, count, own))


def _fits_bytes(parameters: WatershedParameters) -> bool:
    """Return whether steps along z fit in a byte, and squares of distances in an int32."""
    longest = max(_longest(parameters))
    return longest < 2**14 and longest // parameters.edge_units.get(0, longest) < 2**8 - 2


def _longest(parameters: WatershedParameters) -> tuple[int, int]:
    """Return the largest distance that is looked for in the foreground and in the background, in units."""
    units = parameters.units_per_px
    return int(parameters.max_distance * units), int((parameters.expand_distance + 1) * units)


def compiled_heights(
    foreground: NDArray[np.bool_],
    read: Box,
    wanted: Box,
    parameters: WatershedParameters,
    tissue: NDArray[np.bool_] | None = None,
    confidence: Confidence | None = None,
) -> NDArray[np.float32]:
    """Return the heights of a box as links are made of them, by the compiled kernels; ``-inf`` beyond what was read."""
    from unet.segmentation import compiled_watershed as kernels

    foreground, longest = np.ascontiguousarray(foreground), _longest(parameters)
    units = (parameters.edge_units.get(0, 0), parameters.edge_units[1], parameters.edge_units[2])
    along_z = max(longest) // units[0] if units[0] else 0
    steps = np.ones(foreground.shape, np.uint8)
    if along_z:
        kernels.steps_along_z(foreground, along_z + 1, steps)
    inside, wanted_and_read = np.empty(foreground.shape, np.float32), wanted.intersected(read)
    height = np.empty(wanted.shape, np.float32)
    for axis, (lo, hi, a, b) in enumerate(
        zip(wanted.start, wanted.stop, wanted_and_read.start, wanted_and_read.stop, strict=True)
    ):
        along = np.moveaxis(height, axis, 0)
        along[: a - lo], along[len(along) - (hi - b) :] = NO_FRAGMENT, NO_FRAGMENT
    out = height[wanted_and_read.relative_to(wanted.start).slices]
    source = wanted_and_read.relative_to(read.start)
    integer = np.int16 if 2 * (max(longest) + 1) ** 2 < 2**15 else np.int32
    width, largest = foreground.shape[2], np.iinfo(integer).max // 2
    ring = np.empty((2, 2 * (max(longest) // units[1]) + 1, width), integer)
    rows = np.full((2, width + 2 * (max(longest) // units[2])), largest, integer)
    kernels.distance_heights(
        foreground,
        steps,
        units,
        longest,
        np.float32(parameters.units_per_px),
        (np.float32(parameters.max_distance), np.float32(parameters.expand_distance)),
        (np.empty((0, 0, 0), np.uint8), np.empty(0, np.float32)) if confidence is None else _grey(confidence),
        np.float32(parameters.confidence_weight if confidence is not None else 0),
        (ring[0], ring[1]),
        (rows[0], rows[1]),
        source.start,
        inside,
        out,
    )
    del steps
    kernels.smooth(inside, foreground, _half_gaussians(parameters), FOREGROUND_SCALE, source.start, out)
    if tissue is not None:
        out[~tissue[source.slices]] = NO_FRAGMENT
    return height


def _grey(confidence: Confidence) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Return confidences as the kernels take them: levels and the confidence of each, or voxels and nothing."""
    if isinstance(confidence, LevelConfidence):
        return np.ascontiguousarray(confidence.levels), confidence.of_level
    return np.ascontiguousarray(confidence), np.empty(0, np.float32)


def _half_gaussians(parameters: WatershedParameters) -> NDArray[np.float64]:
    """Return (3, n) the weights of `scipy.ndimage.gaussian_filter1d`, from the outermost to the middle.

    Where an axis is not smoothed the weight in the middle is 1, and all others 0.
    """
    halves = [np.ones(1)] * 3
    for axis, units in parameters.edge_units.items() if parameters.smoothing else ():
        sigma = parameters.smoothing * parameters.units_per_px / units
        radius = ceil(TRUNCATE * sigma)
        weights = np.exp(-0.5 / (sigma * sigma) * np.arange(-radius, radius + 1) ** 2)
        halves[axis] = (weights / weights.sum())[: radius + 1]
    longest = max(4, *map(len, halves))  # an outer weight of 0 adds nothing; 4 is what the kernel does at once
    return np.stack([np.pad(half, (longest - len(half), 0)) for half in halves])


def _with_ring(
    height: NDArray[np.float32], ascent: Box, read: Box, parameters: WatershedParameters
) -> NDArray[np.float32]:
    """Return the heights of a box and of one voxel around it, ``-inf`` beyond the volume."""
    ring = ascent.grown(tuple(int(axis in parameters.axes) for axis in range(3)))
    inside = ring.intersected(read)
    beyond = [(a - lo, hi - b) for lo, hi, a, b in zip(ring.start, ring.stop, inside.start, inside.stop, strict=True)]
    return np.pad(height[inside.relative_to(read.start).slices], beyond, constant_values=NO_FRAGMENT)
