"""Compute the intensity statistics of a volume, with which every tile is normalised.

Inputs: the counts of `histogram`, the receipts of `ingest` and `check_model`.

Outputs: a receipt with mean, standard deviation, percentiles, centre and scale of each channel.

1. Add up the counts of all block ranges.
2. Find the values that fill constant regions, and leave their voxels out.
3. Compute exact statistics, and centre and scale by the rule of the configuration or of a given model file. Warn of
   many voxels at an end of the intensities, which may be noise around the tissue.
4. Check that `interior` labels hold at most one value other than 0 in all blocks together.
"""

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
from unet.storage.files import load_arrays, read_json, write_receipt
from unet.volumes.intensity import IntensityError, IntensityStatistics, crowd_at_an_end, intensity_statistics
from unet.volumes.layout import VolumeLayout

log = logging.getLogger(__name__)


def main(
    survey: Path,
    check_model: Path,
    block_ranges: list[Path],
    counted: list[Path],
    receipt: Path,
    normalisation: NormalisationConfig,
) -> None:
    """Write the statistics of each channel to `receipt`; refuse `interior` labels with too many grey values."""
    layout, name = VolumeLayout.read(survey), f"volumes.{survey.stem}"
    if not counted:  # the volume has blocks, so the plan had none
        raise IntensityError(
            f"{name}: its files could not be read when the run was planned, such as while another program had them "
            "open, and can be read now; run the same command again"
        )
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
    for channel, (one, (outside, inside, _)) in enumerate(zip(statistics, counts, strict=True)):
        _log_statistics(f"{name}.raw, channel {channel}", one, rule)
        left = outside if one.left_out else outside + inside
        if rule.ignore_value == "auto" and (crowd := crowd_at_an_end(left, np.dtype(layout.dtype))):
            log.warning(
                "%s.raw, channel %d: %.0f %% of the voxels have intensities from %g to %g, far from all others, and "
                "count in mean and standard deviation. If they are noise where nothing was imaged, set a `mask`",
                name,
                channel,
                100 * crowd[2],
                *crowd[:2],
            )
    # The digest depends on the content of the image files and not on their state: a touched file changes nothing.
    digest = fingerprint(layout=asdict(layout), block_ranges=receipts_digest(block_ranges))
    values = {"digest": digest, "normalisation": rule.model_dump(), "statistics": [asdict(one) for one in statistics]}
    write_receipt(receipt, {"rule": "intensity_statistics", **values})


def _counts(receipt: Path) -> NDArray[np.int64]:
    """Return the counts of a block range, after checking their digest."""
    path = receipt.with_suffix(".npz")
    counts = load_arrays(path, "counts")["counts"] if path.exists() else np.empty(0, np.int64)
    if bytes_digest(counts.tobytes()) != read_json(receipt)["digest"]:
        raise IntensityError(f"{path} is missing, or differs from what was written; remove {receipt} and run again")
    return counts


def _log_statistics(channel: str, found: IntensityStatistics, rule: NormalisationConfig) -> None:
    """Log which voxels are left out and how the rest is normalised."""
    if found.left_out:
        share = 100 * found.left_out / (found.left_out + found.count)
        values = " and ".join(f"{value:g}" for value in found.fill_values)
        what = "constant regions of" if rule.ignore_value == "auto" else "those of"
        log.info("%s: left out %.1f %% of the voxels: %s value %s", channel, share, what, values)
    log.info("%s: mean %.4g, standard deviation %.4g", channel, found.mean, found.std)
    if found.std == 0:
        log.warning("%s: all %d voxels have the value %g, so it shows nothing", channel, found.count, found.mean)
    elif found.is_flattened:
        log.warning(
            "%s: the standard deviation is %.4g, but 98 %% of the voxels have intensities from %g to %g: few voxels "
            "far from these, from %g to %g, flatten the contrast of all others. Correct them in the file, leave them "
            "out with `mask`, or set `normalisation.percentiles: [1, 99]`",
            channel,
            found.std,
            found.p01,
            found.p99,
            found.minimum,
            found.maximum,
        )
    if (found.centre, found.scale) != (found.mean, found.std):
        log.info("%s: normalised as (x - %.4g) / %.4g", channel, found.centre, found.scale)


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
