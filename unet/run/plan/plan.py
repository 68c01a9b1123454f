"""The estimated cost of a run, from the headers of its volumes: jobs, arithmetic, time, memory, disk and files.

1. `plan_volume`     counts blocks, block ranges, tiles and arithmetic of each predicted volume.
2. `job_counts`      (`unet.run.rules`) counts the jobs; `RULES` holds what they take beside the network.
3. `Speeds`          are how fast the device is in the network: measured now (`calibration`), or given.
4. `plan_rules`      adds up time and memory of each rule; `disk` what is stored; `limits` what will not work.
5. `wall_seconds`    takes rule after rule, as many of its jobs at once as there are cores or GPUs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from unet.network.output_channels import offsets_of, stored_channels
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
from unet.run.plan.calibration import Seconds, Speeds, given_speeds, measured_speeds
from unet.run.plan.disk import StorePlan, store_plans
from unet.run.plan.limits import Free, advice_on_blocks, errors_of, warnings_of
from unet.run.plan.network_cost import network_bytes, training_tile
from unet.run.plan.resources import RulePlan, core_seconds, held_bytes, voxels_per_fragment
from unet.run.plan.workload import Workload
from unet.run.rules import RULES, JobCount, cost_of, job_counts
from unet.training.shape_descriptors import learnt_descriptors
from unet.volumes.layout import VolumeLayout
from unet.volumes.layout_from_headers import expected_layout
from unet.volumes.volume import Volume

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
        gpus = config.plan.gpus if config.plan.gpus is not None else max(here, int(config.plan.gpu_flops is not None))
        kind: DeviceKind = "cuda" if gpus and (here or config.plan.gpu_flops is not None) else "cpu"
        return cls(config.plan.cores or usable_cores(), gpus, kind, threads)

    @property
    def device(self) -> torch.device:
        """Device of a job that computes the network."""
        return torch.device("cuda", 0) if self.kind == "cuda" else torch.device("cpu")

    @property
    def is_elsewhere(self) -> bool:
        """Whether there will be a GPU that is not at hand."""
        return self.kind == "cuda" and not torch.cuda.is_available()

    def threads(self, rule: str) -> int:
        """Return the threads of a job."""
        return min(self.cores, self.predict_threads if rule == "predict" else RULES[rule].cost.threads)

    def at_once(self, rule: str) -> int:
        """Return how many jobs of a rule run side by side."""
        return max(1, self.gpus if self.kind == "cuda" and rule in ON_GPU else self.cores // self.threads(rule))


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
    warnings: Sequence[str] = field(default_factory=tuple)
    errors: Sequence[str] = field(default_factory=tuple)

    @property
    def wall_seconds(self) -> float:
        """Seconds from the first job to the last."""
        return sum(
            ceil(one.jobs / one.at_once) * (one.seconds / one.jobs + JOB_SECONDS) + one.jobs * SCHEDULING_SECONDS
            for one in self.rules
        )

    @property
    def gpu_hours(self) -> float:
        """Hours of the jobs that hold a GPU; 0 without one."""
        if self.resources.kind == "cpu":
            return 0
        return sum(one.seconds for one in self.rules if one.rule in ON_GPU) / 3600

    @property
    def core_hours(self) -> float:
        """Hours of processors that are busy, beside GPUs or without."""
        alone = [one for one in self.rules if self.resources.kind == "cpu" or one.rule not in ON_GPU]
        return sum(one.core_seconds for one in alone) / 3600


def plan_run(config: Config, threads: int) -> RunPlan:
    """Estimate what a run of this configuration will cost, with `threads` for a prediction. No voxel is read."""
    resources = ComputeResources.of(config, threads)
    layouts = {name: expected_layout(config, name) for name in config.used_volumes}
    first = layouts.get(config.train.volumes[0] if config.train.volumes else "", next(iter(layouts.values())))
    model, classes = architecture(config, first.voxel_size_nm)
    # the given file stays in the configuration, so that nothing is trained
    model = model.model_copy(update={"checkpoint": config.model.checkpoint})
    config = config.model_copy(update={"model": model})
    tasks = _tasks(config, resources, layouts, classes)
    volumes = [_planned_volume(config, resources, name, task) for name, task in tasks.items()]
    training, channels, described = 0.0, None, None
    if config.learning_volumes:
        channels = layouts[config.train.volumes[0]].channels
        described = learnt_descriptors(config.model, config.train, first.voxel_size_nm)
        learnt = len(classes) + (described.channels if described else 0)
        training = training_flops(config, learnt, training_tile(config), channels)
    if config.plan.gpu_flops is not None:
        tile_flops = {one.name: one.flops / one.tiles for one in volumes}
        speeds = given_speeds(tile_flops, training / config.train.steps, config.plan.gpu_flops)
    else:
        choices = {one.name: (tasks[one.name], one.choice) for one in volumes}
        speeds = measured_speeds(
            config, choices, len(classes), channels, resources.device, resources.threads, described
        )
    rules, stored = plan_rules(config, layouts, volumes, speeds, resources), len(stored_channels(classes))
    stores = [store for name, layout in layouts.items() for store in store_plans(config, name, layout, stored)]
    plan = RunPlan(volumes, rules, stores, training, resources, speeds, edges_of(config, layouts))
    return replace(
        plan,
        price=price_of(plan, config),
        currency=config.plan.currency,
        warnings=[
            *warnings_of(rules, stores, Free.here(config)),
            *advice_on_blocks(config, [layouts[name] for name in config.predict.volumes]),
        ],
        errors=errors_of(config, layouts),
    )


def _tasks(
    config: Config, resources: ComputeResources, layouts: Mapping[str, VolumeLayout], classes: Sequence[str]
) -> dict[str, PredictionTask]:
    """Return what is predicted of each volume."""
    precision = config.predict.precision
    if not resources.is_elsewhere:
        precision = choose_precision(precision, resources.device)
    precision, stored = "bfloat16" if precision == "auto" else precision, len(stored_channels(classes))
    offsets = offsets_of(classes)
    return {
        name: PredictionTask(config.model, len(classes), stored, layouts[name], config.predict, precision, offsets)
        for name in config.predict.volumes
    }


def _planned_volume(config: Config, resources: ComputeResources, name: str, task: PredictionTask) -> VolumePlan:
    """Plan a volume with the tile that an earlier run has chosen, else with the tile that fits now."""
    threads = resources.threads("predict")
    limit = 1e9 * config.plan.gpu_memory_gb if resources.is_elsewhere else None
    folder = Path(config.results) / "volumes" / name
    choice = read_selection(folder, task) or select_tile(task, resources.device, threads, limit)
    block_ranges = RULES["predict"].job_count(config, task.layout)
    return plan_volume(name, task, choice, block_ranges, kind=resources.kind, threads=threads)


def plan_volume(
    name: str,
    task: PredictionTask,
    choice: TileSelection,
    block_ranges: int,
    *,
    kind: DeviceKind = "cpu",
    threads: int = 1,
) -> VolumePlan:
    """Count the tiles and the arithmetic of predicting a volume, on a device with so many tiles at once on a CPU."""
    layout, geometry = task.layout, task.geometry(choice.tile)
    blocks, tiles = len(layout.grid), tile_count(layout.grid, geometry)
    per_pass = forward_cost(task.model, task.classes, choice.tile, layout.channels).flops
    flops = tiles * passes(layout.grid, geometry, task.predict.test_time_augmentation) * per_pass
    memory = job_memory(task, choice.tile, choice.batch, kind, threads, ceil(blocks / block_ranges))
    return VolumePlan(name, layout.shape, blocks, block_ranges, choice, tiles, flops, memory)


def passes(grid: Grid, geometry: TileGeometry, augmentation: TestTimeAugmentation) -> float:
    """Return the passes through the network per tile of the volume's own lattice.

    Turned blocks touch other cells than straight ones, so rotations take not quite 7, and are counted. The number of
    tiles along z is the same for both, so one section tells.
    """
    blocks = Grid((1, *grid.shape[1:]), (1, *grid.block[1:]))
    some = [blocks.box(blocks.index_of(n)) for n in range(0, len(blocks), ceil(len(blocks) / TURNED_BLOCKS))]
    touched = sum(len(lattice.cells(box)) for lattice in tile_lattices(augmentation, geometry) for box in some)
    return len(SYMMETRIES[augmentation]) * touched / sum(len(tiles_for(box, geometry)) for box in some)


def plan_rules(
    config: Config,
    layouts: Mapping[str, VolumeLayout],
    volumes: Sequence[VolumePlan],
    speeds: Speeds,
    resources: ComputeResources,
) -> list[RulePlan]:
    """Add up time and memory of all jobs of every rule, in the order of the chain."""
    predicted, found = {one.name: one for one in volumes}, dict[str, RulePlan]()
    for one in job_counts(config, layouts):
        volume = predicted[str(one.volume)] if one.rule == "predict" else None
        (clock, processor), memory, on_gpu = _job_cost(config, one, layouts, volume, speeds, resources)
        before = found.get(one.rule, RulePlan(one.rule, 0, 0, 0, 0, 0, 0, resources.at_once(one.rule)))
        found[one.rule] = RulePlan(
            one.rule,
            before.jobs + one.jobs,
            before.seconds + one.jobs * clock,
            before.core_seconds + one.jobs * processor,
            max(before.job_seconds, clock),
            max(before.memory_mb, memory / 1e6),
            max(before.gpu_mb, on_gpu / 1e6),
            before.at_once,
        )
    return list(found.values())


def _job_cost(
    config: Config,
    one: JobCount,
    layouts: Mapping[str, VolumeLayout],
    volume: VolumePlan | None,
    speeds: Speeds,
    resources: ComputeResources,
) -> tuple[Seconds, float, float]:
    """Return the seconds of one job, and the bytes of its process and of its GPU: its own work, and the network's."""
    threads, work, start = resources.threads(one.rule), _workload(config, one, layouts), cost_of(one.rule, config).start
    network, on_gpu = list[tuple[Seconds, float]](), 0.0
    memory = held_bytes(one.rule, config, work, threads)
    if volume is not None:
        network = [(speeds.tile[volume.name], volume.tiles / one.jobs)]
        memory, on_gpu = volume.job_memory.process, volume.job_memory.gpu
    elif one.rule == "train":
        train = config.train
        validations = ceil(train.steps / train.validation_steps) if train.validation else 0
        network = [(speeds.step, train.steps), (speeds.validation, validations)]
        step = network_bytes(one.rule, config, work, threads)
        memory, on_gpu = memory + step, step if resources.kind == "cuda" else 0
    voxels = core_seconds(one.rule, config, work) - start
    side_by_side = min(threads, max(1, work.job // work.block))
    seconds = (
        (start + voxels / side_by_side) / speeds.machine + sum(each[0] * times for each, times in network),
        (start + voxels) / speeds.machine + sum(each[1] * times for each, times in network),
    )
    return seconds, memory, on_gpu


def _workload(config: Config, one: JobCount, layouts: Mapping[str, VolumeLayout]) -> Workload:
    """Return the workload of a job; of a blockwise rule an even share, in voxels that need not be whole blocks."""
    counted = RULES[one.rule].volumes
    names = [one.volume] if one.volume else counted(config) if counted else []
    volumes = tuple(Volume(Path(name), layouts[name]) for name in names)  # no store of them is looked at
    voxels = sum(prod(volume.layout.shape) for volume in volumes)
    return Workload(volumes, ceil(voxels / one.jobs) if RULES[one.rule].blockwise else voxels)


def edges_of(config: Config, layouts: Mapping[str, VolumeLayout]) -> float:
    """Return the edges of the largest region graph; 0 where none is needed."""
    graphs = [layouts[name] for name in config.predict.volumes] if config.segment.has_graph else []
    most = max((prod(layout.shape) for layout in graphs), default=0)
    return EDGES_PER_FRAGMENT * (most / voxels_per_fragment(config))


def price_of(plan: RunPlan, config: Config) -> float | None:
    """Return what the hours cost; None without a price."""
    gpu, core = config.plan.price_per_gpu_hour, config.plan.price_per_core_hour
    if gpu is None and core is None:
        return None
    return plan.gpu_hours * (gpu or 0) + plan.core_hours * (core or 0)
