"""The exports of stores as jobs: what is asked for is written, in its place."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorstore
import tifffile
import wkw

from tests.scripts.conftest import main_of
from tests.unit.run.view.stores import SHAPE, arrays, write_run
from unet.storage.files import read_json, write_json
from unet.volumes.integrity import invalid_receipts

STORES = arrays()


def export(rule: str, folder: Path, asked: dict[str, Any], **outputs: Path) -> None:
    """Write a run of one volume `v`, and export what is asked for."""
    config = write_run(folder, STORES, **{rule: asked})
    made = folder / "receipts" / "relabel" / "v.json"
    write_json(made, {"digest": "0" * 32})
    files = {"survey": folder / "receipts" / "survey" / "v.json", "folder": folder / "volumes" / "v", **outputs}
    more = {} if rule == "export_tiff" else {"made": [made], "results": folder}
    main_of(rule)(**files, **more, export=getattr(config, rule), code="1")


def test_a_box_becomes_a_tiff(tmp_path: Path) -> None:
    tiff = tmp_path / "box.ome.tif"
    export("export_tiff", tmp_path, {"store": "raw", "box": [[1, 4], [2, 30], [5, 9]]}, tiff=tiff)
    np.testing.assert_array_equal(tifffile.imread(tiff), STORES["raw"][1:4, 2:30, 5:9])


def test_stores_become_precomputed_volumes(tmp_path: Path) -> None:
    receipt = tmp_path / "receipts" / "export_precomputed" / "v" / "all.json"
    export("export_precomputed", tmp_path, {"stores": ["raw", "segmentation"]}, receipt=receipt)
    assert read_json(receipt)["exported"] == ["raw", "segmentation"]
    for name in ("raw", "segmentation"):
        path = f"{tmp_path}/exports/v/precomputed/{name}/"
        given = {"driver": "neuroglancer_precomputed", "kvstore": {"driver": "file", "path": path}}
        found = np.asarray(tensorstore.open(given, open=True).result().read().result())
        np.testing.assert_array_equal(found[..., 0].T, STORES[name])


def test_stores_become_a_dataset_of_webknossos(tmp_path: Path) -> None:
    receipt = tmp_path / "receipts" / "export_webknossos" / "v" / "all.json"
    export("export_webknossos", tmp_path, {"stores": ["raw", "segmentation"]}, receipt=receipt)
    dataset = tmp_path / "exports" / "v" / "webknossos" / "v"
    layers = read_json(dataset / "datasource-properties.json")["dataLayers"]
    assert {layer["name"]: layer["elementClass"] for layer in layers} == {"raw": "uint8", "segmentation": "uint32"}
    for name in ("raw", "segmentation"):
        found = wkw.Dataset.open(str(dataset / name / "1")).read((0, 0, 0), SHAPE[::-1])[0]
        np.testing.assert_array_equal(found.T, STORES[name])


def test_a_lost_export_is_noticed(tmp_path: Path) -> None:
    receipt = tmp_path / "receipts" / "export_precomputed" / "v" / "all.json"
    export("export_precomputed", tmp_path, {"stores": ["segmentation"]}, receipt=receipt)
    assert list(invalid_receipts(tmp_path)) == []
    lost = tmp_path / "exports" / "v" / "precomputed" / "segmentation" / "info"
    lost.unlink()
    assert list(invalid_receipts(tmp_path)) == [(receipt, f"{lost} is not there")]
