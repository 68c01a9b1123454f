"""Where a training is kept: a folder named by the fingerprint of all that the training depends on.

```
results/model/{fingerprint}/settings.json     what the fingerprint is of; written first
                            state.pt          to continue after a kill
                            training.jsonl    the learning curve, and tensorboard/ where it is asked for
                            stopped.json      why the last attempt ended without a model
                            model.pt          the trained model
                            receipt.json      what became of it; written last
results/model/model.pt, training.jsonl        copies of those of the present configuration
```

Snakemake deletes the outputs of a job that it starts, or that fails. So what it knows of are copies, and the folder is
what survives: another configuration trains in another folder, and the first one finds its model again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet.storage.digests import bytes_digest
from unet.storage.files import read_json, write_atomically, write_json


@dataclass(frozen=True)
class TrainingFolder:
    """The files of one training, in `path`."""

    path: Path

    @property
    def model(self) -> Path:
        """The trained model."""
        return self.path / "model.pt"

    @property
    def state(self) -> Path:
        """Weights, optimiser and step, to continue from."""
        return self.path / "state.pt"

    @property
    def curve(self) -> Path:
        """The learning curve."""
        return self.path / "training.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Folder of event files."""
        return self.path / "tensorboard"

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Note what the training depends on."""
        write_json(self.path / "settings.json", settings)

    @property
    def settings(self) -> dict[str, Any]:
        """What the training depends on; empty where it was never begun."""
        return _read(self.path / "settings.json") or {}

    def valid_receipt(self) -> dict[str, Any] | None:
        """What `write_receipt` wrote, if the model file is still the one that was written then."""
        receipt = _read(self.path / "receipt.json")
        whole = receipt is not None and self.model.exists() and self.curve.exists()
        return receipt if whole and bytes_digest(self.model.read_bytes()) == receipt["digest"] else None  # type: ignore[index]

    def write_receipt(self, receipt: Mapping[str, Any]) -> None:
        """Note that the training has ended well; the last file that it writes."""
        (self.path / "stopped.json").unlink(missing_ok=True)
        write_json(self.path / "receipt.json", receipt)

    def stop_reason(self) -> str | None:
        """Why the last attempt ended without a model, where that follows from the training itself."""
        return (_read(self.path / "stopped.json") or {}).get("reason")

    def write_stop_reason(self, reason: str) -> None:
        """Note why the attempt ends without a model."""
        write_json(self.path / "stopped.json", {"reason": reason})

    def publish(self, model: Path, curve: Path) -> None:
        """Copy model and learning curve to where other rules read them.

        Copies, not links: what is written into such a file later must not reach the one that is kept.
        """
        write_atomically(curve, self.curve.read_bytes())
        write_atomically(model, self.model.read_bytes())

    def siblings(self) -> list["TrainingFolder"]:
        """The other trainings that are kept beside this one, by name."""
        found = sorted(path.parent for path in self.path.parent.glob("*/settings.json"))
        return [TrainingFolder(path) for path in found if path != self.path]

    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.path.rglob("*") if path.is_file())


def missing_copies(model: Path, curve: Path, receipt: Path) -> str | None:
    """Return which of the copies is missing, though a training has ended well; None where none is, or none has ended.

    Snakemake deletes them when it starts a training. If that is killed, and its settings are set back, nothing that is
    finished asks for the copies any more, and Snakemake alone would not miss them.
    """
    missing = [path for path in (model, curve, receipt) if not path.exists()]
    ended = next(model.parent.glob("*/receipt.json"), None)
    return f"{missing[0]} is missing, but {ended} says that a training has ended" if missing and ended else None


def setting_differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Which settings are not the same, with the value of `theirs`.

    >>> differences({"train": {"steps": 20, "seed": 0}, "code": "a"}, {"train": {"steps": 30, "seed": 0}, "code": "b"})
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
