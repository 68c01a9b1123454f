"""Training: the paper's stochastic gradient descent, reproducible and resumable bit for bit.

What a step does is a function of (seed, step) and of the state before it alone: patches are drawn from it, dropout
is seeded with it, the learning rate is computed from it. So a state file that holds weights, optimiser and step is
all that a killed training needs to go on as if nothing had happened.
"""

import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from math import cos, inf, isfinite, pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unet.config import TrainConfig
from unet.loss import weighted_cross_entropy
from unet.model import centre_crop
from unet.model_file import save_atomically
from unet.patches import Batch, PatchSampler
from unet.progress import Progress

logger = logging.getLogger(__name__)

VALIDATION_PATCHES = 8

OnLine = Callable[[dict[str, Any]], None]


class TrainingError(RuntimeError):
    """Training cannot go on; the message says what to change."""


class TrainingStoppedError(RuntimeError):
    """A signal asked to stop; the state is written and the next run continues from it."""


@dataclass
class TrainingResult:
    """What came out: steps done, step resumed from (0 = from the start), last mean losses and time in all runs."""

    steps: int
    resumed_from: int
    loss: float | None
    validation_loss: float | None
    seconds: float


@dataclass
class Done:
    """Everything a resumed training needs beside weights and optimiser."""

    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    loss: float | None = None
    validation_loss: float | None = None


def train(
    model: nn.Module,
    sampler: PatchSampler,
    config: TrainConfig,
    *,
    state_path: Path,
    log_path: Path,
    fingerprint: str,
    validation: PatchSampler | None = None,
    on_line: OnLine | None = None,
    device: str | torch.device = "cpu",
) -> TrainingResult:
    """Train a model in place, from the start or from where an earlier run with the same fingerprint was stopped.

    Parameters
    ----------
    model : nn.Module
        Freshly built under `torch.manual_seed(config.seed)`; its weights are replaced when a state is resumed.
    sampler : PatchSampler
        Of the training volumes.
    config : TrainConfig
        Section `train` of the configuration.
    state_path : Path
        Written by rename every `checkpoint_minutes`, on SIGTERM or SIGINT, and at the end.
    log_path : Path
        JSON lines, one every `log_steps` and `validation_steps`: step, loss (mean since the line before),
        learning_rate, seconds, steps_per_second, data_wait_share (of the time, waiting for patches), and
        `validation_loss` where it was computed. Lines after the step resumed from are dropped.
    fingerprint : str
        Of all that the result depends on; a state with another one is discarded.
    validation : PatchSampler, optional
        Its first patches, always the same, give the validation loss every `validation_steps`.
    on_line : callable, optional
        Called with every line of the log.
    device : str or torch.device
        Where to compute.

    Raises
    ------
    TrainingError
        If the loss or the gradient is not finite; the state of the last checkpoint is kept.
    TrainingStoppedError
        If a signal asked to stop; the state is written.
    """
    run = _Run(model, config, torch.device(device), state_path, log_path, fingerprint, on_line)
    resumed_from = run.resume()
    with _stop_requests() as stopped, closing(sampler.batches(resumed_from, config.steps)) as batches:
        for batch in run.timed(batches):
            run.step(batch)
            validated = run.validate(validation) if validation and run.due(config.validation_steps) else None
            if validated is not None or run.due(config.log_steps):
                run.write_line(validated)
            if stopped.is_set() and run.done.step < config.steps:
                run.save()
                raise TrainingStoppedError(
                    f"stopped by a signal after step {run.done.step} of {config.steps}; state in {state_path}"
                )
            run.save_on_the_clock()
        run.save()
    done = run.done
    return TrainingResult(done.step, resumed_from, done.loss, done.validation_loss, done.seconds)


class _Run:
    """The moving parts of one training."""

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        device: torch.device,
        state_path: Path,
        log_path: Path,
        fingerprint: str,
        on_line: OnLine | None,
    ) -> None:
        self.model, self.config, self.device = model.to(device), config, device
        self.state_path, self.log_path = state_path, log_path
        self.fingerprint, self.on_line = fingerprint, on_line
        self.optimizer = make_optimizer(self.model, config)
        self.done = Done()
        self._progress = Progress("train", config.steps, "steps")
        self._saved = self._line = self._tick = time.monotonic()
        self._line_step, self._waited = 0, 0.0

    def resume(self) -> int:
        """Load the state if there is one for this training; returns the steps that it has done."""
        self.state_path.parent.mkdir(parents=True, exist_ok=True)
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        if self.state_path.exists():
            state = torch.load(self.state_path, map_location=self.device, weights_only=True)
            if state["fingerprint"] == self.fingerprint:
                self.model.load_state_dict(state["model"])
                self.optimizer.load_state_dict(state["optimizer"])
                self.done = Done(**state["done"])
                self._progress = Progress("train", self.config.steps, "steps", done=self.done.step)
            else:
                logger.info("%s belongs to another training; starting anew", self.state_path)
        truncate_log(self.log_path, self.done.step)
        self._line_step = self.done.step
        return self.done.step

    def save(self) -> None:
        """Write the state; a reader sees the old or the new one, never a part."""
        state = {
            "fingerprint": self.fingerprint,
            "done": vars(self.done),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        save_atomically(self.state_path, state)
        self._saved = time.monotonic()

    def save_on_the_clock(self) -> None:
        """Write the state if the last one is old enough."""
        if time.monotonic() - self._saved >= 60 * self.config.checkpoint_minutes:
            self.save()

    def due(self, every: int) -> bool:
        """Whether the step just done is one of every so many, or the last."""
        return self.done.step % every == 0 or self.done.step == self.config.steps

    def timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches, with the time spent waiting for them added up."""
        while True:
            begin = time.monotonic()
            batch = next(batches, None)
            self._waited += time.monotonic() - begin
            if batch is None:
                return
            yield batch

    def step(self, batch: Batch) -> None:
        """One step of the optimiser."""
        step, config = self.done.step, self.config
        torch.manual_seed(stream(config.seed, step))  # dropout has no state to carry over
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(batch)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm or inf)
        self._require_finite(loss.item(), norm.item())
        self.optimizer.step()
        now = time.monotonic()
        self.done.step, self.done.seconds = step + 1, self.done.seconds + now - self._tick
        self.done.losses.append(loss.item())
        self._tick = now
        self._progress.advance(1)

    def validate(self, sampler: PatchSampler) -> float:
        """Mean loss of fixed patches."""
        self.model.eval()
        with torch.no_grad():
            losses = [self._loss(sampler.batch(k)).item() for k in range(VALIDATION_PATCHES)]
        self.done.validation_loss = sum(losses) / len(losses)
        return self.done.validation_loss

    def write_line(self, validation_loss: float | None) -> None:
        """One line of the log, and to whoever watches."""
        done, now = self.done, time.monotonic()
        elapsed = max(now - self._line, 1e-9)
        done.loss, done.losses = sum(done.losses) / len(done.losses), []
        line = {
            "step": done.step,
            "loss": done.loss,
            "learning_rate": learning_rate(done.step - 1, self.config),
            "seconds": round(done.seconds, 3),
            "steps_per_second": round((done.step - self._line_step) / elapsed, 4),
            "data_wait_share": round(self._waited / elapsed, 4),
        }
        if validation_loss is not None:
            line["validation_loss"] = validation_loss
        with self.log_path.open("a") as log:
            log.write(json.dumps(line) + "\n")
        self._line, self._line_step, self._waited = now, done.step, 0.0
        self._progress.title = f"train (loss {done.loss:.4f})"
        if self.on_line is not None:
            self.on_line(line)

    def _loss(self, batch: Batch) -> Tensor:
        raw, target, weight = (torch.from_numpy(part).to(self.device) for part in batch)
        # A zero-padded network returns more than the output window: its rim knows the padding and is not learnt.
        return weighted_cross_entropy(centre_crop(self.model(raw), target.shape[1:]), target, weight)

    def _require_finite(self, loss: float, norm: float) -> None:
        if not (isfinite(loss) and isfinite(norm)):
            raise TrainingError(
                f"loss {loss} and gradient norm {norm} at step {self.done.step + 1}: training diverged; lower "
                f"train.learning_rate (now {self.config.learning_rate}) or set train.clip_norm "
                f"(now {self.config.clip_norm}). The last state is kept in {self.state_path}"
            )


def learning_rate(step: int, config: TrainConfig) -> float:
    """Learning rate of a step, counted from 0: a linear rise over `warmup_steps`, then constant or a half cosine to 0.

    >>> config = TrainConfig(learning_rate=1.0, steps=12, warmup_steps=2)
    >>> [round(learning_rate(step, config), 2) for step in (0, 1, 2, 7, 11)]
    [0.5, 1.0, 1.0, 0.5, 0.02]
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    done = (step - config.warmup_steps) / (config.steps - config.warmup_steps)
    return config.learning_rate * (1 + cos(pi * done)) / 2


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum (paper, section 3), or AdamW."""
    if config.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        model.parameters(),
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )


def stream(seed: int, step: int) -> int:
    """Seed of the random numbers of one step, unlike those of any other seed and step."""
    return int(np.random.SeedSequence([seed % 2**64, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def truncate_log(path: Path, step: int) -> None:
    """Drop the lines after `step`, which will be computed again, and a line cut by a kill."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    path.write_text("".join(kept))


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """An event set by SIGTERM or SIGINT: a step in progress is finished and the state written before stopping."""
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
