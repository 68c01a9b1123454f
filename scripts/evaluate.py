"""Score a volume against its labels: pixels, classes, objects, and skeletons if there are any.

Inputs: `segmentation.zarr`, `probability.zarr`, `labels.zarr`, `targets.zarr`, the receipt of `threshold_sweep` (of
classes alone), and the files of `compare` and `skeletons`.

Outputs: `evaluation.json`, and `overlap.npz` with the contingency table of true and predicted objects.

1. Compare labels and results block by block. Other segmentations (`compare`) are scored on the same voxels.
2. Take the scores of thresholding from the sweep, as the ISBI 2012 challenge defines them.
3. Score each section at the chosen threshold, and average over the sections.
4. Locate the objects with most wrong voxels in a second pass over the blocks.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.config.label_kinds import UNLABELLED
from unet.config.volumes import VolumeConfig
from unet.evaluation.comparison import ComparedBlock, ReferenceSegmentation, true_skeletons
from unet.evaluation.error_analysis import ErroneousObject, worst_objects
from unet.evaluation.expected_run_length import ExpectedRunLength
from unet.evaluation.isbi import CHALLENGE_THRESHOLDS, section_errors, v_rand_v_info
from unet.evaluation.scores import VolumeScores, best_threshold_by_v_rand, predicted_classes, section_cells
from unet.geometry.box import Box
from unet.geometry.offsets import affinity_offsets
from unet.jobs.log_line import format_values
from unet.jobs.progress import Progress
from unet.jobs.script import run_script
from unet.segmentation.foreground import as_probability, channel_of
from unet.storage.files import read_json, save_arrays, write_receipt
from unet.volumes.block_reader import in_reading_order
from unet.volumes.input_states import evaluation_input_states
from unet.volumes.volume import Volume

WORST = 10
"""Number of erroneous objects to locate."""
LOGGED_SCORES = (
    "objects",
    "true_objects",
    "segmentation_v_rand",
    "voi_split",
    "voi_merge",
    "average_precision_50",
    "v_rand",
)
"""Scores that are logged; `evaluation.json` holds all scores."""

log = logging.getLogger(__name__)


def main(
    survey: Path,
    evaluation: Path,
    table: Path,
    folder: Path,
    volume: VolumeConfig,
    foreground: str | None,
    sections_alone: bool,
    fixed_threshold: float | None,
    sweep: Path | None = None,
    threshold: Path | None = None,
    threads: int = 1,
) -> None:
    """Write the scores to `evaluation`, and the contingency table of the objects to `table`."""
    input_states = evaluation_input_states(volume)
    source = Volume.open(folder, survey)
    channels = source.image("probability").spec.channels
    classes, affinities = _classes(channels), affinity_offsets(channels) is not None
    channel = 0 if affinities else channel_of(foreground, channels)
    foreground_class = channel if len(channels) > 1 and not affinities else 1
    comparison = VolumeScores(len(classes), per_section=sections_alone)
    skeletons = true_skeletons(volume, source.layout)
    runs = ExpectedRunLength(skeletons) if skeletons else None
    references = {
        name: ReferenceSegmentation.open(address, volume, skeletons, source) for name, address in volume.compare.items()
    }
    progress = Progress("evaluate", len(source.layout.grid), "blocks")
    readers = [reference.reader for reference in references.values()]
    boxes = in_reading_order(source.layout.grid.boxes(), [reader.source for reader in readers])
    for reader in readers:
        reader.expect(boxes)
    for box in boxes:
        block = ComparedBlock.read(source, box)
        if affinities:  # a voxel is in the class of interiors if it is in an object
            predicted = (block.segmentation > 0).astype(np.uint8)
        else:
            predicted = predicted_classes(source.image("probability").read(box))
        comparison.add(
            *(block.target, predicted, block.labels, block.segmentation, block.near_border),
            box.start[0],
            foreground_class,
        )
        if runs:
            runs.add(box, block.segmentation)
        for reference in references.values():
            reference.add(block)
        progress.advance(1)
    swept = read_json(sweep) if sweep else {"scores": []}
    isbi = _isbi_scores(swept, threshold, fixed_threshold)
    scores = {**comparison.scores(), **isbi, **(runs.scores() if runs else {})}
    scores["class_iou"] = dict(zip(classes, scores["class_iou"], strict=True))
    if isbi or affinities:
        at = (
            partial(_section_errors, source, channel, isbi["threshold"])
            if isbi
            else partial(_section_object_scores, source)
        )
        scores |= _mean_over_sections(at, source.layout.shape[0], threads)
    found = {
        "rule": "evaluate",
        "volume": source.name,
        "input_states": input_states,
        "scores": scores,
        "sweep": swept["scores"],
        "compare": {name: reference.scores() for name, reference in references.items()},
        "worst": _worst(source, comparison),
    }
    for who, scored in ({"ours": scores} | found["compare"]).items():
        log.info(
            "%s, %s: %s", source.name, who, format_values({key: scored[key] for key in LOGGED_SCORES if key in scored})
        )
    save_arrays(table, vars(comparison.objects.overlap))
    write_receipt(evaluation, found)


def _classes(channels: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the classes that are scored; of affinities the background and the interior of objects."""
    if affinity_offsets(channels) is not None:
        return ("background", "interior")
    return ("background", *channels) if len(channels) == 1 else tuple(channels)


def _isbi_scores(sweep: dict, threshold: Path | None, fixed: float | None) -> dict[str, float]:
    """Return V_rand and V_info at the best tenth, at the best fine threshold, and at the chosen threshold."""
    rows = sweep["scores"]
    if not rows:
        return {}
    tenth, fine = best_threshold_by_v_rand(rows, CHALLENGE_THRESHOLDS), best_threshold_by_v_rand(rows)
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


def _section_errors(source: Volume, channel: int, threshold: float, z: int) -> dict[str, float] | None:
    """Return the scores of section `z` at a threshold; None if nothing in the section is annotated."""
    box = Box((z, 0, 0), (z + 1, *source.layout.shape[1:]))
    target = source.class_targets(box)[0]
    probability = as_probability(source.image("probability").read(box)[channel][0])
    known = target != UNLABELLED
    cells = np.where(known, section_cells(source.true_ids(box))[0], 0)
    # voxels that nobody annotated count as membrane, both in the truth and in the prediction
    errors = section_errors(np.where(known, probability, 0), cells, known & (target > 0), threshold)
    if errors is None:
        return None
    return {**errors, **_object_scores(source, box, cells)}


def _section_object_scores(source: Volume, z: int) -> dict[str, float] | None:
    """Return the scores of the objects of section `z`; None if it has no true cell."""
    box = Box((z, 0, 0), (z + 1, *source.layout.shape[1:]))
    cells = np.where(source.class_targets(box)[0] != UNLABELLED, section_cells(source.true_ids(box))[0], 0)
    return _object_scores(source, box, cells) if cells.any() else None


def _object_scores(source: Volume, box: Box, cells: NDArray[Any]) -> dict[str, float]:
    """Return V_rand and V_info of the segmentation of a section whose true cells are `cells` `(y, x)`."""
    v_rand, v_info = v_rand_v_info(cells, source.image("segmentation").read(box)[0])
    return {"segmentation_v_rand": v_rand, "segmentation_v_info": v_info}


def _mean_over_sections(errors_of: Any, sections: int, threads: int) -> dict[str, float]:
    """Return the mean of each score over the sections that have scores."""
    with ThreadPoolExecutor(threads) as pool:
        rows = [row for row in pool.map(errors_of, range(sections)) if row]
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} if rows else {}


def _worst(source: Volume, comparison: VolumeScores) -> list[dict[str, Any]]:
    """Return the objects with most wrong voxels and where they lie, found in a second pass over the blocks."""
    worst = worst_objects(comparison.objects.overlap, WORST)
    for box in source.layout.grid.boxes() if worst else []:
        truth = comparison.true_objects(source.true_ids(box), box.start[0])
        segmentation = source.image("segmentation").read(box)
        for one in worst:
            one.locate(truth, segmentation, box)
    return [_as_row(one, source, comparison) for one in worst]


def _as_row(one: ErroneousObject, source: Volume, comparison: VolumeScores) -> dict[str, Any]:
    """Return an erroneous object as a row of `evaluation.json`, with its centre in voxels and in nm.

    A true object has the id of the labels. Where sections are segmented alone, it is that id in the centre's section.
    """
    object_id = comparison.label_of(one.object_id) if one.kind == "split" else one.object_id
    nm = [o + v * c for o, v, c in zip(source.layout.offset_nm, source.layout.voxel_size_nm, one.centre, strict=True)]
    counts = {"size": one.size, "wrong": one.wrong_voxels, "partners": one.partners}
    share = one.wrong_voxels / prod(source.layout.shape)
    return {"kind": one.kind, "object": object_id, **counts, "share": share, "centre": one.centre, "centre_nm": nm}


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
