"""Predictions averaged over rotations: as invariant as others, and what they leave as it is."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from tests.unit.network.test_predictor import (
    GREY,
    ArrayImage,
    predicted,
    predictor,
    smallest_tiles,
    volume,
)
from unet.geometry.box import Box
from unet.geometry.tiling import TileGeometry
from unet.network.predictor import Predictor
from unet.network.rotation import RotatedLattice


def cuts(size: int) -> st.SearchStrategy[list[int]]:
    """Faces of intervals that fill `0 .. size`."""
    return st.sets(st.integers(0, size), max_size=2).map(lambda inner: sorted({0, size, *inner}))


@pytest.mark.parametrize("name", ["paper", "padded", "3-D anisotropic"])
@settings(max_examples=3, deadline=None)
@given(data=st.data())
def test_rotations_give_the_same_bits_for_any_boxes_and_the_same_values_for_any_tile(
    name: str, data: st.DataObject
) -> None:
    shape = data.draw(st.tuples(st.integers(1, 2), st.integers(1, 25), st.integers(1, 25)), label="volume")
    faces = [data.draw(cuts(n), label="faces") for n in shape]
    image, (y_side, x_side, other) = volume(shape), data.draw(st.permutations(smallest_tiles(name, 2)[:3]))
    z = smallest_tiles(name, 0)[0]
    p = predictor(name, (z, y_side, x_side), "rotations", batch=data.draw(st.integers(1, 2), label="batch"))
    whole, assembled = predicted(p, image, shape), np.full((2, *shape), np.nan, np.float32)
    for intervals in product(*(pairwise(f) for f in faces)):
        box = Box(*zip(*intervals, strict=True))
        assembled[:, *box.slices] = p.predict_box(ArrayImage(image), box)
    np.testing.assert_array_equal(assembled, whole)
    larger = predictor(name, (z, other, other), "rotations")
    np.testing.assert_allclose(predicted(larger, image, shape), whole, atol=1e-5)


def of_one_angle(p: Predictor, degrees: float) -> Predictor:
    """The same without the mean over other angles."""
    one = Predictor(p.model, p.geometry, p.normalisation, p.test_time_augmentation)
    object.__setattr__(one, "lattices", [RotatedLattice(p.geometry, degrees)])
    return one


@pytest.mark.parametrize("name", ["paper", "3-D anisotropic"])
def test_no_turn_is_the_plain_prediction(name: str) -> None:
    image, z = volume((3, 30, 37)), smallest_tiles(name, 0)[0]
    plain = predictor(name, (z, *[smallest_tiles(name, 2)[1]] * 2))
    expected = predicted(plain, image, image.shape)
    np.testing.assert_array_equal(predicted(of_one_angle(plain, 0.0), image, (2, 17, 16)), expected)


class QuarterTurnedImage(ArrayImage):
    """Whose voxel (y, x) is (-x, y) of the array."""

    def read_mirrored(self, window: Box) -> NDArray:
        (z0, y0, x0), (z1, y1, x1) = window.start, window.stop
        return np.rot90(super().read_mirrored(Box((z0, 1 - x1, y0), (z1, 1 - x0, y1))), axes=(2, 1)).copy()


@pytest.mark.parametrize("name", ["paper", "3-D anisotropic"])
def test_a_quarter_turn_is_the_turned_volumes_prediction(name: str) -> None:
    image, z = volume((2, 21, 37)), smallest_tiles(name, 0)[0]
    plain = predictor(name, (z, *[smallest_tiles(name, 2)[1]] * 2))
    turned = plain.predict_box(QuarterTurnedImage(image), Box((0, 0, -20), (2, 37, 1)))
    result = predicted(of_one_angle(plain, 90.0), image, image.shape)
    np.testing.assert_allclose(result, np.rot90(turned, axes=(2, 3)), atol=1e-4)


def test_rotations_are_the_mean_of_the_seven_angles() -> None:
    image, p = volume((1, 20, 26)), predictor("paper", 60, "rotations")
    angles = [predicted(of_one_angle(predictor("paper", 60), 360 * k / 7), image, image.shape) for k in range(7)]
    np.testing.assert_allclose(predicted(p, image, image.shape), np.mean(angles, axis=0), atol=1e-6)
    assert np.abs(angles[1] - angles[0]).max() > 1e-2


def test_rotations_leave_a_constant_volume_as_it_is() -> None:
    """Take a network whose up-sampling knows no phase; the paper's draws its 2x2 pattern into constant volumes too."""
    image = np.full((1, 25, 31), 200, np.uint8)
    plain, turned = (predicted(predictor("bilinear", 60, a), image, (1, 16, 31)) for a in ("none", "rotations"))
    np.testing.assert_allclose(turned, plain, atol=1e-6)


class Blob(nn.Module):
    """A round filter, which answers to a turned image as to the image."""

    classes = 2

    def __init__(self) -> None:
        super().__init__()
        y, x = np.mgrid[-3:4, -3:4]
        self.filter = nn.Conv2d(1, 2, 7)
        kernel = torch.from_numpy(np.exp(-(y**2 + x**2) / 4)).float()
        self.filter.weight.data, self.filter.bias.data = torch.stack([kernel, -kernel])[:, None] / 9, torch.zeros(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.filter(x)


def test_rotations_change_nothing_where_the_network_is_round() -> None:
    y, x = np.mgrid[:60, :70]
    image = (120 + 50 * np.sin(y / 8) * np.cos(x / 11 + y / 30)).astype(np.float32)[None]
    geometry = TileGeometry((1, 30, 26), (1, 24, 20), (0, 3, 3), (1, 1, 1))
    plain, turned = (
        predicted(Predictor(Blob(), geometry, GREY, test_time_augmentation=a), image, (1, 31, 70))
        for a in ("none", "rotations")
    )
    inside = np.s_[:, :, 8:-8, 8:-8]  # the mirror makes a crease
    assert np.ptp(plain[inside]) > 0.5
    assert np.abs(turned - plain)[inside].max() < 0.01
