"""Labels of four voxels, as the usual tools save them: kept to the last bit, or refused with what to write."""

from typing import Any

import numpy as np
import pytest

from tests.unit.volumes.in_memory import InMemory, whole_and_by_voxel
from unet.config.label_kinds import AnnotationError, not_annotated_id
from unet.config.volumes import VolumeConfig
from unet.geometry.box import Box
from unet.volumes.label_conversion import (
    Unlabelled,
    class_indices,
    grey_level_counts,
    label_values,
    one_value_per_voxel,
)
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.source import Source
from unet.volumes.readers.views import Placed

NOBODY = 2**32 - 1


def volume(**settings: Any) -> VolumeConfig:
    """A volume with labels."""
    return VolumeConfig.model_validate({"raw": "raw.tif", "labels": "a.h5", **settings})


def labels(values: Any, dtype: str, **settings: Any) -> Source:
    """Labels of one row of voxels, or of rows of channels."""
    stored = np.array(values, dtype)
    return label_values(InMemory(stored.reshape(*stored.shape[:-1], 1, 1, -1)), volume(**settings))


def ids(values: Any, dtype: str, **settings: Any) -> list[int]:
    """Return the ids that are read, at once and voxel by voxel."""
    return whole_and_by_voxel(labels(values, dtype, **settings))[0, 0].tolist()


@pytest.mark.parametrize(
    ("stored", "kept"),
    [
        ("uint8", "uint32"),
        ("uint16", "uint32"),
        ("int8", "uint32"),
        ("int16", "uint32"),
        ("int32", "uint32"),
        ("int64", "uint64"),
        ("float32", "uint32"),
        ("float64", "uint64"),
    ],
)
def test_ids_of_any_dtype_are_kept(stored: str, kept: str) -> None:
    source = labels([0, 1, 1, 7], stored)
    assert source.dtype == kept
    assert ids([0, 1, 1, 7], stored) == [0, 1, 1, 7]


@pytest.mark.parametrize(
    ("stored", "largest"),
    [("uint8", 255), ("uint32", 2**32 - 2), ("uint64", 2**64 - 2), ("int64", 2**63 - 1), ("float64", 2**53)],
)
def test_the_largest_ids_are_kept_to_the_last_bit(stored: str, largest: int) -> None:
    assert ids([0, largest - 1, largest, 1], stored) == [0, largest - 1, largest, 1]


@pytest.mark.parametrize(
    ("values", "dtype", "listed", "expected"),
    [
        ([-1, 0, 7, 7], "int32", -1, [NOBODY, 0, 7, 7]),
        ([-1, 0, 7, 7], "float32", -1, [NOBODY, 0, 7, 7]),
        ([-1, 65535, 7, 0], "int32", [-1, 65535], [NOBODY, NOBODY, 7, 0]),
        ([0, 65535, 7, 0], "uint16", [65535, 0], [NOBODY, NOBODY, 7, NOBODY]),
        ([2**64 - 1, 2**53, 2**53 + 1, 0], "uint64", 2**64 - 1, [2**64 - 1, 2**53, 2**53 + 1, 0]),
        ([2**32 - 1, 1, 2, 0], "uint32", 2**32 - 1, [NOBODY, 1, 2, 0]),
        ([-1, 1, 2, 0], "int64", -1, [2**64 - 1, 1, 2, 0]),
    ],
)
def test_what_nobody_annotated_is_one_number_whatever_the_file_says(
    values: list[int], dtype: str, listed: Any, expected: list[int]
) -> None:
    assert ids(values, dtype, ignore_id=listed) == expected


@pytest.mark.parametrize(
    ("values", "dtype", "settings", "message"),
    [
        ([-1, -1, 3, -9], "int16", {}, r"-9 \(1 times\), -1 \(2 times\).*\(0, 0, 0\).*`ignore_id: \[-9, -1\]`"),
        ([1, -1, 3, 3], "int64", {}, r"-1 \(1 times\); the first at \(z, y, x\) = \(0, 0, 1\).*`ignore_id: -1`"),
        ([-2, -1, 3, 3], "int8", {"ignore_id": -1}, r"-2 \(1 times\).*`ignore_id: \[-1, -2\]`"),
        ([0, 1, 1.5, 1], "float32", {}, r"value 1\.5 at \(z, y, x\) = \(0, 0, 2\).*whole numbers"),
        ([0, 1, 2**24 + 2, 1], "float32", {}, r"id 16777218 at .*float32 .*up to 16777216.*uint64"),
        ([0, 1, 2**32 - 1, 1], "uint32", {}, r"value 4294967295 at .*\(0, 0, 2\) .*, 1 times.*`ignore_id: 4294967295`"),
        ([0, 1, 2**64 - 1, 1], "uint64", {}, r"`ignore_id: 18446744073709551615`"),
        ([-1, 5, 5, 0], "int16", {"label_kind": "interior"}, r"-1 \(1 times\).*`ignore_id: -1`"),
    ],
)
def test_doubtful_values_are_refused_with_their_place_and_what_to_write(
    values: list[float], dtype: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(AnnotationError, match=message):
        ids(values, dtype, **settings)


def test_not_a_number_is_refused() -> None:
    with pytest.raises(SourceError, match="nan"):
        ids([0, np.nan, 1, 1], "float32")


def test_colours_are_one_id_each_and_black_is_0() -> None:
    red, green, blue = [0, 1, 255, 0], [0, 0, 2, 0], [0, 0, 3, 9]
    assert ids([red, green, blue], "uint8") == [0, 1 << 16, 255 << 16 | 2 << 8 | 3, 9]
    assert ids([red, green, blue, [255, 255, 0, 1]], "uint8") == [0, 1 << 16, 0, 9]
    [remark] = labels([red, green, blue], "uint8").remarks
    assert "red x 65536 + green x 256 + blue" in remark


@pytest.mark.parametrize(("channels", "dtype"), [(2, "uint8"), (3, "uint16"), (5, "uint8")])
def test_other_channels_are_refused(channels: int, dtype: str) -> None:
    with pytest.raises(SourceError, match=rf"{channels} channels of {dtype}.*channels: \[0\]"):
        one_value_per_voxel(InMemory(np.zeros((channels, 1, 2, 2), dtype)))


def test_floats_and_values_that_cannot_occur_are_told() -> None:
    assert "float32 are read as ids" in labels([0, 1], "float32").remarks[0]
    [remark] = labels([0, 1], "uint16", ignore_id=-1).remarks
    assert "-1 has become 65535" in remark
    assert labels([0, 1], "int16", ignore_id=-1).remarks == []


def test_voxels_beyond_labels_of_a_part_are_not_annotated() -> None:
    part = Placed(labels([5, 0], "uint8"), (0, 0, 1), (1, 1, 4))
    assert whole_and_by_voxel(Unlabelled(part)).ravel().tolist() == [NOBODY, 5, 0, NOBODY]


@pytest.mark.parametrize(
    ("values", "dtype", "settings", "expected"),
    [
        ([0, 255, 255, 0], "uint8", {"label_kind": "interior"}, [0, 1, 1, 0]),
        ([0.0, 1.0, 1.0, 0.0], "float32", {"label_kind": "interior"}, [0, 1, 1, 0]),
        ([-1, 255, 0, 0], "int16", {"label_kind": "interior", "ignore_id": -1}, [255, 1, 0, 0]),
        ([127, 255, 0, 0], "uint8", {"label_kind": "interior", "ignore_id": [127]}, [255, 1, 0, 0]),
        (
            [-1, -2, 7, 9],
            "int8",
            {"label_kind": "classes", "class_values": {"a": [-2, 7], "b": 9, "ignore": -1}},
            [255, 0, 0, 1],
        ),
        (
            [2**32 - 1, 1, 0, 2],
            "uint32",
            {"label_kind": "classes", "class_values": {"a": [0, 1], "b": 2, "ignore": 2**32 - 1}},
            [255, 0, 0, 1],
        ),
    ],
)
def test_classes_say_255_where_nobody_annotated(
    values: list[float], dtype: str, settings: dict[str, Any], expected: list[int]
) -> None:
    given = volume(**settings)
    read = whole_and_by_voxel(labels(values, dtype, **settings))
    assert class_indices(read, given, "a.h5")[0, 0].tolist() == expected
    assert class_indices(read, given, "a.h5").dtype == np.uint8


def test_grey_levels_are_counted_without_what_nobody_annotated() -> None:
    read = labels([-1, 255, 0, 0], "int16", label_kind="interior", ignore_id=-1).read(Box((0, 0, 0), (1, 1, 4)))
    assert grey_level_counts(read, "a.h5") == {"0": 2, "255": 1}


def test_grey_edges_are_still_refused() -> None:
    read = labels([0, 128, 255, 0], "uint8", label_kind="interior").read(Box((0, 0, 0), (1, 1, 4)))
    with pytest.raises(AnnotationError, match="0, 128, 255"):
        class_indices(read, volume(label_kind="interior"), "a.h5")


def test_a_probe_finds_the_first_doubtful_value() -> None:
    with pytest.raises(AnnotationError, match="whole numbers"):
        Placed(labels([0.5, 1], "float32"), (0, 0, 1), (1, 1, 4)).probe(Box((0, 0, 0), (1, 1, 4)))


def test_the_convention_is_the_largest_number() -> None:
    assert [not_annotated_id(dtype) for dtype in ("uint32", "uint64")] == [2**32 - 1, 2**64 - 1]
