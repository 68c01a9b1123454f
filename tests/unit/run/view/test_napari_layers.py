"""Layers of napari without a window: voxels, scale, place and order; and what the plugin napari-ome-zarr reads."""

from pathlib import Path

import numpy as np
import pytest

from tests.unit.run.view.stores import OFFSET_NM, VOXEL_NM, arrays, write_run
from unet.run.view.napari_layers import napari_layers
from unet.storage.zarr_store import StoreError

STORES = arrays()


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a volume."""
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, STORES)
    return folder / "volumes" / "v"


def test_labels_lie_on_top_of_images_in_one_place(volume: Path) -> None:
    layers = napari_layers(volume)
    assert [(kind, keywords["name"]) for _, keywords, kind in layers] == [
        ("image", "raw"),
        ("image", ["probability membrane", "probability interior"]),
        ("labels", "labels"),
        ("labels", "segmentation"),
    ]
    for (levels, keywords, _), name in zip(layers, ("raw", "probability", "labels", "segmentation"), strict=True):
        np.testing.assert_array_equal(np.asarray(levels[0]), STORES[name])
        assert (keywords["scale"], keywords["translate"]) == (VOXEL_NM, OFFSET_NM)
    assert [keywords["visible"] for _, keywords, _ in layers] == [True, [False, False], False, True]


def test_napari_takes_the_layers(volume: Path) -> None:
    layers = pytest.importorskip("napari.layers", reason="needs napari: pip install napari")
    for levels, keywords, kind in napari_layers(volume):
        if "channel_axis" in keywords:
            continue  # the viewer, which needs a window, divides it into layers
        layer = layers.Layer.create(levels, keywords, kind)
        np.testing.assert_allclose(layer.data_to_world((1, 2, 3)), [120 + 40, 20 + 8, 48 + 24])


@pytest.mark.parametrize(("store", "kind"), [("raw", "image"), ("segmentation", "labels")])
def test_the_plugin_reads_each_store_at_its_scale(volume: Path, store: str, kind: str) -> None:
    plugin = pytest.importorskip("napari_ome_zarr._reader", reason="needs napari-ome-zarr: pip install napari-ome-zarr")
    read = plugin.napari_get_reader(str(volume / f"{store}.zarr"))
    [(levels, keywords, found)] = read()
    assert found == kind
    np.testing.assert_array_equal(np.asarray(levels[0]), STORES[store])
    assert tuple(keywords["scale"]) == VOXEL_NM


def test_a_folder_without_stores_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match=r"there is none of the stores raw, probability.*; name the folder of a volume"
    ):
        napari_layers(tmp_path)
