"""From a model file and the configuration to a predictor: tile, precision and the classes that are stored."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from unet.config import ModelConfig, PredictConfig
from unet.devices import choose_precision
from unet.geometry import Index
from unet.grey_values import Normalisation
from unet.inference import Predictor
from unet.model_file import load_model
from unet.tiling import auto_tile, tile_geometry
from unet.volume import Layout

CPU_TILE_BYTES = 2**29
"""Activations of one tile on a CPU: larger tiles waste less context, but leave its caches."""
GPU_TILE_SHARE = 0.25
"""Part of a GPU's memory that the activations of one batch may take: libraries' workspaces take as much again."""


def load_predictor(
    path: Path,
    predict: PredictConfig,
    normalisation: Normalisation,
    layout: Layout,
    device: torch.device,
    threads: int = 1,
) -> tuple[Predictor, dict[str, Any]]:
    """The predictor of a volume, and the header of the model file.

    Parameters
    ----------
    path
        Of `model.pt`.
    normalisation
        By the statistics of the volume's grey values, frozen at ingest.
    layout
        Of the volume.
    threads
        Tiles at once on a CPU; the answer does not depend on it.
    """
    model, header = load_model(path)
    architecture = ModelConfig(**header["model"])
    tile: int | Index
    if predict.tile == "auto":
        block = tuple(min(b, n) for b, n in zip(layout.block, layout.shape, strict=True))
        tile = auto_tile(architecture, block, tile_memory(device) // predict.batch)
    else:
        tile = predict.tile
    predictor = Predictor(
        model,
        tile_geometry(architecture, tile),
        normalisation,
        average=predict.average,
        device=device,
        batch=predict.batch,
        precision=choose_precision(predict.precision, device),
        threads=threads,
    )
    return predictor, header


def tile_memory(device: torch.device) -> int:
    """Bytes that the activations of a batch may take on a device."""
    if device.type == "cpu":
        return CPU_TILE_BYTES
    # The whole memory, not what is free now: a rerun must choose the same tile.
    return int(GPU_TILE_SHARE * torch.cuda.mem_get_info(device)[1])


def stored_classes(classes: Sequence[str]) -> list[str]:
    """Names of the channels of `probability.zarr`: of two classes, the second says it all.

    >>> stored_classes(["membrane", "interior"]), stored_classes(["a", "b", "c"])
    (['interior'], ['a', 'b', 'c'])
    """
    return list(classes[1:]) if len(classes) == 2 else list(classes)
