import numpy as np
import pytest
from scipy import ndimage

from unet.training.synthetic import synthesise

SECTIONS, SIZE = 4, 128


@pytest.fixture(scope="module")
def volume():
    return synthesise(SECTIONS, SIZE, seed=7)


def test_shape_and_types(volume):
    raw, labels = volume
    assert raw.shape == labels.shape == (SECTIONS, SIZE, SIZE)
    assert raw.dtype == np.uint8
    assert labels.dtype == np.uint32


def test_the_same_seed_gives_the_same_volume(volume):
    raw, labels = synthesise(SECTIONS, SIZE, seed=7)
    np.testing.assert_array_equal(raw, volume[0])
    np.testing.assert_array_equal(labels, volume[1])


def test_another_seed_gives_another_volume(volume):
    raw, labels = synthesise(SECTIONS, SIZE, seed=8)
    assert np.mean(raw != volume[0]) > 0.9
    assert np.mean(labels != volume[1]) > 0.5


def test_ids_are_contiguous_from_one(volume):
    ids = np.unique(volume[1])
    np.testing.assert_array_equal(ids, np.arange(len(ids)))
    assert len(ids) > 10


def test_every_section_is_crowded_with_cells_and_membrane(volume):
    for section in volume[1]:
        assert len(np.unique(section)) > 8
        assert 0.1 < np.mean(section == 0) < 0.35


def test_a_cell_keeps_its_id_and_moves_little_from_section_to_section(volume):
    for here, below in zip(volume[1], volume[1][1:], strict=False):
        ids = np.setdiff1d(here, [0])
        assert np.mean(np.isin(ids, below)) > 0.75
        both = (here > 0) & (below > 0)
        assert np.mean(here[both] == below[both]) > 0.6


def test_most_of_a_cell_is_one_piece_in_three_dimensions(volume):
    labels = volume[1]
    whole = 0
    for cell in range(1, labels.max() + 1):
        pieces, _ = ndimage.label(labels == cell)
        whole += np.bincount(pieces.ravel())[1:].max()
    assert whole > 0.9 * np.count_nonzero(labels)


def test_touching_cells_are_parted_by_a_thin_membrane(volume):
    """Two ids never meet without membrane between them, and within 8 px of most membrane there are two."""
    labels = volume[1]
    for a, b in ((labels[:, 1:], labels[:, :-1]), (labels[:, :, 1:], labels[:, :, :-1])):
        assert not np.any((a != b) & (a > 0) & (b > 0))
    largest = ndimage.maximum_filter(labels, (1, 17, 17))
    smallest = ndimage.minimum_filter(np.where(labels == 0, labels.max() + 1, labels), (1, 17, 17))
    assert np.mean((largest > smallest)[labels == 0]) > 0.8


def test_membranes_are_darker_than_interiors_in_every_section(volume):
    for raw, labels in zip(*volume, strict=True):
        assert raw[labels == 0].mean() + 20 < raw[labels > 0].mean()


def test_grey_values_vary_and_are_seldom_clipped(volume):
    for section in volume[0]:
        assert section.std() > 20
        assert np.mean((section == 0) | (section == 255)) < 0.02


def test_a_threshold_cannot_replace_a_network(volume):
    """Grey values overlap: at the best threshold many pixels are still wrong (organelles, oblique membranes)."""
    raw, labels = volume
    smooth = ndimage.gaussian_filter(raw.astype(float), (0, 2, 2))
    errors = [np.mean((smooth > t) != (labels > 0)) for t in np.percentile(smooth, range(2, 60, 2))]
    assert min(errors) > 0.05


@pytest.mark.parametrize(("sections", "size"), [(0, 128), (4, 63)])
def test_an_impossible_size_is_refused_with_its_numbers(sections, size):
    with pytest.raises(ValueError, match=f"{sections} sections of {size} px"):
        synthesise(sections, size, seed=1)
