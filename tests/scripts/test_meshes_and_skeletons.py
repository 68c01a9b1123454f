"""Meshes and skeletons as jobs: of whole objects over several blocks, at the right place, and not made twice."""

import csv
import re
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.scripts.calls import not_covered
from tests.scripts.conftest import SCRIPTS, NotedProject, Project, Refused
from unet.config.segment import SegmentConfig
from unet.evaluation.skeletons import read_skeletons
from unet.segmentation.merge_table import ObjectTable, save_merge_table
from unet.storage.files import read_json, write_json

IDS = np.zeros((5, 40, 70), np.uint32)
IDS[:, 10:15, 2:68] = 1
IDS[:, 20:38, 20:38] = 2
IDS[1, 2, 3] = 3
SIZES = np.bincount(IDS.ravel())[1:]
TEMPLATE = SCRIPTS.parent / "workflow" / "report" / "meshes.html.j2"
VOXEL_NM = (16, 8, 8)


@pytest.fixture(scope="module")
def segmented(tmp_path_factory: pytest.TempPathFactory) -> NotedProject:
    """A rod, a slab and a voxel in 3 x 2 x 3 blocks."""
    folder = tmp_path_factory.mktemp("shapes")
    tifffile.imwrite(folder / "raw.tif", IDS.astype(np.uint8), photometric="minisblack")
    volume = {"raw": str(folder / "raw.tif"), "voxel_size_nm": VOXEL_NM}
    storage = {"chunk": [1, 16, 16], "block": [2, 32, 32]}
    chain = {"train": {"volumes": []}, "model": {"checkpoint": "model.pt"}, "predict": {"volumes": ["all"]}}
    sections = {"volumes": {"all": volume}, "storage": storage, **chain}
    project = NotedProject(folder, sections)
    project.ingest("all")
    source = project.volume("all")
    ids = source.create("segmentation", "uint32", kind="label")
    found = source.create("probability", "uint8", channels=["a"])
    for box in source.layout.grid.boxes():
        ids.write_block(box, IDS[box.slices])
        found.write_block(box, np.full((1, *box.shape), 200, np.uint8))
    table = ObjectTable(np.zeros(0, np.uint32), np.arange(3), SIZES, np.ones(3, np.uint8))
    save_merge_table(source.merge_table("segmentation"), np.zeros(1, np.int64), 1, 3, [table])
    write_json(project.receipt("merge", "all", "segmentation"), {"rule": "merge", "digest": "3"})
    return project


def made(project: Project, rule: str, **settings: Any) -> list[dict[str, str]]:
    """Run a rule on the volume; returns the rows of its table."""
    table, receipt = project.stores("all") / f"{rule}.csv", project.receipt(rule, "all", "all")
    files = {"surveys": [project.receipt("survey", "all")], "receipts": [receipt], "folders": [project.stores("all")]}
    files["merged"] = [project.receipt("merge", "all", "segmentation")]
    if rule == "meshes":
        files |= {"report": project.folder / "report.html", "template": TEMPLATE}
    project.job(rule, receipt, **files, tables=[table], **{rule: settings}, code="one")
    return list(csv.DictReader(table.open()))


def test_meshes_are_of_whole_objects_at_their_place(segmented: NotedProject) -> None:
    pytest.importorskip("DracoPy")
    settings = {"largest": 2, "formats": ["obj", "neuroglancer"]}
    page = segmented.folder / "report.html"
    page.write_text("<!-- meshes --><!-- /meshes -->")
    segmented.each_range("surface_faces", "all", meshes=settings)
    rows = made(segmented, "meshes", **settings)
    assert [int(row["id"]) for row in rows] == [1, 2]
    for row, size in zip(rows, SIZES, strict=False):
        assert float(row["volume_um3"]) == pytest.approx(size * np.prod(VOXEL_NM) * 1e-9, rel=0.05)
    folder = segmented.stores("all") / "meshes"
    lines = [line.split()[1:] for line in (folder / "1.obj").read_text().splitlines() if line.startswith("v")]
    x, y, z = np.array(lines, float).T
    for found, first, stop, size in ((x, 2, 68, 8), (y, 10, 15, 8), (z, 0, 5, 16)):
        np.testing.assert_allclose([found.min(), found.max()], [(first - 0.5) * size, (stop - 0.5) * size], atol=size)
    assert sorted(path.name for path in (folder / "precomputed").iterdir()) == [
        "1",
        "1.index",
        "2",
        "2.index",
        "info",
    ]
    receipt = segmented.receipt("meshes", "all", "all")
    recorded = [receipt.parent / name for name in read_json(receipt)["files"]]
    assert {path.resolve() for path in (*folder.glob("*.obj"), *(folder / "precomputed").iterdir())} < {
        path.resolve() for path in recorded
    }
    assert re.findall(r'href="#volume=all[^"]*">(\d)</a>', page.read_text()) == ["2", "1"]  # the largest first
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*.obj")}
    (folder / "2.obj").unlink()
    made(segmented, "meshes", **settings)
    assert (folder / "1.obj").stat().st_mtime_ns == times[folder / "1.obj"]
    assert (folder / "2.obj").exists()


def test_named_objects_are_meshed_and_unknown_ones_refused(segmented: NotedProject) -> None:
    segmented.each_range("surface_faces", "all", meshes={"ids": {"all": [3]}})
    assert [row["id"] for row in made(segmented, "meshes", ids={"all": [3]}, formats=["stl"])] == ["3"]
    with pytest.raises(Refused, match=r"meshes.ids.all: there is no object 9; the ids of the volume are 1 to 3"):
        segmented.each_range("surface_faces", "all", meshes={"ids": {"all": [9]}})


def test_a_skeleton_spans_the_blocks_of_its_object(segmented: NotedProject) -> None:
    pytest.importorskip("bioimage_cpp")
    segmented.each_range("measure", "all", segment=SegmentConfig().model_dump(), has_labels=False)
    (rod,) = made(segmented, "skeletons", largest=1, radius_nm=50)
    assert (rod["id"], rod["trees"], rod["x_factor"]) == ("1", "1", "1")
    assert float(rod["length_um"]) == pytest.approx(66 * 8e-3, rel=0.15)
    swc = segmented.stores("all") / "skeletons" / "1.swc"
    nodes = read_skeletons(swc, unit_nm=1000).node_nm
    np.testing.assert_allclose(np.median(nodes[:, :2], axis=0), [2 * 16, 12 * 8], atol=16)
    before = swc.stat().st_mtime_ns
    made(segmented, "skeletons", largest=1, radius_nm=50)
    assert swc.stat().st_mtime_ns == before
    (small,) = made(segmented, "skeletons", largest=1, radius_nm=50, max_voxels=400)
    assert int(small["x_factor"]) > 1
    assert float(small["length_um"]) == pytest.approx(float(rod["length_um"]), rel=0.2)


def test_whatever_a_job_calls_is_covered_by_the_digest_of_its_rule(segmented: NotedProject) -> None:
    rules = [rule for rule in ("surface_faces", "meshes", "skeletons") if rule in segmented.calls]
    assert {rule: not_covered(segmented.calls[rule], SCRIPTS / f"{rule}.py") for rule in rules} == {
        rule: set() for rule in rules
    }


@pytest.mark.parametrize(
    ("rule", "settings", "what"),
    [
        ("meshes", {"reduction": 0.5}, "meshes.reduction: 0.5 needs bioimage-cpp"),
        ("meshes", {}, "meshes.formats: neuroglancer needs DracoPy"),
        ("skeletons", {}, "snakemake skeletons needs bioimage-cpp"),
    ],
)
def test_without_its_package_it_is_said_how_to_install_it(
    segmented: NotedProject, monkeypatch: pytest.MonkeyPatch, rule: str, settings: dict[str, Any], what: str
) -> None:
    monkeypatch.setattr("unet.measurement.meshes.is_installed", lambda package: False)
    monkeypatch.setattr("unet.measurement.skeletons.is_installed", lambda package: False)
    with pytest.raises(Refused, match=rf"{what}, of the extra {rule}: pip install"):
        made(segmented, rule, **settings)
