"""Kernels of `steepest_ascent`: links and basins, voxel by voxel, with the same bits.

1. `volume_links`, `section_links`: the steepest neighbour of every voxel, as one byte.
2. `parents`, `unite_levels`: a union-find forest. A voxel's parent is its steepest neighbour; equal heights at a
   maximum are united.
3. `shorten`, `label_roots`: the root of every tree. Labels are given in scan order, when a basin is first met.
"""

import numpy as np
from numpy.typing import NDArray

from unet.geometry.compiled import kernel

NO_LINK = 13
"""Code of a voxel without a higher neighbour; a neighbour's code is ``9 (dz + 1) + 3 (dy + 1) + dx + 1``."""
NO_FRAGMENT = 27
"""Code of a voxel that is not labelled."""
LOWEST = np.float32(-np.inf)


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
    radius = ring[0]
    root = -1
    for dz in range(-radius, radius + 1):
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
