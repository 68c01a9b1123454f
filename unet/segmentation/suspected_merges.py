"""Suspected merge errors: large parts of one object that are connected by a small or weak contact.

A merge error joins two cells into one object. It often shows in the region graph alone: two large parts touch in a few
voxels, or their score is barely on the right side of the threshold. A contact of two parts is *sound* if it has at
least `min_contacts` pairs of adjacent voxels, and its score keeps a margin:

```
boundary score    score < threshold - margin
mean affinity     affinity > threshold + margin
```

1. `close_contacts`: read the region graph slab by slab, without what connects two objects. Join the fragments whose
   contact is sound as soon as all of the contact is known. Keep the other contacts, summed between what was joined.
2. `large_parts`: sum the contacts between parts, and join parts whose sum is sound; repeat until none is. Join parts
   below `min_size` with the neighbour of the best score, and sum again.
3. What is left are pairs of large parts of one object, each with a contact that is small, weak or both.
4. `contact_sums`: find their voxel pairs again in the blocks that have some of them; the mean is the contact's place.

```
A A A           B B B         A: 900 voxels, B: 700 voxels; they touch in 2 pairs: listed, at c
A A A - - c - - B B B         without c the object would be two
A A A           B B B
```

Fragments are numbered by their first voxels in the volume. All sums are of whole numbers. All parts with a sound
contact are joined at once. The pairs are therefore the same for any blocks.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from unet.config.segment import AFFINITY_METHODS, AgglomerateConfig, SuspectedMergesConfig
from unet.geometry.box import Box
from unet.geometry.offsets import Offset, is_nearest
from unet.segmentation.agglomeration import Columns, Graph
from unet.segmentation.edge_slabs import EdgeSlabs
from unet.segmentation.fragments import Fragments, connected_component_labels
from unet.segmentation.merging import edge_score
from unet.segmentation.region_graph import Edges, group_edges, pack_pairs, sum_groups
from unet.segmentation.small_objects import join_small_objects

TOUCHING, PAIRS, BOUNDARY = range(3)
"""Columns of a contact: pairs of adjacent voxels; all pairs that are scored, and the sum of their boundary in 1/255.
With method `quantile` the histogram follows."""


@dataclass(frozen=True)
class SoundContact:
    """Criteria of a sound contact.

    Parameters
    ----------
    agglomerate : AgglomerateConfig
        How fragments were joined.
    suspected : SuspectedMergesConfig
        What is small, large and weak.
    """

    agglomerate: AgglomerateConfig
    suspected: SuspectedMergesConfig

    def score(self, columns: Columns) -> NDArray[np.float64]:
        """Return the score of contacts by their columns: boundary, or 1 - mean affinity."""
        histogram = self.agglomerate.method == "quantile"
        scored = columns[BOUNDARY + 1 :] if histogram else columns[PAIRS : BOUNDARY + 1]
        return edge_score(self.agglomerate)(scored)

    def is_weak(self, columns: Columns) -> NDArray[np.bool_]:
        """Return whether the score of contacts is within the margin of the threshold, or beyond it."""
        threshold, margin = float(self.agglomerate.threshold), self.suspected.margin
        if self.agglomerate.method in AFFINITY_METHODS:
            return 1 - self.score(columns) <= threshold + margin
        return self.score(columns) >= threshold - margin

    def is_small(self, columns: Columns) -> NDArray[np.bool_]:
        """Return whether contacts have fewer pairs of adjacent voxels than a sound one."""
        return columns[TOUCHING] < self.suspected.min_contacts

    def __call__(self, columns: Columns) -> NDArray[np.bool_]:
        """Return whether contacts are sound."""
        return ~(self.is_small(columns) | self.is_weak(columns))


@dataclass(frozen=True, eq=False)
class SuspectedMerges:
    """Pairs of large parts of one object.

    Attributes
    ----------
    part_of : (components,) int32, the part of each connected component of fragments
    size : (parts,) int64, voxels
    u, v : (n,) int32, the parts of each pair, ``u < v``, in increasing order
    columns : sums over the contact of each pair, (n,) each
    """

    part_of: NDArray[np.int32]
    size: NDArray[np.int64]
    u: NDArray[np.int32]
    v: NDArray[np.int32]
    columns: Columns

    def __len__(self) -> int:
        return len(self.u)


def find_suspected_merges(
    components: Fragments,
    object_of: NDArray[np.unsignedinteger],
    every: EdgeSlabs,
    touching: EdgeSlabs | None,
    sound: SoundContact,
) -> SuspectedMerges:
    """Return the pairs of large parts of one object whose contact is not sound (passes 1 to 3).

    Parameters
    ----------
    components : connected components as fragments, see `Fragments.merge_components`
    object_of : (components,) final id of each component; 0 = dropped
    every : edges between the components, over all pairs that the agglomeration scored
    touching : the edges over pairs of adjacent voxels alone; None where all pairs are adjacent
    sound : what makes a contact sound
    """
    number = np.empty(len(object_of), np.int32)
    number[np.argsort(components.first_voxel)] = np.arange(len(object_of), dtype=np.int32)
    size = np.empty(len(number), np.int64)
    size[number] = components.size
    owner = np.empty(len(number), np.int64)
    _, owner[number] = np.unique(object_of, return_inverse=True)
    large = np.bincount(owner, size)[owner] >= 2 * sound.suspected.min_size
    dropped = np.empty(len(number), bool)
    dropped[number] = object_of == 0

    def inside(slab: Edges, near: Edges | None) -> tuple[NDArray[np.int32], NDArray[np.int32], Columns]:
        u, v = number[slab.u], number[slab.v]
        kept = (owner[u] == owner[v]) & large[u] & ~dropped[u]
        histogram = [] if slab.histogram is None else list(slab.histogram[kept].T)
        columns = [adjacent_pairs(slab, near)[kept], slab.contacts[kept], slab.boundary[kept], *histogram]
        return np.minimum(u, v)[kept], np.maximum(u, v)[kept], columns

    last_slab = np.empty(len(number), np.int64)
    last_slab[number] = every.last_slab
    near = repeat(None) if touching is None else touching.read()
    slabs = (inside(slab, own) for slab, own in zip(every.read(), near, strict=False))
    part, graph = close_contacts(len(number), slabs, last_slab, sound)
    part, graph = large_parts(part, size, graph, sound)
    part_size = np.bincount(part, size, minlength=graph.nodes).astype(np.int64)
    graph.keep_edges(np.minimum(part_size[graph.u], part_size[graph.v]) >= sound.suspected.min_size)
    order = np.argsort(pack_pairs(graph.u, graph.v))
    columns = [column[order] for column in graph.columns]
    return SuspectedMerges(part[number], part_size, graph.u[order], graph.v[order], columns)


def adjacent_pairs(every: Edges, near: Edges | None) -> NDArray[np.int64]:
    """Return the number of pairs of adjacent voxels of each edge of `every`, from the edges `near` over these alone."""
    if near is None:
        return every.contacts
    found = np.zeros(len(every), np.int64)
    found[np.searchsorted(pack_pairs(every.u, every.v), pack_pairs(near.u, near.v))] = near.contacts
    return found


def close_contacts(
    nodes: int,
    slabs: Iterable[tuple[NDArray[np.int32], NDArray[np.int32], Columns]],
    last_slab: NDArray[np.integer],
    sound: Callable[[Columns], NDArray[np.bool_]],
) -> tuple[NDArray[np.int32], Graph]:
    """Join nodes with a sound contact; return the part of each node, and the graph of the contacts that are not (1).

    Parameters
    ----------
    nodes : number of nodes
    slabs : u, v and columns of each slab's edges; a contact of several slabs is the sum of its parts
    last_slab : (nodes,) the last slab, counted from 0, that has an edge of each node
    sound : function from the columns of contacts to whether they are sound
    """
    part, none = np.arange(nodes, dtype=np.int32), np.empty(0, np.int32)
    unfinished, doubtful = Graph(nodes, none, none, []), Graph(nodes, none, none, [])
    for number, (u, v, columns) in enumerate(slabs):
        unfinished.add_edges(u, v, columns)
        known = (last_slab[unfinished.u] <= number) & (last_slab[unfinished.v] <= number)
        u, v, columns = unfinished.u[known], unfinished.v[known], [column[known] for column in unfinished.columns]
        unfinished.keep_edges(~known)
        joins = sound(columns)
        target = _joined(nodes, part[u[joins]], part[v[joins]])
        part = target[part]
        doubtful.contract(target)
        u, v, order, start = group_edges(part[u[~joins]], part[v[~joins]])
        doubtful.add_edges(u, v, [sum_groups(column[~joins], order, start) for column in columns])
    return part, doubtful


def large_parts(
    part: NDArray[np.int32], size: NDArray[np.int64], graph: Graph, sound: SoundContact
) -> tuple[NDArray[np.int32], Graph]:
    """Join parts whose summed contact is sound, and small parts with a neighbour (2).

    Parameters
    ----------
    part : (components,) part of each component, named by one of them
    size : (components,) voxels
    graph : contacts between parts; contracted in place
    sound : what makes a contact sound
    """
    part = _joined_while_sound(part, graph, sound)
    edges = (
        Edges(graph.u, graph.v, graph.columns[PAIRS], graph.columns[BOUNDARY], None) if len(graph) else Edges.empty()
    )
    joined = join_small_objects(part, size, [edges], sound.suspected.min_size)  # a part is named by a component
    target = np.arange(graph.nodes, dtype=np.int32)
    first = np.full(int(joined.max(initial=-1)) + 1, graph.nodes, np.int32)
    np.minimum.at(first, joined, np.arange(len(joined), dtype=np.int32))
    target[part] = first[joined]
    graph.contract(target)
    return _joined_while_sound(target[part], graph, sound), graph


def _joined_while_sound(part: NDArray[np.int32], graph: Graph, sound: SoundContact) -> NDArray[np.int32]:
    while len(graph):
        joins = sound(graph.columns)
        if not joins.any():
            break
        target = _joined(graph.nodes, graph.u[joins], graph.v[joins])
        graph.contract(target)
        part = target[part]
    return part


def _joined(nodes: int, u: NDArray[np.int32], v: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the lowest node that each node is connected with."""
    labels = connected_component_labels(nodes, np.stack([u, v], axis=1).astype(np.int64))
    lowest = np.full(int(labels.max(initial=-1)) + 1, nodes, np.int32)
    np.minimum.at(lowest, labels, np.arange(nodes, dtype=np.int32))
    return lowest[labels]


def contact_sums(
    parts: NDArray[np.int32], box: Box, read: Box, offsets: Sequence[Offset], found: SuspectedMerges
) -> NDArray[np.int64]:
    """Return where the contacts of the pairs lie, in sums over the voxel pairs that begin in a block (4).

    Parameters
    ----------
    parts : (z, y, x) int32, part of each voxel of the box `read`; -1 = none
    box, read : the block, and the box that holds both voxels of every pair
    offsets : offsets between the voxels of a pair, as the region graph has them
    found : the pairs of parts

    Returns
    -------
    (2, n, 4) int64, of pairs of adjacent voxels and of all others: their number, and the sums of the z, y and x of both
    voxels in the volume

    >>> row = Box((0, 0, 4), (1, 1, 7))
    >>> pair = SuspectedMerges(np.zeros(0), np.zeros(0), np.array([0]), np.array([1]), [])
    >>> contact_sums(np.array([[[0, 0, 1]]], np.int32), row, row, [(0, 0, 1)], pair)[0].tolist()
    [[1, 0, 0, 11]]
    """
    sums = np.zeros((2, len(found), 4), np.int64)
    listed = np.zeros(int(max(parts.max(initial=0), found.v.max(initial=0))) + 1, bool)
    listed[found.u], listed[found.v] = True, True
    keys = pack_pairs(found.u, found.v)
    for offset in offsets:
        first = read.shifted(tuple(-d for d in offset)).intersected(box)
        one = parts[first.relative_to(read.start).slices]
        other = parts[first.shifted(offset).relative_to(read.start).slices]
        voxels = np.nonzero((one != other) & (one >= 0) & (other >= 0) & listed[one] & listed[other])
        a, b = one[voxels], other[voxels]
        key = pack_pairs(np.minimum(a, b), np.maximum(a, b))
        pair = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
        known = keys[pair] == key
        of_kind = sums[int(not is_nearest(offset))]
        np.add.at(of_kind[:, 0], pair[known], 1)
        for axis in range(3):
            both = 2 * (voxels[axis][known] + first.start[axis]) + offset[axis]
            np.add.at(of_kind[:, 1 + axis], pair[known], both)
    return sums


def contact_centres(sums: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the middle voxel (n, 3) of each contact from its sums: of adjacent voxels if there are any, else of all.

    >>> contact_centres(np.array([[[2, 0, 4, 22]], [[0, 0, 0, 0]]])).tolist()
    [[0, 1, 5]]
    """
    near, far = sums
    chosen = np.where(near[:, :1] > 0, near, far)
    return chosen[:, 1:] // (2 * np.maximum(chosen[:, :1], 1))
