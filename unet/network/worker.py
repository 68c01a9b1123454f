"""Predict the blocks of a volume in any process: on this machine, or on a dask worker elsewhere.

1. `PredictionSpec` holds plain values that say what to predict and how. It can be sent to another process.
2. `BlockPredictor` is built from the specification where the work is done. It opens stores, loads the model onto a
   device, and takes a block through read, infer and write. Blocks without tissue are neither read nor inferred.
3. `predict_on_worker` keeps a `BlockPredictor` on each worker of a scheduler, and predicts blocks with it. The workers
   of a run hold a `Lease`. When another run takes the lease, workers left over from a killed run can no longer write.
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
from unet.geometry.offsets import affinity_offsets
from unet.geometry.tiling import tile_geometry
from unet.jobs.devices import LOCK_FOLDER, torch_device
from unet.jobs.pipeline import ReadInferWrite, Stop, Stopped
from unet.network.load_predictor import BlockVoxels, load_predictor
from unet.network.model_header import read_header
from unet.network.output_channels import stored_channels
from unet.network.predictor import read_box, tile_lattices
from unet.network.tile_selection import MAX_BLOCKS_INFERRED
from unet.storage.digests import fingerprint
from unet.storage.files import read_json, write_atomically
from unet.storage.locks import blocks_locked
from unet.storage.zarr_store import Image
from unet.volumes.block_inputs import BlockInputs
from unet.volumes.intensity import Normalisation
from unet.volumes.raw_without_blanks import RawWithoutBlanks
from unet.volumes.volume import Volume


@dataclass(frozen=True)
class PredictionSpec:
    """Description of a prediction, as plain values.

    Parameters
    ----------
    survey, intensity_statistics, model, folder : Path
        Receipts, model file and stores of the volume. Every process must see them under the same path.
    predict : PredictConfig
        Section `predict` of the configuration; `tile`, `batch`, `precision` and `compile` may still be `auto`.
    model_digest : str
        Digest of the model file. A worker may run longer than the file keeps its content.
    """

    survey: Path
    intensity_statistics: Path
    model: Path
    folder: Path
    predict: PredictConfig
    model_digest: str

    @property
    def key(self) -> str:
        """Return a fingerprint that differs between predictions."""
        paths = [str(path) for path in (self.survey, self.intensity_statistics, self.model, self.folder)]
        volume = read_json(self.survey)
        return fingerprint(
            paths=paths, volume=volume, model=self.model_digest, predict=self.predict.model_dump(mode="json")
        )

    def input_fingerprint(self, settings: "ResolvedSettings", code: str) -> str:
        """Return the fingerprint of all inputs that every block depends on; `block_inputs` adds the voxels of each."""
        how = self._fields_of(settings) | self.predict.model_dump(
            mode="json", include={"test_time_augmentation", "dtype"}
        )
        return fingerprint(grey=asdict(self.normalisation), model=self.model_digest, code=code, **how)

    def block_inputs(self, settings: "ResolvedSettings") -> Callable[[Box], list[Any]]:
        """Return a function that identifies the inputs of a block: the voxels that its tiles read, and its tissue."""
        source = Volume.open(self.folder, self.survey)
        header = read_header(self.model)
        model, offsets = ModelConfig(**header["model"]), affinity_offsets(header["classes"])
        lattices = tile_lattices(self.predict.test_time_augmentation, tile_geometry(model, settings.tile), offsets)
        grey, inputs = source.raw_without_blanks(self.normalisation), BlockInputs(source)

        def of_block(box: Box) -> list[Any]:
            read = inputs.digests("raw", grey.read_box(read_box(box, lattices)))
            return [read, inputs.tissue_mask_digests(box, self.normalisation, model.sees_sections)]

        return of_block

    @property
    def normalisation(self) -> Normalisation:
        """Return the normalisation of the volume."""
        return Normalisation.of(read_json(self.intensity_statistics)["statistics"])

    def resolved(self, settings: "ResolvedSettings") -> "PredictionSpec":
        """Return the specification with `settings` in place of every `auto`."""
        return replace(self, predict=self.predict.model_copy(update=self._fields_of(settings)))

    @staticmethod
    def _fields_of(settings: "ResolvedSettings") -> dict[str, Any]:
        compiled = "always" if settings.compiled else "never"
        return {"tile": settings.tile, "batch": settings.batch, "precision": settings.precision, "compile": compiled}


@dataclass(frozen=True)
class ResolvedSettings:
    """Values that replace `auto` on a device, the name of the device, and the classes that are stored."""

    tile: Index
    batch: int
    precision: Precision
    compiled: bool
    device: str
    channels: tuple[str, ...]


@dataclass(frozen=True)
class Lease:
    """A file that holds the name of the run whose workers may write a block range."""

    path: Path
    run: str

    @classmethod
    def acquire(cls, receipt: Path, run: str) -> "Lease":
        """Write the lease of a run, which ends the leases of earlier runs. The run must hold the locks of its blocks.

        Leases of jobs with other block ranges are removed, because their blocks belong to this run as well.
        """
        _, _, jobs = receipt.stem.partition("-of-")
        for other in receipt.parent.glob("*.run"):
            if not other.stem.endswith(f"-of-{jobs}"):
                other.unlink(missing_ok=True)
        lease = cls(receipt.with_suffix(".run").absolute(), run)
        write_atomically(lease.path, run.encode())
        return lease

    @contextmanager
    def writing(self, box: Box) -> Iterator[None]:
        """Hold the write lock of a block within this context, if the run still has the lease.

        Raises
        ------
        Stopped
            If another run has taken the lease.
        """
        with blocks_locked(self.path.parent / ".writing.lock", [box]):
            if not self.path.exists() or self.path.read_text() != self.run:
                raise Stopped(f"block {box}: its run has ended and another has begun; nothing was written")
            yield


class BlockPredictor:
    """A loaded model with open stores that predicts blocks on a device."""

    def __init__(self, prediction: PredictionSpec, device: torch.device, threads: int) -> None:
        self.prediction = prediction
        self.source = Volume.open(prediction.folder, prediction.survey)
        self._normalisation = prediction.normalisation
        self.predictor, header = load_predictor(
            prediction.model, prediction.predict, self._normalisation, self.source, device, threads
        )
        self._bridged = ModelConfig(**header["model"]).sees_sections
        channels, chosen = tuple(stored_channels(header["classes"])), self.predictor.first
        self.settings = ResolvedSettings(
            chosen.geometry.input, chosen.batch, chosen.precision, chosen.compiled, _name(device), channels
        )
        self._at_once = threading.Semaphore(MAX_BLOCKS_INFERRED)

    def work(self, lease: Lease | None = None) -> ReadInferWrite:
        """Return the steps of a block: read, infer and write."""
        return ReadInferWrite(self.read, self.infer, partial(self.write, lease), self._at_once)

    @cached_property
    def raw(self) -> RawWithoutBlanks:
        """Return the intensities of the volume."""
        return self.source.raw_without_blanks(self._normalisation)

    @cached_property
    def image(self) -> Image:
        """Return the store of probabilities, which must exist before the first block is written."""
        return self.source.image("probability")

    def read(self, box: Box) -> tuple[np.ndarray | None, BlockVoxels | None]:
        """Return the tissue mask of a block (None: tissue everywhere) and the voxels of its tiles (None: no tissue)."""
        tissue = self.source.tissue_mask(box, self._normalisation, self._bridged)
        if tissue is not None and not tissue.any():
            return tissue, None
        return tissue, self.predictor.read(self.raw, box)

    def infer(self, given: tuple[np.ndarray | None, BlockVoxels | None], box: Box, stop: Stop) -> np.ndarray:
        """Return the block's probabilities in the stored dtype, 0 outside the tissue."""
        tissue, voxels = given
        if voxels is None:
            return np.zeros((len(self.settings.channels), *box.shape), self.image.dtype)
        stored = self.predictor.infer(voxels, self.raw, box, tissue, _checking(stop, box))
        return stored if tissue is None else stored * tissue

    def write(self, lease: Lease | None, probabilities: np.ndarray, box: Box) -> str:
        """Write the block and return its digest. The job itself needs no lease, because it holds the blocks' locks."""
        with nullcontext() if lease is None else lease.writing(box):
            return self.image.write_block(box, probabilities)


MAX_LOADED_MODELS = 4
"""Models that a worker keeps in memory."""
_prepared: dict[str, BlockPredictor] = {}
_preparing = threading.Lock()
_device: list[torch.device] = []
_process_exit = ExitStack()
"""Keeps the device of a worker process until the process ends."""


def resolve_on_worker(prediction: PredictionSpec) -> ResolvedSettings:
    """Return the values that replace `auto` on this worker's device."""
    return _on_this_worker(prediction).settings


def predict_on_worker(prediction: PredictionSpec, lease: Lease, box: Box, stop: Stop) -> str:
    """Predict a block on this worker and return its digest; see `unet.jobs.pipeline.Work`."""
    digest: str = _on_this_worker(prediction).work(lease)(box, stop)
    return digest


def _on_this_worker(prediction: PredictionSpec) -> BlockPredictor:
    with _preparing:
        if not _device:
            _device.append(_process_exit.enter_context(torch_device(LOCK_FOLDER)))
        if prediction.key not in _prepared:
            if len(_prepared) == MAX_LOADED_MODELS:
                _prepared.pop(next(iter(_prepared)))
            threads = get_worker().state.nthreads
            _prepared[prediction.key] = BlockPredictor(prediction, _device[0], threads)
        return _prepared[prediction.key]


def _checking(stop: Stop, box: Box) -> Callable[[], None]:
    def check() -> None:
        if stop():
            raise Stopped(f"block {box} was cancelled")

    return check


def _name(device: torch.device) -> str:
    return "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)
