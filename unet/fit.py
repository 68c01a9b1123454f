"""Whether a model and the volumes it is for fit each other; checked before any work is done."""

from collections.abc import Mapping, Sequence
from typing import Any

from unet.config import NormalisationConfig

Voxel = tuple[float, float, float]


class MisfitError(ValueError):
    """A model that is not for these volumes, or volumes that are not alike; names both values."""


def require_same_voxels(
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
    MisfitError
        Naming the volume and both sizes.

    >>> require_same_voxels((50, 4, 4), "model.pt", {"a": (40, 4, 4.2)}, 2, 0.1)
    """
    if of_model is None:
        return
    for name, voxel in volumes.items():
        seen = list(zip(of_model, voxel, strict=True))[-dimensions:]
        if any(abs(theirs / ours - 1) > tolerance for ours, theirs in seen):
            raise MisfitError(
                f"volume {name!r} has voxels of {list(voxel)} nm (z, y, x), but {whose} was trained on "
                f"{list(of_model)} nm: they may differ by {tolerance:.0%} along the axes the network sees. Resample "
                "the volume, correct its voxel_nm, or raise model.voxel_tolerance if you know that it works"
            )


def require_same_channels(channels: Mapping[str, int], trained_on: str) -> None:
    """Refuse a volume that has more or fewer grey values a voxel than the one that the model learns from.

    >>> require_same_channels({"train": 2, "test": 2}, "train")
    """
    for name, count in channels.items():
        if count != channels[trained_on]:
            raise MisfitError(
                f"volume {name!r} has {count} input channel(s), but volume {trained_on!r}, which the model learns "
                f"from, has {channels[trained_on]}: give both the same channels in `raw`, in the same order"
            )


def require_fit(
    header: Mapping[str, Any],
    whose: str,
    asked: Mapping[str, Any],
    channels: Mapping[str, int],
    classes: Mapping[str, Sequence[str]],
    foreground: str | None = None,
) -> None:
    """Refuse a model file that is not what the configuration says.

    Parameters
    ----------
    header : mapping
        Of the model file; see `unet.model_file`.
    whose : str
        The file, for the message.
    asked : mapping
        Keys of section `model` that the configuration sets itself; defaults do not bind.
    channels : mapping
        Grey values a voxel, by volume.
    classes : mapping
        Class names by annotated volume that is scored.
    foreground : str, optional
        `segment.foreground`.

    Raises
    ------
    MisfitError
        Naming both values.
    """
    pairs = [(f"model.{key}", header["model"].get(key), value) for key, value in asked.items()]
    pairs += [(f"input channels (volume {name!r})", header["channels"], count) for name, count in channels.items()]
    pairs += [(f"classes (volume {name!r})", header["classes"], list(names)) for name, names in classes.items()]
    for what, found, wanted in pairs:
        if found != wanted:
            raise MisfitError(f"{whose}: {what} of the model file is {found!r}, but this run has {wanted!r}")
    if foreground is not None and foreground not in header["classes"][1:]:
        raise MisfitError(
            f"{whose}: segment.foreground is {foreground!r}, but the model's classes are {header['classes']!r}"
        )


def rule_of_model(header: Mapping[str, Any], whose: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The section `normalisation` that a model was trained with: it holds for all volumes that it predicts.

    Parameters
    ----------
    header, whose : mapping, str
        Of the model file, and its name for the message.
    asked : mapping
        Keys of the section that the configuration sets itself; defaults do not bind.

    Raises
    ------
    MisfitError
        Naming a key and both values.
    """
    rule = NormalisationConfig(**header["normalisation"].get("rule", {})).model_dump(mode="json")
    for key, value in asked.items():
        if value != rule[key]:
            raise MisfitError(
                f"{whose}: the model was trained with normalisation.{key} {rule[key]!r}, but this run has {value!r}; "
                f"leave normalisation.{key} out, or train anew"
            )
    return rule
