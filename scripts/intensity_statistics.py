"""Freeze the statistics of a volume's grey values: every tile is normalised with these, whatever it holds itself."""

import logging
from dataclasses import asdict
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unet.config.label_kinds import check_interior_levels
from unet.config.normalisation import NormalisationConfig
from unet.jobs.script import run_script
from unet.storage.digests import bytes_digest, fingerprint, receipts_digest
from unet.storage.files import load_arrays, read_json, write_json
from unet.volumes.intensity import IntensityError, IntensityStatistics, intensity_statistics
from unet.volumes.volume import Layout

log = logging.getLogger(__name__)


def main(
    survey: Path,
    check_model: Path,
    block_ranges: list[Path],
    counted: list[Path],
    receipt: Path,
    normalisation: NormalisationConfig,
) -> None:
    """Write mean, deviation and range of each channel over all block ranges; refuse `interior` labels of more levels.

    A given model file has a rule of its own for the normalisation, which `check_model` has read.
    """
    layout, name = Layout.read(survey), f"volumes.{survey.stem}"
    levels = {int(level) for block_range in block_ranges for level in read_json(block_range)["levels"]}
    check_interior_levels(levels, f"{name}.labels")
    rule = NormalisationConfig(**(read_json(check_model)["normalisation"] or normalisation.model_dump()))
    counts = reduce(np.add, map(_counts, counted))  # one block range at a time
    try:
        statistics = [
            intensity_statistics(outside, np.dtype(layout.dtype), inside, rule, channel, masked)
            for channel, (outside, inside, masked) in enumerate(counts)
        ]
    except IntensityError as error:
        raise IntensityError(f"{name}: {error}") from None
    for channel, one in enumerate(statistics):
        _tell(f"{name}.raw, channel {channel}", one, rule)
    # What the files were does not enter, only what they held: a source that was merely touched changes nothing.
    digest = fingerprint(layout=asdict(layout), block_ranges=receipts_digest(block_ranges))
    values = {"digest": digest, "normalisation": rule.model_dump(), "statistics": [asdict(one) for one in statistics]}
    write_json(receipt, {"rule": "intensity_statistics", **values})


def _counts(receipt: Path) -> NDArray[np.int64]:
    """What `histogram` has counted in a block range."""
    path = receipt.with_suffix(".npz")
    counts = load_arrays(path, "counts")["counts"] if path.exists() else np.empty(0, np.int64)
    if bytes_digest(counts.tobytes()) != read_json(receipt)["digest"]:
        raise IntensityError(f"{path} is missing, or not what was written; remove {receipt} and run again")
    return counts


def _tell(channel: str, found: IntensityStatistics, rule: NormalisationConfig) -> None:
    """What is left out and how the rest is normalised, in the log."""
    if found.left_out:
        share = 100 * found.left_out / (found.left_out + found.count)
        values = " and ".join(f"{value:g}" for value in found.fill_values)
        what = "constant regions of" if rule.ignore_value == "auto" else "those of"
        log.info("%s: left out %.1f %% of the voxels: %s value %s", channel, share, what, values)
    log.info("%s: mean %.4g, standard deviation %.4g", channel, found.mean, found.std)
    if found.std == 0:
        log.warning("%s: all %d voxels have the value %g, so there is nothing to see", channel, found.count, found.mean)
    if (found.centre, found.scale) != (found.mean, found.std):
        log.info("%s: normalised as (x - %.4g) / %.4g", channel, found.centre, found.scale)


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
