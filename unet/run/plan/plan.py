"""The estimated cost of a run, from the headers of its volumes: jobs, arithmetic, time, memory, disk and files.

1. `Planner.volume`  counts blocks, block ranges, tiles and arithmetic of each predicted volume.
2. `Planner.speeds` is the speed of the device in the network: measured now (`calibration`), or given.
3. `Planner.rules`   walks through `job_counts` (`unet.run.rules`) and adds up time and memory of each rule.
4. `disk` adds up what is stored; `limits` says what will not work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod
from pathlib import Path

import torch

from unet.config.root import Config
from unet.geometry.box import Index
from unet.geometry.grid import Grid
from unet.geometry.tiling import TileGeometry, tile_count, tiles_for
from unet.jobs.device_capacity import usable_cores
from unet.network.complexity import forward_cost, training_flops
from unet.network.model_header import architecture
from unet.network.output_channels import stored_channels
from unet.network.precision import choose_precision
from unet.network.predictor import tile_lattices
from unet.network.symmetries import SYMMETRIES, TestTimeAugmentation
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
from unet.run.plan.calibration import Speeds, machine_speed, tile_seconds, training_seconds
from unet.run.plan.disk import StorePlan, store_plans
from unet.run.plan.limits import Free, advice_on_blocks, errors_of, warnings_of
from unet.run.plan.network_cost import learnt_channels, network_bytes, prediction_task
from unet.run.plan.resources import RulePlan, core_seconds, held_bytes
from unet.run.plan.workload import Workload
from unet.run.rules import RULES, JobCount, cost_of, job_counts
from unet.training.shape_descriptors import learnt_descriptors
from unet.volumes.layout import VolumeLayout
from unet.volumes.layout_from_headers import expected_layout

TURNED_BLOCKS = 25
"""Blocks of a section on which the tiles of rotations are counted, spread evenly; all where there are fewer."""
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

    def selected_tile(self, name: str) -> tuple[PredictionTask, TileSelection]:
        """Return what is predicted of a volume, with the tile that an earlier run has chosen, else one that fits."""
        config, device, limit = self.config, torch.device(self.resources.kind), None
        asked = config.predict.precision
        if device.type == "cpu" or torch.cuda.is_available():
            precision = choose_precision(asked, device)
        else:  # a GPU that is not at hand
            precision = "bfloat16" if asked == "auto" or asked == "fastest" else asked
            limit = 1e9 * config.plan.gpu_memory_gb
        model = config.model.model_copy(update={"checkpoint": None})  # as the model file has it
        task = prediction_task(model, self.channels, self.layouts[name], config.predict, precision)
        found = read_selection(Path(config.results) / "volumes" / name, task)
        return task, found or select_tile(task, device, self.resources.threads("predict"), limit)

    def volume(self, name: str, task: PredictionTask, choice: TileSelection) -> VolumePlan:
        """Count the tiles and the arithmetic of predicting a volume."""
        layout, grid, geometry = task.layout, task.layout.grid, task.geometry(choice.tile)
        ranges, tiles = RULES["predict"].job_count(self.config, layout), tile_count(grid, geometry)
        per_pass = forward_cost(task.model, task.classes, choice.tile, layout.channels).flops
        flops = tiles * passes(grid, geometry, task.predict.test_time_augmentation) * per_pass
        on, threads, blocks = self.resources.kind, self.resources.threads("predict"), ceil(len(grid) / ranges)
        memory = job_memory(task, choice.tile, choice.batch, on, threads, blocks)
        return VolumePlan(name, layout.shape, len(grid), ranges, choice, tiles, flops, memory)

    def given_speeds(self, volumes: Sequence[VolumePlan], flops: float) -> Speeds:
        """Return the speeds of GPUs that reach `flops` operations per second."""
        tile = {one.name: one.flops / one.tiles / flops for one in volumes}
        given, step = {name: (own, own) for name, own in tile.items()}, self.training_flops / self.config.train.steps
        step /= flops
        source = f"a GPU at {flops / 1e12:g} TFLOP/s (plan.gpu_flops)"
        return Speeds(given, (step, step), (0, 0), 1.0, source)

    def measured_speeds(self, tiles: Mapping[str, tuple[PredictionTask, TileSelection]]) -> Speeds:
        """Measure the device at hand; volumes that are predicted with the same tile are measured once."""
        kind, threads, config = self.resources.kind, self.resources.threads, self.config
        keys = {name: (one.tile, one.batch, task.layout.channels) for name, (task, one) in tiles.items()}
        alike = {key: name for name, key in reversed(keys.items())}
        known = {key: tile_seconds(*tiles[name], torch.device(kind), threads("predict")) for key, name in alike.items()}
        step = validation = (0.0, 0.0)
        if self.learnt:
            described = learnt_descriptors(config.model, config.train, self.learnt.voxel_size_nm)
            device = torch.device(kind), threads("train")
            step, validation = training_seconds(
                config.model, config.train, len(self.channels), self.learnt.channels, *device, described
            )
        source = f"measured on this {kind.upper()}, now: the network's own tiles, training steps and stores"
        return Speeds({name: known[key] for name, key in keys.items()}, step, validation, machine_speed(), source)

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
        names, all_volumes = [one.volume] if one.volume else [], RULES[rule].volumes
        volumes = {name: self.layouts[name] for name in names or (all_volumes(config) if all_volumes else [])}
        # an even share, in voxels that need not be whole blocks
        work = Workload(volumes, ceil(sum(prod(layout.shape) for layout in volumes.values()) / one.jobs))
        clock, processor, memory, gpu = 0.0, 0.0, held_bytes(rule, config, work, threads), 0.0
        if rule == "predict":
            volume = predicted[names[0]]
            clock, processor = (seconds * (volume.tiles / one.jobs) for seconds in speeds.tile[volume.name])
            memory, gpu = volume.job_memory.process, volume.job_memory.gpu
        elif rule == "train":
            clock, processor = speeds.training(config.train)
            step = network_bytes(rule, config, work, threads)
            memory, gpu = memory + step, step * self.resources.on_gpu(rule)
        start, side_by_side = cost_of(rule, config).start, min(threads, max(1, work.job // work.blocks()))
        own = core_seconds(rule, config, work) - start
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
    tiles = {name: planner.selected_tile(name) for name in config.predict.volumes}
    volumes = [planner.volume(name, *tile) for name, tile in tiles.items()]
    speeds = planner.measured_speeds(tiles) if flops is None else planner.given_speeds(volumes, flops)
    rules, stored = planner.rules(volumes, speeds), len(stored_channels(channels))
    stores = [store for name, layout in layouts.items() for store in store_plans(config, name, layout, stored)]
    predicted = [layouts[name] for name in config.predict.volumes]
    graphs = predicted if config.segment.has_graph else []
    most = max((prod(layout.shape) for layout in graphs), default=0)
    edges = EDGES_PER_FRAGMENT * (most / voxels_per_fragment(config))
    warnings = warnings_of(rules, stores, Free.here(config)) + advice_on_blocks(config, predicted)
    plan = RunPlan(volumes, rules, stores, planner.training_flops, resources, speeds, edges, None, config.plan.currency)
    plan = replace(plan, warnings=warnings, errors=errors_of(config, layouts))
    return replace(plan, price=price_of(plan, config))


def passes(grid: Grid, geometry: TileGeometry, augmentation: TestTimeAugmentation) -> float:
    """Return the passes through the network per tile of the volume's own lattice.

    Turned blocks touch other cells than straight ones, so rotations take not quite 7, and are counted. The number of
    tiles along z is the same for both, so one section decides.
    """
    blocks = Grid((1, *grid.shape[1:]), (1, *grid.block[1:]))
    some = [blocks.box(blocks.index_of(n)) for n in range(0, len(blocks), ceil(len(blocks) / TURNED_BLOCKS))]
    touched = sum(len(lattice.cells(box)) for lattice in tile_lattices(augmentation, geometry) for box in some)
    return len(SYMMETRIES[augmentation]) * touched / sum(len(tiles_for(box, geometry)) for box in some)


def price_of(plan: RunPlan, config: Config) -> float | None:
    """Return what the hours cost; None without a price."""
    gpu, core = config.plan.price_per_gpu_hour, config.plan.price_per_core_hour
    return None if gpu is core is None else plan.gpu_hours * (gpu or 0) + plan.core_hours * (core or 0)
