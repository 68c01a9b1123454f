"""Write the learning curve: JSON lines during the training, and optionally TensorBoard event files."""

import json
import os
from pathlib import Path
from typing import Any

from unet.extras import is_installed, needs
from unet.storage.files import write_atomically


class LearningCurve:
    """A learning curve on disk. After a resume, lines of steps that will be computed again are dropped.

    Parameters
    ----------
    path
        File of the JSON lines, `training.jsonl`.
    tensorboard
        Folder of the event files; None writes none.

    Raises
    ------
    ValueError
        If `tensorboard` is given and TensorBoard is not installed.
    """

    def __init__(self, path: Path, tensorboard: Path | None = None) -> None:
        self._path, self._folder = path, tensorboard
        self._events: Any = None
        if tensorboard is not None:
            _require_tensorboard()

    def truncate_after(self, step: int) -> None:
        """Drop the lines after `step`, and a line cut by a kill; TensorBoard drops the later events."""
        lines = self._path.read_text().splitlines(keepends=True) if self._path.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        write_atomically(self._path, "".join(kept).encode())
        if self._folder is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(self._folder), purge_step=step + 1)

    def append(self, line: dict[str, Any]) -> None:
        """Append a line and sync it to disk; in TensorBoard every value but `step` is a curve."""
        with self._path.open("a") as log:
            log.write(json.dumps(line) + "\n")
            log.flush()
            os.fsync(log.fileno())
        if self._events is not None:
            for name, value in line.items():
                if name != "step":
                    self._events.add_scalar(name, value, line["step"])
            self._events.flush()


def _require_tensorboard() -> None:
    if not is_installed("tensorboard"):
        raise ValueError(
            f"train.tensorboard: true {needs('tensorboard')}, or set it to false (training.jsonl holds the same curves)"
        )
