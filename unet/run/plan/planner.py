"""The plan of a configuration: headers are read, the device at hand is measured, then all is counted."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from unet.config.root import Config
from unet.geometry.tiling import tile_geometry
from unet.network.complexity import training_flops, usable_cores
from unet.network.load_predictor import stored_classes
from unet.network.model_header import architecture
from unet.network.precision import choose_precision
from unet.network.tile_selection import Kind, Task, kept, select_tile
from unet.run.plan.calibration import machine_speed, tile_seconds, training_seconds
from unet.run.plan.disk import store_plans
from unet.run.plan.limits import Free, limits_of, read_around, refused
from unet.run.plan.plan import (
    Machine,
    Rates,
    RunPlan,
    Seconds,
    VolumePlan,
    edges_of,
    given_rates,
    plan_rules,
    plan_volume,
    priced,
    range_counts,
)
from unet.run.rules import job_counts
from unet.volumes.headers import layout_of
from unet.volumes.volume import Layout


def plan_run(config: Config, threads: int) -> RunPlan:
    """What a run of this configuration will cost, with `threads` for a prediction."""
    machine = _machine(config, threads)
    layouts = {name: layout_of(config, name) for name in config.used_volumes}
    model, classes = architecture(config)
    given = config.model.checkpoint  # stays in the configuration: there is no training then
    config = config.model_copy(update={"model": model.model_copy(update={"checkpoint": given})})
    tasks, volumes = _predicted(config, machine, layouts, classes)
    training = 0.0
    if config.learning_volumes:
        first = layouts[config.train.volumes[0]]
        training = training_flops(config, len(classes), tile_geometry(model, config.train.tile).input, first.channels)
    if config.plan.gpu_flops is not None:
        rates = given_rates(volumes, training, config.train.steps, config.plan.gpu_flops)
    else:
        rates = _measured(config, machine, tasks, volumes, layouts, len(classes))
    stored = len(stored_classes(classes))
    block_ranges = range_counts(config, layouts)
    jobs = job_counts(config, block_ranges)
    plan = RunPlan(
        volumes,
        plan_rules(config, jobs, layouts, volumes, rates, machine),
        [store for name, layout in layouts.items() for store in store_plans(config, name, layout, stored)],
        training,
        machine,
        rates,
        edges_of(config, layouts),
    )
    shapes = {name: (layout.shape, block_ranges[name]) for name, layout in layouts.items()}
    return replace(
        plan,
        price=priced(plan, config),
        currency=config.plan.currency,
        limits=[
            *limits_of(plan, _free(config)),
            *read_around(config, [layouts[name] for name in config.predict.volumes]),
        ],
        refused=refused(config, plan, shapes),
    )


def _machine(config: Config, threads: int) -> Machine:
    """As the configuration says, else what is here."""
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = config.plan.gpus if config.plan.gpus is not None else max(here, int(config.plan.gpu_flops is not None))
    kind: Kind = "cuda" if gpus and (here or config.plan.gpu_flops is not None) else "cpu"
    return Machine(config.plan.cores or usable_cores(), gpus, kind, threads)


def _predicted(
    config: Config, machine: Machine, layouts: dict[str, Layout], classes: Sequence[str]
) -> tuple[list[Task], list[VolumePlan]]:
    """What is predicted, and the plan of each."""
    device, limit = _device(machine, config), None
    if machine.kind == "cuda" and not torch.cuda.is_available():
        limit = 1e9 * config.plan.gpu_memory_gb
    tasks, plans, block_ranges = [], [], range_counts(config, layouts)
    for name in config.predict.volumes:
        precision = config.predict.precision
        if limit is None:
            precision = choose_precision(precision, device)
        task = Task(
            config.model,
            len(classes),
            len(stored_classes(classes)),
            layouts[name],
            config.predict,
            "bfloat16" if precision == "auto" else precision,
        )
        threads = machine.threads("predict")
        choice = kept(Path(config.results) / "volumes" / name, task) or select_tile(task, device, threads, limit)
        plans.append(plan_volume(name, task, choice, block_ranges[name], kind=machine.kind, threads=threads))
        tasks.append(task)
    return tasks, plans


def _device(machine: Machine, config: Config) -> torch.device:
    return torch.device("cuda", 0) if machine.kind == "cuda" else torch.device("cpu")


def _measured(
    config: Config,
    machine: Machine,
    tasks: Sequence[Task],
    volumes: Sequence[VolumePlan],
    layouts: dict[str, Layout],
    classes: int,
) -> Rates:
    """On the device at hand; volumes that are predicted with the same tile are measured once."""
    device, of_tile = _device(machine, config), {}
    for task, volume in zip(tasks, volumes, strict=True):
        key = (volume.choice.tile, volume.choice.batch, task.layout.channels)
        if key not in of_tile:
            of_tile[key] = tile_seconds(task, volume.choice, device, machine.threads("predict"))
    step = look = Seconds(0, 0)
    if config.learning_volumes:
        layout = layouts[config.train.volumes[0]]
        task = Task(config.model, classes, classes, layout, config.predict)
        step, look = training_seconds(task, config.train, device, machine.threads("train"))
    tile = {
        volume.name: of_tile[volume.choice.tile, volume.choice.batch, task.layout.channels]
        for task, volume in zip(tasks, volumes, strict=True)
    }
    what = f"on this {device.type.upper()}, now: the network's own tiles, training steps and stores"
    return Rates(tile, step, look, machine_speed(), f"measured {what}")


def _free(config: Config) -> Free:
    """On the file system of the results and in this machine."""
    folder = Path(config.results).absolute()
    while not folder.exists():
        folder = folder.parent
    files = os.statvfs(folder).f_favail or None  # some file systems do not count
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Free(shutil.disk_usage(folder).free, config.plan.max_files or files, memory)
