"""The channels of a network's output: classes, or affinities that are named by their offsets."""

from collections.abc import Sequence

from unet.config.model import ModelConfig
from unet.geometry.offsets import Offset, affinity_offsets, offset_name, offsets_in_voxels


def model_offsets(model: ModelConfig, voxel_size_nm: Sequence[float]) -> tuple[Offset, ...]:
    """Return the offsets `(z, y, x)` in voxels whose affinities a network predicts.

    A 2-D network sees one section. With `offsets: auto` it predicts the default offsets within the section.

    Parameters
    ----------
    model : ModelConfig
        Section `model` of the configuration, with `output: affinities`.
    voxel_size_nm : sequence of float
        Size `(z, y, x)` of a voxel in nm of the first training volume.

    Raises
    ------
    ValueError
        If the offsets are no set of offsets (`offsets_in_voxels`).

    >>> [offset_name(one) for one in model_offsets(ModelConfig(output="affinities"), (8, 8, 8))]
    ['y+1', 'x+1', 'y+3', 'x+3', 'y+9', 'x+9']
    """
    offsets = offsets_in_voxels(model.offsets, model.offset_unit, voxel_size_nm)
    if model.offsets == "auto" and model.dimensions == 2:
        return tuple(offset for offset in offsets if offset[0] == 0)
    return offsets


def output_channels(model: ModelConfig, classes: Sequence[str], voxel_size_nm: Sequence[float]) -> list[str]:
    """Return the names of a network's output channels.

    Parameters
    ----------
    classes : sequence of str
        Classes of the training volumes; the channels of a network with `output: classes`.

    >>> output_channels(ModelConfig(), ["membrane", "interior"], (50, 4, 4))
    ['membrane', 'interior']
    """
    if model.output == "classes":
        return list(classes)
    return [offset_name(offset) for offset in model_offsets(model, voxel_size_nm)]


def stored_channels(channels: Sequence[str]) -> list[str]:
    """Return the channels of `probability.zarr`: all, or the second of two classes, which determines the first.

    >>> stored_channels(["membrane", "interior"]), stored_channels(["a", "b", "c"]), stored_channels(["y+1", "x+1"])
    (['interior'], ['a', 'b', 'c'], ['y+1', 'x+1'])
    """
    two_classes = len(channels) == 2 and affinity_offsets(channels) is None
    return list(channels[1:]) if two_classes else list(channels)


def offsets_of(channels: Sequence[str]) -> tuple[Offset, ...] | None:
    """Return the offset of each output channel, or None if the channels are classes.

    >>> offsets_of(["y+1", "x+1"]), offsets_of(["membrane", "interior"])
    (((0, 1, 0), (0, 0, 1)), None)
    """
    found = affinity_offsets(channels)
    return None if found is None else tuple(found)
