"""The plan as text for people."""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, inf

from unet.run.plan.disk import StorePlan
from unet.run.plan.plan import RunPlan, VolumePlan
from unet.run.plan.resources import RulePlan


def as_text(plan: RunPlan) -> str:
    """Return the whole plan."""
    parts = [_volumes(plan.volumes), _rules(plan.rules), _stores(plan.stores), _totals(plan), *plan.warnings]
    return "\n\n".join([*parts, *(f"this will not work: {problem}" for problem in plan.errors)])


def _table(columns: Mapping[str, str], rows: Iterable[Sequence[str | int]]) -> str:
    """Return a table, each column in the format that `columns` gives for its title."""
    cells = [zip(line, columns.values(), strict=True) for line in (tuple(columns), *rows)]
    return "\n".join("".join(f"{value:{form}}" for value, form in line) for line in cells)


def _volumes(volumes: Sequence[VolumePlan]) -> str:
    columns = {"volume": "<14", "shape z, y, x": "<26", "blocks": ">9", "ranges": ">8", "tile": ">7", "tiles": ">12"}
    rows: list[tuple[str | int, ...]] = []
    for one in volumes:
        shape, tflop = " x ".join(map(str, one.shape)), f"{one.flops / 1e12:.3g}"
        rows.append((one.name, shape, one.blocks, one.block_ranges, one.choice.tile[-1], one.tiles, tflop))
    table = _table({**columns, "TFLOP": ">12"}, rows)
    return "\n".join([table, *(f"{one.name}: tiles of {one.choice}" for one in volumes)])


def _rules(rules: Sequence[RulePlan]) -> str:
    columns = {"rule": "<32", "jobs": ">7", "at once": ">9", "per job": ">9", "all jobs": ">11", "core time": ">11"}
    rows: list[tuple[str | int, ...]] = []
    for one in rules:
        times = [hours(seconds) for seconds in (one.job_seconds, one.seconds, one.core_seconds)]
        sizes = [size(1e6 * one.memory_mb), size(1e6 * one.gpu_mb) if one.gpu_mb else ""]
        rows.append((one.rule, one.jobs, one.at_once, *times, *sizes))
    return _table({**columns, "memory": ">10", "GPU": ">9"}, rows)


def _stores(stores: Sequence[StorePlan]) -> str:
    rows = [(one.volume, one.store, size(one.bytes), one.files) for one in stores]
    rows.append(("", "all", size(sum(one.bytes for one in stores)), sum(one.files for one in stores)))
    return _table({"volume": "<14", "store": "<26", "disk": ">10", "files": ">12"}, rows)


def _totals(plan: RunPlan) -> str:
    resources, rules = plan.resources, plan.rules
    gpus = f"{resources.gpus} GPU(s) and " if resources.kind == "cuda" else ""
    prediction = sum(one.flops for one in plan.volumes)
    lines = [
        f"arithmetic  training {plan.training_flops / 1e12:.3g} TFLOP, prediction {prediction / 1e12:.3g} TFLOP",
        f"speeds      {plan.speeds.source}",
        f"time        {hours(plan.wall_seconds)} with {gpus}{resources.cores} cores; "
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
