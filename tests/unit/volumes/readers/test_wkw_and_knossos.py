"""Special cases of wkw and KNOSSOS."""

import json
import shutil
import zipfile
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from tests.unit.volumes.readers.reading import refusal
from tests.unit.volumes.readers.small_volume import SIZE, VALUES, whole, written
from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.volumes.block_reader import BlockReader
from unet.volumes.readers import knossos
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.knossos_cubes import decoded_cube
from unet.volumes.readers.open import open_source


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
