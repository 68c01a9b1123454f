"""Patches of affinities: cut from the whole volume's, moved with the grey values, and for any margin."""

import numpy as np
import pytest

from tests.unit.training.array_volume import ArrayVolume
from tests.unit.training.test_affinities import whole
from unet.config.train import AugmentConfig
from unet.training.affinities import AffinityTargets
from unet.training.affinity_patches import AffinitySampler, widened
from unet.training.augmentation import Transform
from unet.training.labelled_volume import LabelledVolume
from unet.training.patches import PatchLocation, PatchSampler
from unet.volumes.intensity import Normalisation

SHAPE, PATCH, OUTPUT = (8, 20, 24), (6, 10, 10), (2, 4, 4)
PAIRS = AffinityTargets(((1, 0, 0), (0, 1, 0), (0, 0, 1), (3, 0, 0), (0, 5, 0), (0, 0, 5)), 1, (0, 1, 2))
NONE = AugmentConfig(flips=False, rotation="none", elastic_px=0, brightness=0, contrast=0, noise=0)


def ids_of_blocks() -> np.ndarray:
    """Bodies of several sizes, with background and unknown voxels between them; grey values are the ids."""
    ids = np.random.default_rng(1).integers(1, 9, (4, 5, 6)).astype(np.uint32)
    ids = ids.repeat(2, 0).repeat(4, 1).repeat(4, 2)
    ids[:, 9] = 0
    ids[:, :, 17:19] = 2**32 - 1
    return ids


def sampler(ids: np.ndarray, augment: AugmentConfig, **keys: object) -> AffinitySampler:
    known = (ids < 2**32 - 1).astype(np.float32)
    raw = ArrayVolume((ids % 251).astype(np.uint8))
    volume = LabelledVolume(raw, ArrayVolume(ids), ArrayVolume(known), Normalisation((0,), (1,)))
    return AffinitySampler([volume], PATCH, OUTPUT, affinities=PAIRS, augment=augment, dimensions=3, **keys)


def locations_of(patches: AffinitySampler, monkeypatch: pytest.MonkeyPatch) -> list[PatchLocation]:
    found: list[PatchLocation] = []
    targets = patches._targets
    monkeypatch.setattr(patches, "_targets", lambda v, where, w: (found.append(where), targets(v, where, w))[1])
    return found


def test_a_patch_is_cut_from_the_affinities_of_the_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    """The margin of the pairs (5) is larger than that of the network (3), and patches reach beyond the faces."""
    ids = ids_of_blocks()
    patches, expected = sampler(ids, NONE), whole(ids, PAIRS)
    found = locations_of(patches, monkeypatch)
    inside = 0
    for step in range(30):
        target = patches.sample(step).target
        rows, columns = (np.rint(axis).astype(int) for axis in found[-1].inner.positions)
        sections = np.arange(*found[-1].inner_sections)
        z, y, x = np.broadcast_arrays(sections[:, None, None], rows[None], columns[None])
        in_volume = (z >= 0) & (y >= 0) & (x >= 0) & (z < SHAPE[0]) & (y < SHAPE[1]) & (x < SHAPE[2])
        np.testing.assert_array_equal(target[:, in_volume], expected[:, z[in_volume], y[in_volume], x[in_volume]])
        inside += int(in_volume.all())
    assert 0 < inside < 30


@pytest.mark.parametrize("transform", [Transform(flips=(False, True)), Transform(flips=(True, False), angle=90.0)])
def test_affinities_of_a_turned_patch_are_those_of_the_turned_volume(transform: Transform) -> None:
    """An affinity is not turned: its offset stays one of the network's input."""
    ids = ids_of_blocks()
    patches = sampler(ids, NONE)
    [volume] = patches.volumes
    centre = (4, 10, 10)
    location = PatchLocation.around(centre, transform, PATCH, OUTPUT)
    target, _ = patches._targets(volume, location, np.ones(OUTPUT))
    turned = PatchLocation.around(centre, transform, (30, 40, 40), (6 + 10, 14, 14)).labels(volume.targets)
    starts = [(n - o) // 2 for n, o in zip(turned.shape, OUTPUT, strict=True)]
    crop = tuple(slice(a - m, a + o + m) for a, o, m in zip(starts, OUTPUT, PAIRS.margin, strict=True))
    np.testing.assert_array_equal(target, PAIRS.pairs(turned[crop]))


def test_pairs_have_weight_1_or_that_of_equation_2() -> None:
    ids = ids_of_blocks()
    assert sampler(ids, NONE).sample(0).weight.tolist() == [[[[1]]]]
    weight = sampler(ids, NONE, border_weight=True).sample(0).weight
    assert weight.shape == (len(PAIRS.offsets), *OUTPUT)


def test_a_straight_map_goes_on_straight_beyond_the_patch() -> None:
    transform = Transform(flips=(True, False), angle=33.0)
    patch, larger = (transform.warp(shape, (7.5, 9.5)) for shape in ((10, 10), (24, 20)))
    np.testing.assert_allclose(widened(patch, OUTPUT, (1, 10, 8)).positions, larger.positions, atol=1e-9)
    np.testing.assert_array_equal(widened(larger, OUTPUT, (1, 3, 3)).positions, larger.inner((1, 10, 10)).positions)


def test_sections_beyond_the_patch_are_shifted_as_the_last_one() -> None:
    shifts = np.array([[0, 1], [0, 2], [5, 5], [7, 8]])
    warp = widened(Transform(shifts=shifts).warp((10, 10), (4.5, 4.5)), (2, 4, 4), (3, 0, 0))
    assert warp.shifts is not None
    assert warp.shifts.tolist() == [*[[0, 1]] * 3, [0, 2], [5, 5], *[[7, 8]] * 3]


def test_the_same_patches_of_a_2d_network_have_no_z_axis() -> None:
    ids = ids_of_blocks()
    volume = sampler(ids, NONE).volumes
    pairs = AffinityTargets(((0, 1, 0), (0, 0, 3)))
    patches = AffinitySampler(volume, (1, 10, 10), (1, 4, 4), affinities=pairs, augment=NONE, batch=2)
    raw, target, weight = patches.batch(0)
    assert (raw.shape, target.shape, weight.shape) == ((2, 1, 10, 10), (2, 2, 4, 4), (2, 1, 1, 1))


@pytest.mark.parametrize("augment", [{"symmetries": "cube"}, {"symmetries": "cube", "elastic_3d": (1.0, 1.5, 1.5)}])
def test_affinities_of_a_transformed_volume_are_those_of_its_ids(augment: dict[str, object]) -> None:
    """Two samplers with one seed cut the same patch; without erosion a pair inside the patch is a comparison of ids."""
    ids, config = ids_of_blocks(), NONE.model_copy(update=augment)
    patches = sampler(ids, config, seed=5)
    patches.affinities = AffinityTargets(PAIRS.offsets[:3], 0, (0, 1, 2))
    of_ids, unknown = PatchSampler(patches.volumes, PATCH, OUTPUT, config, dimensions=3, seed=5), 2**32 - 1
    compared = 0
    for step in range(25):
        target, body = patches.sample(step).target, of_ids.sample(step).target
        for channel, axis in enumerate(range(3)):
            first, second = body.take(range(OUTPUT[axis] - 1), axis), body.take(range(1, OUTPUT[axis]), axis)
            found = target[channel].take(range(OUTPUT[axis] - 1), axis)
            known = (first > 0) & (second > 0) & (first < unknown) & (second < unknown) & (found < 2)
            np.testing.assert_array_equal(found[known] == 1, (first == second)[known])
            compared += int(known.sum())
    assert compared > 500
