"""Kernels of `watershed` and `steepest_ascent`: height map, links and basins, voxel by voxel, with the same bits.

1. `steps_along_z`, `distance_heights`: the distances to the other kind of voxel. The order of the axes does not matter:
   first two sweeps over the sections, then row by row. Squares are integers, as small as they fit.
2. `smooth`: scipy's `gaussian_filter1d` along one axis after the other, with rows that stay in the cache. The sums are
   in float64 and in scipy's order, from the outermost pair inwards.
3. `volume_links`, `section_links`: the steepest neighbour of every voxel, as one byte.
4. `parents`, `unite_levels`: a union-find forest. A voxel's parent is its steepest neighbour; equal heights at a
   maximum are united.
5. `shorten`, `label_roots`: the root of every tree. Labels are given in scan order, when a basin is first met.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.geometry.compiled import kernel

NO_LINK = 13
"""Code of a voxel without a higher neighbour; a neighbour's code is ``9 (dz + 1) + 3 (dy + 1) + dx + 1``."""
NO_FRAGMENT = 27
"""Code of a voxel that is not labelled."""
LOWEST = np.float32(-np.inf)
BELOW = np.float32(0.9)


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
    grey: tuple[NDArray[Any], NDArray[np.float32]],
    weight: np.float32,
    rings: tuple[NDArray[Any], NDArray[Any]],
    rows: tuple[NDArray[Any], NDArray[Any]],
    start: tuple[int, int, int],
    inside: NDArray[np.float32],
    below: NDArray[np.float32],
) -> None:
    """Write the heights of the foreground before smoothing, 0 in the background, and those of the background.

    Parameters
    ----------
    foreground : (z, y, x)
    steps : see `steps_along_z`
    units : edges of a voxel ``(z, y, x)`` in units of ``1 / parts`` px, 0 where voxels are no neighbours along z
    longest : largest distance in these units within the foreground, and within the background
    parts : units per px
    caps : largest distance (px) within the foreground, and the one from it up to which the background has a height
    grey : confidence of every voxel, and of every level; see `_confident`
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
            _confident(line, grey, z, y)
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
                line[x] = LOWEST if outside > caps[1] else BELOW * certain - outside
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
def _confident(line: NDArray[np.float32], grey: tuple[NDArray[Any], NDArray[np.float32]], z: int, y: int) -> None:
    """Write the confidence of a row: 0 without any, that of the levels of the voxels, or the voxels' own."""
    values, of_level = grey
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
    reach = weights.shape[1] - 1
    slots = 2 * reach + 1
    ring, lines = np.empty((slots, width), np.float32), np.empty((slots, width), np.float32)
    filtered, row, sums = np.empty(width, np.float32), np.empty(width + 2 * reach, np.float32), np.empty(width)
    for z in range(out.shape[0]):
        at = z + start[0]
        filled = max(0, start[1] - reach)
        for y in range(out.shape[1]):
            to = y + start[1]
            while filled < min(height, to + reach + 1):
                if reach == 3:
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
                        _copy(lines[k], values[min(max(at + k - reach, 0), depth - 1), filled])
                    _weighted_sum(ring[filled % slots], lines, weights[0], sums)
                filled += 1
            if reach == 3:
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
                    _copy(lines[k], ring[min(max(to + k - reach, 0), height - 1) % slots])
                _weighted_sum(filtered, lines, weights[1], sums)
            _copy(row[reach : reach + width], filtered)
            row[:reach] = filtered[0]
            row[reach + width :] = filtered[width - 1]
            if reach == 3:
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


@kernel
def section_links(height: NDArray[np.float32], slopes: NDArray[np.float32], found: NDArray[np.uint8]) -> None:
    """Write the code of every voxel's steepest neighbour in its section, without the outermost voxels.

    `slopes` are 1 over the length of the steps (x, y, diagonal).
    """
    depth, rows, width = found.shape
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
                out[x] = np.uint8(code) if here > LOWEST else np.uint8(NO_FRAGMENT)


@kernel
def volume_links(height: NDArray[np.float32], slopes: NDArray[np.float32], found: NDArray[np.uint8]) -> None:
    """Write the code of every voxel's steepest neighbour, without the outermost voxels.

    `slopes` are 1 over the length of the steps (x, y, yx, z, zx, zy, zyx).
    """
    depth, rows, width = found.shape
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
                out[x] = np.uint8(code[x]) if own[x + 1] > LOWEST else np.uint8(NO_FRAGMENT)


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
def parents(links: NDArray[np.uint8], found: NDArray[np.int32]) -> None:
    """Write the number of the voxel that each voxel is linked to; its own number where that lies beyond the array."""
    depth, rows, width = links.shape
    shift, inner_shift = np.zeros(28, np.int32), np.empty(28, np.int32)
    for code in range(27):
        shift[code] = ((code // 9 - 1) * rows + (code // 3 % 3 - 1)) * width + code % 3 - 1
    for z in range(depth):
        for y in range(rows):
            first = (z * rows + y) * width
            line, out = links[z, y], found[first : first + width]
            for code in range(28):
                inside = 0 <= z + code // 9 - 1 < depth and 0 <= y + code // 3 % 3 - 1 < rows
                inner_shift[code] = shift[code] if inside else 0
            for x in range(width):
                out[x] = np.int32(first + x) + inner_shift[line[x]]
            if line[0] != NO_FRAGMENT and line[0] % 3 == 0:
                out[0] = first
            if line[width - 1] != NO_FRAGMENT and line[width - 1] % 3 == 2:
                out[width - 1] = first + width - 1


@kernel
def unite_levels(
    height: NDArray[np.float32], links: NDArray[np.uint8], parent: NDArray[np.int32], ring: tuple[int, int, int]
) -> None:
    """Unite every local maximum with the neighbours of its height, in `parent`.

    `height` are those of the voxels of `links`, and of as many around them as `ring` says.
    """
    for z in range(links.shape[0]):
        for y in range(links.shape[1]):
            line = links[z, y]
            for x in range(links.shape[2]):
                if line[x] == NO_LINK:
                    _unite_level(height, links, parent, ring, z, y, x)


@kernel
def shorten(parent: NDArray[np.int32]) -> None:
    """Let the voxels skip their parents, the last one first: most paths then have few steps."""
    for voxel in range(len(parent) - 1, -1, -1):
        parent[voxel] = parent[parent[voxel]]


@kernel
def label_roots(
    links: NDArray[np.uint8], parent: NDArray[np.int32], start: tuple[int, int, int], labels: NDArray[np.uint32]
) -> int:
    """Label the trees of a box within the links 1, 2, ... in scan order, and return how many there are.

    `parent` is overwritten.
    """
    rows, width = links.shape[1:]
    shape = labels.shape
    count = 0
    for z in range(shape[0]):
        for y in range(shape[1]):
            out, line = labels[z, y], links[z + start[0], y + start[1]]
            first = ((z + start[0]) * rows + y + start[1]) * width + start[2]
            for x in range(shape[2]):
                if line[x + start[2]] == NO_FRAGMENT:
                    out[x] = 0
                    continue
                root = first + x
                above = parent[root]
                while above >= 0 and above != root:
                    root = above
                    above = parent[root]
                if above >= 0:
                    count += 1
                    above = np.int32(-count)
                    parent[root] = above
                out[x] = -above
                voxel = first + x
                while voxel != root:  # the next voxels that come this way are done at once
                    next_ = parent[voxel]
                    parent[voxel] = above
                    voxel = next_
    return count


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
                if line[x] > seen:
                    first[seen] = number + x
                    seen += 1
            if z < own[0] and y < own[1]:
                for x in range(own[2]):
                    label = np.int64(line[x])
                    if label > 0:
                        size[label - 1] += 1
            number += labels.shape[2]
    return first, size
