"""Check that a model and its volumes are compatible, before any work is done."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from unet.config.model import ModelConfig
from unet.config.normalisation import NormalisationConfig
from unet.geometry.box import Index
from unet.geometry.training_tile import LossRegion, largest_training_tile, training_geometry
from unet.network.output_channels import output_channels

VoxelSize = tuple[float, float, float]

OFFSET_KEYS = {"offsets", "offset_unit"}
"""Keys of section `model` that are compared in voxels."""
NOT_OF_THE_WEIGHTS = {"checkpoint", "voxel_size_tolerance", "dropout", "offsets", "offset_unit"}
"""Keys of section `model` that the weights do not depend on. Offsets are compared by the names of the channels."""
MIN_OWN_VOXEL_SHARE = 0.5
"""Share of a training tile's input that should be voxels of the volume, not mirror images."""


class IncompatibleModelError(ValueError):
    """A model does not match the volumes, or the volumes do not match each other; names both values."""


def require_same_voxel_size(
    model_voxel_size: VoxelSize | None,
    model_name: str,
    volumes: Mapping[str, VoxelSize],
    dimensions: int,
    tolerance: float,
) -> None:
    """Refuse volumes whose voxel size differs from the voxel size that the model was trained on.

    A network recognises structures by their size in voxels. A 2-D network compares the y and x axes only.

    Parameters
    ----------
    model_voxel_size : tuple of float or None
        Voxel size of the training volume, `(z, y, x)` in nm. None is unknown, and nothing is refused.
    model_name : str
        Name of the model for the message.
    volumes : mapping
        Voxel size `(z, y, x)` in nm by volume.
    dimensions : int
        Dimensions of the network, 2 or 3.
    tolerance : float
        Largest relative difference.

    Raises
    ------
    IncompatibleModelError
        If a voxel size differs; names the volume and both sizes.

    >>> require_same_voxel_size((50, 4, 4), "model.pt", {"a": (40, 4, 4.2)}, 2, 0.1)
    """
    if model_voxel_size is None:
        return
    for name, voxel in volumes.items():
        seen = list(zip(model_voxel_size, voxel, strict=True))[-dimensions:]
        if any(abs(theirs / ours - 1) > tolerance for ours, theirs in seen):
            raise IncompatibleModelError(
                f"volume {name!r} has voxels of {list(voxel)} nm (z, y, x), but {model_name} was trained on "
                f"{list(model_voxel_size)} nm: they may differ by {tolerance:.0%} along the axes the network sees. "
                "Resample the volume, correct its voxel_size_nm, or raise model.voxel_size_tolerance if you know "
                "that it works"
            )


def require_same_channels(channels: Mapping[str, int], trained_on: str) -> None:
    """Refuse a volume whose number of channels differs from the volume that the model learns from.

    >>> require_same_channels({"train": 2, "test": 2}, "train")
    """
    for name, count in channels.items():
        if count != channels[trained_on]:
            raise IncompatibleModelError(
                f"volume {name!r} has {count} input channel(s), but volume {trained_on!r}, which the model learns "
                f"from, has {channels[trained_on]}: give both the same channels in `raw`, in the same order"
            )


def require_compatible_model(
    header: Mapping[str, Any], model_name: str, configured: Mapping[str, Any], channels: Mapping[str, int]
) -> None:
    """Refuse a model file that differs from the configuration.

    Parameters
    ----------
    header : mapping
        Header of the model file; see `unet.network.model_file`.
    model_name : str
        Name of the file for the message.
    configured : mapping
        Keys of section `model` that the user has set. Defaults are not compared.
    channels : mapping
        Number of input channels by volume.

    Raises
    ------
    IncompatibleModelError
        If a value differs; names both values.
    """
    learnt = {"output": "classes", **header["model"]}
    pairs: list[tuple[str, Any, Any]] = [
        (f"model.{key}", learnt.get(key), value) for key, value in configured.items() if key not in OFFSET_KEYS
    ]
    asks_for_offsets = configured.get("output") == "affinities" and not OFFSET_KEYS.isdisjoint(configured)
    if asks_for_offsets and header["voxel_size_nm"] is not None:
        asked = output_channels(ModelConfig(**{**header["model"], **configured}), [], header["voxel_size_nm"])
        pairs += [("model.offsets in voxels", list(header["classes"]), asked)]
    pairs += [(f"input channels (volume {name!r})", header["channels"], count) for name, count in channels.items()]
    for what, found, wanted in pairs:
        if found != wanted:
            raise IncompatibleModelError(
                f"{model_name}: {what} of the model file is {found!r}, but this run has {wanted!r}; correct the "
                "configuration, or give another model file"
            )


def require_output(header: Mapping[str, Any], model_name: str, output: str) -> None:
    """Refuse a model file that predicts classes where affinities are configured, or the other way round.

    The decoding depends on it, so `model.output` has to say it also where it is the default.

    Raises
    ------
    IncompatibleModelError
        If they differ; names both values.

    >>> require_output({"model": {"output": "affinities"}}, "model.pt", "affinities")
    """
    found = header["model"].get("output", "classes")
    if found != output:
        raise IncompatibleModelError(
            f"{model_name} predicts {found}, but model.output is {output}: set model.output: {found}, or give another "
            "model file"
        )


def require_same_network(
    header: Mapping[str, Any],
    model_name: str,
    model: ModelConfig,
    channels: int | None = None,
    outputs: Sequence[str] | None = None,
) -> None:
    """Refuse a model file whose weights cannot be continued, because it holds another network.

    Parameters
    ----------
    header, model_name
        See `require_compatible_model`.
    model : ModelConfig
        Section `model` of the configuration: the network that is to be trained.
    channels : int, optional
        Grey values per voxel; None is not compared.
    outputs : sequence of str, optional
        Names of the output channels: classes, or offsets of affinities. None is not compared.

    Raises
    ------
    IncompatibleModelError
        If they differ; names all differences.
    """
    theirs, ours = (
        one.model_dump(mode="json", exclude=NOT_OF_THE_WEIGHTS) for one in (ModelConfig(**header["model"]), model)
    )
    found = {f"model.{key}": (theirs[key], ours[key]) for key in ours}
    if channels is not None:
        found["input channels"] = header["channels"], channels
    if outputs is not None:
        found["output channels"] = list(header["classes"]), list(outputs)
    different = [f"{key} {a!r} (this run: {b!r})" for key, (a, b) in found.items() if a != b]
    if different:
        raise IncompatibleModelError(
            f"train.start_from: {model_name} has {', '.join(different)}. Weights continue in the same network only: "
            "set these keys to those of the file, or remove train.start_from"
        )


def require_classes(
    header: Mapping[str, Any], model_name: str, classes: Mapping[str, Sequence[str]], foreground: Sequence[str] = ()
) -> None:
    """Refuse a model file whose classes differ from the classes that are scored or segmented.

    Parameters
    ----------
    header, model_name
        See `require_compatible_model`.
    classes : mapping
        Class names by volume that is scored.
    foreground : sequence of str
        `segment.foreground`.

    Raises
    ------
    IncompatibleModelError
        If a class differs; names both values.

    >>> require_classes({"classes": ["membrane", "cell"]}, "model.pt", {"a": ["membrane", "cell"]}, ["cell"])
    """
    learnt = list(header["classes"])
    for name, own in classes.items():
        if list(own) != learnt:
            raise IncompatibleModelError(
                f"evaluate.volumes: volume {name!r} has classes {list(own)}, but {model_name} was trained on {learnt}: "
                "set its label_kind and class_values to the same, or take it out of evaluate.volumes"
            )
    for name in foreground:
        if name not in learnt[1:]:
            raise IncompatibleModelError(
                f"segment.foreground: {name!r} is not one of {learnt[1:]}, the classes of {model_name}"
            )


def require_tile_fits(
    volume: str, shape: Index, model: ModelConfig, tile: int | Index, region: LossRegion = "exact"
) -> str | None:
    """Refuse training tiles that exceed a volume, and warn where most of a tile is mirror images.

    Beyond the volume's faces a tile sees mirror images. The context of a tile may be mirrored, as in the paper. An
    output larger than the volume is refused, because a tile would learn the same voxels several times.

    Parameters
    ----------
    volume : str
        Name of the volume for the message.
    shape : tuple of int
        `(z, y, x)` in voxels.
    model : ModelConfig
        The network.
    tile : int or tuple of int
        `train.tile`.
    region : {"exact", "tile"}
        `train.loss_region`.

    Returns
    -------
    str or None
        A warning if less than half of a tile's input can be voxels of the volume.

    Raises
    ------
    IncompatibleModelError
        If the output of a tile exceeds the volume along an axis; names the largest valid tile.
    """
    geometry = training_geometry(model, tile, region)
    said = f"train.tile {list(geometry.input)} predicts {list(geometry.output)} voxels (z, y, x) at once"
    if any(out > n for out, n in zip(geometry.output, shape, strict=True)):
        largest = list(largest_training_tile(model, tile, region, shape))
        raise IncompatibleModelError(
            f"{said}, but volume {volume!r} has only {list(shape)}: the rest would be mirror images; set train.tile to "
            f"{largest} at most, or give a larger volume"
        )
    own = prod(min(n, side) / side for n, side in zip(shape, geometry.input, strict=True))
    if own >= MIN_OWN_VOXEL_SHARE:
        return None
    return (
        f"{said} and sees {list(geometry.input)}, but volume {volume!r} has {list(shape)}: at most {own:.0%} of what a "
        "tile sees are its own voxels, the rest mirror images; a smaller train.tile or model.depth sees fewer of them"
    )


def normalisation_of_model(header: Mapping[str, Any], model_name: str, configured: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section `normalisation` that a model was trained with; it applies to all volumes that it predicts.

    Parameters
    ----------
    header, model_name : mapping, str
        Header of the model file, and its name for the message.
    configured : mapping
        Keys of the section that the user has set. Defaults are not compared.

    Raises
    ------
    IncompatibleModelError
        If a key differs; names the key and both values.
    """
    rule = NormalisationConfig(**header["normalisation"].get("rule", {})).model_dump(mode="json")
    for key, value in configured.items():
        if value != rule[key]:
            raise IncompatibleModelError(
                f"{model_name}: the model was trained with normalisation.{key} {rule[key]!r}, but this run has "
                f"{value!r}; leave normalisation.{key} out, or train anew"
            )
    return rule
