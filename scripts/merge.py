"""Join the fragments of all blocks to objects, in one global solve, and number these in scan order."""

import logging
from pathlib import Path

import numpy as np

from unet.config import SegmentConfig
from unet.fragments import Fragments, join_blocks, load_block_table, number_objects, save_merge_table
from unet.job import run
from unet.merging import objects_of, without_holes
from unet.receipts import bytes_digest, content_digest, fingerprint, read_json, write_json
from unet.region_graph import gather_edges, load_edges
from unet.volume import Volume

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
    boxes = source.layout.grid.boxes()
    fragments = join_blocks(source.layout.grid, (load_block_table(source.table(store, box)) for box in boxes))
    objects = _solved(source, store, segment, fragments) if edges else np.arange(fragments.parts, dtype=np.int32)
    table = number_objects(fragments, objects, segment.first_id, segment.minimum_size)
    save_merge_table(source.merge_table(store), table)
    source.create(store, table.lut.dtype.name, kind="label")
    log.info("%d fragments became %d objects", len(table.lut), table.objects)
    lut = bytes_digest(table.lut.tobytes())
    made = content_digest([*segmented, *(edges or [])])
    write_json(
        receipt,
        {
            "rule": "merge",
            "digest": fingerprint(lut=lut, dtype=table.lut.dtype.name, made=made, code=code),
            "fragments": len(table.lut),
            "unions": fragments.parts,
            "objects": table.objects,
            "dtype": table.lut.dtype.name,
        },
    )


def _solved(source: Volume, store: str, segment: SegmentConfig, fragments: Fragments) -> np.ndarray:
    """The object of each union of fragments."""
    boxes, histograms = source.layout.grid.boxes(), segment.agglomerate.method == "quantile"
    edges = gather_edges(fragments, (load_edges(source.edges(store, box)) for box in boxes), histograms)
    log.info("%d edges between %d unions of fragments", len(edges), fragments.parts)
    objects = np.arange(fragments.parts, dtype=np.int32)
    if segment.method == "watershed":
        section = source.section_voxels(segment.connectivity)
        objects = objects_of(fragments.united(), edges, segment.agglomerate, section)
    if segment.fill_holes:
        objects = without_holes(fragments.joined(objects), objects, edges, segment.fill_holes)
    return objects


if __name__ == "__main__":
    run(main, globals().get("snakemake"))
