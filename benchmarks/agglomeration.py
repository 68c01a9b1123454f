"""The global solve at scale: time and memory of the agglomeration of a synthetic region graph, whole and in parts.

    python benchmarks/agglomeration.py                          # 1, 8 and 64 million edges; a table, then JSON
    python benchmarks/agglomeration.py --nodes 50_000_000       # 300 million edges: 20 GB are needed
    python benchmarks/agglomeration.py --nodes 4_000_000 --slabs 8

Nodes lie on a lattice, with edges to 6 of the 13 neighbours ahead, so that there are 6 edges a node, as in a watershed
of EM. A cell is a box of 4 x 4 x 8 nodes; the mean boundary is 0.1 +- 0.1 within a cell and 0.8 +- 0.15 between two, so
that some true borders are weak and some false ones strong. Each size runs in a process of its own; seconds are those of
its processor, memory is its peak resident set above that of the imports.

With `--slabs n` the lattice is solved in n slabs first, the nodes of their faces frozen, and then what is left at once:
the way for a graph that does not fit in memory. The clusters must be those of the whole solve.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from math import ceil

import numpy as np
from numpy.typing import NDArray

from unet.agglomeration import Graph, agglomerate, mean_boundary
from unet.region_graph import grouped, sums

STEPS = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)]
CELL = (4, 4, 8)
THRESHOLD = 0.5
SIDE = 256
"""Nodes along y and x of the lattice; its depth follows."""


def lattice(nodes: int, side: int) -> Graph:
    """The synthetic graph."""
    depth = ceil(nodes / side**2)
    u, v = np.empty((2, 6 * nodes), np.int32)
    contacts, boundary = np.empty((2, 6 * nodes), np.int64)
    filled = 0
    for z in range(depth):
        for a, b, same in layer(z, depth, side, nodes):
            part = slice(filled, filled + len(a))
            random = np.random.default_rng([z, filled])
            mean = np.where(same, random.normal(0.1, 0.1, len(a)), random.normal(0.8, 0.15, len(a)))
            u[part], v[part] = a, b
            contacts[part] = random.integers(1, 200, len(a))
            boundary[part] = contacts[part] * (255 * np.clip(mean, 0, 1))
            filled += len(a)
    part = slice(filled)
    return Graph(nodes, u[part].copy(), v[part].copy(), [contacts[part].copy(), boundary[part].copy()])


def layer(z: int, depth: int, side: int, nodes: int):
    """Edges that begin in a layer: their nodes, and whether both are of one cell."""
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


def in_slabs(graph: Graph, slabs: int, side: int) -> NDArray[np.int32]:
    """Clusters by way of slabs whose faces are frozen, one after the other, and of what is left of them."""
    layers = ceil(graph.nodes / side**2)
    slab = np.arange(graph.nodes) // side**2 * slabs // layers
    cluster = np.arange(graph.nodes, dtype=np.int32)
    for own in range(slabs):
        known = (slab[graph.u] == own) | (slab[graph.v] == own)
        part = Graph(graph.nodes, graph.u[known], graph.v[known], [column[known] for column in graph.columns])
        found = agglomerate(part, mean_boundary, THRESHOLD, frozen=slab != own)
        cluster = np.where(slab == own, found, cluster)
    u, v, order, start = grouped(cluster[graph.u], cluster[graph.v])
    left = Graph(graph.nodes, u, v, [sums(column, order, start) for column in graph.columns])
    print(f"{len(left):,} of {len(graph):,} edges are left after {slabs} slabs", file=sys.stderr)
    return agglomerate(left, mean_boundary, THRESHOLD)[cluster]


def same_partition(one: NDArray[np.int32], other: NDArray[np.int32]) -> bool:
    """Whether two labellings differ in the names of their clusters alone."""
    pairs = np.unique(one.astype(np.int64) << 32 | other)
    return len(pairs) == len(np.unique(one)) == len(np.unique(other))


def measure(nodes: int, slabs: int) -> dict[str, float]:
    """One solve in this process."""
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    side = min(SIDE, ceil(nodes ** (1 / 3)))
    graph = lattice(nodes, side)
    edges = len(graph)
    other = in_slabs(graph, slabs, side) if slabs > 1 else None
    began = time.process_time()
    cluster = agglomerate(graph, mean_boundary, THRESHOLD)
    seconds = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"nodes": nodes, "edges": edges, "seconds": round(seconds, 1), "edges_per_second": round(edges / seconds)}
    found |= {"clusters": len(np.unique(cluster)), "peak_gb": round((peak - start) / 1e6, 2)}
    return found if other is None else {**found, "slabs": slabs, "same_as_in_slabs": same_partition(cluster, other)}


def main() -> None:
    """Measure each size in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, help="one size alone")
    parser.add_argument("--slabs", type=int, default=1)
    parser.add_argument("--here", action="store_true", help="in this process")
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(measure(arguments.nodes, arguments.slabs)))
        return
    sizes = [arguments.nodes] if arguments.nodes else [170_000, 1_350_000, 10_700_000]
    rows = []
    print("| nodes | edges | seconds | edges/s | peak GB | clusters |\n|---|---|---|---|---|---|")
    for nodes in sizes:
        command = [sys.executable, __file__, "--here", "--nodes", str(nodes), "--slabs", str(arguments.slabs)]
        rows.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
        row = rows[-1]
        shown = (f"{row['nodes']:,}", f"{row['edges']:,}", row["seconds"], f"{row['edges_per_second']:,}")
        print("| " + " | ".join(map(str, (*shown, row["peak_gb"], f"{row['clusters']:,}"))) + " |", flush=True)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
