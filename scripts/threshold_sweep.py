"""Score the probabilities of a labelled volume at every threshold, as the ISBI 2012 challenge does.

Inputs: `probability.zarr`, `labels.zarr`, `raw.zarr` and `mask.zarr` for blank regions.

Outputs: a receipt with V_rand and V_info at every threshold.

Of affinities, the interior that they give within the section is thresholded.

1. For each section, take the labels inside the tissue. Sections without labels are left out.
2. Compute V_rand and V_info of the thresholded probability against the labels, at every threshold.
3. Average over all sections, and over those that the training has left out. A few sections bound the memory.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from unet.evaluation.isbi import FINE_THRESHOLDS, sweep_thresholds
from unet.evaluation.scores import mean_scores, section_cells
from unet.geometry.box import Box
from unet.jobs.progress import Progress
from unet.jobs.script import run_script
from unet.segmentation.foreground import as_probability, read_foreground
from unet.storage.digests import fingerprint, receipts_digest
from unet.storage.files import read_json, write_receipt
from unet.volumes.intensity import Normalisation
from unet.volumes.volume import Volume

log = logging.getLogger(__name__)

TissueOf = Callable[[Box], np.ndarray | None]
"""Function that returns where a box has tissue; None if every voxel is tissue."""


def main(
    survey: Path,
    check_model: Path,
    intensity_statistics: Path,
    predicted: list[Path],
    labelled: list[Path],
    checked: list[Path],
    receipt: Path,
    folder: Path,
    foreground: str | None,
    code: str,
    threads: int = 1,
) -> None:
    """Write the mean scores over the sections at each threshold to `receipt`.

    `checked` is the receipt of `check_labels`, which names the sections that the training has left out.
    """
    source, dimensions = Volume.open(folder, survey), read_json(check_model)["dimensions"]
    normalisation = Normalisation.of(read_json(intensity_statistics)["statistics"])
    tissue_of = partial(source.tissue_mask, normalisation=normalisation, bridge_single_sections=dimensions == 3)
    depth, height, width = source.layout.shape
    progress = Progress("sweep", depth, "sections")
    with ThreadPoolExecutor(threads) as pool:
        rows = []
        for scores in pool.map(partial(_section_scores, source, tissue_of, foreground), range(depth)):
            rows.append(scores)
            progress.advance(1)
    scored = [scores for scores in rows if scores]
    held_back = [z for path in checked for z in read_json(path)["held_back"]]
    unseen = [rows[z] for z in held_back if rows[z]]
    log.info("%d of %d sections of %d x %d px hold labels", len(scored), depth, height, width)
    digest = fingerprint(
        made=receipts_digest([*predicted, *labelled]),
        blank=[normalisation.fill_values, dimensions] if any(normalisation.fill_values) else None,
        foreground=foreground,
        held_back=held_back,
        code=code,
    )
    write_receipt(
        receipt,
        {
            "rule": "threshold_sweep",
            "digest": digest,
            "sections": len(scored),
            "scores": mean_scores(scored) if scored else [],
            "held_back": {"sections": len(unseen), "scores": mean_scores(unseen) if unseen else []},
        },
    )


def _section_scores(source: Volume, tissue_of: TissueOf, foreground: str | None, z: int) -> list[dict[str, float]]:
    """Return the scores of section `z` at each threshold; an empty list without labels or tissue."""
    box = Box((z, 0, 0), (z + 1, *source.layout.shape[1:]))
    cells, tissue = section_cells(source.true_ids(box)), tissue_of(box)
    cells = cells if tissue is None else cells * tissue
    if not cells.any():
        return []
    stored = read_foreground(source.image("probability"), box, foreground, axes=(1, 2))
    return sweep_thresholds(as_probability(stored), cells, FINE_THRESHOLDS)


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
