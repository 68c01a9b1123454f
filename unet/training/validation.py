"""Validate a model during training: its loss and its score on fixed crops of the validation volumes.

1. `choose_crops` takes crops of `CROP_SIDE` x `CROP_SIDE` px with the most labels, spread over the volumes.
2. The model predicts the crops with overlap tiles, exactly as it will predict a volume.
3. Two classes are scored by V_rand of the second class at the best threshold; more classes by their mean IoU.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unet.config.label_kinds import UNLABELLED
from unet.evaluation.isbi import FINE_THRESHOLDS, ground_truth_cells, sweep_thresholds
from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.geometry.tiling import TileGeometry
from unet.network.predictor import Predictor
from unet.training.labelled_volume import LabelledVolume

CROP_SIDE = 512
"""Side of a crop in px, large enough to contain whole cells."""


@dataclass(frozen=True)
class ValidationResult:
    """Result of one validation: mean loss, score (0 to 1, higher is better) and, for two classes, the threshold."""

    loss: float
    score: float
    threshold: float | None = None

    def curve_values(self) -> dict[str, float]:
        """Return the values as the learning curve names them."""
        values = {"validation_loss": self.loss, "validation_score": self.score, "validation_threshold": self.threshold}
        return {key: value for key, value in values.items() if value is not None}


class Validates(Protocol):
    """Interface of a validation, as a training needs it."""

    def validate(self, model: nn.Module) -> ValidationResult:
        """Return loss and score of a model, whose mode is restored."""


class Validation:
    """Fixed crops of labelled volumes.

    Parameters
    ----------
    volumes : sequence of LabelledVolume
        Validation volumes. Each validation reads their crops, never a whole volume.
    geometry : TileGeometry
        Sizes of the training's tiles.
    crops : int
        Number of crops.
    device : torch.device
        Device of the model.
    threads : int
        Tiles that a CPU predicts at the same time.

    Raises
    ------
    ValueError
        If no voxel is labelled.
    """

    def __init__(
        self,
        volumes: Sequence[LabelledVolume],
        geometry: TileGeometry,
        crops: int,
        device: torch.device,
        threads: int = 1,
    ) -> None:
        self.geometry, self.device, self.threads = geometry, device, threads
        self.crops = choose_crops(volumes, (geometry.output[0], CROP_SIDE, CROP_SIDE), crops)

    def validate(self, model: nn.Module) -> ValidationResult:
        """Return loss and score of a model, whose mode is restored."""
        with mode_restored(model):
            scored = [self._probabilities(model, volume, box) for volume, box in self.crops]
        targets = [volume.targets.read_mirrored(box) for volume, box in self.crops]
        weights = [volume.weights.read_mirrored(box) for volume, box in self.crops]
        loss = mean_loss(scored, targets, weights)
        if len(scored[0]) > 2:
            return ValidationResult(loss, mean_iou(scored, targets))
        row = max(_v_rand_rows(scored, targets), key=lambda row: row["v_rand"])
        return ValidationResult(loss, row["v_rand"], row["threshold"])

    def _probabilities(self, model: nn.Module, volume: LabelledVolume, box: Box) -> NDArray[np.float32]:
        predictor = Predictor(model, self.geometry, volume.normalisation, device=self.device, threads=self.threads)
        return predictor.predict_box(volume.raw, box)


def choose_crops(
    volumes: Sequence[LabelledVolume], size: tuple[int, int, int], number: int
) -> list[tuple[LabelledVolume, Box]]:
    """Return up to `number` crops with many labelled voxels.

    All crops with labels, in scan order, are divided into `number` ranges, and the best of each range is taken. The
    ranges spread the crops over the volumes and their sections.

    Raises
    ------
    ValueError
        If no voxel is labelled.
    """
    labelled = [
        (count, volume, box)
        for volume in volumes
        for box in Grid(tuple(volume.weights.shape), size).boxes()
        if (count := int((volume.weights.read_mirrored(box) > 0).sum()))
    ]
    if not labelled:
        raise ValueError(f"train.validation: no voxel of {len(volumes)} volume(s) is labelled")
    ends = np.linspace(0, len(labelled), min(number, len(labelled)) + 1).astype(int)
    best = [max(labelled[a:b], key=lambda found: found[0]) for a, b in pairwise(ends)]
    return [(volume, box) for _, volume, box in best]


def mean_loss(
    scored: Sequence[NDArray[np.float32]], targets: Sequence[NDArray[Any]], weights: Sequence[NDArray[Any]]
) -> float:
    """Return equation 1 over all crops, from probabilities `(K, z, y, x)`, divided by the labelled voxels.

    >>> halves = np.full((2, 1, 1, 2), 0.5, np.float32)
    >>> round(mean_loss([halves], [np.array([[[1, 255]]])], [np.array([[[2.0, 3.0]]])]), 4)
    1.3863
    """
    total, labelled = 0.0, 0
    for probabilities, target, weight in zip(scored, targets, weights, strict=True):
        known = (target != UNLABELLED) & (weight > 0)
        of_target = np.take_along_axis(probabilities, np.where(known, target, 0)[None].astype(np.intp), axis=0)[0]
        total -= float((weight[known] * np.log(np.maximum(of_target[known], 1e-12))).sum(dtype=np.float64))
        labelled += int(known.sum())
    return total / max(labelled, 1)


def mean_iou(scored: Sequence[NDArray[np.float32]], targets: Sequence[NDArray[Any]]) -> float:
    """Return the intersection over union of predicted and target class, averaged over the classes that occur."""
    classes = len(scored[0])
    table = np.zeros((classes, classes), np.int64)
    for probabilities, target in zip(scored, targets, strict=True):
        known = target != UNLABELLED
        np.add.at(table, (target[known], probabilities.argmax(0)[known]), 1)
    union = table.sum(0) + table.sum(1) - np.diag(table)
    return float(np.mean(np.diag(table)[union > 0] / union[union > 0]))


def _v_rand_rows(scored: Sequence[NDArray[np.float32]], targets: Sequence[NDArray[Any]]) -> list[dict[str, float]]:
    """Return V_rand at each threshold, averaged over the sections of all crops with cells."""
    rows = []
    for probabilities, target in zip(scored, targets, strict=True):
        cells = np.stack([ground_truth_cells(section == 1) for section in target])
        if cells.any():
            rows.append(sweep_thresholds(probabilities[1], cells, FINE_THRESHOLDS))
    if not rows:
        return [{"threshold": 0.5, "v_rand": 0.0}]
    return [
        {"threshold": at[0]["threshold"], "v_rand": float(np.mean([row["v_rand"] for row in at]))}
        for at in zip(*rows, strict=True)
    ]


@contextmanager
def mode_restored(model: nn.Module) -> Iterator[None]:
    """Restore mode and threads: a predictor sets evaluation mode and, on a CPU, one thread per tile."""
    training, threads = model.training, torch.get_num_threads()
    try:
        yield
    finally:
        model.train(training)
        torch.set_num_threads(threads)
