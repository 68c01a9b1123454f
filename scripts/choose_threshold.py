"""Choose the foreground threshold with the best V_rand on `evaluate.threshold_volumes`.

Inputs: the receipts of `threshold_sweep`.

Outputs: a receipt with the threshold, its scores, and the mean scores at every threshold.

1. Average the scores at each threshold over the labelled sections of the volumes. Of a training volume only the
   sections count that the training has left out, if there are any.
2. Take the threshold with the highest V_rand.
"""

import logging
from pathlib import Path

from unet.evaluation.scores import best_threshold_by_v_rand, mean_scores
from unet.jobs.script import run_script
from unet.storage.digests import receipts_digest
from unet.storage.files import read_json, write_receipt

log = logging.getLogger(__name__)


def main(sweeps: list[Path], receipt: Path) -> None:
    """Write the threshold with the best V_rand to `receipt`."""
    rows = [read_json(path) for path in sweeps]
    unseen = [row["held_back"] if row["held_back"]["sections"] else row for row in rows]
    scores = mean_scores([row["scores"] for row in unseen], weights=[row["sections"] for row in unseen])
    chosen = best_threshold_by_v_rand(scores)
    sections = sum(row["sections"] for row in unseen)
    log.info("threshold %.2f, V_rand %.4f on %d section(s)", chosen["threshold"], chosen["v_rand"], sections)
    write_receipt(
        receipt, {"rule": "choose_threshold", "digest": receipts_digest(sweeps), "best": chosen, "scores": scores}
    )


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
