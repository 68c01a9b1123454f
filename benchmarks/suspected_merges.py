"""Share of the suspected merge errors that are merge errors, on the affinities of fib25, whose true bodies are known.

    python benchmarks/suspected_merges.py                # ../shared/data/fib25/affinities.h5; a table, then JSON
    python benchmarks/suspected_merges.py --generated 24 # cells of a generated cube of that side, for a look alone

Average linkage at several thresholds, of which low ones merge. A listed pair is right if most labelled voxels of its
two parts are of two true bodies. `merges` is what there is to be found: true bodies with `min_size` voxels or more in
one object, less one.
"""

import argparse
import json
from typing import Any

import numpy as np
from affinity_decoding import CANDIDATES, Volume, fragments_of, generated, stored

from unet.config.segment import AgglomerateConfig, SuspectedMergesConfig
from unet.evaluation.contingency import Contingency, contingency
from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.segmentation.affinities import graph_channels
from unet.segmentation.affinity_graph import block_affinity_edges
from unet.segmentation.edge_slabs import EdgeSlabs, gather_edges
from unet.segmentation.merge_table import number_objects
from unet.segmentation.merging import solve_objects
from unet.segmentation.region_graph import fragment_ids
from unet.segmentation.suspected_merges import SoundContact, find_suspected_merges

THRESHOLDS = (0.2, 0.3, 0.5)
SETTINGS = [SuspectedMergesConfig(min_size=size) for size in (10_000, 5000, 2000)]


def body_of(table: Contingency) -> dict[int, int]:
    """Return the true body of most labelled voxels of each part; parts count from 1."""
    pairs = table.without_background
    order = np.lexsort((-pairs.count, pairs.segmentation))
    parts, first = np.unique(pairs.segmentation[order], return_index=True)
    return dict(zip(parts.tolist(), pairs.truth[order][first].tolist(), strict=True))


def merges(table: Contingency, min_size: int) -> int:
    """Count the true bodies of this size in one object, less one."""
    pairs = table.without_background
    _, bodies = np.unique(pairs.segmentation[pairs.count >= min_size], return_counts=True)
    return int((bodies - 1).sum())


def measured(name: str, volume: Volume) -> list[dict[str, Any]]:
    """Return a row per threshold and size."""
    fragments, labels = fragments_of(volume, CANDIDATES.fragments[1])
    box, components, rows = Box.of_shape(labels.shape), fragments.merge_components(), []
    used = graph_channels(volume.offsets, 3, None, section=False)
    ids = fragment_ids(labels, box, Grid(labels.shape, labels.shape))
    table = block_affinity_edges(ids, volume.affinities[used], box, box, [volume.offsets[c] for c in used])
    every, near = (
        EdgeSlabs.whole(gather_edges(fragments, [edges]), fragments.component_count)
        for edges in (table.as_boundary("all"), table.as_boundary("nearest"))
    )
    overlaps = contingency(volume.truth, np.concatenate([[0], fragments.component_of + 1])[labels])
    for threshold in THRESHOLDS:
        how = AgglomerateConfig(method="average_linkage", threshold=threshold, join_fragments_below=500)
        lut = number_objects(fragments, solve_objects(components, every, how, None)).lut.astype(np.int64)
        object_of = np.zeros(fragments.component_count, np.uint64)
        object_of[fragments.component_of] = lut
        of_objects = overlaps.relabelled(np.concatenate([[0], object_of]))
        for settings in SETTINGS:
            found = find_suspected_merges(components, object_of, every, near, SoundContact(how, settings))
            bodies = body_of(overlaps.relabelled(np.concatenate([[0], found.part_of + 1])))
            pairs = zip((found.u + 1).tolist(), (found.v + 1).tolist(), strict=True)
            ends = [(bodies.get(u, 0), bodies.get(v, 0)) for u, v in pairs]
            row = {
                **{"volume": name, "threshold": threshold, "min_size": settings.min_size},
                "merges": merges(of_objects, settings.min_size),
                **{"listed": len(found), "right": sum(u != v and 0 not in (u, v) for u, v in ends)},
            }
            print("|", " | ".join(map(str, row.values())), "|", flush=True)
            rows.append(row)
    return rows


def main() -> None:
    """Measure both volumes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generated", type=int, help="side of a generated cube instead of fib25")
    side = parser.parse_args().generated
    print("| volume | threshold | min_size | merges | listed | right |\n|---|---|---|---|---|---|")
    names = ["generated"] if side else ["train", "validation"]
    rows = [row for name in names for row in measured(name, generated(side, 0) if side else stored(name))]
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
