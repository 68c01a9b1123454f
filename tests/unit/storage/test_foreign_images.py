"""Zarr arrays of other programs: how they are found, and what their metadata say of axes and place."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from unet.storage.foreign_images import open_foreign
from unet.storage.zarr_store import StoreError


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_bare_array_of_others_is_read(tmp_path: Path, zarr_format: int) -> None:
    values = np.random.default_rng(0).integers(0, 60_000, (5, 150, 131), dtype=np.uint16)
    root = zarr.open_group(tmp_path / "o.zarr", mode="w", zarr_format=zarr_format)
    root.create_array("volumes/raw", data=values, chunks=(2, 40, 40))
    found = open_foreign(str(tmp_path / "o.zarr"), "volumes/raw")
    assert (found.shape, found.dtype, found.axes, found.scale_nm) == (values.shape, values.dtype, None, None)
    np.testing.assert_array_equal(found.read((slice(1, 3), slice(0, 50), slice(99, 131))), values[1:3, :50, 99:])


def ome_group(path: Path, version: str, unit: str | None, transforms: list[Any], whole: list[Any] | None = None) -> str:
    """An OME-Zarr image of one level with the given transforms."""
    root = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    root.create_array("s0", data=np.arange(24, dtype=np.uint8).reshape(2, 3, 4), chunks=(1, 3, 4))
    axes = [{"name": name, "type": "space"} | ({"unit": unit} if unit else {}) for name in "zyx"]
    image: dict[str, Any] = {"axes": axes, "datasets": [{"path": "s0", "coordinateTransformations": transforms}]}
    if whole is not None:
        image["coordinateTransformations"] = whole
    attributes = {"multiscales": [{"version": version, **image}]} if version == "0.4" else {"multiscales": [image]}
    root.attrs.update(attributes if version == "0.4" else {"ome": {"version": version, **attributes}})
    return str(path)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(("unit", "nm"), [("nanometer", 1), ("micrometer", 1000), ("angstrom", 0.1)])
def test_scale_and_translation_of_an_ome_zarr_in_nm(tmp_path: Path, version: str, unit: str, nm: float) -> None:
    own = [{"type": "scale", "scale": [5, 2, 1]}, {"type": "translation", "translation": [1, 2, 3]}]
    whole = [{"type": "scale", "scale": [10, 10, 10]}]  # of the whole image: applied after the level's own
    found = open_foreign(ome_group(tmp_path / "o.zarr", version, unit, own, whole))
    assert found.axes == ["z", "y", "x"]
    assert found.scale_nm == pytest.approx((50 * nm, 20 * nm, 10 * nm))
    assert found.translation_nm == pytest.approx((10 * nm, 20 * nm, 30 * nm))
    assert found.read((slice(1, 2), slice(0, 1), slice(0, 4))).tolist() == [[[12, 13, 14, 15]]]


def test_voxel_sizes_in_a_unit_that_is_no_length_are_unknown(tmp_path: Path) -> None:
    own = [{"type": "scale", "scale": [5, 2, 1]}]
    found = open_foreign(ome_group(tmp_path / "o.zarr", "0.4", "pixel", own))
    assert (found.scale_nm, found.translation_nm) == (None, None)
    assert re.search(r"the scale \[5, 2, 1\] is in pixel, pixel, pixel: .* not known", *found.remarks)


@pytest.mark.parametrize(
    ("scale", "nm", "remark"),
    [
        ([50, 4, 4], (50, 4, 4), r"the scale \[50, 4, 4\] has no unit; nanometer was assumed. Set `voxel_size_nm`"),
        ([0.05, 0.004, 0.004], (50, 4, 4), "has no unit; micrometer was assumed"),
        ([1, 1, 1], None, None),  # nobody has set it
        ([5e7, 4e7, 4e7], None, "has no unit: the voxel size is not known"),
    ],
)
def test_a_scale_without_a_unit_is_told_with_the_unit_that_is_assumed(
    tmp_path: Path, scale: list[float], nm: tuple[float, ...] | None, remark: str | None
) -> None:
    found = open_foreign(ome_group(tmp_path / "o.zarr", "0.4", None, [{"type": "scale", "scale": scale}]))
    assert found.scale_nm == (None if nm is None else pytest.approx(nm))
    assert len(found.remarks) == (remark is not None)
    assert remark is None or re.search(remark, found.remarks[0])


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        ([{"type": "scale", "scale": [1, 2]}], "a scale has 2 numbers, but the array has 3 axes"),
        ([{"type": "affine", "affine": [[1, 2, 3]]}], "one is of type affine"),
        ([{"type": "scale", "path": "scales"}], "are not used \\('scale'\\)"),
        ([{"type": "scale", "scale": ["a", 1, 1]}], "could not convert"),
    ],
)
def test_transformations_that_are_not_understood_are_told(tmp_path: Path, transforms: list[Any], message: str) -> None:
    found = open_foreign(ome_group(tmp_path / "o.zarr", "0.5", "nanometer", transforms))
    assert found.scale_nm is None
    assert re.search(message, *found.remarks)


def test_what_is_not_there_is_refused_with_what_is(tmp_path: Path) -> None:
    root = zarr.open_group(tmp_path / "o.zarr", mode="w")
    root.create_array("volumes/raw", shape=(2, 3, 4), chunks=(1, 3, 4), dtype="uint8")
    with pytest.raises(StoreError, match=r"volumes is a group without OME-Zarr.*/volumes/raw \(2, 3, 4\)"):
        open_foreign(str(tmp_path / "o.zarr"), "volumes")
    with pytest.raises(StoreError, match="no Zarr array or group volumes/labels"):
        open_foreign(str(tmp_path / "o.zarr"), "volumes/labels")
    with pytest.raises(StoreError, match="no Zarr array or group"):
        open_foreign(str(tmp_path / "nothing.zarr"))
