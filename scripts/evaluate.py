"""Score a volume against its labels, block by block: pixels, classes, objects, and others' results beside ours.

Where skeletons of the true neurons are given, ours and others' are scored along them as well.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from unet.config.label_kinds import UNLABELLED
from unet.config.volumes import VolumeConfig
from unet.evaluation.comparison import Block, ReferenceSegmentation, true_ids, true_skeletons
from unet.evaluation.error_analysis import ErroneousObject, worst_objects
from unet.evaluation.expected_run_length import RunLength
from unet.evaluation.isbi import STEPS, section_errors, v_rand_v_info
from unet.evaluation.scores import Comparison, best, predicted_classes, section_cells
from unet.geometry.box import Box
from unet.jobs.log_line import format_values
from unet.jobs.progress import Progress
from unet.jobs.script import run_script
from unet.segmentation.foreground import as_probability, channel_of
from unet.storage.files import read_json, save_arrays, write_json
from unet.volumes.input_states import evaluation_made_from
from unet.volumes.volume import Volume

WORST = 10
TOLD = ("objects", "true_objects", "segmentation_v_rand", "voi_split", "voi_merge", "average_precision_50", "v_rand")
"""Scores that the log says; all are in `evaluation.json`."""

log = logging.getLogger(__name__)


def main(
    survey: Path,
    sweep: Path,
    evaluation: Path,
    table: Path,
    folder: Path,
    volume: VolumeConfig,
    foreground: str | None,
    sections_alone: bool,
    fixed_threshold: float | None,
    threshold: Path | None = None,
    threads: int = 1,
) -> None:
    """Write `evaluation.json`, and the overlap table of true and found objects."""
    made_from = evaluation_made_from(volume)
    source = Volume.open(folder, survey)
    channels = source.image("probability").spec.channels
    classes = ("background", *channels) if len(channels) == 1 else channels
    channel = channel_of(foreground, channels)
    comparison = Comparison(len(classes), per_section=sections_alone)
    skeletons = true_skeletons(volume, source.layout)
    runs = RunLength(skeletons) if skeletons else None
    peers = {name: ReferenceSegmentation.open(address, volume, skeletons) for name, address in volume.compare.items()}
    progress = Progress("evaluate", len(source.layout.grid), "blocks")
    for box in source.layout.grid.boxes():
        block = Block.read(source, box, volume.ignore_id)
        predicted = predicted_classes(source.image("probability").read(box))
        ours = channel if len(channels) > 1 else 1
        comparison.add(block.target, predicted, block.labels, block.segmentation, block.near, box.start[0], ours)
        if runs:
            runs.add(box, block.segmentation)
        for peer in peers.values():
            peer.add(block)
        progress.advance(1)
    swept = read_json(sweep)
    isbi = _isbi_scores(swept, threshold, fixed_threshold)
    scores = {**comparison.scores(), **isbi, **(runs.scores() if runs else {})}
    scores["class_iou"] = dict(zip(classes, scores["class_iou"], strict=True))
    if isbi:
        at = partial(_section_errors, source, channel, volume.ignore_id, isbi["threshold"])
        scores |= _mean_over_sections(at, source.layout.shape[0], threads)
    found = {
        "rule": "evaluate",
        "volume": source.name,
        "made_from": made_from,
        "scores": scores,
        "sweep": swept["scores"],
        "compare": {name: peer.scores() for name, peer in peers.items()},
        "worst": [] if sections_alone else _worst(source, comparison, volume.ignore_id),
    }
    for who, told in ({"ours": scores} | found["compare"]).items():
        log.info("%s, %s: %s", source.name, who, format_values({key: told[key] for key in TOLD if key in told}))
    save_arrays(table, vars(comparison.objects.table))
    write_json(evaluation, found)


def _isbi_scores(sweep: dict, threshold: Path | None, fixed: float | None) -> dict[str, float]:
    """V_rand and V_info at the best tenth, at the best fine threshold, and at the one chosen elsewhere."""
    rows = sweep["scores"]
    if not rows:
        return {}
    tenth, fine = best(rows, STEPS), best(rows)
    wanted = read_json(threshold)["best"]["threshold"] if threshold else fixed
    chosen = min(rows, key=lambda row: abs(row["threshold"] - (wanted or 0.5)))
    return {
        "best_v_rand": tenth["v_rand"],
        "best_v_info": tenth["v_info"],
        "best_step": tenth["threshold"],
        "fine_v_rand": fine["v_rand"],
        "fine_v_info": fine["v_info"],
        "fine_threshold": fine["threshold"],
        "threshold": chosen["threshold"],
        "v_rand": chosen["v_rand"],
        "v_info": chosen["v_info"],
    }


def _section_errors(
    source: Volume, channel: int, ignore_id: int | None, threshold: float, z: int
) -> dict[str, float] | None:
    box = Box((z, 0, 0), (z + 1, *source.layout.shape[1:]))
    target = source.image("targets").read(box)[0]
    probability = as_probability(source.image("probability").read(box)[channel][0])
    known = target != UNLABELLED
    cells = np.where(known, section_cells(source.image("labels").read(box), ignore_id)[0], 0)
    # what nobody annotated is membrane on both sides
    errors = section_errors(np.where(known, probability, 0), cells, known & (target > 0), threshold)
    if errors is None:
        return None
    v_rand, v_info = v_rand_v_info(cells, source.image("segmentation").read(box)[0])
    return {**errors, "segmentation_v_rand": v_rand, "segmentation_v_info": v_info}


def _mean_over_sections(errors_of: Any, sections: int, threads: int) -> dict[str, float]:
    with ThreadPoolExecutor(threads) as pool:
        rows = [row for row in pool.map(errors_of, range(sections)) if row]
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} if rows else {}


def _worst(source: Volume, comparison: Comparison, ignore_id: int | None) -> list[dict[str, Any]]:
    """The objects with most wrong voxels, and where to look at them: found in a second pass over the blocks."""
    worst = worst_objects(comparison.objects.table, WORST)
    for box in source.layout.grid.boxes() if worst else []:
        labels, segmentation = true_ids(source, box, ignore_id), source.image("segmentation").read(box)
        for one in worst:
            one.locate(labels, segmentation, box)
    return [_as_row(one, source) for one in worst]


def _as_row(one: ErroneousObject, source: Volume) -> dict[str, Any]:
    nm = [o + v * c for o, v, c in zip(source.layout.offset_nm, source.layout.voxel_size_nm, one.centre, strict=True)]
    counts = {"size": one.size, "wrong": one.wrong, "partners": one.partners}
    share = one.wrong / prod(source.layout.shape)
    return {"kind": one.kind, "object": one.object, **counts, "share": share, "centre": one.centre, "centre_nm": nm}


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
