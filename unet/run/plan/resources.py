"""Memory and time that a job asks a scheduler for, from the configuration and the shapes of its volumes.

1. `Workload` tells how much there is to do: voxels of a block, of a section, of all volumes.
2. `RULES` (`unet.run.rules`) holds what a rule takes for that. The plan (`unet.run.plan.plan`) reads the same table.
3. `held` lists what a job holds at its peak, copy by copy; the network adds `network_bytes` and `network_seconds`.
4. Snakemake multiplies both by the attempt: a job that was cut off gets more, and continues where it was. So the
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
from unet.volumes.layout import VolumeLayout
from unet.volumes.section_layers import KEPT_BYTES
from unet.volumes.volume import Volume

SAFETY = 4.0
"""Time that is asked for over the time expected: nodes differ, and a volume may be twice as hard as another."""
SNAKEMAKE_MB = 400
"""Memory of the two Snakemakes around the script of a job on a cluster, in MB; each took up to 190 (2026-11-25)."""
START_MINUTES = 10
"""Minutes that a job may take to load modules, which a shared file system hands out slowly."""
GPU_FLOPS = 2e12
"""Operations per second that a slow GPU reaches in convolutions."""
AUTO_BYTES = 2e9
"""Bytes per thread of a job whose tile is chosen by itself; the job chooses by what it is given."""
PASSES = {
    **{"none": 1, "flips": 4, "symmetries": 8, "flips_3d": 8, "symmetries_3d": 16, "cube": 48},
    "rotations": 7,
}
"""Passes through the network per tile, by `predict.test_time_augmentation`."""
CONTEXT = 1.5
"""Arithmetic of tiles over the arithmetic of their output: tiles share context, which is computed for each of them."""
DECODED_COPIES = 3
"""Copies of a section while it is decoded: compressed, decoded, and brought to the axes of the volume."""
VOXELS_PER_FRAGMENT = {"components": 2000, "section": 400, "volume": 2100}
"""Voxels per component of the foreground (vnc: 2,800), and per whole basin by connectivity (ISBI 2012: 450; fib25)."""
FACE_VOXELS_PER_FRAGMENT = 60
"""Voxels of the faces of blocks per 3-D basin that these cut or make (fib25, blocks of 16, 32, 64 sections)."""


@dataclass(frozen=True)
class Workload:
    """How much a job has to do.

    Parameters
    ----------
    volumes : tuple of Volume
        Volumes that the job is about.
    job : int
        Voxels of one job where several share a volume.
    """

    volumes: tuple[Volume, ...]
    job: int

    @classmethod
    def of(cls, config: Config, volumes: Sequence[Volume], job: int) -> "Workload":
        """Return the workload of surveyed volumes: at least a block, at most all voxels.

        Before the survey one volume is assumed that fills a job, with 16 bits per voxel.
        """
        work = cls(tuple(volumes) or (_assumed(config, job),), job)
        return cls(work.volumes, max(work.block, min(job, work.voxels)))

    @property
    def layouts(self) -> list[VolumeLayout]:
        """Layouts of the volumes."""
        return [volume.layout for volume in self.volumes]

    def blocks(self, at_once: int, halo: Index = (0, 0, 0)) -> int:
        """Return the voxels of the largest ``at_once`` blocks of a volume, each with its halo."""
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
        """Voxels of all volumes together."""
        return sum(prod(layout.shape) for layout in self.layouts)

    @property
    def decoded_sections(self) -> int:
        """Sections that the image files of a volume decode together; 0 where they read a box by itself."""
        return max(layout.decoded_sections for layout in self.layouts)

    @property
    def label_bytes(self) -> int:
        """Bytes per instance id; 0 where nothing is annotated."""
        return max(np.dtype(layout.labels_dtype).itemsize if layout.labels_dtype else 0 for layout in self.layouts)

    @property
    def raw_bytes(self) -> int:
        """Bytes of the grey values per voxel, all channels together."""
        return max(layout.channels * np.dtype(layout.dtype).itemsize for layout in self.layouts)


@dataclass(frozen=True)
class RulePlan:
    """All jobs of a rule: seconds one after the other, seconds of the longest job, and its memory."""

    rule: str
    jobs: int
    seconds: float
    core_seconds: float
    job_seconds: float
    memory_mb: float
    gpu_mb: float
    at_once: int


def workload_of(config: Config, layouts: Mapping[str, VolumeLayout]) -> Workload:
    """Return the workload of a job about some volumes, of which no store need be there yet."""
    volumes = [Volume(Path(config.results) / "volumes" / name, layout) for name, layout in layouts.items()]
    shapes = [layout.shape for layout in layouts.values()] or [(0, 0, 0)]
    return Workload.of(config, volumes, max(voxels_per_job(shape, config.predict.job_voxels) for shape in shapes))


def _largest(layout: VolumeLayout, at_once: int, halo: Index) -> int:
    """Return the voxels of the largest blocks of a volume with their halo; blocks at the far faces are smaller."""
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
    _, height, width = block = config.storage.block
    shape = (max(block[0], ceil(voxels / (height * width))), height, width)
    return Volume(Path(), VolumeLayout(shape, "uint16", (1, 1, 1), (0, 0, 0), config.storage.chunk, block, None, False))


def memory_mb(rule: str, config: Config, work: Workload, threads: int) -> int:
    """Return the memory in MB that a job with so many threads asks for at its first attempt."""
    own = sum(held(rule, config, work, threads).values())
    return SNAKEMAKE_MB + ceil((own + network_bytes(rule, config, work, threads)) / 1e6)


def held(rule: str, config: Config, work: Workload, threads: int) -> dict[str, float]:
    """Return the bytes that the process of a job holds at its peak, by what they are for, without the network."""
    cost = cost_of(rule, config)
    per_voxel = cost.block_bytes + cost.raw_copies * work.raw_bytes + cost.label_copies * work.label_bytes
    return {
        "process": 1e6 * cost.process_mb,
        "blocks": work.blocks(cost.blocks_at_once or threads, counted_halo(rule, config, work)) * per_voxel
        if per_voxel
        else 0.0,
        "sections": threads * work.section * cost.section_bytes,
        "decoded sections": _decoded_bytes(work, threads) if rule == "ingest" else 0.0,
        "fragments": work.voxels / voxels_per_fragment(config) * cost.fragment_bytes,
        "layer of fragments": work.layer / voxels_per_fragment(config) * cost.layer_fragment_bytes,
        "solved fragments": fragments_at_once(config, work) * cost.solved_fragment_bytes,
    }


def _decoded_bytes(work: Workload, threads: int) -> float:
    """Return the bytes of sections that are decoded whole: those at work, each in some copies, and kept layers."""
    bytes_per_voxel = max(work.raw_bytes, work.label_bytes)
    at_work = threads * DECODED_COPIES * work.decoded_sections * work.section * bytes_per_voxel
    return at_work + min(KEPT_BYTES, work.layer * (work.raw_bytes + work.label_bytes)) if at_work else 0.0


def fragments_at_once(config: Config, work: Workload) -> float:
    """Return the fragments whose edges `merge` holds together: of some layers of blocks; for a multicut all."""
    from unet.segmentation.region_graph import FRAGMENTS_PER_SLAB

    total, layer = (voxels / voxels_per_fragment(config) for voxels in (work.voxels, work.layer))
    return total if config.segment.agglomerate.method == "multicut" else min(total, max(FRAGMENTS_PER_SLAB, layer))


def voxels_per_fragment(config: Config) -> int:
    """Return the voxels per fragment, as has been seen with the configured method."""
    segment = config.segment
    kind = "components" if segment.method == "components" else segment.connectivity
    whole = VOXELS_PER_FRAGMENT[kind]
    if kind != "volume":
        return whole
    return round(1 / (1 / whole + sum(1 / edge for edge in config.storage.block) / FACE_VOXELS_PER_FRAGMENT))


def counted_halo(rule: str, config: Config, work: Workload) -> Index:
    """Return the voxels around a block that a job works through; other costs hold their halo already."""
    return RULES[rule].halo(config, work.layouts[0]) if cost_of(rule, config) is WATERSHED else (0, 0, 0)


def core_seconds(rule: str, config: Config, work: Workload) -> float:
    """Return the processor seconds of a job without the network."""
    cost, own = cost_of(rule, config), work.job if RULES[rule].blockwise else work.voxels
    if rule == "ingest" and work.decoded_sections:
        own = max(own, work.layer)
    return cost.start + own * work.blocks(1, counted_halo(rule, config, work)) / work.block / cost.rate


def minutes(rule: str, config: Config, work: Workload) -> int:
    """Return the minutes of a job at its first attempt, after which a scheduler ends it."""
    seconds = core_seconds(rule, config, work) + network_seconds(rule, config, work)
    return ceil(START_MINUTES + SAFETY * seconds / 60)


def network_bytes(rule: str, config: Config, work: Workload, threads: int) -> float:
    """Return the bytes of the network: all bytes of a job that predicts, on a CPU or beside a GPU; those of a step."""
    if rule in ("predict", "verify", "export"):
        blocks = ceil(work.job / work.block)
        return max(_prediction_bytes(config, volume, threads, blocks) for volume in work.volumes)
    if rule == "train":
        from unet.network.complexity import training_step_bytes
        from unet.network.tile_selection import ALLOCATOR_OVERHEAD
        from unet.training.patches import CACHE_MB

        tile, classes = training_tile(config), _learnt_channels(config, work)
        step = ALLOCATOR_OVERHEAD["cpu"] * training_step_bytes(
            config.model, classes, tile, work.layouts[0].channels, config.train.batch
        )
        more_processes = (config.train.gpus - 1) * 1e6 * RULES[rule].cost.process_mb
        targets = 1 if config.model.output == "classes" else 8  # ids
        cache = min(1e6 * CACHE_MB, work.voxels * (work.raw_bytes + targets + 4))  # grey values, targets and weights
        return config.train.gpus * step + more_processes + cache
    return 0


def _prediction_bytes(config: Config, volume: Volume, threads: int, blocks: int) -> float:
    """Return what `tile_selection` counts for a job, so that USABLE_SHARE of it suffices for the same choice again."""
    import torch

    from unet.geometry.tiling import TileSizeError
    from unet.network.model_header import architecture
    from unet.network.output_channels import offsets_of, stored_channels
    from unet.network.tile_selection import (
        USABLE_SHARE,
        DeviceKind,
        PredictionTask,
        job_memory,
        read_selection,
        select_tile,
    )

    model, classes = architecture(config, volume.layout.voxel_size_nm)
    stored, offsets = len(stored_channels(classes)), offsets_of(classes)
    task = PredictionTask(model, len(classes), stored, volume.layout, config.predict, offsets=offsets)
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


def network_seconds(rule: str, config: Config, work: Workload) -> float:
    """Return the seconds of the network's arithmetic on a slow GPU."""
    if rule == "predict":
        from unet.network.complexity import useful_flops_per_voxel
        from unet.network.model_header import architecture

        model, classes = architecture(config, work.layouts[0].voxel_size_nm)
        passes = CONTEXT * PASSES[config.predict.test_time_augmentation]
        return work.job * passes * useful_flops_per_voxel(model, len(classes), work.layouts[0].channels) / GPU_FLOPS
    if rule == "train":
        from unet.network.complexity import training_flops

        tile, channels = training_tile(config), work.layouts[0].channels
        return training_flops(config, _learnt_channels(config, work), tile, channels) / GPU_FLOPS
    return 0


def _learnt_channels(config: Config, work: Workload) -> int:
    """Return the number of channels of the network that is trained."""
    from unet.network.output_channels import output_channels

    return len(output_channels(config.model, config.class_names, work.layouts[0].voxel_size_nm))


def training_tile(config: Config) -> Index:
    """Return the input size of a training tile."""
    from unet.geometry.tiling import tile_geometry

    return tile_geometry(config.model, config.train.tile).input
