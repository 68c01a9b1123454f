"""Sections that a training leaves out: which they are, and that nothing is learnt from them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet.config.train import AugmentConfig
from unet.geometry.box import Box
from unet.training.held_back import MIN_SECTIONS, WithoutSections, held_back_sections, only_sections
from unet.training.patches import CachedVolume, LabelledVolume, PatchSampler
from unet.volumes.intensity import Normalisation

SHAPE = (10, 40, 40)


class Stored:
    """A volume in memory that is read by boxes."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype

    def read(self, box: Box) -> np.ndarray:
        """Return a view, as a cache may."""
        return self.values[box.slices]


@given(st.sets(st.integers(0, 1000), max_size=60), st.floats(0, 0.5))
def test_the_last_annotated_sections_are_held_back_and_at_least_half_is_learnt(found: set[int], share: float) -> None:
    annotated = sorted(found)
    held = held_back_sections(annotated, share)
    assert held == annotated[len(annotated) - len(held) :]
    if share == 0 or len(annotated) < MIN_SECTIONS:
        assert held == []
    else:
        assert 1 <= len(held) <= (len(annotated) + 1) / 2


def test_weights_are_0_in_held_back_sections_alone_and_the_store_is_unchanged() -> None:
    stored = Stored(np.ones(SHAPE, np.float32))
    weights = WithoutSections(stored, [3, 4, 9])
    box = Box((2, 5, 5), (6, 8, 9))
    assert weights.read(box)[:, 0, 0].tolist() == [1, 0, 0, 1]
    assert weights.read(Box.of_shape(SHAPE)).sum() == 7 * 40 * 40
    assert stored.values.all()


@pytest.mark.parametrize("size", [1, 6])
def test_no_patch_has_a_labelled_voxel_of_a_held_back_section(size: int) -> None:
    """The voxels tell their section, also where a patch is mirrored beyond the last one."""
    section = np.broadcast_to(np.arange(SHAPE[0], dtype=np.uint8)[:, None, None], SHAPE)
    stores = Stored(section), Stored(section), WithoutSections(Stored(np.ones(SHAPE, np.float32)), [7, 8, 9])
    raw, targets, weights = (CachedVolume(store, (4, 16, 16)) for store in stores)
    volume = LabelledVolume(raw, targets, weights, Normalisation((0.0,), (1.0,)))
    augment = AugmentConfig(rotation="right", elastic_probability=0)
    sampler = PatchSampler([volume], (size, 20, 20), (size, 12, 12), augment, dimensions=3)
    patches = [sampler.sample(step) for step in range(40)]
    learnt = np.concatenate([patch.target[patch.weight > 0] for patch in patches])
    assert set(np.unique(learnt).tolist()) == set(range(7))


def test_ids_of_held_back_sections_are_not_annotated() -> None:
    """Affinities compare ids, also with those of voxels where no patch is drawn."""
    ids = WithoutSections(Stored(np.full(SHAPE, 7, np.uint16)), [4, 5], 2**16 - 1)
    assert ids.read(Box((3, 0, 0), (7, 1, 1))).ravel().tolist() == [7, 2**16 - 1, 2**16 - 1, 7]


def test_only_the_given_sections_of_a_box_keep_their_labels() -> None:
    labels = np.full((3, 2, 2), 5, np.uint16)
    box = Box((4, 0, 0), (7, 2, 2))
    assert only_sections(labels, box, [5, 9])[:, 0, 0].tolist() == [0, 5, 0]
    assert only_sections(labels, box, []) is labels
    assert only_sections(labels, box, [5]).dtype == np.uint16
