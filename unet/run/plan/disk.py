"""What the stores of a volume take on disk, from its shape: files exactly, bytes by an estimate of the compression.

A block has one file on each level of a store's pyramid, and each store and level one of metadata. Bytes a voxel of
the finest level are those that real and generated volumes took (2026-11-25: ISBI 2012, vnc, fib25, the sample; zstd):

| store | bytes a voxel | seen |
|---|---|---|
| raw | 0.95 of its type | 0.86 (fib25) to 0.98 (vnc) |
| probability | 0.65 of its type and class | 0.51 (vnc) to 0.77 (1 Gvoxel generated); float32: 0.9, never seen |
| labels, segmentation, fragments | 0.08, whatever the type | 0.06 (vnc) to 0.12 (fib25) |
| fragments of a watershed in 3-D | 0.15 | 0.15 (fib25) |
| tables | 0.006, with edges 0.1 | 0.09 (ISBI 2012, sections), 0.12 (fib25) |
| targets, classes | 0.05 | 0.04 to 0.05 |
| weights | 0.43 | 0.40 (sample) to 0.49 (ISBI 2012) |
| mask | 0.01 | |

A pyramid of grey values compresses on every level alike, one of ids half as well on each level as on the one before.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from unet.config.root import Config
from unet.config.volumes import VolumeConfig
from unet.geometry.pyramid import pyramid_factors
from unet.segmentation.merge_table import FILES
from unet.volumes.volume import VolumeLayout

RAW, PROBABILITY, FLOATS = 0.95, 0.65, 0.9
"""Compressed over uncompressed bytes."""
IDS, CLASSES, WEIGHTS, MASK = 0.08, 0.05, 0.43, 0.01
"""Bytes a voxel."""
BASINS = 0.15
"""Bytes a voxel of the fragments of a watershed in 3-D: smaller than cells, and in the membranes, too."""
TABLES = {False: 0.006, True: 0.1}
"""Bytes a voxel of tables, without and with those of edges."""
COARSER_IDS = 2.0
"""Bytes a voxel on a level over those on the level before it."""


@dataclass(frozen=True)
class StorePlan:
    """A store: bytes on disk, and files."""

    volume: str
    store: str
    bytes: float
    files: int


def store_plans(config: Config, name: str, layout: VolumeLayout, stored: int) -> list[StorePlan]:
    """The stores of a volume.

    Parameters
    ----------
    stored : int
        Classes whose probabilities are kept.
    """
    volume, raw = config.volumes[name], layout.channels * np.dtype(layout.dtype).itemsize
    plans = [_image(name, "raw", layout, raw * (FLOATS if layout.dtype.startswith("float") else RAW))]
    if layout.masked:
        plans.append(_image(name, "mask", layout, MASK, ids=True))
    if volume.labels is not None:
        plans += _labels(config, name, volume, layout)
    if name in config.learning_volumes:
        plans.append(_image(name, "weights", layout, WEIGHTS))
    if name in config.predict.volumes:
        p = np.dtype(config.predict.dtype).itemsize * (PROBABILITY if config.predict.dtype == "uint8" else FLOATS)
        plans.append(_image(name, "probability", layout, stored * p))
        basins = config.segment.method == "watershed" and config.segment.connectivity == "volume"
        plans += _segmentation("segmentation", name, layout, config.segment.has_graph, BASINS if basins else IDS)
    return plans


def _labels(config: Config, name: str, volume: VolumeConfig, layout: VolumeLayout) -> list[StorePlan]:
    """Of an annotation: as it was ingested, the instances made of it, and the targets."""
    plans, wanted = [], name in config.labelled_volumes
    if volume.label_kind == "instances":
        plans.append(_image(name, "labels", layout, IDS, ids=True))
    else:
        plans.append(_image(name, "classes", layout, CLASSES, ids=True))
        plans += _segmentation("labels", name, layout, False) if wanted else []
    return plans + ([_image(name, "targets", layout, CLASSES, ids=True)] if wanted else [])


def _segmentation(
    store: str, name: str, layout: VolumeLayout, has_graph: bool, fragments: float = IDS
) -> list[StorePlan]:
    """Fragments, tables and final ids."""
    tables = len(layout.grid) * (2 if has_graph else 1) + len(FILES)
    return [
        _image(name, f"{store}-fragments", layout, fragments, ids=True, pyramid=False),
        StorePlan(name, f"{store}-tables", prod(layout.shape) * TABLES[has_graph], tables),
        _image(name, store, layout, IDS, ids=True),
    ]


def _image(
    volume: str, store: str, layout: VolumeLayout, voxel_bytes: float, ids: bool = False, pyramid: bool = True
) -> StorePlan:
    factors = pyramid_factors(layout.shape, layout.block, layout.voxel_size_nm) if pyramid else [(1, 1, 1)]
    levels = [(COARSER_IDS**level if ids else 1) / prod(factor) for level, factor in enumerate(factors)]
    blocks, metadata = len(layout.grid) * len(levels), len(levels) + 1
    return StorePlan(volume, f"{store}", prod(layout.shape) * voxel_bytes * sum(levels), blocks + metadata)
