"""Save and load the state of a training, from which a killed training continues as if nothing had happened."""

import logging
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unet.storage.files import write_with
from unet.training.weight_average import WeightAverage

log = logging.getLogger(__name__)


class TrainingStateError(RuntimeError):
    """A training cannot continue from a state file; the message says why, and what to do."""


@dataclass
class TrainingState:
    """Everything that a resumed training needs beside weights and optimiser."""

    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    """Losses of the last steps, at most `divergence.MAX_STORED_LOSSES`."""
    line_losses: list[float] = field(default_factory=list)
    loss: float | None = None
    best: dict[str, float] | None = None
    best_step: int = 0
    validations_since_best: int = 0
    objective: Tensor | None = None
    """What the loss remembers of earlier steps, such as running shares of classes."""


class StateFile:
    """The state file of one training.

    Parameters
    ----------
    path : Path
        State file, usually `state.pt`.
    fingerprint : str
        Fingerprint of everything that the training depends on.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = path, fingerprint
        self.step: int | None = None
        """Step of the state on disk; None while there is no state."""

    def load(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        average: WeightAverage | None = None,
    ) -> tuple[TrainingState, dict[str, Tensor]]:
        """Load model, optimiser and average of the weights; return the training state and the best weights.

        Without a file, the state is that of step 0 and there are no best weights.

        Raises
        ------
        TrainingStateError
            If the file cannot be read, or belongs to another training. The file is not changed.
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
        if average is not None:
            average.load(state["average"])
        self.step = state["done"]["step"]
        return TrainingState(**state["done"]), state["best_weights"]

    def save(
        self,
        training: TrainingState,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        best_weights: dict[str, Tensor],
        average: WeightAverage | None = None,
    ) -> None:
        """Write the state; a reader sees the old or the new state, never a part of one."""
        state = {
            "fingerprint": self.fingerprint,
            "threads": torch.get_num_threads(),
            "done": vars(training),
            "model": model.state_dict(),
            "best_weights": best_weights,
            "optimizer": optimizer.state_dict(),
            "average": average.tensors if average else {},
        }
        write_with(self.path, partial(torch.save, state))

    def _read(self, device: torch.device) -> dict[str, Any]:
        try:
            state: dict[str, Any] = torch.load(self.path, map_location=device, weights_only=True)
        except Exception as error:  # torch raises any error of its unpickler
            raise TrainingStateError(
                f"{self.path} cannot be read: it is damaged, or no such state. Remove it to train from the start"
            ) from error
        return state
