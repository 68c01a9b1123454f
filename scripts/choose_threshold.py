"""Choose the threshold with the best V_rand on the volumes that the configuration names, normally the training ones."""

import logging
from pathlib import Path

from unet.evaluation.scores import best, mean_scores
from unet.jobs.script import run_script
from unet.storage.digests import receipts_digest
from unet.storage.files import read_json, write_json

log = logging.getLogger(__name__)


def main(sweeps: list[Path], receipt: Path) -> None:
    """Write the best threshold over all sections of the volumes."""
    rows = [read_json(path) for path in sweeps]
    scores = mean_scores([row["scores"] for row in rows], weights=[row["sections"] for row in rows])
    chosen = best(scores)
    log.info("threshold %.2f, V_rand %.4f", chosen["threshold"], chosen["v_rand"])
    write_json(
        receipt, {"rule": "choose_threshold", "digest": receipts_digest(sweeps), "best": chosen, "scores": scores}
    )


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
