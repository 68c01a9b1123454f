"""A volume's prediction as any process can do it, on this machine or on a dask worker elsewhere.

1. `Prediction` says in plain values what is predicted and how, so it can be sent.
2. `PreparedPrediction` is made of it where the work is done: stores opened, model loaded, on a device. It takes a block
   through read, infer and write; blocks without tissue are neither read nor inferred.
3. `predict_on_worker` does that on a worker of a scheduler, prepared there once. A run has a lease: what a killed run
   has left going on a worker can no longer write once another run has made its own.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from distributed import get_worker

from unet.config.model import ModelConfig
from unet.config.predict import PredictConfig
from unet.config.section import Precision
from unet.geometry.box import Box, Index
from unet.geometry.tiling import tile_geometry
from unet.jobs.devices import LOCK_FOLDER, torch_device
from unet.jobs.pipeline import ReadInferWrite, Stop, Stopped
from unet.network.load_predictor import Window, load_predictor, stored_classes
from unet.network.model_header import read_header
from unet.network.predictor import planes_of, window_of
from unet.network.tile_selection import INFERRED_AT_ONCE
from unet.storage.digests import fingerprint
from unet.storage.files import read_json, write_atomically
from unet.storage.locks import blocks_locked
from unet.storage.zarr_store import Image
from unet.volumes.block_inputs import BlockInputs
from unet.volumes.intensity import Normalisation
from unet.volumes.network_input import NetworkInput
from unet.volumes.volume import Volume


@dataclass(frozen=True)
class Prediction:
    """What is predicted and how.

    Parameters
    ----------
    survey, intensity_statistics, model, folder : Path
        Receipts, model file and stores of the volume; every process sees them under the same path.
    predict : PredictConfig
        Section `predict` of the configuration; `tile` and `precision` may still be `auto`.
    model_digest : str
        Of the model file: a worker may outlive it.
    """

    survey: Path
    intensity_statistics: Path
    model: Path
    folder: Path
    predict: PredictConfig
    model_digest: str

    @property
    def key(self) -> str:
        """Tells two predictions apart."""
        paths = [str(path) for path in (self.survey, self.intensity_statistics, self.model, self.folder)]
        volume = read_json(self.survey)
        return fingerprint(
            paths=paths, volume=volume, model=self.model_digest, predict=self.predict.model_dump(mode="json")
        )

    def made_from(self, choice: "Choice", code: str) -> str:
        """Fingerprint of everything that all probabilities depend on; the voxels are told by `inputs_of`."""
        how = self._chosen(choice) | self.predict.model_dump(mode="json", include={"test_time_augmentation", "dtype"})
        return fingerprint(grey=asdict(self.normalisation), model=self.model_digest, code=code, **how)

    def inputs_of(self, choice: "Choice") -> Callable[[Box], list[Any]]:
        """Return what tells the voxels from which a block is predicted: those of its tiles, and of its tissue."""
        source = Volume.open(self.folder, self.survey)
        model = ModelConfig(**read_header(self.model)["model"])
        planes = planes_of(self.predict.test_time_augmentation, tile_geometry(model, choice.tile))
        grey, inputs = source.grey(self.normalisation), BlockInputs(source)

        def of_block(box: Box) -> list[Any]:
            read = inputs.of("raw", grey.window(window_of(box, planes)))
            return [read, inputs.of_tissue(box, self.normalisation, model.dimensions == 3)]

        return of_block

    @property
    def normalisation(self) -> Normalisation:
        """Of the volume."""
        return Normalisation.of(read_json(self.intensity_statistics)["statistics"])

    def with_choice(self, choice: "Choice") -> "Prediction":
        """With nothing left to choose."""
        return replace(self, predict=self.predict.model_copy(update=self._chosen(choice)))

    @staticmethod
    def _chosen(choice: "Choice") -> dict[str, Any]:
        compiled = "always" if choice.compiled else "never"
        return {"tile": choice.tile, "batch": choice.batch, "precision": choice.precision, "compile": compiled}


@dataclass(frozen=True)
class Choice:
    """What a device chose where the configuration says `auto`, its name, and the classes that the model gives."""

    tile: Index
    batch: int
    precision: Precision
    compiled: bool
    device: str
    channels: tuple[str, ...]


@dataclass(frozen=True)
class Lease:
    """A file that holds the name of a run for as long as that run's workers may write a block range."""

    path: Path
    run: str

    @classmethod
    def make(cls, receipt: Path, run: str) -> "Lease":
        """Make the mark of a run that holds the locks of the block range's blocks; all earlier runs' end.

        Those of jobs that shared the volume out otherwise are removed: their blocks are ours as well.
        """
        _, _, jobs = receipt.stem.partition("-of-")
        for other in receipt.parent.glob("*.run"):
            if not other.stem.endswith(f"-of-{jobs}"):
                other.unlink(missing_ok=True)
        mark = cls(receipt.with_suffix(".run").absolute(), run)
        write_atomically(mark.path, run.encode())
        return mark

    @contextmanager
    def held(self, box: Box) -> Iterator[None]:
        """Write a block while nobody else does, if the run may still write.

        Raises
        ------
        Stopped
            If another run has begun.
        """
        with blocks_locked(self.path.parent / ".writing.lock", [box]):
            if not self.path.exists() or self.path.read_text() != self.run:
                raise Stopped(f"block {box}: its run has ended and another has begun; nothing was written")
            yield


class PreparedPrediction:
    """A prediction on a device, ready to take blocks."""

    def __init__(self, prediction: Prediction, device: torch.device, threads: int) -> None:
        self.prediction = prediction
        self.source = Volume.open(prediction.folder, prediction.survey)
        self._normalisation = prediction.normalisation
        self.predictor, header = load_predictor(
            prediction.model, prediction.predict, self._normalisation, self.source, device, threads
        )
        self._bridged = header["model"]["dimensions"] == 3
        channels, chosen = tuple(stored_classes(header["classes"])), self.predictor.first
        self.choice = Choice(
            chosen.geometry.input, chosen.batch, chosen.precision, chosen.compiled, _name(device), channels
        )
        self._at_once = threading.Semaphore(INFERRED_AT_ONCE)

    def work(self, mark: Lease | None = None) -> ReadInferWrite:
        """Read, infer and write of a block."""
        return ReadInferWrite(self.read, self.infer, partial(self.write, mark), self._at_once)

    @cached_property
    def raw(self) -> NetworkInput:
        """What is read."""
        return self.source.grey(self._normalisation)

    @cached_property
    def image(self) -> Image:
        """The store that blocks are written to; it has to be there when the first one is."""
        return self.source.image("probability")

    def read(self, box: Box) -> tuple[np.ndarray | None, Window | None]:
        """Where there is tissue, None for everywhere, and what is needed to predict the block, None for nothing."""
        tissue = self.source.tissue(box, self._normalisation, self._bridged)
        if tissue is not None and not tissue.any():
            return tissue, None
        return tissue, self.predictor.read(self.raw, box)

    def infer(self, given: tuple[np.ndarray | None, Window | None], box: Box, stop: Stop) -> np.ndarray:
        """The block's probabilities as they are stored, 0 outside the tissue."""
        tissue, window = given
        if window is None:
            return np.zeros((len(self.choice.channels), *box.shape), self.image.dtype)
        stored = self.predictor.infer(window, self.raw, box, tissue, _checking(stop, box))
        return stored if tissue is None else stored * tissue

    def write(self, mark: Lease | None, probabilities: np.ndarray, box: Box) -> str:
        """Write the block, and return its digest; the job itself needs no mark, since it holds the blocks' locks."""
        with nullcontext() if mark is None else mark.held(box):
            return self.image.write_block(box, probabilities)


MOST_PREPARED = 4
"""Models in the memory of a worker at once."""
_prepared: dict[str, PreparedPrediction] = {}
_preparing = threading.Lock()
_device: list[torch.device] = []
_for_life = ExitStack()
"""A worker process keeps the device that it has got."""


def choose_on_worker(prediction: Prediction) -> Choice:
    """What this worker's device chooses."""
    return _on_this_worker(prediction).choice


def predict_on_worker(prediction: Prediction, mark: Lease, box: Box, stop: Stop) -> str:
    """Predict a block on a worker; see `unet.jobs.pipeline.Work`."""
    digest: str = _on_this_worker(prediction).work(mark)(box, stop)
    return digest


def _on_this_worker(prediction: Prediction) -> PreparedPrediction:
    with _preparing:
        if not _device:
            _device.append(_for_life.enter_context(torch_device(LOCK_FOLDER)))
        if prediction.key not in _prepared:
            if len(_prepared) == MOST_PREPARED:
                _prepared.pop(next(iter(_prepared)))
            threads = get_worker().state.nthreads
            _prepared[prediction.key] = PreparedPrediction(prediction, _device[0], threads)
        return _prepared[prediction.key]


def _checking(stop: Stop, box: Box) -> Callable[[], None]:
    def check() -> None:
        if stop():
            raise Stopped(f"block {box} was told to stop")

    return check


def _name(device: torch.device) -> str:
    return "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)
