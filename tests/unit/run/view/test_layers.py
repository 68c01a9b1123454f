"""Layers of a run that are shown: positions, objects and errors, as far as there are any."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.unit.run.view.stores import arrays, write_run
from unet.config.segment import SegmentConfig
from unet.evaluation.contingency import contingency
from unet.evaluation.error_analysis import error_map
from unet.evaluation.scores import VolumeScores
from unet.run.view.layers import View, ViewError, view_of
from unet.segmentation.merge_table import ObjectTable, save_merge_table
from unet.storage.digests import receipts_digest
from unet.storage.files import write_json

URL = "http://127.0.0.1:1/token/"
STORES = arrays()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which everything is there."""
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, STORES)
    statistics = [{"centre": 100.0, "scale": 20.0, "fill_values": []}]
    write_json(folder / "receipts/intensity_statistics/v.json", {"statistics": statistics})
    return folder


def seen(folder: Path, static: bool = False, **view: Any) -> View:
    """Return the layers that are shown of a run."""
    return view_of(write_run(folder, {}, view=view), URL, static)


def layers(view: View) -> dict[str, dict[str, Any]]:
    """Layers by name."""
    return {layer["name"]: layer for layer in view.state["layers"]}


def content(view: View, path: str) -> bytes:
    """Return the bytes that the server would send for the address of a layer and a key behind it."""
    path = path.removeprefix(URL)
    mount = max((one for one in view.mounts if path.startswith(one)), key=len)
    found = view.mounts[mount](path[len(mount) :])
    assert found is not None
    return found.read(0, found.size)


def test_every_store_is_a_layer_at_its_own_address(run: Path) -> None:
    view = seen(run)
    found = layers(view)
    assert list(found) == ["splits", "merges", "raw", "probability", "truth", "segmentation", "errors"]
    assert found["raw"]["source"] == f"zarr://{URL}volumes/v/raw.zarr"
    assert found["segmentation"]["source"][0] == f"zarr://{URL}volumes/v/segmentation.zarr"
    assert found["raw"]["shaderControls"] == {"normalized": {"range": [50, 150]}}
    assert found["probability"]["localPosition"] == [1]
    for name in ("raw", "labels", "segmentation", "probability"):
        metadata = json.loads(content(view, f"{URL}volumes/v/{name}.zarr/zarr.json"))
        assert metadata["attributes"]["ome"]["multiscales"]


def test_the_axes_have_the_size_of_a_voxel_and_begin_in_the_middle(run: Path) -> None:
    state = seen(run).state
    assert {axis: round(size * 1e9, 6) for axis, (size, _) in state["dimensions"].items()} == {"x": 8, "y": 4, "z": 40}
    assert state["position"] == [48 / 8 + 18, 20 / 4 + 20, 120 / 40 + 3]  # x, y, z of the middle voxel (3, 20, 18)
    assert seen(run, position=[5, 0, 35]).state["position"] == [6 + 35, 5, 3 + 5]


def test_errors_are_marked_where_they_are(run: Path) -> None:
    view = seen(run, error=2)
    found = layers(view)
    [split], [merge] = found["splits"]["annotations"], found["merges"]["annotations"]
    assert split["point"] == [6 + 14, 5 + 19, 3 + 2]
    assert split["description"] == "1: split of 1: 1,440 of 4,320 voxels, 2 pieces"
    assert merge["segments"] == [["6"]]
    assert found["merges"]["linkedSegmentationLayer"] == {"segments": "segmentation"}
    assert found["splits"]["linkedSegmentationLayer"] == {"segments": "truth"}
    assert view.state["position"] == merge["point"]
    assert view.state["selectedLayer"] == {"visible": True, "layer": "merges"}
    assert found["segmentation"]["segments"] == ["6"]
    assert "segments" not in found["truth"]
    assert layers(seen(run, error=1))["truth"]["segments"] == ["1"]


def test_wrong_voxels_are_computed_chunk_by_chunk(run: Path) -> None:
    """Take the worked case: 6 is not the best partner of 1; 6 is mostly of truth 1, so its part of 2 is merged."""
    view = seen(run)
    chunk = content(view, f"{URL}virtual/v/errors.zarr/0/c/0/0/0")
    row = np.frombuffer(chunk, np.uint8).reshape(2, 16, 16)[1, 3]
    assert row.tolist() == [0] * 12 + [1] * 4
    row = np.frombuffer(content(view, f"{URL}virtual/v/errors.zarr/0/c/0/0/1"), np.uint8).reshape(2, 16, 16)[0, 0]
    assert row.tolist() == [1, 1, 3, 3, 3, 3] + [0] * 10


def test_objects_of_the_truth_have_their_sizes(run: Path) -> None:
    view = seen(run)
    _, properties = layers(view)["truth"]["source"]
    listed = json.loads(content(view, f"{properties.removeprefix('precomputed://')}/info"))
    assert listed["@type"] == "neuroglancer_segment_properties"
    assert listed["inline"]["ids"] == ["1", "2"]
    names, sizes = (one["values"] for one in listed["inline"]["properties"])
    assert (names, sizes) == (["true object 1", "true object 2"], [18 * 40 * 6] * 2)


def test_objects_have_their_class_as_a_name(run: Path) -> None:
    table = ObjectTable(np.zeros(0, np.uint32), np.arange(3), np.array([5, 6, 7]), np.array([1, 2, 1], np.uint8))
    config = write_run(run, {}).model_copy(update={"segment": SegmentConfig(foreground=["interior", "membrane"])})
    save_merge_table(run / "volumes/v/segmentation-tables/merge", np.zeros(1, np.int64), 5, 3, [table])
    try:
        view = view_of(config, URL)
    finally:
        shutil.rmtree(run / "volumes/v/segmentation-tables")
    _, properties = layers(view)["segmentation"]["source"]
    listed = json.loads(content(view, f"{properties.removeprefix('precomputed://')}/info"))["inline"]
    assert listed["properties"][0]["values"] == ["interior 5", "membrane 6", "interior 7"]


def test_errors_of_sections_that_are_segmented_alone(tmp_path: Path) -> None:
    """Truth 1 is another object in each section: 5 covers most of it in section 0, and 9 in section 1."""
    stores = {name: np.array(values) for name, values in STORES.items()}
    found = stores["segmentation"]
    found += np.arange(len(found), dtype=np.uint32)[:, None, None] * 10
    found[1, :, 8:12] = 16  # 5 + 10 keeps 8 of 18 columns, and 6 + 10 has the others
    config = write_run(tmp_path, stores, segment={"connectivity": "section"})
    scores = VolumeScores(2, per_section=True)
    expected = error_map(whole := scores.true_objects(stores["labels"], 0), found, contingency(whole, found))
    view = view_of(config, URL)
    for z, y, x in ((0, 0, 0), (0, 1, 1), (2, 2, 2)):
        chunk = np.frombuffer(content(view, f"{URL}virtual/v/errors.zarr/0/c/{z}/{y}/{x}"), np.uint8)
        box = expected[2 * z : 2 * z + 2, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16]
        np.testing.assert_array_equal(chunk.reshape(2, 16, 16)[:, : box.shape[1], : box.shape[2]], box)
    assert expected[0].any()
    assert (expected[0] != expected[1]).any()


def test_meshes_and_skeletons_are_shown_while_they_are_of_the_present_objects(run: Path) -> None:
    merged, folder = run / "receipts/merge/v/segmentation.json", run / "volumes/v"
    write_json(merged, {"digest": "1"})
    for rule in ("meshes", "skeletons"):
        write_json(run / f"receipts/{rule}/v/all.json", {"merged": receipts_digest([merged])})
        write_json(folder / rule / "precomputed" / "info", {"@type": rule})
        (folder / rule / "precomputed" / "6").write_bytes(b"0123456789")
        (folder / f"{rule}.csv").write_text("id,length_um\n6,1\n")
    view = seen(run)
    found, address = layers(view), f"{URL}volumes/v/meshes/precomputed"
    assert found["segmentation"]["source"][-1] == f"precomputed://{address}"
    assert (found["segmentation"]["segments"], found["segmentation"]["notSelectedAlpha"]) == (["6"], 0.4)
    assert found["skeletons"]["source"] == f"precomputed://{URL}volumes/v/skeletons/precomputed"
    assert content(view, f"{address}/6") == b"0123456789"
    assert view.mounts["volumes/v/meshes/precomputed/"]("../raw.zarr/zarr.json") is None
    assert layers(seen(run, error=2))["segmentation"]["segments"] == ["6"]
    write_json(merged, {"digest": "2"})
    assert "segments" not in layers(seen(run))["segmentation"]
    assert "skeletons" not in layers(seen(run))
    merged.unlink()


def test_segmentations_of_others_are_read_in_any_format(run: Path, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "raw.tif", STORES["raw"], photometric="minisblack")
    theirs = STORES["labels"].astype(np.uint16) * 300
    tifffile.imwrite(tmp_path / "theirs.tif", theirs, photometric="minisblack")
    raw, own = str(tmp_path / "raw.tif"), {"peer": str(tmp_path / "theirs.tif")}
    view = view_of(write_run(run, {}, volume={"raw": raw, "compare": own, "voxel_size_nm": [40, 4, 8]}), URL)
    address = layers(view)["peer"]["source"][0].removeprefix("zarr://")
    chunk = np.frombuffer(content(view, f"{address}/0/c/1/1/2"), np.uint32).reshape(2, 16, 16)
    np.testing.assert_array_equal(chunk[:, :, :4], theirs[2:4, 16:32, 32:])


def test_another_server_is_told_only_of_what_lies_in_the_folder(run: Path) -> None:
    view = seen(run, static=True)
    assert list(layers(view)) == ["splits", "merges", "raw", "probability", "truth", "segmentation"]
    assert view.left_out == ["errors"]
    sources = json.dumps([layer["source"] for layer in view.state["layers"]])
    assert "precomputed" not in sources
    for layer in ("raw", "probability", "labels", "segmentation"):
        assert f"zarr://{URL}volumes/v/{layer}.zarr" in sources
        assert (run / f"volumes/v/{layer}.zarr").is_dir()


def test_what_is_not_there_yet_is_left_out(tmp_path: Path) -> None:
    write_run(tmp_path, {"raw": STORES["raw"]})
    assert list(layers(seen(tmp_path))) == ["raw"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"error": 3}, "view.error: got 3, but of the errors of volume 'v' 2 are known"),
        ({"position": [6, 0, 0]}, r"view.position: voxel \[6, 0, 0\] is outside volume 'v' of \[6, 40, 36\] voxels"),
    ],
)
def test_a_place_that_is_not_there_is_told(run: Path, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ViewError, match=message):
        seen(run, **asked)


def test_a_volume_that_was_not_read_is_told(tmp_path: Path) -> None:
    config = write_run(tmp_path, {})
    (tmp_path / "receipts/survey/v.json").unlink()
    with pytest.raises(ViewError, match=r"volume 'v' has not been read into .* yet; run `snakemake` first"):
        view_of(config, URL)
