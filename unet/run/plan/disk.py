"""The stores of a volume on disk, from its shape: the exact number of files, and bytes by the compression seen.

A block has one file on each level of a store's pyramid, and each store and level one of metadata. Bytes per voxel of
the finest level are those of real and generated volumes (2026-11-25: ISBI 2012, vnc, fib25, the sample; zstd). Grey
values compress on every level of a pyramid alike, ids half as well on each level as on the one before.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from unet.config.root import Config
from unet.geometry.pyramid import pyramid_factors
from unet.run.rules import RULES
from unet.volumes.layout import VolumeLayout

RAW, PROBABILITY, FLOATS = 0.95, 0.65, 0.9
"""Compressed over uncompressed bytes: raw from 0.86 (fib25) to 0.98 (vnc); probability from 0.51 (vnc) to 0.77
(1 Gvoxel generated); never seen of float32."""
IDS = 0.08
"""Bytes per voxel of labels, segmentation, fragments and targets of affinities, whatever their type: 0.06 (vnc) to 0.12
(fib25)."""
BYTES_PER_VOXEL = {"mask": 0.01, "weights": 0.43, "targets": 0.05, "classes": 0.05}
"""Targets and classes: 0.04 to 0.05; weights: 0.40 (sample) to 0.49 (ISBI 2012)."""
BASINS = 0.15
"""Bytes per voxel of the fragments of a watershed in 3-D (fib25): smaller than cells, and in the membranes, too."""
TABLES = {False: 0.006, True: 0.1}
"""Bytes per voxel of tables, without and with the tables of edges: 0.09 (ISBI 2012, sections), 0.12 (fib25)."""
FILES_PER_PART = 2
"""Files that a job of `merge_part` writes: what is settled, and what is live."""
COARSER_IDS = 2.0
"""Bytes per voxel on a level of ids over bytes per voxel on the level before it."""


@dataclass(frozen=True)
class StorePlan:
    """A store: estimated bytes on disk, and files."""

    volume: str
    store: str
    bytes: float
    files: int


def store_plans(config: Config, volume: str, layout: VolumeLayout, stored: int) -> list[StorePlan]:
    """Return the stores that the rules of a run write for a volume.

    Parameters
    ----------
    stored : int
        Number of classes whose probabilities are kept.
    """
    own = config.volumes[volume]
    instances = own.labels and own.label_kind == "instances"
    ingested = {"raw": True, "mask": layout.masked, "labels": instances, "classes": own.labels and not instances}
    names = [
        name.format(store=store)
        for rule, one in RULES.items()
        for target, store in one.targets(config)
        if target == volume
        for name in one.stores
        if rule != "ingest" or ingested[name]
    ]
    return [_store_plan(config, volume, name, layout, stored) for name in dict.fromkeys(names)]


def _store_plan(config: Config, volume: str, store: str, layout: VolumeLayout, stored: int) -> StorePlan:
    blocks, voxels, segment = len(layout.grid), layout.voxels, config.segment
    if store == "candidate-tables":
        sets = len(segment.candidates.fragments)
        graphs = sets * len(segment.candidates.offsets_for(config.model.output == "affinities"))
        per_voxel = sets * TABLES[False] + graphs * (TABLES[True] - TABLES[False])
        return StorePlan(volume, store, voxels * per_voxel, blocks * (sets + graphs))
    if store.endswith("-tables"):
        from unet.segmentation.merge_table import FILES

        graph = store.startswith("segmentation") and segment.has_graph
        of_parts = FILES_PER_PART * RULES["merge_part"].job_count(config, layout)
        return StorePlan(volume, store, voxels * TABLES[graph], blocks * (1 + graph) + of_parts + len(FILES))
    with_pyramid, ids = not store.endswith("-fragments"), store not in ("raw", "weights", "probability")
    factors = pyramid_factors(layout.shape, layout.block, layout.voxel_size_nm) if with_pyramid else [(1, 1, 1)]
    levels = [(COARSER_IDS**level if ids else 1) / prod(factor) for level, factor in enumerate(factors)]
    size = voxels * bytes_per_voxel(config, store, layout, stored) * sum(levels)
    return StorePlan(volume, store, size, blocks * len(levels) + len(levels) + 1)


def bytes_per_voxel(config: Config, store: str, layout: VolumeLayout, stored: int) -> float:
    """Return the compressed bytes per voxel on the finest level of a store."""
    segment, predict = config.segment, config.predict
    in_3d = BASINS if segment.connectivity == "volume" else IDS
    by_configuration = {
        "raw": layout.raw_bytes * (FLOATS if "float" in layout.dtype else RAW),
        "probability": stored
        * np.dtype(predict.dtype).itemsize
        * (PROBABILITY if predict.dtype == "uint8" else FLOATS),
        "candidate-fragments": len(segment.candidates.fragments) * in_3d,
        "segmentation-fragments": in_3d if segment.method == "watershed" else IDS,
        **({"targets": IDS} if config.model.output == "affinities" else {}),
    }
    return (BYTES_PER_VOXEL | by_configuration).get(store, IDS)
