"""What a run will cost, from the shapes alone: jobs, arithmetic, time, memory, disk and files. No voxel is read.

1. `plan_volume`       blocks, block ranges, tiles and arithmetic of each predicted volume.
2. `job_counts`        says which jobs there are; `RULES` what they take beside the network.
3. `Rates`             how fast the device is in the network: measured now (`calibration`), or as given.
4. `plan_rules`        time and memory of each rule; `disk` what is stored; `limits` what will not work.
5. `wall_seconds`      rule after rule, as many of its jobs at once as there are cores or GPUs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, inf, prod
from pathlib import Path

from unet.config.root import Config
from unet.geometry.block_ranges import block_range_count, voxels_per_job
from unet.geometry.box import Index
from unet.geometry.grid import Grid
from unet.geometry.tiling import TileGeometry, tile_count, tile_geometry, tiles_for
from unet.network.complexity import forward_cost
from unet.network.predictor import SYMMETRIES, Average, planes_of
from unet.network.tile_selection import JobMemory, Kind, Task, TileSelection, job_memory
from unet.run.plan.disk import StorePlan
from unet.run.plan.resources import Workload, core_seconds, fragments, held_bytes, network_bytes
from unet.run.rules import RULES, JobCount, cost_of
from unet.volumes.volume import Layout, Volume

TURNED_BLOCKS = 25
"""On how many blocks of a section the tiles of rotations are counted, spread evenly; on all where there are fewer."""
JOB_SECONDS = 0.5
"""Of Snakemake between the jobs of a rule that follow each other, on the machine itself (benchmarks/plan.py)."""
SCHEDULING_SECONDS = 0.02
"""Of Snakemake's main process for each job (benchmarks/scheduling.py)."""
ON_GPU = ("train", "predict")


@dataclass(frozen=True)
class Seconds:
    """Of one tile, step or job: on the clock, and of all processors together."""

    clock: float
    processor: float

    def __mul__(self, times: float) -> "Seconds":
        return Seconds(self.clock * times, self.processor * times)

    def __add__(self, other: "Seconds") -> "Seconds":
        return Seconds(self.clock + other.clock, self.processor + other.processor)


@dataclass(frozen=True)
class VolumePlan:
    """What predicting one volume takes."""

    name: str
    shape: Index
    blocks: int
    block_ranges: int
    choice: TileSelection
    tiles: int
    flops: float
    job_memory: JobMemory


@dataclass(frozen=True)
class Machine:
    """What there is to compute with, all machines together."""

    cores: int
    gpus: int
    kind: Kind
    predict_threads: int

    def threads(self, rule: str) -> int:
        """Of a job."""
        return min(self.cores, self.predict_threads if rule == "predict" else RULES[rule].cost.threads)

    def at_once(self, rule: str) -> int:
        """Jobs of a rule side by side."""
        return max(1, self.gpus if self.kind == "cuda" and rule in ON_GPU else self.cores // self.threads(rule))


@dataclass(frozen=True)
class Rates:
    """How fast the network is, and this machine in everything else.

    Parameters
    ----------
    tile : dict
        Of a tile of each predicted volume, all its passes.
    step, look : Seconds
        Of a training step, and of a look at the validation windows.
    speed : float
        Of what needs no network, against `unet.run.rules.RULES`.
    source : str
        Where they are from, for people.
    """

    tile: Mapping[str, Seconds]
    step: Seconds
    look: Seconds
    speed: float
    source: str


@dataclass(frozen=True)
class RulePlan:
    """All jobs of a rule: seconds on the clock one after the other, those of the longest job, and its memory."""

    rule: str
    jobs: int
    seconds: float
    core_seconds: float
    job_seconds: float
    memory_mb: float
    gpu_mb: float
    at_once: int


@dataclass(frozen=True)
class RunPlan:
    """Everything foreseen."""

    volumes: Sequence[VolumePlan]
    rules: Sequence[RulePlan]
    stores: Sequence[StorePlan]
    training_flops: float
    machine: Machine
    rates: Rates
    edges: float
    price: float | None = None
    currency: str = ""
    limits: Sequence[str] = field(default_factory=tuple)
    refused: Sequence[str] = field(default_factory=tuple)

    @property
    def wall_seconds(self) -> float:
        """From the first job to the last."""
        return sum(
            ceil(one.jobs / one.at_once) * (one.seconds / one.jobs + JOB_SECONDS) + one.jobs * SCHEDULING_SECONDS
            for one in self.rules
        )

    @property
    def gpu_hours(self) -> float:
        """Of the jobs that hold a GPU; 0 without one."""
        return sum(one.seconds for one in self.rules if one.rule in ON_GPU) / 3600 if self.machine.kind == "cuda" else 0

    @property
    def core_hours(self) -> float:
        """Of processors that are busy, beside GPUs or without."""
        alone = [one for one in self.rules if self.machine.kind == "cpu" or one.rule not in ON_GPU]
        return sum(one.core_seconds for one in alone) / 3600


def plan_volume(
    name: str, task: Task, choice: TileSelection, block_ranges: int, *, kind: Kind = "cpu", threads: int = 1
) -> VolumePlan:
    """The prediction of one volume.

    Parameters
    ----------
    task
        What is predicted, with what network.
    choice
        Of its tiles.
    block_ranges
        Jobs of a rule.
    kind, threads
        Where the network runs, and tiles at once on a CPU.
    """
    layout, geometry = task.layout, tile_geometry(task.model, choice.tile)
    tiles = tile_count(layout.grid, geometry)
    a_tile = forward_cost(task.model, task.classes, choice.tile, layout.channels).flops
    return VolumePlan(
        name=name,
        shape=layout.shape,
        blocks=len(layout.grid),
        block_ranges=block_ranges,
        choice=choice,
        tiles=tiles,
        flops=tiles * passes(layout.grid, geometry, task.predict.test_time_augmentation) * a_tile,
        job_memory=job_memory(task, choice.tile, choice.batch, kind, threads, ceil(len(layout.grid) / block_ranges)),
    )


def passes(grid: Grid, geometry: TileGeometry, average: Average) -> float:
    """Passes through the network for each tile of the volume's own lattice.

    Turned blocks touch other cells than straight ones, so of rotations it is not quite 7, and is counted; the number
    of tiles along z is the same for both, so one section tells.
    """
    blocks = Grid((1, *grid.shape[1:]), (1, *grid.block[1:]))
    some = [blocks.box(blocks.index_of(n)) for n in range(0, len(blocks), ceil(len(blocks) / TURNED_BLOCKS))]
    touched = sum(len(plane.cells(box)) for plane in planes_of(average, geometry) for box in some)
    return len(SYMMETRIES[average]) * touched / sum(len(tiles_for(box, geometry)) for box in some)


def given_rates(volumes: Sequence[VolumePlan], training: float, steps: int, flops: float) -> Rates:
    """Of GPUs that reach so many operations a second."""
    tile = {one.name: Seconds(one.flops / one.tiles / flops, one.flops / one.tiles / flops) for one in volumes}
    step = training / steps / flops
    return Rates(tile, Seconds(step, step), Seconds(0, 0), 1.0, f"a GPU at {flops / 1e12:g} TFLOP/s (plan.gpu_flops)")


def range_counts(config: Config, layouts: Mapping[str, Layout]) -> dict[str, int]:
    """How many block ranges each volume has."""
    asked = config.predict.job_voxels
    return {name: block_range_count(one.grid, voxels_per_job(one.shape, asked)) for name, one in layouts.items()}


def plan_rules(
    config: Config,
    jobs: Sequence[JobCount],
    layouts: Mapping[str, Layout],
    volumes: Sequence[VolumePlan],
    rates: Rates,
    machine: Machine,
) -> list[RulePlan]:
    """Time and memory of every rule, in the order of the chain."""
    predicted = {one.name: one for one in volumes}
    found: dict[str, RulePlan] = {}
    for one in jobs:
        rule, threads = one.rule, machine.threads(one.rule)
        share = _share(config, one, layouts)
        seconds = _job(config, one, share, rates, threads, predicted)
        memory, on_gpu = _memory(config, one, share, threads, machine.kind, predicted)
        before = found.get(rule, RulePlan(rule, 0, 0, 0, 0, 0, 0, machine.at_once(rule)))
        found[rule] = RulePlan(
            rule,
            before.jobs + one.jobs,
            before.seconds + one.jobs * seconds.clock,
            before.core_seconds + one.jobs * seconds.processor,
            max(before.job_seconds, seconds.clock),
            max(before.memory_mb, memory),
            max(before.gpu_mb, on_gpu),
            before.at_once,
        )
    return list(found.values())


def _share(config: Config, one: JobCount, layouts: Mapping[str, Layout]) -> Workload:
    """What a job is about; of a blockwise rule an even share, in voxels that need not be whole blocks."""
    of_training = one.rule in ("sample", "train")
    names = [one.volume] if one.volume else config.learning_volumes if of_training else list(layouts)
    volumes = tuple(Volume(_nowhere(name), layouts[name]) for name in names)
    voxels = sum(prod(volume.layout.shape) for volume in volumes)
    return Workload(volumes, ceil(voxels / one.jobs) if RULES[one.rule].blockwise else voxels)


def _nowhere(name: str) -> Path:
    """No store of it is looked at."""
    return Path(name)


def _job(
    config: Config, one: JobCount, share: Workload, rates: Rates, threads: int, predicted: Mapping[str, VolumePlan]
) -> Seconds:
    """Of one job."""
    start = cost_of(one.rule, config).start
    work = core_seconds(one.rule, config, share) - start
    side_by_side = min(threads, max(1, share.job // share.block))
    plain = Seconds((start + work / side_by_side) / rates.speed, (start + work) / rates.speed)
    if one.rule == "predict":
        volume = predicted[str(one.volume)]
        return plain + rates.tile[volume.name] * (volume.tiles / one.jobs)
    if one.rule == "train":
        looks = ceil(config.train.steps / config.train.validation_steps) if config.train.validation else 0
        return plain + rates.step * config.train.steps + rates.look * looks
    return plain


def _memory(
    config: Config, one: JobCount, share: Workload, threads: int, kind: Kind, predicted: Mapping[str, VolumePlan]
) -> tuple[float, float]:
    """MB of a job's process, and of its GPU."""
    if one.rule == "predict":
        memory = predicted[str(one.volume)].job_memory
        return memory.process / 1e6, memory.gpu / 1e6
    held = held_bytes(one.rule, config, share, threads)
    network = network_bytes(one.rule, config, share, threads) if one.rule == "train" else 0
    return (held + network) / 1e6, network / 1e6 if kind == "cuda" else 0


def edges_of(config: Config, layouts: Mapping[str, Layout]) -> float:
    """Edges of the largest region graph; 0 where none is needed."""
    graphs = [layouts[name] for name in config.predict.volumes] if config.segment.has_graph else []
    shares = [Workload((Volume(_nowhere(""), layout),), 0) for layout in graphs]
    return max((EDGES_A_FRAGMENT * fragments(config, share.voxels) for share in shares), default=0.0)


EDGES_A_FRAGMENT = 6
"""fib25: 5.2; the benchmark of the global solve has 6."""


def priced(plan: RunPlan, config: Config) -> float | None:
    """What the hours cost; None without a price."""
    gpu, core = config.plan.price_per_gpu_hour, config.plan.price_per_core_hour
    if gpu is None and core is None:
        return None
    return plan.gpu_hours * (gpu or 0) + plan.core_hours * (core or 0)


def hours(seconds: float) -> str:
    """
    >>> hours(3600), hours(60), hours(1e9), hours(0.2)
    ('1.0 h', '1 min', '277,778 h', '1 s')
    """
    if seconds < 60:
        return f"{ceil(seconds)} s"
    return f"{seconds / 3600:,.{int(seconds < 36000)}f} h" if seconds >= 3600 else f"{ceil(seconds / 60)} min"


def size(amount: float) -> str:
    """
    >>> size(2.5e6), size(3.2e9), size(1.5e15)
    ('2.5 MB', '3.2 GB', '1.5 PB')
    """
    for unit, step in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if amount >= step:
            return f"{amount / step:.3g} {unit}"
    return f"{amount / 1e3:.3g} kB" if amount < inf else "?"
