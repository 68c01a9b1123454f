"""What a run will cost, from the shapes alone: tiles, arithmetic, memory, disk and files. No voxel is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

import numpy as np

from unet.config import Config
from unet.cost import forward_cost
from unet.geometry import Grid, Index, shard_names
from unet.inference import SYMMETRIES, Average, planes_of
from unet.pyramid import pyramid_factors
from unet.tile_choice import JobMemory, Kind, Task, TileChoice, job_memory
from unet.tiling import TileGeometry, tile_count, tile_geometry, tiles_for
from unet.volume import Layout

TURNED_BLOCKS = 25
"""On how many blocks of a section the tiles of rotations are counted, spread evenly; on all where there are fewer."""


@dataclass(frozen=True)
class VolumePlan:
    """What predicting and segmenting one volume takes; bytes on disk are before compression."""

    name: str
    shape: Index
    blocks: int
    shards: int
    choice: TileChoice
    tiles: int
    flops: float
    job_memory: JobMemory
    disk_bytes: float
    files: int


def plan_volume(
    name: str,
    task: Task,
    choice: TileChoice,
    shard_voxels: int,
    *,
    kind: Kind = "cpu",
    threads: int = 1,
    has_graph: bool = False,
) -> VolumePlan:
    """The cost of one volume.

    Parameters
    ----------
    task
        What is predicted, with what network.
    choice
        Of its tiles.
    shard_voxels
        Voxels of a job.
    kind, threads
        Where the network runs, and tiles at once on a CPU.
    has_graph
        Whether segments are agglomerated.
    """
    layout, geometry, average = task.layout, tile_geometry(task.model, choice.tile), task.predict.average
    grid, voxels = layout.grid, prod(layout.shape)
    tiles = tile_count(grid, geometry)
    a_tile = forward_cost(task.model, task.classes, choice.tile, layout.channels).flops
    raw_bytes = layout.channels * np.dtype(layout.dtype).itemsize
    stored_bytes = task.stored * np.dtype(task.predict.dtype).itemsize
    ids_bytes = 4 + 4  # fragments and final ids
    pyramid = 4 / 3
    return VolumePlan(
        name=name,
        shape=layout.shape,
        blocks=len(grid),
        shards=len(shard_names(grid, shard_voxels)),
        choice=choice,
        tiles=tiles,
        flops=tiles * passes(grid, geometry, average) * a_tile,
        job_memory=job_memory(task, choice.tile, choice.batch, kind, threads),
        disk_bytes=voxels * (pyramid * (raw_bytes + stored_bytes + 4) + ids_bytes),
        files=file_count(layout, has_graph),
    )


def file_count(layout: Layout, has_graph: bool = False) -> int:
    """Files of raw, probability, fragments and segmentation: one a block and level, and the metadata; exact.

    With a region graph there is a table of edges a block as well.
    """
    levels = len(pyramid_factors(layout.shape, layout.block, layout.voxel_nm))
    blocks, pyramids = len(layout.grid), 3
    voxels = blocks * (pyramids * levels + 1)
    metadata = pyramids * (levels + 1) + 2
    tables = blocks * (2 if has_graph else 1) + 1
    return voxels + metadata + tables


def passes(grid: Grid, geometry: TileGeometry, average: Average) -> float:
    """Passes through the network for each tile of the volume's own lattice.

    Turned blocks touch other cells than straight ones, so of rotations it is not quite 7, and is counted; the number
    of tiles along z is the same for both, so one section tells.
    """
    blocks = Grid((1, *grid.shape[1:]), (1, *grid.block[1:])).boxes()
    some = blocks[:: ceil(len(blocks) / TURNED_BLOCKS)]
    touched = sum(len(plane.cells(box)) for plane in planes_of(average, geometry) for box in some)
    return len(SYMMETRIES[average]) * touched / sum(len(tiles_for(box, geometry)) for box in some)


def training_flops(config: Config, classes: int, tile: Index, channels: int = 1) -> float:
    """Operations of the whole training: a backward pass takes twice a forward one."""
    return 3.0 * config.train.steps * config.train.batch * forward_cost(config.model, classes, tile, channels).flops


def as_text(plans: Sequence[VolumePlan], training: float, rate: float, device: str) -> str:
    """The plan as a table for people."""
    lines = [f"{'volume':<14}{'shape z, y, x':<22}{'blocks':>7}{'jobs':>6}{'tile':>7}{'tiles':>8}{'TFLOP':>10}"]
    for plan in plans:
        shape = " x ".join(map(str, plan.shape))
        lines.append(
            f"{plan.name:<14}{shape:<22}{plan.blocks:>7}{plan.shards:>6}{plan.choice.tile[-1]:>7}{plan.tiles:>8}"
            f"{plan.flops / 1e12:>10.3g}"
        )
    flops, tiles = sum(plan.flops for plan in plans), [f"{plan.name}: {plan.choice}" for plan in plans]
    process, gpu = (max(getattr(plan.job_memory, part) for plan in plans) / 1e9 for part in ("process", "gpu"))
    lines += [
        "",
        *(f"{'' if i else 'tiles':<12}{line}" for i, line in enumerate(tiles)),
        f"training    {training / 1e12:.3g} TFLOP, about {hours(training, rate)}",
        f"prediction  {flops / 1e12:.3g} TFLOP, about {hours(flops, rate)}",
        f"            at the {rate / 1e12:.3g} TFLOP/s that a matrix product reaches on this {device}, measured now",
        f"memory      {process:.2g} GB a prediction job{f', and {gpu:.2g} GB of its GPU' if gpu else ''}",
        f"disk        at most {sum(plan.disk_bytes for plan in plans) / 1e9:.3g} GB (before compression) in "
        f"{sum(plan.files for plan in plans)} files: raw, probability, fragments and segmentation",
    ]
    return "\n".join(lines)


def hours(flops: float, rate: float) -> str:
    """
    >>> hours(3600e9, 1e9), hours(60e9, 1e9)
    ('1.0 h', '1 min')
    """
    seconds = flops / rate
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{ceil(seconds / 60)} min"
