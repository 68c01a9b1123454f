"""The meaning of labels, guessed from their values: on drawn sections, and on real data where it is there."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from unet.config.source import SourceConfig
from unet.run.inspection.inspection import Inspection, inspect_paths
from unet.run.inspection.label_guess import NotLabelsError, guess_labels, looks_like
from unet.training.synthetic import synthesise

RAW, LABELS = synthesise(sections=2, size=96, seed=1)


def cells(ids: bool = True) -> np.ndarray:
    """Two sections of 6 x 6 square cells with membranes of 2 px between them."""
    number = np.arange(60) // 10
    grid = 1 + number[:, None] * 6 + number
    line = np.arange(60) % 10 < 2
    grid[line[:, None] | line] = 0
    return np.stack([grid, grid]) if ids else np.stack([grid > 0] * 2).astype(np.int64)


def jpeg_of(membranes: np.ndarray) -> np.ndarray:
    """Labels of two values after JPEG, which has changed some values at edges."""
    stored = [imagecodecs.jpeg_encode(255 * section.astype(np.uint8), level=90) for section in membranes]
    return np.stack([imagecodecs.jpeg_decode(one) for one in stored])


def test_grey_values_with_noise_are_intensities_and_flat_ones_are_labels() -> None:
    raw, labels = synthesise(sections=4, size=96, seed=1)
    assert looks_like(raw)[0] == "raw"
    assert looks_like(labels.astype(np.uint16))[0] == "labels"
    assert looks_like(cells(ids=False).astype(np.uint8)) == ("labels", "it has 2 different values")
    assert looks_like(np.random.default_rng(0).random((1, 9, 9)).astype(np.float32)) == (
        "raw",
        "its values have fractions",
    )


def test_blank_surroundings_do_not_make_intensities_flat() -> None:
    raw = np.zeros((1, 400, 400), np.uint8)
    raw[:, 150:250, 150:250] = np.random.default_rng(0).normal(128, 30, (100, 100)).clip(0, 255)
    assert looks_like(raw)[0] == "raw"


def test_two_values_are_membrane_and_interior() -> None:
    guess = guess_labels(255 * cells(ids=False).astype(np.uint8))
    assert (guess.kind, guess.class_values, guess.warnings) == ("interior", {}, ())
    assert guess.foreground == pytest.approx(0.64)


def test_white_membranes_are_classes_since_in_interior_0_is_membrane() -> None:
    guess = guess_labels((1 - cells(ids=False)).astype(np.uint8))
    assert (guess.kind, guess.class_values) == ("classes", {"membrane": 1, "interior": 0})


def test_two_values_without_0_are_classes() -> None:
    guess = guess_labels(np.where(cells() > 0, 2, 1).astype(np.uint8))
    assert (guess.kind, guess.class_values) == ("classes", {"membrane": 1, "interior": 2})


def test_ids_in_one_piece_are_instances() -> None:
    guess = guess_labels(cells().astype(np.uint16))
    assert (guess.kind, guess.not_annotated) == ("instances", ())
    assert "36 ids in the sample, 100% of them in one piece per section" in guess.why


def test_few_ids_in_one_piece_are_instances_too() -> None:
    labels = np.zeros((1, 30, 30), np.uint8)
    labels[:, 2:10, 2:10], labels[:, 2:10, 15:25], labels[:, 15:25, 5:20] = 1, 2, 3
    assert guess_labels(labels).kind == "instances"


def test_where_ids_touch_0_is_not_annotated() -> None:
    labels = np.repeat(np.repeat(np.arange(1, 37).reshape(1, 6, 6), 10, axis=1), 10, axis=2)
    assert guess_labels(labels).not_annotated == ()
    labels[:, :3, :3] = 0
    assert guess_labels(labels).not_annotated == (0,)


def test_the_largest_number_of_a_type_is_not_annotated() -> None:
    labels = cells().astype(np.uint16)
    labels[:, :, 50:] = 65535
    assert guess_labels(labels).not_annotated == (65535,)


def test_a_few_values_in_many_pieces_are_classes_and_the_most_frequent_is_the_last() -> None:
    labels = np.where(cells() > 0, 200, 0)
    labels[:, 4:8:2, 4:8:2], labels[:, 14:58:10, 15:57:10], labels[:, 16:58:10, 15:57:10] = 50, 50, 90
    guess = guess_labels(labels.astype(np.uint8))
    assert (guess.kind, list(guess.class_values.values())) == ("classes", [0, 50, 90, 200])
    assert "rename them" in guess.warnings[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.linspace(0, 1, 400, dtype=np.float32).reshape(1, 20, 20), "fractions"),
        (np.zeros((1, 20, 20), np.uint8), "all sampled voxels are 0"),
    ],
)
def test_what_is_no_annotation_is_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(NotLabelsError, match=message):
        guess_labels(values)


@pytest.mark.parametrize(
    ("values", "role"),
    [
        (RAW >> 4, "raw"),  # 16 grey values of a camera of 4 bits
        (RAW.astype(np.int32), "raw"),
        (RAW / 255.0, "raw"),
        (jpeg_of(LABELS > 0), "labels"),
    ],
)
def test_noise_is_no_labels_whatever_its_type(values: np.ndarray, role: str) -> None:
    assert looks_like(values)[0] == role


def test_two_values_in_one_piece_each_are_two_ids_and_told_to_be() -> None:
    values = np.ones((2, 8, 9), np.uint8)
    values[..., 4:] = 2
    guess = guess_labels(values)
    assert (guess.kind, guess.class_values) == ("instances", {})
    assert "if one of them is membrane, set label_kind: classes" in guess.warnings[0]


def test_the_value_that_divides_the_other_is_membrane_although_neither_is_0() -> None:
    membrane = cells() == 0
    assert guess_labels(np.where(membrane, 1, 2)).class_values == {"membrane": 1, "interior": 2}
    assert guess_labels(np.where(membrane, 2, 1)).class_values == {"membrane": 2, "interior": 1}
    assert guess_labels(np.where(membrane, 1, 2)).warnings == ()


def test_values_of_voxels_that_nobody_annotated_are_left_out() -> None:
    ids = cells().astype(np.int64)
    ids[:, :9] = -1
    found = guess_labels(ids, (-1,))
    assert (found.kind, found.not_annotated) == ("instances", (-1,))
    membrane = np.where(ids > 0, 1, np.minimum(ids, 0))
    found = guess_labels(membrane, (-1,))
    assert (found.kind, found.not_annotated) == ("interior", (-1,))


def test_mostly_0_beside_strokes_may_be_not_annotated() -> None:
    strokes = np.zeros((1, 60, 60), np.uint8)
    for row, value in ((5, 1), (15, 2), (25, 1), (35, 2), (45, 1)):
        strokes[:, row, 10:50] = value
    guess = guess_labels(strokes)
    assert guess.kind == "classes"
    assert "0 fills 94%: if nobody annotated these voxels, rename value_0 to ignore" in guess.warnings[-1]


@pytest.mark.parametrize("value", [128, 255])
def test_a_value_in_one_piece_beside_many_pieces_may_be_not_annotated(value: int) -> None:
    classes = np.where(cells() > 0, 1, 0).astype(np.uint8)
    classes[:, :13] = value
    guess = guess_labels(classes)
    assert guess.kind == "classes"
    assert f"rename value_{value} to ignore" in guess.warnings[-1]


def test_colours_that_are_blended_at_edges_are_refused() -> None:
    table = np.random.default_rng(0).integers(30, 255, (int(cells().max()) + 1, 3))
    colours = table[cells()]
    blended = (colours + np.roll(colours, 1, axis=2)) // 2
    values = (blended[..., 0] << 16) + (blended[..., 1] << 8) + blended[..., 2]
    with pytest.raises(NotLabelsError, match="colours are blended at edges: save the annotation without smoothing"):
        guess_labels(values, colours=True)


def test_whole_numbers_stored_as_floats_are_labels() -> None:
    assert guess_labels(cells().astype(np.float32)).kind == "instances"


def inspected(folder: Path, *paths: str) -> Inspection:
    return inspect_paths([(SourceConfig(path=f"{folder}/{path}"), None) for path in paths], (50.0, 4.0, 4.0))


@pytest.mark.parametrize(
    ("raw", "labels", "kind", "ignored"),
    [
        ("isbi2012/train-volume.tif", "isbi2012/train-labels.tif", "interior", ()),
        ("fib25/train.h5:/volumes/raw", "fib25/train.h5:/volumes/labels/neuron_ids", "instances", (0,)),
        ("vnc/stack1/raw", "vnc/stack1/labels", "classes", ()),
        ("vnc/stack1/raw", "vnc/stack1/membranes", "classes", ()),
        ("nuclei/img2d.tif", "nuclei/mask2d.tif", "instances", ()),
    ],
)
def test_labels_of_data_sets_are_understood(
    raw: str, labels: str, kind: str, ignored: tuple[int, ...], em_data: Path
) -> None:
    found = inspected(em_data, labels, raw)
    assert found.problems == []
    assert found.inputs is not None
    assert found.inputs.guess is not None
    assert (found.inputs.raw.path, found.inputs.guess.kind, found.inputs.guess.not_annotated) == (
        f"{em_data}/{raw}",
        kind,
        ignored,
    )
