"""Choose the threshold of the agglomeration with the least VOI on the volumes that the configuration names."""

import logging
from pathlib import Path

from unet.evaluation.scores import best_threshold_by_voi
from unet.jobs.script import run
from unet.storage.digests import content_digest
from unet.storage.files import read_json, write_json

log = logging.getLogger(__name__)


def main(sweeps: list[Path], receipt: Path) -> None:
    """Write the best threshold over all labelled voxels of the volumes."""
    rows = [read_json(path) for path in sweeps]
    chosen = best_threshold_by_voi([row["scores"] for row in rows], [row["voxels"] for row in rows])
    log.info("threshold of the agglomeration %.2f, VOI %.4f", chosen["threshold"], chosen["voi"])
    write_json(receipt, {"rule": "choose_agglomeration_threshold", "digest": content_digest(sweeps), "best": chosen})


if __name__ == "__main__":
    run(main, globals().get("snakemake"))
