"""Score every combination of `segment.candidates` on a labelled volume.

Inputs: the candidate fragments and their region graphs, `labels.zarr`.

Outputs: a receipt with VOI and adapted Rand error of each combination.

1. For each set of fragments: join those that touch across block borders into components. Read the labels block by block
   and count the voxels of each pair of true object and component. Of a training volume only the sections count that
   the training left out.
2. For each largest offset: gather the edges between the components.
3. For each method, threshold and size: join the components, and rename them in the counts. No voxel is read again.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from unet.config.segment import SegmentConfig
from unet.evaluation.contingency import Contingency, contingency
from unet.evaluation.decoders import decoder_scores
from unet.geometry.box import Box
from unet.geometry.offsets import affinity_offsets
from unet.jobs.progress import Progress
from unet.jobs.script import run_script
from unet.segmentation.affinity_graph import load_affinity_edges
from unet.segmentation.edge_slabs import EdgeSlabs, gather_edges
from unet.segmentation.fragments import Fragments, join_blocks, load_block_table
from unet.segmentation.region_graph import load_edges
from unet.storage.digests import fingerprint, receipts_digest
from unet.storage.files import read_json, write_receipt
from unet.training.held_back import only_sections
from unet.volumes.intensity import Normalisation
from unet.volumes.volume import Volume

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
    """Write the scores of each combination to `receipt`."""
    source, dimensions = Volume.open(folder, survey), read_json(check_model)["dimensions"]
    normalisation = Normalisation.of(read_json(intensity_statistics)["statistics"])
    held_back = [z for path in checked for z in read_json(path)["held_back"]]
    affinities = affinity_offsets(source.image("probability").spec.channels) is not None
    decoders = segment.candidates.decoders(affinities)
    max_offsets = segment.candidates.offsets_for(affinities)
    section = source.section_voxels(segment.connectivity)

    def labels_of(box: Box) -> np.ndarray:
        return only_sections(source.scored_ids(box, normalisation, dimensions == 3), box, held_back)

    progress, rows, voxels = Progress("decoder_sweep", len(decoders), "decoders"), list[dict[str, Any]](), 0
    for number in range(len(segment.candidates.fragments)):
        boxes, tables = source.layout.grid.boxes(), source.candidate_tables(number)
        fragments = join_blocks(source.layout.grid, (load_block_table(tables.of(box)) for box in boxes))
        table = _overlaps(source, number, fragments, labels_of)
        components, voxels = fragments.merge_components(), table.voxels
        for n, max_offset in enumerate(max_offsets):
            graph = _graph(source, number, n, fragments, affinities)
            own = [one for one in decoders if (one.fragments, one.max_offset_px) == (number, max_offset)]
            for row in decoder_scores(table, components, graph, own, segment.agglomerate, section):
                rows.append(row)
                progress.advance(1)
    made = receipts_digest([*segmented, *edges, *labelled, *checked])
    digest = fingerprint(made=made, rows=rows, code=code)
    write_receipt(receipt, {"rule": "decoder_sweep", "digest": digest, "voxels": voxels, "scores": rows})


def _overlaps(source: Volume, number: int, fragments: Fragments, labels_of: Any) -> Contingency:
    """Return the voxels of each pair of true id and component (from 1) of a set of fragments."""
    table, component_of = Contingency.empty(), np.concatenate([[0], fragments.component_of + 1])
    stored = source.image("candidate-fragments")
    for block, box in enumerate(source.layout.grid.boxes()):
        truth = labels_of(box)
        if truth.any():
            local = stored.read(box)[number].astype(np.int64)
            table += contingency(truth, component_of[np.where(local > 0, local + fragments.offsets[block], 0)])
    return table


def _graph(source: Volume, number: int, n: int, fragments: Fragments, affinities: bool) -> EdgeSlabs:
    """Return the region graph of a set of fragments, with the offsets up to a largest one, in one slab."""
    paths = (source.candidate_tables(number, n).of(box) for box in source.layout.grid.boxes())
    blocks = (load_affinity_edges(path).as_boundary() if affinities else load_edges(path) for path in paths)
    return EdgeSlabs.whole(gather_edges(fragments, blocks, with_histogram=not affinities), fragments.component_count)


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
