"""Kernels of `region_graph` and `affinity_graph`: sums over the contacts of every two fragments, in one pass.

Edges are found in a hash table with open addressing. A row of sums belongs to each. The table grows while it is filled,
so its memory follows the number of edges and not that of contacts.
"""

import numpy as np
from numpy.typing import NDArray

from unet.geometry.compiled import kernel

Edges = tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]]
"""Smaller and larger id of each edge in the order in which they were found, and a row of sums."""
BINS = 16
ROOM = 1 << 10
"""Edges for which there is room at first."""
FACTORS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
"""Odd numbers that spread the ids over a table."""


@kernel
def number_fragments(
    labels: NDArray[np.uint32],
    numbers: tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]],
    ids: NDArray[np.uint64],
) -> None:
    """Write ``(block << 32) | label``; the number of the block is the sum of three, by z, y and x."""
    along_z, along_y, along_x = numbers
    for z in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            line, out, first = labels[z, y], ids[z, y], along_z[z] + along_y[y]
            for x in range(len(line)):
                own = ((first + along_x[x]) << np.uint64(32)) | np.uint64(line[x])
                out[x] = own if line[x] > 0 else np.uint64(0)


@kernel
def sum_contacts(
    ids: NDArray[np.uint64], boundary: NDArray[np.uint8], shape: tuple[int, int, int], steps: NDArray[np.int64]
) -> Edges:
    """Return the edges with their contacts, the sum of the boundary, and its histogram; see `region_graph.block_edges`.

    The second voxel of a contact may lie beyond `shape`.
    """
    table, sums = _empty_table(ROOM), np.zeros((ROOM, 2 + BINS), np.int64)
    at, edges = np.empty(shape[2], np.int64), np.empty(shape[2], np.int64)
    count = 0
    for z in range(shape[0]):
        for y in range(shape[1]):
            for step in range(len(steps)):  # innermost, so that rows and edges are still in the cache
                dz, dy, dx = steps[step]
                if z + dz >= ids.shape[0] or y + dy >= ids.shape[1]:
                    continue
                width = max(0, min(shape[2], ids.shape[2] - dx))
                if count + width > len(sums):
                    table, sums = _longer(table, sums, count, width)
                found, count = _edges_of_row(ids[z, y, :width], ids[z + dz, y + dy, dx:], table, count, at, edges)
                level_of_one, level_of_other = boundary[z, y], boundary[z + dz, y + dy, dx:]
                for n in range(found):
                    row, level = sums[edges[n]], max(level_of_one[at[n]], level_of_other[at[n]])
                    row[0] += 1
                    row[1] += np.int64(level)
                    row[2 + (level >> 4)] += 1
    return _edges_of_table(table, sums, count)


@kernel
def sum_affinities(
    ids: NDArray[np.uint64],
    affinities: NDArray[np.uint8],
    inner: tuple[int, int, int],
    offsets: NDArray[np.int64],
    column: NDArray[np.int64],
) -> Edges:
    """Return the edges with the number of pairs and the sum of their affinities; see `block_affinity_edges`.

    Parameters
    ----------
    ids : fragments of the box that is read
    affinities : (offset, z, y, x) of the block
    inner : first voxel of the block in `ids`
    offsets : (n, 3) from the first to the second voxel of a pair
    column : of the number of pairs of each offset; that of the sum follows
    """
    table, sums = _empty_table(ROOM), np.zeros((ROOM, 4), np.int64)
    at, edges = np.empty(affinities.shape[3], np.int64), np.empty(affinities.shape[3], np.int64)
    count = 0
    for number in range(len(offsets)):
        dz, dy, dx = offsets[number]
        start = max(0, -inner[2] - dx)
        width = max(0, min(affinities.shape[3], ids.shape[2] - inner[2] - dx) - start)
        first, second = inner[2] + start, inner[2] + start + dx
        for z in range(affinities.shape[1]):
            for y in range(affinities.shape[2]):
                z_one, y_one = z + inner[0], y + inner[1]
                if not (0 <= z_one + dz < ids.shape[0] and 0 <= y_one + dy < ids.shape[1] and width):
                    continue
                if count + width > len(sums):
                    table, sums = _longer(table, sums, count, width)
                one, other = ids[z_one, y_one, first : first + width], ids[z_one + dz, y_one + dy, second:]
                found, count = _edges_of_row(one, other, table, count, at, edges)
                levels = affinities[number, z, y, start:]
                for n in range(found):
                    row = sums[edges[n]]
                    row[column[number]] += 1
                    row[column[number] + 1] += np.int64(levels[at[n]])
    return _edges_of_table(table, sums, count)


@kernel
def _edges_of_row(
    one: NDArray[np.uint64],
    other: NDArray[np.uint64],
    table: NDArray[np.uint64],
    count: int,
    at: NDArray[np.int64],
    edges: NDArray[np.int64],
) -> tuple[int, int]:
    """Write where two rows of ids differ, and the edge there; return how many, and the number of edges.

    `table` has room for all edges of the row. A slot holds smaller id, larger id and edge; the smaller id 0 is free.
    """
    last_one, last_other, edge, found = np.uint64(0), np.uint64(0), np.int64(0), 0
    last = len(table) - 1
    for x in range(len(one)):
        a, b = one[x], other[x]
        if a == b or a == 0 or b == 0:
            continue
        if a != last_one or b != last_other:
            low, high = (a, b) if a < b else (b, a)
            mixed = (low * FACTORS[0]) ^ (high * FACTORS[1])
            slot = np.int64(mixed >> np.uint64(32)) & last
            while table[slot, 0] != 0 and (table[slot, 0] != low or table[slot, 1] != high):
                slot = (slot + 1) & last
            if table[slot, 0] == 0:
                table[slot, 0], table[slot, 1], table[slot, 2] = low, high, np.uint64(count)
                count += 1
            edge = np.int64(table[slot, 2])
            last_one, last_other = a, b
        at[found], edges[found] = x, edge
        found += 1
    return found, count


@kernel
def _empty_table(room: int) -> NDArray[np.uint64]:
    """Return a table of twice as many slots or more, a power of 2."""
    slots = 2
    while slots < 2 * room:
        slots *= 2
    return np.zeros((slots, 4), np.uint64)


@kernel
def _longer(
    table: NDArray[np.uint64], sums: NDArray[np.int64], count: int, more: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return table and sums with the same edges, and with room for as many and `more`."""
    room = 2 * count + more
    larger, longer = _empty_table(room), np.zeros((room, sums.shape[1]), np.int64)
    longer[:count] = sums[:count]
    last = len(larger) - 1
    for old in range(len(table)):
        if table[old, 0] != 0:
            mixed = (table[old, 0] * FACTORS[0]) ^ (table[old, 1] * FACTORS[1])
            slot = np.int64(mixed >> np.uint64(32)) & last
            while larger[slot, 0] != 0:
                slot = (slot + 1) & last
            larger[slot] = table[old]
    return larger, longer


@kernel
def _edges_of_table(table: NDArray[np.uint64], sums: NDArray[np.int64], count: int) -> Edges:
    """Return the edges of a table in the order of their numbers."""
    u, v = np.empty(count, np.uint64), np.empty(count, np.uint64)
    for slot in range(len(table)):
        if table[slot, 0] != 0:
            edge = np.int64(table[slot, 2])
            u[edge], v[edge] = table[slot, 0], table[slot, 1]
    return u, v, sums[:count]
