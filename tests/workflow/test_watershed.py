"""Watershed and agglomeration in real runs: what runs again after a change or a kill, and what stays the same."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from unet.config.label_kinds import not_annotated_id
from unet.config.root import load_config
from unet.evaluation.contingency import contingency, variation_of_information
from unet.run.plan.disk import store_plans
from unet.run.plan.estimates import store_sizes
from unet.run.rules import job_counts
from unet.volumes.layout import VolumeLayout

if TYPE_CHECKING:
    from pathlib import Path

    from tests.workflow.conftest import Project

SOLVING = {"merge", "relabel", "suspected_merges", "evaluate", "report"}
RECEIPTS = (
    "region_graph",
    "suspected_merges",
    "agglomeration_threshold_sweep",
    "choose_agglomeration_threshold",
    "merge",
    "threshold_sweep",
    "choose_threshold",
    "ingest",
)
SECTIONS: dict[str, Any] = {
    "segment": {
        "method": "watershed",
        "threshold": 0.5,
        "watershed": {"max_distance_px": 8, "smoothing_px": 1, "expand_px": 4},
        "agglomerate": {"threshold": "auto"},
        "suspected_merges": {"min_size": 200},
    },
    "volumes": {"train": {"compare": {"peer": "input/peer.tif"}, "skeletons": {"files": "input/true.swc"}}},
}


@pytest.fixture(scope="module")
def watershed(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The finished run, segmented by watershed and agglomeration; to be read only."""
    project = finished.copy(tmp_path_factory.mktemp("watershed") / "run")
    labels = tifffile.imread(project.folder / "input/labels.tif")
    half = np.where(np.arange(140) < 70, labels, 0).astype(np.uint16)
    tifffile.imwrite(project.folder / "input/peer.tif", half, photometric="minisblack")
    (project.folder / "input/true.swc").write_text(skeleton_of(labels))
    project.configure(SECTIONS)
    chosen = {"agglomeration_threshold_sweep", "choose_agglomeration_threshold"}
    assert project.run().rules == {"segment", "region_graph", *chosen, *SOLVING}
    return project


def skeleton_of(labels: np.ndarray) -> str:
    """Along the longest row of one cell in the first section, a node a voxel, in nm as SWC; in the half of the peer."""
    half = labels[0, :, :70]
    y, cell = max(
        ((y, cell) for y, row in enumerate(half) for cell in np.unique(row[row > 0])),
        key=lambda one: (half[one[0]] == one[1]).sum(),
    )
    nodes = [f"{i} 0 {4 * x} {4 * y} 0 1 {i - 1 or -1}" for i, x in enumerate(np.flatnonzero(half[y] == cell), 1)]
    return "\n".join([*nodes, f"{len(nodes) + 1} 0 0 0 9999 1 {len(nodes)}"])  # the last lies in no section


def evaluation_of(project: Project) -> dict[str, Any]:
    """The scores of the volume."""
    return json.loads((project.results / "volumes/train/evaluation.json").read_text())


def parts_of(segmentation: np.ndarray) -> int:
    """Number of objects."""
    return len(np.unique(segmentation[segmentation > 0]))


def test_fragments_are_joined_within_sections_and_across_them(watershed: Project) -> None:
    merged = watershed.receipt("merge", "train", "segmentation")
    assert merged["fragments"] > merged["components"] > merged["objects"] > 1
    segmentation = watershed.array("segmentation")
    assert parts_of(segmentation) == merged["objects"]
    sections = [set(np.unique(section)) - {0} for section in segmentation]
    assert any(one & other for one, other in pairwise(sections))
    assert not segmentation[watershed.array("mask") == 0].any()


def test_suspected_merge_errors_are_in_the_report_with_their_places(watershed: Project) -> None:
    found, volume = watershed.receipt("suspected_merges", "train"), watershed.results / "volumes/train"
    lines = (volume / "suspected_merges.csv").read_text().splitlines()
    assert lines[0] == "object,z,y,x,z_nm,y_nm,x_nm,larger_voxels,smaller_voxels,contacts,pairs,boundary,reason"
    assert len(lines) == 1 + found["pairs"] > 1
    segmentation, page = watershed.array("segmentation"), (watershed.results / "report.html").read_text()
    for pair in found["largest"]:
        z, y, x = pair["centre"]
        near = segmentation[max(0, z - 1) : z + 2, max(0, y - 8) : y + 9, max(0, x - 8) : x + 9]
        assert pair["object"] in near
        assert 200 <= pair["smaller"] <= pair["larger"] < (segmentation == pair["object"]).sum()
        assert f"contact at {z}, {y}, {x}: fragments of the object" in page


def test_jobs_and_files_are_as_estimated(watershed: Project) -> None:
    config = load_config(watershed.config)
    layout = VolumeLayout.read(watershed.results / "receipts/survey/train.json")
    plan = {"stores": [asdict(one) for one in store_plans(config, "train", layout, stored=1)]}
    sizes = store_sizes(plan, watershed.results / "volumes")
    assert [one for one in sizes if one.estimated_files != one.measured_files] == []
    found = {rule: {path.stem for path in (watershed.results / "receipts" / rule).rglob("*.json")} for rule in RECEIPTS}
    planned = {one.rule: one.jobs for one in job_counts(config, {"train": layout})}
    assert {rule: len(names) for rule, names in found.items()} == {rule: planned[rule] for rule in RECEIPTS}


def test_deleted_tables_are_noticed_and_made_again(watershed: Project, tmp_path: Path) -> None:
    project = watershed.copy(tmp_path / "run")
    volume = project.results / "volumes/train"
    tables, counted = volume / "segmentation-tables", project.results / "receipts/histogram/train/0-of-2.npz"
    before = {path: path.read_bytes() for path in (*tables.rglob("*.np*"), *volume.glob("labels-tables/*"), counted)}
    missing = [tables / "merge/lut.npy", max(tables.glob("edges-*.npz")), min(tables.glob("0*.npz")), counted]
    for path in missing:
        path.unlink()
    planned = project.run("-n").output
    assert {rule for rule in ("merge", "segment", "region_graph", "histogram") if f"receipts/{rule}/" in planned} == {
        *("merge", "segment", "region_graph", "histogram")
    }
    assert planned.count("the job runs again") == len(missing)
    assert not any(path.exists() for path in missing), "a dry run makes nothing"
    ran = project.run()
    assert {path: path.read_bytes() for path in before} == before
    made = {rule: project.blocks_made(ran, rule) for rule in ("segment", "region_graph", "relabel", "predict")}
    assert made == {"segment": 1, "region_graph": 1, "relabel": 0, "predict": 0}
    assert project.content("segmentation") == watershed.content("segmentation")
    assert not project.run().jobs


def test_the_threshold_of_the_agglomeration_is_chosen_on_the_sections_held_back(watershed: Project) -> None:
    chosen = watershed.receipt("choose_agglomeration_threshold", "all")["best"]
    rows = watershed.receipt("agglomeration_threshold_sweep", "train")["scores"]
    voi = np.array([row["voi_split"] + row["voi_merge"] for row in rows])
    assert chosen["smoothed_voi"] == pytest.approx(np.convolve(voi, np.ones(3) / 3, mode="valid").min())
    assert chosen["smoothed_voi"] < voi.max()
    held_back = watershed.receipt("check_labels", "train")["held_back"]
    assert 0 < len(held_back) < watershed.array("labels").shape[0]
    labels, objects = (watershed.array(store)[held_back] for store in ("labels", "segmentation"))
    labels[(labels == not_annotated_id(labels.dtype)) | (watershed.array("mask")[held_back] == 0)] = 0
    assert sum(variation_of_information(contingency(labels, objects))) == pytest.approx(chosen["voi"])


def test_anothers_result_is_scored_beside_ours_and_where_it_labels(watershed: Project) -> None:
    peer = evaluation_of(watershed)["compare"]["peer"]
    assert 0 < peer["labelled_share"] < 1
    assert peer["where_labelled"]["theirs"]["adapted_rand_error"] == pytest.approx(0)  # the truth itself, on one half
    assert peer["scores"]["adapted_rand_error"] > 0.1
    assert peer["where_labelled"]["ours"]["adapted_rand_error"] > 0
    page = (watershed.results / "report.html").read_text()
    assert "peer, on the" in page
    worst = evaluation_of(watershed)["worst"]
    assert 0 < len(worst) <= 10
    places = [dict(zip("zyx", one["centre"], strict=True)) for one in worst]
    assert all('href="#volume=train&amp;z={z}&amp;y={y}&amp;x={x}"'.format(**place) in page for place in places)


def test_ours_and_anothers_result_are_followed_along_the_true_skeletons(watershed: Project) -> None:
    found = evaluation_of(watershed)
    ours, theirs = found["scores"], found["compare"]["peer"]["scores"]
    assert theirs["erl_nm"] == theirs["erl_perfect_nm"] == pytest.approx(theirs["skeleton_nm"])  # the truth itself
    assert 0 < ours["erl_nm"] <= ours["erl_perfect_nm"] == theirs["erl_perfect_nm"]
    assert ours["skeleton_nodes_outside"] == 1
    assert "Expected run length" in (watershed.results / "report.html").read_text()


def test_another_agglomeration_threshold_solves_and_relabels_alone(watershed: Project, tmp_path: Path) -> None:
    project = watershed.copy(tmp_path / "copy")
    fragments = project.content("segmentation-fragments")
    project.configure({"segment": {"agglomerate": {"threshold": 0.02}}})
    assert project.run().rules == SOLVING
    assert project.content("segmentation-fragments") == fragments
    assert parts_of(project.array("segmentation")) > parts_of(watershed.array("segmentation"))
    assert not project.run().jobs


def test_labels_do_not_depend_on_the_blocks_nor_on_the_parts_that_are_merged(
    watershed: Project, new_project: Project
) -> None:
    model, chosen = watershed.results / "model/model.pt", watershed.receipt("choose_agglomeration_threshold", "all")
    new_project.configure(
        {
            "segment": {
                **SECTIONS["segment"],
                "agglomerate": {"threshold": chosen["best"]["threshold"]},
                "merge_voxels": 1,
            },
            "model": {"checkpoint": str(model)},
            "storage": {"chunk": [1, 32, 32], "block": [3, 96, 64]},
            "predict": {"job_voxels": 4 * 3 * 96 * 64},
            "evaluate": {"volumes": [], "threshold_volumes": []},
        }
    )
    new_project.run()
    np.testing.assert_array_equal(new_project.array("segmentation"), watershed.array("segmentation"))
    parts = {path.stem for path in (new_project.results / "receipts/merge_part/train/segmentation").iterdir()}
    layers = -(-len(watershed.array("segmentation")) // 3)
    assert parts == {f"{layer}-{layer + 1}" for layer in range(layers)}
    assert not new_project.run().jobs


def test_a_run_killed_in_the_middle_ends_with_the_same_bytes(
    finished: Project, watershed: Project, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path / "copy")
    project.configure({"segment": {**SECTIONS["segment"], "merge_voxels": 1}})
    old = len(project.records("segment/train", "segmentation"))
    project.kill_when(lambda: len(project.records("segment/train", "segmentation")) >= old + 4)
    project.unlock()
    project.kill_when(lambda: len(project.records("region_graph")) >= 3)
    project.unlock()
    project.kill_when(lambda: any((project.results / "receipts/merge_part").rglob("*.json")))
    project.unlock()
    project.run()
    for store in ("segmentation-fragments", "segmentation"):
        assert project.content(store) == watershed.content(store)


def test_a_decoder_is_chosen_on_the_sections_held_back_and_used(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "copy")
    fragments = [
        {"threshold": 0.5, "watershed": SECTIONS["segment"]["watershed"]},
        {"threshold": 0.7, "watershed": {"confidence_weight_px": 0}},
    ]
    candidates = {"fragments": fragments, "thresholds": [0.2, 0.4, 0.6, 0.8], "join_fragments_below": [0]}
    segment = {"method": "watershed", "decoder": "auto", "threshold": 0.5, "candidates": candidates}
    project.configure({"segment": {**segment, "suspected_merges": {}}})
    choosing = {"candidate_fragments", "candidate_graph", "decoder_sweep", "choose_decoder"}
    assert project.run().rules == {*choosing, "segment", "region_graph", *SOLVING}
    chosen, held_back = project.receipt("choose_decoder", "all"), project.receipt("check_labels", "train")["held_back"]
    labels, objects = (project.array(store)[held_back] for store in ("labels", "segmentation"))
    labels[(labels == not_annotated_id(labels.dtype)) | (project.array("mask")[held_back] == 0)] = 0
    assert sum(variation_of_information(contingency(labels, objects))) == pytest.approx(chosen["best"]["voi"])
    assert len(chosen["candidates"]) == 2
    assert "Decoders that were compared" in (project.results / "report.html").read_text()
    layout = VolumeLayout.read(project.results / "receipts/survey/train.json")
    plan = {"stores": [asdict(one) for one in store_plans(load_config(project.config), "train", layout, stored=1)]}
    sizes = store_sizes(plan, project.results / "volumes")
    assert {one.store for one in sizes} >= {"candidate-fragments", "candidate-tables"}
    assert [one for one in sizes if one.estimated_files != one.measured_files] == []


def test_holes_of_components_are_filled(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "copy")
    before = project.array("segmentation")
    project.configure({"segment": {"fill_holes": 10_000}})
    assert project.run().rules == {"segment", "region_graph", *SOLVING} - {"suspected_merges"}
    after = project.array("segmentation")
    filled = (before == 0) & (after > 0)
    assert filled.any()
    assert (after[before > 0] > 0).all()
    assert not (filled & (project.array("mask") == 0))[:, 0].any()
