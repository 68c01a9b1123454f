"""Draw what the network has to learn: the class of every voxel, with a border of background between touching cells."""

from pathlib import Path

import numpy as np

from unet.config.label_kinds import UNLABELLED
from unet.config.volumes import VolumeConfig
from unet.config.weights import WeightsConfig
from unet.geometry.box import Box
from unet.jobs.blockwise import BlockOutput, run_blocks
from unet.jobs.script import run
from unet.storage.digests import content_digest, fingerprint
from unet.storage.files import read_json
from unet.training.weight_map import separation_border
from unet.volumes.intensity import Normalisation
from unet.volumes.volume import Volume, padded_in_section


def main(
    survey: Path,
    intensity_statistics: Path,
    labelled: list[Path],
    receipt: Path,
    folder: Path,
    block_range: str,
    volume: VolumeConfig,
    weights: WeightsConfig,
    dimensions: int,
    code: str,
    threads: int = 1,
) -> None:
    """Write `targets.zarr`; the receipt holds the number of voxels of each class."""
    source = Volume.open(folder, survey)
    normalisation = Normalisation.of(read_json(intensity_statistics)["statistics"])
    labels = source.image("labels")
    classes = source.image("classes") if volume.label_kind != "instances" else None
    target = source.create("targets", "uint8", kind="label")
    # Annotated classes hold their own border; only bare instances need one drawn.
    width = weights.separation_border if classes is None else 0

    def draw(box: Box) -> BlockOutput:
        window, inner = padded_in_section(box, 2 * width + 1, labels.shape)
        ids = labels.read(window)
        unlabelled = ids[inner] == volume.ignore_id if volume.ignore_id is not None else False
        cells = np.where(ids == volume.ignore_id, 0, ids) if volume.ignore_id else ids
        border = separation_border(cells, width)[inner]
        block = (cells[inner] > 0).astype(np.uint8) if classes is None else classes.read(box)
        block = np.where(border, 0, block)
        tissue = source.tissue(box, normalisation, bridged=dimensions == 3)
        if tissue is not None:
            unlabelled = unlabelled | ~tissue
        block = np.where(unlabelled, UNLABELLED, block).astype(np.uint8)
        counts = np.bincount(block.ravel(), minlength=UNLABELLED + 1)[: len(volume.class_names)]
        return target.write_block(box, block), {"class_voxels": counts.tolist()}

    run_blocks(
        "targets",
        source.blocks(block_range),
        draw,
        [target],
        receipt=receipt,
        fingerprint=fingerprint(
            labels=content_digest(labelled),
            volume=volume.model_dump(mode="json", include={"label_kind", "class_values", "ignore_id"}),
            border=width,
            blank=[content_digest([intensity_statistics]), normalisation.fill, dimensions]
            if any(normalisation.fill)
            else None,
            code=code,
        ),
        threads=threads,
    )


if __name__ == "__main__":
    run(main, globals().get("snakemake"))
