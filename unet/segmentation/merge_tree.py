"""The ids of all objects of a volume, once the last part of the tree of parts is merged.

Ids are assigned in scan order of the objects' first voxels. A part covers a contiguous range of the scan order. The
objects with their first voxel in a leaf are settled in the leaf, or in a part around it. `object_tables` goes from leaf
to leaf: it sorts these objects by their first voxels, gives them the next ids, and looks up the id of each fragment.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.geometry.grid import Grid
from unet.geometry.part_tree import TreePart
from unet.segmentation.merge_table import ObjectTable, id_dtype
from unet.segmentation.settling import Nodes


@dataclass(frozen=True, eq=False)
class Outcome:
    """Objects that the merge of a part settled.

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

    def begin_in(self, start: int, stop: int, min_size: int) -> NDArray[np.int64]:
        """Return the objects that get an id and have their first voxel from `start` up to `stop`."""
        first, last = np.searchsorted(self.objects.first_voxel, [start, stop])
        return first + np.flatnonzero(self.objects.is_object(min_size)[first:last])

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
