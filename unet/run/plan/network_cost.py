"""Memory and time that the network of a job takes beside the job's own work, as a scheduler is asked for them.

This module loads PyTorch, which takes seconds, and every job reads the Snakefile. So it is imported when it is needed.
"""

from math import ceil
from typing import get_args

import torch

from unet.config.root import Config
from unet.geometry.box import Index
from unet.geometry.tiling import TileSizeError, tile_geometry
from unet.network.complexity import training_flops, training_step_bytes, useful_flops_per_voxel
from unet.network.model_header import architecture
from unet.network.output_channels import offsets_of, output_channels, stored_channels
from unet.network.tile_selection import (
    ALLOCATOR_OVERHEAD,
    USABLE_SHARE,
    DeviceKind,
    PredictionTask,
    job_memory,
    read_selection,
    select_tile,
)
from unet.run.plan.workload import Workload
from unet.run.rules import RULES
from unet.training.patches import CACHE_MB
from unet.training.shape_descriptors import learnt_descriptors
from unet.volumes.volume import Volume

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


def network_bytes(rule: str, config: Config, work: Workload, threads: int) -> float:
    """Return the bytes of training steps, or all bytes of a job that predicts, on a CPU or beside a GPU."""
    if rule != "train":
        blocks = ceil(work.job / work.block)
        return max(_prediction_bytes(config, volume, threads, blocks) for volume in work.volumes)
    channels, train = work.layouts[0].channels, config.train
    learnt = _learnt_channels(config, work)
    step = training_step_bytes(config.model, learnt, training_tile(config), channels, train.batch)
    more_processes = (train.gpus - 1) * 1e6 * RULES[rule].cost.process_mb
    targets = 1 if config.model.output == "classes" else 8  # ids
    cache = min(1e6 * CACHE_MB, work.voxels * (work.raw_bytes + targets + 4))  # grey values, targets and weights
    return train.gpus * (ALLOCATOR_OVERHEAD["cpu"] * step) + more_processes + cache


def _prediction_bytes(config: Config, volume: Volume, threads: int, blocks: int) -> float:
    """Return what `tile_selection` counts for a job, so that USABLE_SHARE of it suffices for the same choice again."""
    model, classes = architecture(config, volume.layout.voxel_size_nm)
    stored, offsets = len(stored_channels(classes)), offsets_of(classes)
    task = PredictionTask(model, len(classes), stored, volume.layout, config.predict, offsets=offsets)
    cpu, limit = torch.device("cpu"), AUTO_BYTES * threads
    try:
        choice = read_selection(volume.folder, task) or select_tile(task, cpu, threads, limit)
    except TileSizeError:  # the job says what to do
        return limit / USABLE_SHARE
    kinds = get_args(DeviceKind)
    memory = [job_memory(task, choice.tile, choice.batch, kind, threads, blocks).process for kind in kinds]
    return max(memory) / USABLE_SHARE


def network_seconds(rule: str, config: Config, work: Workload) -> float:
    """Return the seconds of the network's arithmetic on a slow GPU."""
    channels = work.layouts[0].channels
    if rule == "train":
        return training_flops(config, _learnt_channels(config, work), training_tile(config), channels) / GPU_FLOPS
    if rule != "predict":
        return 0
    model, classes = architecture(config, work.layouts[0].voxel_size_nm)
    passes = CONTEXT * PASSES[config.predict.test_time_augmentation]
    return work.job * passes * useful_flops_per_voxel(model, len(classes), channels) / GPU_FLOPS


def _learnt_channels(config: Config, work: Workload) -> int:
    """Return the number of channels of the network that is trained, those of an auxiliary head included."""
    voxel_size_nm = work.layouts[0].voxel_size_nm
    described = learnt_descriptors(config.model, config.train, voxel_size_nm)
    stored = len(output_channels(config.model, config.class_names, voxel_size_nm))
    return stored + (described.channels if described else 0)


def training_tile(config: Config) -> Index:
    """Return the input size of a training tile."""
    return tile_geometry(config.model, config.train.tile).input
