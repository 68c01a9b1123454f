"""The file of a trained model: weights, architecture, classes and normalisation; no code is run to read it."""

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unet import __version__
from unet.config.model import ModelConfig
from unet.network.model import build_model
from unet.network.model_header import (
    MODEL_FORMAT,
    WANTED,
    ModelFileError,
    checked,
    foreign_file_error,
    unreadable_file_error,
)
from unet.storage.files import write_with


def save_model(
    path: Path,
    model: nn.Module,
    config: ModelConfig,
    classes: Sequence[str],
    *,
    normalisation: Mapping[str, Any],
    voxel_size_nm: Sequence[float] | None = None,
    channels: int = 1,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a trained model with all that is needed to use it; by rename, so never a part of it is seen.

    Parameters
    ----------
    path : Path
        Usually `model.pt`.
    model : nn.Module
        As `build_model(config, channels, len(classes))` makes it.
    config : ModelConfig
        Its architecture.
    classes : sequence of str
        Names in the order of the output; the first is background.
    normalisation : mapping
        How grey values were normalised; plain numbers and strings.
    voxel_size_nm : sequence of float, optional
        `(z, y, x)` in nm of the volumes it was trained on.
    channels : int
        Of the input.
    extra : mapping, optional
        More to keep in the header; plain numbers and strings.
    """
    header = {
        "format": MODEL_FORMAT,
        "version": __version__,
        "model": config.model_dump(mode="json", exclude={"checkpoint", "voxel_size_tolerance"}),
        "channels": channels,
        "classes": list(classes),
        "voxel_size_nm": None if voxel_size_nm is None else [float(v) for v in voxel_size_nm],
        "normalisation": dict(normalisation),
        **(extra or {}),
    }
    weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    write_with(path, partial(torch.save, {"header": header, "weights": weights}))


def load_model(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Read a model written by `save_model`, ready for inference, and its header.

    Only tensors and plain values are read: the file cannot run code.

    Raises
    ------
    ModelFileError
        If the file is something else, its weights do not fit its header (names both values), or are not finite.
    """
    header, weights = read_model_file(path)
    model = build_model(ModelConfig(**header["model"]), header["channels"], len(header["classes"]))
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        why = " ".join(str(error).split())
        raise ModelFileError(
            f"{path}: the weights do not fit the architecture in its header: {why}; {WANTED}"
        ) from None
    return model.eval(), header


def read_model_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return header and weights of a model file.

    Raises
    ------
    ModelFileError
        If the file is something else, or if weights are not finite; whether they fit the architecture is not looked at.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of what others have written, refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise unreadable_file_error(path, error) from None
    except Exception:  # torch raises whatever its unpickler met, and advises to run what the file holds
        raise foreign_file_error(path) from None
    header, weights = checked(path, content)
    broken = [name for name, values in weights.items() if not values.isfinite().all()]
    if broken:
        raise ModelFileError(
            f"{path}: weights are not finite ({broken[0]}, {len(broken)} of {len(weights)} arrays), as of a training "
            f"that failed; {WANTED}"
        )
    return header, weights
