"""Volumes as writers lay them out whose packages are not installed here: WEBKNOSSOS (Zarr), pybdv (N5 and HDF5)."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorstore
import zarr

from tests.unit.volumes.readers.reading import SHAPE, volume
from unet.geometry.box import Box
from unet.volumes.readers.open import open_source

SIZE = (40.0, 5.0, 4.0)


def reads(address: Path | str, values: np.ndarray, size: Any) -> None:
    """The source has these voxels and this voxel size."""
    source = open_source(str(address))
    np.testing.assert_array_equal(source.read(Box.of_shape(source.shape)), values)
    assert source.voxel_size_nm == size


@pytest.mark.parametrize("channels", [1, 3])
def test_layers_of_webknossos_in_zarr(tmp_path: Path, channels: int) -> None:
    """Shards of (c, x, y, z), named by `dimension_names`; the multiscales of the layer give the scale of each mag."""
    values = np.stack([volume("uint8") // (c + 1) for c in range(channels)])
    layer = zarr.open_group(tmp_path / "color", mode="w", zarr_format=3)
    stored = values.transpose(0, 3, 2, 1)
    for mag, step in {"1": 1, "2-2-1": 2}.items():
        level = stored[:, ::step, ::step]
        array = layer.create_array(
            mag, shape=level.shape, dtype="uint8", shards=(channels, 64, 64, 32), chunks=(channels, 32, 32, 32),
            dimension_names=list("cxyz"),
        )  # fmt: skip
        array[:] = level
    axes = [{"name": "c", "type": "channel"}, *({"name": a, "type": "space", "unit": "nanometer"} for a in "xyz")]
    levels = [
        {"path": mag, "coordinateTransformations": [{"type": "scale", "scale": [1.0, 4.0 * step, 5.0 * step, 40.0]}]}
        for mag, step in {"1": 1, "2-2-1": 2}.items()
    ]
    layer.attrs["ome"] = {"version": "0.5", "multiscales": [{"name": "color", "axes": axes, "datasets": levels}]}
    box = {"topLeft": [0, 0, 0], "width": SHAPE[2], "height": SHAPE[1], "depth": SHAPE[0]}
    properties = {"dataLayers": [{"name": "color", "dataFormat": "zarr3", "boundingBox": box}]}
    (tmp_path / "datasource-properties.json").write_text(json.dumps(properties))
    expected = values if channels > 1 else values[0]
    reads(tmp_path / "color", expected, SIZE)
    reads(tmp_path / "color" / "1", expected, SIZE)
    reads(tmp_path / "color" / "2-2-1", expected[..., ::2, ::2], (40.0, 10.0, 8.0))


@pytest.mark.parametrize("inner", ["setup0/timepoint0", "setup0/timepoint0/s0"])
def test_n5_of_bigdataviewer(tmp_path: Path, inner: str) -> None:
    path = tmp_path / "a.n5"
    for level, step in enumerate((1, 2)):
        values = volume("uint16")[:, ::step, ::step]
        metadata = {"compression": {"type": "gzip"}, "dataType": "uint16", "dimensions": list(values.shape[::-1])}
        where = {"driver": "file", "path": f"{path}/setup0/timepoint0/s{level}"}
        spec = {"driver": "n5", "kvstore": where, "metadata": {**metadata, "blockSize": [16, 16, 2]}}
        tensorstore.open(spec, create=True).result().write(values.transpose()).result()
        file = path / f"setup0/timepoint0/s{level}/attributes.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "downsamplingFactors": [step, step, 1]}))
    said = {"downsamplingFactors": [[1, 1, 1], [2, 2, 1]], "dataType": "uint16"}
    (path / "attributes.json").write_text('{"n5": "2.0.0"}')
    (path / "setup0/attributes.json").write_text(json.dumps(said))
    (path / "setup0/timepoint0/attributes.json").write_text('{"multiScale": true, "resolution": [4.0, 5.0, 40.0]}')
    reads(f"{path}:/{inner}", volume("uint16"), SIZE)


def test_zarr_v2_of_webknossos_says_its_version_as_text_and_begins_at_its_bounding_box(tmp_path: Path) -> None:
    begin, size = (3, 2, 1), SHAPE[::-1]
    stored = np.zeros((1, *(a + n for a, n in zip(begin, size, strict=True))), np.uint8)
    stored[0, 3:, 2:, 1:] = volume().T
    root = zarr.open_group(tmp_path, mode="w", zarr_format=2)
    layer = root.create_group("color")
    layer.create_array("1", data=stored, chunks=(1, 16, 16, 16))
    axes = [{"name": "c", "type": "channel"}, *({"name": a, "type": "space", "unit": "nanometer"} for a in "xyz")]
    levels = [{"path": "1", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 4.0, 5.0, 40.0]}]}]
    layer.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": levels}]
    for group in (tmp_path, tmp_path / "color"):
        (group / ".zgroup").write_text('{\n    "zarr_format": "2"\n}')
    box = {"topLeft": begin, **dict(zip(("width", "height", "depth"), size, strict=True))}
    properties = {"dataLayers": [{"name": "color", "dataFormat": "zarr", "boundingBox": box}]}
    (tmp_path / "datasource-properties.json").write_text(json.dumps(properties))
    for address in (tmp_path / "color", f"{tmp_path}:/color/1"):
        reads(address, stored[0].T, SIZE)
        assert "write `crop: [[1, 6], [2, 39], [3, 53]]` at this volume" in open_source(str(address)).remarks[0]


BDV_XML = """<SpimData version="0.2"><BasePath type="relative">.</BasePath><SequenceDescription>
<ImageLoader format="bdv.hdf5"><hdf5 type="relative">{name}</hdf5></ImageLoader><ViewSetups><ViewSetup><id>0</id>
<name>em</name><size>{x} {y} {z}</size><voxelSize><unit>micrometer</unit><size>0.004 0.005 0.04</size></voxelSize>
</ViewSetup></ViewSetups></SequenceDescription></SpimData>"""


@pytest.mark.parametrize(("inner", "step", "dtype"), [("0", 1, "uint16"), ("1", 2, "uint16"), ("0", 1, "uint8")])
def test_hdf5_of_bigdataviewer_with_a_pyramid(tmp_path: Path, inner: str, step: int, dtype: str) -> None:
    """As pybdv writes it: chunked and packed levels, their steps in x, y, z beside, sizes of voxels in the XML."""
    values = volume("uint8").astype(dtype)
    with h5py.File(tmp_path / "em.h5", "w") as file:
        for level, by in enumerate((1, 2)):
            coarse = values[:, ::by, ::by]
            stored = coarse.view("int16") if dtype == "uint16" else coarse
            options = {"chunks": (4, 16, 16), "compression": "gzip"}
            file.create_dataset(f"t00000/s00/{level}/cells", data=stored, **options)
        file["s00/resolutions"] = np.array([[1.0, 1, 1], [2, 2, 1]])
        file["s00/subdivisions"] = np.array([[16, 16, 4]] * 2, "int32")
    z, y, x = SHAPE
    (tmp_path / "em.xml").write_text(BDV_XML.format(name="em.h5", x=x, y=y, z=z))
    reads(f"{tmp_path}/em.h5:/t00000/s00/{inner}/cells", values[:, ::step, ::step], (40.0, 5.0 * step, 4.0 * step))
