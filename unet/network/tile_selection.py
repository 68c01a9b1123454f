"""Which tiles a volume is predicted with, and how many at once, where the configuration says `auto`.

1. `tile_candidates`  Sizes whose strides suit the blocks of the volume.
2. `job_memory`       Those are left out with which the job does not fit into the memory that is free.
3. `forward_cost`     The others take so and so much arithmetic for the whole volume; the least is the fastest.
4. `cached_selection` The choice is written beside the volume's stores. A rerun, and the other jobs of the volume, take
                      it from there, so that they find finished what was made before, whatever is free by then.
"""

from dataclasses import asdict, dataclass
from math import ceil, prod
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from unet.config.model import ModelConfig
from unet.config.predict import PredictConfig
from unet.config.section import Precision
from unet.geometry.box import Box, Index
from unet.geometry.tiling import TileSizeError, tile_candidates, tile_count, tile_geometry
from unet.network.complexity import forward_cost, free_bytes, usable_cores, useful_flops
from unet.network.predictor import planes_of, window_of
from unet.storage.digests import fingerprint
from unet.storage.files import read_json, write_json_if_absent
from unet.volumes.volume import Layout

PROCESS_BYTES = 450e6
"""Python, PyTorch and zarr before any voxel is read."""
ALLOCATED = {"cpu": 1.75, "cuda": 1.5}
"""Memory of an allocator over what is alive at once: gaps between tensors, and the workspaces of libraries."""
SCATTERED = 3.2
"""Memory of the blocks over that of those at work: a CPU's process keeps what is freed, and later blocks find it in
pieces. Measured, see docs/results.md; of the first blocks 1."""
USABLE = 0.8
"""Of the memory that is free: other programs want some, too."""
INFERRED_AT_ONCE = 2
"""Blocks: while one's last tiles are computed, the next one's first ones are."""
VOXELS_AT_ONCE = 2**20
"""In a batch on a GPU, which fewer would not fill."""
COMPARED = 6
"""Candidates whose arithmetic is counted: they are sorted by the voxels that they read, which is nearly the same."""

Kind = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Task:
    """What is predicted, with what network, how.

    Parameters
    ----------
    model : ModelConfig
        The network's architecture.
    classes, stored : int
        What it tells apart, and how many of them are stored.
    layout : Layout
        Of the volume.
    predict : PredictConfig
        Section `predict` of the configuration.
    precision : Precision
        Of the convolutions.
    """

    model: ModelConfig
    classes: int
    stored: int
    layout: Layout
    predict: PredictConfig
    precision: Precision = "float32"

    @property
    def candidates(self) -> list[Index]:
        """Tiles that the configuration allows, those first that read fewest voxels."""
        if self.predict.tile == "auto":
            return tile_candidates(self.model, self.layout.grid, self.spare)
        return [tile_geometry(self.model, self.predict.tile).input]

    @property
    def spare(self) -> int:
        """Voxels of a tile's output along y and x that its cell does not take: rotations interpolate with them."""
        return 1 if self.predict.test_time_augmentation == "rotations" else 0

    @property
    def key(self) -> str:
        """Of everything that a choice depends on but the memory."""
        how = self.predict.model_dump(mode="json", include={"tile", "batch", "test_time_augmentation", "dtype"})
        parts = {"model": self.model.model_dump(mode="json"), "classes": self.classes, "precision": self.precision}
        return fingerprint(layout=asdict(self.layout), **parts, **how)


@dataclass(frozen=True)
class TileSelection:
    """Input size `(z, y, x)` of a tile, tiles a batch, and why these."""

    tile: Index
    batch: int
    why: str

    def __str__(self) -> str:
        """
        >>> print(TileSelection((1, 572, 572), 2, "as configured"))
        572 x 572 in batches of 2: as configured
        """
        size = " x ".join(str(n) for axis, n in enumerate(self.tile) if axis or n > 1)
        return f"{size} in batches of {self.batch}: {self.why}"


@dataclass(frozen=True)
class JobMemory:
    """Bytes that a job takes: of its process, and of its GPU where it has one."""

    process: float
    gpu: float


def select_tile(task: Task, device: torch.device, threads: int, limit: float | None = None) -> TileSelection:
    """The tile and batch that need the least arithmetic for a volume, of those with which a job fits into a limit.

    Parameters
    ----------
    device : torch.device
        Where the network runs.
    threads : int
        Tiles at once on a CPU.
    limit : float, optional
        Bytes; by default `memory_limit`, what the device has now.

    Raises
    ------
    TileSizeError
        If even the smallest tile needs more.
    """
    limit, kind = memory_limit(device, threads) if limit is None else limit, kind_of(device)
    tile, flops = _least_arithmetic(task, kind, limit, threads)
    batch = _batch(task, tile, kind, limit)
    useful = useful_flops(task.model, task.classes, task.layout.channels) * prod(task.layout.shape)
    reason = f"the least of what fits into {limit / 1e9:.2g} GB" if task.predict.tile == "auto" else "as configured"
    why = (
        f"{flops / useful:.2f} times the arithmetic of a network on whole images, {reason}; a job needs "
        f"{needed(task, tile, batch, kind, threads) / 1e9:.2g} GB"
    )
    return TileSelection(tile, batch, why)


def _least_arithmetic(task: Task, kind: Kind, limit: float, threads: int) -> tuple[Index, float]:
    """The tile to take, and the floating-point operations of the whole volume with it."""
    fitting: list[tuple[float, Index]] = []
    candidates = task.candidates
    for tile in candidates:
        if task.predict.tile != "auto" or needed(task, tile, 1, kind, threads) <= limit:
            tiles = tile_count(task.layout.grid, tile_geometry(task.model, tile))
            fitting.append((tiles * forward_cost(task.model, task.classes, tile, task.layout.channels).flops, tile))
        if len(fitting) == COMPARED:
            break
    if not fitting:
        least = min(needed(task, tile, 1, kind, threads) for tile in candidates)
        raise TileSizeError(
            f"a prediction job needs {least / 1e9:.2g} GB with the smallest tile, more than the {limit / 1e9:.2g} GB "
            "that it may take: make storage.block or predict.max_blocks_in_flight smaller, or free memory"
        )
    flops, tile = min(fitting)
    return tile, flops


def _batch(task: Task, tile: Index, kind: Kind, limit: float) -> int:
    """As many tiles as fill a GPU and fit into it; a CPU is as fast with one."""
    if task.predict.batch != "auto":
        return task.predict.batch
    wanted = ceil(VOXELS_AT_ONCE / prod(tile)) if kind == "cuda" else 1
    return max(n for n in range(1, wanted + 1) if n == 1 or needed(task, tile, n, kind, 1) <= limit)


def needed(task: Task, tile: Index, batch: int, kind: Kind, threads: int) -> float:
    """Bytes that count for the choice: those of the GPU where there is one."""
    memory = job_memory(task, tile, batch, kind, threads)
    return memory.process if kind == "cpu" else memory.gpu


def job_memory(task: Task, tile: Index, batch: int, kind: Kind, threads: int, blocks: int | None = None) -> JobMemory:
    """What a job of so many blocks takes at its peak; without a number, a job that predicts the whole volume.

    Passes through the network take what `forward_cost` says, more or less; of the blocks in flight there is the window
    that their tiles read, and what is stored of them; and those that are being inferred have their sum of
    probabilities and a copy of it, in float32.
    """
    layout, geometry = task.layout, tile_geometry(task.model, tile)
    block = Box.of_shape(layout.block).clipped(layout.shape)
    blocks, at_once = blocks or len(layout.grid), task.predict.max_blocks_in_flight
    window = window_of(block, planes_of(task.predict.test_time_augmentation, geometry)).size
    window *= layout.channels * np.dtype(layout.dtype).itemsize
    stored = task.stored * np.dtype(task.predict.dtype).itemsize * block.size
    summed = 4 * (task.classes + task.stored) * block.size
    cost = forward_cost(task.model, task.classes, tile, layout.channels, batch, task.precision)
    passes = ALLOCATED[kind] * cost.bytes * (threads if kind == "cpu" else 1)
    in_flight, inferred = min(at_once, blocks) * (window + stored), min(INFERRED_AT_ONCE, blocks)
    if kind == "cpu":
        scattered = SCATTERED if blocks > at_once else 1.0
        return JobMemory(PROCESS_BYTES + scattered * (in_flight + inferred * summed) + passes, 0.0)
    return JobMemory(2 * PROCESS_BYTES + in_flight, inferred * (window + summed + stored) + passes)


def passes_at_once(task: Task, choice: TileSelection, device: torch.device, threads: int) -> int:
    """How many of a CPU's threads compute a tile at once: as many as fit into the memory now."""
    if device.type != "cpu":
        return 1
    limit = memory_limit(device, threads)
    return max(n for n in range(1, threads + 1) if n == 1 or needed(task, choice.tile, choice.batch, "cpu", n) <= limit)


def memory_limit(device: torch.device, threads: int) -> float:
    """Bytes that a job may take: of a GPU what is free, of the process's machine its share by cores."""
    share = min(1.0, threads / usable_cores()) if device.type == "cpu" else 1.0
    return USABLE * share * free_bytes(device)


def cached_selection(folder: Path, task: Task, device: torch.device, threads: int) -> TileSelection:
    """What was chosen first for a volume in `folder`; for the first time, what fits now, which is written there."""
    found = kept(folder, task)
    if found is None:
        write_json_if_absent(_path(folder, task), asdict(select_tile(task, device, threads)))
        found = kept(folder, task)
    assert found is not None
    return found


def kept(folder: Path, task: Task) -> TileSelection | None:
    """What an earlier run has chosen for a volume in `folder`, or another job of this run."""
    path = _path(folder, task)
    if not path.exists():
        return None
    values = read_json(path)
    return TileSelection(tuple(values["tile"]), values["batch"], values["why"])


def _path(folder: Path, task: Task) -> Path:
    return folder / "probability-tiles" / f"{task.key}.json"


def kind_of(device: torch.device) -> Kind:
    """What a device is."""
    return "cuda" if device.type == "cuda" else "cpu"
