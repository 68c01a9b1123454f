"""Choose the settings of the decoding together, by the least VOI on `evaluate.threshold_volumes`.

Inputs: the receipts of `decoder_sweep`.

Outputs: a receipt with the settings, and with the scores of all candidates.

1. Average the scores of each combination over all labelled voxels of the volumes.
2. Average the VOI of each threshold with those of its two neighbours.
3. Take the combination with the least of these means.
"""

import logging
from pathlib import Path

from unet.config.segment import SegmentConfig
from unet.evaluation.decoders import curves_of, mean_over_volumes
from unet.jobs.log_line import format_values
from unet.jobs.script import run_script
from unet.storage.digests import fingerprint, receipts_digest
from unet.storage.files import read_json, write_receipt

log = logging.getLogger(__name__)


def main(sweeps: list[Path], receipt: Path, segment: SegmentConfig, code: str) -> None:
    """Write the chosen settings and the table of all candidates to `receipt`."""
    found = [read_json(path) for path in sweeps]
    curves = curves_of(mean_over_volumes([one["scores"] for one in found], [one["voxels"] for one in found]))
    best = curves[0]
    chosen, settings = best.row(), segment.candidates.settings_of(best.decoders[best.best])
    log.info("decoder of %d candidates: %s", sum(len(one.voi) for one in curves), format_values(settings))
    log.info("VOI %.4f, with its neighbours %.4f; as good from %.2f to %.2f", *_figures(chosen))
    if best.beyond:
        log.warning(
            "the chosen threshold %.3g lies beside an end of candidates.thresholds (%.3g to %.3g) that scores better: "
            "extend the list",
            chosen["threshold"],
            best.thresholds[0],
            best.thresholds[-1],
        )
    write_receipt(
        receipt,
        {
            "rule": "choose_decoder",
            "digest": fingerprint(made=receipts_digest(sweeps), settings=settings, code=code),
            "best": chosen,
            "settings": settings,
            "thresholds": list(best.thresholds),
            "candidates": [curve.row() for curve in curves],
        },
    )


def _figures(chosen: dict) -> tuple[float, float, float, float]:
    return chosen["voi"], chosen["smoothed_voi"], *chosen["flat"]


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
