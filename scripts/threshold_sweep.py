"""Score every threshold on a volume with labels: V_rand and V_info as the ISBI 2012 challenge computes them."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from unet.evaluation.isbi import FINE, sweep
from unet.evaluation.scores import mean_scores, section_cells
from unet.geometry.box import Box
from unet.jobs.progress import Progress
from unet.jobs.script import run_script
from unet.segmentation.foreground import as_probability, channel_of
from unet.storage.digests import fingerprint, receipts_digest
from unet.storage.files import read_json, write_json
from unet.volumes.intensity import Normalisation
from unet.volumes.volume import Volume

log = logging.getLogger(__name__)

TissueOf = Callable[[Box], np.ndarray | None]
"""Where a box holds tissue; None where all is."""


def main(
    survey: Path,
    check_model: Path,
    intensity_statistics: Path,
    predicted: list[Path],
    labelled: list[Path],
    receipt: Path,
    folder: Path,
    foreground: str | None,
    ignore_id: int | None,
    code: str,
    threads: int = 1,
) -> None:
    """Write the mean scores over the sections at each threshold; memory is that of a few sections."""
    source, dimensions = Volume.open(folder, survey), read_json(check_model)["dimensions"]
    normalisation = Normalisation.of(read_json(intensity_statistics)["statistics"])
    tissue_of = partial(source.tissue, normalisation=normalisation, bridged=dimensions == 3)
    depth, height, width = source.layout.shape
    progress = Progress("sweep", depth, "sections")
    with ThreadPoolExecutor(threads) as pool:
        rows = []
        for scores in pool.map(partial(_section_scores, source, tissue_of, foreground, ignore_id), range(depth)):
            rows.append(scores)
            progress.advance(1)
    scored = [scores for scores in rows if scores]
    log.info("%d of %d sections of %d x %d px hold labels", len(scored), depth, height, width)
    made_from = fingerprint(
        made=receipts_digest([*predicted, *labelled]),
        blank=[normalisation.fill, dimensions] if any(normalisation.fill) else None,
        foreground=foreground,
        code=code,
    )
    write_json(
        receipt,
        {
            "rule": "threshold_sweep",
            "digest": made_from,
            "sections": len(scored),
            "scores": mean_scores(scored) if scored else [],
        },
    )


def _section_scores(
    source: Volume, tissue_of: TissueOf, foreground: str | None, ignore_id: int | None, z: int
) -> list[dict[str, float]]:
    """Scores of one section at each threshold; empty where nothing is labelled, or nothing was imaged."""
    box = Box((z, 0, 0), (z + 1, *source.layout.shape[1:]))
    cells, tissue = section_cells(source.image("labels").read(box), ignore_id), tissue_of(box)
    cells = cells if tissue is None else cells * tissue
    if not cells.any():
        return []
    image = source.image("probability")
    stored = image.read(box)[channel_of(foreground, image.spec.channels)]
    return sweep(as_probability(stored), cells, FINE)


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
