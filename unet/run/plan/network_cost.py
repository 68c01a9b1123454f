"""Memory and time of a job's network, beside the job's own work, as requested from a scheduler.

This module loads PyTorch, which takes seconds, and every job reads the Snakefile. So it is imported when it is needed.
"""

from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import get_args

import torch

from unet.config.root import Config
from unet.config.section import Precision
from unet.geometry.box import Index
from unet.geometry.grid import Grid
from unet.geometry.tiling import TileSizeError, full_size, tiles_for
from unet.network.complexity import training_flops, training_step_bytes, useful_flops_per_voxel
from unet.network.model_header import architecture
from unet.network.output_channels import output_channels
from unet.network.predictor import tile_lattices
from unet.network.symmetries import SYMMETRIES
from unet.network.tile_selection import (
    ALLOCATOR_OVERHEAD,
    USABLE_SHARE,
    DeviceKind,
    PredictionTask,
    job_memory,
    read_selection,
    select_tile,
)
from unet.run.rules import RULES
from unet.training.patches import CACHE_MB
from unet.training.shape_descriptors import learnt_descriptors
from unet.volumes.layout import VolumeLayout

GPU_FLOPS = 2e12
"""Operations per second that a slow GPU reaches in convolutions."""
AUTO_BYTES = 2e9
"""Bytes per thread of a job whose tile is chosen by itself; the job chooses by what it is given."""
ROTATED = 7
"""Passes through the network per tile with `predict.test_time_augmentation: rotations`."""
TURNED_BLOCKS = 25
"""Blocks of a section on which the tiles of rotations are counted, spread evenly; all where there are fewer."""
CONTEXT = 1.5
"""Arithmetic of tiles over the arithmetic of their output: tiles share context, which is computed for each of them."""


def network_bytes(rule: str, config: Config, layouts: Mapping[str, VolumeLayout], threads: int) -> float:
    """Return the bytes of training steps, or all bytes of a job that predicts, on a CPU or beside a GPU."""
    if not layouts:
        return 0
    if rule != "train":
        return max(_prediction_bytes(config, name, one, threads) for name, one in layouts.items())
    model, train, learnt = config.model, config.train, _learnt(config, layouts)
    tile, outputs = full_size(model, train.tile), learnt_channels(config, learnt)
    step = training_step_bytes(model, outputs, tile, learnt.channels, train.batch)
    more_processes = (train.gpus - 1) * 1e6 * RULES[rule].cost.process_mb
    targets = 1 if model.output == "classes" else 8  # ids; grey values and weights are stored beside them
    stores = sum(one.voxels * (one.raw_bytes + targets + 4) for one in layouts.values())
    return train.gpus * (ALLOCATOR_OVERHEAD["cpu"] * step) + more_processes + min(1e6 * CACHE_MB, stores)


def _prediction_bytes(config: Config, volume: str, layout: VolumeLayout, threads: int) -> float:
    """Return what `tile_selection` counts for a job, so that USABLE_SHARE of it suffices for the same choice again."""
    limit, blocks = AUTO_BYTES * threads, ceil(len(layout.grid) / RULES["predict"].job_count(config, layout))
    folder, network = Path(config.results) / "volumes" / volume, architecture(config, layout.voxel_size_nm)
    tasks = [PredictionTask.of(*network, layout, config.predict, one) for one in get_args(Precision)]
    chosen = ((one, read_selection(folder, one)) for one in tasks)
    task, choice = next((found for found in chosen if found[1]), (tasks[0], None))
    try:
        choice = choice or select_tile(task, torch.device("cpu"), threads, limit)
    except TileSizeError:  # the job says what to do
        return limit / USABLE_SHARE
    memory = [job_memory(task, choice.tile, choice.batch, kind, threads, blocks) for kind in get_args(DeviceKind)]
    return max(one.process for one in memory) / USABLE_SHARE


def network_seconds(rule: str, config: Config, layouts: Mapping[str, VolumeLayout]) -> float:
    """Return the seconds of the network's arithmetic on a slow GPU."""
    if rule not in ("train", "predict") or not layouts:
        return 0
    if rule == "train":
        learnt = _learnt(config, layouts)
        return training_flops(config, learnt_channels(config, learnt), learnt.channels) / GPU_FLOPS
    first, averaged = next(iter(layouts.values())), config.predict.test_time_augmentation
    model, channels = architecture(config, first.voxel_size_nm)
    passes = CONTEXT * (ROTATED if averaged == "rotations" else len(SYMMETRIES[averaged]))
    per_voxel = passes * useful_flops_per_voxel(model, len(channels), first.channels)
    return sum(RULES[rule].share_of_job(config, one) for one in layouts.values()) * per_voxel / GPU_FLOPS


def _learnt(config: Config, layouts: Mapping[str, VolumeLayout]) -> VolumeLayout:
    """Return the layout of the first training volume, whose voxel size decides the default offsets of affinities."""
    return next((layouts[name] for name in config.train.volumes if name in layouts), next(iter(layouts.values())))


def learnt_channels(config: Config, layout: VolumeLayout) -> int:
    """Return the number of output channels of the network that is trained, those of an auxiliary head included."""
    described = learnt_descriptors(config.model, config.train, layout.voxel_size_nm)
    stored = len(output_channels(config.model, config.class_names, layout.voxel_size_nm))
    return stored + (described.channels if described else 0)


def passes(task: PredictionTask, tile: Index) -> float:
    """Return the passes through the network per tile of the volume's own lattice.

    Turned blocks touch other cells than straight ones, so rotations take not quite 7, and are counted. The number of
    tiles along z is the same for both, so one section decides.
    """
    augmentation, geometry, grid = task.predict.test_time_augmentation, task.geometry(tile), task.layout.grid
    blocks = Grid((1, *grid.shape[1:]), (1, *grid.block[1:]))
    some = [blocks.box(blocks.index_of(n)) for n in range(0, len(blocks), ceil(len(blocks) / TURNED_BLOCKS))]
    touched = sum(len(lattice.cells(box)) for lattice in tile_lattices(augmentation, geometry) for box in some)
    return len(SYMMETRIES[augmentation]) * touched / sum(len(tiles_for(box, geometry)) for box in some)
