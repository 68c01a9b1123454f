"""Write the report of a run: configuration, learning curve, viewer, scores and costs on one page.

Inputs: the stores of every predicted volume, `evaluation.json`, `overlap.npz`, `training.jsonl`, `plan.json`, and the
receipts of `suspected_merges`.

Outputs: `report.html`, the tiles of its viewer in folder `report`, `scores.json`, `run_config.yaml`.

1. Collect the scores of all volumes, and compare other segmentations with this one.
2. Judge the objects, choose what to do next by rules, and write a methods paragraph.
3. Draw the first, middle and last section as they were read, crops of suspected merge errors, and the tiles of the
   viewer.
4. Put measured costs beside the estimate of `snakemake plan`, and add the results of `snakemake verify` if they are of
   the present predictions.
"""

import json
import logging
from collections.abc import Sequence
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from unet import __version__
from unet.config.label_kinds import UNLABELLED
from unet.config.root import Config
from unet.evaluation.contingency import Contingency
from unet.geometry.box import Box, Index
from unet.jobs.script import run_script
from unet.run.plan.estimates import estimated_rules, measured_jobs, read_plan, store_sizes
from unet.run.provenance import NAME as RECORD
from unet.run.report.decoder_table import DecoderTable, decoder_table
from unet.run.report.headline import few_objects_warnings, headline
from unet.run.report.inputs_section import GreyHistogram, InputsAsRead, grey_histogram, input_facts, section_as_read
from unet.run.report.inserted_sections import insert_section
from unet.run.report.meshes_section import recorded_meshes, render_meshes_section
from unet.run.report.methods_section import Methods, RunRecords, methods
from unet.run.report.next_steps import RunNumbers
from unet.run.report.page import ReportData, render
from unet.run.report.pictures import contact_row
from unet.run.report.run_numbers import Decoding, decoding, run_numbers, scored_volumes
from unet.run.report.scores_section import SCORES
from unet.run.report.suspected_section import SuspectedInVolume
from unet.run.report.tiles import tile_levels
from unet.run.report.verdict import SegmentedVolume, Verdict, how_made, judged_volume, verdict
from unet.run.report.verify_section import VolumeChecks, render_verify_section
from unet.run.report.viewer import FOLDER, ViewedVolume, render_viewer, viewed_volume, write_tiles
from unet.run.report.viewer_layers import VolumeLayers
from unet.run.ro_crate import NAME as CRATE
from unet.segmentation.region_graph import fragment_ids
from unet.storage.digests import receipts_digest
from unet.storage.files import load_arrays, read_json, write_atomically, write_json
from unet.volumes.volume import Volume

PACKAGES = ("snakemake", "torch", "zarr", "dask", "numcodecs", "numpy", "scipy", "tifffile")
CROP_PX = 256
"""Side in px of the crop around a suspected merge error."""
WIDEST_PX = 4096
"""Side in px of the window that is shown of an input, from the middle of a section."""

log = logging.getLogger(__name__)


def main(
    surveys: list[Path],
    segmented: list[Path],
    evaluations: list[Path],
    tables: list[Path],
    suspected: list[Path],
    report: Path,
    template: Path,
    results: Path,
    config: Config,
    merged: str,
    summary: Path,
    run_config: Path,
    decoder: Path | None = None,
    tiles: Path | None = None,
) -> None:
    """Write the page to `report`, the scores to `summary`, and the configuration `merged` to `run_config`.

    `decoder` is the receipt of `choose_decoder`. `tiles` is the folder of the viewer's tiles, of a page with one.
    """
    for record in (RECORD, CRATE):
        (results / record).unlink(missing_ok=True)  # records of an earlier report; this run writes its own at its end
    found = [read_json(path) for path in evaluations]
    scores = {one["volume"]: _flat(one["scores"]) for one in found}
    overlaps = {one["volume"]: Contingency(**load_arrays(path)) for one, path in zip(found, tables, strict=True)}
    volumes = [Volume.open(results / "volumes" / path.stem, path) for path in surveys]
    delivered = {
        volume.name: {"stored_objects": read_json(path)["objects"], **_ordered(scores.get(volume.name, {}))}
        for volume, path in zip(volumes, segmented, strict=True)
    }
    curve = results / "model" / "training.jsonl"
    planned = read_plan(results / "plan.json", config)
    trained_here = config.model.checkpoint is None and curve.exists()
    trained = read_json(results / "receipts" / "train" / "model.json") if trained_here else {}
    training = [json.loads(line) for line in curve.read_text().splitlines()] if trained_here else []
    labels = {volume.name: _labels(results, volume.name) for volume in volumes}
    decoded = decoding(results / "receipts", config)
    scored = scored_volumes(scores, config, labels)
    worst = {one["volume"]: one["worst"] for one in found}
    objects = {name: own["stored_objects"] for name, own in delivered.items()}
    versions = {"unet-em": __version__, **{name: version(name) for name in PACKAGES}}
    viewed = _viewed(volumes, config, overlaps, found)
    page = ReportData(
        title="unet-em: segmentation report",
        warnings=list(few_objects_warnings(delivered)),
        verdict=_verdict(
            config, volumes, objects, decoded, run_numbers(results, config, objects, scored, decoded, training)
        ),
        inputs={
            volume.name: _inputs(volume, path, config, labels[volume.name])
            for volume, path in zip(volumes, surveys, strict=True)
        },
        scores={one.name: one.scores for one in scored},
        kinds={one.name: one.kind for one in scored},
        training=training,
        kept_step=trained.get("kept_step"),
        sweeps={one["volume"]: one["sweep"] for one in found if one["sweep"]},
        agglomeration=decoded.agglomeration,
        agglomeration_threshold=decoded.agglomeration_threshold,
        affinities=config.model.output == "affinities",
        decoder=_decoders(decoder, config),
        viewer=render_viewer(template.parent / "viewer", viewed, config.report.single_file),
        compare={one["volume"]: _compared(one) for one in found if one["compare"]},
        worst={one.name: worst[one.name] for one in scored if worst[one.name]},
        suspected={path.stem: _suspected(results, surveys, path) for path in suspected},
        methods=_methods(config, volumes, decoded, scores, versions, trained),
        benchmarks=measured_jobs(results),
        estimated=estimated_rules(planned) if planned else {},
        stores=store_sizes(planned, results / "volumes") if planned else (),
        configuration=merged,
        versions=versions,
    )
    for one in scored:
        if judged := judged_volume(one):
            delivered[one.name] |= {"level": judged.level, "learnt": judged.learnt}
    html = _with_checks(render(template, page), results, template.with_name("checks.html.j2"))
    html = _with_meshes(html, results, segmented, template.with_name("meshes.html.j2"))
    write_tiles(viewed if tiles else [], report.with_name(FOLDER))
    write_atomically(report, html.encode())
    write_json(summary, delivered)
    write_atomically(run_config, merged.encode())
    for line in headline(delivered):
        log.info("%s", line)


def _decoders(decoder: Path | None, config: Config) -> DecoderTable | None:
    """Return the table of the decoders that were compared."""
    if decoder is None:
        return None
    return decoder_table(read_json(decoder), config.segment, config.evaluate.threshold_volumes)


def _with_checks(page: str, results: Path, template: Path) -> str:
    """Insert the results of `verify` into the page, if they are of the present predictions."""
    receipt = results / "receipts" / "verify" / "all.json"
    verified = read_json(receipt) if receipt.exists() else {"checks": {}}
    folders = [results / "receipts" / "predict" / name for name in verified["checks"]]
    predicted = [path for folder in folders for path in folder.glob("*-of-*.json")]
    if not predicted or receipts_digest(predicted) != verified["digest"]:
        return page
    checks = {name: VolumeChecks(**values) for name, values in verified["checks"].items()}
    return insert_section(page, "checks", render_verify_section(template.read_text(), checks, verified["when"]))


def _with_meshes(page: str, results: Path, merged: list[Path], template: Path) -> str:
    """Insert the picture of the largest objects, where meshes of the present objects were made."""
    found = recorded_meshes(
        [results / "receipts" / "meshes" / path.parent.name / "all.json" for path in merged], merged
    )
    return insert_section(page, "meshes", render_meshes_section(template.read_text(), found)) if found else page


def _flat(scores: dict[str, Any]) -> dict[str, float | None]:
    """Return scores without nesting; the IoU of each class gets a name of its own."""
    classes = {f"IoU {name}": value for name, value in scores["class_iou"].items()}
    return {**{key: value for key, value in scores.items() if key != "class_iou"}, **classes}


def _ordered(scores: dict[str, Any]) -> dict[str, Any]:
    """Return scores in the order of the report."""
    known = [score.key for score in SCORES if score.key in scores]
    return {key: scores[key] for key in [*known, *scores]}


def _verdict(
    config: Config, volumes: list[Volume], objects: dict[str, int], decoded: Decoding, numbers: RunNumbers
) -> Verdict:
    """Return the verdict on the objects of all volumes."""
    own = decoded.segment
    how = how_made(own.method, own.agglomerate.method, own.sections_alone, decoded.threshold)
    segmented = [
        SegmentedVolume(
            one.name,
            one.layout.shape,
            one.layout.voxel_size_nm,
            objects[one.name],
            config.is_sample(config.volumes[one.name]),
        )
        for one in volumes
    ]
    return verdict(segmented, how, numbers)


def _methods(
    config: Config,
    volumes: list[Volume],
    decoded: Decoding,
    scores: dict[str, Any],
    versions: dict[str, str],
    trained: dict[str, Any],
) -> Methods:
    """Return the methods paragraph, with the steps and thresholds of this run."""
    records = RunRecords(
        versions=versions,
        volumes={one.name: (one.layout.shape, one.layout.voxel_size_nm) for one in volumes},
        segment=decoded.segment,
        steps=trained.get("steps"),
        kept_step=trained.get("kept_step"),
        threshold=decoded.threshold,
        agglomeration_threshold=decoded.agglomeration_threshold,
        scores=scores,
    )
    return methods(config, records)


def _labels(results: Path, name: str) -> dict[str, Any]:
    """Return what was counted of the labels of a volume; nothing where it has none."""
    path = results / "receipts" / "check_labels" / f"{name}.json"
    counted: dict[str, Any] = read_json(path) if path.exists() else {}
    return counted


def _compared(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return columns of scores: ours, each other segmentation, and both where the other one labels."""
    columns: dict[str, dict[str, Any]] = {"ours": {}}
    for name, reference in found["compare"].items():
        columns["ours"] = {key: found["scores"][key] for key in reference["scores"]}
        columns[name] = reference["scores"]
    for name, reference in found["compare"].items():
        if reference["labelled_share"] < 1:
            where = f"on the {100 * reference['labelled_share']:.1f} % that {name} labels"
            columns[f"ours, {where}"], columns[f"{name}, {where}"] = (
                reference["where_labelled"][k] for k in ("ours", "theirs")
            )
    return columns


def _opened(results: Path, surveys: list[Path], name: str) -> Volume:
    [survey] = [path for path in surveys if path.stem == name]
    return Volume.open(results / "volumes" / survey.stem, survey)


def _around(volume: Volume, centre: Sequence[int]) -> tuple[Box, np.ndarray]:
    """Return the crop of a section around a voxel, and its grey values."""
    z, y, x = centre
    corner = [max(0, min(c - CROP_PX // 2, n - CROP_PX)) for c, n in zip((y, x), volume.layout.shape[1:], strict=True)]
    box = Box((z, *corner), (z + 1, *(lo + CROP_PX for lo in corner))).clipped(volume.layout.shape)
    return box, volume.image("raw").read(box).reshape(-1, *box.shape)[0, 0]  # of several channels the first one


def _suspected(results: Path, surveys: list[Path], path: Path) -> SuspectedInVolume:
    """Return the suspected merge errors of a volume, with the fragments of the object at each contact."""
    found, volume = read_json(path), _opened(results, surveys, path.stem)
    pictures = []
    for pair in found["largest"]:
        box, raw = _around(volume, pair["centre"])
        ids = volume.image("segmentation").read(box)[0]
        fragments = fragment_ids(volume.image("segmentation-fragments").read(box), box, volume.layout.grid)[0]
        pictures.append(contact_row(raw, ids, fragments, pair["object"]))
    return SuspectedInVolume(found["pairs"], found["largest"], pictures)


def _inputs(volume: Volume, survey: Path, config: Config, labels: dict[str, Any]) -> InputsAsRead:
    """Return what was read of a volume's files, with pictures of the first, middle and last section."""
    receipt, own = read_json(survey), config.volumes[volume.name]
    raw, annotation = volume.image("raw"), None
    if own.labels is not None:
        annotation = volume.image("labels" if own.label_kind == "instances" else "classes")
    depth, height, width = volume.layout.shape
    y, x = max(0, (height - WIDEST_PX) // 2), max(0, (width - WIDEST_PX) // 2)
    pictures = []
    for z in sorted({0, depth // 2, depth - 1}):
        box = Box((z, y, x), (z + 1, y + WIDEST_PX, x + WIDEST_PX)).clipped(volume.layout.shape)
        grey = raw.read(box).reshape(-1, *box.shape)[0, 0]  # of several channels the first one
        drawn = None if annotation is None else annotation.read(box)[0]
        if drawn is not None and own.label_kind != "instances":
            drawn = np.where(drawn == UNLABELLED, 0, drawn)
        pictures.append(section_as_read(grey, drawn, f"section {z}"))
    facts = input_facts(receipt, own, labels)
    return InputsAsRead(facts, receipt.get("remarks", ()), pictures, _grey_values(volume, survey))


def _grey_values(volume: Volume, survey: Path) -> GreyHistogram | None:
    """Return the grey values of the first channel, constant regions left out where there is anything else."""
    receipts = survey.parents[1]
    counted = [
        load_arrays(path, "counts")["counts"][0] for path in (receipts / "histogram" / volume.name).glob("*.npz")
    ]
    statistics = receipts / "intensity_statistics" / survey.name
    if not counted or not statistics.exists():
        return None
    outside, inside, _ = np.sum(counted, axis=0)
    kept = outside if outside.any() else inside
    return grey_histogram(kept, volume.layout.dtype, read_json(statistics)["statistics"][0])


def _viewed(
    volumes: list[Volume], config: Config, overlaps: dict[str, Contingency], found: list[dict[str, Any]]
) -> list[ViewedVolume]:
    """Return the tiles of all volumes, in their order; what a small one leaves of the budget is for the larger ones."""
    named, left = {volume.name: volume for volume in volumes}, round(config.report.budget_mb * 1e6)
    worst = {one["volume"]: [tuple(row["centre"]) for row in one["worst"]] for one in found}
    viewed: dict[str, ViewedVolume] = {}
    for name in sorted(named, key=lambda name: (prod(named[name].layout.shape), name)):
        share = left // (len(named) - len(viewed))
        viewed[name] = _viewed_volume(named[name], config, overlaps.get(name), worst.get(name, []), share)
        left -= viewed[name].file_bytes
    return [viewed[name] for name in named]


def _viewed_volume(
    volume: Volume, config: Config, overlap: Contingency | None, worst: list[Index], budget: int
) -> ViewedVolume:
    """Return the tiles of one volume, of at most `budget` bytes; of the finest level those around its worst objects."""
    layout, factors = volume.layout, volume.image("raw").spec.factors
    scored, alone = overlap is not None, config.segment.sections_alone
    levels = tile_levels(layout.shape, factors, layout.voxel_size_nm)
    layers = VolumeLayers(volume, levels, config.segment.main_class, scored, None if alone else overlap)
    places = [*worst, tuple(n // 2 for n in layout.shape)]
    return viewed_volume(volume.name, layout.shape, layout.voxel_size_nm, layers, levels, budget, places)


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
