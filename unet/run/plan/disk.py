"""The stores of a volume on disk, from its shape: the exact number of files, and bytes by the compression seen.

A block has one file on each level of a store's pyramid, and each store and level one of metadata. Bytes per voxel of
the finest level are those of real and generated volumes (2026-11-25: ISBI 2012, vnc, fib25, the sample; zstd):

| store | bytes per voxel | seen |
|---|---|---|
| raw | 0.95 of its type | 0.86 (fib25) to 0.98 (vnc) |
| probability | 0.65 of its type and class | 0.51 (vnc) to 0.77 (1 Gvoxel generated); float32: 0.9, never seen |
| labels, segmentation, fragments, targets of affinities | 0.08, whatever the type | 0.06 (vnc) to 0.12 (fib25) |
| fragments of a watershed in 3-D | 0.15 | 0.15 (fib25) |
| tables | 0.006, with edges 0.1 | 0.09 (ISBI 2012, sections), 0.12 (fib25) |
| targets, classes | 0.05 | 0.04 to 0.05 |
| weights | 0.43 | 0.40 (sample) to 0.49 (ISBI 2012) |
| mask | 0.01 | |

A pyramid of grey values compresses on every level alike, a pyramid of ids half as well on each level as on the one
before.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from unet.config.root import Config
from unet.geometry.pyramid import pyramid_factors
from unet.run.rules import RULES
from unet.volumes.layout import VolumeLayout

RAW, PROBABILITY, FLOATS = 0.95, 0.65, 0.9
"""Compressed over uncompressed bytes."""
IDS, CLASSES, WEIGHTS, MASK = 0.08, 0.05, 0.43, 0.01
"""Bytes per voxel."""
BASINS = 0.15
"""Bytes per voxel of the fragments of a watershed in 3-D: smaller than cells, and in the membranes, too."""
TABLES = {False: 0.006, True: 0.1}
"""Bytes per voxel of tables, without and with the tables of edges."""
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
    names = [
        name.format(store=store)
        for rule in RULES.values()
        for target, store in rule.targets(config)
        if target == volume
        for name in rule.stores
    ]
    own = config.volumes[volume]
    ingested = {"mask": layout.masked, "labels": own.labels and own.label_kind == "instances"}
    ingested["classes"] = own.labels and own.label_kind != "instances"
    # ingest writes what there is; labels that are made from classes are written by relabel
    made = "labels-fragments" in names
    names = [name for name in dict.fromkeys(names) if ingested.get(name, True) or (name == "labels" and made)]
    return [_store_plan(config, volume, name, layout, stored) for name in names]


def _store_plan(config: Config, volume: str, store: str, layout: VolumeLayout, stored: int) -> StorePlan:
    blocks, graph = len(layout.grid), store.startswith("segmentation") and config.segment.has_graph
    if store == "candidate-tables":
        sets = len(config.segment.candidates.fragments)
        graphs = sets * len(config.segment.candidates.offsets_for(config.model.output == "affinities"))
        per_voxel = sets * TABLES[False] + graphs * (TABLES[True] - TABLES[False])
        return StorePlan(volume, store, prod(layout.shape) * per_voxel, blocks * (sets + graphs))
    if store.endswith("-tables"):
        from unet.segmentation.merge_table import FILES

        files = blocks * (2 if graph else 1) + len(FILES)
        return StorePlan(volume, store, prod(layout.shape) * TABLES[graph], files)
    with_pyramid, ids = not store.endswith("-fragments"), store not in ("raw", "weights", "probability")
    factors = pyramid_factors(layout.shape, layout.block, layout.voxel_size_nm) if with_pyramid else [(1, 1, 1)]
    levels = [(COARSER_IDS**level if ids else 1) / prod(factor) for level, factor in enumerate(factors)]
    size = prod(layout.shape) * bytes_per_voxel(config, store, layout, stored) * sum(levels)
    return StorePlan(volume, store, size, blocks * len(levels) + len(levels) + 1)


def bytes_per_voxel(config: Config, store: str, layout: VolumeLayout, stored: int) -> float:
    """Return the compressed bytes per voxel on the finest level of a store; see the table of this module."""
    segment = config.segment
    if store == "raw":
        ratio = FLOATS if layout.dtype.startswith("float") else RAW
        return layout.channels * np.dtype(layout.dtype).itemsize * ratio
    if store == "probability":
        ratio = PROBABILITY if config.predict.dtype == "uint8" else FLOATS
        return stored * np.dtype(config.predict.dtype).itemsize * ratio
    if store == "candidate-fragments":
        return len(segment.candidates.fragments) * (BASINS if segment.connectivity == "volume" else IDS)
    if store == "segmentation-fragments" and (segment.method, segment.connectivity) == ("watershed", "volume"):
        return BASINS
    if store == "targets" and config.model.output == "affinities":
        return IDS
    return {"mask": MASK, "weights": WEIGHTS, "targets": CLASSES, "classes": CLASSES}.get(store, IDS)
