"""Generate the sample: a synthetic serial-section EM volume with instance labels.

Inputs: none.

Outputs: `sample/raw.tif` (uint8) and `sample/labels.tif`, two multi-page TIFF files.

1. Draw random cells, and render membranes, texture and noise.
2. Write both files with the voxel size.
"""

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from unet.config.sample import SampleConfig
from unet.jobs.script import run_script
from unet.storage.files import write_atomically
from unet.training.synthetic import synthesise

VOXEL_NM = (50, 4, 4)
"""Voxel size (z, y, x) in nm, typical of serial-section microscopes."""

log = logging.getLogger(__name__)


def main(raw: Path, labels: Path, sample: SampleConfig) -> None:
    """Write the intensities to `raw` (uint8) and the instance ids to `labels`."""
    volume, ids = synthesise(sections=sample.sections, size=sample.size, seed=sample.seed)
    px_per_um = 1000 / VOXEL_NM[2]
    metadata = {"axes": "ZYX", "spacing": VOXEL_NM[0] / 1000, "unit": "um"}
    _write(raw, volume, imagej=True, resolution=(px_per_um, px_per_um), metadata=metadata)
    _write(labels, ids, photometric="minisblack")
    log.info("%d sections of %d x %d px, %d cells", *volume.shape, int(ids.max()))


def _write(path: Path, values: np.ndarray, **options: Any) -> None:
    content = io.BytesIO()
    tifffile.imwrite(content, values, **options)  # uncompressed: a box costs its own pixels
    write_atomically(path, content.getvalue())


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
