"""Whether a model and the volumes it is for fit each other; checked before any work is done."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from unet.config.model import ModelConfig
from unet.config.normalisation import NormalisationConfig
from unet.geometry.box import Index
from unet.geometry.tiling import tile_geometry, valid_input_sizes

Voxel = tuple[float, float, float]

MIN_OWN_VOXELS = 0.5
"""Share of a training tile's input that should be voxels of the volume, not mirror images of them."""


class IncompatibleModelError(ValueError):
    """A model that is not for these volumes, or volumes that are not alike; names both values."""


def require_same_voxel_size(
    of_model: Voxel | None, whose: str, volumes: Mapping[str, Voxel], dimensions: int, tolerance: float
) -> None:
    """Refuse volumes whose voxels differ from those that the model was trained on.

    A network knows structures by their size in voxels. Only the axes that it sees count: y and x for a 2-D one.

    Parameters
    ----------
    of_model : tuple of float or None
        `(z, y, x)` in nm; None = unknown, nothing is refused.
    whose : str
        Where that comes from, for the message.
    volumes : mapping
        `(z, y, x)` in nm by name.
    dimensions : int
        2 or 3.
    tolerance : float
        Largest relative difference.

    Raises
    ------
    IncompatibleModelError
        Naming the volume and both sizes.

    >>> require_same_voxels((50, 4, 4), "model.pt", {"a": (40, 4, 4.2)}, 2, 0.1)
    """
    if of_model is None:
        return
    for name, voxel in volumes.items():
        seen = list(zip(of_model, voxel, strict=True))[-dimensions:]
        if any(abs(theirs / ours - 1) > tolerance for ours, theirs in seen):
            raise IncompatibleModelError(
                f"volume {name!r} has voxels of {list(voxel)} nm (z, y, x), but {whose} was trained on "
                f"{list(of_model)} nm: they may differ by {tolerance:.0%} along the axes the network sees. Resample "
                "the volume, correct its voxel_size_nm, or raise model.voxel_size_tolerance if you know that it works"
            )


def require_same_channels(channels: Mapping[str, int], trained_on: str) -> None:
    """Refuse a volume that has more or fewer grey values a voxel than the one that the model learns from.

    >>> require_same_channels({"train": 2, "test": 2}, "train")
    """
    for name, count in channels.items():
        if count != channels[trained_on]:
            raise IncompatibleModelError(
                f"volume {name!r} has {count} input channel(s), but volume {trained_on!r}, which the model learns "
                f"from, has {channels[trained_on]}: give both the same channels in `raw`, in the same order"
            )


def require_compatible_model(
    header: Mapping[str, Any], whose: str, asked: Mapping[str, Any], channels: Mapping[str, int]
) -> None:
    """Refuse a model file that is not what the configuration says.

    Parameters
    ----------
    header : mapping
        Of the model file; see `unet.network.model_file`.
    whose : str
        The file, for the message.
    asked : mapping
        Keys of section `model` that the configuration sets itself; defaults do not bind.
    channels : mapping
        Grey values a voxel, by volume.

    Raises
    ------
    IncompatibleModelError
        Naming both values.
    """
    pairs = [(f"model.{key}", header["model"].get(key), value) for key, value in asked.items()]
    pairs += [(f"input channels (volume {name!r})", header["channels"], count) for name, count in channels.items()]
    for what, found, wanted in pairs:
        if found != wanted:
            raise IncompatibleModelError(
                f"{whose}: {what} of the model file is {found!r}, but this run has {wanted!r}; correct the "
                "configuration, or give another model file"
            )


def require_classes(
    header: Mapping[str, Any], whose: str, classes: Mapping[str, Sequence[str]], foreground: Sequence[str] = ()
) -> None:
    """Refuse a model file of other classes than those that are scored, or that make instances.

    Parameters
    ----------
    header, whose
        As of `require_compatible_model`.
    classes : mapping
        Class names by annotated volume that is scored.
    foreground : sequence of str
        `segment.foreground`.

    Raises
    ------
    IncompatibleModelError
        Naming both values.

    >>> require_classes({"classes": ["membrane", "cell"]}, "model.pt", {"a": ["membrane", "cell"]}, ["cell"])
    """
    learnt = list(header["classes"])
    for name, own in classes.items():
        if list(own) != learnt:
            raise IncompatibleModelError(
                f"evaluate.volumes: volume {name!r} has classes {list(own)}, but {whose} was trained on {learnt}: set "
                "its label_kind and class_values to the same, or take it out of evaluate.volumes"
            )
    for name in foreground:
        if name not in learnt[1:]:
            raise IncompatibleModelError(
                f"segment.foreground: {name!r} is not one of {learnt[1:]}, the classes of {whose}"
            )


def require_tile_fits(volume: str, shape: Index, model: ModelConfig, tile: int | Index) -> str | None:
    """Refuse training tiles that a volume cannot fill, and say where most of a tile is mirror images.

    Beyond the volume's faces a tile sees mirror images. The context of a tile may be mirrored, as in the paper; where
    the window that is predicted is larger than the volume, the same voxels would be learnt several times a tile.

    Parameters
    ----------
    volume : str
        Its name, for the message.
    shape : tuple of int
        `(z, y, x)` in voxels.
    model : ModelConfig
        The network.
    tile : int or tuple of int
        `train.tile`.

    Returns
    -------
    str or None
        A warning, where less than half of a tile's input can be the volume's own voxels.

    Raises
    ------
    IncompatibleModelError
        If the output of a tile exceeds the volume along an axis; names the largest tile that does not.
    """
    geometry = tile_geometry(model, tile)
    said = f"train.tile {list(geometry.input)} predicts {list(geometry.output)} voxels (z, y, x) at once"
    if any(out > n for out, n in zip(geometry.output, shape, strict=True)):
        most = [min(n, out) + 2 * m for n, out, m in zip(shape, geometry.output, geometry.margin, strict=True)]
        largest = [max(valid_input_sizes(model, side, axis), default=0) for axis, side in enumerate(most)]
        raise IncompatibleModelError(
            f"{said}, but volume {volume!r} has only {list(shape)}: the rest would be mirror images; set train.tile to "
            f"{largest} at most, or give a larger volume"
        )
    own = prod(min(n, side) / side for n, side in zip(shape, geometry.input, strict=True))
    if own >= MIN_OWN_VOXELS:
        return None
    return (
        f"{said} and sees {list(geometry.input)}, but volume {volume!r} has {list(shape)}: at most {own:.0%} of what a "
        "tile sees are its own voxels, the rest mirror images; a smaller train.tile or model.depth sees fewer of them"
    )


def normalisation_of_model(header: Mapping[str, Any], whose: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The section `normalisation` that a model was trained with: it holds for all volumes that it predicts.

    Parameters
    ----------
    header, whose : mapping, str
        Of the model file, and its name for the message.
    asked : mapping
        Keys of the section that the configuration sets itself; defaults do not bind.

    Raises
    ------
    IncompatibleModelError
        Naming a key and both values.
    """
    rule = NormalisationConfig(**header["normalisation"].get("rule", {})).model_dump(mode="json")
    for key, value in asked.items():
        if value != rule[key]:
            raise IncompatibleModelError(
                f"{whose}: the model was trained with normalisation.{key} {rule[key]!r}, but this run has {value!r}; "
                f"leave normalisation.{key} out, or train anew"
            )
    return rule
