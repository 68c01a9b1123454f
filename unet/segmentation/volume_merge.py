"""Merge the parts of a stored volume: which tables a part reads, and what it leaves for the part around it."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unet.config.segment import SegmentConfig
from unet.geometry.box import Box
from unet.geometry.offsets import Offset, affinity_offsets
from unet.geometry.part_tree import TreePart
from unet.segmentation.affinities import require_method_for
from unet.segmentation.affinity_graph import load_affinity_edges
from unet.segmentation.fragments import BlockTable, load_block_table
from unet.segmentation.merge_part import GraphEdges, Part, join_parts, read_part, settle_part
from unet.segmentation.merge_tree import Outcome
from unet.segmentation.part_files import count_settled, load_outcome, load_part, part_paths, save_outcome, save_part
from unet.segmentation.region_graph import load_edges
from unet.segmentation.settling import MergeRules
from unet.segmentation.volume_graph import largest_contact_distance
from unet.storage.files import read_json
from unet.volumes.volume import Volume


def chosen_settings(segment: SegmentConfig, threshold: Path | None, decoder: Path | None) -> SegmentConfig:
    """Return the settings with the chosen values filled in.

    `threshold` is the receipt of `choose_agglomeration_threshold`, `decoder` that of `choose_decoder`.
    """
    if threshold is not None:
        chosen = {"threshold": read_json(threshold)["best"]["threshold"]}
        segment = segment.model_copy(update={"agglomerate": segment.agglomerate.model_copy(update=chosen)})
    return segment if decoder is None else segment.decoded_by(read_json(decoder)["settings"])


@dataclass(frozen=True)
class VolumeMerge:
    """Merge of the fragments of one store of a volume.

    Parameters
    ----------
    source : Volume
        Volume with the tables of `segment`, and of `region_graph` where there is a graph.
    store : str
        ``segmentation`` or ``labels``.
    segment : SegmentConfig
        Settings, with the chosen values filled in.
    """

    source: Volume
    store: str
    segment: SegmentConfig

    @property
    def with_graph(self) -> bool:
        """True where a region graph decides what is joined. Without one, fragments that touch are one object."""
        return self.segment.has_graph

    @cached_property
    def offsets(self) -> list[Offset] | None:
        """Offsets of the affinities that were predicted; None for classes, or where there is no graph."""
        return affinity_offsets(self.source.image("probability").spec.channels) if self.with_graph else None

    @cached_property
    def rules(self) -> MergeRules:
        """Rules by which fragments become objects."""
        if not self.with_graph:
            return MergeRules()
        require_method_for(self.segment, self.offsets)
        section = self.source.section_voxels(self.segment.connectivity)
        joins = self.segment.agglomerate if self.segment.method == "watershed" else None
        return MergeRules(joins, section, self.segment.fill_holes)

    @cached_property
    def contact_distance(self) -> int:
        """Largest distance of two voxels in contact along z, in sections."""
        return largest_contact_distance(self.segment, self.offsets) if self.with_graph else 0

    def merge(self, part: TreePart) -> tuple[Part, Outcome]:
        """Return the live nodes of a part, and the objects that it settled. The parts that it joins must be merged."""
        grid = self.source.layout.grid
        if part.children:
            inputs = [load_part(self._paths(child)[1]) for child in part.children]
            joined, into = join_parts(grid, inputs, self.contact_distance)
            starts = np.cumsum([0, *(len(one.nodes) for one in inputs)])
        else:
            edges_of = self._edges if self.with_graph else None
            joined, fragments = read_part(grid, part.layers, self._table, edges_of, self.contact_distance)
            into, starts = fragments.component_of.astype(np.int64), fragments.offsets
        live, objects, became = settle_part(joined, self.rules)
        return live, Outcome(objects, became[into], starts)

    def save(self, part: TreePart, live: Part, outcome: Outcome) -> list[Path]:
        """Write what `merge` returned, and return the files."""
        settled_file, live_file = self._paths(part)
        settled_file.parent.mkdir(exist_ok=True)
        save_outcome(settled_file, outcome)
        save_part(live_file, live)
        return [settled_file, live_file]

    def count_settled(self, part: TreePart) -> tuple[int, NDArray[np.int64]]:
        """Return how many objects that a part settled get an id, and the first input of each of its blocks or parts."""
        return count_settled(self._paths(part)[0], self.segment.min_size)

    def load_outcome(self, part: TreePart) -> Outcome:
        """Read what a part settled."""
        return load_outcome(self._paths(part)[0])

    def _paths(self, part: TreePart) -> tuple[Path, Path]:
        return part_paths(self.source.merge_parts(self.store), part.name)

    def _table(self, box: Box) -> BlockTable:
        """Return the fragment table of a block."""
        return load_block_table(self.source.fragment_tables(self.store).of(box))

    def _edges(self, box: Box) -> GraphEdges:
        """Return the edges of a block; histograms only where a quantile needs them."""
        path = self.source.edge_tables(self.store).of(box)
        if self.offsets:
            return GraphEdges.of(load_affinity_edges(path))
        found = load_edges(path)
        return GraphEdges.of(found if self.segment.agglomerate.method == "quantile" else replace(found, histogram=None))
