"""Training: the paper's stochastic gradient descent, reproducible and resumable bit for bit.

What a step does is a function of (seed, step) and of the state before it alone: patches are drawn from it, dropout
is seeded with it, the learning rate is computed from it. So a state file that holds weights, optimiser and step is
all that a killed training needs to go on as if nothing had happened.

A step: 1. patches, prepared by threads while the one before is computed; 2. loss and gradient, over all ranks;
3. optimiser. Now and then: a line of the learning curve, a look at the validation windows, the state to disk.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from math import inf, isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from unet.config.train import TrainConfig
from unet.jobs.progress import Progress
from unet.network.model import centre_crop, channels_last, is_2d
from unet.network.precision import choose_precision
from unet.training.distributed import SINGLE_PROCESS, Rank
from unet.training.divergence import LOSSES_KEPT, RECENT_STEPS, has_diverged, is_stable, loss_ratio
from unet.training.learning_curve import LearningCurve
from unet.training.loss import labelled_pixels, weighted_cross_entropy
from unet.training.optimizer import learning_rate, make_optimizer
from unet.training.patches import Batch, PatchSampler
from unet.training.state import StateFile, TrainingState
from unet.training.validation import Validation, ValidationResult

COMPILE_FROM_STEPS = 2000
"""Compiling takes about a minute, which shorter trainings do not win back."""
GPU_LOSS_INTERVAL = 10
"""On a GPU losses are looked at this often: each look waits for the device."""


class TrainingError(RuntimeError):
    """Training diverged; the message says what to change, and which state is kept."""


class TrainingStoppedError(RuntimeError):
    """A signal asked to stop; the state is written and the next run continues from it."""


class TrainingResult(NamedTuple):
    """What came out: steps done, the step whose weights were kept, and the one resumed from (0 = from the start).

    `loss` is the mean since the line before the last, `validation` the look at what was kept, `seconds` those of all
    runs.
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
    validation: Validation | None = None,
    on_line: Callable[[dict[str, Any]], None] | None = None,
    device: str | torch.device = "cpu",
    rank: Rank = SINGLE_PROCESS,
) -> TrainingResult:
    """Train a model in place, from the start or from where an earlier run with the same fingerprint was stopped.

    Parameters
    ----------
    model : nn.Module
        Freshly built under `torch.manual_seed(config.seed)`; its weights are replaced when a state is resumed, and
        at the end by those with the best validation score.
    sampler : PatchSampler
        Of the training volumes; its batch is that of one rank.
    config : TrainConfig
        Section `train` of the configuration.
    state_path : Path
        Written by rename every `checkpoint_minutes`, on SIGTERM or SIGINT, and at the end.
    curve : LearningCurve
        Gets a line every `log_steps` and `validation_steps`: step, loss (mean since the line before), learning_rate,
        seconds, steps_per_second, data_wait_share (of the time, waiting for patches), and what a look found.
    fingerprint : str
        Of all that the result depends on; a state with another one is refused.
    validation : Validation, optional
        Chooses the weights that are kept; without it the last ones are.
    on_line : callable, optional
        Called with every line of the learning curve.
    device : str or torch.device
        Where to compute.
    rank : Rank
        Which of several processes that train together this is; the first one writes.

    Raises
    ------
    TrainingError
        If the loss or the gradient is not finite, or jumps up and stays there; the last good state is kept, where one
        has been written.
    TrainingStoppedError
        If a signal asked to stop; the state is written.
    TrainingStateError
        If there is a state that cannot be continued from.
    """
    run = _Run(model, config, torch.device(device), StateFile(state_path, fingerprint), curve, rank)
    resumed_from = run.resume()
    batches = sampler.batches(resumed_from, config.steps, first=rank.index * config.batch, count=config.batch)
    with _stop_requests() as stopped, closing(batches):
        for batch in run.timed(batches):
            if run.out_of_patience():
                break
            run.step(batch, stopped.is_set())
            scores = run.validate(validation) if validation and run.due(config.validation_steps) else None
            if scores is not None or run.due(config.log_steps):
                run.write_line(scores, on_line)
            if run.stop_requested and run.state.step < config.steps:
                run.save_if_stable()
                raise TrainingStoppedError(
                    f"stopped by a signal after step {run.state.step} of {config.steps}; the next run goes on from step "
                    f"{run.state_file.step}, kept in {state_path}"
                )
            run.save_if_due()
        run.save()
    return run.finish(resumed_from)


class _Run:
    """The moving parts of one training."""

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        device: torch.device,
        state: StateFile,
        curve: LearningCurve,
        rank: Rank,
    ) -> None:
        self.model, self.config, self.device, self.rank = model.to(device), config, device, rank
        self.model.to(memory_format=channels_last(2 if is_2d(model) else 3))  # type: ignore[call-overload]
        self.state_file, self.curve = state, curve
        self.optimizer = make_optimizer(self.model, config)
        self.state, self.best_weights = TrainingState(), dict[str, Tensor]()
        self.stop_requested = False
        self._bfloat16 = choose_precision(config.precision, device) == "bfloat16"
        self._forward = self._wrapped()
        self._pending: list[tuple[int, Tensor, Tensor, Tensor]] = []
        self._progress = Progress("train", config.steps, "steps")
        self._saved = self._line = self._tick = time.monotonic()
        self._line_step, self._waited = 0, 0.0

    def _wrapped(self) -> nn.Module:
        """The model as it is called: with gradients shared between the ranks, and compiled where it pays."""
        asked, gpu = self.config.compile, self.device.type == "cuda"
        compiles = asked == "always" or (asked == "auto" and gpu and self.config.steps >= COMPILE_FROM_STEPS)
        forward = self.rank.parallel(self.model)
        return torch.compile(forward) if compiles else forward  # type: ignore[return-value]

    def resume(self) -> int:
        """Load the state if there is one; returns the steps that it has done."""
        self.state, self.best_weights = self.state_file.load(self.model, self.optimizer, self.device)
        if self.state.step:
            self._progress = Progress("train", self.config.steps, "steps", done=self.state.step)
        if self.rank.is_main:
            self.curve.truncate_after(self.state.step)
        self._line_step = self.state.step
        return self.state.step

    def save(self) -> None:
        """Write the state; the first rank does."""
        self.collect_losses()
        if self.rank.is_main:
            self.state_file.save(self.state, self.model, self.optimizer, self.best_weights)
        self.state_file.step, self._saved = self.state.step, time.monotonic()

    def save_if_stable(self) -> None:
        """Write the state, unless the losses are high and a better one is kept."""
        self.collect_losses()
        if self.state_file.step is None or is_stable(self.state.losses, self.config.spike_factor):
            self.save()

    def save_if_due(self) -> None:
        """Write the state if the last one is old enough, and this one no worse."""
        old = time.monotonic() - self._saved >= 60 * self.config.checkpoint_minutes
        if old and is_stable(self.state.losses, self.config.spike_factor):
            self.save()

    def finish(self, resumed_from: int) -> TrainingResult:
        """Put the weights that are kept into the model."""
        state = self.state
        if state.best is None:
            return TrainingResult(state.step, state.step, resumed_from, state.loss, None, state.seconds)
        self.model.load_state_dict(self.best_weights)
        return TrainingResult(
            state.step, state.best_step, resumed_from, state.loss, ValidationResult(**state.best), state.seconds
        )

    def due(self, every: int) -> bool:
        """Whether the step just done is one of every so many, or the last."""
        return self.state.step % every == 0 or self.state.step == self.config.steps

    def out_of_patience(self) -> bool:
        """Whether too many looks have found nothing better."""
        return self.config.patience is not None and self.state.validations_since_best >= self.config.patience

    def timed(self, batches: Iterator[Batch]) -> Iterator["DeviceBatch"]:
        """The batches on the device, with the time spent waiting for them added up."""
        while True:
            begin = time.monotonic()
            batch = next(batches, None)
            self._waited += time.monotonic() - begin
            if batch is None:
                return
            yield on_device(batch, self.device)

    def step(self, batch: "DeviceBatch", stop: bool) -> None:
        """One step of the optimiser; `stop` is this rank's wish, `stop_requested` that of any."""
        step, config = self.state.step, self.config
        torch.manual_seed(seed_of_step(config.seed, step, self.rank.index))  # dropout has no state to carry over
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        counts = torch.stack([labelled_pixels(batch.target, batch.weight), torch.tensor(int(stop), device=self.device)])
        labelled, stops = self.rank.total(counts)
        loss = self._loss(batch, labelled)
        (loss * self.rank.count).backward()  # ranks are averaged, but the parts of one loss have to be added
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm or inf)
        self._pending.append((step + 1, self.rank.total(loss.detach()), norm.detach(), stops))
        if self.device.type == "cpu" or len(self._pending) >= GPU_LOSS_INTERVAL:
            self.collect_losses()
        self.optimizer.step()
        now = time.monotonic()
        self.state.step, self.state.seconds = step + 1, self.state.seconds + now - self._tick
        self._tick = now
        self._progress.advance(1)

    def collect_losses(self) -> None:
        """Look at the losses of the steps since the last time."""
        pending, self._pending = self._pending, []
        for step, loss, norm, stops in pending:
            self._require_finite(step, loss.item(), norm.item())
            self.state.line_losses.append(loss.item())
            self.state.losses = [*self.state.losses, loss.item()][-LOSSES_KEPT:]
            self.stop_requested |= stops.item() > 0
            self._require_stable_loss(step)

    def validate(self, validation: Validation) -> ValidationResult | None:
        """Score the validation windows; the best weights so far are remembered. All ranks wait for the first."""
        self.collect_losses()
        values = torch.zeros(4, dtype=torch.float64, device=self.device)
        if self.rank.is_main:
            values += torch.tensor(
                [*_numbers(validation.validate(self.model))], dtype=torch.float64, device=self.device
            )
        loss, score, threshold, has_threshold = self.rank.total(values).tolist()
        scores = ValidationResult(loss, score, threshold if has_threshold else None)
        if self.state.best is None or score > self.state.best["score"]:
            self.state.best, self.state.best_step, self.state.validations_since_best = vars(scores), self.state.step, 0
            self.best_weights = {key: value.detach().clone() for key, value in self.model.state_dict().items()}
        else:
            self.state.validations_since_best += 1
        return scores

    def write_line(self, scores: ValidationResult | None, on_line: Callable[[dict[str, Any]], None] | None) -> None:
        """One line of the learning curve, and to whoever watches."""
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
            self.curve.add(line)
            if on_line is not None:
                on_line(line)

    def _loss(self, batch: "DeviceBatch", labelled: Tensor) -> Tensor:
        """This rank's part of the loss over all ranks' tiles."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16):
            logits = self._forward(batch.raw)
        # A zero-padded network returns more than the output window: its rim knows the padding and is not learnt.
        logits = centre_crop(logits, batch.target.shape[1:])
        return weighted_cross_entropy(logits, batch.target, batch.weight, labelled)

    def _require_finite(self, step: int, loss: float, norm: float) -> None:
        if not (isfinite(loss) and isfinite(norm)):
            raise TrainingError(
                f"training diverged: loss {loss} and gradient norm {norm} at step {step}. "
                f"{self._advice()}. {self._kept()}"
            )

    def _require_stable_loss(self, step: int) -> None:
        losses, factor = self.state.losses, self.config.spike_factor
        if factor is not None and has_diverged(losses, factor):
            raise TrainingError(
                f"training diverged: the last {RECENT_STEPS} losses, up to step {step}, are {loss_ratio(losses):.1f} times what "
                f"was usual before, and train.spike_factor allows {factor:g}. {self._advice()}; or set "
                f"train.spike_factor to null, to train on whatever the losses are. {self._kept()}"
            )

    def _advice(self) -> str:
        rate, norm = self.config.learning_rate, self.config.clip_norm
        return f"Lower train.learning_rate (now {rate:g}) or set train.clip_norm (now {norm or 'null'})"

    def _kept(self) -> str:
        """Which state there is, and what comes of trying again."""
        if self.state_file.step is None:
            minutes = self.config.checkpoint_minutes
            return f"No state has been written (train.checkpoint_minutes is {minutes:g}): the same settings start anew"
        return f"The state of step {self.state_file.step} is kept in {self.state_file.path}: the same settings go on from it"


class DeviceBatch(NamedTuple):
    """A batch on the device."""

    raw: Tensor
    target: Tensor
    weight: Tensor


def on_device(batch: Batch, device: torch.device) -> DeviceBatch:
    """Start the copy of a batch to the device; to a GPU from pinned memory, while it still computes earlier steps."""
    parts = [torch.from_numpy(part) for part in batch]
    parts[0] = parts[0].contiguous(memory_format=channels_last(parts[0].ndim - 2))
    if device.type == "cuda":
        parts = [part.pin_memory().to(device, non_blocking=True) for part in parts]
    return DeviceBatch(*parts)


def seed_of_step(seed: int, step: int, rank: int = 0) -> int:
    """Seed of the random numbers of one step on one rank, unlike those of any other."""
    parts = [seed % 2**64, step] if rank == 0 else [seed % 2**64, step, rank]
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _numbers(scores: ValidationResult) -> tuple[float, float, float, float]:
    return scores.loss, scores.score, scores.threshold or 0.0, float(scores.threshold is not None)


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """An event set by SIGTERM or SIGINT: one more step lets all ranks know, then the state is written."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped  # only the main thread may handle signals
        return
    before = {s: signal.signal(s, lambda *_: stopped.set()) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
