"""The global solve at scale: time and memory of the agglomeration of a synthetic region graph, whole and in parts.

    python benchmarks/agglomeration.py                          # 1, 8 and 64 million edges; a table, then JSON
    python benchmarks/agglomeration.py --nodes 50_000_000       # 300 million edges: 20 GB are needed
    python benchmarks/agglomeration.py --nodes 10_700_000 --parts 8

Nodes lie on a lattice, with edges to 6 of the 13 neighbours ahead. So there are 6 edges per node, as in a watershed of
EM. A cell is a box of 4 x 4 x 8 nodes; the mean boundary is 0.1 +- 0.1 within a cell and 0.8 +- 0.15 between two, so
that some true borders are weak and some false ones strong. Each size runs in a process of its own; seconds are those of
its processor. Memory is the peak resident set of the solve, edges included, above that of the imports.

With `--parts n` the edges come in n ranges of layers, as `merge` reads them. Only the edges of one range, and what the
ranges before have left open, are in memory. After the peak was taken, the whole is solved as well: the clusters must be
equal.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unet.segmentation.agglomeration import Columns, Graph, agglomerate, agglomerate_slabs, mean_boundary

STEPS = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)]
CELL = (4, 4, 8)
THRESHOLD = 0.5
SIDE = 256
"""Nodes along y and x of the lattice; its depth follows."""


Some = tuple[NDArray[np.int32], NDArray[np.int32], Columns]
"""Nodes and columns of some edges."""


def layers(nodes: int, side: int) -> Iterator[Some]:
    """Yield the synthetic graph, layer by layer."""
    depth = ceil(nodes / side**2)
    for z in range(depth):
        random = np.random.default_rng(z)
        found = list(layer(z, depth, side, nodes))
        u, v, same = (np.concatenate(column) for column in zip(*found, strict=True))
        mean = np.where(same, random.normal(0.1, 0.1, len(u)), random.normal(0.8, 0.15, len(u)))
        contacts = random.integers(1, 200, len(u))
        boundary = (contacts * (255 * np.clip(mean, 0, 1))).astype(np.int64)
        yield u.astype(np.int32), v.astype(np.int32), [contacts, boundary]


def whole(nodes: int, side: int) -> Graph:
    """Return the whole synthetic graph."""
    u, v = np.empty((2, 6 * nodes), np.int32)
    contacts, boundary = np.empty((2, 6 * nodes), np.int64)
    filled = 0
    for one_u, one_v, columns in layers(nodes, side):
        part = slice(filled, filled + len(one_u))
        u[part], v[part], (contacts[part], boundary[part]) = one_u, one_v, columns
        filled += len(one_u)
    part = slice(filled)
    return Graph(nodes, u[part].copy(), v[part].copy(), [contacts[part].copy(), boundary[part].copy()])


def layer(
    z: int, depth: int, side: int, nodes: int
) -> Iterator[tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.bool_]]]:
    """Return the edges that begin in a layer: their nodes, and whether both are of one cell."""
    y, x = np.mgrid[:side, :side]
    for dz, dy, dx in STEPS:
        inside = (y + dy < side) & (x + dx < side)
        a = ((z * side + y) * side + x)[inside]
        b = a + (dz * side + dy) * side + dx
        same = np.ones(len(a), bool)
        for one, step, cell in ((np.full(len(a), z), dz, 4), (y[inside], dy, 4), (x[inside], dx, 8)):
            same &= one // cell == (one + step) // cell
        keep = (a < nodes) & (b < nodes) & (z + dz < depth)
        yield a[keep], b[keep], same[keep]


def in_parts(nodes: int, parts: int, side: int) -> NDArray[np.int32]:
    """Return the clusters, computed from some layers after the others."""
    depth = ceil(nodes / side**2)
    part_of_layer = np.arange(depth) * parts // depth

    def read() -> Iterator[Some]:
        own: list[Some] = []
        for z, some in enumerate(layers(nodes, side)):  # an edge begins at its lower node
            own.append(some)
            if z + 1 == depth or part_of_layer[z + 1] > part_of_layer[z]:
                u, v = (np.concatenate([one[end] for one in own]) for end in (0, 1))
                columns = [np.concatenate([one[2][i] for one in own]) for i in (0, 1)]
                own = []
                yield u, v, columns

    last = part_of_layer[np.arange(nodes) // side**2]
    return agglomerate_slabs(nodes, read(), last, mean_boundary, THRESHOLD)


def same_partition(one: NDArray[np.int32], other: NDArray[np.int32]) -> bool:
    """Return whether two labellings differ in the names of their clusters alone."""
    pairs = np.unique(one.astype(np.int64) << 32 | other)
    return len(pairs) == len(np.unique(one)) == len(np.unique(other))


def resident(key: str) -> int:
    """Return the bytes in memory now (`VmRSS`), or at most since the peak was reset (`VmHWM`)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024


def measure(nodes: int, parts: int) -> dict[str, float]:
    """Measure one solve in this process."""
    start = resident("VmRSS")
    side = min(SIDE, ceil(nodes ** (1 / 3)))
    graph = whole(nodes, side) if parts == 1 else None
    Path("/proc/self/clear_refs").write_text("5")  # what the making of the graph took does not count
    began = time.process_time()
    cluster = agglomerate(graph, mean_boundary, THRESHOLD) if graph is not None else in_parts(nodes, parts, side)
    seconds = time.process_time() - began  # in parts: the making of the edges too
    peak = resident("VmHWM")
    found = {"nodes": nodes, "edges": sum(len(u) for u, _, _ in layers(nodes, side)), "seconds": round(seconds, 1)}
    found |= {"edges_per_second": round(found["edges"] / seconds), "clusters": len(np.unique(cluster))}
    found |= {"peak_gb": round((peak - start) / 1e9, 2)}
    if graph is not None:
        return found
    same = same_partition(cluster, agglomerate(whole(nodes, side), mean_boundary, THRESHOLD))
    return {**found, "parts": parts, "same_as_whole": same}


def main() -> None:
    """Measure each size in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, help="one size alone")
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--here", action="store_true", help="in this process")
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(measure(arguments.nodes, arguments.parts)))
        return
    sizes = [arguments.nodes] if arguments.nodes else [170_000, 1_350_000, 10_700_000]
    rows = []
    print("| nodes | edges | seconds | edges/s | peak GB | clusters |\n|---|---|---|---|---|---|")
    for nodes in sizes:
        command = [sys.executable, __file__, "--here", "--nodes", str(nodes), "--parts", str(arguments.parts)]
        rows.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
        row = rows[-1]
        shown = (f"{row['nodes']:,}", f"{row['edges']:,}", row["seconds"], f"{row['edges_per_second']:,}")
        print("| " + " | ".join(map(str, (*shown, row["peak_gb"], f"{row['clusters']:,}"))) + " |", flush=True)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
