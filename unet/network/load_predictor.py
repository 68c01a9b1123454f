"""Load a trained model and build its predictor: tile, precision, and the classes that are stored."""

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
from torch import nn

from unet.config.model import ModelConfig
from unet.config.predict import PredictConfig
from unet.geometry.box import Box, Index
from unet.geometry.tiling import tile_candidates, tile_geometry
from unet.network.model_file import load_model
from unet.network.precision import choose_precision
from unet.network.predictor import Image, Predictor
from unet.network.tile_selection import PredictionTask, TileSelection, cached_selection, concurrent_tiles
from unet.volumes.intensity import Normalisation
from unet.volumes.volume import Volume

COMPILE_FROM_FLOPS = 1e17
"""Operations for a volume from which compiling pays: minutes on a GPU. An estimate, not measured."""

log = logging.getLogger(__name__)


class DeviceMemoryError(RuntimeError):
    """Not even the smallest tile fits into the memory of the device."""


class BlockVoxels(NamedTuple):
    """The voxels read for a block, and the predictor that read them: tiles of another size need other voxels."""

    predictor: Predictor
    values: NDArray[Any]


class OutOfMemoryRetryPredictor:
    """A predictor that retries with smaller batches, then with smaller tiles, when its device is out of memory.

    Tiles of all sizes give the same probabilities within rounding, so results before and after a retry agree.

    Parameters
    ----------
    first : Predictor
        Predictor with the selected tile.
    model : ModelConfig
        Architecture of its model.
    sizes : sequence of Index
        Input sizes of smaller tiles, in order of preference.
    """

    def __init__(self, first: Predictor, model: ModelConfig, sizes: Sequence[Index]) -> None:
        self.first = self._current = first
        self._model, self._sizes = model, sizes
        self._changing = threading.Lock()

    def predict_box(self, image: Image, box: Box) -> NDArray[Any]:
        """Return class probabilities of a box; see `Predictor.predict_box`."""
        return self.infer(self.read(image, box), image, box)

    def read(self, image: Image, box: Box) -> BlockVoxels:
        """Read the voxels that `infer` needs; see `Predictor.read`."""
        return BlockVoxels(self._current, self._current.read(image, box))

    def infer(
        self,
        block: BlockVoxels,
        image: Image,
        box: Box,
        tissue: NDArray[np.bool_] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> NDArray[Any]:
        """Return class probabilities of a box; see `Predictor.infer`. Read the image again if the tile has changed.

        Raises
        ------
        DeviceMemoryError
            If no smaller tile is left.
        """
        while (result := _infer_or_none(block, box, tissue, check)) is None:
            self._shrink(block.predictor)
            block = self.read(image, box)
        return result

    def _shrink(self, failed: Predictor) -> None:
        """Switch to a smaller batch or tile, unless the thread of another block has already done so."""
        with self._changing:
            if self._current is failed:
                self._current = self._with_smaller_tiles(failed)
                log.warning(
                    "out of memory on %s with a tile of %s in batches of %d; going on with %s in batches of %d, which "
                    "changes the result by rounding alone",
                    *(
                        failed.device,
                        failed.geometry.input,
                        failed.batch,
                        self._current.geometry.input,
                        self._current.batch,
                    ),
                )
        if failed.engine.on_gpu:
            torch.cuda.empty_cache()

    def _with_smaller_tiles(self, failed: Predictor) -> Predictor:
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


def _infer_or_none(
    block: BlockVoxels, box: Box, tissue: NDArray[np.bool_] | None, check: Callable[[], None]
) -> NDArray[Any] | None:
    """Return probabilities, or None when out of memory; by then all memory of the attempt is free."""
    try:
        return block.predictor.infer(block.values, box, tissue, check)
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
    """Return the predictor of a volume, and the header of the model file.

    Parameters
    ----------
    path
        Path of `model.pt`.
    normalisation
        Normalisation by the volume's intensity statistics.
    volume
        The volume. Its folder holds the selected tile.
    threads
        Tiles computed at the same time on a CPU; the result does not depend on this number.
    """
    model, header = load_model(path)
    architecture, classes = ModelConfig(**header["model"]), header["classes"]
    precision = choose_precision(predict.precision, device)
    task = PredictionTask.of(architecture, classes, volume.layout, predict, precision)
    choice = cached_selection(volume.folder, task, device, threads)
    log.info("tiles of %s", choice)
    compiled = _compiled(task, choice.tile, device)
    first = predictor_of(task, choice, model, normalisation, device, threads, compiled)
    sizes = tile_candidates(architecture, volume.layout.grid, task.spare, cubic=task.cubic)
    return OutOfMemoryRetryPredictor(first, architecture, sizes), header


def predictor_of(
    task: PredictionTask,
    choice: TileSelection,
    model: nn.Module,
    normalisation: Normalisation,
    device: torch.device,
    threads: int,
    compiled: bool = False,
) -> Predictor:
    """Return the predictor of a task with the selected tile, on a CPU with as many tiles at once as fit into memory."""
    return Predictor(
        model,
        tile_geometry(task.model, choice.tile),
        normalisation,
        test_time_augmentation=task.predict.test_time_augmentation,
        device=device,
        batch=choice.batch,
        precision=task.precision,
        compiled=compiled,
        threads=concurrent_tiles(task, choice, device, threads),
        dtype=task.predict.dtype,
        channels=task.stored,
        output=task.model.output,
        offsets=task.offsets,
    )


def _compiled(task: PredictionTask, tile: Index, device: torch.device) -> bool:
    """Return whether to compile the network. The volume decides, not the job, so that all jobs give the same bits."""
    if task.predict.compile != "auto":
        return task.predict.compile == "always"
    return device.type == "cuda" and task.flops(tile) >= COMPILE_FROM_FLOPS
