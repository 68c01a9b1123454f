"""Special cases of NRRD, NIfTI, DM3/DM4, wkw and KNOSSOS; files with a wrong ending; packages that are missing."""

import json
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel
import nrrd
import numpy as np
import pytest
import tifffile

from tests.unit.volumes.readers.dm_files import dm_file, image
from tests.unit.volumes.readers.writers import WRITERS, Stored
from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.volumes.block_reader import BlockReader
from unet.volumes.readers import knossos
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.knossos_cubes import decoded_cube
from unet.volumes.readers.open import FORMATS, open_source
from unet.volumes.readers.signatures import signature_of
from unet.volumes.readers.source import Source
from unet.volumes.voxel_size import resolve_voxel_size

SHAPE = (4, 6, 9)
VALUES = np.arange(4 * 6 * 9, dtype=np.uint8).reshape(SHAPE)
SIZE = (40.0, 5.0, 4.0)


def whole(source: Source) -> np.ndarray:
    return source.read(Box.of_shape(source.shape))


def refusal(address: Path | str) -> str:
    with pytest.raises(SourceError) as refused:
        open_source(str(address))
    return str(refused.value)


# -- NRRD --------------------------------------------------------------------------------------------------------------


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


# -- NIfTI -------------------------------------------------------------------------------------------------------------


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


def test_npy_of_no_numbers_or_of_objects_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[{}]]), allow_pickle=True)
    np.save(tmp_path / "b.npy", VALUES.astype("c8"))
    for name in "ab":
        assert re.search(r"its elements are (object|complex64), no numbers", refusal(tmp_path / f"{name}.npy"))


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


# -- DM3 and DM4 -------------------------------------------------------------------------------------------------------


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


# -- wkw and KNOSSOS ---------------------------------------------------------------------------------------------------


def written(folder: Path, name: str, values: np.ndarray = VALUES, **stored: Any) -> str:
    folder.mkdir(exist_ok=True)
    return WRITERS[name].write(folder, values, Stored(**stored))


def test_wkw_finds_the_only_layer_or_asks(tmp_path: Path) -> None:
    written(tmp_path / "a", "wkw", voxel_size_nm=SIZE)
    for address in ("a", "a:/color", "a/color", "a/color/1"):
        source = open_source(f"{tmp_path}/{address}")
        np.testing.assert_array_equal(whole(source), VALUES)
        assert source.voxel_size_nm == SIZE
    shutil.copytree(tmp_path / "a" / "color", tmp_path / "a" / "segmentation")
    assert "which layer? it holds :/color/1, :/segmentation/1" in refusal(tmp_path / "a")


def test_wkw_of_a_coarser_magnification_has_larger_voxels(tmp_path: Path) -> None:
    written(tmp_path / "a", "wkw", voxel_size_nm=SIZE)
    (tmp_path / "a" / "color" / "1").rename(tmp_path / "a" / "color" / "2-2-1")
    source = open_source(f"{tmp_path}/a")
    assert source.voxel_size_nm == (40.0, 10.0, 8.0)
    assert source.shape == (4, 3, 5)


def test_wkw_with_an_old_scale_of_numbers(tmp_path: Path) -> None:
    written(tmp_path / "a", "wkw")
    path = tmp_path / "a" / "datasource-properties.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"scale": [4, 5, 40]}))
    assert open_source(f"{tmp_path}/a").voxel_size_nm == SIZE


def test_wkw_that_is_zarr_names_the_folder(tmp_path: Path) -> None:
    written(tmp_path / "a", "wkw")
    shutil.rmtree(tmp_path / "a" / "color" / "1")
    (tmp_path / "a" / "color" / "1").mkdir()
    (tmp_path / "a" / "color" / "1" / "zarr.json").write_text("{}")
    assert f"{tmp_path}/a/color/1 is Zarr; write the path of that folder" in refusal(tmp_path / "a")


@pytest.mark.parametrize(("name", "kind"), [("wkw", "files"), ("wkw, LZ4", "files"), ("KNOSSOS", "cubes")])
def test_cubes_that_are_not_there_are_counted(tmp_path: Path, name: str, kind: str) -> None:
    values = np.ones((2, 3, 200), "u1")
    source = open_source(written(tmp_path / "a", name, values))
    box = Box.of_shape(values.shape)
    (before,) = source.missing_chunks(box)
    assert (before.missing, before.kind) == (0, kind)
    lost = next(path for path in source.files_of(box) if "x0000_" in path.name or path.name == "x0.wkw")
    lost.unlink()
    (after,) = source.missing_chunks(box)
    assert (after.missing, after.count) == (1, before.count)
    edge = 200 // before.count if before.count == 1 else {"wkw": 32, "wkw, LZ4": 32, "KNOSSOS": 128}[name]
    found = whole(source)
    assert not found[..., :edge].any()
    assert found[..., edge:].all()


def test_knossos_reads_over_the_faces_of_cubes(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(1, 255, (3, 140, 150)).astype("u1")
    source = open_source(written(tmp_path / "a", "KNOSSOS", values, voxel_size_nm=SIZE))
    box = Box((1, 120, 100), (3, 140, 150))
    np.testing.assert_array_equal(source.read(box), values[box.slices])
    assert len([path for path in source.files_of(box) if path.suffix == ".raw"]) == 4
    assert source.voxel_size_nm == SIZE


def test_knossos_without_its_conf_reaches_to_its_last_cube(tmp_path: Path) -> None:
    written(tmp_path / "a", "KNOSSOS")
    (tmp_path / "a" / "knossos.conf").unlink()
    source = open_source(f"{tmp_path}/a")
    assert source.shape == (128, 128, 128)
    assert source.voxel_size_nm is None


def packed_cubes(folder: Path, ending: str, cube: np.ndarray) -> None:
    """Replace the raw cubes of a dataset, or put ids beside them. The voxels of a cube are (z, y, x)."""
    for path in folder.rglob("*.raw"):
        new = path.with_name(path.name.removesuffix(".raw") + ending)
        if ending == ".png":
            new.write_bytes(imagecodecs.png_encode(cube.reshape(-1, 128)))
        elif ending == ".jpg":
            new.write_bytes(imagecodecs.jpeg_encode(cube.reshape(-1, 128), level=100))
        else:
            packed = imagecodecs.snappy_encode(cube.astype("<u8").tobytes())
            with zipfile.ZipFile(new, "w") as archive:
                archive.writestr(new.name.removesuffix(".zip"), packed)
            if ending == ".seg.sz":
                new.write_bytes(packed)
        if ending in (".png", ".jpg"):
            path.unlink()


@pytest.fixture(scope="module")
def cube() -> np.ndarray:
    """A smooth cube, as JPEG stores it well, in which no two axes are alike."""
    z, y, x = np.ogrid[:128, :128, :128]
    return (z // 2 + y // 2 + x).astype("u1")


@pytest.mark.parametrize(("ending", "within"), [(".png", 0), (".jpg", 2)])
def test_knossos_of_packed_grey_values(tmp_path: Path, cube: np.ndarray, ending: str, within: int) -> None:
    written(tmp_path / "a", "KNOSSOS", np.ones((128,) * 3, "u1"))
    packed_cubes(tmp_path / "a", ending, cube)
    source = open_source(f"{tmp_path}/a")
    box = Box((2, 7, 90), (19, 60, 128))
    assert np.abs(source.read(box).astype(int) - cube[box.slices]).max() <= within
    assert source.lossy == (None if ending == ".png" else "JPEG")


@pytest.mark.parametrize("ending", [".seg.sz", ".seg.sz.zip"])
def test_knossos_of_ids_beside_grey_values(tmp_path: Path, cube: np.ndarray, ending: str) -> None:
    written(tmp_path / "a", "KNOSSOS", np.ones((128,) * 3, "u1"))
    ids = cube.astype(np.uint64) << np.uint64(40)
    packed_cubes(tmp_path / "a", ending, ids)
    grey = open_source(f"{tmp_path}/a")
    assert grey.read(Box((0, 0, 0), (9, 9, 9))).all()
    assert f"a:/mag1/*{ending}, as the path of labels" in grey.remarks[0]
    source = open_source(f"{tmp_path}/a:/mag1/*{ending}")
    box = Box((2, 7, 90), (19, 60, 128))
    np.testing.assert_array_equal(source.read(box), ids[box.slices])
    path = next((tmp_path / "a").rglob(f"*{ending}"))
    path.write_bytes(path.read_bytes()[:-99])
    with pytest.raises(SourceError, match=rf"z0000{ending}.*(cut short|damaged)"):
        source.read(box)


def test_packed_cubes_are_decoded_once_for_all_blocks(
    tmp_path: Path, cube: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of 16 sections touch a cube of 128 eight times."""
    written(tmp_path / "a", "KNOSSOS", np.ones((128, 128, 200), "u1"))
    packed_cubes(tmp_path / "a", ".png", cube)
    source, decoded = open_source(f"{tmp_path}/a"), []
    monkeypatch.setattr(knossos, "decoded_cube", lambda path, end: (decoded.append(path), decoded_cube(path, end))[1])
    boxes, reader = Grid(source.shape, (16, 128, 256)).boxes(), BlockReader(source, tmp_path)
    reader.expect(boxes)
    for box in boxes:
        np.testing.assert_array_equal(reader.read(box), np.concatenate([cube, cube], axis=2)[box.slices])
    assert len(decoded) == len(set(decoded)) == 2


def test_knossos_of_several_kinds_of_grey_values_asks_which(tmp_path: Path, cube: np.ndarray) -> None:
    written(tmp_path / "a", "KNOSSOS", np.ones((128,) * 3, "u1"))
    path = next((tmp_path / "a").rglob("*.raw"))
    path.with_suffix(".png").write_bytes(imagecodecs.png_encode(cube.reshape(-1, 128)))
    assert "choose one, as in a:/mag1/*.raw, a:/mag1/*.png" in refusal(tmp_path / "a")
    assert "end in .raw, .jpg, .png, .seg.sz.zip, .seg.sz, not in .tif" in refusal(f"{tmp_path}/a:/mag1/*.tif")


# -- Endings that lie, and what is missing -----------------------------------------------------------------------------


def test_a_file_whose_ending_lies_is_told_by_its_first_bytes(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.mrc", VALUES)
    message = refusal(tmp_path / "a.mrc")
    assert "by its first bytes it is TIFF; give it the ending .tif" in message
    shutil.copy(tmp_path / "a.mrc", tmp_path / "a.data")
    assert "by its first bytes this is TIFF" in refusal(tmp_path / "a.data")
    (tmp_path / "a.tif").write_text("<!DOCTYPE html><html>sign in</html>")
    assert "it is a web page; the download has failed" in refusal(tmp_path / "a.tif")


@pytest.mark.parametrize("name", WRITERS)
def test_the_files_of_every_writer_have_their_signature(tmp_path: Path, name: str) -> None:
    path = Path(written(tmp_path / "a", name, VALUES[:, :, :].astype(WRITERS[name].dtypes[0])).partition(":")[0])
    found = signature_of(path)
    assert found is None or any(
        suffix.endswith(found.suffix) for one in FORMATS if one.name == WRITERS[name].format for suffix in one.suffixes
    )
    assert found is not None or path.is_dir() or path.suffix in (".nhdr", ".img")


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
