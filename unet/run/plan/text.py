"""The plan as text for people."""

from math import ceil, inf

from unet.run.plan.plan import RunPlan

VOLUME = "{:<14}{:<26}{:>9}{:>8}{:>7}{:>12}{:>12}".format
RULE = "{:<32}{:>7}{:>9}{:>9}{:>11}{:>11}{:>10}{:>9}".format
STORE = "{:<14}{:<26}{:>10}{:>12}".format


def as_text(plan: RunPlan) -> str:
    """Return the whole plan."""
    volumes = [VOLUME("volume", "shape z, y, x", "blocks", "ranges", "tile", "tiles", "TFLOP")]
    for one in plan.volumes:
        shape, tile, tflop = " x ".join(map(str, one.shape)), one.choice.tile[-1], f"{one.flops / 1e12:.3g}"
        volumes.append(VOLUME(one.name, shape, one.blocks, one.block_ranges, tile, one.tiles, tflop))
    volumes += [f"{one.name}: tiles of {one.choice}" for one in plan.volumes]
    rules = [RULE("rule", "jobs", "at once", "per job", "all jobs", "core time", "memory", "GPU")]
    for rule in plan.rules:
        times = map(hours, (rule.job_seconds, rule.seconds, rule.core_seconds))
        gpu = size(1e6 * rule.gpu_mb) if rule.gpu_mb else ""
        rules.append(RULE(rule.rule, rule.jobs, rule.at_once, *times, size(1e6 * rule.memory_mb), gpu))
    sizes = [(store.volume, store.store, store.bytes, store.files) for store in plan.stores]
    sizes.append(("", "all", sum(store.bytes for store in plan.stores), sum(store.files for store in plan.stores)))
    stores = [STORE("volume", "store", "disk", "files"), *(STORE(*of, size(held), n) for *of, held, n in sizes)]
    parts = ["\n".join(lines) for lines in (volumes, rules, stores, _totals(plan))]
    return "\n\n".join([*parts, *plan.warnings, *(f"this will not work: {problem}" for problem in plan.errors)])


def _totals(plan: RunPlan) -> list[str]:
    resources, rules, prediction = plan.resources, plan.rules, sum(one.flops for one in plan.volumes)
    gpus = f"{resources.gpus} GPU(s) and " if resources.kind == "cuda" else ""
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
    return lines


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
