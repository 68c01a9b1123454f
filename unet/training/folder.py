"""Keep each training in a folder named by the fingerprint of everything that the training depends on.

```
results/model/{fingerprint}/settings.json     what the fingerprint is computed from; written first
                            state.pt          state to continue from after a kill
                            training.jsonl    learning curve, and tensorboard/ if configured
                            stopped.json      why the last attempt ended without a model
                            model.pt          the trained model
                            receipt.json      figures of the finished training; written last
results/model/model.pt, training.jsonl        copies of the files of the present configuration
```

Snakemake deletes the outputs of a job that it starts, or that fails. Its outputs are therefore copies, and the folder
survives. Another configuration trains in another folder; going back to the first one finds its model again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet.storage.digests import bytes_digest
from unet.storage.files import read_json, write_atomically, write_json, write_receipt


@dataclass(frozen=True)
class TrainingFolder:
    """The files of one training in the folder `path`."""

    path: Path

    @property
    def model(self) -> Path:
        """Return the path of the trained model."""
        return self.path / "model.pt"

    @property
    def state(self) -> Path:
        """Return the path of the state: weights, optimiser and step."""
        return self.path / "state.pt"

    @property
    def curve(self) -> Path:
        """Return the path of the learning curve."""
        return self.path / "training.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Return the folder of TensorBoard event files."""
        return self.path / "tensorboard"

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Write the settings that the training depends on."""
        write_json(self.path / "settings.json", settings)

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings that the training depends on; empty if the training has not begun."""
        return _read(self.path / "settings.json") or {}

    def valid_receipt(self) -> dict[str, Any] | None:
        """Return the receipt of a finished training; None if there is none or the model file has changed since."""
        receipt = _read(self.path / "receipt.json")
        whole = receipt is not None and self.model.exists() and self.curve.exists()
        return receipt if whole and bytes_digest(self.model.read_bytes()) == receipt["digest"] else None  # type: ignore[index]

    def write_receipt(self, receipt: Mapping[str, Any]) -> None:
        """Write the receipt of a finished training, as its last file."""
        (self.path / "stopped.json").unlink(missing_ok=True)
        write_receipt(self.path / "receipt.json", receipt)

    def stop_reason(self) -> str | None:
        """Return why the last attempt ended without a model; None if the training itself is not the cause."""
        return (_read(self.path / "stopped.json") or {}).get("reason")

    def write_stop_reason(self, reason: str) -> None:
        """Write why an attempt ends without a model."""
        write_json(self.path / "stopped.json", {"reason": reason})

    def publish(self, model: Path, curve: Path) -> None:
        """Copy model and learning curve to the paths that other rules read.

        Copies, not links: writing into a published file must not change the file in this folder.
        """
        write_atomically(curve, self.curve.read_bytes())
        write_atomically(model, self.model.read_bytes())

    def siblings(self) -> list["TrainingFolder"]:
        """Return the folders of the other trainings beside this one, in order of their names."""
        found = sorted(path.parent for path in self.path.parent.glob("*/settings.json"))
        return [TrainingFolder(path) for path in found if path != self.path]

    def size_bytes(self) -> int:
        """Return the size of all files in bytes."""
        return sum(path.stat().st_size for path in self.path.rglob("*") if path.is_file())


def missing_copies(model: Path, curve: Path, receipt: Path) -> str | None:
    """Return a message if a copy is missing although a training has finished; None otherwise.

    Snakemake deletes the copies when it starts a training. If that training is killed and its settings are set back,
    no finished job depends on the copies. Snakemake alone would then not notice that they are missing.
    """
    missing = [path for path in (model, curve, receipt) if not path.exists()]
    ended = next(model.parent.glob("*/receipt.json"), None)
    return f"{missing[0]} is missing, but {ended} says that a training has ended" if missing and ended else None


def setting_differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """List the settings that differ, with the value of `theirs`.

    >>> ours = {"train": {"steps": 20, "seed": 0}, "code": "a"}
    >>> theirs = {"train": {"steps": 30, "seed": 0}, "code": "b"}
    >>> setting_differences(ours, theirs)
    ['train.steps: 30', 'code: b']
    """
    found = []
    for key in dict.fromkeys([*ours, *theirs]):
        mine, other = ours.get(key), theirs.get(key)
        if isinstance(mine, Mapping) and isinstance(other, Mapping):
            found += [f"{key}.{line}" for line in setting_differences(mine, other)]
        elif mine != other:
            found.append(f"{key}: {other}")
    return found


def _read(path: Path) -> dict[str, Any] | None:
    values: dict[str, Any] | None = read_json(path) if path.exists() else None
    return values
