"""Write a box of a store as an OME-TIFF, for Fiji and others.

Inputs: the store that `export_tiff.store` names.

Outputs: one TIFF, BigTIFF where it has more than 4 GB, with the voxel size.

1. Read the store in slabs of sections.
2. Write section by section. Memory does not grow with the number of sections.
"""

import logging
from pathlib import Path

from unet.config.export_volumes import ExportTiffConfig
from unet.geometry.box import Box
from unet.jobs.script import run_script
from unet.volumes.volume import Volume
from unet.volumes.writers.tiff_stack import write_tiff

log = logging.getLogger(__name__)


def main(survey: Path, tiff: Path, folder: Path, export: ExportTiffConfig, code: str) -> None:
    """Write the box of the store that `export` names to `tiff`."""
    image = Volume.open(folder, survey).image(export.store)
    box = Box(*zip(*export.box, strict=True)) if export.box else Box.of_shape(image.shape)
    write_tiff(tiff, image, box)
    log.info("%s: voxels %s of %s", tiff, box, image.name)


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
