"""What a job asks a scheduler for: memory and time, from the configuration and the shapes of its volumes.

1. `Share` tells how much there is: the voxels of a block, of a section, of the whole.
2. `COSTS` says what a rule takes for that: bytes a voxel that it holds, voxels a second that it gets through.
3. The network adds what `unet.tile_choice` and `unet.cost` count (`network_bytes`), and its arithmetic on a GPU
   (`network_seconds`).
4. All is multiplied by the attempt: a job that was cut off is given more of both, and continues where it was. So the
   estimates need not hold for the worst case.

What counts the network is imported when it is needed: PyTorch takes seconds, and every job reads the Snakefile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path
from typing import get_args

import numpy as np

from unet.config import Config
from unet.geometry import Index
from unet.volume import Layout, Volume

SAFETY = 4.0
"""Time that is asked for, over that expected: nodes differ, and a volume may be twice as hard as another."""
SNAKEMAKE_MB = 400
"""On a cluster a job is two Snakemakes around the script; each took up to 190 MB (2026-11-25)."""
START_MINUTES = 10
"""Of a job, for modules that a shared file system hands out slowly."""
GPU_FLOPS = 2e12
"""Operations a second that a slow GPU reaches in convolutions."""
AUTO_BYTES = 2e9
"""For each thread of a job whose tile is chosen by itself; the job chooses by what it is given."""
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
    "predict": Cost(0, rate=2e6, sharded=True),
    "sweep": Cost(300, section_bytes=90, rate=2e5),
    "threshold": Cost(300),
    "segment": Cost(300, block_bytes=12, rate=3e6, sharded=True),
    "region_graph": Cost(500, block_bytes=60, rate=1e6, sharded=True),
    "agglomeration_sweep": Cost(1000, block_bytes=60, volume_bytes=0.2, rate=1e6),
    "agglomeration_threshold": Cost(300),
    "merge": Cost(300, volume_bytes=0.2, rate=5e6),
    "relabel": Cost(300, block_bytes=10, volume_bytes=0.02, rate=4e6, sharded=True),
    "evaluate": Cost(300, block_bytes=60, section_bytes=90, rate=2e6),
    "report": Cost(2000),
    "export": Cost(4000),
    "plan": Cost(1000),
    "verify": Cost(800, block_bytes=12, rate=1e7),
}
"""Bytes are 1.3 times, rates half of what two threads took for blocks of 16 x 1024 x 1024, or less; of the network's
rules nearly all is counted by `network_bytes`."""
WATERSHED = {
    "segment": Cost(500, block_bytes=200, rate=3e5, sharded=True),
    "merge": Cost(500, volume_bytes=2, rate=1e6),
}
"""What differs where fragments are basins and agglomerated: halos and distances, and the whole region graph."""


@dataclass(frozen=True)
class Share:
    """How much there is to do.

    Parameters
    ----------
    volumes : tuple of Volume
        That the job is about.
    job : int
        Voxels of one job, where several share a volume; no less than a block, no more than there are.
    """

    volumes: tuple[Volume, ...]
    job: int

    @classmethod
    def of(cls, config: Config, volumes: Sequence[Volume], job: int) -> "Share":
        """Of surveyed volumes; before the survey, of one that fills a job, with 16 bits a voxel."""
        share = cls(tuple(volumes) or (_assumed(config, job),), job)
        return cls(share.volumes, max(share.block, min(job, share.voxels)))

    @property
    def layouts(self) -> list[Layout]:
        """Of its volumes."""
        return [volume.layout for volume in self.volumes]

    @property
    def block(self) -> int:
        """Voxels of the largest block."""
        return max(prod(map(min, layout.block, layout.shape)) for layout in self.layouts)

    @property
    def section(self) -> int:
        """Pixels of the largest section."""
        return max(prod(layout.shape[1:]) for layout in self.layouts)

    @property
    def voxels(self) -> int:
        """Of all volumes together."""
        return sum(prod(layout.shape) for layout in self.layouts)

    @property
    def raw_bytes(self) -> int:
        """Of a voxel's grey values, all channels together."""
        return max(layout.channels * np.dtype(layout.dtype).itemsize for layout in self.layouts)


def _assumed(config: Config, voxels: int) -> Volume:
    """A volume of which nothing is known yet but how many voxels a job of it has."""
    _, height, width = block = config.storage.block
    shape = (max(block[0], ceil(voxels / (height * width))), height, width)
    return Volume(Path(), Layout(shape, "uint16", (1, 1, 1), (0, 0, 0), config.storage.chunk, block, None, False))


def cost_of(rule: str, config: Config) -> Cost:
    """What a rule takes with this configuration."""
    watershed = config.segment.method == "watershed"
    return WATERSHED[rule] if watershed and rule in WATERSHED else COSTS[rule]


def memory_mb(rule: str, config: Config, share: Share, threads: int) -> int:
    """Memory of a job at its first attempt.

    Parameters
    ----------
    rule : str
        Key of `COSTS`.
    threads : int
        That the job gets.
    """
    cost = cost_of(rule, config)
    of_blocks = threads * share.block * (cost.block_bytes + 2 * share.raw_bytes) if cost.block_bytes else 0
    of_sections = threads * share.section * cost.section_bytes
    held = of_blocks + of_sections + share.voxels * cost.volume_bytes + network_bytes(rule, config, share, threads)
    return ceil(SNAKEMAKE_MB + cost.process_mb + held / 1e6)


def minutes(rule: str, config: Config, share: Share) -> int:
    """Time of a job at its first attempt, after which a scheduler ends it; parameters as of `memory_mb`."""
    cost = cost_of(rule, config)
    seconds = (share.job if cost.sharded else share.voxels) / cost.rate + network_seconds(rule, config, share)
    return ceil(START_MINUTES + SAFETY * seconds / 60)


def network_bytes(rule: str, config: Config, share: Share, threads: int) -> float:
    """Of a job that predicts, all it holds, on a CPU or beside a GPU; of a training what a step keeps."""
    if rule in ("predict", "verify", "export"):
        return max(_predicting_bytes(config, volume, threads) for volume in share.volumes)
    if rule == "train":
        from unet.cost import step_bytes
        from unet.tile_choice import ALLOCATED

        tile, classes = _training_tile(config), len(config.class_names)
        kept = step_bytes(config.model, classes, tile, share.layouts[0].channels, config.train.batch)
        return config.train.gpus * ALLOCATED["cpu"] * kept + (config.train.gpus - 1) * COSTS[rule].process_mb * 1e6
    return 0


def _predicting_bytes(config: Config, volume: Volume, threads: int) -> float:
    """What `unet.tile_choice` says of a job, such that it finds the share free that it takes of free memory."""
    import torch

    from unet.model_file import architecture
    from unet.predicting import stored_classes
    from unet.tile_choice import USABLE, Kind, Task, choose_tile, job_memory, kept
    from unet.tiling import TileSizeError

    model, classes = architecture(config)
    task = Task(model, len(classes), len(stored_classes(classes)), volume.layout, config.predict)
    try:
        choice = kept(volume.folder, task) or choose_tile(task, torch.device("cpu"), threads, AUTO_BYTES * threads)
    except TileSizeError:  # the job says what to do
        return AUTO_BYTES * threads / USABLE
    on_cpu, on_gpu = (job_memory(task, choice.tile, choice.batch, kind, threads) for kind in get_args(Kind))
    return max(on_cpu.process, on_gpu.process) / USABLE


def network_seconds(rule: str, config: Config, share: Share) -> float:
    """Of the arithmetic, on a GPU."""
    if rule == "predict":
        from unet.cost import useful_flops
        from unet.model_file import architecture

        model, classes = architecture(config)
        passes = CONTEXT * PASSES[config.predict.average]
        return share.job * passes * useful_flops(model, len(classes), share.layouts[0].channels) / GPU_FLOPS
    if rule == "train":
        from unet.plan import training_flops

        tile, channels = _training_tile(config), share.layouts[0].channels
        return training_flops(config, len(config.class_names), tile, channels) / GPU_FLOPS
    return 0


def _training_tile(config: Config) -> Index:
    from unet.tiling import tile_geometry

    return tile_geometry(config.model, config.train.tile).input
