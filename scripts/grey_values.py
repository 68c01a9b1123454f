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
    """Write mean, deviation and range of each channel over all shards; refuse `interior` labels of more levels."""
    layout = Layout.read(survey)
    total = np.zeros((layout.channels, KEYS), dtype=np.int64)
    levels: set[int] = set()
    for shard in shards:
        ingested = read_json(shard)
        total += [from_sparse(ingested["histogram"][str(channel)]) for channel in range(layout.channels)]
        levels |= {int(level) for level in ingested["levels"]}
    check_interior_levels(levels, f"volumes.{survey.stem}.labels")
    statistics = [grey_values(counts, np.dtype(layout.dtype)) for counts in total]
    for channel, one in enumerate(statistics):
        log.info("channel %d: mean %.4g, standard deviation %.4g", channel, one.mean, one.std)
    # What the files were does not enter, only what they held: a source that was merely touched changes nothing.
    digest = fingerprint(layout=asdict(layout), shards=content_digest(shards))
    write_json(receipt, {"rule": "grey_values", "digest": digest, "statistics": [asdict(one) for one in statistics]})


if __name__ == "__main__":
    run(main, globals().get("snakemake"))
