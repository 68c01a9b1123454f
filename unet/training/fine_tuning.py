"""Continue the weights of a trained model on new labels (`train.start_from`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from unet.config.model import ModelConfig
from unet.network.compatibility import require_same_network
from unet.network.model_file import read_model_file


def load_start(
    path: Path, network: nn.Module, model: ModelConfig, channels: int, outputs: Sequence[str]
) -> dict[str, Any]:
    """Load the weights of a model file into a network, with its statistics of batch normalisation.

    Parameters
    ----------
    path : Path
        The model file.
    network : nn.Module
        Network that is to be trained; its weights are replaced.
    model : ModelConfig
        Section `model` of the configuration, by which the network was built.
    channels : int
        Number of grey values per voxel.
    outputs : sequence of str
        Names of the network's output channels: classes, or offsets of affinities.

    Returns
    -------
    dict
        Header of the model file.

    Raises
    ------
    IncompatibleModelError
        If the file holds another network, or one with other inputs or outputs; names all differences.
    ModelFileError
        If the file is not a model file.
    """
    header, weights = read_model_file(path)
    require_same_network(header, str(path), model, channels, outputs)
    network.load_state_dict(weights)
    return header
