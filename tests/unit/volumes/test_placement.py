"""Labels of a part lie where offsets, numbers and settings say; several files make one annotation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.unit.volumes.in_memory import InMemory, whole_and_by_voxel
from unet.config.label_kinds import AnnotationError
from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.volumes.label_conversion import LabelValues
from unet.volumes.placement import Frame, Placement, placed
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_source
from unet.volumes.readers.views import Flipped
from unet.volumes.several_labels import SeveralLabels

SIZE = (50.0, 4.0, 4.0)


def raw(sections: int = 5, numbers: Sequence[int] | None = None) -> Frame:
    return Frame(InMemory(np.zeros((sections, 1, 2), np.uint8), numbers, "raw"), SIZE)


def sections_of(ids: Sequence[int], dtype: str = "uint8") -> np.ndarray:
    """One section of 1 x 2 voxels for each id."""
    return np.repeat(np.array(ids, dtype), 2).reshape(-1, 1, 2)


def lies_at(frame: Frame, source: InMemory, **settings: Any) -> list[int]:
    """The id of each section of raw, 0 without labels."""
    found = placed(frame, SourceConfig(path="labels", **settings), source)
    values = whole_and_by_voxel(found.source)
    held = found.source.covers(Box.of_shape(found.source.shape))
    boxes = np.zeros(values.shape, bool)
    for box in found.boxes:
        boxes[box.slices] = True
    np.testing.assert_array_equal(boxes, np.ones_like(boxes) if held is None else held)
    return values[:, 0, 0].tolist()


@pytest.mark.parametrize(
    ("of_raw", "numbers", "settings", "expected"),
    [
        ([8, 9, 10, 11, 12], [9, 12], {}, [0, 1, 0, 0, 2]),
        ([8, 9, 10, 11, 12], [9, 12], {"first_number": 9}, [1, 0, 0, 2, 0]),
        ([1, 2, 5, 6, 7], [5, 7], {}, [0, 0, 1, 0, 2]),
        (None, [1, 3], {"first_number": 0}, [0, 1, 0, 2, 0]),
        (None, [1, 3], {"first_number": 1}, [1, 0, 2, 0, 0]),
        ([8, 9, 10, 11, 12], [9], {}, [0, 1, 0, 0, 0]),
        (None, [4, 7], {"offset": [3, 0, 0]}, [0, 0, 0, 1, 2]),
    ],
)
def test_sections_of_a_folder_lie_at_their_numbers(
    of_raw: list[int] | None, numbers: list[int], settings: dict[str, Any], expected: list[int]
) -> None:
    labels = InMemory(sections_of(range(1, len(numbers) + 1)), numbers, "labels")
    assert lies_at(raw(numbers=of_raw), labels, **settings) == expected
    assert "lies at" in labels.remarks[0] or "placed by the numbers in their names" in labels.remarks[0]


@pytest.mark.parametrize(
    ("of_raw", "numbers", "settings", "message"),
    [
        (None, [1, 3], {}, r"numbers 1 to 3, but raw has 5 sections without numbers.*`first_number: 0`.*: 1`"),
        ([8, 9, 10, 11, 12], [3, 9], {}, r"number 3 in the names of its 2 sections, but raw has numbers 8 to 12"),
        (None, [1, 9], {"first_number": 1}, r"`first_number: 1`, section 9 is none of the 5 sections"),
        (None, None, {"first_number": 1}, r"`first_number: 1` is for a folder.*`offset: \[z, y, x\]`"),
        (None, None, {}, r"shape \(2, 1, 2\), but raw has shape \(5, 1, 2\).*`offset: \[z, y, x\]`"),
        (None, [1, 3], {"offset": [4, 0, 0]}, r"reaches beyond the volume"),
    ],
)
def test_no_place_is_guessed(
    of_raw: list[int] | None, numbers: list[int] | None, settings: dict[str, Any], message: str
) -> None:
    labels = InMemory(sections_of([1, 2]), numbers, "labels")
    with pytest.raises(SourceError, match=message):
        lies_at(raw(numbers=of_raw), labels, **settings)


def test_flipped_sections_have_no_numbers() -> None:
    labels = Flipped(InMemory(sections_of([1, 2]), [9, 12], "labels"), ["z"])
    with pytest.raises(SourceError, match=r"shape \(2, 1, 2\), but raw"):
        placed(raw(numbers=[8, 9, 10, 11, 12]), SourceConfig(path="labels", flip=["z"]), labels)


def test_as_many_sections_of_other_numbers_are_told() -> None:
    labels = InMemory(sections_of([1, 2, 3, 4, 5]), [1, 2, 3, 4, 5], "labels")
    assert lies_at(raw(numbers=[0, 1, 2, 3, 4]), labels) == [1, 2, 3, 4, 5]
    assert "numbers 1 to 5, and those of raw 0 to 4; they are taken in their order" in labels.remarks[0]


@pytest.mark.parametrize(
    ("of_raw", "numbers", "message"),
    [
        ([8, 9, 10, 11, 12], [0, 1, 2, 3, 5], r"numbers 0 to 5, and those of raw 8 to 12, with other gaps"),
        ([3, 4, 5, 6, 7], [5, 6, 7, 8, 9], r"numbers 5 to 9, and those of raw 3 to 7.*`first_number`.* \(5\)"),
        ([2, 3, 4, 5, 6], [1, 2, 3, 4, 5], r"numbers 1 to 5, and those of raw 2 to 6"),
    ],
)
def test_as_many_sections_whose_numbers_mean_others_are_refused(
    of_raw: list[int], numbers: list[int], message: str
) -> None:
    labels = InMemory(sections_of([1, 2, 3, 4, 5]), numbers, "labels")
    with pytest.raises(SourceError, match=message):
        lies_at(raw(numbers=of_raw), labels)


def test_as_many_sections_are_placed_by_the_number_of_the_first() -> None:
    labels = InMemory(sections_of([1, 2, 3, 4, 5]), [5, 6, 7, 8, 9], "labels")
    assert lies_at(raw(numbers=[3, 4, 5, 6, 7]), labels, first_number=5) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("of_raw", [None, [0, 1, 2, 3, 4], [8, 9, 10, 11, 12]])
@pytest.mark.parametrize("settings", [{}, {"flip": ["z"]}, {"offset": (0, 0, 0)}])
def test_a_gap_in_the_numbers_is_refused_whatever_raw_is(
    tmp_path: Path, of_raw: list[int] | None, settings: dict[str, Any]
) -> None:
    for number in (0, 1, 2, 4, 5):
        tifffile.imwrite(tmp_path / f"s{number}.tif", np.zeros((1, 2), np.uint8))
    given = SourceConfig(path=str(tmp_path), **settings)
    with pytest.raises(SourceError, match=r"of which numbers 3 are missing.*`first_number`"):
        placed(raw(numbers=of_raw), given, open_source(given))


def several(*given: tuple[int, Any, str], distinct: bool = True) -> SeveralLabels:
    """Labels in three sections of 1 x 2 voxels: (first section, ids of its sections, dtype) of each file."""
    placements: list[Placement] = []
    for number, (first, values, dtype) in enumerate(given):
        file = InMemory(sections_of(values, dtype), name=f"{number}.h5")
        ids = LabelValues(file, (9,), "ids" if distinct else "classes")
        placements.append(placed(raw(3), SourceConfig(path=file.address, offset=(first, 0, 0)), ids))
    return SeveralLabels(placements, distinct)


def test_equal_ids_of_two_files_are_two_objects() -> None:
    found = whole_and_by_voxel(several((0, [7, 9], "uint8"), (2, [7], "int16")))
    assert found.dtype == np.uint64
    assert found[:, 0, 0].tolist() == [7, 2**64 - 1, 7 + 2**32]


def test_ids_of_64_bits_have_more_room() -> None:
    found = whole_and_by_voxel(several((0, [7], "uint64"), (1, [720575940621039145], "uint64"), (2, [0], "uint8")))
    assert found[:, 0, 0].tolist() == [7, 720575940621039145 + 2**60, 0]
    with pytest.raises(AnnotationError, match=rf"1\.h5: id {2**60} in box .* below {2**60}"):
        whole_and_by_voxel(several((0, [7], "uint8"), (1, [2**60], "uint64")))


def test_equal_values_of_classes_keep_their_meaning() -> None:
    found = whole_and_by_voxel(several((0, [7], "uint8"), (2, [7], "int16"), distinct=False))
    assert found[:, 0, 0].tolist() == [7, 0, 7]
    held = several((0, [7], "uint8"), (2, [7], "uint8")).covers(Box((0, 0, 0), (3, 1, 2)))
    assert held is not None
    assert held[:, 0, 0].tolist() == [True, False, True]


def test_files_of_the_same_voxels_are_refused_with_the_box() -> None:
    with pytest.raises(SourceError, match=r"0\.h5 and 1\.h5 both hold labels of the voxels 1:2,0:1,0:2"):
        several((0, [1, 2], "uint8"), (1, [1, 2], "uint8"))
