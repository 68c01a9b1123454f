"""Read the header of a model file in milliseconds, without PyTorch and without the weights.

`torch.save` writes a zip archive. Its member `data.pkl` is a pickle of header and weights. The pickle only describes
each tensor; the numbers of a tensor are a member of their own. Reading runs no code: any PyTorch name in the pickle
becomes an inert `Tensor`, and any other name is refused.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from unet.config.errors import explain
from unet.config.model import ModelConfig
from unet.config.root import Config
from unet.network.output_channels import output_channels

MODEL_FORMAT = "unet-em model 3"
REQUIRED_KEYS = ("model", "channels", "classes", "voxel_size_nm", "normalisation")
ADVICE = "give a model.pt that this workflow has trained, or leave model.checkpoint out to train one"
PICKLED_OBJECTS = "objects of another program, which are not read because they could run code"


class ModelFileError(RuntimeError):
    """A file is not a model of this workflow, or not a model for this input."""


def read_header(path: Path) -> dict[str, Any]:
    """Return the header of a model file: architecture, channels, classes, voxel size, normalisation.

    Of a network that predicts affinities, `classes` are the names of the offsets, such as `z+1`.

    Raises
    ------
    ModelFileError
        If the file is not a model file; says what it is instead.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            [member] = (name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl"))
            with archive.open(member) as pickled:
                content = _Unpickler(pickled).load()
    except OSError as error:
        raise unreadable_file_error(path, error) from None
    except Exception:  # an unpickler can raise any error
        raise foreign_file_error(path) from None
    return validated_content(path, content)[0]


def architecture(config: Config, voxel_size_nm: Sequence[float]) -> tuple[ModelConfig, list[str]]:
    """Return the network that predicts and its channels: from the configured model file, else as it will be trained.

    Parameters
    ----------
    voxel_size_nm : sequence of float
        Size `(z, y, x)` of a voxel in nm, by which the default offsets of affinities are chosen.
    """
    if config.model.checkpoint is None:
        return config.model, output_channels(config.model, config.class_names, voxel_size_nm)
    header = read_header(Path(config.model.checkpoint))
    return ModelConfig(**header["model"]), list(header["classes"])


def validated_content(path: Path, content: Any) -> tuple[dict[str, Any], Any]:
    """Return header and weights of a file's content; raise `ModelFileError` if this version did not write it."""
    if not isinstance(content, dict) or not isinstance(content.get("header"), dict) or "weights" not in content:
        held = "weights without an architecture" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise ModelFileError(f"{path}: not a model file of this workflow, but one of another program: {held}; {ADVICE}")
    header = content["header"]
    if header.get("format") != MODEL_FORMAT:
        raise ModelFileError(
            f"{path}: its format is {header.get('format')!r}, but this version reads {MODEL_FORMAT!r}; {ADVICE}"
        )
    missing = [key for key in REQUIRED_KEYS if key not in header]
    if missing:
        raise ModelFileError(f"{path}: its header has no {' and no '.join(missing)}; {ADVICE}")
    try:
        ModelConfig(**header["model"])
    except ValidationError as error:
        raise ModelFileError(f"{path}: model of its header: {explain(error, ModelConfig)}; {ADVICE}") from None
    return header, content["weights"]


def unreadable_file_error(path: Path, error: OSError) -> ModelFileError:
    """Return the error for a file that the system cannot read."""
    if isinstance(error, FileNotFoundError):
        return ModelFileError(f"{path}: there is no such model file")
    return ModelFileError(f"{path}: the model file cannot be read ({error.strerror}); {ADVICE}")


def foreign_file_error(path: Path) -> ModelFileError:
    """Return the error for a file that is not a model file; the first bytes show its kind."""
    return ModelFileError(f"{path}: not a model file of this workflow, but {_kind_of(path)}; {ADVICE}")


def _is_damaged(path: Path) -> bool:
    """Return whether a member of a zip archive fails its checksum."""
    try:
        return zipfile.ZipFile(path).testzip() is not None
    except (zipfile.BadZipFile, OSError, ValueError, EOFError):
        return True


def _kind_of(path: Path) -> str:
    with path.open("rb") as handle:
        start = handle.read(8)
    if not start:
        return "an empty file"
    if start.startswith(b"PK"):
        if not zipfile.is_zipfile(path):
            return "a file that is cut short: copy it again"
        names = zipfile.ZipFile(path).namelist()
        if _is_damaged(path):
            return "a file that is damaged: copy it again"
        return "TorchScript" if any("/code/" in name for name in names) else PICKLED_OBJECTS
    if start.startswith(b"\x80"):
        return PICKLED_OBJECTS
    return "HDF5, as Keras writes it" if start.startswith(b"\x89HDF") else "a file that PyTorch does not know"


class Tensor:
    """Stand-in for a tensor and for the objects that describe it; ignores all arguments."""

    def __init__(self, *described: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    """Unpickler that reads plain values and skips tensors."""

    def find_class(self, module: str, name: str) -> type:
        """Return the stand-in for a name in the pickle; nothing is imported."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module in ("torch", "torch._utils"):
            return Tensor
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, name: Any) -> None:
        """Return None for the numbers of a tensor."""
