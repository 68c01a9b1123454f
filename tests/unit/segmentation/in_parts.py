"""Merge a volume in a tree of parts, as the jobs of a run do, in memory."""

from collections.abc import Callable

import numpy as np

from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.geometry.part_tree import TreePart
from unet.segmentation.fragments import BlockTable
from unet.segmentation.merge_part import GraphEdges, Part, join_parts, read_part, settle_part
from unet.segmentation.merge_table import MergeTable
from unet.segmentation.merge_tree import Outcome, object_tables
from unet.segmentation.settling import MergeRules

NUMBERED = ("lut", "first_voxel", "sizes", "class_values")


def merged_in_parts(
    grid: Grid,
    tree: TreePart,
    table_of: Callable[[Box], BlockTable],
    edges_of: Callable[[Box], GraphEdges] | None = None,
    contact_distance: int = 0,
    rules: MergeRules = MergeRules(),  # noqa: B008
    first_id: int = 1,
    min_size: int = 0,
) -> tuple[MergeTable, list[Part]]:
    """Return the merge table, and what was live in each part."""
    outcomes, live = dict[TreePart, Outcome](), list[Part]()

    def merge(one: TreePart) -> Part:
        if one.children:
            inputs = [merge(child) for child in one.children]
            part, into = join_parts(grid, inputs, contact_distance)
            starts = np.cumsum([0, *(len(part.nodes) for part in inputs)])
        else:
            part, fragments = read_part(grid, one.layers, table_of, edges_of, contact_distance)
            into, starts = fragments.component_of, fragments.offsets
        part, objects, became = settle_part(part, rules)
        outcomes[one] = Outcome(objects, became[into], starts)
        live.append(part)
        return part

    merge(tree)
    count = sum(int(found.objects.is_object(min_size).sum()) for found in outcomes.values())
    pieces = list(object_tables(grid, tree, outcomes.__getitem__, count, first_id, min_size))
    columns = (np.concatenate([getattr(piece, name) for piece in pieces]) for name in NUMBERED)
    offsets = np.cumsum(np.concatenate([[0], *(np.diff(outcomes[leaf].starts) for leaf in tree.leaves())]))
    return MergeTable(*columns, offsets=offsets, first_id=first_id), live
