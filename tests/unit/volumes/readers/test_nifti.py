"""Special cases of NIfTI."""

import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.unit.volumes.readers.reading import refusal
from tests.unit.volumes.readers.small_volume import SIZE, VALUES, whole, written
from unet.geometry.box import Box
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_source
from unet.volumes.readers.source import Source
from unet.volumes.voxel_size import resolve_voxel_size


def nifti_file(
    path: Path, values: np.ndarray = VALUES, affine: Any = None, unit: str = "unknown", **scale: Any
) -> Source:
    saved = nibabel.Nifti1Image(values.T, np.eye(4) if affine is None else affine)
    saved.header.set_xyzt_units(unit)
    saved.header.set_slope_inter(*scale.values()) if scale else None
    nibabel.save(saved, str(path))
    return open_source(str(path))


def test_nifti_with_a_slope_reads_as_nibabel_reads_it(tmp_path: Path) -> None:
    source = nifti_file(tmp_path / "a.nii", slope=0.5, inter=-3.0)
    expected = np.asarray(nibabel.load(tmp_path / "a.nii").dataobj).T  # type: ignore[attr-defined]
    assert source.dtype == np.float32
    np.testing.assert_allclose(whole(source), expected)
    assert "stored * 0.5 + -3" in source.remarks[0]


def test_nifti_without_a_unit_has_no_voxel_size_and_says_so(tmp_path: Path) -> None:
    source = nifti_file(tmp_path / "a.nii", affine=np.diag([4.0, 5.0, 40.0, 1.0]))
    assert source.voxel_size_nm is None
    assert "pixdim is (4, 5, 40) (x, y, z), and xyzt_units names no unit" in source.remarks[0]


def test_nifti_that_runs_backwards_is_read_as_stored_and_told(tmp_path: Path) -> None:
    source = nifti_file(tmp_path / "a.nii", affine=np.diag([-1.0, 1.0, -1.0, 1.0]), unit="micron")
    np.testing.assert_array_equal(whole(source), VALUES)
    assert "x and z run in the opposite direction" in source.remarks[0]
    assert "`flip: [x, z]`" in source.remarks[0]


def test_plain_nifti_of_itk_needs_no_remark(tmp_path: Path) -> None:
    """ITK and SimpleITK negate x and y of an image with the identity as direction and (8, 15, 80) as origin."""
    affine = np.diag([-4.0, -5.0, 40.0, 1.0])
    affine[:3, 3] = -8, -15, 80
    source = nifti_file(tmp_path / "a.nii", affine=affine, unit="micron")
    assert (source.remarks, source.offset_nm) == ([], (80e3, 15e3, 8e3))
    np.testing.assert_array_equal(whole(source), VALUES)


@pytest.mark.parametrize("edges", [(4.0, 5.0, 40.0), (4e-9, 5e-9, 4e-8)])
def test_metres_of_nifti_are_metres_and_4_of_them_no_voxel_size(tmp_path: Path, edges: tuple[float, ...]) -> None:
    source = nifti_file(tmp_path / "a.nii", affine=np.diag([*edges, 1.0]), unit="meter")
    if edges[0] < 1:
        np.testing.assert_allclose(resolve_voxel_size(None, source.voxel_size_nm, "a.nii")[0], SIZE, rtol=1e-6)
        return
    with pytest.raises(SourceError, match="which no microscope has; set `voxel_size_nm"):
        resolve_voxel_size(None, source.voxel_size_nm, "a.nii")
    known, told = resolve_voxel_size(SIZE, source.voxel_size_nm, "a.nii")
    assert known == SIZE
    assert "no microscope has" in str(told)


def test_nifti_of_several_times_is_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((9, 6, 4, 2), "u1"), np.eye(4)), str(tmp_path / "a.nii"))
    assert "t of 2" in refusal(tmp_path / "a.nii")


def test_a_pair_of_nifti_is_named_by_either_file_and_needs_both(tmp_path: Path) -> None:
    address = written(tmp_path / "a", "nibabel, a pair")
    for ending in (".hdr", ".img"):
        found = open_source(str(Path(address).with_suffix(ending)))
        np.testing.assert_array_equal(found.read(Box.of_shape(found.shape)), VALUES)
    Path(address).unlink()
    assert "one file of a pair, of which a.img is missing" in refusal(Path(address).with_suffix(".hdr"))
    (tmp_path / "b.hdr").write_bytes(written_bytes := Path(written(tmp_path / "c", "nibabel")).read_bytes())
    (tmp_path / "b.img").write_bytes(written_bytes)
    assert "no NIfTI, or Analyze 7.5" in refusal(tmp_path / "b.hdr")


def test_nifti_of_complex_or_coloured_voxels_is_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((9, 6, 4), "c8"), np.eye(4)), str(tmp_path / "a.nii"))
    assert "complex64 is not supported" in refusal(tmp_path / "a.nii")
    colours = np.zeros((9, 6, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), str(tmp_path / "b.nii"))
    assert "its voxels are colours" in refusal(tmp_path / "b.nii")


def test_nifti_of_wrong_ending_is_found_by_its_content(tmp_path: Path) -> None:
    nifti_file(tmp_path / "a.nii.gz")
    shutil.copy(tmp_path / "a.nii.gz", tmp_path / "packed.nii")
    np.testing.assert_array_equal(whole(open_source(f"{tmp_path}/packed.nii")), VALUES)
    nifti_file(tmp_path / "a.nii")
    shutil.copy(tmp_path / "a.nii", tmp_path / "without")
    np.testing.assert_array_equal(whole(open_source(f"{tmp_path}/without")), VALUES)


def test_gzip_that_is_damaged_is_refused(tmp_path: Path) -> None:
    """The checksum at the end is looked at."""
    source = nifti_file(tmp_path / "a.nii.gz")
    held = bytearray((tmp_path / "a.nii.gz").read_bytes())
    held[-6] ^= 1
    (tmp_path / "a.nii.gz").write_bytes(held)
    with pytest.raises(SourceError, match="CRC"):
        whole(source)
