"""What a job asks a scheduler for: memory and time, from the configuration and the shapes of its volumes.

1. `Share` tells how much there is: the voxels of a block, of a section, of the whole.
2. `COSTS` says what a rule takes for that: bytes a voxel that it holds, voxels a second that it gets through.
3. The network adds its tiles on their way through it (`network_bytes`), its arithmetic on a GPU (`network_seconds`).
4. All is multiplied by the attempt: a job that was cut off is given more of both, and continues where it was. So the
   estimates need not hold for the worst case.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import TYPE_CHECKING

import numpy as np

from unet.config import Config, ModelConfig
from unet.tiling import activation_bytes

if TYPE_CHECKING:
    from unet.geometry import Index
    from unet.volume import Layout

SAFETY = 4.0
"""Time that is asked for, over that expected: nodes differ, and a volume may be twice as hard as another."""
START_MINUTES = 10
"""Of a job, for modules that a shared file system hands out slowly."""
GPU_FLOPS = 2e12
"""Operations a second that a slow GPU reaches in convolutions."""
AUTO_TILE_VOXELS = 2**20
"""Of a tile that is chosen by itself, at most about that."""
PASSES = {"none": 1, "flips": 4, "symmetries": 8, "rotations": 7}
CONTEXT = 1.5
"""Arithmetic of tiles over that of their output: the context is computed several times."""


@dataclass(frozen=True)
class Cost:
    """What a rule takes, the network left out.

    Parameters
    ----------
    process_mb : int
        Of the process before it reads a voxel.
    block_bytes : float
        Held for each voxel of a block at work, beside its grey values; a thread works on a block.
    section_bytes : float
        Held for each pixel of a section; a thread works on a section.
    volume_bytes : float
        Held for each voxel of the volume: tables of its fragments, of which there is one in a few hundred voxels.
    rate : float
        Voxels a second; infinite where none are read.
    sharded : bool
        Whether several jobs share a volume.
    """

    process_mb: int = 500
    block_bytes: float = 0
    section_bytes: float = 0
    volume_bytes: float = 0
    rate: float = float("inf")
    sharded: bool = False


COSTS = {
    "sample": Cost(2000),
    "survey": Cost(500),
    "fit": Cost(500),
    "ingest": Cost(300, block_bytes=10, rate=4e6, sharded=True),
    "grey_values": Cost(300),
    "targets": Cost(300, block_bytes=12, rate=3e6, sharded=True),
    "weight_map": Cost(300, block_bytes=22, rate=1e6, sharded=True),
    "train": Cost(2000),
    "augmentation": Cost(2000),
    "predict": Cost(700, block_bytes=10, rate=2e6, sharded=True),
    "sweep": Cost(300, section_bytes=90, rate=2e5),
    "threshold": Cost(300),
    "segment": Cost(300, block_bytes=12, rate=3e6, sharded=True),
    "merge": Cost(300, volume_bytes=0.2, rate=5e6),
    "relabel": Cost(300, block_bytes=10, volume_bytes=0.02, rate=4e6, sharded=True),
    "evaluate": Cost(300, block_bytes=60, section_bytes=90, rate=2e6),
    "report": Cost(2000),
    "export": Cost(4000),
    "plan": Cost(1000),
    "verify": Cost(1500, block_bytes=12, rate=1e7),
}
"""Bytes are 1.3 times, rates half of what two threads took for blocks of 16 x 1024 x 1024, or less."""


@dataclass(frozen=True)
class Share:
    """How much there is to do.

    Parameters
    ----------
    block, section : int
        Voxels of the largest block, and of the largest section.
    volume : int
        Voxels of all volumes that the job is about, together.
    job : int
        Voxels of one job, where several share a volume.
    raw_bytes : int
        Of a voxel's grey values, all channels together.
    """

    block: int
    section: int
    volume: int
    job: int
    raw_bytes: int

    @classmethod
    def of(cls, config: Config, layouts: Sequence["Layout"], job: int) -> "Share":
        """Of surveyed volumes; before the survey, of one that fills a job, with 16 bits a voxel."""
        if not layouts:
            block = config.storage.block
            return cls(prod(block), prod(block[1:]), job, job, 2)
        blocks = [prod(map(min, layout.block, layout.shape)) for layout in layouts]
        volume = sum(prod(layout.shape) for layout in layouts)
        raw_bytes = max(layout.channels * np.dtype(layout.dtype).itemsize for layout in layouts)
        section = max(prod(layout.shape[1:]) for layout in layouts)
        return cls(max(blocks), section, volume, max(max(blocks), min(job, volume)), raw_bytes)


def memory_mb(rule: str, config: Config, share: Share, threads: int, attempt: int = 1) -> int:
    """Memory of a job.

    Parameters
    ----------
    rule : str
        Key of `COSTS`.
    threads : int
        That the job gets.
    attempt : int
        1 at first; a retry is given that much more.
    """
    cost = COSTS[rule]
    at_work = config.predict.blocks_in_flight if rule == "predict" else threads
    of_blocks = at_work * share.block * (cost.block_bytes + 2 * share.raw_bytes) if cost.block_bytes else 0
    of_sections = threads * share.section * cost.section_bytes
    held = of_blocks + of_sections + share.volume * cost.volume_bytes + network_bytes(rule, config, threads)
    return attempt * ceil(cost.process_mb + held / 1e6)


def minutes(rule: str, config: Config, share: Share, attempt: int = 1) -> int:
    """Time of a job, after which a scheduler ends it; parameters as of `memory_mb`."""
    cost = COSTS[rule]
    seconds = (share.job if cost.sharded else share.volume) / cost.rate + network_seconds(rule, config, share)
    return attempt * ceil(START_MINUTES + SAFETY * seconds / 60)


def network_bytes(rule: str, config: Config, threads: int) -> float:
    """Of the tiles that are in the network at once, as on a CPU; a training keeps all that a backward pass needs."""
    model = config.model
    if rule in ("predict", "verify", "export"):
        return threads * config.predict.batch * activation_bytes(model, _tile(model, config.predict.tile))
    if rule == "train":
        kept = 2 * config.train.batch * activation_bytes(model, _tile(model, config.train.tile))
        return config.train.gpus * (kept + COSTS[rule].process_mb * 1e6)
    return 0


def network_seconds(rule: str, config: Config, share: Share) -> float:
    """Of the arithmetic, on a GPU."""
    flops = flops_a_voxel(config.model)
    if rule == "predict":
        return share.job * CONTEXT * PASSES[config.predict.average] * flops / GPU_FLOPS
    if rule == "train":
        tiles = config.train.steps * config.train.batch
        return 3 * tiles * prod(_tile(config.model, config.train.tile)) * flops / GPU_FLOPS
    return 0


def flops_a_voxel(model: ModelConfig) -> float:
    """Operations a voxel of a whole image, without what its borders cost.

    A level has two convolutions going down, of c / 2 to c and c to c channels, and two going up, of 2 c to c and c to
    c, and its up-convolution takes 2 c to c channels with one weight a voxel: (4.5 k + 2) c^2 weights, where
    k = 3^dimensions. The lowest level goes down only: 1.5 k c^2.
    """
    taps, weights, voxels = 3**model.dimensions, 0.0, 1.0
    for level in range(model.depth):
        lowest = level == model.depth - 1
        weights += voxels * (1.5 * taps if lowest else 4.5 * taps + 2) * (model.base_channels * 2**level) ** 2
        voxels /= 2**model.dimensions if model.pooling is None or lowest else prod(model.pooling[level])
    return 2 * weights


def _tile(model: ModelConfig, tile: "int | Index | str") -> "Index":
    """Its sides; one that is chosen by itself has about `AUTO_TILE_VOXELS`."""
    if isinstance(tile, tuple):
        return tile
    side = tile if isinstance(tile, int) else round(AUTO_TILE_VOXELS ** (1 / model.dimensions))
    return (1 if model.dimensions == 2 else side, side, side)
