"""Choose the threshold of the agglomeration with the least VOI on `evaluate.threshold_volumes`.

Inputs: the receipts of `agglomeration_threshold_sweep`.

Outputs: a receipt with the threshold, its scores, and the VOI at every threshold.

1. Average the scores at each threshold over all labelled voxels of the volumes.
2. Average the VOI of each threshold with those of its two neighbours.
3. Take the threshold with the least of these means.
"""

import logging
from pathlib import Path

from unet.evaluation.decoders import mean_over_volumes
from unet.evaluation.threshold_curve import threshold_curve
from unet.jobs.script import run_script
from unet.storage.digests import receipts_digest
from unet.storage.files import read_json, write_receipt

log = logging.getLogger(__name__)


def main(sweeps: list[Path], receipt: Path) -> None:
    """Write the threshold with the least VOI, in the mean with its neighbours, to `receipt`."""
    found = [read_json(path) for path in sweeps]
    curve = threshold_curve(mean_over_volumes([one["scores"] for one in found], [one["voxels"] for one in found]))
    best = curve.row()
    figures = best["threshold"], best["voi"], best["smoothed_voi"], *best["flat"]
    said = "threshold of the agglomeration %.2f, VOI %.4f, with its neighbours %.4f; as good from %.2f to %.2f"
    log.info(said, *figures)
    if curve.beyond:
        log.warning(
            "the chosen threshold %.2f lies beside an end of the thresholds (%.2f to %.2f) that scores better: set "
            "segment.agglomerate.threshold to a number beyond it, or look at the labels",
            *(best["threshold"], curve.thresholds[0], curve.thresholds[-1]),
        )
    chosen = {"best": best, "thresholds": list(curve.thresholds)}
    write_receipt(receipt, {"rule": "choose_agglomeration_threshold", "digest": receipts_digest(sweeps), **chosen})


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
