"""The file of a trained model: weights, architecture, classes and normalisation; no code is run to read it."""

import zipfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unet import __version__
from unet.config.model import ModelConfig
from unet.config.root import Config
from unet.network.model import build_model
from unet.storage.files import write_with

MODEL_FORMAT = "unet-em model 2"
WANTED = "give a model.pt that this workflow has trained, or leave model.checkpoint out to train one"
OBJECTS = "objects of another program, which are not read because they could run code"


class ModelFileError(RuntimeError):
    """A file is not a model of this workflow, or not one for this input."""


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
        If the file is something else, or its weights do not fit its header; names both values.
    """
    header, weights = _read_model_file(path)
    model = build_model(ModelConfig(**header["model"]), header["channels"], len(header["classes"]))
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelFileError(f"{path}: the weights do not fit the architecture in its header: {error}") from None
    return model.eval(), header


def read_header(path: Path) -> dict[str, Any]:
    """What a model file says about its model: architecture, channels, classes, voxel size, normalisation."""
    return _read_model_file(path)[0]


def architecture(config: Config) -> tuple[ModelConfig, list[str]]:
    """The network that predicts, and its classes: of the given model file, else as it will be trained."""
    if config.model.checkpoint is None:
        return config.model, config.class_names
    header = read_header(Path(config.model.checkpoint))
    return ModelConfig(**header["model"]), list(header["classes"])


def _read_model_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelFileError(f"{path}: there is no such model file") from None
    except OSError as error:
        raise ModelFileError(f"{path}: the model file cannot be read ({error.strerror})") from None
    except Exception:  # torch raises whatever its unpickler met, and advises to run what the file holds
        raise ModelFileError(f"{path}: not a model file of this workflow, but {_kind_of(path)}; {WANTED}") from None
    if not isinstance(content, dict) or not isinstance(content.get("header"), dict) or "weights" not in content:
        held = "weights without an architecture" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise ModelFileError(f"{path}: not a model file of this workflow, but one of another program: {held}; {WANTED}")
    header, weights = content["header"], content["weights"]
    if header.get("format") != MODEL_FORMAT:
        raise ModelFileError(f"{path}: its format is {header.get('format')!r}, but this version reads {MODEL_FORMAT!r}")
    return header, weights


def _kind_of(path: Path) -> str:
    """What a file is that PyTorch does not read, by its first bytes."""
    with path.open("rb") as handle:
        start = handle.read(8)
    if not start:
        return "an empty file"
    if start.startswith(b"PK"):
        if not zipfile.is_zipfile(path):
            return "a file that is cut short: copy it again"
        names = zipfile.ZipFile(path).namelist()
        return "TorchScript" if any("/code/" in name for name in names) else OBJECTS
    if start.startswith(b"\x80"):
        return OBJECTS
    return "HDF5, as Keras writes it" if start.startswith(b"\x89HDF") else "a file that PyTorch does not know"
