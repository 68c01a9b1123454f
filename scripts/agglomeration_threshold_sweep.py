"""Score the segmentation of a labelled volume at every threshold of the agglomeration.

Inputs: the fragments and their region graph, `labels.zarr`.

Outputs: a receipt with VOI and adapted Rand error at thresholds 0.05, 0.10, ... 0.95.

1. Join the fragments that touch across block borders into components, whose edges make the region graph.
2. Read the labels block by block and count the voxels of each pair of true object and component: a contingency table.
3. For each threshold, agglomerate the components and rename them in the table. No voxel is read a second time.
"""

import logging
from pathlib import Path

import numpy as np

from unet.config.segment import AgglomerateConfig, SegmentConfig
from unet.evaluation.contingency import Contingency, contingency
from unet.evaluation.decoders import scores_of
from unet.geometry.offsets import affinity_offsets
from unet.jobs.log_line import format_values
from unet.jobs.progress import Progress
from unet.jobs.script import run_script
from unet.segmentation.affinities import require_method_for
from unet.segmentation.affinity_graph import load_affinity_edges
from unet.segmentation.edge_slabs import EdgeSlabs, gather_edges
from unet.segmentation.fragments import join_blocks, load_block_table
from unet.segmentation.merging import solve_objects
from unet.segmentation.region_graph import load_edges
from unet.storage.digests import fingerprint, receipts_digest
from unet.storage.files import read_json, write_receipt
from unet.training.held_back import only_sections
from unet.volumes.intensity import Normalisation
from unet.volumes.volume import Volume

THRESHOLDS = [percent / 100 for percent in range(5, 100, 5)]

log = logging.getLogger(__name__)


def main(
    survey: Path,
    check_model: Path,
    intensity_statistics: Path,
    segmented: list[Path],
    edges: list[Path],
    labelled: list[Path],
    checked: list[Path],
    receipt: Path,
    folder: Path,
    segment: SegmentConfig,
    code: str,
) -> None:
    """Write the scores at each threshold to `receipt`.

    `checked` is the receipt of `check_labels`. If the training has left out sections, only they count.
    """
    source, dimensions = Volume.open(folder, survey), read_json(check_model)["dimensions"]
    normalisation = Normalisation.of(read_json(intensity_statistics)["statistics"])
    boxes = source.layout.grid.boxes()
    fragments = join_blocks(
        source.layout.grid, (load_block_table(source.fragment_tables("segmentation").of(box)) for box in boxes)
    )
    offsets = affinity_offsets(source.image("probability").spec.channels)
    require_method_for(segment, offsets)
    paths = (source.edge_tables("segmentation").of(box) for box in boxes)
    tables = (load_affinity_edges(path).as_boundary() if offsets else load_edges(path) for path in paths)
    components = fragments.merge_components()
    graph = EdgeSlabs.whole(
        gather_edges(fragments, tables, segment.agglomerate.method == "quantile"), components.component_count
    )
    held_back = [z for path in checked for z in read_json(path)["held_back"]]
    table, progress = Contingency.empty(), Progress("agglomeration_sweep", len(boxes), "blocks")
    component_of = np.concatenate([[0], fragments.component_of + 1])
    for number, box in enumerate(boxes):
        local = source.image("segmentation-fragments").read(box).astype(np.int64)
        components_here = component_of[np.where(local > 0, local + fragments.offsets[number], 0)]
        truth = source.scored_ids(box, normalisation, dimensions == 3)
        table += contingency(only_sections(truth, box, held_back), components_here)
        progress.advance(1)
    rows = []
    for threshold in THRESHOLDS:
        settings = AgglomerateConfig(**{**segment.agglomerate.model_dump(), "threshold": threshold})
        objects = solve_objects(components, graph, settings, source.section_voxels(segment.connectivity))
        rows.append({"threshold": threshold, **scores_of(table, objects)})
    best = min(rows, key=lambda row: row.get("voi_split", float("inf")) + row.get("voi_merge", 0))
    log.info("best of %d thresholds: %s", len(rows), format_values(best))
    write_receipt(
        receipt,
        {
            "rule": "agglomeration_threshold_sweep",
            "digest": fingerprint(
                made=receipts_digest([*segmented, *edges, *labelled, *checked]), rows=rows, code=code
            ),
            "voxels": table.voxels,
            "scores": rows,
        },
    )


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
