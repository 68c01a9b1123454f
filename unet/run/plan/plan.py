"""The estimated cost of a run, from the headers of its volumes: jobs, arithmetic, time, memory, disk and files.

1. `Planner.volume`  counts blocks, block ranges, tiles and arithmetic of each predicted volume.
2. `Planner.measured_speeds` measures the device in the network (`calibration`); `Planner.given_speeds` takes
   `plan.gpu_flops` for it.
3. `Planner.rules`   walks through `job_counts` (`unet.run.rules`) and adds up time and memory of each rule.
4. `disk` adds up what is stored; `limits` says what will not work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import torch

from unet.config.root import Config
from unet.geometry.box import Index
from unet.jobs.device_capacity import usable_cores
from unet.network.complexity import training_flops
from unet.network.model_header import architecture
from unet.network.output_channels import stored_channels
from unet.network.precision import choose_precision
from unet.network.tile_selection import (
    DeviceKind,
    JobMemory,
    PredictionTask,
    TileSelection,
    job_memory,
    read_selection,
    select_tile,
)
from unet.run.merge_parts import voxels_per_fragment
from unet.run.plan.calibration import Seconds, Speeds, machine_speed, tile_seconds, training_seconds
from unet.run.plan.disk import StorePlan, store_plans
from unet.run.plan.limits import Free, advice_on_blocks, errors_of, warnings_of
from unet.run.plan.network_cost import learnt_channels, network_bytes, passes
from unet.run.plan.resources import RulePlan, core_seconds, held_bytes
from unet.run.rules import RULES, JobCount, cost_of, job_counts
from unet.volumes.layout import VolumeLayout
from unet.volumes.layout_from_headers import expected_layout

JOB_SECONDS = 0.5
"""Seconds of Snakemake between jobs of a rule that follow each other, on the machine itself (benchmarks/plan.py)."""
SCHEDULING_SECONDS = 0.02
"""Seconds of Snakemake's main process per job (benchmarks/scheduling.py)."""
ON_GPU = ("train", "predict")
EDGES_PER_FRAGMENT = 6
"""fib25: 5.2; the benchmark of the global solve has 6."""


@dataclass(frozen=True)
class VolumePlan:
    """The estimated prediction of one volume."""

    name: str
    shape: Index
    blocks: int
    block_ranges: int
    choice: TileSelection
    tiles: int
    flops: float
    job_memory: JobMemory


@dataclass(frozen=True)
class ComputeResources:
    """Cores and GPUs that a run has, all machines together, and the threads of a prediction."""

    cores: int
    gpus: int
    kind: DeviceKind
    predict_threads: int

    @classmethod
    def of(cls, config: Config, threads: int) -> "ComputeResources":
        """Return the resources that the configuration names, else those of this machine."""
        here = torch.cuda.device_count() if torch.cuda.is_available() else 0
        given = config.plan.gpu_flops is not None
        gpus = max(here, int(given)) if config.plan.gpus is None else config.plan.gpus
        return cls(config.plan.cores or usable_cores(), gpus, "cuda" if gpus and (here or given) else "cpu", threads)

    @property
    def device(self) -> torch.device:
        """Device on which the network runs."""
        return torch.device(self.kind)

    def threads(self, rule: str) -> int:
        """Return the threads of a job."""
        return min(self.cores, self.predict_threads if rule == "predict" else RULES[rule].cost.threads)

    def on_gpu(self, rule: str) -> bool:
        """Return whether the jobs of a rule hold a GPU."""
        return self.kind == "cuda" and rule in ON_GPU

    def at_once(self, rule: str) -> int:
        """Return how many jobs of a rule run side by side."""
        return max(1, self.gpus if self.on_gpu(rule) else self.cores // self.threads(rule))


@dataclass(frozen=True)
class RunPlan:
    """The estimated cost of a run; `errors` are what cannot work, `warnings` what may not work here."""

    volumes: Sequence[VolumePlan]
    rules: Sequence[RulePlan]
    stores: Sequence[StorePlan]
    training_flops: float
    resources: ComputeResources
    speeds: Speeds
    edges: float
    price: float | None = None
    currency: str = ""
    warnings: Sequence[str] = ()
    errors: Sequence[str] = ()

    @property
    def wall_seconds(self) -> float:
        """Seconds from the first job to the last: rule after rule, as many jobs at once as there are cores or GPUs."""
        return sum(
            ceil(one.jobs / one.at_once) * (one.seconds / one.jobs + JOB_SECONDS) + one.jobs * SCHEDULING_SECONDS
            for one in self.rules
        )

    @property
    def gpu_hours(self) -> float:
        """Hours of the jobs that hold a GPU; 0 without one."""
        return sum(one.seconds for one in self.rules if self.resources.on_gpu(one.rule)) / 3600

    @property
    def core_hours(self) -> float:
        """Hours of processors that are busy, beside GPUs or without."""
        return sum(one.core_seconds for one in self.rules if not self.resources.on_gpu(one.rule)) / 3600


@dataclass(frozen=True)
class Planner:
    """The parts of a plan: `config` has the architecture that predicts, `channels` are the network's outputs, and
    `layouts` those of the volumes that the run uses."""

    config: Config
    channels: list[str]
    layouts: Mapping[str, VolumeLayout]
    resources: ComputeResources

    @property
    def learnt(self) -> VolumeLayout | None:
        """Layout of the first training volume; None where nothing is trained."""
        return self.layouts[self.config.train.volumes[0]] if self.config.learning_volumes else None

    @property
    def training_flops(self) -> float:
        """Operations of the training."""
        learnt, config = self.learnt, self.config
        return training_flops(config, learnt_channels(config, learnt), learnt.channels) if learnt else 0.0

    @property
    def edges(self) -> float:
        """Edges of the largest region graph."""
        graphs = self.config.predict.volumes if self.config.segment.has_graph else []
        most = max((self.layouts[name].voxels for name in graphs), default=0)
        return EDGES_PER_FRAGMENT * (most / voxels_per_fragment(self.config))

    def task(self, name: str) -> PredictionTask:
        """Return what is predicted of a volume."""
        predict, precision = self.config.predict, choose_precision(self.config.predict.precision, self.resources.device)
        model = self.config.model.model_copy(update={"checkpoint": None})  # as the model file has it
        return PredictionTask.of(model, self.channels, self.layouts[name], predict, precision)

    def volume(self, name: str) -> VolumePlan:
        """Count tiles and arithmetic of a volume with the tile that an earlier run has chosen, else one that fits."""
        task, device, threads = self.task(name), self.resources.device, self.resources.threads("predict")
        choice = read_selection(Path(self.config.results) / "volumes" / name, task)
        if choice is None:
            elsewhere = device.type == "cuda" and not torch.cuda.is_available()
            limit = 1e9 * self.config.plan.gpu_memory_gb if elsewhere else None
            choice = select_tile(task, device, threads, limit)
        ranges, blocks = RULES["predict"].job_count(self.config, task.layout), len(task.layout.grid)
        flops = task.flops(choice.tile) * passes(task, choice.tile)
        memory = job_memory(task, choice.tile, choice.batch, self.resources.kind, threads, ceil(blocks / ranges))
        return VolumePlan(name, task.layout.shape, blocks, ranges, choice, task.tiles(choice.tile), flops, memory)

    def given_speeds(self, volumes: Sequence[VolumePlan], flops: float) -> Speeds:
        """Return the speeds of GPUs that reach `flops` operations per second."""
        tiles = {one.name: one.flops / one.tiles / flops for one in volumes}
        step = self.training_flops / self.config.train.steps / flops
        source = f"a GPU at {flops / 1e12:g} TFLOP/s (plan.gpu_flops)"
        return Speeds({name: (own, own) for name, own in tiles.items()}, (step, step), (0, 0), 1.0, source)

    def measured_speeds(self, volumes: Sequence[VolumePlan]) -> Speeds:
        """Measure the device at hand; volumes that are predicted with the same tile are measured once."""
        device, threads, tiles, known = self.resources.device, self.resources.threads, {}, dict[Any, Seconds]()
        for one in volumes:
            task = self.task(one.name)
            alike = one.choice.tile, one.choice.batch, task.layout.channels
            if alike not in known:
                known[alike] = tile_seconds(task, one.choice, device, threads("predict"))
            tiles[one.name] = known[alike]
        step = validation = (0.0, 0.0)
        if self.learnt:
            step, validation = training_seconds(self.config, self.learnt, len(self.channels), device, threads("train"))
        source = f"measured on this {device.type.upper()}, now: the network's own tiles, training steps and stores"
        return Speeds(tiles, step, validation, machine_speed(), source)

    def rules(self, volumes: Sequence[VolumePlan], speeds: Speeds) -> list[RulePlan]:
        """Add up time and memory of all jobs of every rule, in the order of the chain."""
        predicted, added = {one.name: one for one in volumes}, dict[str, RulePlan]()
        for one in job_counts(self.config, self.layouts):
            jobs = self._jobs(one, predicted, speeds)
            added[one.rule] = added[one.rule] + jobs if one.rule in added else jobs
        return list(added.values())

    def _jobs(self, one: JobCount, predicted: Mapping[str, VolumePlan], speeds: Speeds) -> RulePlan:
        """Return what the jobs of a rule on a volume take: their own work by the table of costs, and the network's."""
        rule, config, threads = one.rule, self.config, self.resources.threads(one.rule)
        names = [one.volume] if one.volume else RULES[rule].worked_on(config)
        layouts = {name: self.layouts[name] for name in names}
        clock, processor, memory, gpu = 0.0, 0.0, held_bytes(rule, config, layouts, threads), 0.0
        if rule == "predict":
            volume = predicted[names[0]]
            clock, processor = (seconds * (volume.tiles / one.jobs) for seconds in speeds.tile[volume.name])
            memory, gpu = volume.job_memory.process, volume.job_memory.gpu
        elif rule == "train":
            clock, processor = speeds.training(config.train)
            step = network_bytes(rule, config, layouts, threads)
            memory, gpu = memory + step, step * self.resources.on_gpu(rule)
        blocks = max(RULES[rule].share_of_job(config, one) // one.grid.voxels_of_largest() for one in layouts.values())
        start = cost_of(rule, config).start
        own, side_by_side = core_seconds(rule, config, layouts) - start, min(threads, max(1, blocks))
        clock += (start + own / side_by_side) / speeds.machine
        processor += (start + own) / speeds.machine
        seconds = one.jobs * clock, one.jobs * processor, clock
        return RulePlan(rule, one.jobs, *seconds, memory / 1e6, gpu / 1e6, self.resources.at_once(rule))


def plan_run(config: Config, threads: int) -> RunPlan:
    """Estimate what a run of this configuration will cost, with `threads` for a prediction. No voxel is read."""
    layouts = {name: expected_layout(config, name) for name in config.used_volumes}
    first = next(layouts[name] for name in (*config.train.volumes, *layouts) if name in layouts)
    model, channels = architecture(config, first.voxel_size_nm)
    # the given file stays in the configuration, so that nothing is trained
    model = model.model_copy(update={"checkpoint": config.model.checkpoint})
    config, resources = config.model_copy(update={"model": model}), ComputeResources.of(config, threads)
    planner, flops = Planner(config, channels, layouts, resources), config.plan.gpu_flops
    volumes, stored = [planner.volume(name) for name in config.predict.volumes], len(stored_channels(channels))
    speeds = planner.measured_speeds(volumes) if flops is None else planner.given_speeds(volumes, flops)
    rules = planner.rules(volumes, speeds)
    stores = [store for name, layout in layouts.items() for store in store_plans(config, name, layout, stored)]
    predicted = [layouts[name] for name in config.predict.volumes]
    warnings = warnings_of(rules, stores, Free.here(config)) + advice_on_blocks(config, predicted)
    plan = RunPlan(volumes, rules, stores, planner.training_flops, resources, speeds, planner.edges)
    price, errors = price_of(plan, config), errors_of(config, layouts)
    return replace(plan, price=price, currency=config.plan.currency, warnings=warnings, errors=errors)


def price_of(plan: RunPlan, config: Config) -> float | None:
    """Return what the hours cost; None without a price."""
    gpu, core = config.plan.price_per_gpu_hour, config.plan.price_per_core_hour
    return None if gpu is core is None else plan.gpu_hours * (gpu or 0) + plan.core_hours * (core or 0)
