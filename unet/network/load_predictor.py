"""From a model file and the configuration to a predictor: tile, precision and the classes that are stored."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from unet.config.model import ModelConfig
from unet.config.predict import PredictConfig
from unet.geometry.box import Box, Index
from unet.geometry.tiling import tile_candidates, tile_count, tile_geometry
from unet.network.complexity import forward_cost
from unet.network.model_file import load_model
from unet.network.precision import choose_precision
from unet.network.predictor import Image, Predictor
from unet.network.tile_selection import PredictionTask, cached_selection, concurrent_tiles
from unet.volumes.intensity import Normalisation
from unet.volumes.volume import Volume

COMPILE_FROM_FLOPS = 1e17
"""Of a volume: minutes of a GPU's time, a part of which makes up for compiling. An estimate, not measured yet."""

log = logging.getLogger(__name__)


class DeviceMemoryError(RuntimeError):
    """Not even the smallest tile fits into the memory of the device."""


class BlockVoxels(NamedTuple):
    """What has been read of a block, and by whom: tiles of another size need other voxels."""

    predictor: Predictor
    values: NDArray[Any]


class OutOfMemoryRetryPredictor:
    """A predictor that goes on with smaller tiles when the memory of its device does not suffice.

    The result holds: tiles of all sizes give the same probabilities within rounding.

    Parameters
    ----------
    first : Predictor
        With the tile that was chosen.
    model : ModelConfig
        Its architecture.
    sizes : sequence of Index
        Input sizes of smaller tiles, the best first.
    """

    def __init__(self, first: Predictor, model: ModelConfig, sizes: Sequence[Index]) -> None:
        self.first = self._now = first
        self._model, self._sizes = model, sizes
        self._changing = threading.Lock()

    def predict_box(self, image: Image, box: Box) -> NDArray[Any]:
        """As `Predictor.predict_box`."""
        return self.infer(self.read(image, box), image, box)

    def read(self, image: Image, box: Box) -> BlockVoxels:
        """As `Predictor.read`."""
        return BlockVoxels(self._now, self._now.read(image, box))

    def infer(
        self,
        window: BlockVoxels,
        image: Image,
        box: Box,
        tissue: NDArray[np.bool_] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> NDArray[Any]:
        """As `Predictor.infer`; reads another window of the image where the tile has changed.

        Raises
        ------
        DeviceMemoryError
            If there is no smaller tile.
        """
        while (result := _if_there_is_room(window, box, tissue, check)) is None:
            self._give_way(window.predictor)
            window = self.read(image, box)
        return result

    def _give_way(self, failed: Predictor) -> None:
        """Take a smaller batch, or a smaller tile, unless another block has done so meanwhile."""
        with self._changing:
            if self._now is failed:
                self._now = self._smaller(failed)
                log.warning(
                    "out of memory on %s with a tile of %s in batches of %d; going on with %s in batches of %d, which "
                    "changes the result by rounding alone",
                    *(failed.device, failed.geometry.input, failed.batch, self._now.geometry.input, self._now.batch),
                )
        if failed.engine.on_gpu:
            torch.cuda.empty_cache()

    def _smaller(self, failed: Predictor) -> Predictor:
        if failed.batch > 1:
            return replace(failed, batch=failed.batch // 2)
        tile = failed.geometry.input
        size = next((size for size in self._sizes if 2 * prod(size) <= prod(tile)), None)
        if size is None:
            raise DeviceMemoryError(
                f"out of memory on {failed.device} even with a tile of {tile}, and none is half as large: free memory "
                "on the device, or make storage.block smaller"
            )
        return replace(failed, geometry=tile_geometry(self._model, size))


def _if_there_is_room(
    window: BlockVoxels, box: Box, tissue: NDArray[np.bool_] | None, check: Callable[[], None]
) -> NDArray[Any] | None:
    """What the predictor says; None if it ran out of memory, and then all that it held is free again."""
    try:
        return window.predictor.infer(window.values, box, tissue, check)
    except torch.OutOfMemoryError:
        return None


def load_predictor(
    path: Path,
    predict: PredictConfig,
    normalisation: Normalisation,
    volume: Volume,
    device: torch.device,
    threads: int = 1,
) -> tuple[OutOfMemoryRetryPredictor, dict[str, Any]]:
    """The predictor of a volume, and the header of the model file.

    Parameters
    ----------
    path
        Of `model.pt`.
    normalisation
        By the statistics of the volume's grey values, frozen at ingest.
    volume
        Its layout, and the folder where the tile that was chosen for it is kept.
    threads
        Tiles at once on a CPU; the answer does not depend on it.
    """
    model, header = load_model(path)
    architecture, classes = ModelConfig(**header["model"]), header["classes"]
    precision = choose_precision(predict.precision, device)
    stored = len(stored_classes(classes))
    task = PredictionTask(architecture, len(classes), stored, volume.layout, predict, precision)
    choice = cached_selection(volume.folder, task, device, threads)
    log.info("tiles of %s", choice)
    first = Predictor(
        model,
        tile_geometry(architecture, choice.tile),
        normalisation,
        test_time_augmentation=predict.test_time_augmentation,
        device=device,
        batch=choice.batch,
        precision=precision,
        compiled=_compiled(task, choice.tile, device),
        threads=concurrent_tiles(task, choice, device, threads),
        dtype=predict.dtype,
        channels=stored,
    )
    sizes = tile_candidates(architecture, volume.layout.grid, task.spare)
    return OutOfMemoryRetryPredictor(first, architecture, sizes), header


def _compiled(task: PredictionTask, tile: Index, device: torch.device) -> bool:
    """Whether the network is compiled; by the volume and not the job, so that all jobs give the same bits."""
    if task.predict.compile != "auto":
        return task.predict.compile == "always"
    tiles = tile_count(task.layout.grid, tile_geometry(task.model, tile))
    flops = tiles * forward_cost(task.model, task.classes, tile, task.layout.channels).flops
    return device.type == "cuda" and flops >= COMPILE_FROM_FLOPS


def stored_classes(classes: Sequence[str]) -> list[str]:
    """Names of the channels of `probability.zarr`: of two classes, the second says it all.

    >>> stored_classes(["membrane", "interior"]), stored_classes(["a", "b", "c"])
    (['interior'], ['a', 'b', 'c'])
    """
    return list(classes[1:]) if len(classes) == 2 else list(classes)
