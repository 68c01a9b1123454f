"""Arrays that are read on demand, as zarr itself reads them over HTTP-like keys."""

from typing import Any

import numpy as np
import pytest
import zarr

from unet.geometry.box import Box
from unet.run.view.server import Mount
from unet.run.view.virtual_zarr import virtual_labels


def fetched(mount: Mount, folder: Any, keys: list[str]) -> zarr.Array:
    """Write the content of a mount to files, and open it with zarr."""
    for key in keys:
        content = mount(key)
        assert content is not None, key
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(content.read(0, content.size))
    array = zarr.open_group(folder, mode="r")["0"]
    assert isinstance(array, zarr.Array)
    return array


@pytest.mark.parametrize("dtype", ["uint8", "int32", "uint64", "int64"])
def test_zarr_reads_the_same_voxels(dtype: str, tmp_path: Any) -> None:
    values = np.random.default_rng(0).integers(0, 100, (3, 7, 5)).astype(dtype)
    values[0, 0, 0] = np.iinfo(dtype).max
    read: list[Box] = []

    def take(box: Box) -> np.ndarray:
        read.append(box)
        return values[box.slices]

    mount = virtual_labels("v", (3, 7, 5), values.dtype, (2, 4, 4), (40.0, 4.0, 8.0), (80.0, 0.0, 4.0), take)
    chunks = [f"0/c/{z}/{y}/{x}" for z in range(2) for y in range(2) for x in range(2)]
    array = fetched(mount, tmp_path, ["zarr.json", "0/zarr.json", *chunks])
    np.testing.assert_array_equal(np.asarray(array[:]), values)
    assert array.dtype == np.dtype(dtype.replace("int", "uint").replace("uu", "u"))
    assert len(read) == 8
    assert all(box.clipped((3, 7, 5)) == box for box in read)
    ome: Any = zarr.open_group(tmp_path, mode="r").attrs["ome"]
    [transforms] = [one["coordinateTransformations"] for one in ome["multiscales"][0]["datasets"]]
    assert transforms[0]["scale"] == [40, 4, 8]
    assert transforms[1]["translation"] == [80, 0, 4]


OTHERS = ["0/c/2/0/0", "0/c/0/0", "0/c/-1/0/0", "1/c/0/0/0", ".zarray", "0/c/0/0/0/", "0/c/a/0/0"]


@pytest.mark.parametrize("key", OTHERS)
def test_other_keys_have_no_content(key: str) -> None:
    values, place = np.zeros((3, 7, 5), np.uint8), ((1, 1, 1), (0, 0, 0))
    mount = virtual_labels("v", (3, 7, 5), values.dtype, (2, 4, 4), *place, lambda box: values[box.slices])
    assert mount(key) is None
