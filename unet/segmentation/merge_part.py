"""Merge a part of the volume, a range of layers of blocks, and join parts: the memory of a part, not of the volume.

1. `read_part`: join the fragments of the part's blocks that touch, and sum the edges between them.
2. `settle_part`: settle what the rest of the volume cannot change. What may still change stays live: nodes at the
   part's faces and what depends on them, with the edges between them.
3. `join_parts`: lay the faces of neighbouring parts on each other, resolve the edges that lead out of a part, and
   settle again. The part that covers the whole volume has nothing open, so all its objects are settled.

```
layers of blocks    0:2       2:4       4:6       6:7
                      \\       /           \\       /
                       0:4                 4:7
                           \\             /
                                 0:7                  all settled
```

An edge leads out of a part where the second voxel of a contact lies in a layer behind. The part behind does not know
such an edge. So all its nodes with a voxel within `contact_distance` sections of its first face are open.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.segmentation.affinity_graph import AffinityEdges
from unet.segmentation.fragments import BlockTable, Fragments, connected_component_labels, face_pairs, join_blocks
from unet.segmentation.region_graph import Edges, sum_groups
from unet.segmentation.settling import MergeRules, NodeEdges, Nodes, settle

Runs = NDArray[np.uint32]
"""A plane of labels, see `unet.geometry.run_length_encoding.run_length_encode`."""
BLOCK_BITS = np.uint64(32)
"""A fragment is named ``(block << 32) | local label``, see `unet.segmentation.region_graph.fragment_ids`."""


class GraphEdges(NamedTuple):
    """Edges of a block between fragments, and True for those whose voxels share a face."""

    sums: Edges
    touching: NDArray[np.bool_]

    @classmethod
    def of(cls, found: Edges | AffinityEdges) -> "GraphEdges":
        """Return the edges of a block with all their contacts."""
        if isinstance(found, Edges):
            return cls(found, np.ones(len(found), bool))
        return cls(found.as_boundary(), found.nearest_pairs[found.nearest_pairs + found.long_pairs > 0] > 0)


@dataclass(frozen=True, eq=False)
class Near:
    """Fragments that edges of the parts before may lead to.

    Attributes
    ----------
    fragment : (n,) uint64, increasing
    section : (n,) int64, section of the first voxel
    node : (n,) int64, node of the fragment
    """

    fragment: NDArray[np.uint64]
    section: NDArray[np.int64]
    node: NDArray[np.int64]

    def select(self, keep: NDArray[np.bool_]) -> "Near":
        """Return the fragments where `keep` is True."""
        return Near(self.fragment[keep], self.section[keep], self.node[keep])


@dataclass(frozen=True, eq=False)
class Part:
    """A range of layers of blocks.

    Attributes
    ----------
    layers : the layers
    nodes, edges : nodes that may still change, and the edges between them
    lower, upper : nodes + 1 on the first and the last face of the part, for each block of the layer there
    near : fragments within `contact_distance` sections of the first face
    outward : edges that lead out of the part: u is a node, v a fragment behind the part
    components : connected components of touching fragments
    """

    layers: range
    nodes: Nodes
    edges: NodeEdges
    lower: list[Runs]
    upper: list[Runs]
    near: Near
    outward: GraphEdges
    components: int

    def is_open(self) -> NDArray[np.bool_]:
        """Return (nodes,) True for nodes that may have voxels or edges in another part."""
        at = np.zeros(len(self.nodes) + 1, bool)
        for plane in (*self.lower, *self.upper):
            at[plane[:, 0]] = True
        is_open = at[1:]
        is_open[self.near.node] = is_open[self.outward.sums.u.astype(np.int64)] = True
        return is_open

    def renumbered(self, nodes: Nodes, edges: NodeEdges, into: NDArray[np.int64]) -> "Part":
        """Return the part with other nodes and edges; node i becomes node ``into[i]``."""
        local = np.concatenate([[0], into + 1]).astype(np.uint32)
        lower, upper = ([_renamed(plane, local) for plane in planes] for planes in (self.lower, self.upper))
        near = Near(self.near.fragment, self.near.section, into[self.near.node])
        outward = _grouped_outward(self.outward, into[self.outward.sums.u.astype(np.int64)])
        return Part(self.layers, nodes, edges, lower, upper, near, outward, self.components)


def read_part(
    grid: Grid,
    layers: range,
    table_of: Callable[[Box], BlockTable],
    edges_of: Callable[[Box], GraphEdges] | None = None,
    contact_distance: int = 0,
) -> tuple[Part, Fragments]:
    """Return the part of these layers with nothing settled; its nodes are the components of the fragments.

    Parameters
    ----------
    grid : blocks of the volume
    layers : layers of blocks of the part
    table_of : function that reads the fragments of a block
    edges_of : function that reads the edges of a block; None where there is no region graph
    contact_distance : largest distance of two voxels in contact along z, in sections
    """
    lower, upper = list[tuple[Runs, int]](), list[tuple[Runs, int]]()
    indices = [index for layer in layers for index in grid.layer(layer)]

    def tables() -> Iterator[BlockTable]:
        for block, index in enumerate(indices):
            table = table_of(grid.box(index))
            low, high = table.faces.get(0, (None, None))
            if low is not None and index[0] == layers.start > 0:
                lower.append((low, block))
            if high is not None and index[0] == layers.stop - 1 < grid.counts[0] - 1:
                upper.append((high, block))
            yield table

    fragments = join_blocks(grid, tables(), layers)
    components = fragments.merge_components()
    columns = {f.name: getattr(components, f.name) for f in fields(Nodes) if f.name != "order"}
    nodes = Nodes(order=components.first_voxel, **columns)
    edges, outward = _edges_of_part(grid, layers, fragments, edges_of)
    low, high = ([_of_nodes(plane, block, fragments) for plane, block in side] for side in (lower, upper))
    near = _near(grid, layers, fragments, contact_distance)
    return Part(layers, nodes, edges, low, high, near, outward, fragments.component_count), fragments


def settle_part(part: Part, rules: MergeRules) -> tuple[Part, Nodes, NDArray[np.int64]]:
    """Return the part with its live nodes alone, the settled objects, and what each node became.

    Node i became live node ``became[i]``, or settled object ``-1 - became[i]``.
    """
    found = settle(part.nodes, part.edges, part.is_open(), rules)
    return part.renumbered(found.live, found.edges, found.became), found.objects, found.became


def join_parts(grid: Grid, parts: Sequence[Part], contact_distance: int = 0) -> tuple[Part, NDArray[np.int64]]:
    """Return neighbouring parts as one, nothing settled, and the node of each node of the parts, one after the other.

    Raises
    ------
    ValueError
        If the parts do not follow each other.
    """
    for before, behind in pairwise(parts):
        if before.layers.stop != behind.layers.start:
            raise ValueError(f"layers {before.layers} and {behind.layers} do not follow each other")
    starts = np.cumsum([0, *(len(part.nodes) for part in parts)])
    pairs = [np.empty((0, 2), np.int64)]
    for i, (before, behind) in enumerate(pairwise(parts)):
        classes = before.nodes.class_value, behind.nodes.class_value
        for high, low in zip(before.upper, behind.lower, strict=True):
            pairs.append(face_pairs(high, low, *classes) - 1 + starts[i : i + 2])
    into = connected_component_labels(int(starts[-1]), np.concatenate(pairs)).astype(np.int64)
    count = int(into.max(initial=-1)) + 1
    nodes = _united(Nodes.concatenate([part.nodes for part in parts]), into, count)
    layers = range(parts[0].layers.start, parts[-1].layers.stop)
    of_parts = [into[start:stop] for start, stop in pairwise(starts)]
    moved = [part.renumbered(nodes, part.edges, own) for part, own in zip(parts, of_parts, strict=True)]
    edges, outward = _joined_edges(grid, layers, moved, of_parts)
    near = Near(*(np.concatenate([getattr(part.near, f.name) for part in moved]) for f in fields(Near)))
    near = near.select((near.section < layers.start * grid.block[0] + contact_distance) & (layers.start > 0))
    components = sum(part.components for part in parts) - (int(starts[-1]) - count)
    return Part(layers, nodes, edges, moved[0].lower, moved[-1].upper, near, outward, components), into


def _united(nodes: Nodes, into: NDArray[np.int64], count: int) -> Nodes:
    """Return the nodes of joined parts. What touches at a face is a component, which its first voxel names."""
    united = nodes.merged(into, count)
    several = np.bincount(into, minlength=count) > 1
    return Nodes(**{**vars(united), "order": np.where(several, united.first_voxel, united.order)})


def _joined_edges(
    grid: Grid, layers: range, parts: Sequence[Part], of_parts: Sequence[NDArray[np.int64]]
) -> tuple[NodeEdges, GraphEdges]:
    """Return the edges between the nodes of joined parts, and those that still lead out."""
    within = [
        _moved(one, own[one.u.astype(np.int64)], own[one.v.astype(np.int64)])
        for one, own in zip((part.edges.sums for part in parts), of_parts, strict=True)
    ]
    outward = _concatenated([part.outward.sums for part in parts])
    outward_touching = np.concatenate([part.outward.touching for part in parts])
    inside = outward.v >> BLOCK_BITS < layers.stop * prod(grid.counts[1:])
    fragment, node = (np.concatenate([getattr(part.near, name) for part in parts]) for name in ("fragment", "node"))
    resolved = outward.select(inside)
    within.append(_moved(resolved, resolved.u, _node_of(resolved.v, fragment, node)))
    touching = np.concatenate([*(part.edges.touching for part in parts), outward_touching[inside]])
    penalised = np.concatenate([*(part.edges.penalised for part in parts), np.zeros(len(resolved), bool)])
    leading_out = GraphEdges(outward.select(~inside), outward_touching[~inside])
    edges = NodeEdges(_concatenated(within), touching, penalised)
    return edges, _grouped_outward(leading_out, leading_out.sums.u.astype(np.int64))


def _node_of(fragments: NDArray[np.uint64], known: NDArray[np.uint64], node: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the nodes of fragments that edges lead to."""
    at = np.searchsorted(known, fragments)
    if len(fragments) and (at.max() >= len(known) or (known[at] != fragments).any()):
        raise ValueError("an edge leads to a fragment that no table has: tables of fragments and edges do not fit")
    return node[at]


def _edges_of_part(
    grid: Grid, layers: range, fragments: Fragments, edges_of: Callable[[Box], GraphEdges] | None
) -> tuple[NodeEdges, GraphEdges]:
    """Return the edges between the components of a part, and those that lead out of it."""
    per_layer = prod(grid.counts[1:])
    first, stop = layers.start * per_layer, layers.stop * per_layer
    boxes = (grid.box(index) for layer in layers for index in grid.layer(layer))
    read = [edges_of(box) for box in boxes] if edges_of else []
    sums, touching = _concatenated([one.sums for one in read]), np.concatenate([[], *(one.touching for one in read)])
    touching = touching.astype(bool)

    def components(ids: NDArray[Any]) -> NDArray[np.int64]:
        block, label = (ids >> BLOCK_BITS).astype(np.int64), (ids & np.uint64(0xFFFFFFFF)).astype(np.int64)
        return fragments.component_of[fragments.offsets[block - first] + label - 1].astype(np.int64)

    inside = sums.v >> BLOCK_BITS < stop
    within, outward = sums.select(inside), sums.select(~inside)
    moved = _moved(within, components(within.u), components(within.v))
    edges = NodeEdges(moved, touching[inside], np.zeros(len(moved), bool))
    leading_out = GraphEdges(outward, touching[~inside])
    return edges, _grouped_outward(leading_out, components(outward.u))


def _near(grid: Grid, layers: range, fragments: Fragments, contact_distance: int) -> Near:
    """Return the fragments within `contact_distance` sections of the first face of a part."""
    section = fragments.first_voxel // prod(grid.shape[1:])
    per_layer, count = prod(grid.counts[1:]), np.diff(fragments.offsets)
    block = np.repeat(np.arange(len(count)) + layers.start * per_layer, count).astype(np.uint64)
    label = np.arange(len(section)) - np.repeat(fragments.offsets[:-1], count) + 1
    ids = block << BLOCK_BITS | label.astype(np.uint64)
    near = Near(ids, section, fragments.component_of.astype(np.int64))
    return near.select((section < layers.start * grid.block[0] + contact_distance) & (layers.start > 0))


def _of_nodes(plane: Runs, block: int, fragments: Fragments) -> Runs:
    """Return a face of the block with this number in the part, with nodes + 1 in place of local labels."""
    own = slice(*fragments.offsets[block : block + 2])
    local = np.concatenate([[0], fragments.component_of[own] + 1]).astype(np.uint32)
    return _renamed(plane, local)


def _renamed(plane: Runs, names: NDArray[np.uint32]) -> Runs:
    """Return runs with other labels."""
    return np.stack([names[plane[:, 0]], plane[:, 1]], axis=1)


def _moved(edges: Edges, u: NDArray[Any], v: NDArray[Any]) -> Edges:
    """Return the edges between other nodes."""
    return Edges(u.astype(np.int64), v.astype(np.int64), edges.contacts, edges.boundary, edges.histogram)


def _concatenated(several: Sequence[Edges]) -> Edges:
    """Return the edges of several lists, one list after the other; histograms only where all have them."""
    several = several or [Edges.empty()]
    u, v, contacts, boundary = (
        np.concatenate([getattr(one, name) for one in several]) for name in ("u", "v", "contacts", "boundary")
    )
    histograms = [one.histogram for one in several]
    whole = [one for one in histograms if one is not None]
    return Edges(u, v, contacts, boundary, np.concatenate(whole) if len(whole) == len(histograms) else None)


def _grouped_outward(edges: GraphEdges, node: NDArray[np.int64]) -> GraphEdges:
    """Return edges that lead out of a part, each pair of node and fragment once."""
    sums = edges.sums
    order = np.lexsort((sums.v, node))
    changes = (np.diff(node[order]) != 0) | (sums.v[order][1:] != sums.v[order][:-1])
    start = np.flatnonzero(np.concatenate([[True], changes]))[: len(order)]
    u, v = node[order][start], sums.v[order][start]
    histogram = None if sums.histogram is None else sum_groups(sums.histogram, order, start)
    touching = np.logical_or.reduceat(edges.touching[order], start) if len(start) else edges.touching[:0]
    grouped = Edges(u, v, sum_groups(sums.contacts, order, start), sum_groups(sums.boundary, order, start), histogram)
    return GraphEdges(grouped, touching)
