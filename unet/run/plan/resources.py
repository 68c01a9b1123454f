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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, prod
from pathlib import Path
from typing import get_args

import numpy as np

from unet.config.root import Config
from unet.geometry.block_ranges import voxels_per_job
from unet.geometry.box import Index
from unet.run.rules import RULES, WATERSHED, cost_of
from unet.volumes.volume import Layout, Volume

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
    def layouts(self) -> list[Layout]:
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


def workload_of(config: Config, layouts: Mapping[str, Layout]) -> Workload:
    """How much a job about some volumes has to do, before any store of them need be there."""
    volumes = [Volume(Path(config.results) / "volumes" / name, layout) for name, layout in layouts.items()]
    shapes = [layout.shape for layout in layouts.values()] or [(0, 0, 0)]
    return Workload.of(config, volumes, max(voxels_per_job(shape, config.predict.job_voxels) for shape in shapes))


def _largest(layout: Layout, at_once: int, halo: Index) -> int:
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
    return Volume(Path(), Layout(shape, "uint16", (1, 1, 1), (0, 0, 0), config.storage.chunk, block, None, False))


def memory_mb(rule: str, config: Config, share: Workload, threads: int) -> int:
    """Memory that a job asks for at its first attempt.

    Parameters
    ----------
    rule : str
        Key of `RULES`.
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
    from unet.segmentation.region_graph import FRAGMENTS_AT_ONCE

    every = fragments(config, share.voxels)
    if config.segment.agglomerate.method == "multicut":
        return every
    return min(every, max(FRAGMENTS_AT_ONCE, fragments(config, share.layer)))


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
    own = share.job if RULES[rule].blockwise else share.voxels
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
        from unet.network.complexity import step_bytes
        from unet.network.tile_selection import ALLOCATED
        from unet.training.patches import CACHE_MB

        tile, classes = _training_tile(config), len(config.class_names)
        kept = step_bytes(config.model, classes, tile, share.layouts[0].channels, config.train.batch)
        processes = (
            config.train.gpus * ALLOCATED["cpu"] * kept + (config.train.gpus - 1) * RULES[rule].cost.process_mb * 1e6
        )
        return processes + min(1e6 * CACHE_MB, share.voxels * (share.raw_bytes + 1 + 4))  # and targets and weights
    return 0


def _predicting_bytes(config: Config, volume: Volume, threads: int, blocks: int) -> float:
    """What `tile_selection` says of a job, such that it finds the share free that it takes of free memory."""
    import torch

    from unet.geometry.tiling import TileSizeError
    from unet.network.load_predictor import stored_classes
    from unet.network.model_header import architecture
    from unet.network.tile_selection import USABLE, Kind, Task, job_memory, kept, select_tile

    model, classes = architecture(config)
    task = Task(model, len(classes), len(stored_classes(classes)), volume.layout, config.predict)
    try:
        choice = kept(volume.folder, task) or select_tile(task, torch.device("cpu"), threads, AUTO_BYTES * threads)
    except TileSizeError:  # the job says what to do
        return AUTO_BYTES * threads / USABLE
    on_cpu, on_gpu = (job_memory(task, choice.tile, choice.batch, kind, threads, blocks) for kind in get_args(Kind))
    return max(on_cpu.process, on_gpu.process) / USABLE


def network_seconds(rule: str, config: Config, share: Workload) -> float:
    """Of the arithmetic, on a GPU."""
    if rule == "predict":
        from unet.network.complexity import useful_flops
        from unet.network.model_header import architecture

        model, classes = architecture(config)
        passes = CONTEXT * PASSES[config.predict.test_time_augmentation]
        return share.job * passes * useful_flops(model, len(classes), share.layouts[0].channels) / GPU_FLOPS
    if rule == "train":
        from unet.network.complexity import training_flops

        tile, channels = _training_tile(config), share.layouts[0].channels
        return training_flops(config, len(config.class_names), tile, channels) / GPU_FLOPS
    return 0


def _training_tile(config: Config) -> Index:
    from unet.geometry.tiling import tile_geometry

    return tile_geometry(config.model, config.train.tile).input
