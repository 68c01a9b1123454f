"""Heights and basins of a block by the compiled kernels: what `watershed` does with numpy, to the bit."""

from collections.abc import Mapping
from math import ceil, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.geometry.box import Box, Index
from unet.segmentation import compiled_basins, compiled_heights
from unet.segmentation.components import Labelled
from unet.segmentation.foreground import LevelConfidence
from unet.segmentation.height_map import FOREGROUND_SCALE, TRUNCATE, Confidence, WatershedParameters
from unet.segmentation.steepest_ascent import NO_FRAGMENT, step_lengths


def basins(height: NDArray[np.float32], edge_px: Mapping[int, float], wanted: Box, own: Index) -> Labelled:
    """Label the basins of a box in scan order, see `watershed.basins`."""
    ring = (int(0 in edge_px), 1, 1)
    shape = tuple(n - 2 * r for n, r in zip(height.shape, ring, strict=True))
    links, parent = np.empty(shape, np.uint8), np.empty(prod(shape), np.int32)
    slopes = np.array([np.float32(1 / length) for length in step_lengths(edge_px)])
    (compiled_basins.volume_links if ring[0] else compiled_basins.section_links)(height, slopes, links)
    compiled_basins.parents(links, parent)
    compiled_basins.unite_levels(height, links, parent, ring)
    compiled_basins.shorten(parent)
    labels = np.empty(wanted.shape, np.uint32)
    count = compiled_basins.label_roots(links, parent, wanted.start, labels)
    return (labels, *compiled_basins.first_voxels_and_sizes(labels, count, own))


def fits_bytes(parameters: WatershedParameters) -> bool:
    """Return whether steps along z fit in a byte, and squares of distances in an int32."""
    longest = max(_longest(parameters))
    return longest < 2**14 and longest // parameters.edge_units.get(0, longest) < 2**8 - 2


def _longest(parameters: WatershedParameters) -> tuple[int, int]:
    """Return the largest distance that is looked for in the foreground and in the background, in units."""
    units = parameters.units_per_px
    return int(parameters.max_distance * units), int((parameters.expand_distance + 1) * units)


def heights(
    foreground: NDArray[np.bool_],
    read: Box,
    wanted: Box,
    parameters: WatershedParameters,
    tissue: NDArray[np.bool_] | None = None,
    confidence: Confidence | None = None,
) -> NDArray[np.float32]:
    """Return the heights of a box as links are made of them, see `watershed.heights`."""
    foreground, longest = np.ascontiguousarray(foreground), _longest(parameters)
    units = (parameters.edge_units.get(0, 0), parameters.edge_units[1], parameters.edge_units[2])
    along_z = max(longest) // units[0] if units[0] else 0
    steps = np.ones(foreground.shape, np.uint8)
    if along_z:
        compiled_heights.steps_along_z(foreground, along_z + 1, steps)
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
    compiled_heights.distance_heights(
        foreground,
        steps,
        units,
        longest,
        np.float32(parameters.units_per_px),
        (np.float32(parameters.max_distance), np.float32(parameters.expand_distance)),
        (np.empty((0, 0, 0), np.uint8), np.empty(0, np.float32)) if confidence is None else _confidence_of(confidence),
        np.float32(parameters.confidence_weight if confidence is not None else 0),
        (ring[0], ring[1]),
        (rows[0], rows[1]),
        source.start,
        inside,
        out,
    )
    del steps
    compiled_heights.smooth(inside, foreground, _half_gaussians(parameters), FOREGROUND_SCALE, source.start, out)
    if tissue is not None:
        out[~tissue[source.slices]] = NO_FRAGMENT
    return height


def _confidence_of(confidence: Confidence) -> tuple[NDArray[Any], NDArray[np.float32]]:
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
