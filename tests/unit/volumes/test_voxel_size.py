"""The voxel size that counts: the file's, the configuration's, or neither."""

import pytest

from unet.volumes.readers.errors import SourceError
from unet.volumes.voxel_size import resolve_voxel_size, stated_voxel_size


def test_voxel_size_is_the_one_that_is_known() -> None:
    assert resolve_voxel_size((50, 4, 4), None, "a") == ((50, 4, 4), None)
    assert resolve_voxel_size(None, (50, 4, 4), "a") == ((50, 4, 4), None)
    assert resolve_voxel_size((50, 4, 4), (50, 4.03, 4), "a") == ((50, 4, 4), None)


def test_voxel_sizes_that_differ_by_more_than_a_hundredth_are_refused_with_both() -> None:
    with pytest.raises(
        SourceError,
        match=r"a\.h5: voxels of \(50, 4\.6, 4\) nm, but .* \(50, 4, 4\) nm.*`voxel_size_nm`.*voxel_size_from",
    ):
        resolve_voxel_size((50, 4, 4), (50, 4.6, 4), "a.h5")


def test_the_user_may_overrule_the_file() -> None:
    size, remark = resolve_voxel_size((50, 4, 4), (50, 4.6, 4), "a.h5", overrule=True)
    assert size == (50, 4, 4)
    assert remark is not None
    assert "(50, 4.6, 4) nm in the file" in remark


@pytest.mark.parametrize("edge", [0.1, 1.0, 1000.0])
def test_a_placeholder_is_unknown_beside_a_configuration(edge: float) -> None:
    size, remark = resolve_voxel_size((50, 4, 4), (edge,) * 3, "a.mrc")
    assert size == (50, 4, 4)
    assert remark is not None
    assert "placeholder" in remark


FOUR_METRES = (5e10, 4e9, 4e9)
"""A size in nm that a header calls metres."""


def test_a_size_that_no_microscope_has_is_unknown() -> None:
    with pytest.raises(
        SourceError, match=r"a\.nii: states voxels of \(5e\+10, 4e\+09, 4e\+09\) nm.*set `voxel_size_nm"
    ):
        resolve_voxel_size(None, FOUR_METRES, "a.nii")
    size, remark = resolve_voxel_size((50, 4, 4), FOUR_METRES, "a.nii")
    assert size == (50, 4, 4)
    assert remark is not None
    assert "no microscope has" in remark


def test_an_implausible_voxel_size_of_a_file_is_told_with_the_unit_that_was_assumed() -> None:
    size, remark = resolve_voxel_size(None, (0.05, 0.004, 0.004), "a.h5")
    assert size == (0.05, 0.004, 0.004)
    assert remark is not None
    assert "if these are µm, it is [50, 4, 4] nm" in remark


@pytest.mark.parametrize(
    ("edges", "told"),
    [((1000, 1000, 1000), "nobody has set it"), ((50, 8, 4), "no squares"), ((4, 4, 50), "z and x are exchanged")],
)
def test_a_doubtful_voxel_size_of_a_file_is_told(edges: tuple[float, ...], told: str) -> None:
    size, remark = resolve_voxel_size(None, edges, "a.h5")
    assert size == edges
    assert remark is not None
    assert told in remark


def test_voxel_size_nobody_knows_is_refused_with_the_key_to_set() -> None:
    with pytest.raises(SourceError, match=r"a\.tif.*set `voxel_size_nm: \[z, y, x\]`.*\. 8 by one, 4 by another"):
        resolve_voxel_size(None, None, "a.tif", remarks=["8 by one, 4 by another"])


@pytest.mark.parametrize("edges", [None, (0, 4, 4), (float("nan"), 4, 4), (float("inf"), 4, 4)])
def test_edges_that_say_nothing_are_unknown(edges: tuple[float, ...] | None) -> None:
    assert stated_voxel_size(edges, "a") is None


def test_a_negative_edge_is_refused_with_what_to_do() -> None:
    with pytest.raises(SourceError, match=r"\(-50, 4, 4\) nm.*cannot be negative.*`flip`"):
        stated_voxel_size((-50, 4, 4), "a")
