"""The plan as a table for people."""

from collections.abc import Sequence

from unet.run.plan.disk import StorePlan
from unet.run.plan.plan import RunPlan, VolumePlan, hours, size


def as_text(plan: RunPlan) -> str:
    """The whole plan."""
    parts = [_volumes(plan.volumes), _rules(plan), _stores(plan.stores), _totals(plan), *plan.limits]
    return "\n\n".join([*parts, *(f"this will not work: {problem}" for problem in plan.refused)])


def _volumes(volumes: Sequence[VolumePlan]) -> str:
    lines = [
        f"{'volume':<14}{'shape z, y, x':<26}{'blocks':>9}{'block_ranges':>8}{'tile':>7}{'tiles':>12}{'TFLOP':>12}"
    ]
    for one in volumes:
        shape = " x ".join(map(str, one.shape))
        lines.append(
            f"{one.name:<14}{shape:<26}{one.blocks:>9}{one.block_ranges:>8}{one.choice.tile[-1]:>7}{one.tiles:>12}"
            f"{one.flops / 1e12:>12.3g}"
        )
    return "\n".join([*lines, *(f"{one.name}: tiles of {one.choice}" for one in volumes)])


def _rules(plan: RunPlan) -> str:
    lines = [
        f"{'rule':<24}{'jobs':>7}{'at once':>9}{'a job':>9}{'all jobs':>11}{'core time':>11}{'memory':>10}{'GPU':>9}"
    ]
    for one in plan.rules:
        gpu = size(1e6 * one.gpu_mb) if one.gpu_mb else ""
        lines.append(
            f"{one.rule:<24}{one.jobs:>7}{one.at_once:>9}{hours(one.job_seconds):>9}{hours(one.seconds):>11}"
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
        f"rates       {plan.rates.source}",
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
