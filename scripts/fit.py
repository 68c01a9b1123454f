"""Check that the model and the volumes fit each other, from headers alone: before anything is ingested or trained."""

import logging
from pathlib import Path
from typing import Any

from unet.fit import require_fit, require_same_channels, require_same_voxels
from unet.job import run
from unet.model_file import read_header
from unet.receipts import fingerprint, write_json
from unet.volume import Layout

log = logging.getLogger(__name__)


def main(
    surveys: list[Path],
    receipt: Path,
    volumes: list[str],
    trained_on: str | None,
    dimensions: int,
    tolerance: float,
    asked: dict[str, Any],
    classes: dict[str, list[str]],
    foreground: str | None,
    checkpoint: Path | None = None,
) -> None:
    """Compare every volume with the model file, or with the first volume that the model will be trained on."""
    layouts = {name: Layout.read(survey) for name, survey in zip(volumes, surveys, strict=True)}
    voxels = {name: layout.voxel_nm for name, layout in layouts.items()}
    channels = {name: layout.channels for name, layout in layouts.items()}
    if checkpoint is not None:
        header = read_header(checkpoint)
        require_fit(header, str(checkpoint), asked, channels, classes, foreground)
        dimensions, whose = header["model"]["dimensions"], str(checkpoint)
        of_model = None if header["voxel_nm"] is None else tuple(header["voxel_nm"])
    else:
        require_same_channels(channels, str(trained_on))
        of_model, whose = voxels[str(trained_on)], f"the model, by volume {trained_on!r},"
    require_same_voxels(of_model, whose, voxels, dimensions, tolerance)
    fit = "fits" if len(volumes) == 1 else "fit"
    log.info("%s %s %s", " and ".join(volumes), fit, checkpoint or "the model that will be trained")
    write_json(receipt, {"rule": "fit", "digest": fingerprint(voxel_nm=of_model, dimensions=dimensions)})


if __name__ == "__main__":
    run(main, globals().get("snakemake"))
