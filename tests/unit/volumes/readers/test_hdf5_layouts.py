"""Layouts of HDF5 files: BigDataViewer, Imaris, Velox, and MATLAB's old files."""

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.unit.volumes.readers.reading import SHAPE, assert_reads, refusal, volume
from unet.geometry.box import Box
from unet.volumes.readers.open import open_source

WHOLE = Box.of_shape(SHAPE)


XML = """<SpimData><SequenceDescription><ViewSetups><ViewSetup><id>0</id><voxelSize><unit>micrometer</unit>
<size>0.004 0.008 0.05</size></voxelSize></ViewSetup></ViewSetups></SequenceDescription></SpimData>"""


def bigdataviewer(path: Path, values: np.ndarray, setups: int = 1) -> None:
    with h5py.File(path, "w") as file:
        for setup in range(setups):
            for level, step in enumerate((1, 2)):
                file[f"t00000/s{setup:02d}/{level}/cells"] = values[:, ::step, ::step].view(np.int16)
            file[f"s{setup:02d}/resolutions"] = np.array([[1, 1, 1], [2, 2, 1]], float)
            file[f"s{setup:02d}/subdivisions"] = np.full((2, 3), 16, np.int32)


def test_bigdataviewer_means_uint16_and_has_its_voxel_size_beside(tmp_path: Path) -> None:
    values = volume("uint16")
    bigdataviewer(tmp_path / "a.h5", values)
    assert_reads(f"{tmp_path}/a.h5:/t00000/s00/0/cells", values)
    source = open_source(f"{tmp_path}/a.h5")
    assert source.voxel_size_nm is None
    assert "they are read as uint16" in "\n".join(source.remarks)
    (tmp_path / "a.xml").write_text(XML)
    assert open_source(f"{tmp_path}/a.h5:t00000/s00/0/cells").voxel_size_nm == pytest.approx((50, 8, 4))
    assert open_source(f"{tmp_path}/a.h5:t00000/s00/1/cells").voxel_size_nm == pytest.approx((50, 16, 8))
    (tmp_path / "a.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]>' + XML)
    assert open_source(f"{tmp_path}/a.h5").voxel_size_nm is None


def test_bigdataviewer_with_a_type_is_read_as_it_says(tmp_path: Path) -> None:
    bigdataviewer(tmp_path / "a.h5", volume("uint16"))
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["s00"].attrs["dataType"] = "int16"
    assert_reads(f"{tmp_path}/a.h5:/t00000/s00/0/cells", volume("uint16").view(np.int16))


def test_of_several_setups_one_has_to_be_named(tmp_path: Path) -> None:
    bigdataviewer(tmp_path / "a.h5", volume("uint16"), setups=2)
    assert "2 of them may be images" in refusal(tmp_path / "a.h5")


def imaris(path: Path, channels: int = 1) -> None:
    letters = {axis: np.array(list(str(n)), "S1") for axis, n in zip("ZYX", SHAPE, strict=True)}
    with h5py.File(path, "w") as file:
        for level in range(2):
            for channel in range(channels):
                group = file.create_group(f"DataSet/ResolutionLevel {level}/TimePoint 0/Channel {channel}")
                group.attrs.update({f"ImageSize{axis}": value for axis, value in letters.items()})
                padded = np.pad(volume("uint16"), ((0, 3), (0, 27), (0, 14)))
                group.create_dataset("Data", data=padded, chunks=(4, 32, 32), compression="gzip")
                group["Histogram"] = np.zeros(256, np.uint64)
        info = file.create_group("DataSetInfo/Image")
        for i, extent in enumerate((0.2, 0.296, 0.25)):
            info.attrs[f"ExtMin{i}"], info.attrs[f"ExtMax{i}"] = np.array([b"0"]), np.array(list(str(extent)), "S1")
        info.attrs["Unit"] = np.array([b"u", b"m"])
        file["Thumbnail/Data"] = np.zeros((64, 256), np.uint8)


def test_imaris_has_its_true_size_and_its_voxel_size(tmp_path: Path) -> None:
    imaris(tmp_path / "a.ims")
    assert_reads(f"{tmp_path}/a.ims:/DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data", volume("uint16"))
    source = open_source(str(tmp_path / "a.ims"))
    assert source.voxel_size_nm == pytest.approx((50, 8, 4))
    assert source.missing_chunks(WHOLE)[0].count == 2 * 2 * 2
    imaris(tmp_path / "b.ims", channels=2)
    assert "2 of them may be images" in refusal(tmp_path / "b.ims")


def test_old_mat_files_are_refused_with_how_to_save(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(600))
    assert "-v7.3" in refusal(f"{tmp_path}/a.mat:/raw")


def write_velox(path: Path, values: np.ndarray) -> str:
    """An image as Velox stores it: (y, x, frames), and the metadata of each frame in a column."""
    metadata = {"BinaryResult": {"PixelSize": {"width": "4e-09", "height": "5e-09"}}}
    metadata["BinaryResult"] |= {"PixelUnitX": "m", "PixelUnitY": "m"}  # type: ignore[dict-item]
    text = np.frombuffer(json.dumps(metadata).encode().ljust(500, b"\0"), np.uint8)
    with h5py.File(path, "w") as file:
        group = file.create_group(f"Data/Image/{'0a' * 16}")
        group["Data"], group["Metadata"] = values.transpose(1, 2, 0), np.repeat(text[:, None], len(values), axis=1)
    return str(path)


def test_an_image_of_velox_is_one_section_and_its_frames_are_no_sections(tmp_path: Path) -> None:
    address = write_velox(tmp_path / "a.emd", volume()[:1])
    source = open_source(address)
    np.testing.assert_array_equal(source.read(Box.of_shape(source.shape)), volume()[:1])
    assert any("pixels of 5 x 4 nm (y, x) by Velox, and no thickness" in remark for remark in source.remarks)
    assert re.search(
        r"t of 5 by the layout of the file; only c .*`axes`", refusal(write_velox(tmp_path / "b.emd", volume()))
    )
