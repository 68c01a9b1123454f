"""The meaning of grey values, by hand and block by block."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unet.config.label_kinds import (
    AnnotationError,
    check_interior_levels,
    class_map,
    class_names,
    grey_levels,
    interior_classes,
)
from unet.geometry.box import Box
from unet.volumes.readers.open import open_source

CLASSES = {"membrane": [0, 32], "ignore": [159], "interior": [191, 255]}


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64"])
def test_interior_is_whatever_is_not_0(dtype: str) -> None:
    found = interior_classes(np.array([[0, 5], [5, 0]], dtype), "a.tif")
    assert found.dtype == np.uint8
    assert found.tolist() == [[0, 1], [1, 0]]


def test_interior_of_bool_and_of_one_level() -> None:
    assert interior_classes(np.array([True, False]), "a.tif").tolist() == [1, 0]
    assert interior_classes(np.full(3, 255, np.uint8), "a.tif").tolist() == [1, 1, 1]
    assert interior_classes(np.zeros(3, np.uint8), "a.tif").tolist() == [0, 0, 0]


@pytest.mark.parametrize("values", [[0, 128, 255], [1, 2]])
def test_interior_with_grey_edges_is_refused_with_the_levels(values: list[int]) -> None:
    named = ", ".join(map(str, values))
    with pytest.raises(AnnotationError, match=rf"a\.tif: grey values {named}, but .*threshold.*class_values"):
        interior_classes(np.array(values, np.uint8), "a.tif")


def test_levels_of_all_blocks_together_are_refused_where_one_block_is_not() -> None:
    blocks = [np.array([0, 255], np.uint8), np.array([0, 128], np.uint8)]
    levels = [level for block in blocks for level in grey_levels(block, "a.tif")]
    for block in blocks:
        interior_classes(block, "a.tif")
    with pytest.raises(AnnotationError, match="grey values 0, 128, 255"):
        check_interior_levels(levels, "a.tif")


def test_float_labels_are_refused_with_the_dtype() -> None:
    for annotate in (interior_classes, lambda values, where: class_map(values, CLASSES, where)):
        with pytest.raises(AnnotationError, match=r"a\.tif: labels of dtype float32; allowed are integers"):
            annotate(np.zeros(3, np.float32), "a.tif")


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int64", "uint64"])
def test_classes_are_numbered_in_the_order_of_their_names(dtype: str) -> None:
    found = class_map(np.array([[0, 255], [159, 32]], dtype), CLASSES, "a.png")
    assert found.dtype == np.uint8
    assert found.tolist() == [[0, 1], [255, 0]]
    assert class_names(CLASSES) == ["membrane", "interior"]


def test_classes_of_ids_beyond_float64_are_exact() -> None:
    near = 2**63 + 1
    classes = {"a": [near], "b": [near + 1]}
    assert class_map(np.array([near, near + 1], np.uint64), classes, "a.h5").tolist() == [0, 1]


def test_grey_values_beyond_the_dtype_are_no_error() -> None:
    assert class_map(np.array([0, 1], np.uint8), {"a": [0, -1], "b": [1, 300]}, "a.png").tolist() == [0, 1]


def test_unknown_grey_values_are_refused_with_their_counts() -> None:
    values = np.array([0, 7, 7, 7, 200, 255], np.uint8)
    with pytest.raises(AnnotationError, match=r"a\.png: grey values 7 \(3 times\), 200 \(1 times\) .*`ignore`"):
        class_map(values, CLASSES, "a.png")


def test_many_unknown_grey_values_are_cut_after_ten() -> None:
    with pytest.raises(AnnotationError, match=r"9 \(1 times\), 10 \(1 times\) and 245 more"):
        class_map(np.arange(256, dtype=np.uint8), {"a": [0]}, "a.png")


def test_grey_value_of_two_classes_is_refused_with_both() -> None:
    with pytest.raises(AnnotationError, match="grey value 7 is listed under a and b"):
        class_map(np.zeros(2, np.uint8), {"a": [0, 7], "b": [7]}, "a.png")


@pytest.mark.parametrize("count", [0, 256])
def test_number_of_classes_that_no_index_fits_is_refused(count: int) -> None:
    with pytest.raises(AnnotationError, match=f"names {count} classes; it has to be 1 to 255"):
        class_map(np.zeros(2, np.uint8), {str(i): [i] for i in range(count)}, "a.png")


@given(
    values=hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 5)] * 3), elements=st.sampled_from([0, 32, 159, 191, 255])),
    cut=st.integers(0, 5),
    axis=st.integers(0, 2),
)
@settings(max_examples=50, deadline=None)
def test_any_cut_gives_the_classes_of_the_whole(values: np.ndarray, cut: int, axis: int) -> None:
    parts = np.split(values, [min(cut, values.shape[axis])], axis=axis)
    together = np.concatenate([class_map(part, CLASSES, "a") for part in parts], axis=axis)
    np.testing.assert_array_equal(together, class_map(values, CLASSES, "a"))


def test_annotations_mean_what_their_readme_says(em_data: Path) -> None:
    isbi = first_section(em_data / "isbi2012" / "train-labels.tif")
    np.testing.assert_array_equal(interior_classes(isbi, "isbi"), isbi == 255)
    vnc = first_section(em_data / "vnc" / "stack1" / "labels")
    classes = {"membrane": [0, 32, 64, 96, 128], "interior": [191, 223, 255], "ignore": [159]}
    found = class_map(vnc, classes, "vnc")
    np.testing.assert_array_equal(found == 0, vnc <= 128)
    np.testing.assert_array_equal(found == 255, vnc == 159)
    mitochondria = first_section(em_data / "vnc" / "stack1" / "mitochondria")
    with pytest.raises(AnnotationError, match="threshold grey edges"):
        interior_classes(mitochondria, "mitochondria")


def first_section(path: Path) -> np.ndarray:
    """The first section of a volume."""
    source = open_source(str(path))
    return source.read(Box((0, 0, 0), (1, *source.shape[1:])))
