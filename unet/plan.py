"""What a run will cost, from the shapes alone: tiles, arithmetic, memory, disk and files. No voxel is read."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, prod

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from unet.config import Config, ModelConfig
from unet.geometry import Box, Grid, Index, shard_names
from unet.inference import SYMMETRIES, Average, planes_of, window_of
from unet.model import build_model
from unet.predicting import stored_classes
from unet.pyramid import pyramid_factors
from unet.tiling import TileGeometry, activation_bytes, tiles_for
from unet.volume import Layout

TURNED_BLOCKS = 25
"""On how many blocks of a section the tiles of rotations are counted, spread evenly; on all where there are fewer."""
PROCESS_BYTES = 700e6
"""Python, torch and zarr before any voxel is read."""


@dataclass(frozen=True)
class VolumePlan:
    """What predicting and segmenting one volume takes; bytes on disk are before compression."""

    name: str
    shape: Index
    blocks: int
    shards: int
    tile: Index
    tiles: int
    flops: float
    job_memory_bytes: float
    disk_bytes: float
    files: int


def forward_flops(model: ModelConfig, classes: int, tile: Index, channels: int = 1) -> int:
    """Floating-point operations of one forward pass of a tile `(z, y, x)`, counted on the network itself."""
    with torch.device("meta"):
        network = build_model(model, channels, classes).eval()
        x = torch.empty(1, channels, *tile[-model.dimensions :])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(x)
    return int(counter.get_total_flops())


def plan_volume(
    name: str,
    layout: Layout,
    config: Config,
    geometry: TileGeometry,
    classes: Sequence[str],
    shard_voxels: int,
    batches_at_once: int = 1,
) -> VolumePlan:
    """The cost of one volume.

    Parameters
    ----------
    layout
        Of the volume.
    geometry
        Of its tiles.
    classes
        Names of the network's classes.
    shard_voxels
        Voxels of a job.
    batches_at_once
        Batches in the network at once: 1 on a GPU, on a CPU one a thread.
    """
    grid, voxels = layout.grid, prod(layout.shape)
    tiles = tile_count(grid, geometry)
    channels = len(stored_classes(classes))
    value_bytes = 1 if config.predict.dtype == "uint8" else 4
    block = prod(min(b, n) for b, n in zip(layout.block, layout.shape, strict=True))
    window = window_of(Box.of_shape(layout.block).clipped(layout.shape), planes_of(config.predict.average, geometry))
    raw_bytes = layout.channels * np.dtype(layout.dtype).itemsize
    values = raw_bytes * (window.size + block) + 4 * len(classes) * block
    in_flight = config.predict.blocks_in_flight * values
    activations = batches_at_once * config.predict.batch * activation_bytes(config.model, geometry.input)
    ids_bytes = 4 + 4  # fragments and final ids
    pyramid = 4 / 3
    disk = voxels * (pyramid * (raw_bytes + channels * value_bytes + 4) + ids_bytes)
    return VolumePlan(
        name=name,
        shape=layout.shape,
        blocks=len(grid),
        shards=len(shard_names(grid, shard_voxels)),
        tile=geometry.input,
        tiles=tiles,
        flops=tiles
        * passes(grid, geometry, config.predict.average)
        * forward_flops(config.model, len(classes), geometry.input, layout.channels),
        job_memory_bytes=PROCESS_BYTES + in_flight + activations,
        disk_bytes=disk,
        files=file_count(layout, config.segment.has_graph),
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


def tile_count(grid: Grid, geometry: TileGeometry) -> int:
    """Tiles of all blocks, counted by axis, so that millions take no time; one that two blocks touch counts twice."""
    along = []
    for size, block, stride in zip(grid.shape, grid.block, geometry.stride, strict=True):
        faces = [*range(0, size, block), size]
        along.append(sum(ceil(hi / stride) - lo // stride for lo, hi in pairwise(faces)))
    return prod(along)


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
    return 3.0 * config.train.steps * config.train.batch * forward_flops(config.model, classes, tile, channels)


def measured_rate(device: torch.device, seconds: float = 0.5) -> float:
    """Floating-point operations a second of a large matrix product on a device, measured now."""
    n = 1024 if device.type == "cpu" else 8192
    a = torch.randn(n, n, device=device, dtype=torch.float32 if device.type == "cpu" else torch.bfloat16)
    a @ a
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        product = a @ a
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        count += 1
    del product
    return 2 * n**3 * count / (time.perf_counter() - start)


def as_text(plans: Sequence[VolumePlan], training: float, rate: float, device: str) -> str:
    """The plan as a table for people."""
    lines = [f"{'volume':<14}{'shape z, y, x':<22}{'blocks':>7}{'jobs':>6}{'tile':>7}{'tiles':>8}{'TFLOP':>10}"]
    for plan in plans:
        shape = " x ".join(map(str, plan.shape))
        lines.append(
            f"{plan.name:<14}{shape:<22}{plan.blocks:>7}{plan.shards:>6}{plan.tile[-1]:>7}{plan.tiles:>8}"
            f"{plan.flops / 1e12:>10.3g}"
        )
    flops = sum(plan.flops for plan in plans)
    lines += [
        "",
        f"training    {training / 1e12:.3g} TFLOP, about {hours(training, rate)}",
        f"prediction  {flops / 1e12:.3g} TFLOP, about {hours(flops, rate)}",
        f"            at the {rate / 1e12:.3g} TFLOP/s that a matrix product reaches on this {device}, measured now",
        f"memory      {max(plan.job_memory_bytes for plan in plans) / 1e9:.2g} GB a prediction job",
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
