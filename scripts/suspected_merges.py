"""List where two large parts of one object are connected by a small or weak contact: suspected merge errors.

Inputs: the fragment tables of `segment`, the edges of `region_graph`, the merge table, `segmentation-fragments.zarr`.

Outputs: `suspected_merges.csv`, and a receipt with the pairs of the largest parts.

1. Within each large object, join the fragments whose contact is neither small nor weak. What is left are its parts.
2. List the pairs of large parts that touch, with their sizes and the number and score of their voxel pairs.
3. Read the blocks with such a contact again, to find where it lies. The position is the mean of its voxel pairs.
"""

import csv
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unet.config.segment import AFFINITY_METHODS, SegmentConfig
from unet.geometry.box import Box
from unet.geometry.offsets import Offset, affinity_offsets
from unet.jobs.script import run_script
from unet.segmentation.affinities import graph_channels
from unet.segmentation.affinity_graph import graph_read_box, load_affinity_edges
from unet.segmentation.edge_slabs import FRAGMENTS_PER_SLAB, EdgeSlabs, edges_in_slabs
from unet.segmentation.fragments import Fragments, join_blocks, load_block_table
from unet.segmentation.merge_table import load_merge_table
from unet.segmentation.merging import WHOLE_GRAPH
from unet.segmentation.region_graph import Edges, compact_ids, contact_steps, fragment_ids, load_edges, pack_pairs
from unet.segmentation.suspected_merges import (
    PAIRS,
    TOUCHING,
    SoundContact,
    SuspectedMerges,
    contact_centres,
    contact_sums,
    find_suspected_merges,
)
from unet.segmentation.volume_merge import chosen_settings
from unet.storage.digests import bytes_digest, fingerprint, receipts_digest
from unet.storage.files import write_atomically, write_receipt
from unet.volumes.volume import Volume

SHOWN_PAIRS = 10
"""Pairs in the receipt, which the report shows."""

log = logging.getLogger(__name__)


def main(
    survey: Path,
    segmented: list[Path],
    edges: list[Path],
    merged: Path,
    receipt: Path,
    table: Path,
    folder: Path,
    segment: SegmentConfig,
    code: str,
    threshold: Path | None = None,
    decoder: Path | None = None,
) -> None:
    """Write the pairs to `table`.

    `threshold` is the receipt of `choose_agglomeration_threshold`, `decoder` that of `choose_decoder`.
    """
    segment = chosen_settings(segment, threshold, decoder)
    assert segment.suspected_merges is not None
    agglomerate = segment.agglomerate
    source, store = Volume.open(folder, survey), "segmentation"
    grid, tables = source.layout.grid, source.fragment_tables(store)
    offsets = affinity_offsets(source.image("probability").spec.channels)
    fragments = join_blocks(grid, (load_block_table(tables.of(box)) for box in grid.boxes()))
    at_once = len(fragments.size) + 1 if agglomerate.method in WHOLE_GRAPH else FRAGMENTS_PER_SLAB

    def edges_of(pairs: Literal["all", "nearest"]) -> EdgeSlabs:
        def read(box: Box) -> Edges:
            path = source.edge_tables(store).of(box)
            return load_affinity_edges(path).as_boundary(pairs) if offsets else load_edges(path)

        return edges_in_slabs(fragments, grid, read, agglomerate.method == "quantile", at_once)

    object_of = np.zeros(fragments.component_count, np.uint64)
    object_of[fragments.component_of] = load_merge_table(source.merge_table(store)).lut
    sound = SoundContact(agglomerate, segment.suspected_merges)
    touching = edges_of("nearest") if offsets else None
    found = find_suspected_merges(fragments.merge_components(), object_of, edges_of("all"), touching, sound)
    rows = _rows(source, found, sound, object_of, _centres(source, segment, fragments, offsets, found))
    content = _csv(rows, agglomerate.method in AFFINITY_METHODS)
    write_atomically(table, content)
    log.info("%s: %d pair(s) of large parts are connected by a small or weak contact", source.name, len(rows))
    made = receipts_digest([*segmented, *edges, merged])
    digest = fingerprint(made=made, table=bytes_digest(content), code=code)
    write_receipt(
        receipt, {"rule": "suspected_merges", "digest": digest, "pairs": len(rows), "largest": rows[:SHOWN_PAIRS]}
    )


def _centres(
    source: Volume,
    segment: SegmentConfig,
    fragments: Fragments,
    all_offsets: list[Offset] | None,
    found: SuspectedMerges,
) -> NDArray[np.int64]:
    """Return the middle voxel (n, 3) of each contact, from the blocks that have some of its voxel pairs."""
    grid, shape, offsets = source.layout.grid, source.layout.shape, _graph_offsets(segment, all_offsets)
    sums, keys = np.zeros((2, len(found), 4), np.int64), pack_pairs(found.u, found.v)
    tables = source.edge_tables("segmentation")
    for box in grid.boxes() if len(found) else []:
        path = tables.of(box)
        edges = load_affinity_edges(path) if all_offsets else load_edges(path)
        u, v = (_parts_of(ids, fragments, found) for ids in (edges.u, edges.v))
        if not np.isin(pack_pairs(np.minimum(u, v), np.maximum(u, v)), keys).any():
            continue
        read = graph_read_box(box, offsets, shape)
        ids = fragment_ids(source.image("segmentation-fragments").read(read), read, grid)
        sums += contact_sums(_parts_of(ids, fragments, found), box, read, offsets, found)
    return contact_centres(sums)


def _graph_offsets(segment: SegmentConfig, offsets: list[Offset] | None) -> Sequence[Offset]:
    """Return the offsets between the voxels of a pair that the region graph counts."""
    if offsets is None:
        return contact_steps(segment)
    section = segment.connectivity == "section"
    return [offsets[i] for i in graph_channels(offsets, segment.max_offset_px, segment.max_section_gap, section)]


def _parts_of(ids: NDArray[np.uint64], fragments: Fragments, found: SuspectedMerges) -> NDArray[np.int32]:
    """Return the part of fragments by their ids of `fragment_ids`; -1 where there is none."""
    known, index = compact_ids(ids)
    block, label = (known >> np.uint64(32)).astype(np.int64), (known & np.uint64(0xFFFFFFFF)).astype(np.int64)
    number = np.where(label > 0, fragments.offsets[block] + label - 1, 0)
    part = np.where(label > 0, found.part_of[fragments.component_of[number]], np.int32(-1))
    return part[index]


def _rows(
    source: Volume,
    found: SuspectedMerges,
    sound: SoundContact,
    object_of: NDArray[np.uint64],
    centres: NDArray[np.int64],
) -> list[dict[str, Any]]:
    """Return a row for each pair, the pair of the largest smaller parts first."""
    id_of_part = np.zeros(len(found.size), np.uint64)
    id_of_part[found.part_of] = object_of
    score, layout = sound.score(found.columns), source.layout
    weak, small = sound.is_weak(found.columns), sound.is_small(found.columns)
    rows = []
    for i, (u, v) in enumerate(zip(found.u.tolist(), found.v.tolist(), strict=True)):
        smaller, larger = sorted(found.size[[u, v]].tolist())
        centre = centres[i].tolist()
        nm = [o + s * c for o, s, c in zip(layout.offset_nm, layout.voxel_size_nm, centre, strict=True)]
        affinity = sound.agglomerate.method in AFFINITY_METHODS
        rows.append(
            {
                "object": int(id_of_part[u]),
                "centre": centre,
                "centre_nm": nm,
                "larger": larger,
                "smaller": smaller,
                "contacts": int(found.columns[TOUCHING][i]),
                "pairs": int(found.columns[PAIRS][i]),
                "score": round(1 - float(score[i]) if affinity else float(score[i]), 6),
                "reason": " and ".join(word for word, holds in (("small", small[i]), ("weak", weak[i])) if holds),
            }
        )
    return sorted(rows, key=lambda row: (-row["smaller"], -row["larger"], row["object"], row["centre"]))


def _csv(rows: Sequence[dict[str, Any]], affinities: bool) -> bytes:
    """Return the rows as a table: one line per pair."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    places = ("z", "y", "x", "z_nm", "y_nm", "x_nm")
    columns = ("larger", "smaller", "contacts", "pairs", "score", "reason")
    names = {"larger": "larger_voxels", "smaller": "smaller_voxels"}
    names["score"] = "affinity" if affinities else "boundary"
    writer.writerow(["object", *places, *(names.get(column, column) for column in columns)])
    for row in rows:
        writer.writerow([row["object"], *row["centre"], *row["centre_nm"], *(row[column] for column in columns)])
    return text.getvalue().encode()


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
