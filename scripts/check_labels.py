"""Check the labels of a volume before a network is trained on them or scored against them.

Inputs: `targets.zarr`, `labels.zarr` or `classes.zarr`, `raw.zarr`, the receipts of `survey` and
`intensity_statistics`.

Outputs: a receipt with the voxels per class, the number of instances and all warnings.

1. Count classes, instances and Euler characteristics block by block. A block and the number of ids bound the memory.
2. Compare the counts with what labels of their kind can hold, and check that no channel is constant.
3. Compare the borders of the labels with the intensities, also mirrored, transposed and shifted, in some windows.
4. Stop the run if the labels can hardly be right (`label_check: error`), else log a warning.
5. For training volumes, stop if a class occurs nowhere, or no object for affinities.
6. Name the annotated sections that the training leaves out, since thresholds are chosen on them.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from unet.config.label_kinds import UNLABELLED
from unet.config.volumes import VolumeConfig
from unet.geometry.box import Box, Index
from unet.jobs.progress import Progress
from unet.jobs.script import run_script
from unet.storage.digests import fingerprint, receipts_digest
from unet.storage.files import read_json, write_receipt
from unet.training.held_back import MIN_SECTIONS, held_back_sections
from unet.training.label_check import (
    LabelError,
    LabelProblem,
    constant_channel_problems,
    ignored_value_problems,
    label_problems,
    require_every_class,
    require_objects,
)
from unet.training.label_counts import LabelCounts, count_labels, summary_line
from unet.training.label_orientation import (
    ORIENTATIONS,
    SECTION_SHIFTS,
    WINDOWS,
    Orientation,
    PlacementScore,
    ShiftCorrelation,
    best_shift,
    box_in_file,
    correlate_borders,
    is_possible,
    orientation_problem,
    orientation_windows,
    oriented,
    score,
    shift_problem,
    spectrum,
    unrelated_problem,
)
from unet.volumes.volume import Volume

log = logging.getLogger(__name__)


def main(
    survey: Path,
    receipt: Path,
    folder: Path,
    volume: VolumeConfig,
    label_check: Literal["error", "warn"],
    used: bool,
    held_back: float = 0.0,
    intensity_statistics: Path | None = None,
    targets: list[Path] | None = None,
    training_targets: list[Path] | None = None,
    output: Literal["classes", "affinities"] = "classes",
    threads: int = 1,
) -> None:
    """Write the counts of the labels to `receipt`; raise an error if the labels can hardly be right.

    `held_back` is the share of the annotated sections that are left out of the training.
    """
    source = Volume.open(folder, survey)
    if not used or intensity_statistics is None:
        log.info("labels of %s: not used, the volume is neither learnt from nor scored", source.name)
        nothing = {"used": False, "held_back": [], "warnings": []}
        write_receipt(receipt, {"rule": "check_labels", "digest": fingerprint(used=False), **nothing})
        return
    names = volume.class_names
    counts, annotated = _counts(source, volume, threads)
    voxels = int(np.prod(source.layout.shape))
    log.info("labels of %s: %s", source.name, summary_line(counts, volume.label_kind, names, voxels))
    measured = read_json(intensity_statistics)["statistics"]
    deviations = [one["std"] for one in measured if one["count"] > 1]  # a single voxel is no constant image
    found = constant_channel_problems(source.name, deviations) + label_problems(
        source.name, counts, volume.label_kind, names
    )
    files = [Box.parse(box) for box in read_json(survey).get("label_boxes", [])]
    found += ignored_value_problems(source.name, volume.not_annotated_values, counts.annotated == voxels)
    found += _orientation(source, volume, orientation_windows(annotated, files, source.layout.shape))
    _refuse_or_warn(found, label_check, source.name)
    if training_targets and output == "classes":
        require_every_class(_class_voxels(training_targets), names)
    elif training_targets:
        require_objects(_class_voxels(training_targets))
    left_out = held_back_sections(np.flatnonzero(counts.sections).tolist(), held_back)
    if left_out:
        log.info("held back from the training of %s: section(s) %s", source.name, ", ".join(map(str, left_out)))
    elif held_back:
        log.warning(
            "volumes.%s: of %d annotated sections none is held back from the training (%d are needed): thresholds are "
            "chosen on sections that the network learns from, which looks too good",
            source.name,
            counts.annotated_sections,
            MIN_SECTIONS,
        )
    largest, size, euler = counts.largest
    write_receipt(
        receipt,
        {
            "rule": "check_labels",
            "digest": fingerprint(made=receipts_digest([intensity_statistics, *(targets or [])]), held_back=left_out),
            "used": True,
            "voxels": voxels,
            "class_voxels": dict(zip(names, counts.classes.tolist(), strict=True)),
            "instances": counts.instances,
            "euler": counts.euler,
            "largest_instance": {"id": largest, "voxels": size, "euler": euler},
            "sections": [counts.annotated_sections, len(counts.sections)],
            "held_back": left_out,
            "warnings": [problem.text for problem in found],
        },
    )


Annotated = dict[int, list[tuple[int, Box]]]
"""By section, blocks and their annotated voxels in the section."""


def _counts(source: Volume, volume: VolumeConfig, threads: int) -> tuple[LabelCounts, Annotated]:
    """Return the counts of a volume, summed over its blocks, and the blocks of each section where most is annotated."""
    grid = source.layout.grid
    progress = Progress("check_labels", len(grid), "blocks")
    total = LabelCounts.empty(len(volume.class_names), source.layout.shape[0])
    annotated: Annotated = {}
    with ThreadPoolExecutor(threads) as pool:
        for box, counts in zip(
            grid.boxes(), pool.map(partial(_count_block, source, volume), grid.boxes()), strict=True
        ):
            total += counts
            for z in np.flatnonzero(counts.sections).tolist():
                blocks = [*annotated.get(z, []), (int(counts.sections[z]), box)]
                annotated[z] = sorted(blocks, key=lambda one: (-one[0], one[1]))[:WINDOWS]
            progress.advance(1)
    return total, annotated


def _orientation(source: Volume, volume: VolumeConfig, windows: list[tuple[Box, Box]]) -> list[LabelProblem]:
    """Return a problem if the labels fit the intensities better in another position, or not at all as they are."""
    if volume.labels is None or not windows:
        return []
    whole = Box.of_shape(source.layout.shape)
    store = source.image("labels" if volume.label_kind == "instances" else "classes")
    raw = source.image("raw")  # of several channels the first one counts
    intensities = [spectrum(raw.read(window).reshape(-1, *window.shape)[0, 0]) for window, _ in windows]
    labels = [store.read(window)[0] for window, _ in windows]
    given = [correlate_borders(own, values) for own, values in zip(intensities, labels, strict=True)]

    def placed(placement: Orientation | Index, boxes: list[Box], turn: Orientation) -> PlacementScore:
        """Score labels that lie in other boxes, in the windows for which the volume holds these."""
        usable = [i for i, box in enumerate(boxes) if whole.contains(box)]
        found: list[ShiftCorrelation] = [
            correlate_borders(intensities[i], oriented(store.read(boxes[i]), turn)[0]) for i in usable
        ]
        return PlacementScore(placement, score(found), score(given[i] for i in usable))

    scores = [
        placed(turn, [box_in_file(window, file, turn) for window, file in windows], turn)
        for turn in ORIENTATIONS
        if all(is_possible(turn, file) for _, file in windows)
    ]
    scores += [
        placed((-by, 0, 0), [window.shifted((by, 0, 0)) for window, _ in windows], Orientation())
        for by in SECTION_SHIFTS
    ]
    shifted = best_shift(list(zip(intensities, labels, strict=True)), score(given))
    best = max((one for one in [*scores, shifted] if one and one.is_better), key=lambda one: one.score, default=None)
    first = volume.labels[0]
    if best is None:
        doubt = unrelated_problem(source.name, score(given), sum(window.size for window, _ in windows))
        return [doubt] if doubt else []
    if isinstance(best.placement, Orientation):
        return [orientation_problem(source.name, len(volume.labels), first.path, first.flip, first.axes, best)]
    return [shift_problem(source.name, first.path, best)]


def _count_block(source: Volume, volume: VolumeConfig, box: Box) -> LabelCounts:
    """Return the counts of a block, which is read with one more pixel along y and x; no voxel beyond is annotated."""
    depth, height, width = source.layout.shape
    window = Box(box.start, (box.stop[0], box.stop[1] + 1, box.stop[2] + 1)).clipped(source.layout.shape)
    beyond = ((0, 0), (0, int(box.stop[1] == height)), (0, int(box.stop[2] == width)))
    targets = np.pad(source.class_targets(window), beyond, constant_values=UNLABELLED)
    ids = np.pad(source.true_ids(window), beyond)
    return count_labels(targets, ids, box.start, len(volume.class_names), depth)


def _refuse_or_warn(found: list[LabelProblem], label_check: str, volume: str) -> None:
    """Raise an error for problems that stop a run, or log all problems as warnings."""
    stopping = [problem.text for problem in found if problem.is_error]
    if stopping and label_check == "error":
        reasons = "; ".join(stopping)
        raise LabelError(f"{reasons}. If it is right all the same, set `volumes.{volume}.label_check: warn`")
    for problem in found:
        log.warning("%s", problem.text)


def _class_voxels(receipts: list[Path]) -> dict[str, list[int]]:
    """Return the voxels of each class by volume. The receipts of a volume's block ranges lie in one folder."""
    found: dict[str, list[int]] = {}
    for path in receipts:
        own, volume = read_json(path)["class_voxels"], path.parent.name
        found[volume] = [a + b for a, b in zip(found.get(volume, [0] * len(own)), own, strict=True)]
    return found


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
