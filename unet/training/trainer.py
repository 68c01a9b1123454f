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
from unet.training.divergence import MEMORY, RECENT, is_good, is_lost, jump
from unet.training.learning_curve import LearningCurve
from unet.training.loss import labelled_pixels, weighted_cross_entropy
from unet.training.optimizer import learning_rate, make_optimizer
from unet.training.patches import Batch, PatchSampler
from unet.training.state import StateFile, TrainingState
from unet.training.validation import Validation, ValidationResult

COMPILE_FROM_STEPS = 2000
"""Compiling takes about a minute, which shorter trainings do not win back."""
GPU_SETTLE_STEPS = 10
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
            look = run.look(validation) if validation and run.due(config.validation_steps) else None
            if look is not None or run.due(config.log_steps):
                run.write_line(look, on_line)
            if run.asked_to_stop and run.done.step < config.steps:
                run.save_unless_worse()
                raise TrainingStoppedError(
                    f"stopped by a signal after step {run.done.step} of {config.steps}; the next run goes on from step "
                    f"{run.state.step}, kept in {state_path}"
                )
            run.save_on_the_clock()
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
        self.state, self.curve = state, curve
        self.optimizer = make_optimizer(self.model, config)
        self.done, self.best_weights = TrainingState(), dict[str, Tensor]()
        self.asked_to_stop = False
        self._bfloat16 = choose_precision(config.precision, device) == "bfloat16"
        self._forward = self._wrapped()
        self._unsettled: list[tuple[int, Tensor, Tensor, Tensor]] = []
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
        self.done, self.best_weights = self.state.load(self.model, self.optimizer, self.device)
        if self.done.step:
            self._progress = Progress("train", self.config.steps, "steps", done=self.done.step)
        if self.rank.speaks:
            self.curve.continue_from(self.done.step)
        self._line_step = self.done.step
        return self.done.step

    def save(self) -> None:
        """Write the state; the first rank does."""
        self.settle()
        if self.rank.speaks:
            self.state.save(self.done, self.model, self.optimizer, self.best_weights)
        self.state.step, self._saved = self.done.step, time.monotonic()

    def save_unless_worse(self) -> None:
        """Write the state, unless the losses are high and a better one is kept."""
        self.settle()
        if self.state.step is None or is_good(self.done.losses, self.config.spike_factor):
            self.save()

    def save_on_the_clock(self) -> None:
        """Write the state if the last one is old enough, and this one no worse."""
        old = time.monotonic() - self._saved >= 60 * self.config.checkpoint_minutes
        if old and is_good(self.done.losses, self.config.spike_factor):
            self.save()

    def finish(self, resumed_from: int) -> TrainingResult:
        """Put the weights that are kept into the model."""
        done = self.done
        if done.best is None:
            return TrainingResult(done.step, done.step, resumed_from, done.loss, None, done.seconds)
        self.model.load_state_dict(self.best_weights)
        return TrainingResult(
            done.step, done.best_step, resumed_from, done.loss, ValidationResult(**done.best), done.seconds
        )

    def due(self, every: int) -> bool:
        """Whether the step just done is one of every so many, or the last."""
        return self.done.step % every == 0 or self.done.step == self.config.steps

    def out_of_patience(self) -> bool:
        """Whether too many looks have found nothing better."""
        return self.config.patience is not None and self.done.looks_since_best >= self.config.patience

    def timed(self, batches: Iterator[Batch]) -> Iterator["Tensors"]:
        """The batches on the device, with the time spent waiting for them added up."""
        while True:
            begin = time.monotonic()
            batch = next(batches, None)
            self._waited += time.monotonic() - begin
            if batch is None:
                return
            yield on_device(batch, self.device)

    def step(self, batch: "Tensors", stop: bool) -> None:
        """One step of the optimiser; `stop` is this rank's wish, `asked_to_stop` that of any."""
        step, config = self.done.step, self.config
        torch.manual_seed(stream(config.seed, step, self.rank.index))  # dropout has no state to carry over
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        counts = torch.stack([labelled_pixels(batch.target, batch.weight), torch.tensor(int(stop), device=self.device)])
        labelled, stops = self.rank.total(counts)
        loss = self._loss(batch, labelled)
        (loss * self.rank.count).backward()  # ranks are averaged, but the parts of one loss have to be added
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm or inf)
        self._unsettled.append((step + 1, self.rank.total(loss.detach()), norm.detach(), stops))
        if self.device.type == "cpu" or len(self._unsettled) >= GPU_SETTLE_STEPS:
            self.settle()
        self.optimizer.step()
        now = time.monotonic()
        self.done.step, self.done.seconds = step + 1, self.done.seconds + now - self._tick
        self._tick = now
        self._progress.advance(1)

    def settle(self) -> None:
        """Look at the losses of the steps since the last time."""
        unsettled, self._unsettled = self._unsettled, []
        for step, loss, norm, stops in unsettled:
            self._require_finite(step, loss.item(), norm.item())
            self.done.line_losses.append(loss.item())
            self.done.losses = [*self.done.losses, loss.item()][-MEMORY:]
            self.asked_to_stop |= stops.item() > 0
            self._require_calm(step)

    def look(self, validation: Validation) -> ValidationResult | None:
        """Score the validation windows; the best weights so far are remembered. All ranks wait for the first."""
        self.settle()
        values = torch.zeros(4, dtype=torch.float64, device=self.device)
        if self.rank.speaks:
            values += torch.tensor([*_numbers(validation.look(self.model))], dtype=torch.float64, device=self.device)
        loss, score, threshold, has_threshold = self.rank.total(values).tolist()
        look = ValidationResult(loss, score, threshold if has_threshold else None)
        if self.done.best is None or score > self.done.best["score"]:
            self.done.best, self.done.best_step, self.done.looks_since_best = vars(look), self.done.step, 0
            self.best_weights = {key: value.detach().clone() for key, value in self.model.state_dict().items()}
        else:
            self.done.looks_since_best += 1
        return look

    def write_line(self, look: ValidationResult | None, on_line: Callable[[dict[str, Any]], None] | None) -> None:
        """One line of the learning curve, and to whoever watches."""
        self.settle()
        done, now = self.done, time.monotonic()
        elapsed = max(now - self._line, 1e-9)
        done.loss, done.line_losses = sum(done.line_losses) / len(done.line_losses), []
        line = {
            "step": done.step,
            "loss": done.loss,
            "learning_rate": learning_rate(done.step - 1, self.config),
            "seconds": round(done.seconds, 3),
            "steps_per_second": round((done.step - self._line_step) / elapsed, 4),
            "data_wait_share": round(self._waited / elapsed, 4),
            **(look.line() if look else {}),
        }
        self._line, self._line_step, self._waited = now, done.step, 0.0
        score = "" if done.best is None else f", best score {done.best['score']:.4f} at step {done.best_step}"
        self._progress.title = f"train (loss {done.loss:.4f}{score})"
        if self.rank.speaks:
            self.curve.add(line)
            if on_line is not None:
                on_line(line)

    def _loss(self, batch: "Tensors", labelled: Tensor) -> Tensor:
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
                f"{self._remedy()}. {self._kept()}"
            )

    def _require_calm(self, step: int) -> None:
        losses, factor = self.done.losses, self.config.spike_factor
        if factor is not None and is_lost(losses, factor):
            raise TrainingError(
                f"training diverged: the last {RECENT} losses, up to step {step}, are {jump(losses):.1f} times what "
                f"was usual before, and train.spike_factor allows {factor:g}. {self._remedy()}; or set "
                f"train.spike_factor to null, to train on whatever the losses are. {self._kept()}"
            )

    def _remedy(self) -> str:
        rate, norm = self.config.learning_rate, self.config.clip_norm
        return f"Lower train.learning_rate (now {rate:g}) or set train.clip_norm (now {norm or 'null'})"

    def _kept(self) -> str:
        """Which state there is, and what comes of trying again."""
        if self.state.step is None:
            minutes = self.config.checkpoint_minutes
            return f"No state has been written (train.checkpoint_minutes is {minutes:g}): the same settings start anew"
        return f"The state of step {self.state.step} is kept in {self.state.path}: the same settings go on from it"


class Tensors(NamedTuple):
    """A batch on the device."""

    raw: Tensor
    target: Tensor
    weight: Tensor


def on_device(batch: Batch, device: torch.device) -> Tensors:
    """Start the copy of a batch to the device; to a GPU from pinned memory, while it still computes earlier steps."""
    parts = [torch.from_numpy(part) for part in batch]
    parts[0] = parts[0].contiguous(memory_format=channels_last(parts[0].ndim - 2))
    if device.type == "cuda":
        parts = [part.pin_memory().to(device, non_blocking=True) for part in parts]
    return Tensors(*parts)


def stream(seed: int, step: int, rank: int = 0) -> int:
    """Seed of the random numbers of one step on one rank, unlike those of any other."""
    parts = [seed % 2**64, step] if rank == 0 else [seed % 2**64, step, rank]
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _numbers(look: ValidationResult) -> tuple[float, float, float, float]:
    return look.loss, look.score, look.threshold or 0.0, float(look.threshold is not None)


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
