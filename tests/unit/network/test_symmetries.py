"""The mean over symmetries: exact for classes and affinities, and the same for any tile."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.unit.network.test_predictor import GREY, ArrayImage, volume
from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.geometry.offsets import ANISOTROPIC_OFFSETS, ISOTROPIC_OFFSETS, Offset
from unet.geometry.tiling import TileGeometry, TileSizeError
from unet.network.predictor import Predictor
from unet.network.symmetries import SYMMETRIES, TestTimeAugmentation, averaged_geometry, mean_over

DIAGONAL: list[Offset] = [(0, 1, 0), (0, 0, 1), (0, 1, 2), (0, 1, -2), (0, 2, 1), (0, 2, -1)]
"""Closed under the symmetries of the square; moved pairs are read at y + 1, x - 2 too."""
CASES = [
    ("flips", ISOTROPIC_OFFSETS),
    ("symmetries", ANISOTROPIC_OFFSETS[:6]),
    ("symmetries", DIAGONAL),
    ("flips_3d", ANISOTROPIC_OFFSETS[:6]),
    ("symmetries_3d", ANISOTROPIC_OFFSETS[:6]),
    ("cube", ISOTROPIC_OFFSETS[:6]),
]


def test_every_set_is_what_its_name_says() -> None:
    x = torch.arange(27.0).reshape(1, 1, 3, 3, 3)
    counts = {"none": 1, "flips": 4, "symmetries": 8, "flips_3d": 8, "symmetries_3d": 16, "cube": 48, "rotations": 1}
    for name, symmetries in SYMMETRIES.items():
        images = {tuple(g.applied(x).flatten().tolist()) for g in symmetries}
        assert len(images) == len(symmetries) == counts[name]
        assert all(torch.equal(g.undone(g.applied(x)), x) for g in symmetries)
    turned = [torch.rot90(y, k, dims=(-2, -1)) for y in (x, x.flip(-1)) for k in range(4)]
    for g, expected in zip(SYMMETRIES["symmetries"], turned, strict=True):
        assert torch.equal(g.applied(x), expected)


@pytest.mark.parametrize("name", SYMMETRIES)
def test_an_offset_moves_as_the_two_voxels_of_its_pair_do(name: TestTimeAugmentation) -> None:
    p, d = (2, 3, 1), (1, -2, 3)
    for g in SYMMETRIES[name]:
        x = torch.zeros(6, 6, 6)
        x[p], x[tuple(a + b for a, b in zip(p, d, strict=True))] = 1, 2
        moved = g.applied(x)
        first, second = (moved == 1).nonzero()[0], (moved == 2).nonzero()[0]
        assert tuple((second - first).tolist()) == g.moved(d)


def pair_values(x: Tensor, offsets: list[Offset], margin: int) -> Tensor:
    """Affinities by construction: a function of the two grey values that does not depend on their order."""
    middle = [slice(margin, n - margin) for n in x.shape[2:]]
    found = []
    for d in offsets:
        other = x[:, 0, *(slice(s.start + n, s.stop + n) for s, n in zip(middle, d, strict=True))]
        found.append(torch.exp(-(x[:, 0, *middle] - other).abs()))
    return torch.stack(found, dim=1)


@pytest.mark.parametrize(("name", "offsets"), CASES)
def test_a_network_that_is_symmetric_by_construction_is_not_changed(name, offsets) -> None:
    x = torch.rand(1, 1, 40, 40, 40, generator=torch.Generator().manual_seed(0))
    geometry = TileGeometry((40, 40, 40), (20, 20, 20), (10, 10, 10), (1, 1, 1))
    plain = pair_values(x, offsets, 10)
    mean = mean_over(name, lambda y: pair_values(y, offsets, 10), x, offsets, geometry)
    left = averaged_geometry(geometry, name, offsets)
    start = [m - 10 for m in left.margin]
    inside = tuple(slice(a, a + n) for a, n in zip(start, left.output, strict=True))
    torch.testing.assert_close(mean, plain[:, :, *inside], rtol=0, atol=2e-6)


def test_four_voxels_by_hand() -> None:
    """A network that only sees the first voxel of a pair; flipped it sees the other."""
    x, offsets = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 1, 4), [(0, 0, 1)]
    geometry = TileGeometry((1, 1, 4), (1, 1, 4), (0, 0, 0), (1, 1, 1))
    result = mean_over("flips", lambda y: y, x, offsets, geometry)
    assert result.flatten().tolist() == [1.5, 2.5, 3.5]


class Directed(nn.Module):
    """Affinities of a random filter, different in every direction."""

    def __init__(self, offsets: int, dimensions: int) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.classes = offsets
        self.filter = {2: nn.Conv2d, 3: nn.Conv3d}[dimensions](1, offsets, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.filter(x)


@pytest.mark.parametrize(("name", "offsets"), CASES)
def test_any_tile_and_any_block_give_the_same_affinities(name, offsets) -> None:
    flat = all(d[0] == 0 for d in offsets)
    model = Directed(len(offsets), 2 if flat else 3)
    image = volume((3, 21, 22) if flat else (10, 11, 12))

    def predicted(side: int, block: tuple[int, ...]) -> np.ndarray:
        z, margin, unit = (1, 0, 1) if flat else (side, 1, 2)
        sizes = (z, side, side), (z - 2 * margin, side - 2, side - 2), (margin, 1, 1), (unit, 2, 2)
        p = Predictor(model, TileGeometry(*sizes), GREY, name, output="affinities", offsets=offsets)
        result = np.full((len(offsets), *image.shape), np.nan, np.float32)
        for box in Grid(image.shape, block).boxes():
            result[:, *box.slices] = p.predict_box(ArrayImage(image), box)
        return result

    whole = predicted(16, image.shape)
    np.testing.assert_array_equal(predicted(16, (2, 9, 7)), whole)
    np.testing.assert_allclose(predicted(20, (10, 11, 5)), whole, atol=1e-6)
    rng = np.random.default_rng(0)
    some = [(0, 0, 0), tuple(n - 1 for n in image.shape), *(tuple(rng.integers(image.shape)) for _ in range(6))]
    expected = by_definition(model, image, name, offsets, some)
    np.testing.assert_allclose([whole[:, *p] for p in some], expected, atol=1e-6)


def by_definition(model: nn.Module, image: np.ndarray, name, offsets, voxels) -> np.ndarray:
    """The mean over symmetries of the whole mirrored volume at some voxels, pair by pair."""
    pad = 11
    grey = ArrayImage(image).read_mirrored(Box.of_shape(image.shape).grown((pad,) * 3))
    x = torch.from_numpy((grey.astype(np.float32) - 120) / 40)[None, None]
    numbers, flat = torch.arange(x.numel()).reshape(x.shape), isinstance(model.filter, nn.Conv2d)
    total = np.zeros((len(voxels), len(offsets)))
    for g in SYMMETRIES[name]:
        with torch.no_grad():
            moved = g.applied(x)
            logits = model(moved[0].transpose(0, 1)).transpose(0, 1) if flat else model(moved)[0]
        found, ids = torch.sigmoid(logits).numpy(), g.applied(numbers)[0, 0].numpy().ravel()
        where = np.empty_like(ids)
        where[ids] = np.arange(len(ids))
        for (n, p), (c, d) in product(enumerate(voxels), enumerate(offsets)):
            pair = [np.ravel_multi_index(tuple(np.add(p, pad) + end), x.shape[2:]) for end in ((0, 0, 0), d)]
            first, second = (np.array(np.unravel_index(where[one], moved.shape[2:])) for one in pair)
            forward = tuple(second - first) in offsets
            channel = offsets.index(tuple(second - first) if forward else tuple(first - second))
            z, y, x_ = first if forward else second
            total[n, c] += found[channel, z - (not flat), y - 1, x_ - 1]
    return total / len(SYMMETRIES[name])


def test_what_cannot_be_averaged_is_refused_with_what_to_do() -> None:
    cube = TileGeometry((16, 16, 16), (14, 14, 14), (1, 1, 1), (1, 1, 1))

    def refused(name: TestTimeAugmentation, offsets=None, geometry=cube, dimensions=3, error=ValueError) -> str:
        model, output = Directed(len(offsets or [0]), dimensions), "classes" if offsets is None else "affinities"
        with pytest.raises(error) as raised:
            Predictor(model, geometry, GREY, name, output=output, offsets=offsets)
        return str(raised.value)

    assert "none of z+1, y+1, x+1, z+2" in refused("cube", ANISOTROPIC_OFFSETS)
    assert "affinities belong to whole voxels" in refused("rotations", ISOTROPIC_OFFSETS)
    section = TileGeometry((1, 16, 16), (1, 14, 14), (0, 1, 1), (1, 1, 1))
    assert "the network is 2-D" in refused("flips_3d", geometry=section, dimensions=2)
    assert "choose a cubic tile" in refused("cube", geometry=TileGeometry((8, 16, 16), (6, 14, 14), (1,) * 3, (1,) * 3))
    small = TileGeometry((11, 11, 11), (9, 9, 9), (1, 1, 1), (1, 1, 1))
    assert "leaves nothing of the output" in refused("flips", ISOTROPIC_OFFSETS, small, error=TileSizeError)
