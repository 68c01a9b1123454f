"""Special cases of DM3 and DM4."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.volumes.readers.dm_files import dm_file, image
from tests.unit.volumes.readers.reading import refusal
from tests.unit.volumes.readers.small_volume import SIZE, VALUES, whole
from unet.volumes.readers.open import open_source


def dm(path: Path, *of: Any, **options: Any) -> Path:
    path.write_bytes(dm_file(*of, **options))
    return path


def test_dm_of_one_section_says_its_pixel_size(tmp_path: Path) -> None:
    source = open_source(str(dm(tmp_path / "a.dm3", VALUES[0], SIZE[1:])))
    np.testing.assert_array_equal(whole(source), VALUES[:1])
    assert source.voxel_size_nm is None


@pytest.mark.parametrize("version", [3, 4])
def test_dm_in_micrometres(tmp_path: Path, version: int) -> None:
    units = ["nm", "µm", "µm"]
    source = open_source(str(dm(tmp_path / f"a.dm{version}", VALUES, (40.0, 0.005, 0.004), version, units)))
    assert source.voxel_size_nm == pytest.approx(SIZE)


def test_dm_of_a_stack_whose_sections_have_no_distance_says_so(tmp_path: Path) -> None:
    source = open_source(str(dm(tmp_path / "a.dm3", VALUES, (1.0, 5.0, 4.0), 3, ["", "nm", "nm"])))
    assert source.voxel_size_nm is None
    assert "pixels of 1 of no unit, 5 nm, 4 nm" in source.remarks[0]


def test_dm_of_diffraction_has_no_voxel_size(tmp_path: Path) -> None:
    source = open_source(str(dm(tmp_path / "a.dm3", VALUES[0], (0.1, 0.1), 3, ["1/nm", "1/nm"])))
    assert source.voxel_size_nm is None
    assert "1/nm" in source.remarks[0]


def test_dm_of_a_spectrum_or_complex_is_refused(tmp_path: Path) -> None:
    assert "is a spectrum image" in refusal(dm(tmp_path / "a.dm3", VALUES, SIZE, 3, ["eV", "nm", "nm"]))
    assert "voxels are complex" in refusal(dm(tmp_path / "b.dm3", VALUES[0].astype("c8"), SIZE[1:]))


def test_dm_of_several_images_asks_which(tmp_path: Path) -> None:
    images = [image(one, [1.0] * one.ndim, ["nm"] * one.ndim) for one in (VALUES[0], VALUES)]
    path = dm(tmp_path / "a.dm4", VALUES, None, 4, None, images)
    assert "which image? it holds :0 of (6, 9), :1 of (4, 6, 9)" in refusal(path)
    np.testing.assert_array_equal(whole(open_source(f"{path}:1")), VALUES)
