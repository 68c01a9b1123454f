"""The tree of parts of a volume, and the ids of all objects once the last part is merged.

Ids are assigned in scan order of the objects' first voxels. A part covers a contiguous range of the scan order. The
objects with their first voxel in a leaf are settled in the leaf, or in a part around it. `object_tables` goes from leaf
to leaf: it sorts these objects by their first voxels, gives them the next ids, and looks up the id of each fragment.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet.geometry.grid import Grid
from unet.segmentation.merge_table import ObjectTable, id_dtype
from unet.segmentation.settling import Nodes


class TreePart(NamedTuple):
    """A part of the tree: its layers of blocks, and the parts that it joins; none for a leaf."""

    layers: range
    children: "tuple[TreePart, ...]" = ()

    @property
    def name(self) -> str:
        """Name of the part in files: first layer and the layer behind the last one."""
        return f"{self.layers.start}-{self.layers.stop}"

    def leaves(self) -> "Iterator[TreePart]":
        """Yield the leaves from the first layer to the last one."""
        if not self.children:
            yield self
        for child in self.children:
            yield from child.leaves()

    def joins(self) -> "Iterator[TreePart]":
        """Yield the parts that join others, each behind those that it joins."""
        for child in self.children:
            yield from child.joins()
        if self.children:
            yield self


def tree_of_parts(layers: int, per_leaf: int, fan_out: int = 8) -> TreePart:
    """Return the tree over all layers of blocks: leaves of `per_leaf` layers, of which `fan_out` are joined at a time.

    >>> tree = tree_of_parts(7, 2, 2)
    >>> [part.name for part in tree.leaves()], [part.name for part in tree.joins()]
    (['0-2', '2-4', '4-6', '6-7'], ['0-4', '4-7', '0-7'])
    """
    level = [TreePart(range(start, min(start + per_leaf, layers))) for start in range(0, layers, per_leaf)]
    while len(level) > 1:
        groups = [tuple(level[i : i + fan_out]) for i in range(0, len(level), fan_out)]
        level = [
            TreePart(range(group[0].layers.start, group[-1].layers.stop), group) if len(group) > 1 else group[0]
            for group in groups
        ]
    return level[0]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the merge of a part settled.

    Attributes
    ----------
    objects : settled objects, by their first voxels
    became : (inputs,) int64, i for live node i, ``-1 - i`` for settled object i. The inputs of a leaf are its
        fragments; those of another part are the live nodes of the parts that it joins, one part after the other.
    starts : (n + 1,) int64, the first input of each block of a leaf, or of each part that is joined
    """

    objects: Nodes
    became: NDArray[np.int64]
    starts: NDArray[np.int64]

    def counts(self, min_size: int) -> NDArray[np.bool_]:
        """Return True for the objects that get an id: no background, and `min_size` voxels or more."""
        return (self.objects.size >= min_size) & (self.objects.class_value > 0)

    def begin_in(self, start: int, stop: int, min_size: int) -> NDArray[np.int64]:
        """Return the objects that get an id and have their first voxel from `start` up to `stop`."""
        first, last = np.searchsorted(self.objects.first_voxel, [start, stop])
        return first + np.flatnonzero(self.counts(min_size)[first:last])

    def ids_of_inputs(self, inputs: slice, ids: NDArray[Any], of_live: NDArray[Any]) -> NDArray[Any]:
        """Return the ids of some inputs, from the ids of all objects and of all live nodes."""
        return np.concatenate([of_live, ids[::-1]])[self.became[inputs]]


def object_tables(
    grid: Grid, tree: TreePart, outcome_of: Callable[[TreePart], Outcome], objects: int, first_id: int, min_size: int
) -> Iterator[ObjectTable]:
    """Yield the final ids of each leaf's fragments, and the objects that have their first voxel in the leaf.

    Parameters
    ----------
    grid : blocks of the volume
    tree : all parts
    outcome_of : function that reads the outcome of a part; those of leaves are read one at a time
    objects : number of objects that get an id
    first_id, min_size : see `unet.segmentation.merge_table.number_objects`
    """
    dtype, next_id = id_dtype(first_id, objects), first_id
    outcomes = {part: outcome_of(part) for part in tree.joins()}
    ids = {part: np.zeros(len(found.objects), dtype) for part, found in outcomes.items()}
    voxels = prod(grid.shape[1:]) * grid.block[0]
    for leaf, around in _leaves_with_ancestors(tree, ()):
        own = outcomes[leaf] = outcome_of(leaf)
        ids[leaf] = np.zeros(len(own.objects), dtype)
        start, stop = leaf.layers.start * voxels, leaf.layers.stop * voxels
        begun = [(part, outcomes[part].begin_in(start, stop, min_size)) for part in (*around, leaf)]
        rows = Nodes.concatenate([outcomes[part].objects.select(which) for part, which in begun])
        order = np.argsort(rows.first_voxel)
        new = np.empty(len(order), dtype)
        new[order] = np.arange(len(order), dtype=dtype) + dtype.type(next_id)
        next_id += len(order)
        for part, which in begun:
            ids[part][which], new = new[: len(which)], new[len(which) :]
        of_live = _ids_of_live_nodes(around, leaf, outcomes, ids)
        lut = own.ids_of_inputs(slice(None), ids.pop(leaf), of_live)
        del outcomes[leaf]
        rows = rows.select(order)
        yield ObjectTable(lut, rows.first_voxel, rows.size, rows.class_value)


def _leaves_with_ancestors(
    part: TreePart, around: tuple[TreePart, ...]
) -> Iterator[tuple[TreePart, tuple[TreePart, ...]]]:
    """Yield each leaf, and the parts around it from the largest on."""
    if not part.children:
        yield part, around
    for child in part.children:
        yield from _leaves_with_ancestors(child, (*around, part))


def _ids_of_live_nodes(
    around: tuple[TreePart, ...], leaf: TreePart, outcomes: dict[TreePart, Outcome], ids: dict[TreePart, NDArray[Any]]
) -> NDArray[Any]:
    """Return the ids of the live nodes of a leaf, which the parts around it have settled."""
    of_live = ids[leaf][:0]
    for part, child in pairwise((*around, leaf)):
        found, number = outcomes[part], part.children.index(child)
        of_live = found.ids_of_inputs(slice(*found.starts[number : number + 2]), ids[part], of_live)
    return of_live
