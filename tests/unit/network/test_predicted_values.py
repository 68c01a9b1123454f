"""Values of a prediction: sums, precision, quantised values, normalised inputs and affinities."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.unit.network.test_predictor import (
    GREY,
    network,
    predicted,
    predictor,
    volume,
)
from tests.unit.network.test_rotated_prediction import Blob
from unet.geometry.box import Box, Index
from unet.geometry.tiling import TileGeometry
from unet.network.predictor import Predictor
from unet.volumes.intensity import Normalisation


def test_probabilities_sum_to_one() -> None:
    for average in ("flips", "rotations"):
        result = predicted(predictor("paper", 60, average), volume((1, 20, 20)), (1, 20, 20))
        np.testing.assert_allclose(result.sum(axis=0), 1, atol=1e-6)


def test_bfloat16_is_near_float32_and_as_invariant() -> None:
    image, exact = volume((1, 30, 41)), predictor("paper", 60)
    rough = Predictor(exact.model, exact.geometry, GREY, precision="bfloat16")
    result = predicted(rough, image, (1, 16, 16))
    assert 0 < np.abs(result - predicted(exact, image, image.shape)).max() < 0.1
    np.testing.assert_array_equal(result, predicted(rough, image, image.shape))


def test_dropout_is_off_at_inference() -> None:
    network("paper").train()
    p, image = predictor("paper", 60), volume((1, 20, 20))
    np.testing.assert_array_equal(predicted(p, image, image.shape), predicted(p, image, image.shape))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
def test_the_network_sees_what_normalisation_says(dtype: type) -> None:
    """To the last bit, though the one is computed on the device and the other on the host."""
    seen = []

    class Probe(Blob):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return super().forward(x)

    image = np.random.default_rng(0).uniform(0, 250, (1, 30, 26)).astype(dtype)
    geometry, grey = TileGeometry((1, 30, 26), (1, 24, 20), (0, 3, 3), (1, 1, 1)), Normalisation((97.3,), (31.7,))
    Predictor(Probe(), geometry, grey).infer(image, Box((0, 0, 0), (1, 24, 20)))
    np.testing.assert_array_equal(seen[0][0], grey(image))


@pytest.mark.parametrize(
    ("name", "tiles", "shape"), [("batch norm", (28, 44), (1, 20, 24)), ("3-D", (20, 24), (6, 12, 14))]
)
def test_affinities_are_sigmoids_and_as_invariant_as_classes(name: str, tiles: tuple[int, int], shape: Index) -> None:
    image = volume(shape)
    small, large = (
        replace(predictor(name, side if len(image) == 1 else (side,) * 3), output="affinities") for side in tiles
    )
    found = predicted(small, image, (3, 7, 8))
    np.testing.assert_allclose(found, predicted(large, image, (2, 9, 11)), atol=2e-5)
    np.testing.assert_array_equal(found, predicted(small, image, (6, 20, 5)))
    classes = predicted(replace(small, output="classes"), image, (3, 7, 8))
    logits = np.log(found / (1 - found))  # of two classes the softmax is the sigmoid of the difference of the logits
    np.testing.assert_allclose(classes[1], 1 / (1 + np.exp(logits[0] - logits[1])), atol=1e-3)
    assert abs(found.sum(axis=0) - 1).max() > 0.1


def test_affinities_are_not_averaged_over_rotations() -> None:
    with pytest.raises(ValueError, match="test_time_augmentation: rotations interpolates, but affinities"):
        replace(predictor("paper", 60), output="affinities", test_time_augmentation="rotations")
