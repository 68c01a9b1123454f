"""Shape descriptors: by the formula voxel by voxel, under symmetries, and the same in every patch."""

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.training.array_volume import ArrayVolume
from tests.unit.training.test_affinity_patches import locations_of
from unet.config.train import AugmentConfig
from unet.geometry.box import Box
from unet.network.symmetries import SYMMETRIES, Symmetry
from unet.training.affinities import AffinityTargets, mirror_images
from unet.training.affinity_patches import AffinitySampler
from unet.training.labelled_volume import LabelledVolume
from unet.training.shape_descriptors import ShapeDescriptors
from unet.volumes.intensity import Normalisation

UNKNOWN = 2**32 - 1
CUBE = ShapeDescriptors((1.0, 1.0, 1.0))
IN_3D = ShapeDescriptors((0.7, 1.3, 1.0))
IN_SECTION = ShapeDescriptors((9.0, 1.3, 1.0), axes=(1, 2))
SHAPE = (5, 9, 8)


def some_ids(shape: tuple[int, ...] = SHAPE) -> NDArray[np.uint32]:
    """Touching bodies of single voxels and larger ones, background and voxels that nobody annotated."""
    ids = np.random.default_rng(3).integers(0, 4, shape).astype(np.uint32)
    ids[1:3, 1:6, 2:5] = 7
    ids[-1, -1] = UNKNOWN
    return ids


def whole(ids: NDArray[np.uint32], descriptors: ShapeDescriptors) -> NDArray[np.float32]:
    """Descriptors of every voxel of a volume, beyond which lie its mirror images."""
    box = Box.of_shape(ids.shape).grown(descriptors.margin)
    return descriptors.targets(ArrayVolume(ids).read_mirrored(box), mirror_images(box, ids.shape))


def by_the_formula(ids: NDArray[np.uint32], descriptors: ShapeDescriptors) -> NDArray[np.float64]:
    """The definition, with a loop over voxels and their neighbours; unrounded weights."""
    axes, margin = list(descriptors.axes), descriptors.margin
    sigma = np.array([descriptors.sigma[axis] for axis in axes])
    offsets = np.array(list(product(*(range(-m, m + 1) for m in margin))))
    weights = np.exp(-0.5 * ((offsets[:, axes] / sigma) ** 2).sum(1))
    pairs = [(i, j) for i in range(len(axes)) for j in range(i + 1, len(axes))]
    found = np.zeros((descriptors.channels, *ids.shape))
    for voxel in np.ndindex(ids.shape):
        if ids[voxel] in (0, UNKNOWN):
            found[(slice(None), *voxel)] = 255 * (ids[voxel] > 0)
            continue
        others = voxel + offsets
        inside = ((others >= 0) & (others < ids.shape)).all(1)
        one = np.flatnonzero(inside)[ids[tuple(others[inside].T)] == ids[voxel]]
        d, g = offsets[one][:, axes], weights[one]
        mean = g @ d / g.sum()
        covariance = (g[:, None] * (d - mean)).T @ (d - mean) / g.sum()
        variance = np.diag(covariance)
        normal = [
            covariance[i, j] / np.sqrt(variance[i] * variance[j]) if variance[i] * variance[j] > 1e-12 else 0.0
            for i, j in pairs
        ]
        values = [*(mean / (2 * sigma) + 0.5), *(variance / sigma**2), *(np.array(normal) / 2 + 0.5)]
        found[(slice(None), *voxel)] = np.clip([*values, g.sum() / weights.sum()], 0, 1)
    return found


@pytest.mark.parametrize("descriptors", [IN_3D, IN_SECTION])
def test_descriptors_are_those_of_the_formula_at_every_voxel(descriptors: ShapeDescriptors) -> None:
    ids = some_ids()
    found = whole(ids, descriptors)
    assert (found.dtype, len(found)) == (np.float32, descriptors.channels)
    np.testing.assert_allclose(found, by_the_formula(ids, descriptors), atol=5e-4)


def test_a_row_of_three_voxels_by_hand() -> None:
    """sigma = 1: of the voxel at its end, the others lie 1 and 2 behind it."""
    ids = np.zeros((1, 1, 9), np.uint32)
    ids[..., 3:6] = 5
    g = np.exp(-0.5 * np.arange(-3, 4) ** 2)
    mean = (g[4] + 2 * g[5]) / g[3:6].sum()
    variance = (g[4] + 4 * g[5]) / g[3:6].sum() - mean**2
    found = ShapeDescriptors((1, 1, 1)).targets(np.pad(ids, [(3, 3), (3, 3), (0, 0)]))[:, 0, 0, 0]
    share = g[3:6].sum() / g.sum() * (g[3] / g.sum()) ** 2
    expected = [0.5, 0.5, mean / 2 + 0.5, 0, 0, variance, 0.5, 0.5, 0.5, share]
    assert found.tolist() == pytest.approx(expected, abs=1e-4)


def moved(descriptors: NDArray[np.float32], symmetry: Symmetry) -> NDArray[np.float32]:
    """Descriptors after a symmetry of the cube: voxels move, axes change their places, a flip turns signs."""
    order = [0, *(1 + axis for axis in symmetry.axes)]
    flipped = [1 + axis for axis, flip in enumerate(symmetry.flips) if flip]
    voxels = np.flip(descriptors.transpose(order), flipped)
    sign = np.where(symmetry.flips, -1, 1)
    result = voxels.copy()
    pairs = [(0, 1), (0, 2), (1, 2)]
    for axis, old in enumerate(symmetry.axes):
        result[axis] = voxels[old] if sign[axis] > 0 else 1 - voxels[old]
        result[3 + axis] = voxels[3 + old]
    for k, (i, j) in enumerate(pairs):
        old = 6 + pairs.index(tuple(sorted((symmetry.axes[i], symmetry.axes[j]))))
        result[6 + k] = voxels[old] if sign[i] * sign[j] > 0 else 1 - voxels[old]
    background = (voxels == 0).all(0)
    result[:, background] = 0
    return result


@pytest.mark.parametrize("symmetry", SYMMETRIES["cube"][1::5])
def test_a_symmetry_of_the_ids_moves_their_descriptors_exactly(symmetry: Symmetry) -> None:
    ids = some_ids()[:, :, :7] % UNKNOWN
    turned = np.flip(ids.transpose(symmetry.axes), [axis for axis, flip in enumerate(symmetry.flips) if flip])
    found, expected = whole(np.ascontiguousarray(turned), CUBE), moved(whole(ids, CUBE), symmetry)
    np.testing.assert_allclose(found, expected, rtol=0, atol=6e-8)  # 1 - v rounds to float32
    np.testing.assert_array_equal(found[[3, 4, 5, 9]], expected[[3, 4, 5, 9]])


def test_names_of_objects_do_not_matter_and_other_objects_are_not_seen() -> None:
    ids = some_ids()
    renamed = np.where((ids > 0) & (ids < UNKNOWN), ids * 1000 + 5, ids).astype(np.uint32)
    np.testing.assert_array_equal(whole(renamed, IN_3D), whole(ids, IN_3D))
    alone = np.where(ids == 7, ids, 0)
    np.testing.assert_array_equal(whole(alone, IN_3D)[:, ids == 7], whole(ids, IN_3D)[:, ids == 7])


def test_a_voxel_has_the_same_descriptors_in_every_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The margin reaches beyond the network's input, and patches reach beyond the faces, where images are."""
    ids = some_ids((6, 14, 14))
    known = (ids < UNKNOWN).astype(np.float32)
    raw = ArrayVolume(np.zeros(ids.shape, np.uint8))
    volume = LabelledVolume(raw, ArrayVolume(ids), ArrayVolume(known), Normalisation((0,), (1,)))
    still = AugmentConfig(flips=False, rotation="none", elastic_px=0)
    pairs = AffinityTargets(((0, 0, 1), (0, 3, 0)))
    patches = AffinitySampler(
        [volume], (4, 6, 6), (2, 4, 4), affinities=pairs, descriptors=IN_3D, augment=still, dimensions=3
    )
    without = AffinitySampler([volume], (4, 6, 6), (2, 4, 4), affinities=pairs, augment=still, dimensions=3)
    expected, found, inside = whole(ids, IN_3D), locations_of(patches, monkeypatch), 0
    for step in range(12):
        target = patches.sample(step).target
        assert target.dtype == np.float32
        np.testing.assert_array_equal(target[:2], without.sample(step).target)
        rows, columns = (np.rint(axis).astype(int) for axis in found[-1].inner.positions)
        z, y, x = np.broadcast_arrays(np.arange(*found[-1].inner_sections)[:, None, None], rows[None], columns[None])
        here = np.logical_and.reduce([(i >= 0) & (i < n) for i, n in zip((z, y, x), ids.shape, strict=True)])
        np.testing.assert_array_equal(target[2:, here], expected[:, z[here], y[here], x[here]])
        inside += here.all()
    assert 0 < inside < 12


def test_a_neighbourhood_too_wide_is_refused_with_the_key() -> None:
    with pytest.raises(ValueError, match=r"deviation of 80 voxels, but at most 50 .*lower train.affinities.shape_des"):
        ShapeDescriptors.of(320, 2, (50, 4, 4))
    assert ShapeDescriptors.of(80, 2, (1, 4, 4)).margin == (0, 60, 60)  # z is not used
