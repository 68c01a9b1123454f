"""Two chains from image files to scores, script by script: a network in 3-D, and three classes with a mask.

The networks learn for seconds only: what is looked at is that every store is what it should be, not how good it is.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from tests.scripts.calls import not_covered
from tests.scripts.conftest import SCRIPTS, NotedProject, Project, Refused
from unet.config.segment import SegmentConfig
from unet.network.model_header import read_header
from unet.segmentation.foreground import foreground
from unet.segmentation.merge_table import load_merge_table
from unet.storage.files import read_json
from unet.training.synthetic import synthesise

SHAPE = (6, 48, 48)


@dataclass
class Run:
    """A finished chain on volume `train`."""

    project: Project
    raw: np.ndarray
    labels: np.ndarray
    evaluation: dict[str, Any]

    def array(self, store: str) -> np.ndarray:
        """All voxels of a store."""
        return self.project.array("train", store)


def stack(path: Path, values: np.ndarray) -> str:
    """A multi-page TIFF."""
    tifffile.imwrite(path, values, photometric="minisblack")
    return str(path)


def run_chain(folder: Path, settings: dict[str, Any]) -> tuple[Project, dict[str, Any]]:
    """Every script from survey to evaluate, in the order and with the arguments of the rules."""
    project = NotedProject(folder, settings)
    config, name = project.config, "train"
    volume, survey = config.volumes[name], project.receipt("survey", name)
    project.intensity_statistics(name)
    grey, fit = project.receipt("intensity_statistics", name), project.receipt("check_model", name)
    ingested = {block_range: project.receipt("ingest", name, block_range) for block_range in project.block_ranges(name)}
    common = {"folder": project.stores(name), "survey": survey}

    def segmented(store: str, made: dict[str, Path], threshold: Path | None = None) -> list[Path]:
        """Segment, merge and relabel a store; returns the receipts of the last."""
        own = config.segment if store == "segmentation" else SegmentConfig()
        segment = {"segment": own.model_dump(), "background": False, "threshold": threshold, "store": store}
        tables = project.each_range("segment", name, store, made=lambda block_range: [made[block_range]], **segment)
        merged, settings = project.receipt("merge", name, store), own.model_dump()
        whole = {"made": tables, "layers_per_part": 1000, "store": store, "segment": settings}
        project.job("merge", merged, **whole, **common, code="one")
        return project.each_range("relabel", name, store, merged=merged, store=store)

    labelled = [grey] if volume.label_kind == "instances" else segmented("labels", ingested)
    weights = config.weights.model_dump()
    drawn = {"volume": volume.model_dump(), "weights": weights, "check_model": fit}
    targets = project.each_range("targets", name, intensity_statistics=grey, labelled=labelled, **drawn)
    ours = {"own_targets": targets, "training_targets": targets, "weights": weights}
    weighted = project.each_range("weight_map", name, **ours)

    checked = project.receipt("check_labels", name)
    checks = {"volume": volume.model_dump(), "label_check": "warn", "used": True, "training_targets": targets}
    checks |= {"intensity_statistics": grey, "targets": targets, "held_back": config.held_back_share(name)}
    project.job("check_labels", checked, **checks, **common)

    model = folder / "results" / "model"
    made = {"intensity_statistics": [grey], "targets": targets, "weighted": weighted, "checked": [checked]}
    learnt = {"surveys": [survey], "folders": [project.stores(name)], **made}
    files = {"model": model / "model.pt", "curve": model / "training.jsonl"}
    how = {"model_config": config.model.model_dump(), "train": config.train.model_dump(), "classes": config.class_names}
    project.job("train", project.receipt("train", "model"), **learnt, **files, **how, code="one")

    prediction = {"intensity_statistics": grey, "model": files["model"], "predict": config.predict.model_dump()}
    prediction |= {"slurm": config.slurm.model_dump(), "worker_logs": project.folder / "workers"}
    predicted = project.each_range("predict", name, **prediction)
    what = {"foreground": config.segment.main_class}
    what |= {"intensity_statistics": grey, "check_model": fit, "checked": [checked]}
    sweep, threshold = project.receipt("threshold_sweep", name), project.receipt("choose_threshold", "all")
    project.job("threshold_sweep", sweep, predicted=predicted, labelled=labelled, **what, **common, code="one")
    project.job("choose_threshold", threshold, sweeps=[sweep], code="one")
    segmented("segmentation", dict(zip(ingested, predicted, strict=True)), threshold)
    score = {"sections_alone": config.segment.sections_alone, "fixed_threshold": None, "threshold": threshold}
    score |= {"volume": volume.model_dump(), "foreground": config.segment.main_class}
    evaluation, table = project.stores(name) / "evaluation.json", project.stores(name) / "overlap.npz"
    files = {"evaluation": evaluation, "table": table, "sweep": sweep}
    found = project.job("evaluate", evaluation, **files, **score, **common)
    return project, found


@pytest.fixture(scope="module")
def three_d(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A 3-D network with anisotropic pooling, on instances, joined across sections."""
    folder = tmp_path_factory.mktemp("three-d")
    raw, cells = (volume[:, :48, :48] for volume in synthesise(sections=6, size=64, seed=5))
    # Cells grown until they touch: no membrane is annotated, as in FIB-SEM data.
    nearest = [ndimage.distance_transform_edt(s == 0, return_distances=False, return_indices=True) for s in cells]
    labels = np.stack([section[tuple(index)] for section, index in zip(cells, nearest, strict=True)])
    settings = {
        "volumes": {
            "train": {
                "raw": stack(folder / "raw.tif", raw),
                "labels": stack(folder / "labels.tif", labels),
                "voxel_size_nm": [40, 8, 8],
            }
        },
        "storage": {"chunk": [2, 16, 16], "block": [4, 32, 32]},
        "model": {"dimensions": 3, "pooling": [[1, 2, 2]]},
        "train": {"tile": [14, 28, 28], "steps": 6},
        "predict": {"tile": [14, 28, 28]},
        "segment": {"connectivity": "volume", "threshold": "auto"},
        "evaluate": {"volumes": ["train"], "threshold_volumes": ["train"]},
    }
    project, evaluation = run_chain(folder, settings)
    return Run(project, raw, labels, evaluation)


@pytest.fixture(scope="module")
def three_classes(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three classes, one of them in patches, a part not annotated, tissue in a part alone; two input channels."""
    folder = tmp_path_factory.mktemp("three-classes")
    raw, ids = (volume[:, :48, :48] for volume in synthesise(sections=6, size=192, seed=6))
    classes = np.where(ids == 0, 0, np.where(ids % 2 == 0, 200, 100)).astype(np.uint8)
    classes[5] = 50
    mask = np.ones(SHAPE, np.uint8)
    mask[:, :20, :30] = 0
    settings = {
        "volumes": {
            "train": {
                "raw": [stack(folder / "raw.tif", raw), stack(folder / "inverted.tif", 255 - raw)],
                "labels": stack(folder / "labels.tif", classes),
                "mask": stack(folder / "mask.tif", mask),
                "label_kind": "classes",
                "class_values": {"membrane": 0, "cell": 100, "dark": [200], "ignore": 50},
                "voxel_size_nm": [50, 4, 4],
            }
        },
        "storage": {"chunk": [1, 16, 16], "block": [2, 16, 32]},
        "segment": {"foreground": "cell", "threshold": "auto"},
        "evaluate": {"volumes": ["train"], "threshold_volumes": ["train"]},
    }
    project, evaluation = run_chain(folder, settings)
    return Run(project, raw, classes, evaluation)


def chosen(run: Run) -> float:
    """The threshold that the sweep chose."""
    return float(run.evaluation["scores"]["threshold"])


def assert_same_objects(found: np.ndarray, expected: np.ndarray) -> None:
    """Two labellings are the same but for the names of their objects."""
    pairs = np.unique(np.stack([found.ravel(), expected.ravel()]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


def test_whatever_a_job_calls_is_covered_by_the_digest_of_its_rule(three_d: Run, three_classes: Run) -> None:
    for run in (three_d, three_classes):
        assert isinstance(run.project, NotedProject)
        assert len(run.project.calls) > 10
        found = {rule: not_covered(calls, SCRIPTS / f"{rule}.py") for rule, calls in run.project.calls.items()}
        assert found == {rule: set() for rule in run.project.calls}


def test_a_3d_network_gives_objects_of_the_whole_volume(three_d: Run) -> None:
    probability, segmentation = three_d.array("probability"), three_d.array("segmentation")
    assert probability.shape == (1, *SHAPE)
    assert len(np.unique(probability)) > 5
    above = foreground(probability[0], chosen(three_d))
    assert 0 < above.mean() < 1
    whole, count = ndimage.label(above)
    assert_same_objects(segmentation, whole)
    assert sorted(np.unique(segmentation)[1:]) == list(range(1, count + 1))


def test_a_border_is_drawn_where_cells_touch_and_weighs_most(three_d: Run) -> None:
    targets, weights = three_d.array("targets"), three_d.array("weights")
    assert set(np.unique(targets)) == {0, 1}
    for one, other in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[:, :, 1:], np.s_[:, :, :-1])):
        touching = three_d.labels[one] != three_d.labels[other]
        assert touching.any()
        assert not (targets[one] | targets[other])[touching].any()
    assert (weights > 0).all()
    assert weights[targets == 0].mean() > weights[targets == 1].mean()


def test_the_3d_chain_is_scored(three_d: Run) -> None:
    scores = three_d.evaluation["scores"]
    assert set(scores["class_iou"]) == {"background", "interior"}
    assert all(0 <= scores[key] <= 1 for key in ("pixel_error", "v_rand", "v_info", "adapted_rand_error"))


def test_with_three_classes_every_class_has_a_channel(three_classes: Run) -> None:
    image = three_classes.project.volume("train").image("probability")
    probability = three_classes.array("probability")
    assert image.spec.channels == ("membrane", "cell", "dark")
    assert probability.shape == (3, *SHAPE)
    total = probability.astype(int).sum(axis=0)
    tissue = three_classes.array("mask") > 0
    assert abs(total[tissue] - 255).max() <= 2  # three roundings


def test_both_input_channels_are_stored_and_learnt_from(three_classes: Run) -> None:
    raw = three_classes.array("raw")
    np.testing.assert_array_equal(raw, np.stack([three_classes.raw, 255 - three_classes.raw]))
    first, second = read_json(three_classes.project.receipt("intensity_statistics", "train"))["statistics"]
    assert first["mean"] == pytest.approx(255 - second["mean"])
    header = read_header(three_classes.project.folder / "results/model/model.pt")
    assert header["channels"] == 2
    assert header["normalisation"]["trained_on"]["train"] == [first, second]


def test_nothing_is_learnt_predicted_or_found_outside_the_tissue(three_classes: Run) -> None:
    outside = three_classes.array("mask") == 0
    assert outside.any()
    assert not three_classes.array("probability")[:, outside].any()
    assert not three_classes.array("segmentation")[outside].any()
    assert not three_classes.array("weights")[outside].any()
    assert (three_classes.array("targets")[outside] == 255).all()


def test_what_is_not_annotated_is_not_learnt(three_classes: Run) -> None:
    assert (three_classes.array("classes")[5] == 255).all()
    assert (three_classes.array("targets")[5] == 255).all()
    assert not three_classes.array("weights")[5].any()
    assert not three_classes.array("labels")[5].any()


def test_instances_of_annotated_classes_are_their_connected_pieces(three_classes: Run) -> None:
    classes, labels = three_classes.array("classes"), three_classes.array("labels")
    for z in range(SHAPE[0]):
        pieces = np.zeros(SHAPE[1:], int)
        for index in (1, 2):
            found = ndimage.label(classes[z] == index)[0]
            pieces = np.where(found > 0, found + pieces.max(), pieces)
        assert_same_objects(labels[z], pieces)


def test_the_named_class_makes_the_instances(three_classes: Run) -> None:
    threshold = chosen(three_classes)
    cell = foreground(three_classes.array("probability")[1], threshold)
    np.testing.assert_array_equal(three_classes.array("segmentation") > 0, cell)
    assert set(three_classes.evaluation["scores"]["class_iou"]) == {"membrane", "cell", "dark"}


def test_several_classes_make_instances_of_their_own(three_classes: Run) -> None:
    project, classes = three_classes.project, ["cell", "dark"]
    segment = SegmentConfig(foreground=classes, threshold=0.3).model_dump()
    arguments = {"made": [], "store": "segmentation", "segment": segment, "background": False}
    made = project.each_range("segment", "train", "segmentation", **arguments)
    merged = project.receipt("merge", "train", "segmentation")
    common = {"folder": project.stores("train"), "survey": project.receipt("survey", "train")}
    whole = {"made": made, "layers_per_part": 1000, "store": "segmentation", "segment": segment}
    project.job("merge", merged, **whole, **common, code="two")
    table = load_merge_table(project.volume("train").merge_table("segmentation"))
    fragments = project.array("train", "segmentation-fragments") > 0
    probability = three_classes.array("probability")[1:]
    expected = foreground(probability.max(axis=0), 0.3)
    np.testing.assert_array_equal(fragments, expected)
    counts = [
        sum(ndimage.label(section)[1] for section in (probability.argmax(axis=0) == k) & expected) for k in (0, 1)
    ]
    assert [int((table.class_values == k).sum()) for k in (1, 2)] == counts


# Behind an address


def test_a_chain_on_s3_learns_and_finds_the_same(three_d: Run, s3: Any, bucket: str, tmp_path: Path) -> None:
    settings = three_d.project.settings
    storage = {**settings["storage"], "address": f"s3://{bucket}/run"}
    project, evaluation = run_chain(tmp_path, {**settings, "storage": storage})
    assert not list(tmp_path.rglob("*.zarr"))
    assert evaluation["scores"] == three_d.evaluation["scores"]
    for store in ("raw", "labels", "targets", "weights", "probability", "segmentation"):
        np.testing.assert_array_equal(project.array("train", store), three_d.array(store), err_msg=store)


def test_a_run_whose_stores_were_copied_behind_an_address_finds_them_finished(
    three_d: Run, s3: Any, bucket: str, tmp_path: Path
) -> None:
    settings = three_d.project.settings
    shutil.copytree(three_d.project.folder, tmp_path / "copy")
    stores = Project(tmp_path / "copy").stores("train")
    for folder in stores.glob("*.zarr"):
        files = {path.relative_to(stores).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        s3.upload(bucket, {f"run/train/{key}": path.read_bytes() for key, path in files.items()})
        shutil.rmtree(folder)
    storage = {**settings["storage"], "address": f"s3://{bucket}/run"}
    project, evaluation = run_chain(tmp_path / "copy", {**settings, "storage": storage})
    receipts = [path for path in project.folder.rglob("*-of-*.json") if "histogram" not in path.parts]  # counts anew
    made = {path: read_json(path)["run"]["blocks_made"] for path in receipts}
    assert len(made) == 12
    assert set(made.values()) == {0}
    assert evaluation["scores"] == three_d.evaluation["scores"]


def test_another_folder_of_results_is_kept_from_an_address(three_d: Run, s3: Any, bucket: str, tmp_path: Path) -> None:
    settings = three_d.project.settings
    storage = {**settings["storage"], "address": f"s3://{bucket}/run"}
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
    Project(tmp_path / "first", {**settings, "storage": storage}).intensity_statistics("train")
    with pytest.raises(Refused, match=rf"s3://{bucket}/run/train: the stores of another results folder lie there"):
        Project(tmp_path / "second", {**settings, "storage": storage}).intensity_statistics("train")
