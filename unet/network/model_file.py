"""Write and read the file of a trained model: weights, architecture, classes, normalisation. Reading runs no code."""

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
    ADVICE,
    MODEL_FORMAT,
    ModelFileError,
    foreign_file_error,
    unreadable_file_error,
    validated_content,
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
    """Write a trained model with everything that its use needs. The file appears by rename, so it is always whole.

    Parameters
    ----------
    path : Path
        File to write, usually `model.pt`.
    model : nn.Module
        From `build_model(config, channels, len(classes))`.
    config : ModelConfig
        Architecture of the model.
    classes : sequence of str
        Names of the output's channels in their order: classes, of which the first is background, or offsets (`z+1`).
    normalisation : mapping
        How grey values were normalised, as plain numbers and strings.
    voxel_size_nm : sequence of float, optional
        Voxel size `(z, y, x)` in nm of the training volumes.
    channels : int
        Number of input channels.
    extra : mapping, optional
        Further entries of the header, as plain numbers and strings.
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
    """Read a model written by `save_model`; return it in evaluation mode, and its header.

    Only tensors and plain values are read, so the file cannot run code.

    Raises
    ------
    ModelFileError
        If the file is not a model file, or its weights are not finite or do not fit the header.
    """
    header, weights = read_model_file(path)
    model = build_model(ModelConfig(**header["model"]), header["channels"], len(header["classes"]))
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        why = " ".join(str(error).split())
        raise ModelFileError(
            f"{path}: the weights do not fit the architecture in its header: {why}; {ADVICE}"
        ) from None
    return model.eval(), header


def read_model_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return header and weights of a model file.

    Raises
    ------
    ModelFileError
        If the file is not a model file, or its weights are not finite. Whether they fit the header is not checked.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # about files of other programs, which are refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise unreadable_file_error(path, error) from None
    except Exception:  # torch raises any error of its unpickler, and advises to run the file's code
        raise foreign_file_error(path) from None
    header, weights = validated_content(path, content)
    broken = [name for name, values in weights.items() if not values.isfinite().all()]
    if broken:
        raise ModelFileError(
            f"{path}: weights are not finite ({broken[0]}, {len(broken)} of {len(weights)} arrays), as after a "
            f"training that failed; {ADVICE}"
        )
    return header, weights
