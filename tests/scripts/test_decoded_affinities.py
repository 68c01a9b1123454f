"""From stored affinities to objects, script by script: the same for any blocks, ranges and threads, and after kills."""

import os
import signal
import warnings
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.scripts.conftest import Project, Refused
from unet.evaluation.contingency import contingency, variation_of_information
from unet.geometry.block_ranges import block_range_names
from unet.geometry.box import Box
from unet.geometry.offsets import ISOTROPIC_OFFSETS, offset_name
from unet.segmentation.separation import separate_objects
from unet.storage.files import read_json, write_json

SHAPE = (12, 32, 30)
SEGMENT: dict[str, Any] = {
    "method": "watershed",
    "connectivity": "volume",
    "threshold": 0.3,
    "watershed": {"max_distance_px": 3, "smoothing_px": 0.7, "expand_px": 4},
    "agglomerate": {"method": "average_linkage", "threshold": 0.4, "join_fragments_below": 30},
    "fill_holes": 20,
    "max_offset_px": 3,
}


def cells_and_affinities() -> tuple[np.ndarray, np.ndarray]:
    """Voronoi cells `(z, y, x)`, and their noisy affinities `(c, z, y, x)` at the default offsets."""
    random = np.random.default_rng(4)
    voxels = np.stack(np.mgrid[tuple(map(slice, SHAPE))], axis=-1)
    seeds = random.integers(0, SHAPE, (9, 3))
    cells = np.argmin([((voxels - one) ** 2).sum(axis=-1) for one in seeds], axis=0) + 1
    found = np.zeros((len(ISOTROPIC_OFFSETS), *SHAPE), np.uint8)
    for levels, offset in zip(found, ISOTROPIC_OFFSETS, strict=True):
        same = cells == np.roll(cells, [-d for d in offset], axis=(0, 1, 2))
        levels[:] = np.clip(255 * (0.1 + 0.75 * same) + random.normal(0, 30, SHAPE), 0, 255)
    return cells, found


CELLS, AFFINITIES = cells_and_affinities()


class Ranged(Project):
    """A project with as many blocks in a block range as is wanted."""

    blocks_per_range = 1

    def block_ranges(self, volume: str, rule: str = "") -> list[str]:
        """All block ranges."""
        grid = self.volume(volume).layout.grid
        return block_range_names(grid, self.blocks_per_range * int(np.prod(grid.block)))


def with_probability(folder: Path, block: list[int], blocks_per_range: int, **segment: Any) -> Ranged:
    """A project with a store of affinities, as `predict` would have written it."""
    folder.mkdir(exist_ok=True)
    for name in ("raw", "labels"):
        tifffile.imwrite(folder / f"{name}.tif", CELLS.astype(np.uint8), photometric="minisblack")
    files = {name: str(folder / f"{name}.tif") for name in ("raw", "labels")}
    volume = {**files, "label_kind": "instances", "voxel_size_nm": [10, 10, 10]}
    settings = {
        "volumes": {"train": volume},
        "storage": {"chunk": [2, 4, 4], "block": block},
        "model": {"dimensions": 3, "output": "affinities"},
        "train": {"tile": [28, 28, 28], "volumes": ["train"]},
        "predict": {"tile": "auto"},
        "segment": {**SEGMENT, **segment},
    }
    project = Ranged(folder, settings)
    project.blocks_per_range = blocks_per_range
    project.ingest("train")
    source = project.volume("train")
    store = source.create("probability", "uint8", channels=[offset_name(offset) for offset in ISOTROPIC_OFFSETS])
    for box in source.layout.grid.boxes():
        store.write_block(box, AFFINITIES[box.trailing])
    return project


def decoded(
    project: Ranged, merging: dict[str, Any] | None = None, decoder: Path | None = None, threads: int = 1
) -> np.ndarray:
    """Run `segment`, `region_graph`, `merge` and `relabel`; returns the final labels."""
    name, segment = "train", project.config.segment.model_dump(exclude={"decoder", "candidates"})
    graph = {key: value for key, value in segment.items() if key != "agglomerate"}  # as in the rules
    labelling = {key: value for key, value in graph.items() if key not in ("max_offset_px", "fill_holes")}
    how = {"segment": labelling, "background": False, "store": "segmentation", "made": []}
    chosen = {} if decoder is None else {"decoder": decoder}
    segmented = project.each_range("segment", name, "segmentation", **how, **chosen, threads=threads)
    edges = project.each_range("region_graph", name, segmented=segmented, segment=graph, **chosen, threads=threads)
    merged = project.receipt("merge", name, "segmentation")
    common = {"folder": project.stores(name), "survey": project.receipt("survey", name)}
    how = {
        "made": [*segmented, *edges],
        "store": "segmentation",
        "segment": merging or segment,
        "layers_per_part": 1000,
    }
    project.job("merge", merged, **how, **chosen, **common, code="one")
    project.each_range("relabel", name, "segmentation", merged=merged, store="segmentation", threads=threads)
    return project.array(name, "segmentation")


def separated(project: Ranged) -> np.ndarray:
    """Run `relabel` again with `segment.separate_objects`."""
    merged = project.receipt("merge", "train", "segmentation")
    how = {"merged": merged, "store": "segmentation", "separated_axes": [0, 1, 2]}
    project.each_range("relabel", "train", "segmentation", **how)
    return project.array("train", "segmentation")


def suspected(project: Ranged) -> tuple[bytes, dict[str, Any]]:
    """Run `suspected_merges` after `decoded`; returns the table and the receipt without its digest."""
    name, receipts = "train", project.folder / "results" / "receipts"
    given = {rule: sorted((receipts / rule / name).rglob("*.json")) for rule in ("segment", "region_graph")}
    table, merged = project.stores(name) / "suspected_merges.csv", project.receipt("merge", name, "segmentation")
    found = project.job(
        *("suspected_merges", project.receipt("suspected_merges", name)),
        **{"folder": project.stores(name), "survey": project.receipt("survey", name), "merged": merged},
        **{"segmented": given["segment"], "edges": given["region_graph"], "table": table, "code": "one"},
        segment=project.config.segment.model_dump(),
    )
    return table.read_bytes(), {key: found[key] for key in ("pairs", "largest")}


@pytest.mark.parametrize("method", ["average_linkage", "mutex_watershed"])
def test_blocks_block_ranges_and_threads_do_not_matter(tmp_path: Path, method: str) -> None:
    agglomerate = {**SEGMENT["agglomerate"], "method": method}
    how = {"agglomerate": agglomerate, "suspected_merges": {"min_size": 100, "min_contacts": 300, "margin": 0.3}}
    whole_project = with_probability(tmp_path / "whole", [12, 32, 32], 1, **how)
    whole = decoded(whole_project)
    pairs, voxels = np.unique(np.stack([CELLS.ravel(), whole.ravel()]), axis=1, return_counts=True)
    assert sum(voxels[pairs[0] == cell].max() for cell in np.unique(CELLS)) > 0.85 * CELLS.size
    listed = suspected(whole_project)
    assert listed[1]["pairs"] > 0
    for pair in listed[1]["largest"]:
        z, y, x = pair["centre"]
        assert pair["object"] in whole[max(0, z - 1) : z + 2, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
        assert pair["larger"] + pair["smaller"] <= (whole == pair["object"]).sum()
    for number, (block, blocks_per_range) in enumerate([([6, 16, 32], 1), ([4, 32, 16], 4)]):
        project = with_probability(tmp_path / str(number), block, blocks_per_range, **how)
        assert len(project.block_ranges("train")) == [4, 2][number]
        np.testing.assert_array_equal(decoded(project, threads=1 + 2 * number), whole)
        assert suspected(project) == listed
    if method == "average_linkage":
        box = Box.of_shape(SHAPE)
        expected = separate_objects(whole, box, box, (0, 1, 2))
        assert 0 < (expected != whole).sum() < 0.5 * whole.size
        np.testing.assert_array_equal(separated(project), expected)
        np.testing.assert_array_equal(separated(whole_project), expected)


def test_a_method_for_classes_is_refused_by_the_configuration_and_by_the_job(tmp_path: Path) -> None:
    project = with_probability(tmp_path, [12, 32, 32], 1)
    segment = {**project.config.segment.model_dump(), "agglomerate": {"method": "mean"}}
    with pytest.raises(Refused, match=r"segment.agglomerate.method is mean, but the network gives affinities"):
        decoded(project, segment)
    project.settings["segment"] = segment
    with pytest.raises(ValueError, match=r"method is mean, which does not work with model.output: affinities"):
        _ = project.config
    project.settings |= {"segment": SEGMENT, "model": {"dimensions": 3}}
    with pytest.raises(ValueError, match=r"method is average_linkage, which does not work with model.output: classes"):
        _ = project.config


def test_the_threshold_of_the_mean_affinity_is_swept(tmp_path: Path) -> None:
    project = with_probability(tmp_path, [6, 16, 16], 4)
    decoded(project)
    grey = project.receipt("intensity_statistics", "train")
    project.intensity_statistics("train")
    sweep, chosen = project.receipt("agglomeration_threshold_sweep", "train"), project.receipt("choose", "all")
    how = {"check_model": project.receipt("check_model", "train"), "intensity_statistics": grey, "labelled": []}
    how |= {
        "checked": project.checked("train"),
        "segmented": [],
        "edges": [],
        "segment": project.config.segment.model_dump(),
    }
    common = {"folder": project.stores("train"), "survey": project.receipt("survey", "train")}
    rows = project.job("agglomeration_threshold_sweep", sweep, **how, **common, code="one")["scores"]
    assert rows[0]["voi_merge"] > rows[-1]["voi_merge"]  # a low mean affinity joins much
    assert rows[0]["voi_split"] < rows[-1]["voi_split"]
    project.job("choose_agglomeration_threshold", chosen, sweeps=[sweep], code="one")
    voi = np.array([row["voi_split"] + row["voi_merge"] for row in rows])
    smoothed, best = np.convolve(voi, np.ones(3) / 3, mode="valid"), read_json(chosen)["best"]
    assert best["smoothed_voi"] == pytest.approx(smoothed.min())
    assert best["threshold"] in [row["threshold"] for row in rows[1:-1]]


CANDIDATES: dict[str, Any] = {
    "fragments": [
        {"threshold": 0.3, "watershed": SEGMENT["watershed"]},
        {"threshold": 0.6, "watershed": {"max_distance_px": 4, "confidence_weight_px": 0, "expand_px": 2}},
    ],
    "max_offset_px": [1, None],
    "thresholds": [0.2, 0.4, 0.6, 0.8],
    "join_fragments_below": [0, 40],
}


def choosing(folder: Path, block: list[int], blocks_per_range: int) -> Ranged:
    """A project of which a decoder is to be chosen."""
    project = with_probability(folder, block, blocks_per_range)
    fixed = {"method": "watershed", "connectivity": "volume", "fill_holes": 0}
    project.settings["segment"] = {**fixed, "decoder": "auto", "candidates": CANDIDATES}
    project.settings["evaluate"] = {"threshold_volumes": ["train"]}
    project.intensity_statistics("train")
    return project


def swept(project: Ranged) -> tuple[dict[str, Any], dict[str, Any]]:
    """Choose the decoder; returns the receipts of `decoder_sweep` and `choose_decoder`."""
    segment = project.config.segment.model_dump()
    found = project.each_range("candidate_fragments", "train", made=[], segment=segment)
    edges = project.each_range("candidate_graph", "train", segmented=found, segment=segment)
    files = {name: project.receipt(name, "train") for name in ("survey", "check_model", "intensity_statistics")}
    how = {"segmented": found, "edges": edges, "labelled": [], "checked": project.checked("train"), "segment": segment}
    sweep, chosen = project.receipt("decoder_sweep", "train"), project.receipt("choose_decoder", "all")
    rows = project.job("decoder_sweep", sweep, **files, **how, folder=project.stores("train"), code="one")
    return rows, project.job("choose_decoder", chosen, sweeps=[sweep], segment=segment, code="one")


def test_the_score_of_a_decoder_is_that_of_its_segmentation_whatever_the_blocks(tmp_path: Path) -> None:
    whole, _ = swept(choosing(tmp_path / "whole", [12, 32, 32], 1))
    project = choosing(tmp_path / "blocks", [4, 32, 16], 4)
    rows, chosen = swept(project)
    assert len(project.block_ranges("train")) == 2
    assert rows["scores"] == whole["scores"]
    assert len(rows["scores"]) == 2 * 2 * 2 * 2 * 4
    best = chosen["best"]
    assert best["threshold"] in (0.4, 0.6)
    final = decoded(project, decoder=project.receipt("choose_decoder", "all"))
    voi = sum(variation_of_information(contingency(CELLS, final)))
    assert voi == pytest.approx(best["voi"])
    assert voi < sum(variation_of_information(contingency(CELLS, np.ones_like(CELLS)))) / 2


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    """Another choice of the linkage labels no block again; of lost candidates only the lost block is made."""
    project = choosing(tmp_path, [6, 32, 32], 2)
    _, chosen = swept(project)
    receipt = project.receipt("choose_decoder", "all")
    decoded(project, decoder=receipt)
    chosen["settings"]["agglomerate"] = {"method": "mutex_watershed", "threshold": 0.3, "join_fragments_below": 9}
    write_json(receipt, chosen)
    decoded(project, decoder=receipt)
    min((project.stores("train") / "candidate-tables").glob("edges-1-0-*")).unlink()
    segment = project.config.segment.model_dump()
    project.each_range("candidate_fragments", "train", made=[], segment=segment)
    project.each_range("candidate_graph", "train", segmented=[], segment=segment)
    made = {"segment": 0, "region_graph": 0, "candidate_fragments": 0, "candidate_graph": 1}
    for rule, blocks in made.items():
        path = ("segmentation",) if rule == "segment" else ()
        assert read_json(project.receipt(rule, "train", *path, "0-of-1"))["run"]["blocks_made"] == blocks


def counted_writes(at_each: Callable[[], None]) -> None:
    """Call a function before a file gets its name, and before a line of a journal is safe."""

    def before(real: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            at_each()
            real(*arguments)

        return call

    os.replace, os.fsync = before(os.replace), before(os.fsync)  # type: ignore[assignment]


def killed_at(write: int, work: Callable[[], object]) -> None:
    """Do some work in a process that is killed by SIGKILL at one of its writes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside the threads of libraries
        child = os.fork()
    if child == 0:
        signal.alarm(300)
        numbers = count()
        counted_writes(lambda: os.kill(os.getpid(), signal.SIGKILL) if next(numbers) == write else None)
        try:
            work()
        finally:
            os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def test_killed_again_and_again_it_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the candidates of the decoder to the final labels. Each of four runs gets a fifth of all writes done."""

    def all_of(project: Ranged) -> None:
        swept(project)
        decoded(project, decoder=project.receipt("choose_decoder", "all"))

    whole, killed = (choosing(tmp_path / name, [6, 16, 32], 2) for name in ("whole", "killed"))
    writes = count()
    with monkeypatch.context() as restored:
        restored.setattr(os, "replace", os.replace)
        restored.setattr(os, "fsync", os.fsync)
        counted_writes(lambda: next(writes))
        all_of(whole)
    fifth = next(writes) // 5
    for _ in range(4):
        killed_at(fifth, lambda: all_of(killed))
    all_of(killed)
    files = {path.relative_to(whole.folder): path for path in whole.stores("train").rglob("*") if path.is_file()}
    assert {path.suffix for path in files} >= {".npz", ".npy", ".json"}
    assert [name for name, path in files.items() if (killed.folder / name).read_bytes() != path.read_bytes()] == []
