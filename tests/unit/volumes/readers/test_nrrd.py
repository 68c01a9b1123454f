"""Special cases of NRRD."""

import sys
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import pytest

from tests.unit.volumes.readers.reading import refusal
from tests.unit.volumes.readers.small_volume import SHAPE, SIZE, VALUES, whole, written
from unet.config.source import SourceConfig
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_source
from unet.volumes.readers.source import Source


def nrrd_file(path: Path, values: np.ndarray = VALUES, **header: Any) -> Source:
    nrrd.write(str(path), values.T, {"encoding": "raw", **header})
    return open_source(str(path))


def test_nrrd_of_spacings_with_units_an_axis(tmp_path: Path) -> None:
    source = nrrd_file(tmp_path / "a.nrrd", spacings=[0.004, 5.0, 40.0], units=["um", "nm", "nm"])
    assert source.voxel_size_nm == pytest.approx(SIZE)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_nrrd_in_micrometres_with_their_letter(tmp_path: Path, encoding: str) -> None:
    """pynrrd drops the µ, and metres would be left."""
    nrrd_file(tmp_path / "a.nrrd", spacings=[0.004, 0.005, 0.04], units=["um", "um", "um"])
    held = (tmp_path / "a.nrrd").read_bytes().replace(b'"um"', '"µm"'.encode(encoding))
    (tmp_path / "a.nrrd").write_bytes(held)
    source = open_source(f"{tmp_path}/a.nrrd")
    assert source.voxel_size_nm == pytest.approx(SIZE)
    np.testing.assert_array_equal(whole(source), VALUES)


def test_nrrd_without_units_has_no_voxel_size_and_says_so(tmp_path: Path) -> None:
    source = nrrd_file(tmp_path / "a.nrrd", spacings=[4.0, 5.0, 40.0])
    assert source.voxel_size_nm is None
    assert "steps of (4, 5, 40) without `units` that are lengths" in source.remarks[0]


def test_nrrd_that_runs_backwards_is_read_as_stored_and_told(tmp_path: Path) -> None:
    directions = np.diag([4.0, -5.0, 40.0])
    source = nrrd_file(tmp_path / "a.nrrd", **{"space dimension": 3, "space directions": directions})
    np.testing.assert_array_equal(whole(source), VALUES)
    assert "y runs in the opposite direction by the header" in source.remarks[0]
    assert "`flip: [y]`" in source.remarks[0]


def test_nrrd_that_is_oblique_is_told(tmp_path: Path) -> None:
    directions = np.array([[4.0, 1.0, 0.0], [-1.0, 4.0, 0.0], [0.0, 0.0, 40.0]])
    units = ["nm", "nm", "nm"]
    header = {"space dimension": 3, "space directions": directions, "space units": units}
    source = nrrd_file(tmp_path / "a.nrrd", **header)
    assert "oblique" in source.remarks[0]
    assert source.voxel_size_nm == pytest.approx((40.0, 17**0.5, 17**0.5))


def test_nrrd_of_colours_is_refused_as_intensities_and_read_as_labels(tmp_path: Path) -> None:
    rgb, kinds = np.stack([VALUES, VALUES + 1, VALUES + 2], axis=-1), ["RGB-color", "domain", "domain", "domain"]
    with pytest.raises(SourceError, match=r"RGB-color by the kinds of the header.*`channels: \[0\]`"):
        nrrd_file(tmp_path / "a.nrrd", rgb, kinds=kinds)
    source = open_source(str(tmp_path / "a.nrrd"), colours=True)
    assert (source.channels, source.shape) == (3, SHAPE)
    np.testing.assert_array_equal(whole(source)[2], VALUES + 2)
    one = open_source(SourceConfig(path=str(tmp_path / "a.nrrd"), channels=[2]))
    np.testing.assert_array_equal(whole(one), VALUES + 2)


@pytest.mark.parametrize("kinds", [["space", "space", "space", "list"], None])
def test_nrrd_of_a_list_of_anything_is_refused_until_it_has_a_name(tmp_path: Path, kinds: list[str] | None) -> None:
    layers = np.stack([VALUES, VALUES + 1])
    with pytest.raises(SourceError, match=r"x of 9, y of 6, z of 4, \? of 2 by kinds"):
        nrrd_file(tmp_path / "a.nrrd", layers, **({"kinds": kinds} if kinds else {}))
    source = open_source(SourceConfig(path=f"{tmp_path}/a.nrrd", axes="czyx"[::-1]))
    np.testing.assert_array_equal(whole(source), layers)


def test_nrrd_with_more_bytes_than_its_sizes_is_told(tmp_path: Path) -> None:
    nrrd_file(tmp_path / "a.nrrd")
    with (tmp_path / "a.nrrd").open("ab") as file:
        file.write(bytes(100))
    assert "100 bytes follow" in open_source(f"{tmp_path}/a.nrrd").remarks[0]


def test_nrrd_as_text_is_refused(tmp_path: Path) -> None:
    nrrd.write(str(tmp_path / "a.nrrd"), VALUES, {"encoding": "ASCII"})
    assert "encoding ASCII is not supported" in refusal(tmp_path / "a.nrrd")


def test_nrrd_whose_data_file_is_gone(tmp_path: Path) -> None:
    nrrd_file(tmp_path / "a.nhdr")
    (tmp_path / "a.raw").unlink()
    assert "its voxels lie in" in refusal(tmp_path / "a.nhdr")


@pytest.mark.parametrize(
    ("name", "module"), [("pynrrd", "nrrd"), ("nibabel", "nibabel"), ("DM3", "ncempy"), ("wkw", "wkw")]
)
def test_a_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str) -> None:
    address = written(tmp_path / "a", name)
    monkeypatch.setitem(sys.modules, module, None)
    assert "of the extra formats: pip install" in refusal(address)


def test_nothing_is_named_inside_a_file_without_insides(tmp_path: Path) -> None:
    nrrd_file(tmp_path / "a.nrrd")
    with pytest.raises(SourceError, match="nothing can be named"):
        open_source(SourceConfig(path=f"{tmp_path}/a.nrrd:/raw"))
