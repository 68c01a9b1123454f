"""Choose the threshold of the agglomeration with the least VOI on `evaluate.threshold_volumes`.

Inputs: the receipts of `agglomeration_threshold_sweep`.

Outputs: a receipt with the threshold and its VOI.

1. Average the VOI at each threshold over all labelled voxels of the volumes.
2. Take the threshold with the least mean.
"""

import logging
from pathlib import Path

from unet.evaluation.scores import best_threshold_by_voi
from unet.jobs.script import run_script
from unet.storage.digests import receipts_digest
from unet.storage.files import read_json, write_json

log = logging.getLogger(__name__)


def main(sweeps: list[Path], receipt: Path) -> None:
    """Write the threshold with the least VOI to `receipt`."""
    rows = [read_json(path) for path in sweeps]
    chosen = best_threshold_by_voi([row["scores"] for row in rows], [row["voxels"] for row in rows])
    log.info("threshold of the agglomeration %.2f, VOI %.4f", chosen["threshold"], chosen["voi"])
    write_json(receipt, {"rule": "choose_agglomeration_threshold", "digest": receipts_digest(sweeps), "best": chosen})


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
