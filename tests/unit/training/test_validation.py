"""Looks at the validation volumes: the right windows, the right scores, the model left as it was."""

import numpy as np
import pytest
import torch

from tests.unit.training.array_volume import ArrayVolume, values_of
from unet.config.model import ModelConfig
from unet.geometry.box import Box
from unet.geometry.tiling import tile_geometry
from unet.network.model import build_model
from unet.training.labelled_volume import LabelledVolume
from unet.training.validation import Validation, ValidationResult, choose_crops, mean_iou, mean_loss
from unet.volumes.intensity import Normalisation

MODEL = ModelConfig(depth=2, base_channels=4)
GEOMETRY = tile_geometry(MODEL, 60)


def volume(sections: int = 3, labelled: slice = slice(None)) -> LabelledVolume:
    """Cells of 20 px between lines of 4; grey values are the target."""
    y = np.arange(96) % 24 >= 4
    target = np.broadcast_to((y[:, None] & y).astype(np.uint8), (sections, 96, 96)).copy()
    weight = np.zeros(target.shape, np.float32)
    weight[labelled] = 1
    return LabelledVolume(
        ArrayVolume(target * 100), ArrayVolume(target), ArrayVolume(weight), Normalisation((50.0,), (50.0,))
    )


class IntensityStatistics(torch.nn.Module):
    """A network that has learnt it all: logits from the grey value of each pixel's own."""

    classes = 2

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(1, 2, 1)
        self.convolution.load_state_dict(
            {"weight": torch.tensor([-4.0, 4.0])[:, None, None, None], "bias": torch.zeros(2)}
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convolution(x)


def test_a_perfect_network_scores_one_and_a_blind_one_less():
    validation = Validation([volume()], GEOMETRY, 2, torch.device("cpu"))
    perfect, blind = validation.validate(IntensityStatistics()), validation.validate(build_model(MODEL))
    assert perfect.score == pytest.approx(1, abs=1e-9)
    assert perfect.loss < 0.01
    assert blind.score < 0.9
    assert blind.loss > perfect.loss


def test_the_model_and_the_threads_are_left_as_they_were():
    model, threads = build_model(MODEL).train(), torch.get_num_threads()
    Validation([volume()], GEOMETRY, 1, torch.device("cpu")).validate(model)
    assert model.training
    assert torch.get_num_threads() == threads


def test_the_windows_are_spread_over_what_is_labelled():
    half = volume(6, labelled=slice(2, 5))
    assert [box.start[0] for _, box in choose_crops([half], (1, 96, 96), 3)] == [2, 3, 4]
    assert len(choose_crops([half], (1, 96, 96), 8)) == 3
    found = choose_crops([volume(2), half], (1, 96, 96), 2)
    assert [number.weights.shape[0] for number, _ in found] == [2, 6]


def test_of_each_stretch_the_best_labelled_window_is_taken():
    corner = volume(1)
    values_of(corner.weights)[:, :48, :60] = 0
    (chosen,) = choose_crops([corner], (1, 48, 48), 1)
    assert chosen[1] == Box((0, 48, 0), (1, 96, 48))


def test_nothing_labelled_is_an_error():
    with pytest.raises(ValueError, match="no voxel of 1 volume"):
        Validation([volume(2, labelled=slice(0, 0))], GEOMETRY, 2, torch.device("cpu"))


def test_the_mean_iou_by_hand():
    """Targets 0 1 1 2, found 0 1 2 2: IoU 1, 1/2, 1/2; the unlabelled voxel does not count."""
    target = np.array([[[0, 1, 1, 2, 255]]], np.uint8)
    found = np.eye(3, dtype=np.float32)[[0, 1, 2, 2, 0]].T[:, None, None]
    assert mean_iou([found], [target]) == pytest.approx(2 / 3)
    assert mean_iou([found[..., :1]], [target[..., :1]]) == 1


def test_the_loss_is_that_of_the_training():
    from unet.training.loss import weighted_cross_entropy

    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 2, 5, 6)).astype(np.float32)
    target = rng.choice([0, 1, 2, 255], size=(2, 5, 6)).astype(np.uint8)
    weight = rng.choice([0, 1, 2.5], size=target.shape).astype(np.float32)
    expected = weighted_cross_entropy(*(torch.from_numpy(a[None]) for a in (logits, target, weight)))
    probabilities = torch.softmax(torch.from_numpy(logits), 0).numpy()
    assert mean_loss([probabilities], [target], [weight]) == pytest.approx(expected.item(), rel=1e-5)


def test_only_what_was_found_stands_in_the_learning_curve():
    assert ValidationResult(1.0, 0.5).curve_values() == {"validation_loss": 1.0, "validation_score": 0.5}
    assert ValidationResult(1.0, 0.5, 0.9).curve_values()["validation_threshold"] == 0.9
