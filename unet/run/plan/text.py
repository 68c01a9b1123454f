"""The plan as text for people."""

from collections.abc import Sequence
from math import ceil, inf

from unet.run.plan.disk import StorePlan
from unet.run.plan.plan import RunPlan, VolumePlan


def as_text(plan: RunPlan) -> str:
    """Return the whole plan."""
    parts = [_volumes(plan.volumes), _rules(plan), _stores(plan.stores), _totals(plan), *plan.warnings]
    return "\n\n".join([*parts, *(f"this will not work: {problem}" for problem in plan.errors)])


def _volumes(volumes: Sequence[VolumePlan]) -> str:
    lines = [f"{'volume':<14}{'shape z, y, x':<26}{'blocks':>9}{'ranges':>8}{'tile':>7}{'tiles':>12}{'TFLOP':>12}"]
    lines += [
        f"{one.name:<14}{' x '.join(map(str, one.shape)):<26}{one.blocks:>9}{one.block_ranges:>8}"
        f"{one.choice.tile[-1]:>7}{one.tiles:>12}{one.flops / 1e12:>12.3g}"
        for one in volumes
    ]
    return "\n".join([*lines, *(f"{one.name}: tiles of {one.choice}" for one in volumes)])


def _rules(plan: RunPlan) -> str:
    lines = [
        f"{'rule':<32}{'jobs':>7}{'at once':>9}{'per job':>9}{'all jobs':>11}{'core time':>11}{'memory':>10}{'GPU':>9}"
    ]
    for one in plan.rules:
        gpu = size(1e6 * one.gpu_mb) if one.gpu_mb else ""
        lines.append(
            f"{one.rule:<32}{one.jobs:>7}{one.at_once:>9}{hours(one.job_seconds):>9}{hours(one.seconds):>11}"
            f"{hours(one.core_seconds):>11}{size(1e6 * one.memory_mb):>10}{gpu:>9}"
        )
    return "\n".join(lines)


def _stores(stores: Sequence[StorePlan]) -> str:
    lines = [f"{'volume':<14}{'store':<26}{'disk':>10}{'files':>12}"]
    lines += [f"{one.volume:<14}{one.store:<26}{size(one.bytes):>10}{one.files:>12}" for one in stores]
    total, files = sum(one.bytes for one in stores), sum(one.files for one in stores)
    return "\n".join([*lines, f"{'':<14}{'all':<26}{size(total):>10}{files:>12}"])


def _totals(plan: RunPlan) -> str:
    machine, rules = plan.machine, plan.rules
    gpus = f"{machine.gpus} GPU(s) and " if machine.kind == "cuda" else ""
    prediction = sum(one.flops for one in plan.volumes)
    lines = [
        f"arithmetic  training {plan.training_flops / 1e12:.3g} TFLOP, prediction {prediction / 1e12:.3g} TFLOP",
        f"speeds      {plan.speeds.source}",
        f"time        {hours(plan.wall_seconds)} with {gpus}{machine.cores} cores; "
        f"{sum(one.jobs for one in rules)} jobs; {plan.gpu_hours:.3g} GPU-hours, {plan.core_hours:.3g} core-hours",
        f"memory      {size(1e6 * max(one.memory_mb for one in rules))} at most, of a job",
    ]
    if plan.price is not None:
        lines.append(f"price       {plan.price:,.2f} {plan.currency}".rstrip())
    if plan.edges:
        at_once = size(60 * plan.edges)
        lines.append(f"graph       {plan.edges:.3g} edges, solved in parts; a multicut takes {at_once} for all at once")
    return "\n".join(lines)


def hours(seconds: float) -> str:
    """Return a time for people.

    >>> hours(3600), hours(60), hours(1e9), hours(0.2)
    ('1.0 h', '1 min', '277,778 h', '1 s')
    """
    if seconds < 60:
        return f"{ceil(seconds)} s"
    return f"{seconds / 3600:,.{int(seconds < 36000)}f} h" if seconds >= 3600 else f"{ceil(seconds / 60)} min"


def size(amount: float) -> str:
    """Return a number of bytes for people.

    >>> size(2.5e6), size(3.2e9), size(1.5e15)
    ('2.5 MB', '3.2 GB', '1.5 PB')
    """
    for unit, step in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if amount >= step:
            return f"{amount / step:.3g} {unit}"
    return f"{amount / 1e3:.3g} kB" if amount < inf else "?"
