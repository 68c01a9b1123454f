"""What a model file says about its model, read in milliseconds without PyTorch, and without its weights.

`torch.save` writes a zip archive. Its member `data.pkl` holds header and weights as a pickle, in which a tensor is only
described: its numbers are members of their own. No code is run to read it: whatever the pickle names, of PyTorch alone,
becomes an inert `Tensor`.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from unet.config.errors import explain
from unet.config.model import ModelConfig
from unet.config.root import Config

MODEL_FORMAT = "unet-em model 2"
HEADER = ("model", "channels", "classes", "voxel_size_nm", "normalisation")
WANTED = "give a model.pt that this workflow has trained, or leave model.checkpoint out to train one"
OBJECTS = "objects of another program, which are not read because they could run code"


class ModelFileError(RuntimeError):
    """A file is not a model of this workflow, or not one for this input."""


def read_header(path: Path) -> dict[str, Any]:
    """Return what a model file says: architecture, channels, classes, voxel size, normalisation.

    Raises
    ------
    ModelFileError
        If the file is something else; says what.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            [member] = (name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl"))
            with archive.open(member) as pickled:
                content = _Unpickler(pickled).load()
    except OSError as error:
        raise unreadable_file_error(path, error) from None
    except Exception:  # an unpickler raises whatever it meets
        raise foreign_file_error(path) from None
    return checked(path, content)[0]


def architecture(config: Config) -> tuple[ModelConfig, list[str]]:
    """The network that predicts, and its classes: of the given model file, else as it will be trained."""
    if config.model.checkpoint is None:
        return config.model, config.class_names
    header = read_header(Path(config.model.checkpoint))
    return ModelConfig(**header["model"]), list(header["classes"])


def checked(path: Path, content: Any) -> tuple[dict[str, Any], Any]:
    """Return header and weights of what a file holds; an error where it is not what this version has written."""
    if not isinstance(content, dict) or not isinstance(content.get("header"), dict) or "weights" not in content:
        held = "weights without an architecture" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise ModelFileError(f"{path}: not a model file of this workflow, but one of another program: {held}; {WANTED}")
    header = content["header"]
    if header.get("format") != MODEL_FORMAT:
        raise ModelFileError(
            f"{path}: its format is {header.get('format')!r}, but this version reads {MODEL_FORMAT!r}; {WANTED}"
        )
    missing = [key for key in HEADER if key not in header]
    if missing:
        raise ModelFileError(f"{path}: its header has no {' and no '.join(missing)}; {WANTED}")
    try:
        ModelConfig(**header["model"])
    except ValidationError as error:
        raise ModelFileError(f"{path}: model of its header: {explain(error, ModelConfig)}; {WANTED}") from None
    return header, content["weights"]


def unreadable_file_error(path: Path, error: OSError) -> ModelFileError:
    """The error for a file that the system does not let us read."""
    if isinstance(error, FileNotFoundError):
        return ModelFileError(f"{path}: there is no such model file")
    return ModelFileError(f"{path}: the model file cannot be read ({error.strerror}); {WANTED}")


def foreign_file_error(path: Path) -> ModelFileError:
    """The error for a file that holds something else, by its first bytes."""
    return ModelFileError(f"{path}: not a model file of this workflow, but {_kind_of(path)}; {WANTED}")


def _is_damaged(path: Path) -> bool:
    """Whether a part of an archive is not what its checksum says."""
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
        return "TorchScript" if any("/code/" in name for name in names) else OBJECTS
    if start.startswith(b"\x80"):
        return OBJECTS
    return "HDF5, as Keras writes it" if start.startswith(b"\x89HDF") else "a file that PyTorch does not know"


class Tensor:
    """Stands for a tensor, and for all that describes one: takes what it is given, and does nothing."""

    def __init__(self, *described: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    """Reads plain values, and of tensors nothing."""

    def find_class(self, module: str, name: str) -> type:
        """What stands for a name of the pickle; nothing is imported."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module in ("torch", "torch._utils"):
            return Tensor
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, name: Any) -> None:
        """The numbers of a tensor, which are not asked for."""
