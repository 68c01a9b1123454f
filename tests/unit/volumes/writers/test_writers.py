"""Stores in the formats of other programs, voxel for voxel, as these programs and our own readers read them."""

import json
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import tifffile
import wkw

from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.storage.ngff import ImageSpec
from unet.storage.zarr_store import Image, create_image
from unet.volumes.readers.open import open_source
from unet.volumes.writers import precomputed, tiff_stack, wkw_dataset
from unet.volumes.writers.levels import NO_FILE, WriterError, begin_export, copy_levels
from unet.volumes.writers.precomputed import add_segment_properties, morton_code, precomputed_scales, shard_shape
from unet.volumes.writers.tiff_stack import write_tiff
from unet.volumes.writers.wkw_dataset import wkw_magnifications, write_properties

SHAPE, VOXEL_NM = (20, 150, 140), (40.0, 4.0, 4.0)
KINDS: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "raw": ("uint8", "image", ()),
    "segmentation": ("uint32", "label", ()),
    "large ids": ("uint64", "label", ()),
    "probability": ("float32", "image", ("membrane", "interior")),
}


def values_of(kind: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Patches of one value, among them 0 and large ids; the last sections along z are empty."""
    dtype, _, channels = KINDS[kind]
    leading = (len(channels),) if channels else ()
    coarse = np.random.default_rng(0).integers(0, 250, (*leading, *(-(-n // 5) for n in shape)))
    values = coarse.repeat(5, -1).repeat(5, -2).repeat(5, -3)[(..., *(slice(0, n) for n in shape))]
    values = values + (2**40 if dtype == "uint64" else 0) * (values > 200)
    return (values / 250 if dtype == "float32" else values).astype(dtype)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A store of a kind, with a pyramid of two levels and an offset."""
    folder = tmp_path_factory.mktemp("stores")

    @cache
    def store(kind: str) -> Image:
        dtype, role, channels = KINDS[kind]
        sizes = {"chunk": (2, 16, 16), "block": (4, 64, 64), "voxel_size_nm": VOXEL_NM, "offset_nm": (400.0, 80.0, 8.0)}
        spec = ImageSpec(kind, SHAPE, dtype, kind=role, channels=channels, **sizes)
        image = create_image(folder / f"{kind}.zarr", spec)
        for box in image.grid.boxes():
            image.write_block(box, values_of(kind)[(..., *box.slices)])
        return image

    return store


def whole(image: Image, level: int = 0) -> np.ndarray:
    """All voxels of a level of a store."""
    factor = image.spec.factors[level]
    shape = tuple(-(-n // f) for n, f in zip(image.shape, factor, strict=True))
    return image.read(Box.of_shape(shape), level)


def copy(image: Image, levels: Any, folder: Path, fingerprint: str = "1") -> list[dict[str, Any]]:
    """Copy all levels; the receipts."""
    copy_levels("export", image, levels, folder, fingerprint, threads=2)
    return [json.loads((folder / f"level-{level}" / "all.json").read_text()) for level in range(len(levels))]


# Precomputed


@pytest.mark.parametrize("kind", KINDS)
def test_tensorstore_reads_every_scale_of_a_precomputed_volume(
    kind: str, stores: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precomputed, "CHUNK", 32)
    image = stores(kind)
    scales = precomputed_scales(tmp_path / "volume", image)
    copy(image, scales, tmp_path / "receipts")
    assert len(scales) == len(image.spec.factors) == 2
    for level in range(len(scales)):
        given = {"driver": "neuroglancer_precomputed", "scale_index": level}
        kvstore = {"driver": "file", "path": f"{tmp_path}/volume/"}
        array = tensorstore.open(given | {"kvstore": kvstore}, open=True).result()
        found = np.asarray(array.read().result()).transpose(3, 2, 1, 0)
        np.testing.assert_array_equal(found if image.spec.channels else found[0], whole(image, level))
    info = json.loads((tmp_path / "volume" / "info").read_text())
    assert [scale["resolution"] for scale in info["scales"]] == [[4, 4, 40], [8, 8, 40]]
    assert [scale["voxel_offset"] for scale in info["scales"]] == [[2, 20, 10], [1, 10, 10]]
    assert info["type"] == ("segmentation" if image.spec.kind == "label" else "image")
    encoding = "compressed_segmentation" if image.spec.kind == "label" else "raw"
    assert {scale["encoding"] for scale in info["scales"]} == {encoding}


def test_our_reader_finds_a_precomputed_volume_in_its_place(stores: Any, tmp_path: Path) -> None:
    image = stores("segmentation")
    copy(image, precomputed_scales(tmp_path / "volume", image), tmp_path / "receipts")
    source = open_source(SourceConfig(path=str(tmp_path / "volume")))
    assert (source.shape, source.voxel_size_nm, source.offset_nm) == (SHAPE, VOXEL_NM, (400.0, 80.0, 8.0))
    np.testing.assert_array_equal(source.read(Box.of_shape(SHAPE)), whole(image))


def test_a_box_is_a_shard(stores: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take chunks of 16: 9 x 10 x 2 chunks along x, y, z, of which 4 x 8 x 2 have one number of a shard."""
    monkeypatch.setattr(precomputed, "CHUNK", 16)
    image = stores("segmentation")
    [scale, _] = precomputed_scales(tmp_path / "volume", image)
    assert scale.array.chunk_layout.write_chunk.shape[:3] == tuple(16 * n for n in shard_shape((9, 10, 2)))
    for box in scale.boxes():
        before = set((tmp_path / "volume").rglob("*.shard"))
        scale.write(box, image.read(box))
        new = set((tmp_path / "volume").rglob("*.shard")) - before
        assert new == {scale._file(box)}, box
        assert scale.digest(box) != NO_FILE
        assert scale.size(box) > 0


def test_morton_codes_are_those_of_the_format() -> None:
    """Example of the specification: bits x0 y0 z0 x1 y1 x2 of 6 x 4 x 2 chunks."""
    assert morton_code((5, 2, 1), (6, 4, 2)) == 0b110101
    codes = {morton_code((x, y, z), (6, 4, 2)) for x in range(6) for y in range(4) for z in range(2)}
    assert len(codes) == 48


def test_sizes_of_objects_are_added_to_a_precomputed_volume(stores: Any, tmp_path: Path) -> None:
    precomputed_scales(tmp_path / "volume", stores("segmentation"))
    add_segment_properties(tmp_path / "volume", {"inline": {"ids": ["1"]}})
    info = json.loads((tmp_path / "volume" / "info").read_text())
    assert (tmp_path / "volume" / info["segment_properties"] / "info").exists()
    assert len(precomputed_scales(tmp_path / "volume", stores("segmentation"))) == 2  # it opens as before


# WEBKNOSSOS


@pytest.mark.parametrize("kind", KINDS)
def test_wkw_reads_every_magnification(kind: str, stores: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wkw_dataset, "CUBE", 64)
    image = stores(kind)
    levels = wkw_magnifications(tmp_path / "layer", image)
    copy(image, levels, tmp_path / "receipts")
    assert [level.path.name for level in levels] == ["1", "2-2-1"]
    for level in range(len(levels)):
        expected = whole(image, level)
        dataset = wkw.Dataset.open(str(levels[level].path))
        found = dataset.read((0, 0, 0), expected.shape[-3:][::-1]).transpose(0, 3, 2, 1)
        np.testing.assert_array_equal(found if image.spec.channels else found[0], expected)
        assert dataset.header.block_type == wkw.Header.BLOCK_TYPE_LZ4
    files = set((tmp_path / "layer" / "1").rglob("x*.wkw"))
    assert files == {levels[0]._file(box) for box in levels[0].boxes()}


def test_our_reader_finds_a_dataset_with_its_voxel_size(
    stores: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wkw_dataset, "CUBE", 64)
    dataset, images = tmp_path / "cortex", {name: stores(name) for name in ("raw", "segmentation")}
    for name, image in images.items():
        copy(image, wkw_magnifications(dataset / name, image), tmp_path / "receipts" / name)
    write_properties(dataset, images, largest_id=249)
    for name, image in images.items():
        source = open_source(SourceConfig(path=f"{dataset}:/{name}"))
        assert (source.shape, source.voxel_size_nm) == (SHAPE, VOXEL_NM)
        np.testing.assert_array_equal(source.read(Box.of_shape(SHAPE)), whole(image))
    properties = json.loads((dataset / "datasource-properties.json").read_text())
    assert [layer["category"] for layer in properties["dataLayers"]] == ["color", "segmentation"]
    assert properties["dataLayers"][1]["largestSegmentId"] == 249
    assert properties["scale"]["factor"] == [4, 4, 40]


# Both


def test_what_is_written_is_not_written_again(stores: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wkw_dataset, "CUBE", 64)
    image, receipts = stores("segmentation"), tmp_path / "receipts"
    begin_export(tmp_path / "layer", receipts, "1")
    first = copy(image, wkw_magnifications(tmp_path / "layer", image), receipts)
    assert [one["run"]["blocks_made"] for one in first] == [9, 4]
    lost = next((tmp_path / "layer" / "1").rglob("x1.wkw"))
    content = lost.read_bytes()
    lost.unlink()
    begin_export(tmp_path / "layer", receipts, "1")
    again = copy(image, wkw_magnifications(tmp_path / "layer", image), receipts)
    assert [one["run"]["blocks_made"] for one in again] == [1, 0]
    assert lost.read_bytes() == content
    begin_export(tmp_path / "layer", receipts, "2")  # of other voxels
    assert not (tmp_path / "layer").exists()
    other = copy(image, wkw_magnifications(tmp_path / "layer", image), receipts, "2")
    assert [one["run"]["blocks_made"] for one in other] == [9, 4]


@pytest.mark.parametrize(("package", "export"), [("tensorstore", precomputed_scales), ("wkw", wkw_magnifications)])
def test_a_missing_package_is_told(
    package: str, export: Any, stores: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(WriterError, match=rf"needs {package}, of the extra formats: pip install"):
        export(tmp_path, stores("raw"))


# TIFF


BOX = Box((3, 10, 20), (14, 90, 125))


@pytest.mark.parametrize("kind", ["raw", "segmentation", "probability"])
@pytest.mark.parametrize("slab", [1, 2**28])
def test_a_tiff_holds_a_box_with_the_size_of_a_voxel(
    kind: str, slab: int, stores: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiff_stack, "SLAB_BYTES", slab)
    image, path = stores(kind), tmp_path / "box.ome.tif"
    write_tiff(path, image, BOX)
    expected = values_of(kind)[(..., *BOX.slices)]
    with tifffile.TiffFile(path) as tiff:
        found = tiff.asarray()
        assert len(tiff.pages) == 11 * (2 if kind == "probability" else 1)
        assert tiff.pages[0].get_resolution("CENTIMETER") == pytest.approx((2.5e6, 2.5e6))
        [pixels] = [one for one in ElementTree.fromstring(str(tiff.ome_metadata)).iter() if one.tag.endswith("Pixels")]
    np.testing.assert_array_equal(found, expected.swapaxes(0, 1) if expected.ndim == 4 else expected)
    sizes = [float(pixels.attrib[f"PhysicalSize{axis}"]) for axis in "XYZ"]
    assert sizes == [4, 4, 40]
    assert {pixels.attrib[f"PhysicalSize{axis}Unit"] for axis in "XYZ"} == {"nm"}
    source = open_source(SourceConfig(path=str(path)))
    assert source.voxel_size_nm == VOXEL_NM


def test_a_large_tiff_has_offsets_of_64_bits(stores: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff_stack, "CLASSIC_BYTES", BOX.size - 1)
    write_tiff(tmp_path / "box.ome.tif", stores("raw"), BOX)
    with tifffile.TiffFile(tmp_path / "box.ome.tif") as tiff:
        assert tiff.is_bigtiff


def test_ids_of_64_bits_are_narrowed_or_refused(stores: Any, tmp_path: Path) -> None:
    image, values = stores("large ids"), values_of("large ids")
    small = next(box for box in image.grid.boxes() if values[box.slices].max() > 2**32)
    with pytest.raises(WriterError, match=r"id 1099\d+ in section \d+ needs 64 bits, but a TIFF for Fiji holds 32"):
        write_tiff(tmp_path / "large.ome.tif", image, small)
    assert not (tmp_path / "large.ome.tif").exists()
    at = np.argwhere(values < 2**32)[0]
    voxel = Box(tuple(map(int, at)), tuple(int(n) + 1 for n in at))
    write_tiff(tmp_path / "one.ome.tif", image, voxel)
    assert tifffile.imread(tmp_path / "one.ome.tif").item() == values[tuple(at)]


@pytest.mark.parametrize("box", [Box((0, 0, 0), (21, 1, 1)), Box((2, 2, 2), (2, 3, 3))])
def test_a_box_outside_the_volume_is_refused(box: Box, stores: Any, tmp_path: Path) -> None:
    with pytest.raises(WriterError, match=r"export_tiff.box: .* is not inside raw.zarr of \(20, 150, 140\) voxels"):
        write_tiff(tmp_path / "a.ome.tif", stores("raw"), box)
