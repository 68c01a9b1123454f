"""Choose network and steps so that a run is estimated to end in a given time, by the estimate of `snakemake plan`.

1. The largest network for the hardware is planned with its least steps: the machine is measured for some seconds.
2. If segmenting the volumes without labels takes most of the time, they are left for a second run.
3. The rest of the time is for steps. If they are too few for the network, the next smaller network is planned.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from unet.config.root import Config, load_config
from unet.run.inspection.hardware import Hardware, networks_for
from unet.run.inspection.suggested_settings import Effort, Inputs, Suggestion, suggest
from unet.run.plan.plan import RunPlan, plan_run

SHARE_WITHOUT_LABELS = 0.5
"""Largest share of the time for what is not the training; with more, volumes without labels are left out."""
PREDICT_THREADS_BESIDE_GPU = 4

Planner = Callable[[Config, int], RunPlan]


@dataclass(frozen=True)
class EstimatedRun:
    """A configuration, and what its run is estimated to take."""

    suggestion: Suggestion
    config: Config
    plan: RunPlan
    seconds: float
    left_out: tuple[str, ...] = ()

    @property
    def training_seconds(self) -> float:
        """Seconds of the training with its validations, without the start of the job."""
        return self.plan.speeds.training(self.config.train)[0]


def fitted(
    inputs: Inputs, hardware: Hardware, minutes: float, results: str, planner: Planner = plan_run
) -> EstimatedRun:
    """Return a configuration whose run is estimated to end in `minutes`, or the fastest one.

    Parameters
    ----------
    planner : callable
        Estimates the cost of a configuration with a number of threads of a prediction.

    Raises
    ------
    ConfigError, SourceError
        If the configuration of these files cannot work.
    """
    threads = PREDICT_THREADS_BESIDE_GPU if hardware.gpu else hardware.cores
    networks = networks_for(hardware)
    with_unlabelled = True
    for network in networks:
        effort = Effort(network, network.least_steps, with_unlabelled)
        estimate = _planned(inputs, hardware, effort, results, threads, planner)
        if inputs.split is None:
            return estimate
        rest = estimate.seconds - estimate.training_seconds
        if with_unlabelled and inputs.unlabelled and rest > SHARE_WITHOUT_LABELS * 60 * minutes:
            with_unlabelled = False
            estimate = _planned(inputs, hardware, replace(effort, segment_unlabelled=False), results, threads, planner)
            rest = estimate.seconds - estimate.training_seconds
        steps = affordable_steps(estimate.plan, estimate.config, 60 * minutes - rest)
        if steps >= network.least_steps:
            break
    chosen = _rounded(min(max(steps, network.least_steps), network.most_steps))
    return _with_steps(estimate, inputs, hardware, Effort(network, chosen, with_unlabelled), results)


def _planned(
    inputs: Inputs, hardware: Hardware, effort: Effort, results: str, threads: int, planner: Planner
) -> EstimatedRun:
    suggestion = suggest(inputs, hardware, effort, results)
    config = load_config(suggestion.settings)
    plan = planner(config, threads)
    left_out = () if effort.segment_unlabelled else tuple(inputs.unlabelled)
    return EstimatedRun(suggestion, config, plan, plan.wall_seconds, left_out)


def _with_steps(
    estimate: EstimatedRun, inputs: Inputs, hardware: Hardware, effort: Effort, results: str
) -> EstimatedRun:
    """Return the configuration with other steps; the time of all other rules is the same."""
    suggestion = suggest(inputs, hardware, effort, results)
    config = load_config(suggestion.settings)
    longer = replace(estimate, suggestion=suggestion, config=config)
    return replace(longer, seconds=estimate.seconds - estimate.training_seconds + longer.training_seconds)


def affordable_steps(plan: RunPlan, config: Config, seconds: float) -> int:
    """Return the largest number of steps that end in so many seconds, with a validation every eighth of them."""
    validations = 8 * plan.speeds.validation[0] if config.train.validation else 0
    return max(0, int((seconds - validations) / max(plan.speeds.step[0], 1e-9)))


def _rounded(steps: int) -> int:
    """Return a number of steps with two digits that count, rounded down.

    >>> _rounded(1274), _rounded(86)
    (1200, 86)
    """
    unit = 10 ** max(0, len(str(steps)) - 2)
    return steps // unit * unit
