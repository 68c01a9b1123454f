"""Symmetries of the volume and 3-D elastic deformation: image, targets and weights move together."""

import numpy as np
import pytest
import torch

from unet.config.train import AugmentConfig
from unet.geometry.box import Box
from unet.network.symmetries import SYMMETRIES
from unet.training.elastic_3d import DeformedImage, DeformedLabels, DisplacementField, interpolated
from unet.training.labelled_volume import LabelledVolume
from unet.training.patches import PatchSampler
from unet.training.volume_transform import SymmetricVolume, VolumeTransform, draw_volume_transform
from unet.volumes.intensity import Normalisation

SHAPE = (9, 14, 20)
PLAIN = {
    **{"flips": False, "rotation": "none", "elastic_px": 0.0, "brightness": 0.0, "contrast": 0.0, "noise": 0.0},
}


class ArrayVolume:
    """A volume in memory; numpy does the mirroring."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype = values, values.shape[-3:], values.dtype

    def read_mirrored(self, box: Box) -> np.ndarray:
        before = [max(0, -lo) for lo in box.start]
        after = [max(0, hi - n) for hi, n in zip(box.stop, self.shape, strict=True)]
        leading = [(0, 0)] * (self.values.ndim - 3)
        padded = np.pad(self.values, [*leading, *zip(before, after, strict=True)], mode="reflect")
        return padded[box.shifted(tuple(before)).trailing]


def numbered() -> LabelledVolume:
    """Every voxel has a number of its own, in raw and targets alike."""
    number = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)
    raw, weights = ArrayVolume(number.astype(np.float32)), ArrayVolume(np.ones(SHAPE, np.float32))
    return LabelledVolume(raw, ArrayVolume(number), weights, Normalisation((0.0,), (1.0,)))


@pytest.mark.parametrize("channels", [(), (2,)])
def test_a_moved_volume_is_the_permuted_and_flipped_array(channels: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 255, (*channels, *SHAPE), dtype=np.uint8)
    first = len(channels)
    for g in SYMMETRIES["cube"]:
        turned = array.transpose(*range(first), *(first + axis for axis in g.axes))
        turned = np.flip(turned, tuple(first + axis for axis, flip in enumerate(g.flips) if flip))
        moved = SymmetricVolume(ArrayVolume(array), g)
        assert moved.shape == turned.shape[first:]
        box = Box((-3, -2, 1), (5, 10, 13))
        np.testing.assert_array_equal(moved.read_mirrored(box), ArrayVolume(turned).read_mirrored(box))
        voxel = tuple(int(n) for n in rng.integers(SHAPE))
        np.testing.assert_array_equal(turned[..., *moved.moved(voxel)], array[..., *voxel])


def sampler(**augment) -> PatchSampler:
    config = AugmentConfig(**PLAIN, **augment)
    return PatchSampler([numbered()], (8, 8, 8), (4, 4, 4), config, dimensions=3, batch=2, seed=3)


def test_under_symmetries_image_and_targets_show_the_same_voxels_and_all_directions_occur() -> None:
    patches, directions = sampler(symmetries="cube"), set()
    for step in range(60):
        raw, target, _ = patches.sample(step)
        np.testing.assert_array_equal(raw[0, 2:-2, 2:-2, 2:-2], target)
        middle = raw[0].astype(int)
        directions.add(tuple(int(np.median(np.diff(middle, axis=axis))) for axis in range(3)))
    assert len(directions) > 20
    assert {abs(n) for d in directions for n in d} == {1, SHAPE[2], SHAPE[1] * SHAPE[2]}


def test_symmetries_in_3d_leave_z_along_z() -> None:
    patches = sampler(symmetries="symmetries_3d")
    for step in range(12):
        raw, _, _ = patches.sample(step)
        assert abs(np.median(np.diff(raw[0], axis=0))) == SHAPE[1] * SHAPE[2]


def test_grey_values_are_interpolated_linearly_at_the_displaced_positions_and_labels_are_the_nearest() -> None:
    """Take a grey value that is linear in the position: its interpolation is exact."""
    z, y, x = np.meshgrid(*map(np.arange, (50, 50, 50)), indexing="ij")
    box = Box((22, 23, 24), (30, 31, 34))
    f = DisplacementField(np.random.default_rng(1).normal(0, 1.5, (3, 4, 4, 4)), box)
    q = f.positions(box) + np.reshape(box.start, (3, 1, 1, 1))
    assert np.abs(q - np.stack([z, y, x])[:, *box.slices]).max() > 1
    ramp = ArrayVolume((z + 2 * y - 3 * x + 100).astype(np.float32))
    found = DeformedImage(ramp, f).read_mirrored(box)
    np.testing.assert_allclose(found, q[0] + 2 * q[1] - 3 * q[2] + 100, atol=1e-2)
    for axis, coordinate in enumerate((z, y, x)):
        labels = DeformedLabels(ArrayVolume(coordinate.astype(np.uint8)), f, 255).read_mirrored(box)
        np.testing.assert_array_equal(labels, np.floor(q[axis] + 0.5))


def test_a_field_at_a_node_is_its_vector_and_stays_beyond_the_patch() -> None:
    f = DisplacementField(np.random.default_rng(1).normal(0, 2, (3, 3, 3, 3)), Box((0, 0, 0), (5, 5, 5)))
    box = Box((-2, 0, 0), (7, 5, 5))
    zero = DisplacementField(np.zeros((3, 3, 3, 3)), f.patch).positions(box)
    displaced = f.positions(box) - zero
    np.testing.assert_allclose(displaced[:, 2:7][:, ::2, ::2, ::2], f.vectors, atol=1e-5)
    np.testing.assert_allclose(displaced[:, :2], np.repeat(displaced[:, 2:3], 2, axis=1), atol=1e-5)


def test_interpolation_in_stacked_sections_is_that_of_pytorch_in_3d() -> None:
    generator = torch.Generator().manual_seed(0)
    channels = torch.rand(2, 5, 6, 7, generator=generator)
    sizes = torch.tensor([5.0, 6.0, 7.0]).reshape(3, 1, 1, 1) - 1
    positions = torch.rand(3, 4, 3, 8, generator=generator) * sizes * 0.999
    positions[:, 0] = positions[:, 0].floor()
    grid = (2 * positions / sizes - 1).flip(0).movedim(0, -1)[None]
    expected = torch.nn.functional.grid_sample(channels[None], grid, mode="bilinear", align_corners=True)[0]
    torch.testing.assert_close(interpolated(channels, positions), expected, rtol=0, atol=1e-4)


def test_what_comes_from_beyond_the_faces_is_unlabelled() -> None:
    vectors = np.zeros((3, 2, 2, 2))
    vectors[2] = 2.0  # everything from two voxels to the right
    f, box = DisplacementField(vectors, Box((0, 0, 16), (2, 2, 20))), Box((0, 0, 16), (2, 2, 20))
    found = DeformedLabels(ArrayVolume(np.ones(SHAPE, np.uint8)), f, 255).read_mirrored(box)
    assert found[0, 0].tolist() == [1, 1, 255, 255]


def test_a_patch_is_a_function_of_its_step_and_each_step_has_another_one() -> None:
    patches = sampler(symmetries="cube", elastic_3d=(1.0, 1.0, 1.0))
    first, again, other = patches.sample(4, 1), patches.sample(4, 1), patches.sample(5, 1)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.raw, other.raw)


def test_what_is_off_takes_no_random_number_and_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    assert draw_volume_transform(rng, AugmentConfig()) == VolumeTransform()
    assert rng.random() == np.random.default_rng(0).random()
    volume = numbered()
    assert VolumeTransform().applied(volume, (1, 2, 3), (8, 8, 8), (4, 4, 4)) == (volume, (1, 2, 3))


def test_a_share_of_the_patches_is_deformed_with_the_std_of_each_axis() -> None:
    config = AugmentConfig(elastic_3d=(0.5, 2.0, 4.0), elastic_3d_probability=0.4, elastic_3d_grid=5)
    drawn = [draw_volume_transform(np.random.default_rng(n), config).vectors for n in range(300)]
    found = [v for v in drawn if v is not None]
    assert 0.3 < len(found) / 300 < 0.5
    np.testing.assert_allclose(np.std(found, axis=(0, 2, 3, 4)), (0.5, 2.0, 4.0), rtol=0.05)
