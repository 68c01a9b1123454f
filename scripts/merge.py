"""Join the fragments of all blocks into objects, and number the objects in scan order.

Inputs: the fragment tables of `segment`, and the edges of `region_graph` if fragments are agglomerated or holes filled.

Outputs: the merge table, which maps each fragment to its final id, and the store of the final ids, still empty.

1. Without a region graph: fragments that touch across block borders are one object. They are joined layer by layer.
2. With a region graph: components of touching fragments are agglomerated in one global step, and holes are filled.
3. Remove objects below `min_size`, and number the others consecutively in scan order of their first voxels.
"""

import logging
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from unet.config.segment import SegmentConfig
from unet.geometry.box import Box
from unet.geometry.offsets import affinity_offsets
from unet.jobs.journal import file_sizes
from unet.jobs.script import run_script
from unet.segmentation.affinities import require_method_for
from unet.segmentation.affinity_graph import load_affinity_edges
from unet.segmentation.fragments import BlockTable, join_blocks, load_block_table
from unet.segmentation.layered_merge import LayeredMerge
from unet.segmentation.merge_table import ObjectTable, id_dtype, number_objects, save_merge_table
from unet.segmentation.merging import WHOLE_GRAPH, fill_holes, solve_objects
from unet.segmentation.region_graph import FRAGMENTS_PER_SLAB, Edges, EdgeSlabs, edges_in_slabs, load_edges
from unet.storage.digests import fingerprint, receipts_digest
from unet.storage.files import read_json, write_json
from unet.volumes.volume import Volume

log = logging.getLogger(__name__)


def main(
    survey: Path,
    segmented: list[Path],
    receipt: Path,
    folder: Path,
    store: str,
    segment: SegmentConfig,
    code: str,
    edges: list[Path] | None = None,
    threshold: Path | None = None,
    decoder: Path | None = None,
) -> None:
    """Write the merge table, and create the store of the final ids in uint32, or in uint64 if an id needs it.

    Without `edges` (receipts of `region_graph`), fragments belong to one object exactly if they touch. `threshold` is
    the receipt of `choose_agglomeration_threshold`, `decoder` that of `choose_decoder`.
    """
    if threshold is not None:
        chosen = {"threshold": read_json(threshold)["best"]["threshold"]}
        segment = segment.model_copy(update={"agglomerate": segment.agglomerate.model_copy(update=chosen)})
    if decoder is not None:
        segment = segment.decoded_by(read_json(decoder)["settings"])
    source = Volume.open(folder, survey)
    solve = _agglomerated if edges else _touching
    merged = solve(source, store, segment)
    table = source.merge_table(store)
    lut = save_merge_table(table, merged.offsets, segment.first_id, merged.objects, merged.pieces)
    dtype = id_dtype(segment.first_id, merged.objects).name
    source.create(store, dtype, kind="label")
    fragments = int(merged.offsets[-1])
    log.info("%d fragments became %d objects", fragments, merged.objects)
    made = receipts_digest([*segmented, *(edges or [])])
    write_json(
        receipt,
        {
            "rule": "merge",
            "digest": fingerprint(lut=lut, dtype=dtype, made=made, code=code),
            "fragments": fragments,
            "components": merged.components,
            "objects": merged.objects,
            "dtype": dtype,
            "files": file_sizes(sorted(table.iterdir()), receipt),
        },
    )


class Merged(NamedTuple):
    """Result: the first fragment number of each block, counts of unions and objects, and the final ids in pieces."""

    offsets: np.ndarray
    components: int
    objects: int
    pieces: Iterable[ObjectTable]


def _touching(source: Volume, store: str, segment: SegmentConfig) -> Merged:
    """Return the objects if fragments that touch are one object."""
    found = LayeredMerge.read(source.layout.grid, partial(_table, source, store), segment.first_id, segment.min_size)
    return Merged(found.offsets, found.components, found.objects, found.object_tables())


def _agglomerated(source: Volume, store: str, segment: SegmentConfig) -> Merged:
    """Return the objects of one global agglomeration over the region graph."""
    grid, method = source.layout.grid, segment.agglomerate.method
    fragments = join_blocks(grid, (_table(source, store, box) for box in grid.boxes()))
    at_once = len(fragments.size) + 1 if method in WHOLE_GRAPH else FRAGMENTS_PER_SLAB
    offsets = affinity_offsets(source.image("probability").spec.channels)
    require_method_for(segment, offsets)

    def edges_of(pairs: Literal["all", "nearest"]) -> EdgeSlabs:
        def read(box: Box) -> Edges:
            path = source.edge_tables(store).of(box)
            return load_affinity_edges(path).as_boundary(pairs) if offsets else load_edges(path)

        return edges_in_slabs(fragments, grid, read, method == "quantile", at_once)

    objects = np.arange(fragments.component_count, dtype=np.int32)
    if segment.method == "watershed":
        section = source.section_voxels(segment.connectivity)
        objects = solve_objects(fragments.merge_components(), edges_of("all"), segment.agglomerate, section)
    if segment.fill_holes:
        objects = fill_holes(fragments.merge_objects(objects), objects, edges_of("nearest"), segment.fill_holes)
    table = number_objects(fragments, objects, segment.first_id, segment.min_size)
    return Merged(table.offsets, fragments.component_count, table.objects, [table])


def _table(source: Volume, store: str, box: Box) -> BlockTable:
    """Return the fragment table of a block."""
    return load_block_table(source.fragment_tables(store).of(box))


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
