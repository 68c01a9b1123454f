"""Measure the machine at hand within seconds: a tile, a training step, the files of a block.

1. `tile_seconds`      The real predictor with the tile, batch, precision and threads of a job, on grey values of noise.
2. `training_seconds`  The real training loop with the tile and batch of the training, on drawn cells.
3. `machine_speed`     A block written to a real store with its pyramid and read again, against the machine on which
                       `RULES` was measured: so much faster or slower are the rules that need no network.

Processor seconds are all threads' together and hold on a busy machine too; on a GPU only wall-clock time counts.
"""

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from unet.config.root import Config
from unet.config.train import TrainConfig
from unet.geometry.box import Box, Index
from unet.geometry.training_tile import training_geometry, validation_geometry
from unet.jobs.device_capacity import keep_freed_memory
from unet.network.load_predictor import predictor_of
from unet.network.model import build_model
from unet.network.predictor import read_box
from unet.network.tile_selection import PredictionTask, TileSelection
from unet.storage.zarr_store import ImageSpec, create_image
from unet.training.labelled_volume import LabelledVolume
from unet.training.learning_curve import LearningCurve
from unet.training.patches import Batch, CachedVolume, PatchSampler
from unet.training.shape_descriptors import ShapeDescriptors, learnt_descriptors
from unet.training.trainer import train
from unet.training.validation import Validation
from unet.volumes.histogram import histogram
from unet.volumes.intensity import Normalisation, intensity_statistics
from unet.volumes.layout import VolumeLayout

Seconds = tuple[float, float]
"""On the clock, and of all processors together."""
MIN_SECONDS = 1.0
"""Seconds that a measurement goes on for, once the work has been done for the first time."""
BLOCK = (16, 512, 512)
REPEATS = 7
REFERENCE_SECONDS = 0.0225
"""Least processor seconds of that block where `unet.run.rules.RULES` was measured (2026-11-25)."""


@dataclass(frozen=True)
class Speeds:
    """Speeds of the network, and of this machine in everything else.

    `tile` holds the seconds per tile of each predicted volume, all its passes included; `step` and `validation` are
    those of a training. `machine` is the speed of what needs no network, over the speed of the machine on which the
    costs in `RULES` were measured. `source` says for people where these are from.
    """

    tile: Mapping[str, Seconds]
    step: Seconds
    validation: Seconds
    machine: float
    source: str

    def training(self, config: TrainConfig) -> Seconds:
        """Return the seconds of a training with its validations, without the start of the job."""
        validations = ceil(config.steps / config.validation_steps) if config.validation else 0
        clock, processor = (a * config.steps + b * validations for a, b in zip(self.step, self.validation, strict=True))
        return clock, processor


def tile_seconds(task: PredictionTask, choice: TileSelection, device: torch.device, threads: int) -> Seconds:
    """Measure a tile of the volume's own lattice, with as many at once as a job computes, all its passes included."""
    keep_freed_memory()
    channels, (z, y, x) = task.layout.channels, task.geometry(choice.tile).stride
    network = build_model(task.model, channels, task.classes)
    predictor = predictor_of(task, choice, network, _normalisation(channels), device, threads)
    tiles = predictor.threads * choice.batch
    box = Box((0, 0, 0), (z, y, x * tiles))  # so many cells side by side
    shape = channels, *read_box(box, predictor.lattices).shape
    window = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    clock, processor = measured(lambda: predictor.infer(window, box))
    return clock / tiles, processor / tiles


def training_seconds(
    config: Config, learnt: VolumeLayout, outputs: int, device: torch.device, threads: int
) -> tuple[Seconds, Seconds]:
    """Measure a training step on one device, its patches included; and a validation."""
    torch.set_num_threads(threads)
    model, asked, volume = config.model, config.train, _cells(learnt.channels)
    geometry = training_geometry(model, asked.tile, asked.loss_region)
    sampler = PatchSampler([volume], geometry.input, geometry.output, asked.augment, model.dimensions, asked.batch)
    network, batch, ticks = build_model(model, learnt.channels, outputs), sampler.batch(0), list[Seconds]()
    _, patches = measured(lambda: sampler.batch(0))
    descriptors = learnt_descriptors(model, asked, learnt.voxel_size_nm)
    if descriptors is not None:
        patches += asked.batch * _described_seconds(descriptors, geometry.output)

    def same_batch(start: int, stop: int, **_: Any) -> Generator[Batch, None, None]:
        for step in range(start, stop + 1):
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            ticks.append((time.perf_counter(), time.process_time()))
            if step < stop:
                yield batch

    few = asked.model_copy(update={"steps": 3, "log_steps": 3, "validation": [], "gpus": 1, "compile": "never"})
    with TemporaryDirectory() as folder:
        state, curve = Path(folder) / "state.pt", LearningCurve(Path(folder) / "curve.jsonl")
        batches: Any = SimpleNamespace(batches=same_batch)
        train(network, batches, few, state_path=state, curve=curve, fingerprint="", device=device, threads=threads)
    tiles = validation_geometry(model, asked.tile, asked.loss_region)
    validation = Validation([volume], tiles, 1, device, threads)
    crop = measured(lambda: validation.validate(network)) if asked.validation else (0.0, 0.0)
    beside = patches / threads if device.type == "cpu" else 0  # a GPU goes on meanwhile
    _, (clock, processor), _, (clock_at_end, processor_at_end) = ticks  # the first step allocates
    step = (clock_at_end - clock) / 2 + beside, (processor_at_end - processor) / 2 + patches
    return step, (crop[0] * asked.validation_crops, crop[1] * asked.validation_crops)


def _described_seconds(descriptors: ShapeDescriptors, output: Index) -> float:
    """Measure the processor seconds of the shape descriptors of a patch that columns of 32 x 32 px cross."""
    z, y, x = (n + 2 * m for n, m in zip(output, descriptors.margin, strict=True))
    columns = 1 + 1000 * (np.arange(y)[:, None] // 32) + np.arange(x) // 32
    ids = np.broadcast_to(columns.astype(np.uint32), (z, y, x))
    return measured(lambda: descriptors.targets(ids))[1]


def machine_speed() -> float:
    """Measure how much faster this machine is without a network than the machine on which `RULES` was measured."""
    with TemporaryDirectory() as folder:
        spec = ImageSpec("calibration", BLOCK, "uint8", (8, 128, 128), BLOCK, (50, 4, 4))
        image, box = create_image(Path(folder) / "raw.zarr", spec), Box.of_shape(BLOCK)
        values = np.random.default_rng(0).normal(128, 20, BLOCK).astype(np.uint8)

        def once() -> None:
            image.write_block(box, values)
            image.read(box)

        return REFERENCE_SECONDS / min(measured(once, 0)[1] for _ in range(REPEATS))


def measured(work: Callable[[], Any], seconds: float = MIN_SECONDS) -> Seconds:
    """Measure `work` for so long, once it has been done before; where that takes long, the first time."""
    for at_least in (0.0, seconds):
        count, clock, processor = 0, time.perf_counter(), time.process_time()
        while count == 0 or time.perf_counter() - clock < at_least:
            work()
            count += 1
        taken = (time.perf_counter() - clock) / count, (time.process_time() - processor) / count
        if taken[0] * count > MIN_SECONDS:
            break
    return taken


def _cells(channels: int) -> LabelledVolume:
    """Return square cells of 30 px with membranes of 2 px, in noise."""
    line, shape = np.arange(600) % 32 < 2, (4, 600, 600)
    interior = np.broadcast_to(~(line[:, None] | line), shape)
    noise = np.random.default_rng(0).normal(0, 20, (channels, *shape))
    raw = np.clip(interior * 80 + 90 + noise, 0, 255).astype(np.uint8)
    targets, weights = interior.astype(np.uint8), np.ones(shape, np.float32)
    return LabelledVolume(_in_memory(raw), _in_memory(targets), _in_memory(weights), _normalisation(channels))


def _in_memory(values: np.ndarray) -> CachedVolume:
    return CachedVolume(
        SimpleNamespace(shape=values.shape[-3:], dtype=values.dtype, read=lambda box: values[box.trailing])
    )


def _normalisation(channels: int) -> Normalisation:
    counts = histogram(np.random.default_rng(0).integers(0, 256, 10_000, dtype=np.uint8))
    return Normalisation.of([vars(intensity_statistics(counts, np.dtype(np.uint8)))] * channels)
