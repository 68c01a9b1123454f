"""Join the fragments of all blocks to objects, in one global solve, and number these in scan order."""

import logging
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unet.config.segment import SegmentConfig
from unet.geometry.box import Box
from unet.jobs.journal import file_sizes
from unet.jobs.script import run_script
from unet.segmentation.fragments import BlockTable, join_blocks, load_block_table
from unet.segmentation.layered_merge import LayeredMerge
from unet.segmentation.merge_table import ObjectTable, id_dtype, number_objects, save_merge_table
from unet.segmentation.merging import objects_of, without_holes
from unet.segmentation.region_graph import FRAGMENTS_AT_ONCE, edges_in_parts, load_edges
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
) -> None:
    """Write the merge table, and create the store of the final ids, in uint64 where an id needs it.

    Without `edges` (the receipts of `region_graph`) fragments are parts of one object if and only if they touch;
    `threshold` is a choice of the agglomeration's.
    """
    if threshold is not None:
        chosen = {"threshold": read_json(threshold)["best"]["threshold"]}
        segment = segment.model_copy(update={"agglomerate": segment.agglomerate.model_copy(update=chosen)})
    source = Volume.open(folder, survey)
    solve = _solved if edges else _touching
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
            "unions": merged.unions,
            "objects": merged.objects,
            "dtype": dtype,
            "files": file_sizes(sorted(table.iterdir()), receipt),
        },
    )


class Merged(NamedTuple):
    """How many objects there are, and the final ids in pieces."""

    offsets: np.ndarray
    unions: int
    objects: int
    pieces: Iterable[ObjectTable]


def _touching(source: Volume, store: str, segment: SegmentConfig) -> Merged:
    """The fragments that touch are one object."""
    found = LayeredMerge.read(source.layout.grid, partial(_table, source, store), segment.first_id, segment.min_size)
    return Merged(found.offsets, found.unions, found.objects, found.numbered())


def _solved(source: Volume, store: str, segment: SegmentConfig) -> Merged:
    """One global solve over the region graph."""
    grid, method = source.layout.grid, segment.agglomerate.method
    fragments = join_blocks(grid, (_table(source, store, box) for box in grid.boxes()))
    at_once = len(fragments.size) + 1 if method == "multicut" else FRAGMENTS_AT_ONCE
    edges = edges_in_parts(
        fragments, grid, lambda box: load_edges(source.edges(store).of(box)), method == "quantile", at_once
    )
    objects = np.arange(fragments.parts, dtype=np.int32)
    if segment.method == "watershed":
        section = source.section_voxels(segment.connectivity)
        objects = objects_of(fragments.united(), edges, segment.agglomerate, section)
    if segment.fill_holes:
        objects = without_holes(fragments.joined(objects), objects, edges, segment.fill_holes)
    table = number_objects(fragments, objects, segment.first_id, segment.min_size)
    return Merged(table.offsets, fragments.parts, table.objects, [table])


def _table(source: Volume, store: str, box: Box) -> BlockTable:
    return load_block_table(source.tables(store).of(box))


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
