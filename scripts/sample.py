"""Make the sample: a synthetic serial-section EM volume with instance labels, as two multi-page TIFF files."""

import logging
from pathlib import Path

import tifffile

from unet.config import SampleConfig
from unet.job import run
from unet.receipts import write_atomically
from unet.sample import synthesise

VOXEL_NM = (50, 4, 4)
"""z, y, x: what serial-section microscopes give."""

log = logging.getLogger(__name__)


def main(raw: Path, labels: Path, sample: SampleConfig) -> None:
    """Write the grey values to `raw` (uint8) and the instance ids to `labels`."""
    volume, ids = synthesise(sections=sample.sections, size=sample.size, seed=sample.seed)
    for path, values in ((raw, volume), (labels, ids)):
        temporary = path.with_suffix(".partial.tif")
        x_per_um = 1000 / VOXEL_NM[2]
        tifffile.imwrite(
            temporary,
            values,
            imagej=True,
            compression="zlib",
            resolution=(x_per_um, x_per_um),
            metadata={"axes": "ZYX", "spacing": VOXEL_NM[0] / 1000, "unit": "um"},
        )
        write_atomically(path, temporary.read_bytes())
        temporary.unlink()
    log.info("%d sections of %d x %d px, %d cells", *volume.shape, int(ids.max()))


if __name__ == "__main__":
    run(main, globals().get("snakemake"))
