"""Arguments of one training. Every rank receives the same picklable object: volumes, settings, output files."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from unet.config.model import ModelConfig
from unet.config.train import TrainConfig
from unet.geometry.tiling import tile_geometry
from unet.network.model import build_model
from unet.training.distributed import SINGLE_PROCESS, Rank
from unet.training.learning_curve import LearningCurve
from unet.training.patches import CACHE_MB, CachedVolume, LabelledVolume, PatchSampler
from unet.training.trainer import TrainingResult, train
from unet.training.validation import Validation
from unet.volumes.intensity import Normalisation
from unet.volumes.volume import Volume


@dataclass(frozen=True)
class TrainingJob:
    """A training that can be sent to another process.

    Parameters
    ----------
    volumes : dict
        Training and validation volumes by name.
    normalisations : dict
        Normalisation by the intensity statistics of each volume, by name.
    model, train : ModelConfig, TrainConfig
        Sections of the configuration.
    classes : int
        Number K of classes in the network's output.
    state, curve : Path
        Files of state and learning curve, which survive a killed run.
    tensorboard : Path or None
        Folder of TensorBoard event files; None writes none.
    fingerprint : str
        Fingerprint of everything that the result depends on.
    threads : int
        CPU threads of all ranks together.
    """

    volumes: dict[str, Volume]
    normalisations: dict[str, Normalisation]
    model: ModelConfig
    train: TrainConfig
    classes: int
    state: Path
    curve: Path
    tensorboard: Path | None
    fingerprint: str
    threads: int

    def run(
        self,
        rank: Rank = SINGLE_PROCESS,
        device: torch.device = torch.device("cpu"),  # noqa: B008
    ) -> tuple[nn.Module, TrainingResult]:
        """Train and return the network, on this rank's device, and the result."""
        threads = max(1, self.threads // rank.count)
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = True  # all tiles have one size
        torch.manual_seed(self.train.seed)
        channels = self.normalisations[self.train.volumes[0]].channels
        network = build_model(self.model, channels, self.classes)
        result = train(
            network,
            self._sampler(),
            self.train,
            state_path=self.state,
            curve=LearningCurve(self.curve, self.tensorboard),
            fingerprint=self.fingerprint,
            validation=self._validation(device, threads) if self.train.validation else None,
            device=device,
            rank=rank,
            threads=threads,
        )
        return network, result

    def _sampler(self) -> PatchSampler:
        geometry, config = tile_geometry(self.model, self.train.tile), self.train
        return PatchSampler(
            [self._labelled(name) for name in config.volumes],
            geometry.input,
            geometry.output,
            config.augment,
            self.model.dimensions,
            batch=config.batch,
            seed=config.seed,
            volume_weights=[config.volume_weights.get(name, 1.0) for name in config.volumes],
        )

    def _validation(self, device: torch.device, threads: int) -> Validation:
        volumes = [self._labelled(name) for name in self.train.validation]
        geometry = tile_geometry(self.model, self.train.tile)
        return Validation(volumes, geometry, self.train.validation_crops, device, threads)

    def _labelled(self, name: str) -> LabelledVolume:
        volume, megabytes = self.volumes[name], CACHE_MB / (3 * len(self.volumes) * self.train.gpus)
        stores = (
            volume.raw_without_blanks(self.normalisations[name]),
            volume.image("targets"),
            volume.image("weights"),
        )
        raw, targets, weights = (CachedVolume(store, cube=volume.layout.chunk, megabytes=megabytes) for store in stores)
        return LabelledVolume(raw, targets, weights, self.normalisations[name])
