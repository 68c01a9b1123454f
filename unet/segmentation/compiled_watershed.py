"""Kernels of `watershed` and `steepest_ascent`: height map, links and basins, voxel by voxel, with the same bits.

1. `signed_distance`: the distances to the other kind of voxel, row by row. Where nothing is nearer than the limit the
   order of the axes does not matter, so the longest axis of memory comes first: two sweeps over the sections.
2. `smooth`: scipy's `gaussian_filter1d` along one axis after the other, with rows that stay in the cache. The sums are
   in float64 and in scipy's order, from the outermost pair inwards.
3. `volume_links`, `section_links`: the steepest neighbour of every voxel, as one byte.
4. `basins`: a union-find forest. A voxel's parent is its steepest neighbour; equal heights at a maximum are united.
   Labels are given in scan order when a basin is first met.
"""

import numpy as np
from numpy.typing import NDArray

from unet.geometry.compiled import kernel

NO_LINK = 13
"""Code of a voxel without a higher neighbour; a neighbour's code is ``9 (dz + 1) + 3 (dy + 1) + dx + 1``."""
FAR = np.float32(1e9)
LOWEST = np.float32(-np.inf)
BELOW = np.float32(0.9)


@kernel
def steps_along_z(foreground: NDArray[np.bool_], most: int) -> NDArray[np.uint8]:
    """Return the steps along z to the nearest voxel of the other kind, `most` where there are as many or more."""
    depth, height, width = foreground.shape
    found = np.empty(foreground.shape, np.uint8)
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
    return found


@kernel
def signed_distance(
    foreground: NDArray[np.bool_],
    steps: NDArray[np.uint8],
    confidence: NDArray[np.float32],
    units: tuple[int, int, int],
    longest: tuple[int, int],
    parts: np.float32,
    caps: tuple[np.float32, np.float32],
    expand: np.float32,
    weight: np.float32,
) -> NDArray[np.float32]:
    """Return distance and confidence of the foreground, before smoothing, and the heights of the background.

    Parameters
    ----------
    foreground : (z, y, x)
    steps : see `steps_along_z`
    confidence : the same shape, or of no voxels
    units : edges of a voxel ``(z, y, x)`` in units of ``1 / parts`` px, 0 where voxels are no neighbours along z
    longest : largest distance in these units within the foreground, and within the background
    parts : units per px
    caps : largest distance (px) within the foreground, and within the background
    expand : distance (px) from the foreground up to which the background has a height
    weight : height (px) that full confidence adds to the foreground
    """
    depth, height, width = foreground.shape
    longest_in, longest_out = longest
    cap_in, cap_out = caps
    one = np.float32(1)
    unit_z = np.float32(units[0])
    most_in, most_out = 0, 0
    if units[0] > 0:
        most_in, most_out = longest_in // units[0], longest_out // units[0]
    far_in, far_out = np.float32((longest_in + 1) ** 2), np.float32((longest_out + 1) ** 2)
    rows_in, rows_out = longest_in // units[1], longest_out // units[1]
    columns_in, columns_out = longest_in // units[2], longest_out // units[2]
    reach, pad = max(rows_in, rows_out), max(columns_in, columns_out)
    slots = 2 * reach + 1
    ring_in, ring_out = np.empty((slots, width), np.float32), np.empty((slots, width), np.float32)
    row_in, row_out = np.full(width + 2 * pad, FAR, np.float32), np.full(width + 2 * pad, FAR, np.float32)
    nearest_in, nearest_out = np.empty(width, np.float32), np.empty(width, np.float32)
    found = np.empty(foreground.shape, np.float32)
    has_confidence = confidence.size > 0
    limit_in, limit_out = np.float32(most_in), np.float32(most_out)
    for z in range(depth):
        filled = 0
        for y in range(height):
            while filled < min(height, y + reach + 1):
                is_in, count = foreground[z, filled], steps[z, filled]
                to_in, to_out = ring_in[filled % slots], ring_out[filled % slots]
                for x in range(width):
                    n = np.float32(count[x])
                    squared = (n * unit_z) * (n * unit_z)
                    inside = squared if n <= limit_in else far_in
                    outside = squared if n <= limit_out else far_out
                    to_in[x] = inside if is_in[x] else np.float32(0)
                    to_out[x] = np.float32(0) if is_in[x] else outside
                filled += 1
            middle_in, middle_out = row_in[pad : pad + width], row_out[pad : pad + width]
            middle_in[:] = ring_in[y % slots]
            middle_out[:] = ring_out[y % slots]
            for k in range(1, rows_in + 1):
                more = np.float32((k * units[1]) ** 2)
                if y >= k:
                    _nearer(middle_in, ring_in[(y - k) % slots], more)
                if y + k < height:
                    _nearer(middle_in, ring_in[(y + k) % slots], more)
            for k in range(1, rows_out + 1):
                more = np.float32((k * units[1]) ** 2)
                if y >= k:
                    _nearer(middle_out, ring_out[(y - k) % slots], more)
                if y + k < height:
                    _nearer(middle_out, ring_out[(y + k) % slots], more)
            nearest_in[:] = middle_in
            nearest_out[:] = middle_out
            for k in range(1, columns_in + 1):
                more = np.float32((k * units[2]) ** 2)
                _nearer_of_two(nearest_in, row_in[pad - k : pad - k + width], row_in[pad + k : pad + k + width], more)
            for k in range(1, columns_out + 1):
                more = np.float32((k * units[2]) ** 2)
                _nearer_of_two(nearest_out, row_out[pad - k : pad - k + width], row_out[pad + k : pad + k + width], more)
            is_in, out = foreground[z, y], found[z, y]
            if has_confidence:
                certain = confidence[z, y]
                for x in range(width):
                    inside = min(np.sqrt(nearest_in[x]) / parts, cap_in)
                    if weight != 0:
                        inside += weight * max(certain[x] - one, np.float32(0))
                    outside = min(np.sqrt(nearest_out[x]) / parts, cap_out)
                    below = LOWEST if outside > expand else BELOW * min(certain[x], one) - outside
                    out[x] = inside if is_in[x] else below
            else:
                for x in range(width):
                    inside = min(np.sqrt(nearest_in[x]) / parts, cap_in)
                    outside = min(np.sqrt(nearest_out[x]) / parts, cap_out)
                    below = LOWEST if outside > expand else -outside
                    out[x] = inside if is_in[x] else below
    return found


@kernel
def _nearer(nearest: NDArray[np.float32], other: NDArray[np.float32], more: np.float32) -> None:
    for x in range(len(nearest)):
        farther = other[x] + more
        nearest[x] = farther if farther < nearest[x] else nearest[x]


@kernel
def _nearer_of_two(
    nearest: NDArray[np.float32], before: NDArray[np.float32], behind: NDArray[np.float32], more: np.float32
) -> None:
    for x in range(len(nearest)):
        closer = before[x] if before[x] < behind[x] else behind[x]
        farther = closer + more
        nearest[x] = farther if farther < nearest[x] else nearest[x]


@kernel
def smooth(
    values: NDArray[np.float32],
    foreground: NDArray[np.bool_],
    weights: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    scale: np.float32,
    start: tuple[int, int, int],
    out: NDArray[np.float32],
) -> None:
    """Write the heights of a box into `out`: smoothed and scaled in the foreground, `values` in the background.

    `weights` are the Gaussian's along each axis, from the outermost to the middle; none where nothing is smoothed.
    """
    depth, height, width = values.shape
    reach_z, reach_y, reach_x = len(weights[0]) - 1, len(weights[1]) - 1, len(weights[2]) - 1
    slots = 2 * max(reach_y, 0) + 1
    pad = max(reach_x, 0)
    ring, filtered = np.empty((slots, width), np.float32), np.empty(width, np.float32)
    sums, row = np.empty(width, np.float64), np.empty(width + 2 * pad, np.float64)
    lines = np.empty((2 * max(reach_z, 0) + 1, width), np.float32)
    for z in range(out.shape[0]):
        at = z + start[0]
        filled = max(0, start[1] - max(reach_y, 0))
        for y in range(out.shape[1]):
            to = y + start[1]
            while filled < min(height, to + max(reach_y, 0) + 1):
                if reach_z < 0:
                    _inside(values[at, filled], foreground[at, filled], ring[filled % slots])
                else:
                    for k in range(-reach_z, reach_z + 1):
                        other = min(max(at + k, 0), depth - 1)
                        _inside(values[other, filled], foreground[other, filled], lines[k + reach_z])
                    _middle(sums, lines[reach_z], weights[0][reach_z])
                    for k in range(reach_z):
                        _add_pair(sums, lines[k], lines[2 * reach_z - k], weights[0][k])
                    ring[filled % slots][:] = sums
                filled += 1
            if reach_y < 0:
                filtered[:] = ring[to % slots]
            else:
                _middle(sums, ring[to % slots], weights[1][reach_y])
                for k in range(reach_y):
                    before, behind = max(to - reach_y + k, 0), min(to + reach_y - k, height - 1)
                    _add_pair(sums, ring[before % slots], ring[behind % slots], weights[1][k])
                filtered[:] = sums
            if reach_x >= 0:
                row[pad : pad + width] = filtered
                row[:pad] = filtered[0]
                row[pad + width :] = filtered[width - 1]
                _middle(sums, row[pad : pad + width], weights[2][reach_x])
                for k in range(reach_x):
                    shift = reach_x - k
                    before_x, behind_x = row[pad - shift : pad - shift + width], row[pad + shift : pad + shift + width]
                    _add_pair(sums, before_x, behind_x, weights[2][k])
                filtered[:] = sums
            here, is_in, line = values[at, to], foreground[at, to], out[z, y]
            for x in range(out.shape[2]):
                line[x] = filtered[x + start[2]] * scale if is_in[x + start[2]] else here[x + start[2]]


@kernel
def _inside(values: NDArray[np.float32], foreground: NDArray[np.bool_], out: NDArray[np.float32]) -> None:
    for x in range(len(out)):
        out[x] = values[x] if foreground[x] else np.float32(0)


@kernel
def _middle(sums: NDArray[np.float64], line: NDArray[np.floating], weight: float) -> None:
    for x in range(len(sums)):
        sums[x] = np.float64(line[x]) * weight


@kernel
def _add_pair(
    sums: NDArray[np.float64], one: NDArray[np.floating], other: NDArray[np.floating], weight: float
) -> None:
    for x in range(len(sums)):
        sums[x] += (np.float64(one[x]) + np.float64(other[x])) * weight


@kernel
def section_links(height: NDArray[np.float32], slopes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the code of every voxel's steepest neighbour in its section, without the outermost voxels.

    `slopes` are 1 over the length of the steps (x, y, diagonal).
    """
    depth, rows, width = height.shape[0], height.shape[1] - 2, height.shape[2] - 2
    found = np.empty((depth, rows, width), np.uint8)
    for z in range(depth):
        for y in range(rows):
            up, own, down, out = height[z, y], height[z, y + 1], height[z, y + 2], found[z, y]
            for x in range(width):
                here = own[x + 1]
                steepest, code = np.float32(0), np.float32(13)
                side = own[x + 2] > own[x]
                rise = ((own[x + 2] if side else own[x]) - here) * slopes[0]
                code = (np.float32(14) if side else np.float32(12)) if rise > steepest else code
                steepest = rise if rise > steepest else steepest
                low = down[x + 1] > up[x + 1]
                rise = ((down[x + 1] if low else up[x + 1]) - here) * slopes[1]
                code = (np.float32(16) if low else np.float32(10)) if rise > steepest else code
                steepest = rise if rise > steepest else steepest
                side_up, side_down = up[x + 2] > up[x], down[x + 2] > down[x]
                high_up, high_down = up[x + 2] if side_up else up[x], down[x + 2] if side_down else down[x]
                code_up = np.float32(11) if side_up else np.float32(9)
                code_down = np.float32(17) if side_down else np.float32(15)
                low = high_down > high_up
                rise = ((high_down if low else high_up) - here) * slopes[2]
                code = (code_down if low else code_up) if rise > steepest else code
                out[x] = np.uint8(code)
    return found


@kernel
def volume_links(height: NDArray[np.float32], slopes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the code of every voxel's steepest neighbour, without the outermost voxels.

    `slopes` are 1 over the length of the steps (x, y, yx, z, zx, zy, zyx).
    """
    depth, rows, width = height.shape[0] - 2, height.shape[1] - 2, height.shape[2] - 2
    found = np.empty((depth, rows, width), np.uint8)
    code, steepest = np.empty(width, np.float32), np.empty(width, np.float32)
    for z in range(depth):
        for y in range(rows):
            own = height[z + 1, y + 1]
            for x in range(width):
                steepest[x], code[x] = np.float32(0), np.float32(13)
            for section in (1, 0, 2):
                plane = height[z + section]
                up, middle, down = plane[y], plane[y + 1], plane[y + 2]
                base = np.float32(9 * section)
                if section != 1:
                    _straight(own, middle, base + np.float32(4), slopes[3], steepest, code)
                first = 0 if section == 1 else 4
                _section_neighbours(own, up, middle, down, base, slopes[first : first + 3], steepest, code)
            out = found[z, y]
            for x in range(width):
                out[x] = np.uint8(code[x])
    return found


@kernel
def _straight(
    own: NDArray[np.float32],
    middle: NDArray[np.float32],
    number: np.float32,
    slope: np.float32,
    steepest: NDArray[np.float32],
    code: NDArray[np.float32],
) -> None:
    for x in range(len(code)):
        rise = (middle[x + 1] - own[x + 1]) * slope
        code[x] = number if rise > steepest[x] else code[x]
        steepest[x] = rise if rise > steepest[x] else steepest[x]


@kernel
def _section_neighbours(
    own: NDArray[np.float32],
    up: NDArray[np.float32],
    middle: NDArray[np.float32],
    down: NDArray[np.float32],
    base: np.float32,
    slopes: NDArray[np.float32],
    steepest: NDArray[np.float32],
    code: NDArray[np.float32],
) -> None:
    """Compare the neighbours along x, along y and at the corners of one section; of two equal ones the first counts."""
    slope_x, slope_y, slope_yx = slopes[0], slopes[1], slopes[2]
    for x in range(len(code)):
        here, best, link = own[x + 1], steepest[x], code[x]
        side = middle[x + 2] > middle[x]
        rise = ((middle[x + 2] if side else middle[x]) - here) * slope_x
        link = base + (np.float32(5) if side else np.float32(3)) if rise > best else link
        best = rise if rise > best else best
        low = down[x + 1] > up[x + 1]
        rise = ((down[x + 1] if low else up[x + 1]) - here) * slope_y
        link = base + (np.float32(7) if low else np.float32(1)) if rise > best else link
        best = rise if rise > best else best
        side_up, side_down = up[x + 2] > up[x], down[x + 2] > down[x]
        high_up, high_down = up[x + 2] if side_up else up[x], down[x + 2] if side_down else down[x]
        code_up = np.float32(2) if side_up else np.float32(0)
        code_down = np.float32(8) if side_down else np.float32(6)
        low = high_down > high_up
        rise = ((high_down if low else high_up) - here) * slope_yx
        code[x] = base + (code_down if low else code_up) if rise > best else link
        steepest[x] = rise if rise > best else best


@kernel
def basins(
    height: NDArray[np.float32],
    links: NDArray[np.uint8],
    ring: tuple[int, int, int],
    start: tuple[int, int, int],
    shape: tuple[int, int, int],
) -> tuple[NDArray[np.uint32], int]:
    """Label the basins of a box within the links in scan order; return the labels, and how many there are.

    Parameters
    ----------
    height : of the voxels of `links`, and of as many around them as `ring` says
    links : code of each voxel's steepest neighbour
    ring : voxels before those of `links` along each axis, 0 or 1
    start, shape : box whose voxels are labelled, in `links`
    """
    depth, rows, width = links.shape
    parent = np.empty(depth * rows * width, np.int32)
    shift = np.empty(27, np.int32)
    for code in range(27):
        shift[code] = ((code // 9 - 1) * rows + (code // 3 % 3 - 1)) * width + code % 3 - 1
    for z in range(depth):
        for y in range(rows):
            line, code_of, first = height[z + ring[0], y + ring[1]], links[z, y], (z * rows + y) * width
            is_inside = 0 < z < depth - 1 and 0 < y < rows - 1
            for x in range(width):
                code, voxel = code_of[x], first + x
                inside = is_inside and 0 < x < width - 1
                if not inside:
                    inside = (
                        0 <= z + code // 9 - 1 < depth
                        and 0 <= y + code // 3 % 3 - 1 < rows
                        and 0 <= x + code % 3 - 1 < width
                    )
                linked = inside and line[x + ring[2]] > LOWEST
                parent[voxel] = voxel + shift[code] if linked else voxel
    for z in range(depth):
        for y in range(rows):
            line, code_of = height[z + ring[0], y + ring[1]], links[z, y]
            for x in range(width):
                if code_of[x] == NO_LINK and line[x + ring[2]] > LOWEST:
                    _unite_level(height, links, parent, ring, z, y, x)
    labels = np.empty(shape, np.uint32)
    count = 0
    for z in range(shape[0]):
        for y in range(shape[1]):
            out = labels[z, y]
            line = height[z + start[0] + ring[0], y + start[1] + ring[1]]
            first = ((z + start[0]) * rows + y + start[1]) * width + start[2]
            for x in range(shape[2]):
                if not line[x + start[2] + ring[2]] > LOWEST:
                    out[x] = 0
                    continue
                root = first + x
                while parent[root] >= 0 and parent[root] != root:
                    root = parent[root]
                if parent[root] >= 0:
                    count += 1
                    parent[root] = -count
                label = parent[root]
                voxel = first + x
                while parent[voxel] >= 0:  # the next voxels that come this way are done at once
                    above = parent[voxel]
                    parent[voxel] = label
                    voxel = above
                out[x] = -label
    return labels, count


@kernel
def _root(parent: NDArray[np.int32], voxel: int) -> int:
    while parent[voxel] != voxel:
        parent[voxel] = parent[parent[voxel]]
        voxel = parent[voxel]
    return voxel


@kernel
def _unite_level(
    height: NDArray[np.float32],
    links: NDArray[np.uint8],
    parent: NDArray[np.int32],
    ring: tuple[int, int, int],
    z: int,
    y: int,
    x: int,
) -> None:
    """Unite a local maximum with the neighbours of its height; of two maxima the later one does it."""
    depth, rows, width = links.shape
    level = height[z + ring[0], y + ring[1], x + ring[2]]
    reach = ring[0]
    root = -1
    for dz in range(-reach, reach + 1):
        if not 0 <= z + dz < depth:
            continue
        for dy in range(-1, 2):
            if not 0 <= y + dy < rows:
                continue
            for dx in range(-1, 2):
                if not 0 <= x + dx < width:
                    continue
                if height[z + dz + ring[0], y + dy + ring[1], x + dx + ring[2]] != level:
                    continue
                later = dz > 0 or (dz == 0 and (dy > 0 or (dy == 0 and dx >= 0)))
                if later and links[z + dz, y + dy, x + dx] == NO_LINK:
                    continue
                if root < 0:
                    root = _root(parent, (z * rows + y) * width + x)
                other = _root(parent, ((z + dz) * rows + y + dy) * width + x + dx)
                if other != root:
                    low, high = min(root, other), max(root, other)
                    parent[high] = low
                    root = low


@kernel
def first_voxels_and_sizes(
    labels: NDArray[np.uint32], count: int, own: tuple[int, int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first voxel of each label, numbered in scan order, and its voxels within the first `own` ones."""
    first, size = np.empty(count, np.int64), np.zeros(count, np.int64)
    seen, number = 0, 0
    for z in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            line = labels[z, y]
            for x in range(labels.shape[2]):
                label = np.int64(line[x])
                if label > seen:
                    first[seen] = number + x
                    seen = label
            if z < own[0] and y < own[1]:
                for x in range(own[2]):
                    label = np.int64(line[x])
                    if label > 0:
                        size[label - 1] += 1
            number += labels.shape[2]
    return first, size
