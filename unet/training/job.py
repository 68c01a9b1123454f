"""Arguments of one training. Every rank receives the same picklable object: volumes, settings, output files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unet.config.label_kinds import not_annotated_id
from unet.config.model import ModelConfig
from unet.config.train import TrainConfig
from unet.geometry.offsets import affinity_offsets
from unet.geometry.training_tile import training_geometry, validation_geometry
from unet.network.auxiliary_head import WithAuxiliaryHead
from unet.network.model import UNet, build_model
from unet.training.affinities import AffinityTargets
from unet.training.affinity_loss import AffinityLoss
from unet.training.affinity_patches import AffinitySampler
from unet.training.affinity_validation import AffinityValidation
from unet.training.distributed import SINGLE_PROCESS, Rank
from unet.training.fine_tuning import load_start
from unet.training.held_back import WithoutSections
from unet.training.labelled_volume import LabelledVolume
from unet.training.learning_curve import LearningCurve
from unet.training.loss import Objective, WeightedCrossEntropy
from unet.training.patches import CACHE_MB, CachedVolume, PatchSampler
from unet.training.shape_descriptor_loss import WithShapeDescriptors
from unet.training.shape_descriptors import ShapeDescriptors, learnt_descriptors
from unet.training.trainer import TrainingResult, train
from unet.training.validation import Validates, Validation
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
    held_back : dict
        Sections of each training volume from which nothing is learnt, by name.
    model, train : ModelConfig, TrainConfig
        Sections of the configuration.
    outputs : sequence of str
        Names of the channels of the network's output: classes, or offsets of affinities.
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
    held_back: dict[str, list[int]]
    model: ModelConfig
    train: TrainConfig
    outputs: Sequence[str]
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
        network = build_model(self.model, channels, len(self.outputs))
        if self.train.start_from is not None:
            load_start(Path(self.train.start_from), network, self.model, channels, self.outputs)
        described = self.descriptors
        learner = WithAuxiliaryHead(network, described.channels) if described and isinstance(network, UNet) else network
        result = train(
            learner,
            self._sampler(),
            self.train,
            state_path=self.state,
            curve=LearningCurve(self.curve, self.tensorboard),
            fingerprint=self.fingerprint,
            validation=self._validation(device, threads) if self.train.validation else None,
            objective=self._objective(),
            device=device,
            rank=rank,
            threads=threads,
        )
        return network, result

    @property
    def affinities(self) -> AffinityTargets | None:
        """Return the pairs of voxels that the network learns; None for a network that learns classes."""
        offsets = affinity_offsets(self.outputs) if self.model.output == "affinities" else None
        if offsets is None:
            return None
        voxel_size_nm = self.volumes[self.train.volumes[0]].layout.voxel_size_nm
        erode = self.train.affinities.erode_labels
        return AffinityTargets.of(offsets, erode, self.model.dimensions, voxel_size_nm)

    @property
    def descriptors(self) -> ShapeDescriptors | None:
        """Return the shape descriptors that the network learns beside affinities; None if it learns none."""
        voxel_size_nm = self.volumes[self.train.volumes[0]].layout.voxel_size_nm
        return learnt_descriptors(self.model, self.train, voxel_size_nm)

    def _objective(self) -> Objective:
        if self.affinities is None:
            return WeightedCrossEntropy()
        loss, described = AffinityLoss(self.train.affinities.bound), self.train.affinities.shape_descriptors
        if self.descriptors is None or described is None:
            return loss
        return WithShapeDescriptors(loss, self.descriptors.channels, described.weight)

    def _sampler(self) -> PatchSampler:
        config = self.train
        geometry = training_geometry(self.model, config.tile, config.loss_region)
        volumes = [self._labelled(name) for name in config.volumes]
        sizes = geometry.input, geometry.output
        keys: dict[str, Any] = {
            "augment": config.augment,
            "dimensions": self.model.dimensions,
            "batch": config.batch,
            "seed": config.seed,
            "volume_weights": [config.volume_weights.get(name, 1.0) for name in config.volumes],
        }
        if self.affinities is None:
            return PatchSampler(volumes, *sizes, **keys)
        keys |= {"border_weight": config.affinities.border_weight, "descriptors": self.descriptors}
        return AffinitySampler(volumes, *sizes, affinities=self.affinities, **keys)

    def _validation(self, device: torch.device, threads: int) -> Validates:
        volumes, config = [self._labelled(name) for name in self.train.validation], self.train
        geometry = validation_geometry(self.model, config.tile, config.loss_region)
        if self.affinities is None:
            return Validation(volumes, geometry, config.validation_crops, device, threads)
        return AffinityValidation(
            volumes,
            geometry,
            config.validation_crops,
            device,
            self.affinities,
            config.affinities.bound,
            self.model.dimensions,
            threads,
        )

    def _labelled(self, name: str) -> LabelledVolume:
        volume, megabytes = self.volumes[name], CACHE_MB / (3 * len(self.volumes) * self.train.gpus)
        ids, held_back = volume.image("targets"), self.held_back.get(name, [])
        stores = (
            volume.raw_without_blanks(self.normalisations[name]),
            WithoutSections(ids, held_back, not_annotated_id(ids.dtype)),
            WithoutSections(volume.image("weights"), held_back),
        )
        raw, targets, weights = (CachedVolume(store, cube=volume.layout.chunk, megabytes=megabytes) for store in stores)
        return LabelledVolume(raw, targets, weights, self.normalisations[name])
