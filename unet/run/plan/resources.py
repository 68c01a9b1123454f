"""What a job asks a scheduler for: memory and time, from the configuration and the shapes of its volumes.

1. `Workload` tells how much there is: the voxels of a block, of a section, of the whole.
2. `COSTS` says what a rule takes for that: bytes a voxel that it holds, voxels a second that it gets through. The plan
   (`unet.run.plan.plan`) reads the same table.
3. The network adds what `tile_selection` and `complexity` in `unet.network` count (`network_bytes`), and its arithmetic
   on a GPU (`network_seconds`).
4. All is multiplied by the attempt: a job that was cut off is given more of both, and continues where it was. So the
   estimates need not hold for the worst case.

What counts the network is imported when it is needed: PyTorch takes seconds, and every job reads the Snakefile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, prod
from pathlib import Path
from typing import get_args

import numpy as np

from unet.config.root import Config
from unet.geometry.box import Index
from unet.volumes.volume import Volume, VolumeLayout

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
    start : float
        Processor seconds before it reads a voxel: modules, mostly.
    rate : float
        Voxels a second of one processor; infinite where none are read.
    threads : int
        As the rule says; that many blocks or sections at once.
    block_bytes, raw_copies, label_copies : float
        Held for each voxel of a block at work, and of its grey values and its labels so many times their type.
    blocks_at_once : int, optional
        Where it is not one a thread.
    section_bytes : float
        Held for each pixel of a section at work.
    fragment_bytes, layer_fragment_bytes, solved_fragment_bytes : float
        Held for each fragment of the volume, of the largest layer of its blocks, and of those that are solved together.
    blockwise : bool
        Whether several jobs share a volume.
    """

    process_mb: int = 60
    start: float = 0.5
    rate: float = float("inf")
    threads: int = 1
    block_bytes: float = 0
    raw_copies: float = 0
    label_copies: float = 0
    blocks_at_once: int | None = None
    section_bytes: float = 0
    fragment_bytes: float = 0
    layer_fragment_bytes: float = 0
    solved_fragment_bytes: float = 0
    blockwise: bool = False


OPEN = 0.2
"""Of the fragments of components, those at a face between two layers of blocks (of 16 sections of generated cells)."""
COSTS = {
    "sample": Cost(220, start=1, rate=0.3e6),
    "survey": Cost(80, start=0.6),
    "check_model": Cost(275, start=2),
    "ingest": Cost(88, start=0.7, rate=70e6, threads=2, raw_copies=7, label_copies=2.4, blockwise=True),
    "histogram": Cost(95, start=0.6, rate=130e6, threads=2, block_bytes=2.5, raw_copies=2.6, blockwise=True),
    "intensity_statistics": Cost(75, start=0.6),
    "targets": Cost(75, start=0.65, rate=27e6, threads=2, block_bytes=3.2, label_copies=3, blockwise=True),
    "check_labels": Cost(85, start=0.65, rate=25e6, threads=2, block_bytes=10, label_copies=2.5),
    "weight_map": Cost(98, start=0.8, rate=10e6, threads=2, block_bytes=15, label_copies=2, blockwise=True),
    "train": Cost(420, start=3.5, threads=8),
    "augmentation_preview": Cost(400, start=3),
    "predict": Cost(0, start=4.5, rate=50e6, threads=4, blockwise=True),
    "threshold_sweep": Cost(92, start=0.5, rate=0.55e6, threads=2, section_bytes=82),
    "choose_threshold": Cost(60, start=0.3),
    "segment": Cost(102, start=0.8, rate=70e6, threads=2, block_bytes=10.5, blockwise=True),
    "region_graph": Cost(80, start=0.4, rate=8e6, threads=2, block_bytes=44, blockwise=True),
    "agglomeration_threshold_sweep": Cost(90, start=0.5, rate=8e6, block_bytes=70, fragment_bytes=360),
    "choose_agglomeration_threshold": Cost(60, start=0.3),
    "merge": Cost(95, start=0.65, rate=1e9, fragment_bytes=85 * OPEN, layer_fragment_bytes=160),
    "relabel": Cost(95, start=0.75, rate=75e6, threads=2, block_bytes=6, blockwise=True),
    "evaluate": Cost(140, start=2.5, rate=1.2e6, threads=2, block_bytes=32, blocks_at_once=1),
    "report": Cost(220, start=3),
    "export": Cost(3000, start=5, threads=4),
    "plan": Cost(600, start=5),
    "verify": Cost(600, start=3, rate=10e6, threads=4, block_bytes=12),
}
"""Of generated cells of 32 x 2048 x 2048 and of 1 Gvoxel in blocks of 16 x 1024 x 1024, of ISBI 2012 and of the sample
(2026-11-25, what the jobs counted themselves); bytes are a little more than the most of them. `benchmarks/plan.py`
compares again."""
WATERSHED = Cost(100, start=0.8, rate=6.5e6, threads=2, block_bytes=34, blockwise=True)
"""Of `segment` where fragments are basins: halos and distances; fib25, and benchmarks/segmentation.py. The rate is of
voxels that are read, halos with them."""
SOLVED = Cost(90, start=0.8, rate=15e6, fragment_bytes=130, solved_fragment_bytes=230)
"""Of `merge` where there is a region graph, which is solved in parts (60 bytes an edge, 6 edges a fragment, with the
fragment itself: benchmarks/agglomeration.py); fib25. For holes of components it is more than is needed."""
VOXELS_A_FRAGMENT = {"components": 2000, "section": 400, "volume": 2100}
"""Of the foreground's components (vnc: 2,800), and of whole basins by their connectivity (ISBI 2012: 450, fib25)."""
VOXELS_OF_A_FACE = 60
"""In the faces of the blocks, for every basin in 3-D that they cut or make (fib25, blocks of 16, 32, 64 sections)."""


@dataclass(frozen=True)
class Workload:
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
    def of(cls, config: Config, volumes: Sequence[Volume], job: int) -> "Workload":
        """Of surveyed volumes; before the survey, of one that fills a job, with 16 bits a voxel."""
        share = cls(tuple(volumes) or (_assumed(config, job),), job)
        return cls(share.volumes, max(share.block, min(job, share.voxels)))

    @property
    def layouts(self) -> list[VolumeLayout]:
        """Of its volumes."""
        return [volume.layout for volume in self.volumes]

    def blocks(self, at_once: int, halo: Index = (0, 0, 0)) -> int:
        """Voxels of the largest blocks together, so many of one volume, each with what is read around it."""
        return max(_largest(layout, at_once, halo) for layout in self.layouts)

    @property
    def block(self) -> int:
        """Voxels of the largest block."""
        return max(prod(map(min, layout.block, layout.shape)) for layout in self.layouts)

    @property
    def section(self) -> int:
        """Pixels of the largest section."""
        return max(prod(layout.shape[1:]) for layout in self.layouts)

    @property
    def layer(self) -> int:
        """Voxels of the largest layer of blocks."""
        return max(prod((min(layout.block[0], layout.shape[0]), *layout.shape[1:])) for layout in self.layouts)

    @property
    def voxels(self) -> int:
        """Of all volumes together."""
        return sum(prod(layout.shape) for layout in self.layouts)

    @property
    def label_bytes(self) -> int:
        """Of a voxel's instance id; 0 where nothing is annotated."""
        return max(np.dtype(layout.labels_dtype).itemsize if layout.labels_dtype else 0 for layout in self.layouts)

    @property
    def raw_bytes(self) -> int:
        """Of a voxel's grey values, all channels together."""
        return max(layout.channels * np.dtype(layout.dtype).itemsize for layout in self.layouts)


def _largest(layout: VolumeLayout, at_once: int, halo: Index) -> int:
    """Voxels of the largest blocks of a volume with their halo; those at its far faces are smaller."""
    kinds = [
        [(min(b + 2 * h, n), n // b), (min(n % b + h, n), int(n % b > 0))]
        for n, b, h in zip(layout.shape, layout.block, halo, strict=True)
    ]
    sizes = [(prod(size for size, _ in kind), prod(count for _, count in kind)) for kind in product(*kinds)]
    total = 0
    for size, count in sorted(sizes, reverse=True):
        total += size * min(count, at_once)
        at_once -= min(count, at_once)
    return total


def _assumed(config: Config, voxels: int) -> Volume:
    """A volume of which nothing is known yet but how many voxels a job of it has."""
    _, height, width = block = config.storage.block
    shape = (max(block[0], ceil(voxels / (height * width))), height, width)
    return Volume(Path(), VolumeLayout(shape, "uint16", (1, 1, 1), (0, 0, 0), config.storage.chunk, block, None, False))


def cost_of(rule: str, config: Config) -> Cost:
    """What a rule takes with this configuration."""
    if rule == "segment" and config.segment.method == "watershed":
        return WATERSHED
    return SOLVED if rule == "merge" and config.segment.has_graph else COSTS[rule]


def memory_mb(rule: str, config: Config, share: Workload, threads: int) -> int:
    """Memory that a job asks for at its first attempt.

    Parameters
    ----------
    rule : str
        Key of `COSTS`.
    threads : int
        That the job gets.
    """
    return SNAKEMAKE_MB + ceil(
        (held_bytes(rule, config, share, threads) + network_bytes(rule, config, share, threads)) / 1e6
    )


def held_bytes(rule: str, config: Config, share: Workload, threads: int) -> float:
    """What the process of a job holds at its peak, the network left out; parameters as of `memory_mb`."""
    cost = cost_of(rule, config)
    a_voxel = cost.block_bytes + cost.raw_copies * share.raw_bytes + cost.label_copies * share.label_bytes
    halo = halo_of(rule, config, share)
    of_blocks = share.blocks(cost.blocks_at_once or threads, halo) * a_voxel if a_voxel else 0
    of_sections = threads * share.section * cost.section_bytes
    of_fragments = fragments(config, share.voxels) * cost.fragment_bytes
    of_fragments += fragments(config, share.layer) * cost.layer_fragment_bytes
    of_fragments += solved_at_once(config, share) * cost.solved_fragment_bytes
    return 1e6 * cost.process_mb + of_blocks + of_sections + of_fragments


def fragments(config: Config, voxels: int) -> float:
    """Of so many voxels, by what has been seen."""
    return voxels / voxels_a_fragment(config)


def solved_at_once(config: Config, share: Workload) -> float:
    """Fragments whose edges `merge` holds together: of some layers of blocks; for a multicut all."""
    from unet.segmentation.region_graph import FRAGMENTS_PER_SLAB

    every = fragments(config, share.voxels)
    if config.segment.agglomerate.method == "multicut":
        return every
    return min(every, max(FRAGMENTS_PER_SLAB, fragments(config, share.layer)))


def voxels_a_fragment(config: Config) -> int:
    """As has been seen of the configuration's method."""
    segment = config.segment
    kind = "components" if segment.method == "components" else segment.connectivity
    whole = VOXELS_A_FRAGMENT[kind]
    if kind != "volume":
        return whole
    return round(1 / (1 / whole + sum(1 / edge for edge in config.storage.block) / VOXELS_OF_A_FACE))


def halo_of(rule: str, config: Config, share: Workload) -> Index:
    """What is read around a block and worked through with it."""
    if cost_of(rule, config) is not WATERSHED:
        return (0, 0, 0)
    from unet.segmentation.watershed import WatershedParameters

    return WatershedParameters.of(config.segment, share.layouts[0].voxel_size_nm).halo


def core_seconds(rule: str, config: Config, share: Workload) -> float:
    """Processor seconds of a job, the network left out."""
    cost = cost_of(rule, config)
    own = share.job if cost.blockwise else share.voxels
    return cost.start + own * share.blocks(1, halo_of(rule, config, share)) / share.block / cost.rate


def minutes(rule: str, config: Config, share: Workload) -> int:
    """Time of a job at its first attempt, after which a scheduler ends it; parameters as of `memory_mb`."""
    seconds = core_seconds(rule, config, share) + network_seconds(rule, config, share)
    return ceil(START_MINUTES + SAFETY * seconds / 60)


def network_bytes(rule: str, config: Config, share: Workload, threads: int) -> float:
    """Of a job that predicts, all it holds, on a CPU or beside a GPU; of a training what a step keeps."""
    if rule in ("predict", "verify", "export"):
        blocks = ceil(share.job / share.block)
        return max(_predicting_bytes(config, volume, threads, blocks) for volume in share.volumes)
    if rule == "train":
        from unet.network.complexity import training_step_bytes
        from unet.network.tile_selection import ALLOCATOR_OVERHEAD
        from unet.training.patches import CACHE_MB

        tile, classes = _training_tile(config), len(config.class_names)
        kept = training_step_bytes(config.model, classes, tile, share.layouts[0].channels, config.train.batch)
        processes = (
            config.train.gpus * ALLOCATOR_OVERHEAD["cpu"] * kept
            + (config.train.gpus - 1) * COSTS[rule].process_mb * 1e6
        )
        return processes + min(1e6 * CACHE_MB, share.voxels * (share.raw_bytes + 1 + 4))  # and targets and weights
    return 0


def _predicting_bytes(config: Config, volume: Volume, threads: int, blocks: int) -> float:
    """What `tile_selection` says of a job, such that it finds the share free that it takes of free memory."""
    import torch

    from unet.geometry.tiling import TileSizeError
    from unet.network.load_predictor import stored_classes
    from unet.network.model_header import architecture
    from unet.network.tile_selection import (
        USABLE_SHARE,
        DeviceKind,
        PredictionTask,
        job_memory,
        read_selection,
        select_tile,
    )

    model, classes = architecture(config)
    task = PredictionTask(model, len(classes), len(stored_classes(classes)), volume.layout, config.predict)
    try:
        choice = read_selection(volume.folder, task) or select_tile(
            task, torch.device("cpu"), threads, AUTO_BYTES * threads
        )
    except TileSizeError:  # the job says what to do
        return AUTO_BYTES * threads / USABLE_SHARE
    on_cpu, on_gpu = (
        job_memory(task, choice.tile, choice.batch, kind, threads, blocks) for kind in get_args(DeviceKind)
    )
    return max(on_cpu.process, on_gpu.process) / USABLE_SHARE


def network_seconds(rule: str, config: Config, share: Workload) -> float:
    """Of the arithmetic, on a GPU."""
    if rule == "predict":
        from unet.network.complexity import useful_flops_per_voxel
        from unet.network.model_header import architecture

        model, classes = architecture(config)
        passes = CONTEXT * PASSES[config.predict.test_time_augmentation]
        return share.job * passes * useful_flops_per_voxel(model, len(classes), share.layouts[0].channels) / GPU_FLOPS
    if rule == "train":
        from unet.network.complexity import training_flops

        tile, channels = _training_tile(config), share.layouts[0].channels
        return training_flops(config, len(config.class_names), tile, channels) / GPU_FLOPS
    return 0


def _training_tile(config: Config) -> Index:
    from unet.geometry.tiling import tile_geometry

    return tile_geometry(config.model, config.train.tile).input
