"""Train a network with the paper's stochastic gradient descent; reproducible, and resumable bit for bit.

A step depends on (seed, step) and on the state before it, and on nothing else. Patches are drawn from (seed, step),
dropout is seeded with it, and the learning rate is computed from the step. A killed training therefore continues from a
file of weights, optimiser and step as if nothing had happened.

1. Threads, or processes for a GPU, prepare the patches of a step while the step before is computed.
2. Loss and gradient are computed, summed over all ranks. On a CPU each sample has a thread.
3. The optimiser changes the weights, and their moving average takes them in (`unet.training.weight_average`).
4. At intervals: a line of the learning curve, a validation, the state to disk.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from unet.config.train import TrainConfig
from unet.jobs.progress import Progress
from unet.network.auxiliary_head import stored_network
from unet.network.centre_crop import channels_last
from unet.network.model import is_2d
from unet.training.device_batch import DeviceBatch, on_device
from unet.training.distributed import SINGLE_PROCESS, Rank
from unet.training.divergence import MAX_STORED_LOSSES, is_stable, require_finite, require_stable
from unet.training.learning_curve import LearningCurve
from unet.training.loss import Objective, WeightedCrossEntropy
from unet.training.loss_gradient import LossGradient, seed_of_step
from unet.training.optimizer import learning_rate, make_optimizer
from unet.training.patch_processes import prepared_batches
from unet.training.patches import Batch, PatchSampler
from unet.training.state import StateFile, TrainingState
from unet.training.stop_requests import TrainingStoppedError, stop_requests
from unet.training.validation import Validates, ValidationResult
from unet.training.weight_average import WeightAverage

GPU_LOSS_INTERVAL = 10
"""Steps between two reads of the losses on a GPU; each read waits for the device."""


class TrainingResult(NamedTuple):
    """Result of a training: steps done, the step whose weights are kept, and the step resumed from (0 = the start).

    `loss` is the mean since the last line but one, `validation` the validation of the kept weights, and `seconds` the
    time of all runs.
    """

    steps: int
    kept_step: int
    resumed_from: int
    loss: float | None
    validation: ValidationResult | None
    seconds: float


def train(
    model: nn.Module,
    sampler: PatchSampler,
    config: TrainConfig,
    *,
    state_path: Path,
    curve: LearningCurve,
    fingerprint: str,
    validation: Validates | None = None,
    objective: Objective | None = None,
    on_line: Callable[[dict[str, Any]], None] | None = None,
    device: str | torch.device = "cpu",
    rank: Rank = SINGLE_PROCESS,
    threads: int = 1,
) -> TrainingResult:
    """Train a model in place, from the start or from the state of a run with the same fingerprint.

    Parameters
    ----------
    model : nn.Module
        Model built under `torch.manual_seed(config.seed)`. A resumed state replaces its weights. At the end it has the
        weights with the best validation score.
    sampler : PatchSampler
        Sampler of the training volumes, with the batch of one rank.
    config : TrainConfig
        Section `train` of the configuration.
    state_path : Path
        State file, written by rename every `checkpoint_minutes`, on SIGTERM or SIGINT, and at the end.
    curve : LearningCurve
        Gets a line every `log_steps` and `validation_steps`: step, loss (mean since the line before), learning_rate,
        seconds, steps_per_second, data_wait_share (share of the time spent waiting for patches), and the validation.
    fingerprint : str
        Fingerprint of everything that the result depends on; a state with another fingerprint is refused.
    validation : Validates, optional
        Chooses the weights that are kept; without a validation, the last weights are kept.
    objective : Objective, optional
        The loss; by default the weighted cross-entropy of the paper.
    on_line : callable, optional
        Called with every line of the learning curve.
    device : str or torch.device
        Device on which to train.
    rank : Rank
        This process among several that train together; the main process writes files.
    threads : int
        CPU threads of this process: of the samples of a batch on a CPU, and of the preparation of patches.

    Raises
    ------
    TrainingError
        If the loss or the gradient is not finite, or the losses jump and stay high. The last stable state is kept.
    TrainingStoppedError
        If a signal has stopped the training; the state is written.
    TrainingStateError
        If there is a state from which the training cannot continue.
    """
    loss = WeightedCrossEntropy() if objective is None else objective
    run = _Run(model, config, torch.device(device), StateFile(state_path, fingerprint), curve, rank, loss, threads)
    resumed_from = run.resume()
    batches = prepared_batches(sampler, resumed_from, config, rank, threads, run.device)
    with stop_requests() as stopped, closing(batches):
        for batch in run.batches_on_device(batches):
            if run.out_of_patience():
                break
            run.step(batch, stopped.is_set())
            scores = run.validate(validation) if validation and run.due(config.validation_steps) else None
            if scores is not None or run.due(config.log_steps):
                run.write_line(scores, on_line)
            if run.stop_requested and run.state.step < config.steps:
                run.save_if_stable()
                raise TrainingStoppedError(
                    f"stopped by a signal after step {run.state.step} of {config.steps}; the next run goes on from "
                    f"step {run.state_file.step}, kept in {state_path}"
                )
            run.save_if_due()
        run.save()
    return run.finish(resumed_from)


class _Run:
    """One training in progress: model, optimiser, state and files."""

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        device: torch.device,
        state: StateFile,
        curve: LearningCurve,
        rank: Rank,
        objective: Objective,
        threads: int,
    ) -> None:
        self.objective = objective
        self.model, self.config, self.device, self.rank = model.to(device), config, device, rank
        self.model.to(memory_format=channels_last(2 if is_2d(model) else 3))  # type: ignore[call-overload]
        self.state_file, self.curve = state, curve
        self.optimizer = make_optimizer(self.model, config)
        decay = config.weight_average
        self.average = None if decay is None else WeightAverage(self.model, decay)
        self.state, self.best_weights = TrainingState(), dict[str, Tensor]()
        self.stop_requested = False
        self._gradient = LossGradient(self.model, config, device, rank, objective, threads)
        self._pending: list[tuple[int, Tensor, Tensor, Tensor]] = []
        self._progress = Progress("train", config.steps, "steps")
        self._saved = self._line = self._tick = time.monotonic()
        self._line_step, self._waited = 0, 0.0

    def resume(self) -> int:
        """Load the state if there is one, and return the number of its steps."""
        self.state, self.best_weights = self.state_file.load(self.model, self.optimizer, self.device, self.average)
        self.objective.state = self.state.objective
        if self.state.step:
            self._progress = Progress("train", self.config.steps, "steps", done=self.state.step)
        if self.rank.is_main:
            self.curve.truncate_after(self.state.step)
        self._line_step = self.state.step
        return self.state.step

    def save(self) -> None:
        """Write the state, on the main process."""
        self.collect_losses()
        self.state.objective = self.objective.state
        if self.rank.is_main:
            self.state_file.save(self.state, self.model, self.optimizer, self.best_weights, self.average)
        self.state_file.step, self._saved = self.state.step, time.monotonic()

    def save_if_stable(self) -> None:
        """Write the state, unless the losses are high and an earlier state is kept."""
        self.collect_losses()
        if self.state_file.step is None or is_stable(self.state.losses, self.config.spike_factor):
            self.save()

    def save_if_due(self) -> None:
        """Write the state if `checkpoint_minutes` have passed and the losses are stable."""
        old = time.monotonic() - self._saved >= 60 * self.config.checkpoint_minutes
        if old and is_stable(self.state.losses, self.config.spike_factor):
            self.save()

    def finish(self, resumed_from: int) -> TrainingResult:
        """Load the kept weights into the model, and return the result."""
        state = self.state
        if state.best is None:
            if self.average is not None:
                self.model.load_state_dict(self.average.tensors)
            return TrainingResult(state.step, state.step, resumed_from, state.loss, None, state.seconds)
        self.model.load_state_dict(self.best_weights)
        return TrainingResult(
            state.step, state.best_step, resumed_from, state.loss, ValidationResult(**state.best), state.seconds
        )

    def due(self, every: int) -> bool:
        """Return whether the last step is a multiple of `every`, or the end of the training."""
        return self.state.step % every == 0 or self.state.step == self.config.steps

    def out_of_patience(self) -> bool:
        """Return whether the last `patience` validations have found nothing better."""
        return self.config.patience is not None and self.state.validations_since_best >= self.config.patience

    def batches_on_device(self, batches: Iterator[Batch]) -> Iterator[DeviceBatch]:
        """Yield the batches on the device, and add up the time spent waiting for them."""
        while True:
            begin = time.monotonic()
            batch = next(batches, None)
            self._waited += time.monotonic() - begin
            if batch is None:
                return
            yield on_device(batch, self.device)

    def step(self, batch: DeviceBatch, stop: bool) -> None:
        """Take one step of the optimiser. `stop` asks to stop on this rank; `stop_requested` becomes true on all."""
        step, config = self.state.step, self.config
        torch.manual_seed(seed_of_step(config.seed, step, self.rank.index))  # so that dropout has no state to save
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        counted = self.objective.counts(batch.target, batch.weight)
        summed = self.rank.sum_over_ranks(torch.cat([counted, counted.new_tensor([int(stop)])]))
        counts, stops = summed[:-1], summed[-1]
        self.objective.begin_step(counts)
        loss = self._gradient.set(batch, counts, step)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm or inf)
        self._pending.append((step + 1, self.rank.sum_over_ranks(loss.detach()), norm.detach(), stops))
        if self.device.type == "cpu" or len(self._pending) >= GPU_LOSS_INTERVAL:
            self.collect_losses()
        self.optimizer.step()
        if self.average is not None:
            self.average.update(step + 1)
        now = time.monotonic()
        self.state.step, self.state.seconds = step + 1, self.state.seconds + now - self._tick
        self._tick = now
        self._progress.advance(1)

    def collect_losses(self) -> None:
        """Read and check the losses of the steps since the last call."""
        pending, self._pending = self._pending, []
        for step, loss, norm, stops in pending:
            require_finite(step, loss.item(), norm.item(), self.config, self._kept_state)
            self.state.line_losses.append(loss.item())
            self.state.losses = [*self.state.losses, loss.item()][-MAX_STORED_LOSSES:]
            self.stop_requested |= stops.item() > 0
            require_stable(step, self.state.losses, self.config, self._kept_state)

    def _kept_state(self) -> str:
        """Return which state is kept, and what another attempt does."""
        if self.state_file.step is None:
            minutes = self.config.checkpoint_minutes
            return f"No state has been written (train.checkpoint_minutes is {minutes:g}): the same settings start anew"
        step, path = self.state_file.step, self.state_file.path
        return f"The state of step {step} is kept in {path}: the same settings go on from it"

    def validate(self, validation: Validates) -> ValidationResult:
        """Score the validation crops and keep the best weights so far: the average of the weights, if there is one."""
        self.collect_losses()
        with self.average.in_model() if self.average else nullcontext():
            return self._scored(validation)

    def _scored(self, validation: Validates) -> ValidationResult:
        """Score the weights in the model. All ranks wait for the main process."""
        values = torch.zeros(4, dtype=torch.float64, device=self.device)
        if self.rank.is_main:
            values += torch.tensor(
                [*_numbers(validation.validate(stored_network(self.model)))], dtype=torch.float64, device=self.device
            )
        loss, score, threshold, has_threshold = self.rank.sum_over_ranks(values).tolist()
        scores = ValidationResult(loss, score, threshold if has_threshold else None)
        if self.state.best is None or score > self.state.best["score"]:
            self.state.best, self.state.best_step, self.state.validations_since_best = vars(scores), self.state.step, 0
            self.best_weights = {key: value.detach().clone() for key, value in self.model.state_dict().items()}
        else:
            self.state.validations_since_best += 1
        return scores

    def write_line(self, scores: ValidationResult | None, on_line: Callable[[dict[str, Any]], None] | None) -> None:
        """Write one line of the learning curve, and pass it to `on_line`."""
        self.collect_losses()
        state, now = self.state, time.monotonic()
        elapsed = max(now - self._line, 1e-9)
        state.loss, state.line_losses = sum(state.line_losses) / len(state.line_losses), []
        line = {
            "step": state.step,
            "loss": state.loss,
            "learning_rate": learning_rate(state.step - 1, self.config),
            "seconds": round(state.seconds, 3),
            "steps_per_second": round((state.step - self._line_step) / elapsed, 4),
            "data_wait_share": round(self._waited / elapsed, 4),
            **(scores.curve_values() if scores else {}),
        }
        self._line, self._line_step, self._waited = now, state.step, 0.0
        score = "" if state.best is None else f", best score {state.best['score']:.4f} at step {state.best_step}"
        self._progress.title = f"train (loss {state.loss:.4f}{score})"
        if self.rank.is_main:
            self.curve.append(line)
            if on_line is not None:
                on_line(line)


def _numbers(scores: ValidationResult) -> tuple[float, float, float, float]:
    return scores.loss, scores.score, scores.threshold or 0.0, float(scores.threshold is not None)
