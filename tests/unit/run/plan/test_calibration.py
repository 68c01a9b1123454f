"""Calibration: what is measured is what a job does."""

from typing import Any

import pytest
import torch

from unet.config.root import load_config
from unet.run.plan import calibration
from unet.volumes.layout import VolumeLayout

LAYOUT = VolumeLayout((3, 40, 50), "uint8", (50, 4, 4), (0, 0, 0), (1, 16, 16), (2, 32, 32), "uint32", False)


def test_a_training_is_measured_with_the_threads_of_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU each sample of a batch has a thread, and each tile of a validation."""
    given: dict[str, int] = {}
    train, validation = calibration.train, calibration.Validation

    def recorded_train(*args: Any, **keys: Any) -> Any:
        given["train"] = keys["threads"]
        return train(*args, **keys)

    def recorded_validation(*args: Any) -> Any:
        made = validation(*args)
        given["validation"] = made.threads
        return made

    monkeypatch.setattr(calibration, "train", recorded_train)
    monkeypatch.setattr(calibration, "Validation", recorded_validation)
    config = load_config(
        {
            "volumes": {"train": {"raw": "a.tif", "labels": "b.tif"}},
            "model": {"depth": 2, "base_channels": 1, "dropout": 0},
            "train": {"tile": 20, "steps": 10, "batch": 2},
        }
    )
    step, of_validation = calibration.training_seconds(config, LAYOUT, 2, torch.device("cpu"), 2)
    assert given == {"train": 2, "validation": 2}
    assert min(step) > 0
    assert of_validation == (0.0, 0.0)
