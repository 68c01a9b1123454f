"""Choose the foreground threshold with the best V_rand on `evaluate.threshold_volumes`.

Inputs: the receipts of `threshold_sweep`.

Outputs: a receipt with the threshold, its scores, and the mean scores at every threshold.

1. Average the scores at each threshold over all labelled sections of the volumes.
2. Take the threshold with the highest V_rand.
"""

import logging
from pathlib import Path

from unet.evaluation.scores import best_threshold_by_v_rand, mean_scores
from unet.jobs.script import run_script
from unet.storage.digests import receipts_digest
from unet.storage.files import read_json, write_json

log = logging.getLogger(__name__)


def main(sweeps: list[Path], receipt: Path) -> None:
    """Write the threshold with the best V_rand to `receipt`."""
    rows = [read_json(path) for path in sweeps]
    scores = mean_scores([row["scores"] for row in rows], weights=[row["sections"] for row in rows])
    chosen = best_threshold_by_v_rand(scores)
    log.info("threshold %.2f, V_rand %.4f", chosen["threshold"], chosen["v_rand"])
    write_json(
        receipt, {"rule": "choose_threshold", "digest": receipts_digest(sweeps), "best": chosen, "scores": scores}
    )


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
