"""Score every threshold of the agglomeration on a volume with labels, without touching a voxel twice.

The labels are compared once with the unions of fragments; what a threshold makes of these is a look-up in that table.
"""

import logging
from pathlib import Path

import numpy as np

from unet.config.segment import AgglomerateConfig, SegmentConfig
from unet.evaluation.contingency import Contingency, adapted_rand_error, contingency, variation_of_information
from unet.geometry.box import Box
from unet.jobs.log_line import format_values
from unet.jobs.progress import Progress
from unet.jobs.script import run_script
from unet.segmentation.fragments import join_blocks, load_block_table
from unet.segmentation.merging import objects_of
from unet.segmentation.region_graph import EdgeParts, gather_edges, load_edges
from unet.storage.digests import fingerprint, receipts_digest
from unet.storage.files import read_json, write_json
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
    receipt: Path,
    folder: Path,
    segment: SegmentConfig,
    ignore_id: int | None,
    code: str,
) -> None:
    """Write the scores at each threshold."""
    source, dimensions = Volume.open(folder, survey), read_json(check_model)["dimensions"]
    normalisation = Normalisation.of(read_json(intensity_statistics)["statistics"])
    boxes = source.layout.grid.boxes()
    fragments = join_blocks(
        source.layout.grid, (load_block_table(source.tables("segmentation").of(box)) for box in boxes)
    )
    tables = (load_edges(source.edges("segmentation").of(box)) for box in boxes)
    united = fragments.united()
    graph = EdgeParts.whole(gather_edges(fragments, tables, segment.agglomerate.method == "quantile"), united.parts)
    table, progress = Contingency.empty(), Progress("agglomeration_sweep", len(boxes), "blocks")
    part = np.concatenate([[0], fragments.part + 1])
    for number, box in enumerate(boxes):
        local = source.image("segmentation-fragments").read(box).astype(np.int64)
        unions = part[np.where(local > 0, local + fragments.offsets[number], 0)]
        tissue = source.tissue(box, normalisation, bridged=dimensions == 3)
        table += contingency(_labels(source, box, tissue, ignore_id), unions)
        progress.advance(1)
    rows = []
    for threshold in THRESHOLDS:
        settings = AgglomerateConfig(**{**segment.agglomerate.model_dump(), "threshold": threshold})
        objects = objects_of(united, graph, settings, source.section_voxels(segment.connectivity))
        rows.append({"threshold": threshold, **_scores(table.renamed(np.concatenate([[0], objects + 1])))})
    best = min(rows, key=lambda row: row.get("voi", float("inf")))
    log.info("best of %d thresholds: %s", len(rows), format_values(best))
    write_json(
        receipt,
        {
            "rule": "agglomeration_threshold_sweep",
            "digest": fingerprint(
                made=receipts_digest([*segmented, *edges, *labelled]), rows=rows, ignore_id=ignore_id, code=code
            ),
            "voxels": table.voxels,
            "scores": rows,
        },
    )


def _labels(source: Volume, box: Box, tissue: np.ndarray | None, ignore_id: int | None) -> np.ndarray:
    """True ids; 0 where nobody has annotated, or there is no tissue."""
    labels = source.image("labels").read(box)
    known = np.where(labels == ignore_id, 0, labels) if ignore_id else labels
    return known if tissue is None else known * tissue


def _scores(table: Contingency) -> dict[str, float]:
    if not table.voxels:
        return {}
    split, merge = variation_of_information(table)
    return {
        "voi": split + merge,
        "voi_split": split,
        "voi_merge": merge,
        "adapted_rand_error": adapted_rand_error(table),
    }


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
