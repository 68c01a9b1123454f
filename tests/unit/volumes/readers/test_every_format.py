"""One suite that every reader passes, with the files of every writer of `writers.WRITERS`."""

import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

from tests.unit.volumes.readers.writers import WRITERS, Stored, Writer
from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import FORMATS, open_source
from unet.volumes.readers.source import Source

SHAPE = (5, 18, 23)


def volume(dtype: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Noise over the whole range of the dtype."""
    rng = np.random.default_rng(0)
    if dtype == "float32":
        return rng.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def boxes(shape: tuple[int, ...], count: int = 8) -> list[Box]:
    """The whole volume and random boxes inside it."""
    rng = np.random.default_rng(1)
    starts = [tuple(int(rng.integers(0, n)) for n in shape) for _ in range(count)]
    stops = [tuple(int(rng.integers(a + 1, n + 1)) for a, n in zip(start, shape, strict=True)) for start in starts]
    return [Box.of_shape(shape), *(Box(a, b) for a, b in zip(starts, stops, strict=True))]


def assert_reads(source: Source, expected: np.ndarray) -> None:
    """The source has the shape, dtype and, in every box, the voxels of an array."""
    source.check(Box.of_shape(source.shape))
    assert source.shape == expected.shape
    assert source.channels == 1
    assert source.dtype == expected.dtype.newbyteorder("=")
    for box in boxes(expected.shape):
        found = source.read(box)
        assert found.dtype.isnative
        np.testing.assert_array_equal(found, expected[box.slices])
    assert not sum(one.missing for one in source.missing_chunks(Box.of_shape(source.shape)))


def cases(*of: Callable[[Writer], Any]) -> list[Any]:
    """Writers, each with the values that functions of it return, as parameters of a test."""
    found: list[Any] = [(name,) for name in WRITERS]
    for values in of:
        found = [(*one, value) for one in found for value in values(WRITERS[one[0]])]
    return [pytest.param(*one, id=", ".join(map(str, one))) for one in found]


@pytest.fixture(autouse=True)
def _unread_today(request: pytest.FixtureRequest) -> None:
    """Tests of which the table of writers says that a reader does not pass them."""
    name = request.node.callspec.params.get("name") if hasattr(request.node, "callspec") else None
    test = request.node.originalname
    if name is not None and (reason := WRITERS[name].unread.get(test)):
        request.applymarker(pytest.mark.xfail(reason=reason, strict=False))


def small(writer: Writer) -> str:
    """The dtype of tests that need one: the smallest of two bytes, if there is one."""
    return next((dtype for dtype in writer.dtypes if np.dtype(dtype).itemsize == 2), writer.dtypes[0])


def written(folder: Path, name: str, shape: tuple[int, ...] = SHAPE, **stored: Any) -> tuple[str, np.ndarray]:
    """The address of a volume written with usual settings, and its values."""
    writer = WRITERS[name]
    values = volume(small(writer), shape)
    return writer.write(folder, values, Stored(**stored)), values


def test_every_format_has_a_writer() -> None:
    assert {writer.format for writer in WRITERS.values()} <= {one.name for one in FORMATS}
    assert {one.name for one in FORMATS if one.package is not None} <= {writer.format for writer in WRITERS.values()}


@pytest.mark.parametrize(("name", "dtype"), cases(lambda writer: writer.dtypes))
def test_boxes_read_as_written(tmp_path: Path, name: str, dtype: str) -> None:
    values = volume(dtype)
    assert_reads(open_source(WRITERS[name].write(tmp_path, values, Stored())), values)


@pytest.mark.parametrize(("name", "axes"), cases(lambda writer: writer.axes[1:]))
def test_axes_that_the_file_names_are_followed(tmp_path: Path, name: str, axes: str) -> None:
    address, values = written(tmp_path, name, axes=axes, voxel_size_nm=(40.0, 5.0, 4.0))
    source = open_source(address)
    assert_reads(source, values)
    assert source.voxel_size_nm == pytest.approx((40.0, 5.0, 4.0), rel=1e-3)


@pytest.mark.parametrize(("name", "dtype"), cases(lambda w: [d for d in w.dtypes if w.big_endian]))
def test_big_endian_reads_as_written(tmp_path: Path, name: str, dtype: str) -> None:
    values = volume(dtype)
    assert_reads(open_source(WRITERS[name].write(tmp_path, values, Stored(byteorder=">"))), values)


@pytest.mark.parametrize("name", [name for name, writer in WRITERS.items() if writer.voxel_size])
def test_the_voxel_size_is_read(tmp_path: Path, name: str) -> None:
    address, _ = written(tmp_path, name, voxel_size_nm=(40.0, 5.0, 4.0))
    source = open_source(address)
    assert source.voxel_size_nm == pytest.approx((40.0, 5.0, 4.0), rel=1e-3)
    assert source.voxel_size_from


@pytest.mark.parametrize("name", [name for name, writer in WRITERS.items() if writer.offset])
def test_the_offset_is_read(tmp_path: Path, name: str) -> None:
    address, values = written(tmp_path, name, voxel_size_nm=(40.0, 5.0, 4.0), offset_nm=(80.0, 50.0, 12.0))
    source = open_source(address)
    assert source.offset_nm == pytest.approx((80.0, 50.0, 12.0), rel=1e-3)
    assert_reads(source, values)


SMALLEST = [(1, 1, 1), (1, 9, 7), (2, 1, 9), (3, 33, 2)]


@pytest.mark.parametrize(("name", "shape"), cases(lambda w: [*SMALLEST, *([(4, 1, 1)] if w.names_axes else [])]))
def test_the_smallest_volumes_are_read(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    address, values = written(tmp_path, name, shape)
    assert_reads(open_source(address), values)


@pytest.mark.parametrize("name", [name for name, writer in WRITERS.items() if writer.overrules])
def test_axes_of_the_user_overrule_the_file(tmp_path: Path, name: str) -> None:
    address, values = written(tmp_path, name)
    overruled = open_source(SourceConfig(path=address, axes=WRITERS[name].overrules))
    assert_reads(overruled, values.transpose())
    assert "axes" in overruled.axes_from


@pytest.mark.parametrize("name", WRITERS)
def test_a_source_travels_to_another_process(tmp_path: Path, name: str) -> None:
    address, values = written(tmp_path, name)
    source = open_source(address)
    source.read(Box((0, 0, 0), (1, 1, 1)))
    assert_reads(pickle.loads(pickle.dumps(source)), values)


@pytest.mark.parametrize("name", WRITERS)
def test_threads_read_different_boxes_at_once(tmp_path: Path, name: str) -> None:
    address, values = written(tmp_path, name)
    source = open_source(address)
    wanted = boxes(SHAPE, 24)
    with ThreadPoolExecutor(4) as pool:
        for box, found in zip(wanted, pool.map(source.read, wanted), strict=True):
            np.testing.assert_array_equal(found, values[box.slices])


def files_below(folder: Path) -> list[Path]:
    """All files of a source."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", WRITERS)
def test_a_change_of_any_file_changes_the_state(tmp_path: Path, name: str) -> None:
    address, _ = written(tmp_path, name, voxel_size_nm=(40.0, 5.0, 4.0))
    box = Box.of_shape(SHAPE)
    before = open_source(address).state(box)
    assert sorted(map(str, open_source(address).listed(box))) == sorted(map(str, before))
    for path in files_below(tmp_path):
        found = path.stat()
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1_000_000_000))
        assert open_source(address).state(box) != before, path
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert open_source(address).state(box) == before


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_cut_short_never_gives_other_voxels(tmp_path: Path, name: str) -> None:
    """An error, the same voxels (nothing of them was cut off), or chunks that are counted as missing."""
    address, values = written(tmp_path, name, voxel_size_nm=(40.0, 5.0, 4.0))
    box, refused = Box.of_shape(SHAPE), []
    for path in files_below(tmp_path):
        content = path.read_bytes()
        for tenth in range(10):
            path.write_bytes(content[: len(content) * tenth // 10])
            try:
                source = open_source(address)
                source.check(box)
                found = source.read(source_box := Box.of_shape(source.shape))
            except SourceError as error:
                refused.append(str(error))
                continue
            if not sum(one.missing for one in source.missing_chunks(source_box)):
                np.testing.assert_array_equal(found, values, f"{path.name} cut to {tenth} tenths")
        path.write_bytes(content)
    assert refused
    assert [message for message in refused if str(tmp_path) not in message] == []


@pytest.mark.parametrize("kind", ["h5", "zarr"])
@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({"scale_factor": 0.5, "add_offset": 3.0}, "values mean 0.5 x stored + 3; stored ones are read"),
        ({"add_offset": -7}, "values mean 1 x stored + -7; stored"),
        ({"scale_factor": 1.0}, None),
        ({"scale_factor": "a"}, None),
        ({}, None),
    ],
)
def test_packed_values_of_netcdf_are_told(
    tmp_path: Path, kind: str, attributes: dict[str, Any], told: str | None
) -> None:
    values = volume("uint8")
    if kind == "h5":
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["raw"] = values
            file["raw"].attrs.update(attributes)
    else:
        zarr.create_array(tmp_path / "a.zarr", data=values, attributes=attributes)
    source = open_source(str(tmp_path / f"a.{kind}"))
    np.testing.assert_array_equal(source.read(Box.of_shape(source.shape)), values)
    assert any("stored ones are read" in remark for remark in source.remarks) == (told is not None)
    assert (told or "") in " ".join(source.remarks)
