"""Kernels of `height_map`, voxel by voxel, with the same bits.

1. `steps_along_z`, `distance_heights`: the distances of foreground voxels to the background, and of background voxels
   to the foreground. First come two sweeps over the sections, then each row along y and x. Squares are integers of the
   smallest type that holds them.
2. `smooth`: scipy's `gaussian_filter1d` along one axis after the other, with rows that stay in the cache. The sums are
   in float64 and in scipy's order, from the outermost pair inwards.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.geometry.compiled import kernel

NO_HEIGHT = np.float32(-np.inf)
"""Height of background voxels that no fragment extends to."""
BACKGROUND_CONFIDENCE_PX = np.float32(0.9)
"""As in `height_map`: a kernel does not see changes of other files."""


@kernel
def steps_along_z(foreground: NDArray[np.bool_], most: int, found: NDArray[np.uint8]) -> None:
    """Write the steps along z to the nearest voxel of the other kind, `most` where there are as many or more."""
    depth, height, width = foreground.shape
    for z in range(depth):
        for y in range(height):
            here, out = foreground[z, y], found[z, y]
            if z == 0:
                for x in range(width):
                    out[x] = most
            else:
                before, last = foreground[z - 1, y], found[z - 1, y]
                for x in range(width):
                    steps = min(np.uint8(last[x] + 1), np.uint8(most)) if here[x] == before[x] else np.uint8(1)
                    out[x] = steps
    for z in range(depth - 2, -1, -1):
        for y in range(height):
            here, out, behind, next_ = foreground[z, y], found[z, y], foreground[z + 1, y], found[z + 1, y]
            for x in range(width):
                steps = np.uint8(next_[x] + 1) if here[x] == behind[x] else np.uint8(1)
                out[x] = min(out[x], steps)


@kernel
def _copy(out: NDArray[Any], line: NDArray[Any]) -> None:
    """Copy a row; the assignment of a slice is compiled to something five times as slow."""
    for x in range(len(out)):
        out[x] = line[x]


@kernel
def distance_heights(
    foreground: NDArray[np.bool_],
    steps: NDArray[np.uint8],
    units: tuple[int, int, int],
    longest: tuple[int, int],
    parts: np.float32,
    caps: tuple[np.float32, np.float32],
    confidence: tuple[NDArray[Any], NDArray[np.float32]],
    weight: np.float32,
    rings: tuple[NDArray[Any], NDArray[Any]],
    rows: tuple[NDArray[Any], NDArray[Any]],
    start: tuple[int, int, int],
    inside: NDArray[np.float32],
    below: NDArray[np.float32],
) -> None:
    """Write the heights of the foreground before smoothing, 0 in the background, and the heights of the background.

    Parameters
    ----------
    foreground : (z, y, x)
    steps : see `steps_along_z`
    units : edges of a voxel ``(z, y, x)`` in units of ``1 / parts`` px, 0 where voxels are no neighbours along z
    longest : largest distance in these units within the foreground, and within the background
    parts : units per px
    caps : largest distance (px) within the foreground; largest distance from it at which the background has a height
    confidence : confidence of every voxel, and of every stored level; see `_copy_confidence`
    weight : height (px) that full confidence adds to the foreground
    rings, rows : memory of the squares of distances within the foreground, and within the background, as integers
    start : of `below` in the volume
    inside : (z, y, x), written
    below : the heights of a box, written in the background alone
    """
    depth, height, width = foreground.shape
    most_in, most_out = 0, 0
    if units[0] > 0:
        most_in, most_out = longest[0] // units[0], longest[1] // units[0]
    ring_in, ring_out = rings
    row_in, row_out = rows
    pad, slots = (len(row_in) - width) // 2, len(ring_in)
    nearest_in, nearest_out = np.empty_like(ring_in[0]), np.empty_like(ring_in[0])
    middle_in, middle_out = row_in[pad : pad + width], row_out[pad : pad + width]
    line, px = np.empty(width, np.float32), np.float32(1) / parts  # a power of 2, so that nothing is rounded
    for z in range(depth):
        filled, in_box = 0, 0 <= z - start[0] < below.shape[0]
        for y in range(height):
            while filled < min(height, y + slots // 2 + 1):
                is_in, count = foreground[z, filled], steps[z, filled]
                to_in, to_out = ring_in[filled % slots], ring_out[filled % slots]
                _squares_along_z(to_in, to_out, is_in, count, units[0], (most_in, most_out), longest)
                filled += 1
            is_in = foreground[z, y]
            _nearest_along_y(middle_in, ring_in, y, height, longest[0], units[1])
            _nearest_along_x(nearest_in, row_in, pad, longest[0], units[2])
            out = inside[z, y]
            for x in range(width):
                distance = np.sqrt(np.float32(nearest_in[x])) * px
                out[x] = distance if distance < caps[0] else caps[0]
            _copy_confidence(line, confidence, z, y)
            if weight != 0:
                for x in range(width):
                    more = line[x] - np.float32(1)
                    out[x] += weight * (more if more > 0 else np.float32(0))
            for x in range(width):
                out[x] = out[x] if is_in[x] else np.float32(0)
            if not (in_box and 0 <= y - start[1] < below.shape[1]):
                continue
            _nearest_along_y(middle_out, ring_out, y, height, longest[1], units[1])
            _nearest_along_x(nearest_out, row_out, pad, longest[1], units[2])
            for x in range(width):
                outside = np.sqrt(np.float32(nearest_out[x])) * px
                certain = line[x] if line[x] < 1 else np.float32(1)
                line[x] = NO_HEIGHT if outside > caps[1] else BACKGROUND_CONFIDENCE_PX * certain - outside
            background, first = below[z - start[0], y - start[1]], start[2]
            for x in range(len(background)):
                background[x] = line[first + x]


@kernel
def _squares_along_z(
    to_in: NDArray[Any],
    to_out: NDArray[Any],
    is_in: NDArray[np.bool_],
    count: NDArray[np.uint8],
    unit: int,
    most: tuple[int, int],
    longest: tuple[int, int],
) -> None:
    """Write the squares of the distances of a row along z to the other kind: 0 outside of the own kind."""
    integer = to_in.dtype.type
    most_in, most_out, of_step = integer(most[0]), integer(most[1]), integer(unit * unit if max(most) else 0)
    far_in, far_out = integer((longest[0] + 1) ** 2), integer((longest[1] + 1) ** 2)
    for x in range(len(count)):
        steps = integer(count[x])
        squared = integer(integer(steps * steps) * of_step)
        inside, outside = squared if steps <= most_in else far_in, squared if steps <= most_out else far_out
        to_in[x] = inside if is_in[x] else integer(0)
        to_out[x] = integer(0) if is_in[x] else outside


@kernel
def _copy_confidence(
    line: NDArray[np.float32], confidence: tuple[NDArray[Any], NDArray[np.float32]], z: int, y: int
) -> None:
    """Write the confidence of a row: 0 if none is given, else that of the voxels' levels, or the voxels' own."""
    values, of_level = confidence
    if values.size == 0:
        line[:] = 0
    elif of_level.size == 0:
        line[:] = values[z, y]
    else:
        levels = values[z, y]
        for x in range(len(line)):
            line[x] = of_level[np.uint8(levels[x])]


@kernel
def _nearest_along_y(middle: NDArray[Any], ring: NDArray[Any], y: int, height: int, longest: int, unit: int) -> None:
    """Write the squares of distances when steps along y are allowed as well."""
    slots = len(ring)
    _copy(middle, ring[y % slots])
    for k in range(1, longest // unit + 1):
        more = (k * unit) ** 2
        if y >= k and y + k < height:
            _nearer_of_two(middle, ring[(y - k) % slots], ring[(y + k) % slots], more)
        elif y >= k or y + k < height:
            other = ring[(y - k if y >= k else y + k) % slots]
            _nearer_of_two(middle, other, other, more)


@kernel
def _nearest_along_x(nearest: NDArray[Any], row: NDArray[Any], pad: int, longest: int, unit: int) -> None:
    """Write the squares of distances when steps along x are allowed as well; the row is padded."""
    width = len(nearest)
    _copy(nearest, row[pad : pad + width])
    for k in range(1, longest // unit + 1):
        _nearer_of_two(nearest, row[pad - k : pad - k + width], row[pad + k : pad + k + width], (k * unit) ** 2)


@kernel
def _nearer_of_two(nearest: NDArray[Any], before: NDArray[Any], behind: NDArray[Any], more: int) -> None:
    integer = nearest.dtype.type  # of 64 bits otherwise, and a quarter of them at a time
    for x in range(len(nearest)):
        closer = min(before[x], behind[x])
        nearest[x] = min(integer(closer + more), nearest[x])


@kernel
def smooth(
    values: NDArray[np.float32],
    foreground: NDArray[np.bool_],
    weights: NDArray[np.float64],
    scale: np.float32,
    start: tuple[int, int, int],
    out: NDArray[np.float32],
) -> None:
    """Write the smoothed and scaled heights of the foreground of a box into `out`.

    `weights` are the Gaussian's along each axis, (3, n), from the outermost to the middle.
    """
    depth, height, width = values.shape
    radius = weights.shape[1] - 1
    slots = 2 * radius + 1
    ring, lines = np.empty((slots, width), np.float32), np.empty((slots, width), np.float32)
    filtered, row, sums = np.empty(width, np.float32), np.empty(width + 2 * radius, np.float32), np.empty(width)
    for z in range(out.shape[0]):
        at = z + start[0]
        filled = max(0, start[1] - radius)
        for y in range(out.shape[1]):
            to = y + start[1]
            while filled < min(height, to + radius + 1):
                if radius == 3:
                    last = depth - 1
                    _sum_of_seven(
                        ring[filled % slots],
                        values[max(at - 3, 0), filled],
                        values[max(at - 2, 0), filled],
                        values[max(at - 1, 0), filled],
                        values[at, filled],
                        values[min(at + 1, last), filled],
                        values[min(at + 2, last), filled],
                        values[min(at + 3, last), filled],
                        weights[0],
                    )
                else:
                    for k in range(slots):
                        _copy(lines[k], values[min(max(at + k - radius, 0), depth - 1), filled])
                    _weighted_sum(ring[filled % slots], lines, weights[0], sums)
                filled += 1
            if radius == 3:
                last = height - 1
                _sum_of_seven(
                    filtered,
                    ring[max(to - 3, 0) % slots],
                    ring[max(to - 2, 0) % slots],
                    ring[max(to - 1, 0) % slots],
                    ring[to % slots],
                    ring[min(to + 1, last) % slots],
                    ring[min(to + 2, last) % slots],
                    ring[min(to + 3, last) % slots],
                    weights[1],
                )
            else:
                for k in range(slots):
                    _copy(lines[k], ring[min(max(to + k - radius, 0), height - 1) % slots])
                _weighted_sum(filtered, lines, weights[1], sums)
            _copy(row[radius : radius + width], filtered)
            row[:radius] = filtered[0]
            row[radius + width :] = filtered[width - 1]
            if radius == 3:
                _sum_of_seven(filtered, row, row[1:], row[2:], row[3:], row[4:], row[5:], row[6:], weights[2])
            else:
                for k in range(slots):
                    _copy(lines[k], row[k : k + width])
                _weighted_sum(filtered, lines, weights[2], sums)
            is_in, written, first = foreground[at, to], out[z, y], start[2]
            for x in range(len(written)):
                written[x] = filtered[first + x] * scale if is_in[first + x] else written[x]


@kernel
def _sum_of_seven(
    out: NDArray[np.float32],
    one: NDArray[np.float32],
    two: NDArray[np.float32],
    three: NDArray[np.float32],
    middle: NDArray[np.float32],
    four: NDArray[np.float32],
    five: NDArray[np.float32],
    six: NDArray[np.float32],
    weights: NDArray[np.float64],
) -> None:
    """Write what `_weighted_sum` does for seven lines, which is the default, without a pass over the sums per pair."""
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    for x in range(len(out)):
        total = np.float64(middle[x]) * w3
        total += (np.float64(one[x]) + np.float64(six[x])) * w0
        total += (np.float64(two[x]) + np.float64(five[x])) * w1
        total += (np.float64(three[x]) + np.float64(four[x])) * w2
        out[x] = np.float32(total)


@kernel
def _weighted_sum(
    out: NDArray[np.float32], lines: NDArray[np.float32], weights: NDArray[np.float64], sums: NDArray[np.float64]
) -> None:
    """Write the sum of lines by symmetric weights, from the outermost pair inwards, in float64; `sums` is memory."""
    last = len(lines) - 1
    middle = lines[last // 2]
    for x in range(len(out)):
        sums[x] = np.float64(middle[x]) * weights[last // 2]
    for k in range(last // 2):
        one, other = lines[k], lines[last - k]
        for x in range(len(out)):
            sums[x] += (np.float64(one[x]) + np.float64(other[x])) * weights[k]
    for x in range(len(out)):
        out[x] = np.float32(sums[x])
