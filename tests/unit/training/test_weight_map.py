"""Equation 2 against its plain definition, on real cells, cut anywhere."""

from math import ceil, exp, sqrt

import cc3d
import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt

from unet.geometry.grid import Grid
from unet.training.weight_map import border_weight, class_weights, cutoff_distance, separation_border, weight_map


def border_weight_reference(labels, w0, sigma):
    """The plain definition: one distance transform a cell, everywhere, without a cutoff."""
    distances = [distance_transform_edt(labels != cell) for cell in np.unique(labels) if cell != 0]
    if len(distances) < 2:
        return np.zeros(labels.shape)
    d1, d2 = np.sort(distances, axis=0)[:2]
    return np.where(labels == 0, w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2)), 0)


def assert_equals_the_definition(labels, sigma, w0=10):
    """Everywhere within a millionth of w0: the cutoff and the rounding to float32 cost no more."""
    difference = border_weight(labels, w0, sigma) - border_weight_reference(labels, w0, sigma)
    assert np.abs(difference).max() < 1e-6 * w0


def separated(labels, width=1):
    return np.where(separation_border(labels, width), 0, labels)


def isbi_section(em_data):
    interior = tifffile.imread(em_data / "isbi2012" / "train-labels.tif", key=3) == 255
    return cc3d.connected_components(interior, connectivity=4)


def fib25_section(em_data):
    with h5py.File(em_data / "fib25" / "train.h5") as file:
        ids = file["volumes/labels/neuron_ids"]
        return separated(ids[min(40, len(ids) - 1)])


def nuclei(em_data):
    return separated(tifffile.imread(em_data / "nuclei" / "mask2d.tif"))


def voronoi_cells(shape, count, gap, seed=0):
    """Cells around random points; pixels about as far from two of them are background."""
    points = np.random.default_rng(seed).random((count, 2)) * shape
    y, x = np.indices(shape)
    distance = np.sqrt((y[..., None] - points[:, 0]) ** 2 + (x[..., None] - points[:, 1]) ** 2)
    d1, d2 = np.sort(distance, axis=-1)[..., :2].transpose(2, 0, 1)
    return np.where(d2 - d1 < gap, 0, distance.argmin(axis=-1) + 1)


sections = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 3))


# -- separation border ------------------------------------------------------------------------------------------------


def test_border_of_width_one_is_one_pixel_on_each_side_of_a_contact():
    labels = np.array([[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 3, 3], [0, 0, 0, 0]])
    expected = [[0, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]]
    assert separation_border(labels, 1).astype(int).tolist() == expected


def test_border_of_width_two_is_two_pixels_on_each_side():
    labels = np.array([[1, 1, 1, 1, 2, 2, 2, 2]])
    assert separation_border(labels, 2).astype(int).tolist() == [[0, 0, 1, 1, 1, 1, 0, 0]]


def test_border_of_width_zero_is_empty():
    assert not separation_border(np.array([[1, 2]]), 0).any()


def test_negative_width_is_refused():
    with pytest.raises(ValueError, match="-1"):
        separation_border(np.array([[1, 2]]), -1)


def test_background_and_diagonal_neighbours_draw_no_border():
    labels = np.array([[1, 0, 2], [1, 0, 2], [0, 3, 0]])
    assert not separation_border(labels, 3).any()


def test_border_does_not_cross_background_into_a_cell_without_contact():
    labels = np.array([[1, 2, 0, 3, 3]])
    assert separation_border(labels, 3).astype(int).tolist() == [[1, 1, 0, 0, 0]]


def test_cell_thinner_than_its_border_disappears():
    labels = np.array([[1, 1, 1, 2, 2, 3, 3, 3]])
    assert separated(labels).tolist() == [[1, 1, 0, 0, 0, 0, 3, 3]]


def test_border_is_drawn_per_section():
    labels = np.stack([np.full((3, 3), 1), np.full((3, 3), 2), np.array([[1, 1, 2]] * 3)])
    border = separation_border(labels, 1)
    assert border[:2].sum() == 0
    assert border[2].tolist() == [[False, True, True]] * 3


@given(labels=sections, width=st.integers(1, 3))
def test_no_two_cells_touch_after_the_border_is_removed(labels, width):
    assert not separation_border(separated(labels, width), 1).any()


@given(labels=sections, width=st.integers(1, 3))
def test_border_equals_its_definition_pixel_by_pixel(labels, width):
    expected = np.zeros(labels.shape, bool)
    for y, x in np.ndindex(labels.shape):
        if labels[y, x]:
            expected[y, x] = contact_within(labels, y, x, width - 1)
    np.testing.assert_array_equal(separation_border(labels, width), expected)


def contact_within(labels, y, x, steps):
    """Return whether a contact pixel of the same cell is at most `steps` steps away inside the cell."""
    around = [(y + dy, x + dx) for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1))]
    around = [(v, u) for v, u in around if 0 <= v < labels.shape[0] and 0 <= u < labels.shape[1]]
    if any(labels[p] not in (0, labels[y, x]) for p in around):
        return True
    return steps > 0 and any(contact_within(labels, *p, steps - 1) for p in around if labels[p] == labels[y, x])


@given(labels=sections, width=st.integers(0, 3), data=st.data())
def test_border_in_a_window_depends_on_width_pixels_around_only(labels, width, data):
    core, window, inside = cut(labels.shape, width, data)
    np.testing.assert_array_equal(
        separation_border(labels[window], width)[inside], separation_border(labels, width)[core]
    )


def cut(shape, halo, data):
    """A random core, the window around it with `halo` (clipped at the section's faces), the core within the window."""
    core, window, inside = [], [], []
    for n in shape:
        lo = data.draw(st.integers(0, n - 1))
        hi = data.draw(st.integers(lo + 1, n))
        start, stop = max(0, lo - halo), min(n, hi + halo)
        core.append(slice(lo, hi))
        window.append(slice(start, stop))
        inside.append(slice(lo - start, hi - start))
    return tuple(core), tuple(window), tuple(inside)


# -- border term ------------------------------------------------------------------------------------------------------


def test_border_term_of_a_gap_worked_by_hand():
    # Four background pixels between the cells: d1 + d2 = 1 + 4, 2 + 3, 3 + 2, 4 + 1.
    term = border_weight(np.array([[1, 0, 0, 0, 0, 2]]), w0=10, sigma=5)
    np.testing.assert_allclose(term, [[0] + [10 * exp(-25 / 50)] * 4 + [0]], rtol=1e-6)


def test_distances_are_euclidean_and_to_the_nearest_pixel_of_two_different_cells():
    labels = np.zeros((6, 6), int)
    labels[0, 0], labels[0, 5], labels[1, 0] = 1, 2, 1
    # From (4, 4): cell 1 at (1, 0) is 5 px away, cell 2 at (0, 5) sqrt(17).
    assert border_weight(labels, 10, 5)[4, 4] == pytest.approx(10 * exp(-((5 + sqrt(17)) ** 2) / 50))


@pytest.mark.parametrize("labels", [np.zeros((7, 9), int), np.pad(np.full((2, 3), 4), 2), np.full((4, 4), 9)])
def test_fewer_than_two_cells_have_no_border_term(labels):
    assert border_weight(labels, 10, 5).tolist() == np.zeros(labels.shape).tolist()


def test_touching_cells_without_background_have_no_border_term():
    assert not border_weight(np.array([[1, 2], [3, 4]]), 10, 5).any()


def test_an_empty_section_gives_an_empty_map():
    assert border_weight(np.zeros((0, 5), int), 10, 5).shape == (0, 5)


def test_two_pieces_of_one_cell_are_one_cell():
    assert not border_weight(np.array([[1, 0, 1, 0, 0, 1]]), 10, 5).any()


def test_term_is_zero_beyond_the_cutoff_only():
    labels = np.zeros((1, 40), int)
    labels[0, 0], labels[0, 26] = 1, 2  # d1 + d2 = 26 throughout the gap
    assert cutoff_distance(4.94) < 26 < cutoff_distance(4.95)
    assert border_weight(labels, 10, 4.95)[0, 1:26].min() > 0
    assert not border_weight(labels, 10, 4.94).any()


def test_cutoff_distance_is_where_the_term_falls_to_a_millionth():
    assert exp(-(cutoff_distance(3.7) ** 2) / (2 * 3.7**2)) == pytest.approx(1e-6)


@pytest.mark.parametrize("section", [isbi_section, fib25_section, nuclei])
def test_border_term_equals_one_distance_transform_a_cell_on_annotated_cells(section, em_data):
    labels = section(em_data)[:300, :300]
    assert border_weight(labels, 10, 5).max() > 5
    assert_equals_the_definition(labels, sigma=5)


@pytest.mark.parametrize(("count", "gap", "sigma"), [(3, 30, 5), (40, 9, 2.5), (300, 3, 5), (6, 60, 40), (300, 3, 150)])
def test_border_term_equals_the_plain_definition_for_few_and_many_cells(count, gap, sigma):
    assert_equals_the_definition(voronoi_cells((90, 110), count, gap), sigma)


def test_a_reach_whose_square_overflows_32_bits_is_exact_too():
    assert_equals_the_definition(np.array([[0, 1, 0, 0, 2, 0, 3]]), sigma=6000)


@pytest.mark.parametrize("few", [0, 1])
def test_pixels_picked_out_early_or_never_get_the_same_term(few, monkeypatch):
    monkeypatch.setattr("unet.training.weight_map.FEW_PIXELS_SHARE", few)
    assert_equals_the_definition(voronoi_cells((60, 50), 20, 9), sigma=3)


@given(labels=sections, sigma=st.floats(0.2, 8))
@settings(deadline=None)
def test_border_term_equals_the_plain_definition_for_any_section(labels, sigma):
    assert_equals_the_definition(labels, sigma)


@given(sigma=st.sampled_from([1.0, 2.0, 3.3]), data=st.data())
@settings(deadline=None, max_examples=60)
def test_a_window_with_its_halo_gives_the_numbers_of_the_whole_section_bit_for_bit(sigma, data):
    labels = voronoi_cells((70, 80), 25, 6)
    core, window, inside = cut(labels.shape, ceil(cutoff_distance(sigma)), data)
    whole = border_weight(labels, 10, sigma)
    np.testing.assert_array_equal(border_weight(labels[window], 10, sigma)[inside], whole[core])


def test_ids_matter_only_by_being_equal_or_not():
    labels = voronoi_cells((40, 40), 12, 4)
    large = np.where(labels > 0, labels.astype(np.uint64) * 7 + 2**50, 0)
    np.testing.assert_array_equal(border_weight(large, 10, 5), border_weight(labels, 10, 5))


def test_memory_order_does_not_matter():
    labels = voronoi_cells((30, 40), 9, 4)
    np.testing.assert_array_equal(border_weight(labels.T, 10, 5), border_weight(labels, 10, 5).T)


def test_sections_of_a_volume_do_not_see_each_other():
    labels = np.stack([voronoi_cells((30, 30), 8, 5), np.zeros((30, 30), int), voronoi_cells((30, 30), 5, 3)])
    expected = np.stack([border_weight(section, 10, 5) for section in labels])
    np.testing.assert_array_equal(border_weight(labels, 10, 5), expected)


# -- class weights and the whole map ----------------------------------------------------------------------------------


def test_class_weights_worked_by_hand():
    np.testing.assert_allclose(class_weights([1, 3]), [2, 2 / 3])


def test_a_class_that_never_occurs_weighs_nothing_and_does_not_disturb_the_others():
    np.testing.assert_allclose(class_weights([1, 0, 3]), [2, 0, 2 / 3])


def test_without_balance_every_class_weighs_one():
    assert class_weights([1, 0, 3], balance=False).tolist() == [1, 1, 1]


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=6).filter(any))
def test_class_weights_have_mean_one_over_the_pixels(counts):
    assert np.average(class_weights(counts), weights=counts) == pytest.approx(1)


@pytest.mark.parametrize("counts", [[0, 0], [], [-1, 2]])
def test_class_weights_without_pixels_are_refused(counts):
    with pytest.raises(ValueError, match="labelled pixel"):
        class_weights(counts)


def test_weight_map_adds_both_terms_and_is_zero_where_unlabelled():
    cells = np.array([[1, 1, 0, 0, 2, 2]])
    targets = np.array([[1, 255, 0, 255, 1, 1]], np.uint8)
    weights = weight_map(targets, cells, [3, 0.5], w0=10, sigma=5)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, [[0.5, 0, 3 + 10 * exp(-9 / 50), 0, 0.5, 0.5]], rtol=1e-6)


def test_three_classes_balanced_by_hand():
    cells = np.array([[5, 5, 0, 7, 7, 7, 0]])
    targets = np.array([[1, 1, 0, 2, 255, 1, 0]], np.uint8)
    # 2, 3 and 1 labelled pixels of 6: w_c = 6 / (3 n_c). The first background pixel lies between the cells, the last
    # one 1 from cell 7 and 5 from cell 5.
    weights = weight_map(targets, cells, class_weights([2, 3, 1]), w0=10, sigma=5)
    expected = [2 / 3, 2 / 3, 1 + 10 * exp(-4 / 50), 2, 0, 2 / 3, 1 + 10 * exp(-36 / 50)]
    np.testing.assert_allclose(weights, [expected], rtol=1e-6)


def test_a_volume_in_blocks_with_a_halo_is_the_whole_volume_bit_for_bit():
    sigma, width, shape = 1.5, 2, (3, 70, 61)
    labels = np.stack([voronoi_cells(shape[1:], count, 0, seed=count) for count in (6, 30, 90)])
    classes = np.random.default_rng(0).choice(np.array([0, 1, 255], np.uint8), shape)

    def weigh(box):
        return weight_map(classes[box.slices], separated(labels[box.slices], width), [3, 0.5], 10, sigma)

    volume = Grid(shape, shape).boxes()[0]
    halo = ceil(cutoff_distance(sigma)) + width
    in_blocks = np.empty(shape, np.float32)
    for block in Grid(shape, (2, 16, 25)).boxes():
        window = block.grown((0, halo, halo)).clipped(shape)
        in_blocks[block.slices] = weigh(window)[block.relative_to(window.start).slices]
    np.testing.assert_array_equal(in_blocks, weigh(volume))


def test_weight_map_of_a_volume_is_that_of_its_sections():
    cells = np.stack([voronoi_cells((20, 25), 6, 4), voronoi_cells((20, 25), 9, 3)])
    targets = (cells > 0).astype(np.uint8)
    expected = [weight_map(targets[z], cells[z], [2, 0.7], 10, 5) for z in range(2)]
    np.testing.assert_array_equal(weight_map(targets, cells, [2, 0.7], 10, 5), expected)


def test_a_target_without_a_class_weight_is_refused_by_number():
    with pytest.raises(ValueError, match="target 2 has no class weight: there are 2 classes"):
        weight_map(np.array([[2, 255]], np.uint8), np.zeros((1, 2), int), [1, 1], 10, 5)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 2\) and cells \(2, 1\)"):
        weight_map(np.zeros((1, 2), np.uint8), np.zeros((2, 1), int), [1, 1], 10, 5)
