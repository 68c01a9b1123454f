"""Choose the tile size and the batch of a volume's prediction, where the configuration says `auto`.

1. `tile_candidates`  List sizes whose strides suit the blocks of the volume.
2. `job_memory`       Drop the sizes with which a job exceeds the free memory.
3. `forward_cost`     Of the rest, take the size with the fewest operations for the whole volume.
4. `cached_selection` Write the choice beside the volume's stores. Reruns and parallel jobs read it and use the same
                      tile, whatever memory is free by then, so finished blocks stay valid.
"""

from collections.abc import Sequence
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
from unet.geometry.network_sizes import stride_unit
from unet.geometry.offsets import Offset
from unet.geometry.tiling import TileGeometry, TileSizeError, tile_candidates, tile_count, tile_geometry
from unet.jobs.device_capacity import free_bytes, usable_cores
from unet.network.complexity import forward_cost, useful_flops_per_voxel
from unet.network.output_channels import offsets_of, stored_channels
from unet.network.predictor import read_box, tile_lattices
from unet.network.symmetries import averaged_geometry, lost_voxels
from unet.storage.digests import fingerprint
from unet.storage.files import read_json, write_json_if_absent
from unet.volumes.layout import VolumeLayout

PROCESS_BYTES = 450e6
"""Memory of a process with Python, PyTorch and zarr, before any voxel is read; in bytes."""
ALLOCATOR_OVERHEAD = {"cpu": 1.75, "cuda": 1.5}
"""Memory of the allocator divided by the bytes alive at the same time: gaps between tensors, and library workspaces."""
FRAGMENTATION_FACTOR = 3.2
"""Memory of a CPU's process divided by the memory of the blocks at work, after the first blocks.

The process keeps freed memory, and later blocks find it fragmented. Measured, see docs/results.md."""
USABLE_SHARE = 0.8
"""Share of the free memory that a job may take; the rest is for other programs."""
MAX_BLOCKS_INFERRED = 2
"""Blocks in inference at the same time: the next block starts while the last tiles of a block are computed."""
GPU_BATCH_VOXELS = 2**20
"""Voxels of a batch that fill a GPU."""
MAX_CANDIDATES = 6
"""Candidates whose operations are counted. Candidates are sorted by voxels read, which is nearly the same order."""

DeviceKind = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class PredictionTask:
    """The network, volume and settings for which a tile is selected.

    Parameters
    ----------
    model : ModelConfig
        Architecture of the network.
    classes, stored : int
        Number of classes, and number of classes that are stored.
    layout : VolumeLayout
        Layout of the volume.
    predict : PredictConfig
        Section `predict` of the configuration.
    precision : Precision
        Numeric precision of the convolutions.
    offsets : tuple of Offset, optional
        Offset of each channel, if the network predicts affinities.
    """

    model: ModelConfig
    classes: int
    stored: int
    layout: VolumeLayout
    predict: PredictConfig
    precision: Precision = "float32"
    offsets: tuple[Offset, ...] | None = None

    @classmethod
    def of(
        cls,
        model: ModelConfig,
        channels: Sequence[str],
        layout: VolumeLayout,
        predict: PredictConfig,
        precision: Precision = "float32",
    ) -> "PredictionTask":
        """Return what is predicted of a volume by a network with these output channels."""
        stored = len(stored_channels(channels))
        return cls(model, len(channels), stored, layout, predict, precision, offsets_of(channels))

    @property
    def candidates(self) -> list[Index]:
        """Return the tile sizes that the configuration allows, in order of the voxels that they read."""
        if self.predict.tile == "auto":
            return tile_candidates(self.model, self.layout.grid, self.spare, cubic=self.cubic)
        return [tile_geometry(self.model, self.predict.tile).input]

    @property
    def spare(self) -> Index:
        """Return the voxels `(z, y, x)` of a tile's output that its cell leaves to the test-time augmentation."""
        return lost_voxels(stride_unit(self.model), self.predict.test_time_augmentation, self.offsets)

    @property
    def cubic(self) -> bool:
        """Return whether tiles are turned about every axis, and need one side."""
        return self.model.dimensions == 3 and self.predict.test_time_augmentation == "cube"

    def geometry(self, tile: Index) -> TileGeometry:
        """Return the geometry of the tiles of input size `tile`, with the output that the augmentation leaves."""
        return averaged_geometry(tile_geometry(self.model, tile), self.predict.test_time_augmentation, self.offsets)

    def tiles(self, tile: Index) -> int:
        """Return the tiles of input size `tile` that the blocks of the volume need, one pass each."""
        return tile_count(self.layout.grid, self.geometry(tile))

    def flops(self, tile: Index) -> int:
        """Return the operations of one pass of all tiles of the volume."""
        return self.tiles(tile) * forward_cost(self.model, self.classes, tile, self.layout.channels).flops

    @property
    def key(self) -> str:
        """Return the fingerprint of everything that the selection depends on, except memory."""
        how = self.predict.model_dump(mode="json", include={"tile", "batch", "test_time_augmentation", "dtype"})
        parts = {"model": self.model.model_dump(mode="json"), "classes": self.classes, "precision": self.precision}
        if self.offsets is not None:
            parts["offsets"] = self.offsets
        return fingerprint(layout=asdict(self.layout), **parts, **how)


@dataclass(frozen=True)
class TileSelection:
    """Input size `(z, y, x)` of a tile, tiles per batch, and the reason for both."""

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
    """Bytes that a job takes in its process, and on its GPU if it has one."""

    process: float
    gpu: float


def select_tile(task: PredictionTask, device: torch.device, threads: int, limit: float | None = None) -> TileSelection:
    """Return the tile and batch with the fewest operations for a volume, among those that fit into a memory limit.

    Parameters
    ----------
    device : torch.device
        Device on which the network runs.
    threads : int
        Tiles computed at the same time on a CPU.
    limit : float, optional
        Memory limit in bytes; by default `memory_limit`, the free memory now.

    Raises
    ------
    TileSizeError
        If even the smallest tile needs more.
    """
    limit, kind = memory_limit(device, threads) if limit is None else limit, device_kind(device)
    tile, flops = _least_arithmetic(task, kind, limit, threads)
    batch = _batch(task, tile, kind, limit)
    useful = useful_flops_per_voxel(task.model, task.classes, task.layout.channels) * task.layout.voxels
    reason = f"the least of what fits into {limit / 1e9:.2g} GB" if task.predict.tile == "auto" else "as configured"
    why = (
        f"{flops / useful:.2f} times the arithmetic of a network on whole images, {reason}; a job needs "
        f"{required_bytes(task, tile, batch, kind, threads) / 1e9:.2g} GB"
    )
    return TileSelection(tile, batch, why)


def _least_arithmetic(task: PredictionTask, kind: DeviceKind, limit: float, threads: int) -> tuple[Index, float]:
    """Return the tile with the fewest operations for the whole volume, and this number of operations."""
    fitting: list[tuple[float, Index]] = []
    candidates = task.candidates
    for tile in candidates:
        if task.predict.tile != "auto" or required_bytes(task, tile, 1, kind, threads) <= limit:
            fitting.append((task.flops(tile), tile))
        if len(fitting) == MAX_CANDIDATES:
            break
    if not fitting:
        least = min(required_bytes(task, tile, 1, kind, threads) for tile in candidates)
        raise TileSizeError(
            f"a prediction job needs {least / 1e9:.2g} GB with the smallest tile, more than the {limit / 1e9:.2g} GB "
            "that it may take: make storage.block or predict.max_blocks_in_flight smaller, or free memory"
        )
    flops, tile = min(fitting)
    return tile, flops


def _batch(task: PredictionTask, tile: Index, kind: DeviceKind, limit: float) -> int:
    """Return the number of tiles that fill a GPU and fit into its memory; a CPU is as fast with one tile."""
    if task.predict.batch != "auto":
        return task.predict.batch
    wanted = ceil(GPU_BATCH_VOXELS / prod(tile)) if kind == "cuda" else 1
    return max(n for n in range(1, wanted + 1) if n == 1 or required_bytes(task, tile, n, kind, 1) <= limit)


def required_bytes(task: PredictionTask, tile: Index, batch: int, kind: DeviceKind, threads: int) -> float:
    """Return the bytes that limit the selection: on the GPU if there is one, else in the process."""
    memory = job_memory(task, tile, batch, kind, threads)
    return memory.process if kind == "cpu" else memory.gpu


def job_memory(
    task: PredictionTask, tile: Index, batch: int, kind: DeviceKind, threads: int, blocks: int | None = None
) -> JobMemory:
    """Return the peak memory of a job that predicts `blocks` blocks, by default the whole volume.

    The peak is the sum of three parts:
    - passes through the network take about the bytes of `forward_cost`;
    - each block in flight takes the voxels that its tiles read, and its stored probabilities;
    - each block in inference takes its sum of probabilities and a copy of the sum, in float32.
    """
    layout, geometry = task.layout, tile_geometry(task.model, tile)
    block = Box.of_shape(layout.block).clipped(layout.shape)
    blocks, at_once = blocks or len(layout.grid), task.predict.max_blocks_in_flight
    lattices = tile_lattices(task.predict.test_time_augmentation, geometry, task.offsets)
    read = read_box(block, lattices).size * layout.raw_bytes
    stored = task.stored * np.dtype(task.predict.dtype).itemsize * block.size
    summed = 4 * (task.classes + task.stored) * block.size
    cost = forward_cost(task.model, task.classes, tile, layout.channels, batch, task.precision)
    passes = ALLOCATOR_OVERHEAD[kind] * cost.bytes * (threads if kind == "cpu" else 1)
    in_flight, inferred = min(at_once, blocks) * (read + stored), min(MAX_BLOCKS_INFERRED, blocks)
    if kind == "cpu":
        fragmentation = FRAGMENTATION_FACTOR if blocks > at_once else 1.0
        return JobMemory(PROCESS_BYTES + fragmentation * (in_flight + inferred * summed) + passes, 0.0)
    return JobMemory(2 * PROCESS_BYTES + in_flight, inferred * (read + summed + stored) + passes)


def concurrent_tiles(task: PredictionTask, choice: TileSelection, device: torch.device, threads: int) -> int:
    """Return how many CPU threads compute a tile at the same time: as many as fit into the free memory."""
    if device.type != "cpu":
        return 1
    limit = memory_limit(device, threads)
    return max(
        n for n in range(1, threads + 1) if n == 1 or required_bytes(task, choice.tile, choice.batch, "cpu", n) <= limit
    )


def memory_limit(device: torch.device, threads: int) -> float:
    """Return the bytes that a job may take: of a GPU all that is free, of the machine's memory a share by cores."""
    share = min(1.0, threads / usable_cores()) if device.type == "cpu" else 1.0
    return USABLE_SHARE * share * free_bytes(device)


def cached_selection(folder: Path, task: PredictionTask, device: torch.device, threads: int) -> TileSelection:
    """Return the selection that `folder` holds for a volume. If there is none, select what fits now and write it."""
    found = read_selection(folder, task)
    if found is None:
        write_json_if_absent(_path(folder, task), asdict(select_tile(task, device, threads)))
        found = read_selection(folder, task)
    assert found is not None
    return found


def read_selection(folder: Path, task: PredictionTask) -> TileSelection | None:
    """Read the selection of an earlier run or of another job from `folder`; return None if there is none."""
    path = _path(folder, task)
    if not path.exists():
        return None
    values = read_json(path)
    return TileSelection(tuple(values["tile"]), values["batch"], values["why"])


def _path(folder: Path, task: PredictionTask) -> Path:
    return folder / "probability-tiles" / f"{task.key}.json"


def device_kind(device: torch.device) -> DeviceKind:
    """Return "cuda" for a GPU and "cpu" for any other device."""
    return "cuda" if device.type == "cuda" else "cpu"
