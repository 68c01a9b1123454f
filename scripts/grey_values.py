"""Freeze the statistics of a volume's grey values: every tile is normalised with these, whatever it holds itself."""

import logging
from dataclasses import asdict
from pathlib import Path

import numpy as np

from unet.annotation import check_interior_levels
from unet.grey_values import KEYS, from_sparse, grey_values
from unet.job import run
from unet.receipts import content_digest, fingerprint, read_json, write_json
from unet.volume import Layout

log = logging.getLogger(__name__)


def main(survey: Path, shards: list[Path], receipt: Path) -> None:
    """Add the histograms of all shards and write mean, deviation and range; refuse `interior` labels of more levels."""
    total = np.zeros(KEYS, dtype=np.int64)
    levels: set[int] = set()
    for shard in shards:
        ingested = read_json(shard)
        total += from_sparse(ingested["histogram"])
        levels |= {int(level) for level in ingested["levels"]}
    check_interior_levels(levels, f"volumes.{survey.stem}.labels")
    layout = Layout.read(survey)
    statistics = grey_values(total, np.dtype(layout.dtype))
    log.info("mean %.4g, standard deviation %.4g", statistics.mean, statistics.std)
    # What the files were does not enter, only what they held: a source that was merely touched changes nothing.
    digest = fingerprint(layout=asdict(layout), shards=content_digest(shards))
    write_json(receipt, {"rule": "grey_values", "digest": digest, "statistics": asdict(statistics)})


if __name__ == "__main__":
    run(main, globals().get("snakemake"))
