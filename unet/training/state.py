"""The state of a training on disk: all that one that was killed needs to go on as if nothing had happened."""

import logging
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unet.storage.files import write_with

log = logging.getLogger(__name__)


class TrainingStateError(RuntimeError):
    """A state file cannot be continued from; the message says why, and what to do."""


@dataclass
class TrainingState:
    """Everything a resumed training needs beside weights and optimiser."""

    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    """The last ones, `divergence.MEMORY` of them at most."""
    line_losses: list[float] = field(default_factory=list)
    loss: float | None = None
    best: dict[str, float] | None = None
    best_step: int = 0
    validations_since_best: int = 0


class StateFile:
    """The state file of one training.

    Parameters
    ----------
    path : Path
        Usually `state.pt`.
    fingerprint : str
        Of all that the training depends on.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = path, fingerprint
        self.step: int | None = None
        """Of the state on disk; None while there is none."""

    def load(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
    ) -> tuple[TrainingState, dict[str, Tensor]]:
        """Put the state into model and optimiser; returns what is done and the best weights, of nothing without a file.

        Raises
        ------
        TrainingStateError
            If the file cannot be read, or belongs to another training; it is left as it is.
        """
        if not self.path.exists():
            return TrainingState(), {}
        state = self._read(device)
        if state["fingerprint"] != self.fingerprint:
            raise TrainingStateError(
                f"{self.path} belongs to another training: its fingerprint is {state['fingerprint']}, this one's "
                f"{self.fingerprint}. Move it away to train from the start"
            )
        threads = torch.get_num_threads()
        if device.type == "cpu" and state["threads"] != threads:
            log.warning(
                "%s was written with %d threads, and the training goes on with %d: the last bits of the model will not "
                "be those of a training that was never stopped",
                self.path,
                state["threads"],
                threads,
            )
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        self.step = state["done"]["step"]
        return TrainingState(**state["done"]), state["best_weights"]

    def save(
        self, done: TrainingState, model: nn.Module, optimizer: torch.optim.Optimizer, best_weights: dict[str, Tensor]
    ) -> None:
        """Write the state; a reader sees the old or the new one, never a part."""
        state = {
            "fingerprint": self.fingerprint,
            "threads": torch.get_num_threads(),
            "done": vars(done),
            "model": model.state_dict(),
            "best_weights": best_weights,
            "optimizer": optimizer.state_dict(),
        }
        write_with(self.path, partial(torch.save, state))

    def _read(self, device: torch.device) -> dict[str, Any]:
        try:
            state: dict[str, Any] = torch.load(self.path, map_location=device, weights_only=True)
        except Exception as error:  # torch raises whatever its unpickler met
            raise TrainingStateError(
                f"{self.path} cannot be read: it is damaged, or no such state. Remove it to train from the start"
            ) from error
        return state
