"""Measuring objects as jobs: tables of a volume in blocks against scikit-image on the whole, resume, second stores."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from skimage.measure import regionprops

from tests.scripts.calls import not_covered
from tests.scripts.conftest import SCRIPTS, NotedProject, Project, Refused
from unet.config.segment import SegmentConfig
from unet.segmentation.merge_table import ObjectTable, save_merge_table
from unet.storage.files import read_json

RNG = np.random.default_rng(0)
RAW = RNG.integers(0, 256, (4, 64, 80), dtype=np.uint8)
IDS = RNG.integers(0, 31, (2, 8, 16)).astype(np.uint32).repeat(2, 0).repeat(8, 1).repeat(5, 2)
"""Lumps of 2 x 8 x 5 voxels that cross the borders of blocks; some objects are several lumps, and 0 is none."""
PROBABILITY = (255 - RAW).astype(np.uint8)
TRUTH = np.where(IDS % 5 == 1, 0, IDS)
INSIDE = (np.arange(IDS.size).reshape(IDS.shape) % 3).astype(np.uint8)


@pytest.fixture(scope="module")
def segmented(tmp_path_factory: pytest.TempPathFactory) -> NotedProject:
    """A volume of 2 x 2 x 3 blocks with labels and a segmentation, that of a network with one class."""
    folder = tmp_path_factory.mktemp("objects")
    for name, values in (("raw", RAW), ("labels", TRUTH), ("inside", INSIDE)):
        tifffile.imwrite(folder / f"{name}.tif", values, photometric="minisblack")
    files = {name: str(folder / f"{name}.tif") for name in ("raw", "labels")}
    volume = {**files, "voxel_size_nm": [50, 4, 4], "inside": {"vesicles": str(folder / "inside.tif")}}
    project = NotedProject(
        folder, {"volumes": {"train": volume}, "storage": {"chunk": [1, 16, 16], "block": [2, 32, 32]}}
    )
    project.ingest("train")
    source = project.volume("train")
    ids = source.create("segmentation", "uint32", kind="label")
    found = source.create("probability", "uint8", channels=["a"])
    for box in source.layout.grid.boxes():
        ids.write_block(box, IDS[box.slices])
        found.write_block(box, PROBABILITY[box.slices][None])
    count = int(IDS.max())
    table = ObjectTable(np.zeros(0, np.uint32), np.arange(count), np.ones(count, np.int64), np.ones(count, np.uint8))
    save_merge_table(source.merge_table("segmentation"), np.zeros(1, np.int64), 1, count, [table])
    return project


def measure(project: Project) -> list[Path]:
    """Count in all block ranges."""
    return project.each_range("measure", "train", segment=SegmentConfig().model_dump(), has_labels=True)


def objects(project: Project, **settings: Any) -> dict[str, list[dict[str, str]]]:
    """Write the tables, and read them."""
    stores = project.stores("train")
    volumes = [project.config.volumes["train"].model_dump()]
    receipt = project.receipt("objects", "train", "all")
    arguments = {"surveys": [project.receipt("survey", "train")], "receipts": [receipt], "folders": [stores]}
    project.job("objects", receipt, **arguments, volumes=volumes, classes=[None], objects=settings)
    return {path.stem: list(csv.DictReader(path.open())) for path in stores.glob("*.csv")}


def test_tables_are_those_of_the_whole_volume(segmented: Project) -> None:
    measure(segmented)
    tables = objects(segmented)
    whole = regionprops(IDS, PROBABILITY, spacing=(50, 4, 4))
    assert len(whole) > 20
    for row, one in zip(tables["objects"], whole, strict=True):
        assert (int(row["id"]), int(row["voxels"]), row["class"]) == (one.label, one.num_pixels, "a")
        assert float(row["mean_probability"]) == pytest.approx(one.intensity_mean / 255, rel=1e-6)
        assert float(row["centroid_y_nm"]) == pytest.approx(one.centroid[1], rel=1e-6)
        inside = INSIDE[tuple(one.coords.T)]
        assert int(row["vesicles_count"]) == len(set(inside[inside > 0]))
        removed = one.label % 5 == 1
        assert (int(row["truth_id"]), float(row["truth_iou"])) == ((0, 0) if removed else (one.label, 1))
    for row in tables["inside-vesicles"]:
        own = (int(row["id"]) == IDS) & (int(row["value"]) == INSIDE)
        assert int(row["voxels"]) == np.count_nonzero(own)
    beside = [(IDS[:-1], IDS[1:]), (IDS[:, :-1], IDS[:, 1:]), (IDS[..., :-1], IDS[..., 1:])]
    faces = [int(((a != b) & (a > 0) & (b > 0)).sum()) for a, b in beside]
    areas = [4 * 4e-6, 50 * 4e-6, 50 * 4e-6]
    assert sum(int(row["faces"]) for row in tables["contacts"]) == sum(faces) > 0
    assert sum(float(row["area_um2"]) for row in tables["contacts"]) == pytest.approx(np.dot(faces, areas), rel=1e-4)


def test_whatever_a_job_calls_is_covered_by_the_digest_of_its_rule(segmented: NotedProject) -> None:
    found = {rule: not_covered(segmented.calls[rule], SCRIPTS / f"{rule}.py") for rule in ("measure", "objects")}
    assert found == {"measure": set(), "objects": set()}


def test_finished_blocks_are_not_measured_again_and_a_lost_table_is(segmented: Project) -> None:
    measure(segmented)
    made = [read_json(path)["run"]["blocks_made"] for path in measure(segmented)]
    assert made == [0, 0]
    lost = next((segmented.stores("train") / "segmentation-tables").glob("objects-*.npz"))
    before = lost.read_bytes()
    lost.unlink()
    assert sum(read_json(path)["run"]["blocks_made"] for path in measure(segmented)) == 1
    assert lost.read_bytes() == before


def test_parquet_holds_the_same(segmented: Project) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    measure(segmented)
    rows = objects(segmented, parquet=True)["objects"]
    table = parquet.read_table(segmented.stores("train") / "objects.parquet")
    assert table.column_names == list(rows[0])
    assert table["voxels"].to_pylist() == [int(row["voxels"]) for row in rows]
    files = read_json(segmented.receipt("objects", "train", "all"))["files"]
    assert len(files) == 6


def test_without_pyarrow_it_is_said_how_to_install_it(segmented: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(Refused, match=r"objects.parquet: true needs pyarrow, of the extra parquet"):
        objects(segmented, parquet=True)
